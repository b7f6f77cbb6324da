//! What happens to a folder when the statements change: entries that do not count any more leave their paths, entries
//! that count now come back, and each path gets the newest versions that count.
//!
//! Rules:
//! 1. the heads of a path are those of its entries that count and that no other such entry has seen. So they depend on
//!    the entries and the statements, not on the order in which these came;
//! 2. hence a superseded entry is *kept* until all holders have its successor on their disks and it is old; one that
//!    was let go of, or never sent, is asked for again when its successor turns out not to count;
//! 3. what this node's user wrote stays on this disk when it does not count: as a local change. What was rejected goes
//!    there too, into the kept versions.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{EntryId, Head, Index, Look, PathRecord, Result};
use super::{history, reconcile};
use crate::base::{NodeId, RelPath, Writer};
use crate::wire::batch::{Batch, Header};
use crate::wire::message::HoleReason;

/// Entries looked at between two reads of the index. A guess: a few batches at once.
const PAGE: usize = 1024;

/// Whether entries count, under all statements that are known here.
pub trait Verdicts {
    /// Whether entry `seq` of a batch, which is about `path`, counts.
    fn counts(&self, header: &Header, seq: u64, path: &RelPath, index: &dyn Look) -> Result<bool>;

    /// Whether an entry that does not count was rejected: then what was before it comes back on its author's disk too.
    fn is_rejected(&self, _header: &Header, _seq: u64, _path: &RelPath, _index: &dyn Look) -> Result<bool> {
        Ok(false)
    }

    /// The last number that both histories of a forked log share; `None`: it has one history, as far as is known.
    fn common(&self, _log: Writer) -> Option<u64> {
        None
    }
}

/// What changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rejudged {
    /// Entries that counted and do not any more.
    pub lost: Vec<EntryId>,
    /// Entries that did not count and do now.
    pub back: Vec<EntryId>,
    /// Entries that are missing and matter now: to be asked for.
    pub missing: Vec<EntryId>,
}

/// Judges everything anew. `own`: this node.
pub fn rejudge(index: &mut dyn Index, verdicts: &dyn Verdicts, own: NodeId) -> Result<Rejudged> {
    let mut batches = Batches::default();
    let mut lost: BTreeMap<RelPath, BTreeSet<EntryId>> = BTreeMap::new();
    let mut rejected = BTreeSet::new();
    let mut after = None;
    loop {
        let page = index.entries_after(after, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (id, path) in page {
            let Some(header) = batches.of(index, id)? else { continue };
            if !verdicts.counts(header, id.seq, &path, index)? {
                if id.writer.node == own && verdicts.is_rejected(header, id.seq, &path, index)? {
                    rejected.insert(id);
                }
                lost.entry(path).or_default().insert(id);
            }
        }
    }
    let mut back = Vec::new();
    let mut after = None;
    loop {
        let page = index.voids_after(after, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (id, salted) in page {
            if let Some(header) = batches.of(index, id)?
                && verdicts.counts(header, id.seq, &salted.entry.path, index)?
            {
                back.push(Head { id, salted });
            }
        }
    }
    let mut done = Rejudged::default();
    for (path, ids) in lost {
        let stays = |head: &Head| head.id.writer.node == own && !rejected.contains(&head.id);
        drop_from(index, &path, &ids, &stays)?;
        done.lost.extend(ids);
    }
    done.lost.sort();
    for head in back {
        let path = head.salted.entry.path.clone();
        done.back.push(head.id);
        index.put_void(head.id, None)?;
        index.put_entry_path(head.id, &path)?;
        let (what, version) = (head.what().clone(), head.version().clone());
        if add(index, &path, head)? {
            reconcile::mark(index, &path)?;
            take_back(index, &path, |record| {
                record.disk.as_mut().filter(|disk| disk.what == what).map(|disk| disk.version.join(&version)).is_some()
            })?;
        }
    }
    done.missing = reopen(index, &done.lost.iter().copied().collect())?;
    Ok(done)
}

/// A local change that counts after all is none any more.
fn take_back(index: &mut dyn Index, path: &RelPath, is_it: impl Fn(&mut PathRecord) -> bool) -> Result<()> {
    let Some(mut record) = index.path(path)?.filter(|record| record.local_only) else { return Ok(()) };
    if is_it(&mut record) {
        record.local_only = false;
        index.put_path(path, &record)?;
    }
    Ok(())
}

/// Adds a version to a path: what it supersedes is kept, and so is itself where another has superseded it. Returns
/// whether it is a head now.
pub fn add(index: &mut dyn Index, path: &RelPath, head: Head) -> Result<bool> {
    let mut record = index.path(path)?.unwrap_or_default();
    let before = record.heads.clone();
    if reconcile::merge(&mut record, head.clone()) {
        keep_superseded(index, path, &before, &record)?;
        index.put_path(path, &record)?;
        return Ok(true);
    }
    if record.head(head.id).is_none() {
        index.put_kept(path, &head)?;
    }
    Ok(false)
}

/// Keeps the heads of before that are none any more.
pub(super) fn keep_superseded(index: &mut dyn Index, path: &RelPath, before: &[Head], now: &PathRecord) -> Result<()> {
    before.iter().filter(|old| now.head(old.id).is_none()).try_for_each(|old| index.put_kept(path, old))
}

/// Entries of a path do not count any more: they are kept apart, and what they had superseded is looked at again.
fn drop_from(
    index: &mut dyn Index,
    path: &RelPath,
    ids: &BTreeSet<EntryId>,
    stays: &dyn Fn(&Head) -> bool,
) -> Result<()> {
    let mut record = index.path(path)?.unwrap_or_default();
    let before: Vec<EntryId> = record.heads.iter().map(|head| head.id).collect();
    let kept = index.kept(path)?;
    for id in ids {
        index.forget_entry(*id)?;
    }
    let mut valid = PathRecord::default();
    for head in record.heads.iter().chain(&kept) {
        if ids.contains(&head.id) {
            index.put_void(head.id, Some(&head.salted))?;
            index.forget_kept(path, head.id)?;
        } else {
            reconcile::merge(&mut valid, head.clone());
        }
    }
    let on_disk = record.disk.as_ref().map(|disk| &disk.what);
    let lost = || record.heads.iter().filter(|head| ids.contains(&head.id) && stays(head));
    let is_own = lost().any(|head| on_disk == Some(head.what()));
    let beside: BTreeSet<EntryId> = lost().map(|head| head.id).collect();
    record.heads = valid.heads;
    record.local_only |= is_own && !record.heads.iter().any(|head| on_disk == Some(head.what()));
    for head in record.heads.iter().filter(|head| !before.contains(&head.id)) {
        index.forget_kept(path, head.id)?;
    }
    if !beside.is_empty() {
        stay_beside(index, &mut record, &beside)?;
    }
    if record.heads.iter().map(|head| head.id).ne(before) {
        index.put_path(path, &record)?;
        reconcile::mark(index, path)?;
    }
    Ok(())
}

/// What lies beside as the conflict copy of one of these stays there as a local change of its own.
fn stay_beside(index: &mut dyn Index, record: &mut PathRecord, ids: &BTreeSet<EntryId>) -> Result<()> {
    for name in std::mem::take(&mut record.copies) {
        match index.path(&name)? {
            Some(mut copy) if copy.disk.is_some() && copy.copy_of.as_ref().is_some_and(|(_, of)| ids.contains(of)) => {
                copy.copy_of = None;
                copy.local_only = true;
                index.put_path(&name, &copy)?;
            }
            _ => record.copies.push(name),
        }
    }
    Ok(())
}

/// What has no effect supersedes nothing: entries that were left out for its sake are asked for again.
pub(super) fn reopen(index: &mut dyn Index, void: &BTreeSet<EntryId>) -> Result<Vec<EntryId>> {
    if void.is_empty() {
        return Ok(Vec::new());
    }
    let missing = index.superseded_by(void)?;
    for id in &missing {
        index.put_hole(*id, Some(HoleReason::Missing))?;
    }
    Ok(missing)
}

/// Lets go of superseded entries that were replaced before `until_ms` and whose successor `everywhere` says is on the disk
/// of all who hold the folder. Returns how many.
pub fn prune(index: &mut dyn Index, until_ms: u64, everywhere: &dyn Fn(EntryId) -> bool) -> Result<usize> {
    let mut pruned = 0;
    let mut after = None;
    loop {
        let page = index.entries_after(after, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(pruned) };
        after = Some(*last);
        for (id, path) in page {
            let record = index.path(&path)?.unwrap_or_default();
            if record.head(id).is_some() {
                continue;
            }
            let mut entries = index.kept(&path)?;
            let Some(old) = entries.iter().find(|head| head.id == id).cloned() else { continue };
            entries.extend(record.heads.iter().cloned());
            // What was a path's content until lately can still be asked back, however old it is itself.
            let is_old = history::replaced_ms(&old, &entries).is_none_or(|at| at < until_ms);
            let later = record.heads.iter().find(|head| head.version().seen(id.writer) >= id.seq);
            let later = later.filter(|later| is_old && old.salted.entry.time.ms < until_ms && everywhere(later.id));
            if let Some(later) = later {
                index.forget_kept(&path, id)?;
                index.forget_entry(id)?;
                index.put_hole(id, Some(HoleReason::Superseded(later.id.writer, later.id.seq)))?;
                pruned += 1;
            }
        }
    }
}

/// Headers of batches by entry; entries come in runs of one batch.
#[derive(Default)]
struct Batches {
    last: Option<Batch>,
}

impl Batches {
    fn of(&mut self, index: &dyn Index, id: EntryId) -> Result<Option<&Header>> {
        let holds = |batch: &Batch| {
            let header = batch.header();
            header.writer == id.writer && (header.first..=header.last()).contains(&id.seq)
        };
        if !self.last.as_ref().is_some_and(holds) {
            self.last = index.batch_of(id)?.map(|(_, batch)| batch);
        }
        Ok(self.last.as_ref().map(Batch::header))
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::base::time::HlcClock;
    use crate::base::{ContentId, FileInfo, FileTime, FolderId, Kind, Level, MeshId};
    use crate::logic::sync::index::MemoryIndex;
    use crate::logic::sync::local_only::{regain, take_back};
    use crate::logic::sync::reconcile::Target;
    use crate::logic::sync::replica::{self, Author, Authored, Found, Rules, Seen};
    use crate::wire::batch::What;

    const IDS: (MeshId, FolderId) = (MeshId([1; 32]), FolderId([2; 32]));

    /// Who may write, and whose entries from which number on do not count.
    struct Office {
        may_write: bool,
        freeze: Option<(u8, u64)>,
    }

    impl Rules for Office {
        fn permits(&self, _: NodeId, _: &RelPath, level: Level) -> bool {
            level <= Level::Read || self.may_write
        }
    }

    impl Verdicts for Office {
        fn counts(&self, header: &Header, seq: u64, _: &RelPath, _: &dyn Look) -> Result<bool> {
            Ok(self.freeze.is_none_or(|(n, from)| header.writer != writer(n) || seq < from))
        }
    }

    const OPEN: Office = Office { may_write: true, freeze: None };

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn writer(n: u8) -> Writer {
        Writer { node: NodeId(key(n).verifying_key().to_bytes()), incarnation: 1 }
    }

    fn name() -> RelPath {
        RelPath::new("a").expect("valid")
    }

    fn file(n: u8) -> What {
        What::File { bytes: 1, content: ContentId([n; 32]) }
    }

    fn info(n: u8) -> FileInfo {
        let mtime = FileTime { secs: i64::from(n), nanos: 0 };
        FileInfo { kind: Kind::File, bytes: 1, mode: 0o644, mtime, ctime: mtime, inode: u64::from(n) }
    }

    /// `n` has content `what` under the name, or nothing.
    fn save(index: &mut MemoryIndex, n: u8, what: Option<u8>, rules: &Office) -> Vec<Authored> {
        let key = key(n);
        let seed = [0; 32];
        let (mesh, folder) = IDS;
        let author = Author { mesh, folder, writer: writer(n), key: &key, heads: Vec::new(), rules, seed, late: None };
        let seen = what.map(|what| Seen::new(info(what), file(what)));
        let found = vec![Found { path: name(), seen }];
        replica::author(index, &author, &mut HlcClock::default(), 10, found).expect("memory")
    }

    fn take(index: &mut MemoryIndex, signed: &[Authored]) {
        for authored in signed {
            let entries = authored.entries.iter().cloned().enumerate().collect();
            replica::receive(index, IDS, &OPEN, &authored.batch, entries, &[]).expect("sound");
        }
    }

    fn put_all(index: &mut MemoryIndex) {
        for action in reconcile::plan(index, &name()).expect("memory") {
            let info = match &action.target {
                Target::Put { what, .. } => Some(info(what.content().expect("a file").0[0])),
                _ => None,
            };
            reconcile::done(index, &action, info, false, Default::default()).expect("memory");
        }
    }

    fn on_disk(index: &MemoryIndex) -> Option<What> {
        index.path(&name()).expect("memory").and_then(|record| record.disk).map(|disk| disk.what)
    }

    /// Node 1 saved 1, node 2 saved 2 on top of it; both know all.
    fn two_saves() -> (MemoryIndex, MemoryIndex) {
        let (mut one, mut two) = (MemoryIndex::default(), MemoryIndex::default());
        take(&mut two, &save(&mut one, 1, Some(1), &OPEN));
        put_all(&mut two);
        take(&mut one, &save(&mut two, 2, Some(2), &OPEN));
        put_all(&mut one);
        (one, two)
    }

    const LATE: Office = Office { may_write: true, freeze: Some((2, 1)) };

    #[test]
    fn the_newest_version_that_counts_comes_back() {
        let (mut one, _) = two_saves();
        assert_eq!(on_disk(&one), Some(file(2)));
        let done = rejudge(&mut one, &LATE, writer(1).node).expect("memory");
        assert_eq!(done.lost, [EntryId { writer: writer(2), seq: 1 }]);
        put_all(&mut one);
        assert_eq!(on_disk(&one), Some(file(1)));
        assert_eq!(one.voids_after(None, 9).expect("memory").len(), 1);
        // Kept after all.
        assert_eq!(rejudge(&mut one, &OPEN, writer(1).node).expect("memory").back, done.lost);
        put_all(&mut one);
        assert_eq!(on_disk(&one), Some(file(2)));
    }

    #[test]
    fn an_edit_on_top_of_what_does_not_count_stands() {
        let (mut one, _) = two_saves();
        save(&mut one, 1, Some(3), &OPEN);
        rejudge(&mut one, &LATE, writer(1).node).expect("memory");
        put_all(&mut one);
        assert_eq!(on_disk(&one), Some(file(3)));
        assert_eq!(one.path(&name()).expect("memory").expect("known").heads.len(), 1);
    }

    #[test]
    fn own_late_work_stays_on_its_disk_and_is_signed_once_it_may_be() {
        let (_, mut two) = two_saves();
        rejudge(&mut two, &LATE, writer(2).node).expect("memory");
        put_all(&mut two);
        assert_eq!(on_disk(&two), Some(file(2)));
        assert_eq!(two.local_only(None, 9).expect("memory"), [name()]);
        let barred = Office { may_write: false, freeze: LATE.freeze };
        assert!(save(&mut two, 2, Some(2), &barred).is_empty());
        assert_eq!(regain(&mut two, &|_| true).expect("memory"), [name()]);
        assert_eq!(save(&mut two, 2, Some(2), &OPEN).len(), 1);
        assert_eq!(two.local_only_count().expect("memory"), 0);
    }

    #[test]
    fn own_late_work_that_lies_beside_stays_there_too() {
        // Of two at the same time the greater writer wins.
        let (loser, winner) = if writer(1) < writer(2) { (1, 2) } else { (2, 1) };
        let (mut here, mut there) = (MemoryIndex::default(), MemoryIndex::default());
        save(&mut here, loser, Some(loser), &OPEN);
        take(&mut here, &save(&mut there, winner, Some(winner), &OPEN));
        put_all(&mut here);
        put_all(&mut here);
        let copy = here.path(&name()).expect("memory").expect("known").copies.first().expect("a conflict").clone();
        let beside = |here: &MemoryIndex| here.path(&copy).expect("memory").and_then(|copy| copy.disk).map(|d| d.what);
        assert_eq!(beside(&here), Some(file(loser)));
        let late = Office { may_write: true, freeze: Some((loser, 1)) };
        rejudge(&mut here, &late, writer(loser).node).expect("memory");
        put_all(&mut here);
        assert_eq!(here.local_only(None, 9).expect("memory"), std::slice::from_ref(&copy));
        assert_eq!(beside(&here), Some(file(loser)));
    }

    #[test]
    fn what_was_rejected_leaves_its_authors_disk_too() {
        struct Rejects;
        impl Verdicts for Rejects {
            fn counts(&self, header: &Header, _: u64, _: &RelPath, _: &dyn Look) -> Result<bool> {
                Ok(header.writer != writer(2))
            }
            fn is_rejected(&self, _: &Header, _: u64, _: &RelPath, _: &dyn Look) -> Result<bool> {
                Ok(true)
            }
        }
        let (mut one, mut two) = two_saves();
        for (index, n) in [(&mut one, 1), (&mut two, 2)] {
            rejudge(index, &Rejects, writer(n).node).expect("memory");
            put_all(index);
            assert_eq!(on_disk(index), Some(file(1)), "on the disk of {n}");
            assert_eq!(index.local_only_count().expect("memory"), 0);
        }
    }

    #[test]
    fn a_local_change_is_not_spread_and_can_be_given_up() {
        let (mut one, _) = two_saves();
        let barred = Office { may_write: false, freeze: None };
        assert!(save(&mut one, 1, Some(9), &barred).is_empty());
        put_all(&mut one);
        assert_eq!(on_disk(&one), Some(file(9)), "it is not replaced either");
        assert_eq!(take_back(&mut one, &RelPath::root()).expect("memory"), [name()]);
        put_all(&mut one);
        assert_eq!(on_disk(&one), Some(file(2)));
    }

    #[test]
    fn a_deletion_without_the_right_is_not_carried_out_later() {
        let (mut one, _) = two_saves();
        assert!(save(&mut one, 1, None, &Office { may_write: false, freeze: None }).is_empty());
        assert!(regain(&mut one, &|_| true).expect("memory").is_empty());
        put_all(&mut one);
        assert_eq!(on_disk(&one), Some(file(2)));
    }

    #[test]
    fn what_was_let_go_of_is_asked_for_when_its_successor_does_not_count() {
        let (mut one, _) = two_saves();
        let old = EntryId { writer: writer(1), seq: 1 };
        assert_eq!(prune(&mut one, 10, &|_| true).expect("memory"), 0, "it is not old enough");
        assert_eq!(prune(&mut one, 11, &|_| false).expect("memory"), 0, "not everyone has its successor");
        assert_eq!(prune(&mut one, 11, &|_| true).expect("memory"), 1);
        let done = rejudge(&mut one, &LATE, writer(1).node).expect("memory");
        assert_eq!(done.missing, [old]);
        assert_eq!(one.holes_to_ask(9).expect("memory"), [old]);
    }

    #[test]
    fn what_has_seen_a_history_that_never_arrives_waits_only_until_the_fork_is_known() {
        struct Forked(Option<u64>);
        impl Verdicts for Forked {
            fn counts(&self, header: &Header, seq: u64, _: &RelPath, _: &dyn Look) -> Result<bool> {
                Ok(header.writer != writer(1) || seq <= self.0.unwrap_or(u64::MAX))
            }
            fn common(&self, log: Writer) -> Option<u64> {
                self.0.filter(|_| log == writer(1))
            }
        }
        // Node 1 signed a second save, which only node 2 was shown; node 2 saves on top of it.
        let (mut one, mut two, mut three) = (MemoryIndex::default(), MemoryIndex::default(), MemoryIndex::default());
        let first = save(&mut one, 1, Some(1), &OPEN);
        take(&mut two, &first);
        take(&mut three, &first);
        take(&mut two, &save(&mut one, 1, Some(2), &OPEN));
        put_all(&mut two);
        let edit = save(&mut two, 2, Some(3), &OPEN);
        let entries = || edit[0].entries.iter().cloned().enumerate().collect();
        let mut offer = |verdicts: &Forked| {
            replica::receive(&mut three, IDS, verdicts, &edit[0].batch, entries(), &[]).expect("sound")
        };
        assert_eq!(offer(&Forked(None)), replica::Received::Early);
        assert!(matches!(offer(&Forked(Some(1))), replica::Received::Taken(_)));
    }
}
