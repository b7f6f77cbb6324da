//! The admin's side of pairing: one invitation.
//!
//! Contract: the caller gives every message with the channel it came on and the time; outputs run in order. The caller
//! keeps one `Inviter` for each open invitation and finds it by number. An invitation lives in memory only: a restart
//! ends it, so it can never be used twice.

use std::marker::PhantomData;

use super::pake::{Pake, Secret, SessionKey, Side, Spake};
use super::{Binding, Transcript, inviter_mac, joiner_mac};
use crate::base::{FolderId, Level, NodeId, Role};
use crate::wire::codec::Bytes;
use crate::wire::pairing::{Admission, Confirm, Message, Refusal, Reply, Start};

/// How long an invitation is open if nothing else is said. Ten minutes: time to walk to the other machine.
pub const INVITATION_MS_DEFAULT: u64 = 10 * 60 * 1000;
/// Exchanges under way on one invitation. They give no guess away; beyond it the oldest is dropped.
pub const ATTEMPTS_MAX: usize = 4;

/// What is offered to whoever knows the secret.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Invitation {
    /// The number that the joiner says in the open.
    pub number: u16,
    /// What only the two machines know.
    pub secret: Secret,
    /// The role that the joiner gets.
    pub role: Role,
    /// The folders that are opened to it, beside those that are open to everyone.
    pub folders: Vec<(FolderId, Level)>,
    /// When the invitation ends, milliseconds since 1970 UTC by this node's clock.
    pub expires_at_ms: u64,
}

/// How an invitation stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InvitationState {
    /// It waits for its joiner.
    Open,
    /// It admitted this node, and admits no other.
    Used(NodeId),
    /// Somebody gave a wrong code; nobody can use it any more.
    WrongCode,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Cancelled,
}

/// Whom to admit, and with what.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Admitting {
    /// The channel that waits for it.
    pub to: Binding,
    /// The new node.
    pub joiner: NodeId,
    /// Its name for itself.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Folders to open to it.
    pub folders: Vec<(FolderId, Level)>,
}

/// What the caller must do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InviterOutput {
    /// Send this on that channel.
    Send(Binding, Message),
    /// Close that channel once all is sent.
    Close(Binding),
    /// Sign and store the admission, then call `Inviter::admit` (or `Inviter::fail`).
    Admit(Admitting),
    /// The invitation does not wait any more; tell the person who opened it.
    Ended(InvitationState),
}

/// One invitation and the exchanges under way on it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Inviter<P: Pake = Spake> {
    invitation: Invitation,
    state: InvitationState,
    /// Oldest first.
    attempts: Vec<Attempt>,
    confirmed: Option<Confirmed>,
    pake: PhantomData<P>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Attempt {
    to: Binding,
    joiner: NodeId,
    seed: Secret,
    theirs: Bytes<64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Confirmed {
    to: Binding,
    key: SessionKey,
    transcript: [u8; 32],
}

impl<P: Pake> Inviter<P> {
    /// Opens an invitation.
    pub fn open(invitation: Invitation) -> Self {
        Self { invitation, state: InvitationState::Open, attempts: Vec::new(), confirmed: None, pake: PhantomData }
    }

    /// What is offered.
    pub fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// How it stands; expiry shows only after `handle_time` or a message.
    pub fn state(&self) -> InvitationState {
        self.state
    }

    /// The joiner's first message. `peer` is the node that TLS proved; `seed` is fresh randomness.
    pub fn handle_start(
        &mut self,
        now_ms: u64,
        to: Binding,
        peer: NodeId,
        start: &Start,
        seed: Secret,
        out: &mut Vec<InviterOutput>,
    ) {
        self.handle_time(now_ms, out);
        if self.state != InvitationState::Open || start.number != self.invitation.number {
            return refuse(to, Refusal::NoInvitation, out);
        }
        // A second start on one channel would be a second exchange under one binding.
        if start.joiner != peer || self.attempts.iter().any(|attempt| attempt.to == to) {
            self.attempts.retain(|attempt| attempt.to != to);
            return refuse(to, Refusal::Failed, out);
        }
        if self.attempts.len() == ATTEMPTS_MAX {
            let oldest = self.attempts.remove(0);
            refuse(oldest.to, Refusal::Failed, out);
        }
        let ours = P::message(Side::Inviter, &self.invitation.secret, &seed);
        let exchange = Bytes::new(ours).expect("an exchange message has at most 64 bytes");
        self.attempts.push(Attempt { to, joiner: peer, seed, theirs: start.exchange.clone() });
        out.push(InviterOutput::Send(to, Message::Reply(Reply { exchange })));
    }

    /// The joiner's proof. A wrong one ends the invitation; the right one uses it.
    pub fn handle_confirm(&mut self, now_ms: u64, to: Binding, confirm: &Confirm, out: &mut Vec<InviterOutput>) {
        self.handle_time(now_ms, out);
        if self.state != InvitationState::Open {
            return refuse(to, Refusal::NoInvitation, out);
        }
        let Some(at) = self.attempts.iter().position(|attempt| attempt.to == to) else {
            return refuse(to, Refusal::Failed, out);
        };
        let attempt = self.attempts.remove(at);
        match self.check(&attempt, confirm) {
            Some(confirmed) => {
                // Used before anything is signed: whatever fails from here on, nobody else is admitted by it.
                self.confirmed = Some(confirmed);
                self.end(InvitationState::Used(attempt.joiner), out);
                out.push(InviterOutput::Admit(Admitting {
                    to,
                    joiner: attempt.joiner,
                    name: confirm.name.to_string(),
                    role: self.invitation.role,
                    folders: self.invitation.folders.clone(),
                }));
            }
            None => {
                refuse(to, Refusal::WrongCode, out);
                self.end(InvitationState::WrongCode, out);
            }
        }
    }

    /// The admission is signed and stored: tells the joiner. The MAC in `admission` is filled in here.
    pub fn admit(&mut self, to: Binding, mut admission: Admission, out: &mut Vec<InviterOutput>) {
        let Some(confirmed) = self.confirmed.take_if(|confirmed| confirmed.to == to) else {
            return refuse(to, Refusal::Failed, out);
        };
        admission.mac = *inviter_mac(&confirmed.key, &confirmed.transcript, &admission).as_bytes();
        out.push(InviterOutput::Send(to, Message::Admit(admission)));
    }

    /// The admission could not be signed or stored. The invitation stays used.
    pub fn fail(&mut self, to: Binding, out: &mut Vec<InviterOutput>) {
        self.confirmed.take_if(|confirmed| confirmed.to == to);
        refuse(to, Refusal::Failed, out);
    }

    /// A channel has closed: what was under way on it is forgotten. No guess was made, so the invitation stays open.
    pub fn handle_closed(&mut self, to: Binding) {
        self.attempts.retain(|attempt| attempt.to != to);
        self.confirmed.take_if(|confirmed| confirmed.to == to);
    }

    /// Ends the invitation if its time is over.
    pub fn handle_time(&mut self, now_ms: u64, out: &mut Vec<InviterOutput>) {
        if self.state == InvitationState::Open && now_ms >= self.invitation.expires_at_ms {
            self.end(InvitationState::Expired, out);
        }
    }

    /// Takes the invitation back if it is still open.
    pub fn cancel(&mut self, out: &mut Vec<InviterOutput>) {
        if self.state == InvitationState::Open {
            self.end(InvitationState::Cancelled, out);
        }
    }

    fn check(&self, attempt: &Attempt, confirm: &Confirm) -> Option<Confirmed> {
        let secret = &self.invitation.secret;
        let key = P::key(Side::Inviter, secret, &attempt.seed, &attempt.theirs).map(SessionKey)?;
        let transcript = Transcript {
            binding: attempt.to,
            number: self.invitation.number,
            joiner: attempt.joiner,
            from_joiner: &attempt.theirs,
            from_inviter: &P::message(Side::Inviter, secret, &attempt.seed),
        }
        .hash();
        let expected = joiner_mac(&key, &transcript, &confirm.name);
        (expected == blake3::Hash::from_bytes(confirm.mac)).then_some(Confirmed { to: attempt.to, key, transcript })
    }

    /// From `Open` to anything else; every other exchange is told.
    fn end(&mut self, state: InvitationState, out: &mut Vec<InviterOutput>) {
        self.state = state;
        for attempt in std::mem::take(&mut self.attempts) {
            refuse(attempt.to, Refusal::NoInvitation, out);
        }
        out.push(InviterOutput::Ended(state));
    }
}

fn refuse(to: Binding, why: Refusal, out: &mut Vec<InviterOutput>) {
    out.push(InviterOutput::Send(to, Message::Refused(why)));
    out.push(InviterOutput::Close(to));
}
