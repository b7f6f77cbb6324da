//! The new machine's side of pairing.

use std::marker::PhantomData;

use super::pake::{Pake, Secret, SessionKey, Side, Spake};
use super::{Binding, Transcript, inviter_mac, joiner_mac};
use crate::base::{DiscoveryKey, MeshId, NodeId, StatementId};
use crate::logic::policy::{NotTaken, StatementSet, evaluate};
use crate::wire::codec::{Bytes, DecodeError, List};
use crate::wire::pairing::{
    ADMISSION_STATEMENTS_MAX, Admission, Confirm, Message, PAIRING_FRAME_BYTES_MAX, Refusal, Start,
};
use crate::wire::signed::Signed;
use crate::wire::statement::{Body, Name, Statement};

/// Bytes of statements in an admission: a frame less what else is in it.
const ADMISSION_BYTES_MAX: usize = PAIRING_FRAME_BYTES_MAX - 8 * 1024;
/// Encoding around one statement: signature, two lengths.
const OVERHEAD_BYTES: usize = 64 + 8;

/// What a joiner starts with.
#[derive(Clone, Debug)]
pub struct JoinerStart {
    /// The number of the code.
    pub number: u16,
    /// What the code stands for.
    pub secret: Secret,
    /// This node; the key that TLS proves.
    pub me: NodeId,
    /// Its name for itself.
    pub name: Name,
    /// The channel.
    pub binding: Binding,
    /// Fresh randomness.
    pub seed: Secret,
}

/// What the caller must do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinerOutput {
    /// Send this.
    Send(Message),
    /// Make this durable before a later output leaves: from here on this node is a member.
    Store(Box<Joined>),
}

/// What pairing brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// Who invited.
    pub inviter: NodeId,
    /// The mesh.
    pub mesh: MeshId,
    /// The discovery key in use.
    pub discovery: DiscoveryKey,
    /// Statements, all with good signatures. If `complete` is false, some parents are missing and follow over the
    /// first link; until then the policy is unknown.
    pub statements: Vec<Statement>,
    /// Whether the statements are a whole set.
    pub complete: bool,
    /// Where the inviter can be reached.
    pub addresses: Vec<String>,
}

/// Why joining failed. This node is not a member, unless the other side says so later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The inviter has no such invitation open.
    #[error("no invitation with number {0} is open there: it may have expired, or was used")]
    NoInvitation(u16),
    /// The inviter says that the code is wrong.
    #[error("the code is wrong; the invitation is void now, ask for a new one")]
    WrongCode,
    /// The inviter could not go on.
    #[error("the inviting machine could not complete the pairing")]
    InviterFailed,
    /// The inviter's proof does not fit.
    #[error(
        "the other machine does not know the code: the code is wrong, or somebody is in between; ask for a new one"
    )]
    NotTheInviter,
    /// A message that does not belong here.
    #[error("the other machine broke the pairing protocol")]
    Unexpected,
    /// A statement of the admission is damaged.
    #[error("the admission cannot be read")]
    Unreadable(#[source] DecodeError),
    /// A statement of the admission is refused.
    #[error("the admission has a statement that does not belong there")]
    Statement(#[source] NotTaken),
    /// The founding statement is missing or not that of the mesh.
    #[error("the admission has no founding statement of the mesh")]
    NoFounding,
    /// Who invites may not.
    #[error("{} is no admin of the mesh and cannot invite", .0.short())]
    InviterNotAdmin(NodeId),
    /// The statements do not make this node a member.
    #[error("the admission does not admit this node")]
    NotAdmitted,
}

/// One attempt to join over one channel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Joiner<P: Pake = Spake> {
    number: u16,
    secret: Secret,
    me: NodeId,
    name: Name,
    binding: Binding,
    seed: Secret,
    stage: Stage,
    pake: PhantomData<P>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Stage {
    Started,
    Confirmed { key: SessionKey, transcript: [u8; 32] },
    Ended,
}

impl<P: Pake> Joiner<P> {
    /// Starts an attempt.
    pub fn start(start: JoinerStart, out: &mut Vec<JoinerOutput>) -> Self {
        let JoinerStart { number, secret, me, name, binding, seed } = start;
        let ours = P::message(Side::Joiner, &secret, &seed);
        let exchange = Bytes::new(ours).expect("an exchange message has at most 64 bytes");
        out.push(JoinerOutput::Send(Message::Start(Start { number, joiner: me, exchange })));
        Self { number, secret, me, name, binding, seed, stage: Stage::Started, pake: PhantomData }
    }

    /// Whether the attempt is over, well or not.
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Takes a message of the inviter. After an error the attempt is over.
    pub fn handle(&mut self, message: Message, out: &mut Vec<JoinerOutput>) -> Result<(), JoinError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        match (stage, message) {
            (Stage::Ended, _) => Err(JoinError::Unexpected),
            (_, Message::Refused(why)) => Err(self.refused(why)),
            (Stage::Started, Message::Reply(reply)) => self.handle_reply(&reply.exchange, out),
            (Stage::Confirmed { key, transcript }, Message::Admit(admission)) => {
                if inviter_mac(&key, &transcript, &admission) != blake3::Hash::from_bytes(admission.mac) {
                    return Err(JoinError::NotTheInviter);
                }
                let joined = check_admission(admission, self.me)?;
                // Stored before Done: who says Done can come back as a member after a crash.
                out.push(JoinerOutput::Store(Box::new(joined)));
                out.push(JoinerOutput::Send(Message::Done));
                Ok(())
            }
            _ => Err(JoinError::Unexpected),
        }
    }

    fn handle_reply(&mut self, theirs: &[u8], out: &mut Vec<JoinerOutput>) -> Result<(), JoinError> {
        let key = P::key(Side::Joiner, &self.secret, &self.seed, theirs).ok_or(JoinError::NotTheInviter)?;
        let key = SessionKey(key);
        let transcript = Transcript {
            binding: self.binding,
            number: self.number,
            joiner: self.me,
            from_joiner: &P::message(Side::Joiner, &self.secret, &self.seed),
            from_inviter: theirs,
        }
        .hash();
        let mac = *joiner_mac(&key, &transcript, &self.name).as_bytes();
        out.push(JoinerOutput::Send(Message::Confirm(Confirm { mac, name: self.name.clone() })));
        self.stage = Stage::Confirmed { key, transcript };
        Ok(())
    }

    fn refused(&self, why: Refusal) -> JoinError {
        match why {
            Refusal::NoInvitation => JoinError::NoInvitation(self.number),
            Refusal::WrongCode => JoinError::WrongCode,
            Refusal::Failed => JoinError::InviterFailed,
        }
    }
}

/// Checks what an authenticated inviter handed over: the mesh is founded, the inviter is an admin, `me` is a member.
pub fn check_admission(admission: Admission, me: NodeId) -> Result<Joined, JoinError> {
    let Admission { inviter, mesh, discovery, statements, addresses, .. } = admission;
    let opened = statements.into_vec().into_iter().map(Statement::open);
    let statements: Vec<Statement> = opened.collect::<Result<_, _>>().map_err(JoinError::Unreadable)?;
    let mut set = StatementSet::new(mesh);
    for statement in &statements {
        set.insert(statement.clone()).map_err(JoinError::Statement)?;
    }
    if set.is_empty() {
        return Err(JoinError::NoFounding);
    }
    let complete = set.parked().0 == 0;
    if complete {
        let policy = evaluate(&set);
        if !policy.is_admin(inviter) {
            return Err(JoinError::InviterNotAdmin(inviter));
        }
        if !policy.is_member(me) {
            return Err(JoinError::NotAdmitted);
        }
    } else if !statements.iter().any(|s| matches!(s.body(), Body::Admit(admit) if admit.node == me)) {
        return Err(JoinError::NotAdmitted);
    }
    let addresses = addresses.iter().map(|at| at.to_string()).collect();
    Ok(Joined { inviter, mesh, discovery, statements, complete, addresses })
}

/// The statements to hand over: all of them if they fit one message, else the founding, the oldest, and `own` (what
/// admits the joiner), ancestors first. The rest follows over the first link.
pub fn admission_statements(set: &StatementSet, own: &[StatementId]) -> List<Signed, ADMISSION_STATEMENTS_MAX> {
    let size = |statement: &Statement| statement.signed().envelope.len() + OVERHEAD_BYTES;
    let reserved: usize = own.iter().filter_map(|id| set.get(id)).map(size).sum();
    let (mut bytes, mut others) = (reserved, own.len());
    let mut chosen = Vec::new();
    let mut full = false;
    for statement in set.in_order() {
        if own.contains(&statement.id()) {
            chosen.push(statement.signed().clone());
            continue;
        }
        bytes += size(statement);
        others += 1;
        full |= bytes > ADMISSION_BYTES_MAX || others > ADMISSION_STATEMENTS_MAX;
        if !full {
            chosen.push(statement.signed().clone());
        }
    }
    List::truncated(chosen)
}
