//! This node and relays: as one that relays for others, and as one that is called by a relay.
//!
//! What is allowed is decided by `logic::relay`; here its outputs become messages and joined connections. Page:
//! `docs/spec/links.md`, "Relay".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use tracing::{debug, info};

use super::{Shared, config, inbox, lock};
use crate::base::NodeId;
use crate::logic::policy::Policy;
use crate::logic::relay::{Asked, JoinId, Limits, Output, Pace, Relay};
use crate::shell::net::RelayStream;
use crate::shell::net::relay::{self, Pace as PaceOf};
use crate::shell::{clock, entropy, rt};
use crate::wire::message::{Purpose, RelayCall};
use crate::wire::relay::{Answer, Ask, Meeting, Message};

/// Connections of members that have not said yet what they want. A guess: all of a large office at once.
const OPENING_MAX: usize = 64;
/// Of one member: as many as may come to meetings at once.
const OPENING_OF_ONE_MAX: usize = COMING_MAX;
/// Meetings to which this node comes at once. As many as it may be asked for by one relay, and some.
const COMING_MAX: usize = 24;

/// What the main loop is told about relays.
pub(super) enum Event {
    /// A member said what it wants of this relay; `None`: it did not.
    Opened(NodeId, Option<(RelayStream, Message)>),
    /// Callers may have waited too long.
    Tick,
    /// Two joined connections have ended.
    Ended(JoinId),
    /// A relay calls this node.
    Called(NodeId, RelayCall),
    /// This node has come to a meeting, or could not.
    Came,
}

/// A call to a member that is to go over its own link.
pub(super) struct Call {
    pub(super) to: NodeId,
    pub(super) call: RelayCall,
}

/// What of it lives in the main loop.
pub(super) struct Relaying {
    machine: Relay,
    /// Callers, until who they want has come.
    callers: BTreeMap<Meeting, RelayStream>,
    /// A joined connection ends when its sender is dropped.
    joined: BTreeMap<JoinId, Sender<()>>,
    pace: Arc<Mutex<Pace>>,
    opening: BTreeMap<NodeId, usize>,
    coming: usize,
    own: Sender<inbox::Event>,
}

/// What of the policy and of the links a decision needs.
pub(super) struct Standing<'a> {
    pub(super) shared: &'a Shared,
    /// Whether there is a direct link with a member.
    pub(super) linked: &'a dyn Fn(NodeId) -> bool,
}

impl Relaying {
    pub(super) fn new(config: &config::Relay, own: Sender<inbox::Event>) -> Self {
        let limits = Limits { pairs_max: config.pairs as usize, bulk_max: config.bulk as usize };
        Self {
            machine: Relay::new(limits),
            callers: BTreeMap::new(),
            joined: BTreeMap::new(),
            pace: Arc::new(Mutex::new(Pace::new(config.bulk_mib_s << 20))),
            opening: BTreeMap::new(),
            coming: 0,
            own,
        }
    }

    /// A member has connected as to a relay.
    pub(super) fn opened(&mut self, mut stream: RelayStream) {
        let peer = stream.peer;
        let all: usize = self.opening.values().sum();
        let of_one = self.opening.entry(peer).or_default();
        if all >= OPENING_MAX || *of_one >= OPENING_OF_ONE_MAX {
            debug!(peer = %peer.short(), "too many want something of this relay at once");
            return;
        }
        *of_one += 1;
        let own = self.own.clone();
        rt::spawn(async move {
            let said = match stream.first().await {
                Ok(said) => Some((stream, said)),
                Err(error) => {
                    debug!(peer = %peer.short(), %error, "said nothing to this relay");
                    None
                }
            };
            let _ = own.send(inbox::Event::Relay(Event::Opened(peer, said))).await;
        });
    }

    /// Returns the calls that are to be sent.
    pub(super) fn handle(&mut self, event: Event, standing: &Standing<'_>) -> Vec<Call> {
        let mut out = Vec::new();
        match event {
            Event::Opened(peer, said) => {
                if let Some(of_one) = self.opening.get_mut(&peer) {
                    *of_one -= 1;
                }
                self.opening.retain(|_, of_one| *of_one > 0);
                match said {
                    Some((stream, Message::Ask(ask))) => self.asked(stream, ask, standing, &mut out),
                    Some((stream, Message::Meet(meeting))) => return self.met(stream, meeting, standing),
                    Some((stream, Message::Answer(_))) => refuse(stream, Answer::Refused),
                    None => {}
                }
            }
            Event::Tick => self.machine.handle_tick(clock::boottime_ms(), &mut out),
            Event::Ended(join) => {
                self.machine.handle_ended(join);
                self.joined.remove(&join);
            }
            Event::Came => self.coming -= 1,
            Event::Called(..) => {}
        }
        self.act(out, None, standing)
    }

    /// The rules have changed.
    pub(super) fn rules(&mut self, standing: &Standing<'_>) {
        let mut out = Vec::new();
        let policy = standing.shared.mesh.policy();
        let eligible = policy.as_ref().is_some_and(|policy| policy.eligible(standing.shared.mesh.node()).is_some());
        self.machine.handle_rules(eligible, |node| standing.shared.mesh.is_member(node), &mut out);
        self.act(out, None, standing);
    }

    /// The call did not get through.
    pub(super) fn call_failed(&mut self, meeting: Meeting, standing: &Standing<'_>) {
        let mut out = Vec::new();
        self.machine.handle_call_failed(meeting, &mut out);
        self.act(out, None, standing);
    }

    /// Whether this node comes when a relay calls it. If so, `Event::Came` is to follow.
    pub(super) fn comes(&mut self, relay: NodeId, call: &RelayCall, shared: &Shared) -> bool {
        let relays = shared.mesh.policy().is_some_and(|policy| policy.eligible(relay).is_some());
        let wanted = shared.mesh.is_member(call.from) && call.from != shared.mesh.node() && call.from != relay;
        let comes = relays && wanted && self.coming < COMING_MAX;
        self.coming += usize::from(comes);
        comes
    }

    fn asked(&mut self, stream: RelayStream, ask: Ask, standing: &Standing<'_>, out: &mut Vec<Output>) {
        let Standing { shared, linked } = standing;
        let me = shared.mesh.node();
        let policy = shared.mesh.policy();
        let asked = Asked {
            from: stream.peer,
            to: ask.to,
            purpose: ask.purpose,
            meeting: Meeting(entropy::bytes()),
            eligible: policy.is_some_and(|policy| policy.eligible(me).is_some()),
            members: ask.to != me && shared.mesh.is_member(stream.peer) && shared.mesh.is_member(ask.to),
            linked: linked(ask.to),
        };
        self.callers.insert(asked.meeting, stream);
        self.machine.handle_ask(clock::boottime_ms(), asked, out);
        if let Some(at_ms) = self.machine.wake_ms() {
            let own = self.own.clone();
            let wait = Duration::from_millis(at_ms.saturating_sub(clock::boottime_ms()) + 1);
            rt::spawn(async move {
                rt::sleep(wait).await;
                let _ = own.send(inbox::Event::Relay(Event::Tick)).await;
            });
        }
    }

    fn met(&mut self, stream: RelayStream, meeting: Meeting, standing: &Standing<'_>) -> Vec<Call> {
        let mut out = Vec::new();
        if self.machine.handle_meet(meeting, stream.peer, &mut out) {
            self.act(out, Some(stream), standing)
        } else {
            refuse(stream, Answer::Refused);
            Vec::new()
        }
    }

    fn act(&mut self, out: Vec<Output>, mut came: Option<RelayStream>, standing: &Standing<'_>) -> Vec<Call> {
        let mut calls = Vec::new();
        for output in out {
            match output {
                Output::Call { to, call } => calls.push(Call { to, call }),
                Output::Refuse { meeting, answer } => {
                    if let Some(stream) = self.callers.remove(&meeting) {
                        debug!(peer = %stream.peer.short(), ?answer, "not relayed");
                        refuse(stream, answer);
                    }
                }
                Output::Join { meeting, join, purpose } => {
                    if let (Some(caller), Some(called)) = (self.callers.remove(&meeting), came.take()) {
                        self.join(join, purpose, caller, called, standing.shared);
                    } else {
                        self.machine.handle_ended(join);
                    }
                }
                Output::Break { join } => {
                    self.joined.remove(&join);
                }
            }
        }
        calls
    }

    fn join(&mut self, join: JoinId, purpose: Purpose, caller: RelayStream, called: RelayStream, shared: &Shared) {
        let (stop, stopped): (_, Receiver<()>) = async_channel::bounded(1);
        self.joined.insert(join, stop);
        let pace = self.pace.clone();
        let bulk = purpose == Purpose::Bulk;
        let pace: PaceOf = Arc::new(move |bytes| match bulk {
            true => Duration::from_millis(lock(&pace).handle_bytes(clock::boottime_ms(), bytes)),
            false => Duration::ZERO,
        });
        let own = self.own.clone();
        let (from, to) = (shared.name_of(caller.peer), shared.name_of(called.peer));
        info!(from, to, ?purpose, "relaying");
        rt::spawn(async move {
            let bytes = relay::join(caller, called, pace, stopped).await;
            info!(from, to, ?purpose, bytes, "relayed");
            let _ = own.send(inbox::Event::Relay(Event::Ended(join))).await;
        });
    }
}

/// The members that may relay, the preferred first.
pub(super) fn relays(policy: &Policy) -> Vec<NodeId> {
    let mut relays: Vec<(u16, NodeId)> =
        policy.members().filter_map(|(node, _)| Some((policy.eligible(node)?, node))).collect();
    relays.sort_by_key(|(priority, node)| (core::cmp::Reverse(*priority), *node));
    relays.into_iter().map(|(_, node)| node).collect()
}

fn refuse(stream: RelayStream, answer: Answer) {
    rt::spawn(stream.refuse(answer));
}
