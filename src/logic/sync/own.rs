//! Own log safety: a node that goes on from less than it had signs no second history.
//!
//! After a start the index may be an old one: put back from a backup, or from a copy of the whole disk. Two rules:
//! 1. nothing is signed before a peer's word is merged: how far the logs reach there, this node's own among them;
//! 2. a batch of the own log that others bring shows that this log was forgotten here. It proves itself by its
//!    signature; whatever comes after it is signed under a new incarnation.
//!
//! What users change meanwhile stays on the disk, and is signed then. Once part of the log was forgotten, nothing tells
//! what is missing on the disk from what was never there, so at the first look nothing counts as deleted, and what is
//! known to be old follows what came after it.

use std::collections::{BTreeMap, BTreeSet};

use super::conflict::{self, Main};
use super::index::{EntryId, Head, Index, Look, PathRecord, Result, Walk};
use super::reconcile;
use super::replica::{Found, Seen};
use crate::base::{Causality, FileInfo, Hlc, NodeId, RelPath, VersionVector, Writer};
use crate::wire::batch::{Header, What};
use crate::wire::message::HoleReason;
use crate::wire::statement::Frontier;

/// So long after the first peer is reached others are waited for, which may know more. A guess: links come up within
/// some hundred milliseconds of each other.
const SETTLE_MS: u64 = 1_000;
/// A peer that is connected and says nothing of the folder is waited for no longer than this: it may not receive it.
const SILENT_MS_MAX: u64 = 3_000;
/// What a peer says that it has is waited for no longer than this after something came: it may not be the truth, or may
/// not be taken here. A guess.
const SLOW_MS_MAX: u64 = 30_000;
/// And no longer than this after the first peer was reached, whatever comes: who claims more than there is and keeps sending
/// would be waited for without end. A guess: a history that takes longer is merged later.
const CLAIMED_MS_MAX: u64 = 10 * 60 * 1_000;
/// Changes that wait are remembered one by one up to this many. Above it only their number is not exact.
pub const WAITING_MAX: usize = 50_000;

/// Whether a batch that others brought shows that this node forgot part of its own log: `before` and `after` are how far
/// that reached without and with it.
pub fn has_forgotten(own: Writer, of: Writer, before: Option<Frontier>, after: Option<Frontier>) -> bool {
    own == of && before.map_or(0, |f| f.seq) < after.map_or(0, |f| f.seq)
}

/// What was heard of how far the logs reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Too little: nothing is signed.
    NotYet,
    /// All that was said is here.
    All,
    /// Not all that was said came, and it is waited for no longer. It may be true, and about this node's own log: what is
    /// signed from now on is signed under a new incarnation.
    Enough,
}

/// Asking peers how far the logs reach, before anything is signed.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// The first word of each peer that has the folder's history.
    words: BTreeMap<NodeId, Vec<Frontier>>,
    linked: BTreeSet<NodeId>,
    since_ms: Option<u64>,
    /// This log has no past that could be forgotten: the word of one is enough.
    is_new: bool,
}

impl Asking {
    /// Begins to ask. `is_new`: nothing was ever signed in this log.
    pub fn new(is_new: bool) -> Self {
        Self { is_new, ..Self::default() }
    }

    /// A peer can be reached, over a link that is new. What it said over an older one may be true no longer: it may have
    /// lost its index since.
    pub fn handle_up(&mut self, node: NodeId, now_ms: u64) {
        self.words.remove(&node);
        self.linked.insert(node);
        self.since_ms.get_or_insert(now_ms);
    }

    /// It cannot any more. Its word counts no longer: nobody brings what it said.
    pub fn handle_down(&mut self, node: NodeId) {
        self.linked.remove(&node);
        self.words.remove(&node);
        if self.linked.is_empty() {
            self.since_ms = None;
        }
    }

    /// A peer said how far its logs reach. One without history knows too little.
    pub fn handle_word(&mut self, node: NodeId, complete: bool, frontiers: &[Frontier]) {
        if complete && self.linked.contains(&node) {
            self.words.entry(node).or_insert_with(|| frontiers.to_vec());
        }
    }

    /// What was heard so far, and is here. `common`: what both histories share of a log that forked, for of the rest
    /// each peer has its own. `took_ms`: when something last came.
    pub fn heard(
        &self,
        index: &(impl Look + ?Sized),
        common: &dyn Fn(Writer) -> Option<u64>,
        took_ms: u64,
        now_ms: u64,
    ) -> Result<Heard> {
        let Some(since) = self.since_ms.filter(|_| !self.words.is_empty()) else { return Ok(Heard::NotYet) };
        if !self.is_new && now_ms < since + SETTLE_MS {
            return Ok(Heard::NotYet);
        }
        let ours: BTreeMap<Writer, u64> = index.frontiers()?.into_iter().map(|f| (f.writer, f.seq)).collect();
        let has = |f: &Frontier| {
            let wanted = f.seq.min(common(f.writer).unwrap_or(u64::MAX));
            wanted == 0 || ours.get(&f.writer).is_some_and(|seq| *seq >= wanted)
        };
        let merged = self.words.values().filter(|word| word.iter().all(has)).count();
        if self.is_new {
            return Ok(if merged > 0 { Heard::All } else { Heard::NotYet });
        }
        let silent = self.linked.len() - self.words.len();
        let is_late = now_ms >= since.max(took_ms) + SLOW_MS_MAX || now_ms >= since + CLAIMED_MS_MAX;
        Ok(match merged == self.words.len() {
            true if silent == 0 || now_ms >= since + SILENT_MS_MAX => Heard::All,
            false if is_late => Heard::Enough,
            _ => Heard::NotYet,
        })
    }

    /// When to look again though nothing happens.
    pub fn wake_ms(&self, now_ms: u64) -> Option<u64> {
        let since = self.since_ms.filter(|_| !self.words.is_empty())?;
        [SETTLE_MS, SILENT_MS_MAX, SLOW_MS_MAX, CLAIMED_MS_MAX]
            .into_iter()
            .map(|wait| since + wait)
            .find(|at| *at > now_ms)
    }
}

/// Changes that were found and are not signed yet: which, and when each was found.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    found_ms: BTreeMap<RelPath, u64>,
}

impl Waiting {
    /// A look at everything at and below `top` found that these names differ from what was signed.
    pub fn handle_look_below(&mut self, top: &RelPath, differing: &BTreeSet<RelPath>, now_ms: u64) {
        self.found_ms.retain(|path, _| !path.starts_with(top) || differing.contains(path));
        self.add(differing, now_ms);
    }

    /// The same of one name; `differing` may hold what was below it, too.
    pub fn handle_look_at(&mut self, path: &RelPath, differing: &BTreeSet<RelPath>, now_ms: u64) {
        if !differing.contains(path) {
            self.found_ms.remove(path);
        }
        self.add(differing, now_ms);
    }

    fn add(&mut self, differing: &BTreeSet<RelPath>, now_ms: u64) {
        for path in differing {
            if self.found_ms.len() < WAITING_MAX {
                self.found_ms.entry(path.clone()).or_insert(now_ms);
            }
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.found_ms.len() as u64
    }

    /// When a change was made that is signed only now: when its file says, but not after it was found, and after all
    /// that it has seen.
    pub fn time(
        &self,
        path: &RelPath,
        seen: Option<&FileInfo>,
        record: &PathRecord,
        base: &VersionVector,
        now_ms: u64,
    ) -> Hlc {
        let found = self.found_ms.get(path).copied().unwrap_or(now_ms).min(now_ms);
        let made = Hlc { ms: seen.map_or(found, |info| info.mtime.to_ms().min(found)), count: 0 };
        let known = record.heads.iter().filter(|head| base.covers(head.version()));
        let after = known.map(|head| head.salted.entry.time.next()).max();
        after.map_or(made, |after| after.max(made))
    }
}

/// Entries that came since arrival `from` without what they say, for others came after them: what lies on the disk may be
/// one of them. At most `most`.
pub fn passed_over(index: &(impl Look + ?Sized), from: u64, most: usize) -> Result<BTreeSet<EntryId>> {
    let mut batches = Vec::new();
    index.arrivals(from, &mut |_, batch| {
        let Header { writer, first, .. } = *batch.header();
        batches.push((writer, first, batch.header().last()));
        if batches.len() < most { Walk::On } else { Walk::Enough }
    })?;
    let mut passed = BTreeSet::new();
    for (writer, first, last) in batches {
        for id in (first..=last).map(|seq| EntryId { writer, seq }) {
            if passed.len() < most && matches!(index.hole(id)?, Some(HoleReason::Superseded(..))) {
                passed.insert(id);
            }
        }
    }
    Ok(passed)
}

/// Notes of at most `most` names after `after` which conflict copies they should have, before the first look: what lies
/// under such a name already is the copy, not a file of its own. Returns with which name to go on.
pub fn expect_copies(index: &mut dyn Index, after: Option<&RelPath>, most: usize) -> Result<Option<RelPath>> {
    let names = index.needs(after, most)?;
    for name in &names {
        if index.path(name)?.is_some_and(|record| record.heads.len() > 1) {
            // What is missing is found again once the disk was looked at.
            reconcile::plan(index, name)?;
        }
    }
    Ok(names.last().filter(|_| names.len() == most).cloned())
}

/// At the first look after part of the own log was forgotten: takes what is only old, or missing, for what it is, and
/// marks it to be brought up to date. Returns the rest, which users made.
pub fn follow(index: &mut dyn Index, found: Vec<Found>) -> Result<Vec<Found>> {
    let mut made = Vec::with_capacity(found.len());
    for found in found {
        let mut record = index.path(&found.path)?.unwrap_or_default();
        if record.local_only || (record.copy_of.is_some() && found.seen.is_some()) {
            made.push(found);
            continue;
        }
        let disk = match &found.seen {
            None => None,
            Some(seen) => match known_as(&*index, &found.path, &record, seen)? {
                Some(version) => Some(seen.clone().of_version(version)),
                None if is_older(&record, seen) => {
                    // Nobody knows it, and it is older than what was here: as if it had been here before the folder.
                    record.disk = None;
                    index.put_path(&found.path, &record)?;
                    made.push(found);
                    continue;
                }
                None => {
                    made.push(found);
                    continue;
                }
            },
        };
        record.disk = disk;
        index.put_path(&found.path, &record)?;
        let planned = record.copy_of.map_or(found.path, |(owner, _)| owner);
        reconcile::mark(index, &planned)?;
    }
    Ok(made)
}

/// At the first look after a start: a file that the index does not know, and whose very content was deleted under this name
/// by a deletion that came since the start, lay there before that. The index was put back from a backup, without the files;
/// or it was made anew. It follows the deletion. Returns the rest.
pub fn follow_deletions(index: &mut dyn Index, found: Vec<Found>, first_arrival: u64) -> Result<Vec<Found>> {
    let mut made = Vec::with_capacity(found.len());
    for found in found {
        let mut record = index.path(&found.path)?.unwrap_or_default();
        let content = found.seen.as_ref().and_then(|seen| seen.what.content());
        let is_unknown = record.disk.is_none() && record.copy_of.is_none() && !record.local_only && !record.is_live();
        let mut is_new = false;
        for head in record.heads.iter().filter(|_| is_unknown && content.is_some()) {
            is_new |= matches!(head.what(), What::Tombstone { deleted } if *deleted == content)
                && index.batch_of(head.id)?.is_some_and(|(arrival, _)| arrival >= first_arrival);
        }
        match found.seen {
            Some(seen) if is_new => {
                let mut version = VersionVector::default();
                record.heads.iter().for_each(|head| version.join(head.version()));
                record.disk = Some(seen.of_version(version));
                index.put_path(&found.path, &record)?;
                reconcile::mark(index, &found.path)?;
            }
            seen => made.push(Found { path: found.path, seen }),
        }
    }
    Ok(made)
}

/// The version that a thing on the disk is, where one is known: that which has the name, one that it superseded, or one
/// that was deleted since.
fn known_as(index: &dyn Index, path: &RelPath, record: &PathRecord, seen: &Seen) -> Result<Option<VersionVector>> {
    if seen.what == What::Dir || record.heads.is_empty() {
        return Ok(None);
    }
    let all = || {
        record.heads.iter().fold(VersionVector::default(), |mut all, head| {
            all.join(head.version());
            all
        })
    };
    let ended = |head: &Head| matches!(head.what(), What::Tombstone { deleted } if *deleted == seen.what.content());
    if seen.what.content().is_some() && !record.is_live() && record.heads.iter().any(ended) {
        return Ok(Some(all()));
    }
    let below = reconcile::lives_below(index, path)?;
    if let Main::Head(head) = conflict::view(record, below).main
        && *head.what() == seen.what
    {
        // What was known with the same content, and has another mode or time now, was changed by its user.
        let was_other = record.disk.as_ref().is_none_or(|disk| disk.what != seen.what);
        return Ok(was_other.then(|| head.version().clone()));
    }
    let superseded = |old: &&Head| {
        *old.what() == seen.what
            && record.heads.iter().any(|head| old.version().compare(head.version()) == Causality::Before)
    };
    Ok(index.kept(path)?.iter().find(superseded).map(|old| old.version().clone()))
}

fn is_older(record: &PathRecord, seen: &Seen) -> bool {
    record.disk.as_ref().is_some_and(|disk| disk.what != seen.what && seen.info.mtime < disk.info.mtime)
}

#[cfg(test)]
mod tests {
    use super::super::index::MemoryIndex;
    use super::super::reconcile;
    use super::*;
    use crate::base::{BatchHash, ContentId, FileTime, FolderId, Kind, MeshId};
    use crate::wire::batch::{Batch, Entry, Salted};
    use crate::wire::codec::List;
    use ed25519_dalek::SigningKey;

    const OWN: NodeId = NodeId([1; 32]);
    const PEER: NodeId = NodeId([2; 32]);
    const OTHER: NodeId = NodeId([3; 32]);

    fn writer(node: NodeId) -> Writer {
        Writer { node, incarnation: 1 }
    }

    fn reaches(node: NodeId, seq: u64) -> Frontier {
        Frontier { writer: writer(node), seq, batch: BatchHash([0; 32]) }
    }

    fn heard(asking: &Asking, now_ms: u64) -> Heard {
        asking.heard(&MemoryIndex::default(), &|_| None, 0, now_ms).expect("memory")
    }

    fn answered(asking: &Asking, now_ms: u64) -> bool {
        heard(asking, now_ms) != Heard::NotYet
    }

    fn asked(peers: &[NodeId]) -> Asking {
        let mut asking = Asking::new(false);
        peers.iter().for_each(|peer| asking.handle_up(*peer, 0));
        asking
    }

    #[test]
    fn nothing_is_signed_before_a_peer_with_history_has_spoken() {
        let mut asking = asked(&[PEER]);
        assert!(!answered(&asking, SLOW_MS_MAX));
        asking.handle_word(PEER, false, &[]);
        assert!(!answered(&asking, SLOW_MS_MAX), "it has no history");
        asking.handle_word(PEER, true, &[]);
        assert!(!answered(&asking, SETTLE_MS - 1), "others may come");
        assert!(answered(&asking, SETTLE_MS));
    }

    #[test]
    fn what_a_peer_has_must_be_here_or_be_given_up() {
        let mut asking = asked(&[PEER]);
        asking.handle_word(PEER, true, &[reaches(OWN, 7)]);
        assert!(!answered(&asking, SLOW_MS_MAX - 1));
        assert_eq!(heard(&asking, SLOW_MS_MAX), Heard::Enough, "what it says may be a lie, or true");
        let is_forked = |log| (log == writer(OWN)).then_some(0);
        assert_eq!(asking.heard(&MemoryIndex::default(), &is_forked, 0, SETTLE_MS).expect("memory"), Heard::All);
    }

    #[test]
    fn who_claims_more_than_there_is_and_keeps_sending_holds_nothing_up_for_ever() {
        let mut asking = asked(&[PEER]);
        asking.handle_word(PEER, true, &[reaches(OWN, 7)]);
        let keeps_sending = |now_ms| asking.heard(&MemoryIndex::default(), &|_| None, now_ms, now_ms).expect("memory");
        assert_eq!(keeps_sending(CLAIMED_MS_MAX - 1), Heard::NotYet);
        assert_eq!(keeps_sending(CLAIMED_MS_MAX), Heard::Enough);
        assert!((1..CLAIMED_MS_MAX).all(|now_ms| asking.wake_ms(now_ms).is_some_and(|at| at > now_ms)));
    }

    #[test]
    fn what_a_peer_said_over_an_older_link_is_asked_again() {
        let mut asking = asked(&[PEER]);
        asking.handle_word(PEER, true, &[reaches(PEER, 7)]);
        asking.handle_up(PEER, 10);
        assert!(!answered(&asking, SETTLE_MS));
        asking.handle_word(PEER, true, &[]);
        assert_eq!(heard(&asking, SETTLE_MS), Heard::All);
    }

    #[test]
    fn who_is_silent_is_waited_for_a_while_and_who_left_is_not() {
        let mut asking = asked(&[PEER, OTHER]);
        asking.handle_word(PEER, true, &[]);
        assert!(!answered(&asking, SETTLE_MS));
        assert!(answered(&asking, SILENT_MS_MAX));
        asking.handle_down(OTHER);
        assert!(answered(&asking, SETTLE_MS));
        asking.handle_down(PEER);
        assert!(!answered(&asking, SLOW_MS_MAX), "nobody is left who could bring what it has");
    }

    #[test]
    fn a_log_that_is_new_has_nothing_to_ask_but_needs_history() {
        let mut asking = Asking::new(true);
        asking.handle_up(PEER, 0);
        asking.handle_up(OTHER, 0);
        asking.handle_word(PEER, true, &[reaches(OTHER, 1)]);
        assert!(!answered(&asking, SLOW_MS_MAX));
        asking.handle_word(OTHER, true, &[]);
        assert!(answered(&asking, 0));
    }

    #[test]
    fn only_a_batch_that_makes_the_own_log_longer_shows_that_it_was_forgotten() {
        let own = writer(OWN);
        assert!(has_forgotten(own, own, None, Some(reaches(OWN, 1))));
        assert!(!has_forgotten(own, own, Some(reaches(OWN, 3)), Some(reaches(OWN, 3))), "it filled a hole");
        assert!(!has_forgotten(own, writer(PEER), None, Some(reaches(PEER, 1))));
        assert!(!has_forgotten(own, Writer { incarnation: 2, ..own }, None, Some(reaches(OWN, 1))));
    }

    fn path() -> RelPath {
        RelPath::new("plan").expect("valid")
    }

    fn file(n: u8) -> What {
        What::File { bytes: 1, content: ContentId([n; 32]) }
    }

    fn seen(n: u8, secs: i64) -> Seen {
        let time = FileTime { secs, nanos: 0 };
        let info = FileInfo { kind: Kind::File, bytes: 1, mode: 0o644, mtime: time, ctime: time, inode: 7 };
        Seen::new(info, file(n))
    }

    fn head(node: NodeId, seq: u64, what: What, after: &[(NodeId, u64)]) -> Head {
        let mut version = VersionVector::default();
        after.iter().chain(&[(node, seq)]).for_each(|(node, seq)| version.advance(writer(*node), *seq));
        let time = Hlc { ms: 100_000, count: 0 };
        let entry = Entry::new(path(), what, 0o644, FileTime { secs: 100, nanos: 0 }, time, version);
        Head { id: EntryId { writer: writer(node), seq }, salted: Salted { salt: [0; 16], entry } }
    }

    /// The first version was on the disk when the backup was made; the second, this node's own, was superseded since.
    fn put_back() -> MemoryIndex {
        let mut index = MemoryIndex::default();
        let [first, second] = [head(OWN, 1, file(1), &[]), head(OWN, 2, file(2), &[])];
        let last = head(PEER, 1, file(3), &[(OWN, 2)]);
        let disk = Some(seen(1, 50).of_version(first.version().clone()));
        let record = PathRecord { heads: vec![last], disk, ..PathRecord::default() };
        index.put_path(&path(), &record).expect("memory");
        index.put_kept(&path(), &second).expect("memory");
        index
    }

    fn follows(index: &mut MemoryIndex, seen: Option<Seen>) -> bool {
        follow(index, vec![Found { path: path(), seen }]).expect("memory").is_empty()
    }

    #[test]
    fn what_is_known_to_be_old_or_is_missing_is_nobodys_change() {
        for old in [Some(seen(2, 60)), Some(seen(3, 100)), None] {
            let mut index = put_back();
            assert!(follows(&mut index, old.clone()), "{old:?}");
            let disk = index.path(&path()).expect("memory").expect("known").disk;
            assert_eq!(disk.map(|disk| disk.what), old.map(|seen| seen.what));
            assert!(!index.needs(None, 1).expect("memory").is_empty(), "it is brought up to date");
        }
    }

    #[test]
    fn what_nobody_knows_is_a_change_and_an_old_one_has_seen_nothing() {
        let mut index = put_back();
        assert!(!follows(&mut index, Some(seen(9, 70))));
        assert!(index.path(&path()).expect("memory").expect("known").disk.is_some());
        assert!(!follows(&mut index, Some(seen(9, 40))));
        assert!(index.path(&path()).expect("memory").expect("known").disk.is_none());
    }

    #[test]
    fn a_file_that_was_deleted_since_follows_its_deletion() {
        let mut index = MemoryIndex::default();
        let end = head(PEER, 2, What::Tombstone { deleted: file(1).content() }, &[]);
        let mut record = PathRecord::default();
        reconcile::merge(&mut record, end);
        index.put_path(&path(), &record).expect("memory");
        assert!(follows(&mut index, Some(seen(1, 50))));
        assert!(index.path(&path()).expect("memory").expect("known").disk.is_some());
    }

    #[test]
    fn a_file_that_nobody_knows_follows_a_deletion_of_its_content_that_came_since() {
        for (n, deleted_since, follows) in [(1, true, true), (2, true, false), (1, false, false)] {
            let mut index = MemoryIndex::default();
            let end = head(PEER, 1, What::Tombstone { deleted: file(1).content() }, &[]);
            let mut record = PathRecord::default();
            let header = Header {
                mesh: MeshId([1; 32]),
                folder: FolderId([2; 32]),
                writer: writer(PEER),
                first: 1,
                previous: None,
                heads: List::truncated(Vec::new()),
                time: Hlc { ms: 1, count: 0 },
                entries: List::truncated(vec![end.salted.entry.hash(&end.salted.salt)]),
            };
            index.put_batch(&Batch::sign(header, &SigningKey::from_bytes(&[7; 32]))).expect("memory");
            reconcile::merge(&mut record, end);
            index.put_path(&path(), &record).expect("memory");
            let found = vec![Found { path: path(), seen: Some(seen(n, 50)) }];
            let rest = follow_deletions(&mut index, found, if deleted_since { 0 } else { 1 }).expect("memory");
            assert_eq!(rest.is_empty(), follows, "{n}, {deleted_since}");
            assert_eq!(index.path(&path()).expect("memory").expect("known").disk.is_some(), follows);
        }
    }

    #[test]
    fn a_change_that_waited_is_as_old_as_its_file_but_younger_than_what_it_has_seen() {
        let mut waiting = Waiting::default();
        waiting.handle_look_below(&RelPath::root(), &BTreeSet::from([path()]), 80_000);
        waiting.handle_look_below(&RelPath::root(), &BTreeSet::from([path()]), 90_000);
        assert_eq!(waiting.count(), 1);
        let (record, base) = (PathRecord::default(), VersionVector::default());
        let time = |info: Option<&FileInfo>| waiting.time(&path(), info, &record, &base, 200_000).ms;
        assert_eq!(time(Some(&seen(1, 50).info)), 50_000);
        assert_eq!(time(Some(&seen(1, 150).info)), 80_000, "a time after it was found is not believed");
        assert_eq!(time(None), 80_000);
        let base = head(PEER, 1, file(1), &[]).version().clone();
        let record = PathRecord { heads: vec![head(PEER, 1, file(1), &[])], ..PathRecord::default() };
        assert!(waiting.time(&path(), None, &record, &base, 200_000) > Hlc { ms: 100_000, count: 0 });
        waiting.handle_look_at(&path(), &BTreeSet::new(), 95_000);
        assert_eq!(waiting.count(), 0);
    }
}
