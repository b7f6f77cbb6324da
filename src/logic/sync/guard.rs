//! The mass-change guard: a burst of one node's deletions and replacements is held until somebody decides.
//!
//! Holding delays what is done on this disk, never what is taken, passed on or acknowledged. What is held is this node's
//! own view; what becomes of it is a signed `Verdict`, which all nodes judge alike (`logic::policy::judge`). Rules:
//! 1. only what takes a content away from this disk counts: a content that has another name here is not lost, so
//!    renames are free, and so is whatever is new. A name counts once, however often it is saved;
//! 2. a change has a weight: what looks like encryption counts twice, what goes with its whole directory a tenth, as
//!    people delete directories and programs that do harm leave them;
//! 3. weights are added up over any stretch of `window_ms` of *authored* time: a month's work that arrives at once is a
//!    month's work. Once they exceed `limit` the rest of that stretch is held;
//! 4. what was let through is remembered over restarts, in a bounded list for each node.

pub mod losses;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::index::EntryId;
use crate::base::{FileTime, NodeId, RelPath, Writer};

/// The weight of an ordinary change.
pub const CHANGE: u32 = 10;
/// Of one that looks like encryption.
pub const HARM: u32 = 2 * CHANGE;
/// Of a deletion that goes with its directory.
pub const WITH_DIRECTORY: u32 = 1;
/// Changes that are remembered of one node: those of several stretches that mix. A guess; 20 KiB.
const REMEMBERED_MAX: usize = 1024;
/// Bytes in which each value comes up about equally often: none of 256 is more than this factor from its share.
const RANDOM_FACTOR: usize = 3;
/// Fewer bytes say nothing about how random they are.
const RANDOM_BYTES_MIN: usize = 1024;

/// When the guard holds. `limit` 0: never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Weight that one node's changes may have within the window, in all.
    pub limit: u32,
    /// The window in milliseconds of authored time.
    pub window_ms: u64,
}

/// A change that takes a content away from this disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// The entry that asks for it.
    pub id: EntryId,
    /// Which name: see `name_key`.
    pub name: u64,
    /// When it was made: see `made_at`.
    pub at_ms: u64,
    /// As above; 0: nothing is lost, but it belongs to a burst if there is one.
    pub weight: u32,
}

/// What is remembered of one node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Watched {
    /// What was let through, newest last.
    passed: VecDeque<Passed>,
    /// Its burst, while one is held.
    burst: Option<Burst>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Passed {
    name: u64,
    incarnation: u64,
    seq: u64,
    at_ms: u64,
    weight: u32,
}

/// A held burst of one node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Burst {
    /// Authored time of its first change, the ones that were let through among them, and of its last.
    pub from_ms: u64,
    /// See `from_ms`.
    pub to_ms: u64,
    /// Of each log the first number of the burst and the first and last that are held.
    pub held: BTreeMap<Writer, Stretch>,
}

/// Numbers of one log that belong to a burst.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stretch {
    /// The first and the last change of the burst, let through or held: what a verdict is about.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// The first that is held.
    pub held_from: u64,
    /// The last that is held.
    pub held_to: u64,
}

/// The guard of one folder on one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guard {
    limits: Limits,
    nodes: BTreeMap<NodeId, Watched>,
}

impl Guard {
    /// A guard that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self { limits, nodes: BTreeMap::new() }
    }

    /// Takes up what was remembered of a node.
    pub fn recall(&mut self, node: NodeId, watched: Watched) {
        self.nodes.insert(node, watched);
    }

    /// What is to be remembered of a node.
    pub fn memory_of(&self, node: NodeId) -> Option<&Watched> {
        self.nodes.get(&node)
    }

    /// The held bursts, by node.
    pub fn bursts(&self) -> impl Iterator<Item = (NodeId, &Burst)> {
        self.nodes.iter().filter_map(|(node, watched)| Some((*node, watched.burst.as_ref()?)))
    }

    /// Whether a change has to wait. A change that is let through is remembered, one that waits belongs to the burst.
    pub fn holds(&mut self, loss: Loss) -> bool {
        let Limits { limit, window_ms } = self.limits;
        if limit == 0 {
            return false;
        }
        let watched = self.nodes.entry(loss.id.writer.node).or_default();
        if let Some(burst) = &mut watched.burst
            && (burst.from_ms.saturating_sub(window_ms)..=burst.to_ms.saturating_add(window_ms)).contains(&loss.at_ms)
        {
            burst.add(loss);
            return true;
        }
        let EntryId { writer, seq } = loss.id;
        let new =
            Passed { name: loss.name, incarnation: writer.incarnation, seq, at_ms: loss.at_ms, weight: loss.weight };
        if let Some(passed) = watched.passed.iter_mut().find(|passed| passed.name == loss.name) {
            // It may weigh more by now, and belongs to the newest stretch that it was changed in.
            *passed = Passed { weight: passed.weight.max(new.weight), at_ms: passed.at_ms.max(new.at_ms), ..new };
            return false;
        }
        if loss.weight == 0 {
            return false;
        }
        let near = |passed: &&Passed| passed.at_ms.abs_diff(loss.at_ms) <= window_ms;
        let weight: u32 = watched.passed.iter().filter(near).map(|passed| passed.weight).sum();
        if weight + loss.weight <= limit {
            watched.passed.push_back(new);
            if watched.passed.len() > REMEMBERED_MAX {
                watched.passed.pop_front();
            }
            return false;
        }
        let mut burst = watched.burst.take().unwrap_or(Burst { from_ms: loss.at_ms, ..Burst::default() });
        burst.add(loss);
        for passed in watched.passed.iter().filter(near) {
            burst.from_ms = burst.from_ms.min(passed.at_ms);
            let log = Writer { node: loss.id.writer.node, incarnation: passed.incarnation };
            let (stretch, seq) = (burst.held.entry(log), passed.seq);
            let stretch = stretch.or_insert(Stretch { first: seq, last: seq, held_from: u64::MAX, held_to: 0 });
            (stretch.first, stretch.last) = (stretch.first.min(seq), stretch.last.max(seq));
        }
        watched.burst = Some(burst);
        true
    }

    /// A verdict covers a log up to `last`: what is held up to there is held no more. Returns the numbers that were.
    pub fn decided(&mut self, log: Writer, last: u64) -> Option<(u64, u64)> {
        let watched = self.nodes.get_mut(&log.node)?;
        let burst = watched.burst.as_mut()?;
        let stretch = burst.held.get_mut(&log)?;
        let decided = (stretch.held_from, stretch.held_to.min(last));
        if last >= stretch.held_to {
            burst.held.remove(&log);
        } else {
            stretch.held_from = stretch.held_from.max(last + 1);
            stretch.first = stretch.first.max(last + 1);
        }
        if burst.held.values().all(|stretch| stretch.held_to == 0) {
            watched.burst = None;
            // What was decided about is not counted against what comes next.
            watched.passed.clear();
        }
        (decided.0 <= decided.1).then_some(decided)
    }
}

impl Burst {
    fn add(&mut self, loss: Loss) {
        self.from_ms = self.from_ms.min(loss.at_ms);
        self.to_ms = self.to_ms.max(loss.at_ms);
        let seq = loss.id.seq;
        let new = Stretch { first: seq, last: seq, held_from: seq, held_to: seq };
        let stretch = self.held.entry(loss.id.writer).or_insert(new);
        (stretch.first, stretch.last) = (stretch.first.min(seq), stretch.last.max(seq));
        stretch.held_from = stretch.held_from.min(seq);
        stretch.held_to = stretch.held_to.max(seq);
    }
}

/// A number for a name, by which the guard knows it again.
pub fn name_key(path: &RelPath) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    u64::from_be_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"))
}

/// When a change was made: when its author noticed it, or, where a file was saved while nobody looked, when it was
/// saved. A time that is not after that of the file it replaces says nothing.
pub fn made_at(noticed_ms: u64, saved: FileTime, replaced: FileTime) -> u64 {
    if saved > replaced && saved.to_ms() < noticed_ms { saved.to_ms() } else { noticed_ms }
}

/// Whether bytes look like encrypted ones: every value comes up about as often as every other.
pub fn looks_random(bytes: &[u8]) -> bool {
    if bytes.len() < RANDOM_BYTES_MIN {
        return false;
    }
    let mut counts = [0_usize; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    // In few bytes chance alone makes differences: three standard deviations of a share are allowed besides.
    let share = bytes.len() / 256;
    let chance = 3 * share.isqrt() + RANDOM_FACTOR;
    let most = share * RANDOM_FACTOR + chance;
    let seen = counts.iter().filter(|count| **count > 0).count();
    seen > 240 && counts.iter().all(|count| *count <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;
    const LIMITS: Limits = Limits { limit: 100 * CHANGE, window_ms: 10 * MINUTE_MS };

    fn log(node: u8) -> Writer {
        Writer { node: NodeId([node; 32]), incarnation: 1 }
    }

    fn loss(node: u8, seq: u64, at_ms: u64) -> Loss {
        Loss { id: EntryId { writer: log(node), seq }, name: seq, at_ms, weight: CHANGE }
    }

    #[test]
    fn of_a_burst_a_hundred_changes_pass_and_the_rest_is_held() {
        let mut guard = Guard::new(LIMITS);
        let held = (1..=500).filter(|seq| guard.holds(loss(1, *seq, 1_000 * seq))).count();
        assert_eq!(held, 400);
        let (node, burst) = guard.bursts().next().expect("held");
        assert_eq!(node, log(1).node);
        assert_eq!(burst.held[&log(1)], Stretch { first: 1, last: 500, held_from: 101, held_to: 500 });
        assert!(!guard.holds(loss(2, 1, 500)), "another node is not held");
    }

    #[test]
    fn what_passed_belongs_to_the_burst_in_whatever_order_it_came() {
        let mut guard = Guard::new(LIMITS);
        (1..=300).rev().for_each(|seq| assert_eq!(guard.holds(loss(1, seq, 1_000 * seq)), seq <= 200));
        let burst = guard.bursts().next().expect("held").1;
        assert_eq!(burst.held[&log(1)], Stretch { first: 1, last: 300, held_from: 1, held_to: 200 });
    }

    #[test]
    fn a_months_work_that_comes_at_once_passes_in_any_order() {
        let mut guard = Guard::new(LIMITS);
        let day = 24 * 60 * MINUTE_MS;
        let mut changes: Vec<u64> = (0..3_000).map(|n| n * 30 * day / 3_000).collect();
        changes.sort_by_key(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert!((1..).zip(changes).all(|(seq, at)| !guard.holds(loss(1, seq, at))));
    }

    #[test]
    fn what_passed_counts_after_a_restart() {
        let mut guard = Guard::new(LIMITS);
        (1..=100).for_each(|seq| assert!(!guard.holds(loss(1, seq, seq))));
        let memory = guard.memory_of(log(1).node).expect("watched").clone();
        let mut again = Guard::new(LIMITS);
        again.recall(log(1).node, memory);
        assert!(again.holds(loss(1, 101, 101)));
    }

    #[test]
    fn the_same_change_counts_once_however_often_it_is_tried() {
        let mut guard = Guard::new(LIMITS);
        assert!((0..1_000).all(|_| !guard.holds(loss(1, 1, 1))));
    }

    #[test]
    fn a_file_that_is_saved_again_and_again_counts_once() {
        let mut guard = Guard::new(LIMITS);
        assert!((1..=5_000).all(|seq| !guard.holds(Loss { name: seq % 90, ..loss(1, seq, seq) })));
        assert_ne!(name_key(&RelPath::root()), name_key(&RelPath::new("a").expect("valid")));
    }

    #[test]
    fn a_decision_ends_the_burst_and_what_comes_after_it_is_held_anew() {
        let mut guard = Guard::new(LIMITS);
        let held = (1..=300).filter(|seq| guard.holds(loss(1, *seq, *seq))).count();
        assert_eq!(held, 200);
        assert_eq!(guard.decided(log(1), 200), Some((101, 200)));
        assert_eq!(guard.bursts().next().expect("more").1.held[&log(1)].held_from, 201);
        assert_eq!(guard.decided(log(1), 300), Some((201, 300)));
        assert_eq!(guard.bursts().count(), 0);
        assert_eq!(guard.decided(log(1), 300), None);
        assert!(!guard.holds(loss(1, 301, 301)));
    }

    #[test]
    fn what_looks_like_harm_counts_twice_and_what_only_rides_along_waits_with_a_burst() {
        let mut guard = Guard::new(LIMITS);
        let twice = |seq| Loss { weight: HARM, ..loss(1, seq, seq) };
        assert_eq!((1..=200).filter(|seq| guard.holds(twice(*seq))).count(), 150);
        assert!(guard.holds(Loss { weight: 0, ..loss(1, 201, 201) }));
        assert!(!guard.holds(Loss { weight: 0, ..loss(2, 1, 201) }));
    }

    #[test]
    fn whole_directories_that_are_deleted_are_held_much_later() {
        let mut guard = Guard::new(LIMITS);
        let light = |seq| Loss { weight: WITH_DIRECTORY, ..loss(1, seq, seq) };
        assert_eq!((1..=1_500).filter(|seq| guard.holds(light(*seq))).count(), 500);
    }

    #[test]
    fn a_guard_that_is_off_holds_nothing() {
        let mut guard = Guard::new(Limits { limit: 0, ..LIMITS });
        assert!((1..5_000).all(|seq| !guard.holds(loss(1, seq, 1))));
    }

    #[test]
    fn memory_stays_small() {
        let mut guard = Guard::new(LIMITS);
        assert!((1..=20_000).all(|seq| !guard.holds(loss(1, seq, seq * 60 * MINUTE_MS))));
        let watched = guard.memory_of(log(1).node).expect("watched");
        assert!(watched.passed.len() <= REMEMBERED_MAX);
        assert!(postcard::to_allocvec(watched).expect("plain").len() < 32 * 1024);
    }

    #[test]
    fn the_time_of_a_save_counts_where_it_is_one() {
        let at = |secs| FileTime { secs, nanos: 0 };
        assert_eq!(made_at(50_000, at(20), at(10)), 20_000);
        assert_eq!(made_at(50_000, at(10), at(10)), 50_000, "content changed and time not: not believed");
        assert_eq!(made_at(50_000, at(99), at(10)), 50_000, "the future");
        assert_eq!(made_at(50_000, at(-5), at(-10)), 0);
    }

    #[test]
    fn encrypted_bytes_look_random_and_an_offices_files_do_not() {
        let mut hash = blake3::Hasher::new();
        hash.update(b"seed");
        for length in [1024, 4096, 65_536] {
            let mut random = vec![0; length];
            hash.finalize_xof().fill(&mut random);
            assert!(looks_random(&random), "{length}");
        }
        let text: Vec<u8> =
            b"The quick brown fox jumps over the lazy dog. ".iter().copied().cycle().take(8192).collect();
        assert!(!looks_random(&text));
        let counting: Vec<u8> = (0..8192_u32).flat_map(|n| n.to_le_bytes()).collect();
        assert!(!looks_random(&counting));
        assert!(!looks_random(&[]));
    }
}
