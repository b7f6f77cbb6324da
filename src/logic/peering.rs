//! Whom to dial, when and where, and which of several links to one member is used.
//!
//! Addresses are hints, keys are identity: an announcement says only that some member is there, so an address is dialled
//! until it is known whose it is. Rules:
//! 1. every member should have one control link, and one bulk link dialled by the side that dialled the control link;
//! 2. nothing is dialled more often than the back-off allows, nor more than `dials_max` at once, nor this node itself;
//!    a new announcement, an address that changed and a network that changed begin anew;
//! 3. of two links that both sides dialled at the same time both keep the one dialled by the lower node id; a link to a
//!    later run of the peer, and one made long after the first, replaces the first: one side had lost it;
//! 4. members that cannot reach each other meet at a relay: see `relayed`;
//! 5. all that others tell is bounded.
//!
//! The link named by `Linked` is the one to send on, from then on; it may be named again after another one. Page:
//! `docs/spec/links.md`. Back-off: AWS, *Exponential Backoff And Jitter* (2015).

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};

use crate::base::NodeId;
use crate::wire::message::{Bye, Purpose};

mod back_off;
mod relayed;
pub mod runs;
#[cfg(test)]
mod tests;

use back_off::{BackOff, Jitter};

/// Addresses that are kept at once. Guess: 50 members with 8 each, and twice that.
pub const TARGETS_MAX: usize = 1024;
/// Addresses of one node that others told.
pub const TOLD_PER_NODE_MAX: usize = 8;
/// Announced instances that are kept at once.
pub const INSTANCES_MAX: usize = 256;
/// Addresses of one announcement are dialled one after the other, this far apart: RFC 8305 section 5 says 250 ms.
const STAGGER_MS: u64 = 250;
/// The node with the higher id waits this long for the other to dial first: mostly there is then only one link.
const COURTESY_MS: u64 = 150;
/// Two links that came up within this time were dialled at the same time; a later one replaces. As long as a
/// handshake may take on a slow machine.
const SAME_TIME_MS: u64 = 2_000;
/// A link that lasted at least this long was a good one: redialled at once.
const LASTING_MS: u64 = 10_000;
/// Links to one peer, spares included.
const LINKS_PER_PEER_MAX: usize = 6;

/// A number that the shell gives to a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// A number that this machine gives to an attempt to dial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DialId(pub u64);

/// What to do. In order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Dial; answer with `handle_link_up` or `handle_dial_failed`.
    Dial {
        /// Comes back with the answer.
        dial: DialId,
        /// Where.
        addr: SocketAddr,
        /// Only this node will do.
        expected: Option<NodeId>,
        /// The relay that is there, if it is to be asked for the expected node.
        via: Option<NodeId>,
        /// What for.
        purpose: Purpose,
    },
    /// Close a link; answer with `handle_link_down`.
    Close {
        /// Which.
        link: LinkId,
        /// What to tell the peer.
        bye: Bye,
    },
    /// From now on this link is the one to send on.
    Linked {
        /// To whom.
        node: NodeId,
        /// What for.
        purpose: Purpose,
        /// Which.
        link: LinkId,
    },
    /// There is no link any more.
    Unlinked {
        /// To whom.
        node: NodeId,
        /// What for.
        purpose: Purpose,
    },
    /// The node was reached there: worth keeping for the next start.
    Remember {
        /// Who.
        node: NodeId,
        /// Where; never with an IPv6 scope.
        addr: SocketAddr,
    },
    /// Call `handle_tick` then. One timer: the newest counts.
    Wake {
        /// When.
        at_ms: u64,
    },
}

/// Who this node is, and its bounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// This node.
    pub own: NodeId,
    /// Randomness for jitter.
    pub seed: u64,
    /// Dials at once.
    pub dials_max: usize,
    /// Whether loopback addresses that others tell are believed: for several nodes on one machine.
    pub loopback: bool,
}

/// A link that came up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Up {
    /// Its number, never given twice.
    pub link: LinkId,
    /// Who is there.
    pub peer: NodeId,
    /// What for.
    pub purpose: Purpose,
    /// The peer's number of its run.
    pub run: u64,
    /// The attempt that made it; `None` if the peer dialled.
    pub dial: Option<DialId>,
    /// The relay between, if there is one.
    pub via: Option<NodeId>,
    /// The address of the connection.
    pub remote: SocketAddr,
    /// The port on which the peer listens.
    pub port: u16,
}

/// The state.
#[derive(Debug)]
pub struct Peering {
    settings: Settings,
    jitter: Jitter,
    members: BTreeSet<NodeId>,
    own_addrs: BTreeSet<SocketAddr>,
    targets: BTreeMap<SocketAddr, Target>,
    instances: BTreeMap<String, BTreeSet<SocketAddr>>,
    peers: BTreeMap<NodeId, Peer>,
    dials: BTreeMap<DialId, Dialling>,
    dials_made: u64,
    wake_ms: Option<u64>,
    /// Who may relay, the preferred first.
    relays: Vec<NodeId>,
    /// Relays that have too much to do, until then.
    busy: BTreeMap<NodeId, u64>,
    waits: BTreeMap<NodeId, relayed::Wait>,
}

/// An address that may be dialled.
#[derive(Debug, Default)]
struct Target {
    announced: BTreeSet<String>,
    configured: bool,
    /// Whose it is said to be: last known, or told.
    said: BTreeSet<NodeId>,
    /// Who was last reached there.
    node: Option<NodeId>,
    back_off: BackOff,
    dialling: bool,
}

#[derive(Debug, Clone, Copy)]
struct Dialling {
    addr: SocketAddr,
    purpose: Purpose,
    node: Option<NodeId>,
    via: Option<NodeId>,
}

#[derive(Debug, Default)]
struct Peer {
    /// In the order in which they came up.
    links: Vec<UpLink>,
    control: Option<LinkId>,
    bulk: Option<LinkId>,
    bulk_back_off: BackOff,
    bulk_dialling: bool,
}

#[derive(Debug, Clone, Copy)]
struct UpLink {
    link: LinkId,
    purpose: Purpose,
    run: u64,
    dialled: bool,
    /// Where the peer can be dialled, or the relay between.
    listens: SocketAddr,
    via: Option<NodeId>,
    since_ms: u64,
    /// Whether it may take over from a relayed one.
    steady: bool,
    closing: bool,
}

impl Peering {
    /// A node that knows nobody.
    pub fn new(settings: Settings) -> Self {
        Self {
            jitter: Jitter::new(settings.seed),
            settings,
            members: BTreeSet::new(),
            own_addrs: BTreeSet::new(),
            targets: BTreeMap::new(),
            instances: BTreeMap::new(),
            peers: BTreeMap::new(),
            dials: BTreeMap::new(),
            dials_made: 0,
            wake_ms: None,
            relays: Vec::new(),
            busy: BTreeMap::new(),
            waits: BTreeMap::new(),
        }
    }

    /// The members are now these, this node or not among them. Links to others are closed.
    pub fn handle_members(&mut self, now_ms: u64, members: BTreeSet<NodeId>, out: &mut Vec<Output>) {
        self.members = members;
        self.members.remove(&self.settings.own);
        for (node, peer) in &mut self.peers {
            if !self.members.contains(node) {
                for link in peer.links.iter_mut().filter(|link| !link.closing) {
                    link.closing = true;
                    out.push(Output::Close { link: link.link, bye: Bye::NotAMember });
                }
            }
        }
        for target in self.targets.values_mut() {
            target.said.retain(|node| self.members.contains(node));
            // An address that refused before may be that of a new member.
            target.back_off.begin_anew(now_ms);
        }
        self.drop_unwanted();
        let outsiders: Vec<NodeId> = self.peers.keys().filter(|n| !self.members.contains(n)).copied().collect();
        for node in outsiders {
            self.choose(node, out);
        }
        self.pump(now_ms, out);
    }

    /// The addresses at which this node itself can be reached: never dialled.
    pub fn handle_own_addresses(&mut self, now_ms: u64, addrs: BTreeSet<SocketAddr>, out: &mut Vec<Output>) {
        self.own_addrs = addrs;
        self.pump(now_ms, out);
    }

    /// A member is announced at these addresses; which member is not said. Again for every change.
    pub fn handle_found(&mut self, now_ms: u64, instance: &str, addrs: &[SocketAddr], out: &mut Vec<Output>) {
        let addrs: BTreeSet<SocketAddr> = addrs.iter().copied().filter(dialable).collect();
        if self.instances.len() >= INSTANCES_MAX && !self.instances.contains_key(instance) {
            return;
        }
        let known = self.instances.insert(instance.to_string(), addrs.clone()).unwrap_or_default();
        for lost in known.difference(&addrs) {
            if let Some(target) = self.targets.get_mut(lost) {
                target.announced.remove(instance);
            }
        }
        // A new name at the address of a link is the same node's; else an address may be another's than before.
        let at_links = self.peers.iter().find(|(_, p)| p.links.iter().any(|l| l.is_at(&addrs)));
        let owner = at_links.map(|(node, _)| *node);
        let mut fresh: Vec<SocketAddr> = addrs.difference(&known).copied().collect();
        fresh.sort_by_key(|addr| (preference(addr), *addr));
        for (place, addr) in fresh.into_iter().enumerate() {
            if let Some(target) = self.target(addr) {
                target.announced.insert(instance.to_string());
                target.node = owner;
                target.back_off.begin_anew(now_ms + place as u64 * STAGGER_MS);
            }
        }
        self.drop_unwanted();
        self.pump(now_ms, out);
    }

    /// An announcement is gone.
    pub fn handle_gone(&mut self, now_ms: u64, instance: &str, out: &mut Vec<Output>) {
        for addr in self.instances.remove(instance).unwrap_or_default() {
            if let Some(target) = self.targets.get_mut(&addr) {
                target.announced.remove(instance);
            }
        }
        self.drop_unwanted();
        self.pump(now_ms, out);
    }

    /// The configured addresses are now these.
    pub fn handle_configured(&mut self, now_ms: u64, addrs: &[SocketAddr], out: &mut Vec<Output>) {
        for target in self.targets.values_mut() {
            target.configured = false;
        }
        for addr in addrs {
            if let Some(target) = self.target(*addr) {
                target.configured = true;
                target.back_off.begin_anew(now_ms);
            }
        }
        self.drop_unwanted();
        self.pump(now_ms, out);
    }

    /// A node was reached there in an earlier run.
    pub fn handle_last_known(&mut self, now_ms: u64, node: NodeId, addr: SocketAddr, out: &mut Vec<Output>) {
        self.said(now_ms, node, addr);
        self.pump(now_ms, out);
    }

    /// A member tells where others were reached. Addresses that mean something else on this machine are dropped.
    pub fn handle_told(&mut self, now_ms: u64, told: &[(NodeId, SocketAddr)], out: &mut Vec<Output>) {
        for (node, addr) in told {
            let elsewhere = addr.ip().is_loopback() && !self.settings.loopback || scoped(addr);
            if !elsewhere {
                self.said(now_ms, *node, *addr);
            }
            self.news_of(now_ms, *node);
        }
        self.pump(now_ms, out);
    }

    /// A link is up: hello was heard.
    pub fn handle_link_up(&mut self, now_ms: u64, up: Up, out: &mut Vec<Output>) {
        let dial = up.dial.and_then(|dial| self.end_dial(dial));
        if !self.members.contains(&up.peer) {
            let spare = UpLink::new(now_ms, &up, up.remote, true);
            self.peers.entry(up.peer).or_default().links.push(spare);
            out.push(Output::Close { link: up.link, bye: Bye::NotAMember });
            return self.pump(now_ms, out);
        }
        let listens = match dial {
            Some(dial) => dial.addr,
            None if up.via.is_some() => up.remote,
            None => SocketAddr::new(up.remote.ip(), up.port),
        };
        let listens = match (listens, up.remote) {
            // A scope is part of the address on this machine.
            (SocketAddr::V6(mut v6), SocketAddr::V6(remote)) if dial.is_none() => {
                v6.set_scope_id(remote.scope_id());
                SocketAddr::V6(v6)
            }
            (addr, _) => addr,
        };
        if up.via.is_none() {
            self.identify(now_ms, up.peer, listens, out);
        }
        let news = up.via.is_none() && self.relays.contains(&up.peer);
        let peer = self.peers.entry(up.peer).or_default();
        if up.purpose == Purpose::Bulk {
            peer.bulk_back_off.begin_anew(now_ms);
        }
        let beside_relayed = peer.links.iter().any(|l| l.purpose == up.purpose && l.via.is_some() && !l.closing);
        let new = UpLink { steady: !beside_relayed, ..UpLink::new(now_ms, &up, listens, false) };
        for loser in contest(self.settings.own, up.peer, now_ms, &new, &peer.links) {
            let links = peer.links.iter_mut().filter(|link| link.link == loser);
            links.for_each(|link| link.closing = true);
            out.push(Output::Close { link: loser, bye: Bye::Duplicate });
        }
        let lost = out.contains(&Output::Close { link: new.link, bye: Bye::Duplicate });
        peer.links.push(UpLink { closing: lost, ..new });
        let open = peer.links.iter_mut().filter(|link| !link.closing);
        if open.count() > LINKS_PER_PEER_MAX
            && let Some(oldest) = peer.links.iter_mut().find(|link| !link.closing)
        {
            oldest.closing = true;
            out.push(Output::Close { link: oldest.link, bye: Bye::Busy });
        }
        self.choose(up.peer, out);
        if news {
            self.news_of_relays(now_ms);
        }
        self.pump(now_ms, out);
    }

    /// A link has ended, whoever ended it.
    pub fn handle_link_down(&mut self, now_ms: u64, link: LinkId, out: &mut Vec<Output>) {
        let found =
            self.peers.iter().find(|(_, peer)| peer.links.iter().any(|l| l.link == link)).map(|(node, _)| *node);
        let Some(node) = found else { return };
        let peer = self.peers.get_mut(&node).expect("just found");
        let at = peer.links.iter().position(|l| l.link == link).expect("just found");
        let down = peer.links.remove(at);
        self.choose(node, out);
        let lasted = now_ms.saturating_sub(down.since_ms) >= LASTING_MS;
        let unlinked = self.link(node, down.purpose).is_none();
        let peer = self.peers.get_mut(&node).expect("just found");
        let forgotten = peer.links.is_empty() && !peer.bulk_dialling;
        let alike = |l: &UpLink| l.purpose == down.purpose && l.via.is_some() == down.via.is_some() && !l.closing;
        let alike = peer.links.iter().any(alike);
        match down.purpose {
            // What this end closed because it was replaced says nothing about the way.
            _ if down.closing => {}
            Purpose::Bulk if !alike => peer.bulk_back_off.ended(now_ms, lasted, &mut self.jitter),
            Purpose::Control if down.via.is_some() && unlinked && lasted => self.relayed_ended(now_ms, node),
            Purpose::Control if down.via.is_some() && unlinked => self.ask_failed(now_ms, node),
            Purpose::Control if down.via.is_none() && !self.reached(node) => {
                let courtesy = self.courtesy_ms(node);
                let targets = self.targets.values_mut().filter(|target| target.is_of(node));
                for (place, target) in (0..).zip(targets) {
                    target.back_off.ended(now_ms + courtesy + place * STAGGER_MS, lasted, &mut self.jitter);
                }
            }
            _ => {}
        }
        if forgotten {
            self.peers.remove(&node);
        }
        self.pump(now_ms, out);
    }

    /// An attempt has failed.
    pub fn handle_dial_failed(&mut self, now_ms: u64, dial: DialId, out: &mut Vec<Output>) {
        let Some(failed) = self.end_dial(dial) else { return };
        match (failed.purpose, failed.node) {
            (Purpose::Bulk, Some(node)) => {
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.bulk_back_off.failed(now_ms, &mut self.jitter);
                    if peer.links.is_empty() {
                        self.peers.remove(&node);
                    }
                }
            }
            (Purpose::Control, Some(node)) if failed.via.is_some() => self.ask_failed(now_ms, node),
            _ => {
                if let Some(target) = self.targets.get_mut(&failed.addr) {
                    target.back_off.failed(now_ms, &mut self.jitter);
                    // It may be someone else's now.
                    target.node = None;
                }
            }
        }
        self.pump(now_ms, out);
    }

    /// What was dialled speaks no version that this node speaks. That does not change from one moment to the next, so
    /// the next attempt is the latest possible one; a new announcement begins anew, as after an upgrade.
    pub fn handle_apart(&mut self, now_ms: u64, dial: DialId, node: Option<NodeId>, out: &mut Vec<Output>) {
        let Some(failed) = self.end_dial(dial) else { return };
        let direct = failed.purpose == Purpose::Control && failed.via.is_none();
        if direct && let Some(target) = self.targets.get_mut(&failed.addr) {
            target.back_off.put_off(now_ms, &mut self.jitter);
            target.node = node;
        }
        if let Some(node) = node.or(failed.node) {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.bulk_back_off.put_off(now_ms, &mut self.jitter);
            }
            self.put_off_asking(now_ms, node);
        }
        self.pump(now_ms, out);
    }

    /// Interfaces or addresses changed, or the machine woke up: what failed before may work now.
    pub fn handle_network_changed(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        for target in self.targets.values_mut() {
            target.back_off.begin_anew(now_ms);
        }
        for peer in self.peers.values_mut() {
            peer.bulk_back_off.begin_anew(now_ms);
        }
        self.news_of_relays(now_ms);
        self.pump(now_ms, out);
    }

    /// The time that `Wake` named has come.
    pub fn handle_tick(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if self.wake_ms.is_some_and(|at| at <= now_ms) {
            self.wake_ms = None;
        }
        self.pump(now_ms, out);
    }

    /// The link to send on.
    pub fn link(&self, node: NodeId, purpose: Purpose) -> Option<LinkId> {
        let peer = self.peers.get(&node)?;
        match purpose {
            Purpose::Control => peer.control,
            Purpose::Bulk => peer.bulk,
        }
    }

    /// The members with a control link.
    pub fn linked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.iter().filter(|(_, peer)| peer.control.is_some()).map(|(node, _)| *node)
    }

    /// Where the linked members listen, to be told to others; never with an IPv6 scope.
    pub fn addresses(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> + '_ {
        self.peers.iter().filter_map(|(node, peer)| {
            let control = peer.links.iter().find(|link| Some(link.link) == peer.control)?;
            (control.via.is_none() && !scoped(&control.listens)).then_some((*node, control.listens))
        })
    }

    fn said(&mut self, now_ms: u64, node: NodeId, addr: SocketAddr) {
        if !self.members.contains(&node) || !dialable(&addr) {
            return;
        }
        let of_node = self.targets.iter().filter(|(_, t)| t.said.contains(&node));
        let (count, worst) = of_node.fold((0, None), |(count, worst), (addr, target)| {
            (count + 1, worst.max(Some((target.back_off.attempts(), *addr))))
        });
        if self.targets.get(&addr).is_some_and(|target| target.said.contains(&node)) {
            return;
        }
        // One more of the same node takes the place of the one that failed most often.
        if count >= TOLD_PER_NODE_MAX
            && let Some((_, worst)) = worst
            && let Some(target) = self.targets.get_mut(&worst)
        {
            target.said.remove(&node);
            self.drop_unwanted();
        }
        let courtesy = self.courtesy_ms(node);
        if let Some(target) = self.target(addr) {
            target.said.insert(node);
            target.back_off.begin_anew(now_ms + courtesy);
        }
    }

    fn courtesy_ms(&self, node: NodeId) -> u64 {
        if self.settings.own < node { 0 } else { COURTESY_MS }
    }

    /// The node of `addr` is known now, and with it that of announcements there.
    fn identify(&mut self, now_ms: u64, node: NodeId, addr: SocketAddr, out: &mut Vec<Output>) {
        if let Some(target) = self.target(addr) {
            target.node = Some(node);
        }
        let same: BTreeSet<SocketAddr> =
            self.instances.values().filter(|addrs| addrs.contains(&addr)).flatten().copied().collect();
        for other in same {
            if let Some(target) = self.targets.get_mut(&other) {
                target.node = Some(node);
            }
        }
        if !scoped(&addr) {
            self.said(now_ms, node, addr);
            out.push(Output::Remember { node, addr });
        }
        self.drop_unwanted();
    }

    fn target(&mut self, addr: SocketAddr) -> Option<&mut Target> {
        if self.targets.len() >= TARGETS_MAX && !self.targets.contains_key(&addr) {
            return None;
        }
        Some(self.targets.entry(addr).or_default())
    }

    fn drop_unwanted(&mut self) {
        self.targets.retain(|_, t| t.dialling || t.configured || !t.announced.is_empty() || !t.said.is_empty());
    }

    fn end_dial(&mut self, dial: DialId) -> Option<Dialling> {
        let ended = self.dials.remove(&dial)?;
        if ended.purpose == Purpose::Control
            && let (Some(_), Some(node)) = (ended.via, ended.node)
        {
            self.ask_ended(node);
        } else if ended.purpose == Purpose::Control
            && let Some(target) = self.targets.get_mut(&ended.addr)
        {
            target.dialling = false;
        }
        if ended.purpose == Purpose::Bulk
            && let Some(peer) = ended.node.and_then(|node| self.peers.get_mut(&node))
        {
            peer.bulk_dialling = false;
        }
        Some(ended)
    }

    /// Says which links are used now, where that changed. A bulk link does not outlive its control link.
    fn choose(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        for purpose in [Purpose::Control, Purpose::Bulk] {
            if purpose == Purpose::Bulk && peer.control.is_none() {
                for link in peer.links.iter_mut().filter(|l| l.purpose == purpose && !l.closing) {
                    link.closing = true;
                    out.push(Output::Close { link: link.link, bye: Bye::Duplicate });
                }
            }
            let open = peer.links.iter().filter(|l| l.purpose == purpose && !l.closing);
            let control = peer.links.iter().find(|l| Some(l.link) == peer.control);
            let best = match purpose {
                Purpose::Control => relayed::for_control(open),
                Purpose::Bulk => relayed::for_bulk(open, control),
            };
            let best = best.copied();
            let used = if purpose == Purpose::Control { &mut peer.control } else { &mut peer.bulk };
            let changed = *used != best.map(|l| l.link);
            *used = best.map(|l| l.link);
            if changed {
                out.push(match best {
                    Some(UpLink { link, .. }) => Output::Linked { node, purpose, link },
                    None => Output::Unlinked { node, purpose },
                });
            }
            if let Some(best) = best {
                relayed::close_replaced(&mut peer.links, &best, out);
            }
        }
    }

    /// Dials what is due, and says when to come back.
    fn pump(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let ripe_ms = self.ripen(now_ms, out);
        let (asks, ask_ms) = self.asks(now_ms);
        let mut due: Vec<(u64, SocketAddr)> = Vec::new();
        let mut next_ms: Option<u64> = ripe_ms.into_iter().chain(ask_ms).min();
        let mut later = |at_ms: u64| next_ms = Some(next_ms.map_or(at_ms, |next| next.min(at_ms)));
        for (addr, target) in &self.targets {
            if target.dialling || self.own_addrs.contains(addr) || !self.wants(target) {
                continue;
            }
            match target.back_off.due_ms() {
                at if at <= now_ms => due.push((at, *addr)),
                at => later(at),
            }
        }
        due.sort_unstable();
        let mut bulk: Vec<(NodeId, SocketAddr, Option<NodeId>)> = Vec::new();
        for (node, peer) in &self.peers {
            let control = peer.links.iter().find(|l| Some(l.link) == peer.control);
            let Some(control) = control.filter(|c| c.dialled && !peer.bulk_dialling) else { continue };
            // A link for contents goes the way that the control link goes.
            let bulk_link = peer.links.iter().find(|l| Some(l.link) == peer.bulk);
            if bulk_link.is_some_and(|b| b.via.is_some() == control.via.is_some()) {
                continue;
            }
            let busy_ms = control.via.and_then(|relay| self.busy_until(relay)).unwrap_or_default();
            match peer.bulk_back_off.due_ms().max(busy_ms) {
                at if at <= now_ms => bulk.push((*node, control.listens, control.via)),
                at => later(at),
            }
        }
        // What is due and finds no room is dialled when a dial ends: no timer is needed for it.
        for (node, addr, via) in bulk {
            if self.dials.len() < self.settings.dials_max {
                self.dial(Dialling { addr, purpose: Purpose::Bulk, node: Some(node), via }, out);
            }
        }
        for (node, relay, addr) in asks {
            if self.dials.len() < self.settings.dials_max {
                self.ask_begun(now_ms, node);
                let (node, via) = (Some(node), Some(relay));
                self.dial(Dialling { addr, purpose: Purpose::Control, node, via }, out);
            }
        }
        for (_, addr) in due {
            if self.dials.len() < self.settings.dials_max {
                let expected = self.targets.get(&addr).and_then(Target::expected);
                self.dial(Dialling { addr, purpose: Purpose::Control, node: expected, via: None }, out);
            }
        }
        if let Some(at_ms) = next_ms
            && self.wake_ms != Some(at_ms)
        {
            self.wake_ms = Some(at_ms);
            out.push(Output::Wake { at_ms });
        }
    }

    fn dial(&mut self, dialling: Dialling, out: &mut Vec<Output>) {
        let Dialling { addr, purpose, node: expected, via } = dialling;
        self.dials_made += 1;
        let dial = DialId(self.dials_made);
        self.dials.insert(dial, dialling);
        match purpose {
            Purpose::Control if via.is_some() => {}
            Purpose::Control => {
                if let Some(target) = self.targets.get_mut(&addr) {
                    target.dialling = true;
                }
            }
            Purpose::Bulk => {
                if let Some(peer) = expected.and_then(|node| self.peers.get_mut(&node)) {
                    peer.bulk_dialling = true;
                }
            }
        }
        out.push(Output::Dial { dial, addr, expected, via, purpose });
    }

    /// Whether somebody may be there with whom there is no direct link.
    fn wants(&self, target: &Target) -> bool {
        let linked = |node: &NodeId| self.reached(*node);
        match target.node {
            Some(node) => self.members.contains(&node) && !linked(&node),
            // Without members there is nobody to reach.
            None if target.configured || !target.announced.is_empty() => self.members.iter().any(|node| !linked(node)),
            None => target.said.iter().any(|node| !linked(node)),
        }
    }
}

impl Target {
    fn is_of(&self, node: NodeId) -> bool {
        self.node == Some(node) || self.node.is_none() && self.said.contains(&node)
    }

    /// Who must be there: anybody, if the address was announced or configured.
    fn expected(&self) -> Option<NodeId> {
        let anybody = self.configured || !self.announced.is_empty();
        self.said.first().copied().filter(|_| !anybody && self.said.len() == 1)
    }
}

impl UpLink {
    fn new(now_ms: u64, up: &Up, listens: SocketAddr, closing: bool) -> Self {
        let (link, purpose, run, dialled, via) = (up.link, up.purpose, up.run, up.dial.is_some(), up.via);
        Self { link, purpose, run, dialled, listens, via, since_ms: now_ms, steady: true, closing }
    }

    /// Whether the peer was reached at one of these addresses.
    fn is_at(&self, addrs: &BTreeSet<SocketAddr>) -> bool {
        !self.closing && self.via.is_none() && addrs.contains(&self.listens)
    }
}

/// Which links lose when `new` comes up beside `links`: rule 3. Both ends must come to the same answer.
fn contest(own: NodeId, peer: NodeId, now_ms: u64, new: &UpLink, links: &[UpLink]) -> Vec<LinkId> {
    // A direct and a relayed link of the same run are no rivals: `relayed` says which is used.
    let alike = |old: &UpLink| old.via.is_some() == new.via.is_some() || old.run != new.run;
    let rivals = links.iter().filter(|l| l.purpose == new.purpose && !l.closing && alike(l));
    let mut losers = Vec::new();
    for old in rivals {
        let later = old.run != new.run || now_ms.saturating_sub(old.since_ms) >= SAME_TIME_MS;
        if old.dialled == new.dialled && !later {
            // Only the dialler knows which of its links it still has; the other side keeps both until it is told.
            if new.dialled {
                losers.push(old.link);
            }
        } else {
            let new_by_lower = new.dialled == (own < peer);
            losers.push(if later || new_by_lower { old.link } else { new.link });
        }
    }
    losers.sort_unstable();
    losers.dedup();
    losers
}

/// Whether an address is that of one machine.
fn dialable(addr: &SocketAddr) -> bool {
    let ip = addr.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// Whether an address means something on this machine only.
fn scoped(addr: &SocketAddr) -> bool {
    matches!(addr, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() || v6.scope_id() != 0)
}

/// The order in which the addresses of one node are tried: RFC 6724 in short, with links of one hop last, as their
/// scope may be another interface's.
fn preference(addr: &SocketAddr) -> u8 {
    match addr {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => 0,
        SocketAddr::V4(v4) if v4.ip().is_link_local() => 3,
        SocketAddr::V4(_) => 1,
        SocketAddr::V6(_) if scoped(addr) => 4,
        SocketAddr::V6(_) => 2,
    }
}
