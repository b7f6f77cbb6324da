//! The swarm's scheduler: which part of which content is asked of which peer, and when.
//!
//! Contract: the caller verifies every answer against what `take` says was asked, then reports `arrived` or
//! `failed`; after any call it drains `next_requests`. A content of at most one chunk is asked for whole; a larger
//! one first as its chunk list, leaf by leaf, then chunk by chunk, as far as its chunks are not here already.
//!
//! Bounded: requests and bytes in flight per peer, large contents at work at once. What waits beyond that waits
//! in the index, not here: `room` says how many more contents may be handed over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::{ContentId, NodeId, RelPath};
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList, ChunkRecord, Leaf, Leaves};
use crate::wire::message::Part;

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
    missing: VecDeque<u64>,
    flying: BTreeSet<u64>,
}

/// The scheduler of one folder.
#[derive(Default)]
pub struct Fetch {
    peers: BTreeMap<NodeId, Peer>,
    small: BTreeMap<ContentId, Small>,
    queue: VecDeque<ContentId>,
    large: BTreeMap<ContentId, Large>,
    flying: BTreeMap<u64, InFlight>,
    next: u64,
}

impl Fetch {
    /// A scheduler whose request numbers follow `number`.
    pub fn numbered_from(number: u64) -> Self {
        Self { next: number, ..Self::default() }
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
        !is_asked && self.peers.values().all(|peer| peer.lacks.contains_key(&content))
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
            let (missing, flying) = (VecDeque::new(), BTreeSet::new());
            let (asked_leaves, got_leaves) = (BTreeSet::new(), BTreeMap::new());
            let large = Large { want, leaves: None, asked_leaves, got_leaves, list: None, missing, flying };
            self.large.insert(content, large);
        }
    }

    /// A content is wanted no more.
    pub fn forget(&mut self, content: ContentId) {
        self.small.remove(&content);
        self.large.remove(&content);
        let numbers: Vec<u64> = self.flying.iter().filter(|(_, f)| f.content == content).map(|(n, _)| *n).collect();
        for number in numbers {
            self.land(number);
        }
    }

    /// The chunk list of a large content is known, and which of its chunks are missing here.
    pub fn listed(&mut self, content: ContentId, list: Arc<ChunkList>, missing: Vec<u64>) {
        if let Some(large) = self.large.get_mut(&content) {
            large.list = Some(list);
            large.missing = missing.into();
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
        if complete { self.large.remove(&content).map(|large| large.want) } else { None }
    }

    /// A request brought nothing; another peer is asked, this one again only after a while.
    pub fn failed(&mut self, number: u64, why: Failure, now_ms: u64) {
        let Some((peer, content)) = self.flying.get(&number).map(|f| (f.peer, f.content)) else { return };
        if let Some(peer) = self.peers.get_mut(&peer) {
            let until = match why {
                Failure::Lacks => now_ms + LACK_MS,
                Failure::Busy { retry_ms } => now_ms + u64::from(retry_ms).clamp(BUSY_MS_MIN, BUSY_MS_MAX),
                Failure::Wrong => u64::MAX,
            };
            peer.lacks.insert(content, until);
        }
        self.put_back(number);
    }

    /// Requests that can be sent now.
    pub fn next_requests(&mut self, now_ms: u64) -> Vec<Request> {
        let silent = |f: &InFlight| now_ms.saturating_sub(f.since_ms) > SILENCE_MS_MAX;
        let late: Vec<u64> = self.flying.iter().filter(|(_, f)| silent(f)).map(|(n, _)| *n).collect();
        late.into_iter().for_each(|number| self.failed(number, Failure::Lacks, now_ms));
        for peer in self.peers.values_mut() {
            peer.lacks.retain(|_, until| *until > now_ms);
        }
        let mut requests = Vec::new();
        self.ask_small(now_ms, &mut requests);
        self.ask_large(now_ms, &mut requests);
        requests
    }

    /// When `next_requests` should be called again though nothing happens; `None`: not before something does.
    pub fn wake_ms(&self) -> Option<u64> {
        let lack = self.peers.values().flat_map(|p| p.lacks.values()).filter(|t| **t != u64::MAX).min();
        let late = self.flying.values().map(|f| f.since_ms + SILENCE_MS_MAX + 1).min();
        lack.copied().into_iter().chain(late).min()
    }

    fn ask_small(&mut self, now_ms: u64, requests: &mut Vec<Request>) {
        for _ in 0..self.queue.len() {
            let Some(content) = self.queue.pop_front() else { break };
            let Some(small) = self.small.get_mut(&content).filter(|small| !small.asked) else { continue };
            let want = small.want.clone();
            let Some(peer) = choose(&self.peers, content, want.bytes) else {
                self.queue.push_front(content);
                if self.peers.values().all(|peer| peer.lacks.contains_key(&content)) {
                    // Nobody has this one; the others behind it may still be had.
                    self.queue.rotate_left(1);
                    continue;
                }
                break;
            };
            small.asked = true;
            requests.push(self.fly(peer, want, Part::Whole, now_ms));
        }
    }

    fn ask_large(&mut self, now_ms: u64, requests: &mut Vec<Request>) {
        let contents: Vec<ContentId> = self.large.keys().copied().collect();
        for content in contents {
            while let Some(large) = self.large.get_mut(&content)
                && let Some((part, bytes)) = large.next_part()
                && let Some(peer) = choose(&self.peers, content, bytes)
            {
                large.take_part(part);
                let want = large.want.clone();
                requests.push(self.fly(peer, want, part, now_ms));
            }
        }
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
            Part::Chunk { index, .. } => large.missing.push_front(index),
        }
    }
}

/// A full leaf as it travels.
const LEAF_BYTES: u64 = 36 * crate::wire::content::LEAF_MAX as u64;

impl Large {
    fn next_part(&self) -> Option<(Part, u64)> {
        if let Some(list) = &self.list {
            let index = *self.missing.front()?;
            let record = list.records.get(usize::try_from(index).ok()?)?;
            return Some((Part::Chunk { index, hash: record.hash }, u64::from(record.bytes)));
        }
        let leaves = self.leaves.as_ref().map_or(1, |leaves| leaves.inner().len());
        let leaves = u32::try_from(leaves).ok()?;
        let next = (0..leaves).find(|at| !self.asked_leaves.contains(at))?;
        Some((Part::Leaf(next), LEAF_BYTES))
    }

    fn take_part(&mut self, part: Part) {
        match part {
            Part::Whole => {}
            Part::Leaf(at) => {
                self.asked_leaves.insert(at);
            }
            Part::Chunk { index, .. } => {
                self.missing.pop_front();
                self.flying.insert(index);
            }
        }
    }
}

/// The peer with the least in flight that may have the content and has room for `bytes`.
fn choose(peers: &BTreeMap<NodeId, Peer>, content: ContentId, bytes: u64) -> Option<NodeId> {
    let fits = |peer: &Peer| {
        let room = peer.bytes == 0 || peer.bytes + bytes <= WINDOW_BYTES_MAX;
        peer.requests < REQUESTS_MAX && room && !peer.lacks.contains_key(&content)
    };
    peers.iter().filter(|(_, peer)| fits(peer)).min_by_key(|(_, peer)| peer.bytes).map(|(node, _)| *node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::sync::verify;
    use crate::wire::codec::List;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);

    fn want(n: u8, bytes: u64) -> Want {
        Want { content: ContentId([n; 32]), bytes, path: RelPath::new("f").expect("valid") }
    }

    #[test]
    fn nobody_has_what_all_who_can_be_asked_lack() {
        let mut fetch = Fetch::default();
        let want = Want { content: ContentId([7; 32]), bytes: 9, path: RelPath::new("a").expect("valid") };
        fetch.want(want.clone());
        assert!(fetch.nobody_has(want.content), "there is nobody to ask");
        fetch.peer_up(NodeId([1; 32]));
        fetch.peer_up(NodeId([2; 32]));
        for _ in 0..2 {
            assert!(!fetch.nobody_has(want.content));
            let asked = fetch.next_requests(0).pop().expect("somebody is asked");
            assert!(!fetch.nobody_has(want.content));
            fetch.failed(asked.number, Failure::Lacks, 0);
        }
        assert!(fetch.nobody_has(want.content));
    }

    #[test]
    fn a_peer_that_lacks_a_content_is_passed_over_for_another() {
        let mut fetch = Fetch::default();
        fetch.peer_up(A);
        fetch.peer_up(B);
        fetch.want(want(1, 100));
        let first = fetch.next_requests(0).remove(0);
        fetch.failed(first.number, Failure::Lacks, 0);
        let second = fetch.next_requests(1).remove(0);
        assert_ne!(first.peer, second.peer);
        assert_eq!(fetch.arrived(second.number), Some(want(1, 100)));
        assert!(fetch.is_idle() && fetch.is_quiet());
    }

    #[test]
    fn a_busy_peer_is_asked_again_when_it_said_and_others_at_once() {
        let mut fetch = Fetch::default();
        fetch.peer_up(A);
        fetch.want(want(1, 100));
        let first = fetch.next_requests(0).remove(0);
        fetch.failed(first.number, Failure::Busy { retry_ms: 700 }, 0);
        assert_eq!((fetch.next_requests(699).len(), fetch.wake_ms()), (0, Some(700)));
        let again = fetch.next_requests(700).remove(0);
        assert_eq!(again.peer, A);
        fetch.failed(again.number, Failure::Busy { retry_ms: u32::MAX }, 700);
        assert_eq!(fetch.wake_ms(), Some(700 + BUSY_MS_MAX), "no peer can put it off for long");
        fetch.peer_up(B);
        assert_eq!(fetch.next_requests(701).remove(0).peer, B);
    }

    #[test]
    fn what_a_lost_peer_owed_is_asked_of_another() {
        let mut fetch = Fetch::default();
        fetch.peer_up(A);
        for n in 0..10 {
            fetch.want(want(n, 100));
        }
        assert_eq!(fetch.next_requests(0).len(), 10);
        fetch.peer_up(B);
        fetch.peer_down(A);
        let again = fetch.next_requests(1);
        assert_eq!(again.len(), 10);
        assert!(again.iter().all(|request| request.peer == B));
    }

    #[test]
    fn the_window_bounds_what_is_in_flight() {
        let mut fetch = Fetch::default();
        fetch.peer_up(A);
        for n in 0..200 {
            fetch.want(want(n, 1024 * 1024));
        }
        let asked = fetch.next_requests(0);
        assert_eq!(asked.len() as u64, WINDOW_BYTES_MAX / (1024 * 1024));
        assert!(fetch.arrived(asked[0].number).is_some());
        assert_eq!(fetch.next_requests(0).len(), 1);
    }

    #[test]
    fn a_large_content_comes_as_list_then_as_the_chunks_that_are_missing() {
        let records: Vec<ChunkRecord> = (0..5).map(|n| ChunkRecord::of(&vec![n; 1024 * 1024])).collect();
        let list = ChunkList { records };
        let mut fetch = Fetch::default();
        fetch.peer_up(A);
        let large = Want { content: list.id(), bytes: list.bytes(), path: RelPath::new("f").expect("valid") };
        fetch.want(large.clone());
        let request = fetch.next_requests(0).remove(0);
        assert_eq!(request.part, Part::Leaf(0));
        let leaves = verify::leaves(list.id(), list.bytes(), list.leaves()).expect("right");
        let leaf = verify::leaf(&leaves, 0, List::truncated(list.leaf(0).to_vec())).expect("right");
        fetch.leaves_arrived(list.id(), leaves);
        let (_, arrived) = fetch.leaf_arrived(request.number, 0, leaf).expect("the only leaf");
        assert_eq!(arrived, list);
        fetch.listed(list.id(), Arc::new(arrived), vec![1, 3]);
        let asked = fetch.next_requests(0);
        assert_eq!(asked.len(), 2);
        assert_eq!(fetch.arrived(asked[0].number), None);
        assert_eq!(fetch.arrived(asked[1].number), Some(large));
    }
}
