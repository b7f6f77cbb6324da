//! The swarm's scheduler: which part of which content is asked of which peer, and when.
//!
//! Contract: the caller verifies every answer against what `take` says was asked, then reports `arrived` or
//! `failed`; after any call it drains `next_requests`. A content of at most one chunk is asked for whole; a larger
//! one first as its chunk list, leaf by leaf, then chunk by chunk, as far as its chunks are not here already.
//!
//! Rarest first: of the next chunks that are missing, the one that the fewest peers have, so far as they told (`swarm`).
//! Of equally rare ones each receiver prefers others, in runs: all together ask for every chunk once, and get the rest
//! from each other. What belongs to another receiver is asked of a whole source only in small measure.
//!
//! Bounded: requests and bytes in flight per peer, large contents at work at once. What waits beyond that waits
//! in the index, not here: `room` says how many more contents may be handed over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::{ContentId, NodeId, RelPath};
use crate::wire::content::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, ChunkList, ChunkRecord, Leaf, Leaves};
use crate::wire::message::Part;

use super::swarm::{Held, TOLD_MS_MAX};
use super::verify::Verified;

/// Requests in flight to one peer. A guess: with 1-100 KiB contents about one window of bytes.
const REQUESTS_MAX: usize = 256;
/// Bytes in flight to one peer: a gigabit link with 60 ms of delay, or 4 ms of loopback.
const WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Large contents at work at once. More would only spread the same bandwidth over more open files.
const LARGE_MAX: usize = 3;
/// Small contents known here at once; the rest wait in the index.
const SMALL_MAX: usize = 2048;
/// A request without an answer for this long is asked of another. The link notices a dead peer much earlier.
const SILENCE_MS_MAX: u64 = 30_000;
/// How long a peer that lacked a content is not asked for it again.
const LACK_MS: u64 = 2_000;
/// The same for one that told that it has some of it: it was about to put the whole in place. A guess: a slow flush.
const LACK_SOME_MS: u64 = 250;
/// Missing chunks that are looked at for the rarest. At the average chunk 256 MiB, far more than all that is under way.
const RAREST_OF_MAX: usize = 1024;
/// Bytes in flight to one peer while only chunks are left to ask of it that another receiver is about to get.
const OTHERS_BYTES_MAX: u64 = 1024 * 1024;
/// Chunks that follow each other are asked for together, so that disks read and write in order. A guess.
const RUN_CHUNKS: u64 = 16;
/// How soon a busy peer is asked again at the earliest and the latest, whatever it says. A guess: not a storm of
/// requests, and no longer than a person would wait.
const BUSY_MS_MIN: u64 = 50;
/// See `BUSY_MS_MIN`.
const BUSY_MS_MAX: u64 = 10_000;

/// One content to get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Want {
    /// Which.
    pub content: ContentId,
    /// Its length, bytes.
    pub bytes: u64,
    /// An entry that has it.
    pub path: RelPath,
}

impl Want {
    /// Whether it is asked for in one piece.
    pub fn is_small(&self) -> bool {
        self.bytes <= CHUNK_BYTES_MAX as u64
    }
}

/// A request to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// To whom.
    pub peer: NodeId,
    /// Its number, which the answer names.
    pub number: u64,
    /// What is wanted.
    pub want: Want,
    /// Which part.
    pub part: Part,
}

/// Why a request brought nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The peer has it not, or not yet.
    Lacks,
    /// The peer has too much to do; it can be asked again after so long, others at once.
    Busy {
        /// As the peer said.
        retry_ms: u32,
    },
    /// The peer sent wrong bytes.
    Wrong,
}

struct InFlight {
    peer: NodeId,
    content: ContentId,
    part: Part,
    bytes: u64,
    since_ms: u64,
}

#[derive(Default)]
struct Peer {
    requests: usize,
    bytes: u64,
    lacks: BTreeMap<ContentId, u64>,
    /// What it told of contents that it is fetching, too.
    told: BTreeMap<ContentId, Told>,
}

struct Told {
    held: Held,
    at_ms: u64,
}

struct Small {
    want: Want,
    asked: bool,
}

struct Large {
    want: Want,
    leaves: Option<Verified<Leaves>>,
    asked_leaves: BTreeSet<u32>,
    got_leaves: BTreeMap<u32, Leaf>,
    list: Option<Arc<ChunkList>>,
    missing: BTreeSet<u64>,
    flying: BTreeSet<u64>,
}

/// The scheduler of one folder.
#[derive(Default)]
pub struct Fetch {
    /// Half of what decides which of equally rare chunks comes first.
    own: u64,
    peers: BTreeMap<NodeId, Peer>,
    small: BTreeMap<ContentId, Small>,
    queue: VecDeque<ContentId>,
    large: BTreeMap<ContentId, Large>,
    flying: BTreeMap<u64, InFlight>,
    next: u64,
}

impl Fetch {
    /// The scheduler of `node`, whose request numbers follow `number`.
    pub fn new(node: NodeId, number: u64) -> Self {
        Self { own: seed(node), next: number, ..Self::default() }
    }

    /// How many more small and large contents may be handed over.
    pub fn room(&self) -> (usize, usize) {
        (SMALL_MAX.saturating_sub(self.small.len()), LARGE_MAX.saturating_sub(self.large.len()))
    }

    /// Whether nothing is wanted.
    pub fn is_idle(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    /// Whether nothing is under way to any peer.
    pub fn is_quiet(&self) -> bool {
        self.flying.is_empty()
    }

    /// Whether this content is at work.
    pub fn has(&self, content: ContentId) -> bool {
        self.small.contains_key(&content) || self.large.contains_key(&content)
    }

    /// Whether every peer that can be asked has said lately that it has not this content, or there is none.
    pub fn nobody_has(&self, content: ContentId) -> bool {
        let is_asked = self.flying.values().any(|flying| flying.content == content);
        let missing = self.large.get(&content).filter(|large| large.list.is_some()).map(|large| &large.missing);
        let has_none = |peer: &Peer| match (peer.told.get(&content), missing) {
            (Some(told), Some(missing)) => !missing.iter().any(|chunk| told.held.has(*chunk)),
            _ => false,
        };
        !is_asked && self.peers.values().all(|peer| peer.lacks.contains_key(&content) || has_none(peer))
    }

    /// A peer told which chunks it has, from `first` on, of a content that it is fetching, too.
    pub fn told(&mut self, peer: NodeId, content: ContentId, (first, map): (u64, &[u8]), now_ms: u64) {
        let (Some(peer), Some(large)) = (self.peers.get_mut(&peer), self.large.get(&content)) else { return };
        if peer.lacks.get(&content) == Some(&u64::MAX) {
            return;
        }
        peer.lacks.remove(&content);
        let told = peer.told.entry(content).or_insert_with(|| Told { held: Held::default(), at_ms: now_ms });
        told.at_ms = now_ms;
        // Every chunk but the last has its least size.
        let chunks = large.want.bytes / CHUNK_BYTES_MIN as u64 + 1;
        told.held.set_window(first, map, large.list.as_ref().map_or(chunks, |list| list.records.len() as u64));
    }

    /// A peer that shares the folder can be asked.
    pub fn peer_up(&mut self, peer: NodeId) {
        self.peers.entry(peer).or_default();
    }

    /// A peer can be asked no more; what it owed is asked of others.
    pub fn peer_down(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
        let lost: Vec<u64> = self.flying.iter().filter(|(_, f)| f.peer == peer).map(|(n, _)| *n).collect();
        lost.into_iter().for_each(|number| self.put_back(number));
    }

    /// A content is wanted.
    pub fn want(&mut self, want: Want) {
        if self.has(want.content) {
            return;
        }
        let content = want.content;
        if want.is_small() {
            self.small.insert(content, Small { want, asked: false });
            self.queue.push_back(content);
        } else {
            let (missing, flying) = (BTreeSet::new(), BTreeSet::new());
            let (asked_leaves, got_leaves) = (BTreeSet::new(), BTreeMap::new());
            let large = Large { want, leaves: None, asked_leaves, got_leaves, list: None, missing, flying };
            self.large.insert(content, large);
        }
    }

    /// A content is wanted no more.
    pub fn forget(&mut self, content: ContentId) {
        self.small.remove(&content);
        self.drop_large(content);
        let numbers: Vec<u64> = self.flying.iter().filter(|(_, f)| f.content == content).map(|(n, _)| *n).collect();
        for number in numbers {
            self.land(number);
        }
    }

    /// The chunk list of a large content is known, and which of its chunks are missing here.
    pub fn listed(&mut self, content: ContentId, list: Arc<ChunkList>, missing: Vec<u64>) {
        if let Some(large) = self.large.get_mut(&content) {
            large.list = Some(list);
            large.missing = missing.into_iter().collect();
        }
    }

    /// What was asked by this request of this peer; `None` where nothing was (any more).
    pub fn asked(&self, peer: NodeId, number: u64) -> Option<(Want, Part)> {
        let flying = self.flying.get(&number).filter(|flying| flying.peer == peer)?;
        let want = match self.small.get(&flying.content) {
            Some(small) => &small.want,
            None => &self.large.get(&flying.content)?.want,
        };
        Some((want.clone(), flying.part))
    }

    /// The record of a chunk of a large content whose list is known.
    pub fn record(&self, content: ContentId, index: u64) -> Option<ChunkRecord> {
        let list = self.large.get(&content)?.list.as_ref()?;
        list.records.get(usize::try_from(index).ok()?).copied()
    }

    /// The leaf hashes of a large content, once they are known.
    pub fn leaves(&self, content: ContentId) -> Option<&Verified<Leaves>> {
        self.large.get(&content)?.leaves.as_ref()
    }

    /// The leaf hashes of a large content arrived.
    pub fn leaves_arrived(&mut self, content: ContentId, leaves: Verified<Leaves>) {
        if let Some(large) = self.large.get_mut(&content) {
            large.leaves = Some(leaves);
        }
    }

    /// A verified leaf arrived. Returns the whole list when this was the last one; the caller finds out what is
    /// missing here and calls `listed`.
    pub fn leaf_arrived(&mut self, number: u64, at: u32, leaf: Verified<Leaf>) -> Option<(Want, ChunkList)> {
        let content = self.land(number)?.content;
        let large = self.large.get_mut(&content)?;
        large.got_leaves.insert(at, leaf.into_inner());
        if large.got_leaves.len() < large.leaves.as_ref()?.inner().len() {
            return None;
        }
        let leaves = std::mem::take(&mut large.got_leaves);
        let records = leaves.into_values().flat_map(Leaf::into_vec).collect();
        Some((large.want.clone(), ChunkList { records }))
    }

    /// A verified whole content or chunk arrived and is stored. Returns the content when nothing of it is missing
    /// any more; it is forgotten then.
    pub fn arrived(&mut self, number: u64) -> Option<Want> {
        let flying = self.land(number)?;
        if let Some(small) = self.small.remove(&flying.content) {
            return Some(small.want);
        }
        self.finished(flying.content)
    }

    /// Returns a large content of which nothing is missing or under way; it is forgotten then.
    pub fn finished(&mut self, content: ContentId) -> Option<Want> {
        let large = self.large.get(&content)?;
        let complete = large.list.is_some() && large.missing.is_empty() && large.flying.is_empty();
        if complete { self.drop_large(content) } else { None }
    }

    fn drop_large(&mut self, content: ContentId) -> Option<Want> {
        for peer in self.peers.values_mut() {
            peer.told.remove(&content);
        }
        self.large.remove(&content).map(|large| large.want)
    }

    /// A request brought nothing; another peer is asked, this one again only after a while.
    pub fn failed(&mut self, number: u64, why: Failure, now_ms: u64) {
        let Some(InFlight { peer, content, part, .. }) = self.flying.get(&number) else { return };
        if let Some(peer) = self.peers.get_mut(peer) {
            let lacks_ms = match (part, peer.told.get_mut(content)) {
                (Part::Chunk { index, .. }, Some(told)) => {
                    told.held.take(*index);
                    LACK_SOME_MS
                }
                _ => LACK_MS,
            };
            let until = match why {
                Failure::Lacks => now_ms + lacks_ms,
                Failure::Busy { retry_ms } => now_ms + u64::from(retry_ms).clamp(BUSY_MS_MIN, BUSY_MS_MAX),
                Failure::Wrong => u64::MAX,
            };
            peer.lacks.insert(*content, until);
        }
        self.put_back(number);
    }

    /// Requests that can be sent now. A request tells of the path: it goes to nobody who may not read it, after `may_read`.
    pub fn next_requests(&mut self, now_ms: u64, may_read: &dyn Fn(NodeId, &RelPath) -> bool) -> Vec<Request> {
        let silent = |f: &InFlight| now_ms.saturating_sub(f.since_ms) > SILENCE_MS_MAX;
        let late: Vec<u64> = self.flying.iter().filter(|(_, f)| silent(f)).map(|(n, _)| *n).collect();
        late.into_iter().for_each(|number| self.failed(number, Failure::Lacks, now_ms));
        for peer in self.peers.values_mut() {
            peer.lacks.retain(|_, until| *until > now_ms);
            peer.told.retain(|_, told| told.at_ms + TOLD_MS_MAX > now_ms);
        }
        let mut requests = Vec::new();
        self.ask_small(now_ms, may_read, &mut requests);
        self.ask_large(now_ms, may_read, &mut requests);
        requests
    }

    /// Takes those who may not read the path for some that lack the content: a while later the rules may be others.
    fn pass_over(&mut self, want: &Want, now_ms: u64, may_read: &dyn Fn(NodeId, &RelPath) -> bool) {
        for (node, peer) in &mut self.peers {
            if !peer.lacks.contains_key(&want.content) && !may_read(*node, &want.path) {
                peer.lacks.insert(want.content, now_ms + LACK_MS);
            }
        }
    }

    /// When `next_requests` should be called again though nothing happens; `None`: not before something does.
    pub fn wake_ms(&self) -> Option<u64> {
        let lack = self.peers.values().flat_map(|p| p.lacks.values()).filter(|t| **t != u64::MAX).min();
        let late = self.flying.values().map(|f| f.since_ms + SILENCE_MS_MAX + 1).min();
        let told = self.peers.values().flat_map(|p| p.told.values()).map(|told| told.at_ms + TOLD_MS_MAX).min();
        lack.copied().into_iter().chain(late).chain(told).min()
    }

    fn ask_small(&mut self, now_ms: u64, may_read: &dyn Fn(NodeId, &RelPath) -> bool, requests: &mut Vec<Request>) {
        for _ in 0..self.queue.len() {
            let Some(content) = self.queue.pop_front() else { break };
            let Some(small) = self.small.get(&content).filter(|small| !small.asked) else { continue };
            let want = small.want.clone();
            self.pass_over(&want, now_ms, may_read);
            let Some(peer) = choose(&self.peers, content, want.bytes) else {
                self.queue.push_front(content);
                if self.peers.values().all(|peer| peer.lacks.contains_key(&content)) {
                    // Nobody has this one; the others behind it may still be had.
                    self.queue.rotate_left(1);
                    continue;
                }
                break;
            };
            self.small.get_mut(&content).expect("looked at above").asked = true;
            requests.push(self.fly(peer, want, Part::Whole, now_ms));
        }
    }

    fn ask_large(&mut self, now_ms: u64, may_read: &dyn Fn(NodeId, &RelPath) -> bool, requests: &mut Vec<Request>) {
        let wants: Vec<Want> = self.large.values().map(|large| large.want.clone()).collect();
        for want in wants {
            self.pass_over(&want, now_ms, may_read);
            let content = want.content;
            while let Some((peer, part)) = self.pick(content) {
                let large = self.large.get_mut(&content).expect("a part of it was picked");
                large.take_part(part);
                let want = large.want.clone();
                requests.push(self.fly(peer, want, part, now_ms));
            }
        }
    }

    /// The next part of a large content, and whom to ask for it.
    fn pick(&self, content: ContentId) -> Option<(NodeId, Part)> {
        let large = self.large.get(&content)?;
        let Some(list) = &large.list else {
            let part = Part::Leaf(large.next_leaf()?);
            return choose(&self.peers, content, LEAF_BYTES).map(|peer| (peer, part));
        };
        let count = list.records.len() as u64;
        let can_be_asked = |peer: &&(&NodeId, &Peer)| !peer.1.lacks.contains_key(&content);
        let sources: Vec<Source<'_>> = self
            .peers
            .iter()
            .filter(|peer| can_be_asked(&peer))
            .map(|(node, peer)| Source { node: *node, peer, held: peer.told.get(&content).map(|told| &told.held) })
            .collect();
        if !sources.iter().any(|source| source.has_room(0, WINDOW_BYTES_MAX)) {
            return None;
        }
        // The others that will have chunks soon that they have not yet.
        let receivers: Vec<u64> = (sources.iter())
            .filter(|source| source.held.is_some_and(|held| held.count() < count))
            .map(|source| seed(source.node))
            .collect();
        let mut best: Option<((usize, bool, u64, u64), NodeId, Part)> = None;
        for index in large.missing.iter().take(RAREST_OF_MAX).copied() {
            let Some(record) = usize::try_from(index).ok().and_then(|at| list.records.get(at)) else { continue };
            let told_by_some = sources.iter().any(|source| source.held.is_some_and(|held| held.has(index)));
            let turn = turn(self.own, index);
            let is_others =
                !told_by_some && receivers.iter().any(|other| weight(*other, index) > weight(self.own, index));
            let holders = || sources.iter().filter(|source| source.held.is_none_or(|held| held.has(index)));
            let key = (holders().count(), is_others, turn, index);
            if best.as_ref().is_some_and(|(least, ..)| *least <= key) {
                continue;
            }
            let window = if is_others { OTHERS_BYTES_MAX } else { WINDOW_BYTES_MAX };
            let fits = holders().filter(|source| source.has_room(u64::from(record.bytes), window));
            if let Some(source) = fits.min_by_key(|source| source.peer.bytes) {
                best = Some((key, source.node, Part::Chunk { index, hash: record.hash }));
            }
        }
        best.map(|(_, node, part)| (node, part))
    }

    fn fly(&mut self, peer: NodeId, want: Want, part: Part, now_ms: u64) -> Request {
        self.next += 1;
        let bytes = match part {
            Part::Whole => want.bytes,
            Part::Leaf(_) => LEAF_BYTES,
            Part::Chunk { index, .. } => self.record(want.content, index).map_or(0, |r| u64::from(r.bytes)),
        };
        let counted = self.peers.get_mut(&peer).expect("a peer is chosen among those that are up");
        counted.requests += 1;
        counted.bytes += bytes;
        self.flying.insert(self.next, InFlight { peer, content: want.content, part, bytes, since_ms: now_ms });
        Request { peer, number: self.next, want, part }
    }

    /// A request is over: its room is free again.
    fn land(&mut self, number: u64) -> Option<InFlight> {
        let flying = self.flying.remove(&number)?;
        if let Some(peer) = self.peers.get_mut(&flying.peer) {
            peer.requests -= 1;
            peer.bytes -= flying.bytes;
        }
        if let (Part::Chunk { index, .. }, Some(large)) = (flying.part, self.large.get_mut(&flying.content)) {
            large.flying.remove(&index);
        }
        Some(flying)
    }

    fn put_back(&mut self, number: u64) {
        let Some(flying) = self.land(number) else { return };
        if let Some(small) = self.small.get_mut(&flying.content) {
            small.asked = false;
            self.queue.push_back(flying.content);
        }
        let Some(large) = self.large.get_mut(&flying.content) else { return };
        match flying.part {
            Part::Whole => {}
            Part::Leaf(at) => {
                large.asked_leaves.remove(&at);
            }
            Part::Chunk { index, .. } => {
                large.missing.insert(index);
            }
        }
    }
}

/// A full leaf as it travels.
const LEAF_BYTES: u64 = 36 * crate::wire::content::LEAF_MAX as u64;

/// A peer that may have chunks of a content; `held`: those that it told of, if it has not the whole.
struct Source<'a> {
    node: NodeId,
    peer: &'a Peer,
    held: Option<&'a Held>,
}

impl Source<'_> {
    fn has_room(&self, bytes: u64, window: u64) -> bool {
        self.peer.has_room(bytes, window)
    }
}

impl Peer {
    fn has_room(&self, bytes: u64, window: u64) -> bool {
        self.requests < REQUESTS_MAX && (self.bytes == 0 || self.bytes + bytes <= window)
    }
}

/// A number that stands for a node where chunks are shared out; nothing rests on its being hard to guess.
fn seed(node: NodeId) -> u64 {
    let (first, _) = node.0.split_first_chunk().expect("a node id has 32 bytes");
    u64::from_le_bytes(*first)
}

/// When a node's turn for a run of chunks is: another order for each node.
fn turn(node: u64, index: u64) -> u64 {
    mix(node ^ mix(index / RUN_CHUNKS))
}

/// Among receivers, a chunk is the one's with the highest weight.
/// Source: Thaler, Ravishankar, *A Name-Based Mapping Scheme for Rendezvous* (1996).
fn weight(node: u64, index: u64) -> u64 {
    mix(node.wrapping_add(mix(!index)))
}

/// Source: the finaliser of `SplitMix64`, Steele, Lea, Flood, *Fast Splittable Pseudorandom Number Generators* (2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Large {
    fn next_leaf(&self) -> Option<u32> {
        let leaves = self.leaves.as_ref().map_or(1, |leaves| leaves.inner().len());
        (0..u32::try_from(leaves).ok()?).find(|at| !self.asked_leaves.contains(at))
    }

    fn take_part(&mut self, part: Part) {
        match part {
            Part::Whole => {}
            Part::Leaf(at) => {
                self.asked_leaves.insert(at);
            }
            Part::Chunk { index, .. } => {
                self.missing.remove(&index);
                self.flying.insert(index);
            }
        }
    }
}

/// The peer with the least in flight that may have the content and has room for `bytes`.
fn choose(peers: &BTreeMap<NodeId, Peer>, content: ContentId, bytes: u64) -> Option<NodeId> {
    let fits = |peer: &Peer| peer.has_room(bytes, WINDOW_BYTES_MAX) && !peer.lacks.contains_key(&content);
    peers.iter().filter(|(_, peer)| fits(peer)).min_by_key(|(_, peer)| peer.bytes).map(|(node, _)| *node)
}

#[cfg(test)]
mod tests;
