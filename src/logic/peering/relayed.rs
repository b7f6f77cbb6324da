//! Links through a relay: when one is asked for, and when a direct link takes over.
//!
//! Rules:
//! 1. of two members that cannot reach each other the one with the lower id asks, once every address it knows of the
//!    other failed `ROUNDS_MIN` times in a row, or it could not reach the other for `PATIENCE_MS`;
//! 2. relays are asked in their order, those only to which there is a direct link; then all of them again, ever later;
//! 3. direct dials go on meanwhile, with their own back-off. A direct link is used once it has stood for `STEADY_MS`;
//!    then who made the relayed link closes it. So a way that comes and goes moves nothing to and fro.

use core::net::SocketAddr;

use super::back_off::Jitter;
use super::{Output, Peering, UpLink};
use crate::base::NodeId;
use crate::wire::message::{Bye, Purpose};

/// Failures in a row of each known address. With connections that are refused at once this is a second, with packets
/// that vanish ten.
const ROUNDS_MIN: u32 = 3;
/// Who has no address of the other, or one that never comes to an end, waits so long. A guess: longer than a start.
const PATIENCE_MS: u64 = 8_000;
/// How long a direct link must stand before it takes over from a relayed one. A guess: a firewall that lets a
/// connection begin and not go on shows it by then.
pub(super) const STEADY_MS: u64 = 3_000;
/// Between two relays that are asked for the same node.
const NEXT_MS: u64 = 250;
/// First wait after all relays were asked, doubled each time.
const FIRST_MS: u64 = 2_000;
/// Longest wait before jitter. Who comes back is told of by its relay, which begins anew: so this may be long.
const LAST_MS: u64 = 120_000;
/// After news, the next attempt is not sooner than that after the last one: news cannot cause a storm.
const NEWS_MS: u64 = 1_000;
/// How long a relay's word that it is busy is believed at most.
const BUSY_MS_MAX: u64 = 60_000;

/// A member that this node has no direct link with, and is to ask relays for.
#[derive(Debug, Default)]
pub(super) struct Wait {
    since_ms: u64,
    due_ms: u64,
    asked_ms: Option<u64>,
    /// Which relay of those that can be asked is next.
    place: usize,
    rounds: u32,
    dialling: bool,
}

impl Wait {
    fn failed(&mut self, now_ms: u64, relays: usize, jitter: &mut Jitter) {
        self.place += 1;
        if self.place < relays {
            self.due_ms = now_ms + NEXT_MS;
            return;
        }
        self.place = 0;
        let wait_ms = FIRST_MS << self.rounds.min(6);
        let wait_ms = wait_ms.min(LAST_MS);
        self.rounds = self.rounds.saturating_add(1);
        self.due_ms = now_ms + wait_ms + jitter.below(wait_ms);
    }

    fn begin_anew(&mut self, now_ms: u64) {
        let soonest = self.asked_ms.map_or(now_ms, |asked| now_ms.max(asked + NEWS_MS));
        (self.place, self.rounds, self.due_ms) = (0, 0, self.due_ms.min(soonest));
    }
}

/// A dial through a relay that is due: to whom, through whom, and where that one listens.
pub(super) type Due = (NodeId, NodeId, SocketAddr);

impl Peering {
    /// The members that may relay are now these, the preferred first.
    pub fn handle_relays(&mut self, now_ms: u64, relays: Vec<NodeId>, out: &mut Vec<Output>) {
        if self.relays != relays {
            self.relays = relays;
            self.news_of_relays(now_ms);
        }
        self.pump(now_ms, out);
    }

    /// A relay said that it has too much to do, for so long. To be told before `handle_dial_failed`.
    pub fn handle_relay_busy(&mut self, now_ms: u64, relay: NodeId, retry_ms: u32) {
        if self.relays.contains(&relay) {
            self.busy.insert(relay, now_ms + u64::from(retry_ms).min(BUSY_MS_MAX));
        }
    }

    /// Where a member listens with which the link in use is a direct one.
    pub fn direct(&self, node: NodeId) -> Option<SocketAddr> {
        self.control(node).filter(|link| link.via.is_none()).map(|link| link.listens)
    }

    /// Through whom the link in use with a member goes, if not directly.
    pub fn via(&self, node: NodeId) -> Option<NodeId> {
        self.control(node).and_then(|link| link.via)
    }

    fn control(&self, node: NodeId) -> Option<&UpLink> {
        let peer = self.peers.get(&node)?;
        peer.links.iter().find(|link| Some(link.link) == peer.control)
    }

    /// Whether a direct control link stands, in use or not.
    pub(super) fn reached(&self, node: NodeId) -> bool {
        let links = self.peers.get(&node).map(|peer| peer.links.as_slice()).unwrap_or_default();
        links.iter().any(|link| link.purpose == Purpose::Control && link.via.is_none() && !link.closing)
    }

    /// There is news of a member: a relay may reach it now.
    pub(super) fn news_of(&mut self, now_ms: u64, node: NodeId) {
        if let Some(wait) = self.waits.get_mut(&node) {
            wait.begin_anew(now_ms);
        }
    }

    /// There is news of relays, or of the network.
    pub(super) fn news_of_relays(&mut self, now_ms: u64) {
        self.waits.values_mut().for_each(|wait| wait.begin_anew(now_ms));
    }

    /// The dials through relays that are due, and when the next is.
    pub(super) fn asks(&mut self, now_ms: u64) -> (Vec<Due>, Option<u64>) {
        let own = self.settings.own;
        let lost: Vec<NodeId> = self.members.iter().filter(|n| own < **n && !self.reached(**n)).copied().collect();
        self.waits.retain(|node, wait| wait.dialling || lost.binary_search(node).is_ok());
        for node in lost {
            self.waits.entry(node).or_insert_with(|| Wait { since_ms: now_ms, due_ms: now_ms, ..Wait::default() });
        }
        self.busy.retain(|_, until| *until > now_ms);
        let (mut due, mut next_ms): (Vec<Due>, Option<u64>) = (Vec::new(), None);
        let mut later = |at_ms: u64| next_ms = Some(next_ms.map_or(at_ms, |next| next.min(at_ms)));
        for (node, wait) in &self.waits {
            if wait.dialling || self.link(*node, Purpose::Control).is_some() {
                continue;
            }
            // Without a relay there is nothing to wait for: one that comes is news.
            let relays: Vec<(NodeId, SocketAddr)> = self.ready(*node).collect();
            if relays.is_empty() {
                continue;
            }
            let given_up_ms = if self.given_up(*node) { wait.since_ms } else { wait.since_ms + PATIENCE_MS };
            let at_ms = wait.due_ms.max(given_up_ms);
            if at_ms > now_ms {
                later(at_ms);
                continue;
            }
            let free = |(relay, _): &&(NodeId, SocketAddr)| !self.busy.contains_key(relay);
            match relays.iter().cycle().skip(wait.place).take(relays.len()).find(free) {
                Some((relay, addr)) => due.push((*node, *relay, *addr)),
                None => self.busy.values().for_each(|until| later(*until)),
            }
        }
        (due, next_ms)
    }

    /// Until when a relay is busy.
    pub(super) fn busy_until(&self, relay: NodeId) -> Option<u64> {
        self.busy.get(&relay).copied()
    }

    fn ready(&self, to: NodeId) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        let relays = self.relays.iter().filter(move |relay| **relay != to);
        relays.filter_map(|relay| Some((*relay, self.direct(*relay)?)))
    }

    /// Whether every address that is known of a node failed often enough.
    fn given_up(&self, node: NodeId) -> bool {
        let mut tried = self.targets.values().filter(|target| target.is_of(node)).peekable();
        tried.peek().is_some() && tried.all(|target| target.back_off.attempts() >= ROUNDS_MIN)
    }

    /// A dial through a relay begins.
    pub(super) fn ask_begun(&mut self, now_ms: u64, node: NodeId) {
        if let Some(wait) = self.waits.get_mut(&node) {
            wait.dialling = true;
            wait.asked_ms = Some(now_ms);
        }
    }

    /// It is over, one way or the other.
    pub(super) fn ask_ended(&mut self, node: NodeId) {
        if let Some(wait) = self.waits.get_mut(&node) {
            wait.dialling = false;
        }
    }

    /// It brought no link, or one that did not last.
    pub(super) fn ask_failed(&mut self, now_ms: u64, node: NodeId) {
        let relays = self.ready(node).count();
        if let Some(wait) = self.waits.get_mut(&node) {
            wait.failed(now_ms, relays, &mut self.jitter);
        }
    }

    /// A relay would not help: the two have no version in common.
    pub(super) fn put_off_asking(&mut self, now_ms: u64, node: NodeId) {
        let wait = self.waits.entry(node).or_default();
        (wait.place, wait.rounds) = (0, u32::MAX);
        wait.due_ms = now_ms + LAST_MS + self.jitter.below(LAST_MS);
    }

    /// A relayed link has ended that had lasted: the next relay, or the same, at once.
    pub(super) fn relayed_ended(&mut self, now_ms: u64, node: NodeId) {
        if let Some(wait) = self.waits.get_mut(&node) {
            (wait.place, wait.rounds, wait.due_ms) = (0, 0, now_ms);
        }
    }

    /// Direct links that have stood long enough take over. Returns when the next will have.
    pub(super) fn ripen(&mut self, now_ms: u64, out: &mut Vec<Output>) -> Option<u64> {
        let (mut ripe, mut next_ms) = (Vec::new(), None::<u64>);
        for (node, peer) in &mut self.peers {
            for link in peer.links.iter_mut().filter(|link| !link.steady && !link.closing) {
                let at_ms = link.since_ms + STEADY_MS;
                if at_ms <= now_ms {
                    link.steady = true;
                    ripe.push(*node);
                } else {
                    next_ms = Some(next_ms.map_or(at_ms, |next| next.min(at_ms)));
                }
            }
        }
        for node in ripe {
            self.choose(node, out);
        }
        next_ms
    }
}

/// Of the open links to a peer the one to use for control.
pub(super) fn for_control<'a>(open: impl DoubleEndedIterator<Item = &'a UpLink> + Clone) -> Option<&'a UpLink> {
    let newest = |fits: fn(&UpLink) -> bool| open.clone().rev().find(|link| fits(link));
    let steady = newest(|link| link.via.is_none() && link.steady);
    steady.or_else(|| newest(|link| link.via.is_some())).or_else(|| newest(|_| true))
}

/// The one to use for contents: of the kind of the control link, if there is one of that kind.
pub(super) fn for_bulk<'a>(
    open: impl DoubleEndedIterator<Item = &'a UpLink> + Clone,
    control: Option<&UpLink>,
) -> Option<&'a UpLink> {
    let relayed = control.is_some_and(|link| link.via.is_some());
    open.clone().rev().find(|link| link.via.is_some() == relayed).or_else(|| open.clone().next_back())
}

/// Relayed links that this node made and that a direct one in use replaces.
pub(super) fn close_replaced(links: &mut [UpLink], used: &UpLink, out: &mut Vec<Output>) {
    if used.via.is_some() {
        return;
    }
    let replaced =
        |link: &&mut UpLink| link.purpose == used.purpose && link.via.is_some() && link.dialled && !link.closing;
    for link in links.iter_mut().filter(replaced) {
        link.closing = true;
        out.push(Output::Close { link: link.link, bye: Bye::Duplicate });
    }
}
