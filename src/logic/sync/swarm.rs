//! What nodes that fetch the same content tell each other of it: which chunks each has already.
//!
//! Who begins with a large content tells every peer which chunks it has, be it none: that asks the others to tell
//! theirs. Afterwards it tells what has changed, at intervals, and everything again now and then. `Tell` decides what is
//! said to whom; what was heard is `Held` by `fetch`.
//!
//! Bounded: one bit a chunk, and none beyond `CHUNKS_MAX`. A content with more chunks is shared among its receivers up to
//! there; the rest comes from those that have it whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{ContentId, NodeId, RelPath};
use crate::wire::message::HAVE_BYTES_MAX;

/// Chunks of one content of which peers tell: 128 KiB of bits a peer, 256 GiB at the average chunk.
pub const CHUNKS_MAX: u64 = 1024 * 1024;
/// Chunks that one message speaks of.
pub const WINDOW_CHUNKS: u64 = HAVE_BYTES_MAX as u64 * 8;
/// Between two words about one content to one peer. A guess: 6 MiB of a gigabit link's 110 MiB a second arrive meanwhile
/// with four receivers, less than what each has under way.
pub const TELL_MS: u64 = 200;
/// What was told is told again after so long though nothing has changed: the other forgets it after `TOLD_MS_MAX`.
pub const RENEW_MS: u64 = 10_000;
/// What a peer told is believed for so long. It may have come by the rest in another way, and not say so.
pub const TOLD_MS_MAX: u64 = 35_000;

/// Some of the chunks of a content.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    words: Vec<u64>,
    count: u64,
}

impl Held {
    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether this one is among them.
    pub fn has(&self, chunk: u64) -> bool {
        let word = usize::try_from(chunk / 64).ok().and_then(|at| self.words.get(at));
        word.is_some_and(|word| word >> (chunk % 64) & 1 == 1)
    }

    /// Puts one in; those beyond `CHUNKS_MAX` are not kept.
    pub fn put(&mut self, chunk: u64) {
        if chunk >= CHUNKS_MAX || self.has(chunk) {
            return;
        }
        let at = usize::try_from(chunk / 64).expect("below the bound");
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= 1 << (chunk % 64);
        self.count += 1;
    }

    /// Takes one out.
    pub fn take(&mut self, chunk: u64) {
        if self.has(chunk) {
            let at = usize::try_from(chunk / 64).expect("one that is there is below the bound");
            self.words[at] &= !(1 << (chunk % 64));
            self.count -= 1;
        }
    }

    /// From `first` on, as far as one message speaks, these are there and no others; of a content of `chunks`.
    pub fn set_window(&mut self, first: u64, map: &[u8], chunks: u64) {
        if !first.is_multiple_of(WINDOW_CHUNKS) {
            return;
        }
        for at in (0..WINDOW_CHUNKS).map(|at| first.saturating_add(at)).take_while(|at| *at < chunks.min(CHUNKS_MAX)) {
            let byte = usize::try_from((at - first) / 8).ok().and_then(|byte| map.get(byte));
            match byte.is_some_and(|byte| byte >> (at % 8) & 1 == 1) {
                true => self.put(at),
                false => self.take(at),
            }
        }
    }

    /// The map of the chunks from `first` on, as far as one message speaks.
    pub fn window(&self, first: u64) -> Vec<u8> {
        let start = usize::try_from(first / 64).unwrap_or(usize::MAX);
        let words = self.words.iter().skip(start).take(HAVE_BYTES_MAX / 8);
        let mut map: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        while map.last() == Some(&0) {
            map.pop();
        }
        map
    }
}

/// Something to tell a peer, if it may read the path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// Whom.
    pub peer: NodeId,
    /// For which entry it is fetched.
    pub path: RelPath,
    /// Of which content.
    pub content: ContentId,
    /// The first chunk that `chunks` speaks of.
    pub first: u64,
    /// One bit a chunk.
    pub chunks: Vec<u8>,
}

/// One content that is fetched here.
struct Own {
    path: RelPath,
    held: Held,
    /// Changes so far.
    version: u64,
    /// The last change in each window.
    changed: Vec<u64>,
    told: BTreeMap<NodeId, Told>,
    /// Who told of it.
    heard: BTreeSet<NodeId>,
    whole: bool,
}

#[derive(Clone, Copy)]
struct Told {
    version: u64,
    at_ms: u64,
}

/// What the peers are told of the contents that are fetched here.
#[derive(Default)]
pub struct Tell {
    peers: BTreeSet<NodeId>,
    own: BTreeMap<ContentId, Own>,
}

impl Tell {
    /// A peer can be told.
    pub fn peer_up(&mut self, peer: NodeId) {
        self.peer_down(peer);
        self.peers.insert(peer);
    }

    /// It cannot any more; over another connection it is told anew.
    pub fn peer_down(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
        for own in self.own.values_mut() {
            own.told.remove(&peer);
            own.heard.remove(&peer);
        }
    }

    /// A content with so many chunks is fetched from now on; these are here already.
    pub fn begun(&mut self, content: ContentId, path: &RelPath, chunks: u64, here: impl IntoIterator<Item = u64>) {
        let mut held = Held::default();
        here.into_iter().for_each(|chunk| held.put(chunk));
        let windows = chunks.min(CHUNKS_MAX).div_ceil(WINDOW_CHUNKS).max(1);
        let changed = vec![1; usize::try_from(windows).expect("below the bound")];
        let (path, told, heard) = (path.clone(), BTreeMap::new(), BTreeSet::new());
        self.own.insert(content, Own { path, held, version: 1, changed, told, heard, whole: false });
    }

    /// A chunk of it arrived.
    pub fn got(&mut self, content: ContentId, chunk: u64) {
        let Some(own) = self.own.get_mut(&content).filter(|own| !own.held.has(chunk)) else { return };
        own.held.put(chunk);
        own.version += 1;
        if let Some(changed) = usize::try_from(chunk / WINDOW_CHUNKS).ok().and_then(|at| own.changed.get_mut(at)) {
            *changed = own.version;
        }
    }

    /// It is whole: everybody hears of it once more.
    pub fn whole(&mut self, content: ContentId) {
        if let Some(own) = self.own.get_mut(&content) {
            own.whole = true;
        }
    }

    /// It is fetched no more.
    pub fn forget(&mut self, content: ContentId) {
        self.own.remove(&content);
    }

    /// A peer told of a content: for the first time means that it has just begun, and is told in return.
    pub fn heard(&mut self, peer: NodeId, content: ContentId) {
        if let Some(own) = self.own.get_mut(&content)
            && self.peers.contains(&peer)
            && own.heard.insert(peer)
        {
            own.told.remove(&peer);
        }
    }

    /// What is to be said now.
    pub fn next(&mut self, now_ms: u64) -> Vec<Word> {
        let mut words = Vec::new();
        for (content, own) in &mut self.own {
            for peer in &self.peers {
                let told = own.told.get(peer).copied();
                if told.is_some_and(|told| own.due_ms(told) > now_ms) {
                    continue;
                }
                let since = told.filter(|told| told.version != own.version).map_or(0, |told| told.version);
                let windows = (0u64..).zip(&own.changed).filter(|(_, changed)| **changed > since);
                for first in windows.map(|(window, _)| window * WINDOW_CHUNKS) {
                    let (path, chunks) = (own.path.clone(), own.held.window(first));
                    words.push(Word { peer: *peer, path, content: *content, first, chunks });
                }
                own.told.insert(*peer, Told { version: own.version, at_ms: now_ms });
            }
        }
        self.own.retain(|_, own| !own.whole);
        words
    }

    /// When `next` has something to say though nothing happens.
    pub fn wake_ms(&self) -> Option<u64> {
        let due = |own: &Own| self.peers.iter().map(|peer| own.told.get(peer).map_or(0, |t| own.due_ms(*t))).min();
        self.own.values().filter_map(due).min()
    }
}

impl Own {
    fn due_ms(&self, told: Told) -> u64 {
        if self.whole {
            return 0;
        }
        told.at_ms + if told.version == self.version { RENEW_MS } else { TELL_MS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);
    const FILE: ContentId = ContentId([7; 32]);

    fn path() -> RelPath {
        RelPath::new("plans.pdf").expect("valid")
    }

    fn telling(chunks: u64, here: impl IntoIterator<Item = u64>) -> Tell {
        let mut tell = Tell::default();
        tell.peer_up(A);
        tell.begun(FILE, &path(), chunks, here);
        tell
    }

    #[test]
    fn what_a_message_says_is_what_the_other_holds() {
        let mut held = Held::default();
        let chunks = 3 * WINDOW_CHUNKS;
        let there = [0, 7, 8, 63, 64, WINDOW_CHUNKS - 1, WINDOW_CHUNKS, 2 * WINDOW_CHUNKS + 5];
        there.into_iter().for_each(|chunk| held.put(chunk));
        let mut theirs = Held::default();
        theirs.put(9);
        for first in [0, WINDOW_CHUNKS, 2 * WINDOW_CHUNKS] {
            theirs.set_window(first, &held.window(first), chunks);
        }
        assert_eq!((0..chunks).filter(|at| theirs.has(*at)).collect::<Vec<_>>(), there);
        assert_eq!(theirs.count(), there.len() as u64);
    }

    #[test]
    fn claims_beyond_the_content_or_the_bound_take_no_memory() {
        let mut held = Held::default();
        held.set_window(0, &[0xff; HAVE_BYTES_MAX], 5);
        assert_eq!(held.count(), 5);
        held.set_window(3, &[0xff; HAVE_BYTES_MAX], u64::MAX);
        held.set_window(u64::MAX - u64::MAX % WINDOW_CHUNKS, &[0xff; HAVE_BYTES_MAX], u64::MAX);
        held.set_window(CHUNKS_MAX, &[0xff; HAVE_BYTES_MAX], u64::MAX);
        held.put(CHUNKS_MAX);
        assert_eq!((held.count(), held.words.len()), (5, 1));
    }

    #[test]
    fn a_beginner_tells_at_once_and_then_at_intervals_what_changed() {
        let mut tell = telling(2 * WINDOW_CHUNKS, []);
        let first = tell.next(1_000);
        assert_eq!(
            first.iter().map(|word| (word.first, word.chunks.len())).collect::<Vec<_>>(),
            [(0, 0), (WINDOW_CHUNKS, 0)]
        );
        tell.got(FILE, WINDOW_CHUNKS + 1);
        assert_eq!(tell.next(1_000 + TELL_MS - 1), []);
        assert_eq!(tell.wake_ms(), Some(1_000 + TELL_MS));
        let then = tell.next(1_000 + TELL_MS);
        assert_eq!(then.len(), 1, "only the window that changed");
        assert_eq!((then[0].first, &then[0].chunks[..1]), (WINDOW_CHUNKS, &[2][..]));
        assert_eq!(tell.wake_ms(), Some(1_000 + TELL_MS + RENEW_MS));
    }

    #[test]
    fn who_begins_later_is_told_what_is_there_once() {
        let mut tell = telling(10, [3]);
        tell.peer_up(B);
        assert_eq!(tell.next(0).len(), 2);
        tell.heard(B, FILE);
        let word = tell.next(1).pop().expect("at once");
        assert_eq!((word.peer, word.chunks), (B, vec![8]));
        tell.heard(B, FILE);
        assert_eq!(tell.next(2), [], "two that tell each other come to an end");
    }

    #[test]
    fn the_last_word_is_that_it_is_whole() {
        let mut tell = telling(3, [0, 1]);
        tell.next(0);
        tell.got(FILE, 2);
        tell.whole(FILE);
        assert_eq!(tell.wake_ms(), Some(0));
        assert_eq!(tell.next(1)[0].chunks, [7]);
        assert_eq!((tell.next(100_000), tell.wake_ms()), (vec![], None));
    }
}
