//! Which connections a node joins as a relay, and which it refuses.
//!
//! A member that cannot reach another asks a node that both are connected to; that node calls the other and joins the
//! two connections when it comes. Rules:
//! 1. only a node that an admin declared eligible relays, and only between two members; who asks names a member, never
//!    an address, and the other is called over a link that it has here anyway, itself not relayed;
//! 2. pairs, bulk connections and callers that wait are bounded; beyond that the answer is `Busy`, with a time;
//! 3. a caller waits `WAIT_MS_MAX` for the other, no longer;
//! 4. who is no member any more is cut off, and everybody once this node is no longer eligible.
//!
//! Page: `docs/spec/links.md`, "Relay".

use std::collections::{BTreeMap, BTreeSet};

use crate::base::NodeId;
use crate::wire::message::{Purpose, RelayCall};
use crate::wire::relay::{Answer, Meeting};

mod pace;

pub use pace::Pace;

/// How long the called one may take to come: to connect, and TLS, on a slow machine.
const WAIT_MS_MAX: u64 = 5_000;
/// Callers that wait. A guess: half of an office of 50 after the network was away.
const WAITING_MAX: usize = 24;
/// Of one caller: it dials no more than that at once (`running::DIALS_MAX`).
const WAITING_OF_ONE_MAX: usize = 8;
/// Connections of one pair for one purpose: a new one comes before the old one is known to be dead.
const SAME_MAX: usize = 2;
/// When to come again where only callers wait, or an old connection of the same pair is still there.
const SOON_MS: u32 = 1_000;
/// When to come again where all places are taken. A guess: they are taken for hours, or free at once.
const LATER_MS: u32 = 10_000;

/// A number that this machine gives to two joined connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct JoinId(pub u64);

/// What to do. In order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Say this to that member, over its own link; if that cannot be, answer with `handle_call_failed`.
    Call {
        /// To whom.
        to: NodeId,
        /// What.
        call: RelayCall,
    },
    /// Join the caller's connection with that of who comes now; answer with `handle_ended` when that is over.
    Join {
        /// Which.
        meeting: Meeting,
        /// Its number.
        join: JoinId,
        /// What it is for.
        purpose: Purpose,
    },
    /// Refuse the caller.
    Refuse {
        /// Which.
        meeting: Meeting,
        /// Why.
        answer: Answer,
    },
    /// End two joined connections; answer with `handle_ended`.
    Break {
        /// Which.
        join: JoinId,
    },
}

/// The bounds of a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Pairs of members.
    pub pairs_max: usize,
    /// Connections for contents.
    pub bulk_max: usize,
}

/// A member asks to be joined with another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Who, proven by TLS.
    pub from: NodeId,
    /// With whom.
    pub to: NodeId,
    /// What for.
    pub purpose: Purpose,
    /// A fresh random number.
    pub meeting: Meeting,
    /// Whether this node may relay.
    pub eligible: bool,
    /// Whether both are members.
    pub members: bool,
    /// Whether `to` has a direct link here.
    pub linked: bool,
}

/// The state.
#[derive(Debug)]
pub struct Relay {
    limits: Limits,
    waiting: BTreeMap<Meeting, Waiting>,
    joined: BTreeMap<JoinId, Joined>,
    joins: u64,
}

#[derive(Debug)]
struct Waiting {
    between: Joined,
    until_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Joined {
    from: NodeId,
    to: NodeId,
    purpose: Purpose,
}

impl Joined {
    fn pair(&self) -> (NodeId, NodeId) {
        (self.from.min(self.to), self.from.max(self.to))
    }
}

impl Relay {
    /// A relay that relays nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, waiting: BTreeMap::new(), joined: BTreeMap::new(), joins: 0 }
    }

    /// A member asks.
    pub fn handle_ask(&mut self, now_ms: u64, asked: Asked, out: &mut Vec<Output>) {
        let Asked { from, to, purpose, meeting, .. } = asked;
        let between = Joined { from, to, purpose };
        if let Some(answer) = self.refusal(&asked, &between) {
            return out.push(Output::Refuse { meeting, answer });
        }
        self.waiting.insert(meeting, Waiting { between, until_ms: now_ms + WAIT_MS_MAX });
        out.push(Output::Call { to, call: RelayCall { meeting, from, purpose } });
    }

    fn refusal(&self, asked: &Asked, between: &Joined) -> Option<Answer> {
        if !asked.eligible || !asked.members || asked.from == asked.to || self.limits.pairs_max == 0 {
            return Some(Answer::Refused);
        }
        if !asked.linked {
            return Some(Answer::Away);
        }
        let waiting = self.waiting.values().map(|waiting| waiting.between);
        let of_one = waiting.clone().filter(|waiting| waiting.from == asked.from).count();
        if self.waiting.len() >= WAITING_MAX || of_one >= WAITING_OF_ONE_MAX {
            return Some(Answer::Busy(SOON_MS));
        }
        let all = || waiting.clone().chain(self.joined.values().copied());
        let same = all().filter(|other| other.pair() == between.pair() && other.purpose == between.purpose);
        if same.count() >= SAME_MAX {
            return Some(Answer::Busy(SOON_MS));
        }
        let pairs: BTreeSet<_> = all().map(|other| other.pair()).collect();
        let bulk = all().filter(|other| other.purpose == Purpose::Bulk).count();
        let no_pair = pairs.len() >= self.limits.pairs_max && !pairs.contains(&between.pair());
        let no_bulk = between.purpose == Purpose::Bulk && bulk >= self.limits.bulk_max;
        (no_pair || no_bulk).then_some(Answer::Busy(LATER_MS))
    }

    /// Somebody comes to a meeting. Returns whether it was called to that one.
    pub fn handle_meet(&mut self, meeting: Meeting, by: NodeId, out: &mut Vec<Output>) -> bool {
        let called = self.waiting.get(&meeting).is_some_and(|waiting| waiting.between.to == by);
        let Some(Waiting { between, .. }) = called.then(|| self.waiting.remove(&meeting)).flatten() else {
            return false;
        };
        self.joins += 1;
        let join = JoinId(self.joins);
        self.joined.insert(join, between);
        out.push(Output::Join { meeting, join, purpose: between.purpose });
        true
    }

    /// The other could not be called.
    pub fn handle_call_failed(&mut self, meeting: Meeting, out: &mut Vec<Output>) {
        if self.waiting.remove(&meeting).is_some() {
            out.push(Output::Refuse { meeting, answer: Answer::Away });
        }
    }

    /// Two joined connections have ended.
    pub fn handle_ended(&mut self, join: JoinId) {
        self.joined.remove(&join);
    }

    /// The rules have changed.
    pub fn handle_rules(&mut self, eligible: bool, is_member: impl Fn(NodeId) -> bool, out: &mut Vec<Output>) {
        let stays = |between: &Joined| eligible && is_member(between.from) && is_member(between.to);
        let gone: Vec<Meeting> = self.waiting.iter().filter(|(_, w)| !stays(&w.between)).map(|(m, _)| *m).collect();
        for meeting in gone {
            self.waiting.remove(&meeting);
            out.push(Output::Refuse { meeting, answer: Answer::Refused });
        }
        let broken = self.joined.iter().filter(|(_, between)| !stays(between));
        out.extend(broken.map(|(join, _)| Output::Break { join: *join }));
    }

    /// Time has passed: who waited too long is told.
    pub fn handle_tick(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let late: Vec<Meeting> =
            self.waiting.iter().filter(|(_, waiting)| waiting.until_ms <= now_ms).map(|(m, _)| *m).collect();
        for meeting in late {
            self.handle_call_failed(meeting, out);
        }
    }

    /// When `handle_tick` is to be called; `None`: not before something happens.
    pub fn wake_ms(&self) -> Option<u64> {
        self.waiting.values().map(|waiting| waiting.until_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { pairs_max: 3, bulk_max: 2 };

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn ask(n: u8, from: u8, to: u8, purpose: Purpose) -> Asked {
        let meeting = Meeting([n; 16]);
        Asked { from: node(from), to: node(to), purpose, meeting, eligible: true, members: true, linked: true }
    }

    fn answer(relay: &mut Relay, asked: Asked) -> Option<Answer> {
        let mut out = Vec::new();
        relay.handle_ask(0, asked, &mut out);
        match out.pop() {
            Some(Output::Refuse { meeting, answer }) if meeting == asked.meeting => Some(answer),
            Some(Output::Call { to, call }) => {
                assert_eq!((to, call.from, call.meeting), (asked.to, asked.from, asked.meeting));
                None
            }
            other => panic!("{other:?}"),
        }
    }

    fn come(relay: &mut Relay, n: u8, by: u8) -> Option<JoinId> {
        let mut out = Vec::new();
        let called = relay.handle_meet(Meeting([n; 16]), node(by), &mut out);
        let join = out.iter().find_map(|o| if let Output::Join { join, .. } = o { Some(*join) } else { None });
        assert_eq!(called, join.is_some());
        join
    }

    #[test]
    fn who_was_called_is_joined_once_and_nobody_else() {
        let mut relay = Relay::new(LIMITS);
        assert_eq!(answer(&mut relay, ask(1, 1, 2, Purpose::Control)), None);
        assert_eq!(come(&mut relay, 1, 3), None, "another member guesses the meeting");
        assert_eq!(come(&mut relay, 9, 2), None, "a meeting that is not");
        assert!(come(&mut relay, 1, 2).is_some());
        assert_eq!(come(&mut relay, 1, 2), None, "a meeting is for once");
    }

    #[test]
    fn only_an_eligible_node_relays_only_between_members_and_only_to_who_is_here() {
        let mut relay = Relay::new(LIMITS);
        let asked = ask(1, 1, 2, Purpose::Control);
        for refused in [
            Asked { eligible: false, ..asked },
            Asked { members: false, ..asked },
            Asked { to: node(1), ..asked },
            Asked { eligible: false, linked: false, ..asked },
        ] {
            assert_eq!(answer(&mut relay, refused), Some(Answer::Refused), "{refused:?}");
        }
        assert_eq!(answer(&mut relay, Asked { linked: false, ..asked }), Some(Answer::Away));
        let mut none = Relay::new(Limits { pairs_max: 0, ..LIMITS });
        assert_eq!(answer(&mut none, asked), Some(Answer::Refused));
    }

    #[test]
    fn pairs_are_bounded_a_pair_has_room_for_both_purposes_and_what_ends_makes_room() {
        let mut relay = Relay::new(LIMITS);
        for n in 1..=3 {
            assert_eq!(answer(&mut relay, ask(n, 1, 10 + n, Purpose::Control)), None);
        }
        assert_eq!(answer(&mut relay, ask(4, 2, 20, Purpose::Control)), Some(Answer::Busy(LATER_MS)));
        assert_eq!(answer(&mut relay, ask(5, 1, 11, Purpose::Bulk)), None, "a pair that has a place");
        let join = come(&mut relay, 2, 12).expect("called");
        relay.handle_ended(join);
        assert_eq!(answer(&mut relay, ask(6, 2, 20, Purpose::Control)), None);
    }

    #[test]
    fn contents_have_a_bound_of_their_own_and_one_pair_cannot_take_it_all() {
        let mut relay = Relay::new(Limits { bulk_max: 3, ..LIMITS });
        assert_eq!(answer(&mut relay, ask(1, 1, 2, Purpose::Bulk)), None);
        assert_eq!(answer(&mut relay, ask(2, 1, 2, Purpose::Bulk)), None);
        assert_eq!(answer(&mut relay, ask(3, 2, 1, Purpose::Bulk)), Some(Answer::Busy(SOON_MS)), "either way round");
        assert_eq!(answer(&mut relay, ask(4, 3, 4, Purpose::Bulk)), None);
        assert_eq!(answer(&mut relay, ask(5, 5, 6, Purpose::Bulk)), Some(Answer::Busy(LATER_MS)));
        assert_eq!(answer(&mut relay, ask(6, 5, 6, Purpose::Control)), None);
    }

    #[test]
    fn callers_that_wait_are_bounded_each_and_together_and_wait_no_longer_than_so() {
        let mut relay = Relay::new(Limits { pairs_max: 1000, bulk_max: 1000 });
        let mut waiting = 0;
        for from in 1..=4 {
            for n in 0..10 {
                let asked = ask(from * 10 + n, from, 100 + n, Purpose::Control);
                waiting += usize::from(answer(&mut relay, asked).is_none());
            }
            assert!(waiting <= usize::from(from) * WAITING_OF_ONE_MAX);
        }
        assert_eq!(waiting, WAITING_MAX);
        let mut out = Vec::new();
        assert_eq!(relay.wake_ms(), Some(WAIT_MS_MAX));
        relay.handle_tick(WAIT_MS_MAX - 1, &mut out);
        assert_eq!(out, []);
        relay.handle_tick(WAIT_MS_MAX, &mut out);
        assert_eq!(out.len(), WAITING_MAX);
        assert!(out.iter().all(|o| matches!(o, Output::Refuse { answer: Answer::Away, .. })));
        assert_eq!(relay.wake_ms(), None);
    }

    #[test]
    fn who_is_no_member_any_more_is_cut_off_and_all_when_this_node_may_no_longer() {
        let mut relay = Relay::new(LIMITS);
        answer(&mut relay, ask(1, 1, 2, Purpose::Control));
        let first = come(&mut relay, 1, 2).expect("called");
        answer(&mut relay, ask(2, 1, 3, Purpose::Control));
        let second = come(&mut relay, 2, 3).expect("called");
        answer(&mut relay, ask(3, 4, 3, Purpose::Control));
        let mut out = Vec::new();
        relay.handle_rules(true, |_| true, &mut out);
        assert_eq!(out, []);
        relay.handle_rules(true, |n| n != node(3), &mut out);
        let refused = Output::Refuse { meeting: Meeting([3; 16]), answer: Answer::Refused };
        assert_eq!(out, [refused, Output::Break { join: second }]);
        relay.handle_ended(second);
        out.clear();
        relay.handle_rules(false, |_| true, &mut out);
        assert_eq!(out, [Output::Break { join: first }]);
    }
}
