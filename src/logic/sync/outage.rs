//! What a machine that went down without warning took back of the changes that this node had announced.
//!
//! A program's save reaches the disk some time after it reaches this node, and a power cut in between leaves the name
//! missing, shorter, or as it was before. Such a state is nobody's edit: announced, it would undo the change everywhere.
//! So at the first look after such a start, what this node announced shortly before is read again, even where length and
//! times are as they were: a file that was written in place may have its new times and its old bytes. What is less
//! than it was announced as is noted as it is on the disk and brought back from the peers. What is there instead goes to the
//! kept versions.

use super::index::{EntryId, Head, Index, OnDisk, PathRecord, Result};
use super::reconcile;
use super::replica::Found;
use crate::base::{NodeId, VersionVector, Writer};
use crate::wire::batch::What;

/// How long before the end of its log what a node announced may not have reached its disk. Linux writes after half a
/// minute at the latest, with laptop mode after ten minutes.
pub const UNFLUSHED_MS_MAX: u64 = 10 * 60 * 1000;

/// When the machine went down, and when this node was up again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outage {
    /// What was announced since may not have reached the disk.
    pub since_ms: u64,
    /// When the node started after it, by the machine's clock. What was saved after that was saved by somebody.
    pub until_ms: u64,
}

/// Marks what this node announced since `since_ms`, so that the next look reads it whatever its times say: at most `most` of
/// its entries after `after`. Returns after which to go on.
pub fn read_again(
    index: &mut dyn Index,
    own: NodeId,
    since_ms: u64,
    (after, most): (Option<EntryId>, usize),
) -> Result<Option<EntryId>> {
    let first = EntryId { writer: Writer { node: own, incarnation: 0 }, seq: 0 };
    let page = index.entries_after(Some(after.unwrap_or(first)), most)?;
    let own_ones: Vec<_> = page.into_iter().take_while(|(id, _)| id.writer.node == own).collect();
    for (id, path) in &own_ones {
        let Some(mut record) = index.path(path)? else { continue };
        let head = record.head(*id).cloned();
        let of = head.or(index.kept(path)?.into_iter().find(|kept| kept.id == *id));
        let is_recent = of.is_some_and(|head| head.salted.entry.time.ms >= since_ms);
        if let Some(disk) = record.disk.as_mut().filter(|disk| is_recent && !disk.recheck) {
            disk.recheck = true;
            index.put_path(path, &record)?;
        }
    }
    Ok(own_ones.last().filter(|_| own_ones.len() == most).map(|(id, _)| *id))
}

/// Whether what was found is a change of this node's that did not reach the disk, rather than a new one.
///
/// `kept` are versions that others superseded since; their content may not have been put in place yet.
fn is_taken_back(record: &PathRecord, kept: &[Head], found: &Found, own: NodeId, outage: Outage) -> bool {
    let Outage { since_ms, until_ms } = outage;
    let recent = |head: &&Head| head.id.writer.node == own && head.salted.entry.time.ms >= since_ms;
    let standing = record.heads.iter().find(recent);
    match (&record.disk, &found.seen) {
        (Some(_), _) if standing.or(kept.iter().find(recent)).is_none() => false,
        (Some(_), None) => true,
        (Some(disk), Some(seen)) => {
            // Nothing has touched it since: a time of modification can be set to what it was.
            let is_older = seen.info.ctime.to_ms() < until_ms;
            let less = is_older && (seen.info.bytes < disk.info.bytes || seen.info.mtime <= disk.info.mtime);
            disk.what != seen.what && matches!(seen.what, What::File { .. }) && less
        }
        // Removed, and back: nothing has touched it since before its removal was announced.
        (None, Some(seen)) => {
            let until_ms = standing.map_or(0, |head| head.salted.entry.time.ms.min(until_ms));
            standing.is_some_and(|head| !head.is_live() && seen.info.ctime.to_ms() < until_ms)
        }
        (None, None) => false,
    }
}

/// Notes of each thing found that is such a change, that it is to be brought back; returns the others, and how many
/// these were.
pub fn bring_back(
    index: &mut dyn Index,
    found: Vec<Found>,
    own: NodeId,
    outage: Outage,
) -> Result<(Vec<Found>, usize)> {
    let count = found.len();
    let mut others = Vec::with_capacity(count);
    for found in found {
        let mut record = index.path(&found.path)?.unwrap_or_default();
        if !is_taken_back(&record, &index.kept(&found.path)?, &found, own, outage) {
            others.push(found);
            continue;
        }
        let version = VersionVector::default();
        record.disk = found.seen.map(|seen| OnDisk::new(seen.info, seen.what, version));
        index.put_path(&found.path, &record)?;
        reconcile::mark(index, &found.path)?;
    }
    let back = count - others.len();
    Ok((others, back))
}

#[cfg(test)]
mod tests {
    use super::super::replica::Seen;
    use super::*;
    use crate::base::{ContentId, FileInfo, FileTime, Hlc, Kind, RelPath, Writer};
    use crate::wire::batch::{Entry, Salted};

    const OWN: NodeId = NodeId([1; 32]);
    const SINCE_MS: u64 = 50_000;
    const OUTAGE: Outage = Outage { since_ms: SINCE_MS, until_ms: 70_000 };

    fn info(bytes: u64, secs: i64) -> FileInfo {
        let time = FileTime { secs, nanos: 0 };
        FileInfo { kind: Kind::File, bytes, mode: 0o644, mtime: time, ctime: time, inode: 7 }
    }

    fn file(n: u8, bytes: u64) -> What {
        What::File { bytes, content: ContentId([n; 32]) }
    }

    fn path() -> RelPath {
        RelPath::new("report.odt").expect("valid")
    }

    /// Announced by this node at 60 s, when the file on the disk was of that second.
    fn announced(node: NodeId, what: What) -> PathRecord {
        let writer = Writer { node, incarnation: 1 };
        let version = VersionVector::default();
        let entry = Entry::new(path(), what.clone(), 0, FileTime::default(), Hlc { ms: 60_000, count: 0 }, version);
        let head = Head { id: EntryId { writer, seq: 1 }, salted: Salted { salt: [0; 16], entry } };
        let on_disk = |bytes| OnDisk::new(info(bytes, 60), what.clone(), VersionVector::default());
        let disk = if let What::File { bytes, .. } = what { Some(on_disk(bytes)) } else { None };
        PathRecord { heads: vec![head], disk, ..PathRecord::default() }
    }

    fn found(seen: Option<(What, FileInfo)>) -> Found {
        Found { path: path(), seen: seen.map(|(what, info)| Seen::new(info, what)) }
    }

    fn back(record: &PathRecord, found: &Found) -> bool {
        is_taken_back(record, &[], found, OWN, OUTAGE)
    }

    #[test]
    fn what_this_node_announced_shortly_before_is_read_again() {
        use super::super::index::{Look, MemoryIndex};
        for (node, since_ms, read) in [(OWN, SINCE_MS, true), (OWN, 60_001, false), (NodeId([2; 32]), SINCE_MS, false)]
        {
            let mut index = MemoryIndex::default();
            let record = announced(node, file(1, 100));
            index.put_path(&path(), &record).expect("memory");
            index.put_entry_path(record.heads[0].id, &path()).expect("memory");
            let next = read_again(&mut index, OWN, since_ms, (None, 1)).expect("memory");
            if let Some(next) = next {
                assert_eq!(read_again(&mut index, OWN, since_ms, (Some(next), 1)).expect("memory"), None);
            }
            let disk = index.path(&path()).expect("memory").and_then(|record| record.disk);
            assert_eq!(disk.map(|disk| disk.recheck), Some(read));
        }
    }

    #[test]
    fn what_is_missing_shorter_or_older_than_announced_was_taken_back() {
        let record = announced(OWN, file(1, 100));
        assert!(back(&record, &found(None)));
        assert!(back(&record, &found(Some((file(2, 0), info(0, 61))))));
        assert!(back(&record, &found(Some((file(2, 500), info(500, 40))))));
    }

    #[test]
    fn what_was_saved_after_the_node_came_up_is_an_edit_however_short() {
        let record = announced(OWN, file(1, 100));
        assert!(back(&record, &found(Some((file(2, 1), info(1, 69))))));
        assert!(!back(&record, &found(Some((file(2, 1), info(1, 70))))));
    }

    #[test]
    fn what_was_edited_since_or_is_as_announced_was_not() {
        let record = announced(OWN, file(1, 100));
        assert!(!back(&record, &found(Some((file(2, 120), info(120, 61))))));
        assert!(!back(&record, &found(Some((file(1, 100), info(100, 40))))));
    }

    #[test]
    fn a_removed_file_that_is_back_as_it_was_is_removed_again_and_one_made_since_is_new() {
        let record = announced(OWN, What::Tombstone { deleted: None });
        assert!(back(&record, &found(Some((file(1, 100), info(100, 40))))));
        assert!(!back(&record, &found(Some((file(1, 100), info(100, 61))))));
    }

    #[test]
    fn what_others_announced_or_this_node_long_ago_is_on_the_disk() {
        assert!(!back(&announced(NodeId([2; 32]), file(1, 100)), &found(None)));
        assert!(!is_taken_back(
            &announced(OWN, file(1, 100)),
            &[],
            &found(None),
            OWN,
            Outage { since_ms: 60_001, ..OUTAGE }
        ));
    }

    #[test]
    fn what_others_superseded_and_is_not_replaced_yet_is_no_edit_of_its_user() {
        let PathRecord { heads, disk, .. } = announced(OWN, file(1, 100));
        let record = PathRecord { disk, ..announced(NodeId([2; 32]), What::Tombstone { deleted: None }) };
        let empty = found(Some((file(2, 0), info(0, 61))));
        assert!(is_taken_back(&record, &heads, &empty, OWN, OUTAGE));
        assert!(!is_taken_back(&record, &[], &empty, OWN, OUTAGE));
    }
}
