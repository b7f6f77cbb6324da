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
use super::index::{EntryId, Head, Index, Look, OnDisk, PathRecord, Result, Walk};
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
/// Changes that wait are remembered one by one up to this many. Above it only their number is not exact.
pub const WAITING_MAX: usize = 50_000;

/// Whether a batch that others brought shows that this node forgot part of its own log: `before` and `after` are how far
/// that reached without and with it.
pub fn has_forgotten(own: Writer, of: Writer, before: Option<Frontier>, after: Option<Frontier>) -> bool {
    own == of && before.map_or(0, |f| f.seq) < after.map_or(0, |f| f.seq)
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

    /// A peer can be reached.
    pub fn handle_up(&mut self, node: NodeId, now_ms: u64) {
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

    /// Whether enough was heard, and is here. `common`: what both histories share of a log that forked, for of the rest
    /// each peer has its own. `took_ms`: when something last came.
    pub fn is_answered(
        &self,
        index: &(impl Look + ?Sized),
        common: &dyn Fn(Writer) -> Option<u64>,
        took_ms: u64,
        now_ms: u64,
    ) -> Result<bool> {
        let Some(since) = self.since_ms.filter(|_| !self.words.is_empty()) else { return Ok(false) };
        if !self.is_new && now_ms < since + SETTLE_MS {
            return Ok(false);
        }
        let ours: BTreeMap<Writer, u64> = index.frontiers()?.into_iter().map(|f| (f.writer, f.seq)).collect();
        let has = |f: &Frontier| {
            let wanted = f.seq.min(common(f.writer).unwrap_or(u64::MAX));
            wanted == 0 || ours.get(&f.writer).is_some_and(|seq| *seq >= wanted)
        };
        let merged = self.words.values().filter(|word| word.iter().all(has)).count();
        if self.is_new {
            return Ok(merged > 0);
        }
        let silent = self.linked.len() - self.words.len();
        let all = merged == self.words.len() && (silent == 0 || now_ms >= since + SILENT_MS_MAX);
        Ok(all || now_ms >= since.max(took_ms) + SLOW_MS_MAX)
    }

    /// When to look again though nothing happens.
    pub fn wake_ms(&self, now_ms: u64) -> Option<u64> {
        let since = self.since_ms.filter(|_| !self.words.is_empty())?;
        [SETTLE_MS, SILENT_MS_MAX, SLOW_MS_MAX].into_iter().map(|wait| since + wait).find(|at| *at > now_ms)
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
                Some(version) => {
                    let Seen { info, what, recheck } = seen.clone();
                    Some(OnDisk { info, what, version, recheck })
                }
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
