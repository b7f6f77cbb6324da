//! What a folder was at a moment, as far as its entries are kept, and what has to change for it to be so again.
//!
//! The same rule as for the present decides: of the entries signed up to the moment those count that no other of them
//! has seen, see `conflict`. Of a conflict at that moment the winner comes back; conflict copies are neither
//! made nor touched. What was there at the moment but is not known here is named, never taken for nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::conflict::{self, Main};
use super::index::{EntryId, Head, Look, PathRecord, Result};
use super::reconcile::{self, Target};
use super::selection::Selection;
use crate::base::{FileInfo, Kind, RelPath};
use crate::wire::batch::{Entry, What};
use crate::wire::message::HoleReason;

/// Names looked at in one step.
const PAGE: usize = 1024;

/// One version of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Past {
    /// Its entry.
    pub head: Head,
    /// When another replaced it, milliseconds since 1970 UTC; `None`: none has.
    pub until_ms: Option<u64>,
}

/// Every version of a path that is known, newest first.
pub fn of(look: &(impl Look + ?Sized), path: &RelPath) -> Result<Vec<Past>> {
    let entries = entries(look, path)?;
    let until = |head: &Head| entries.iter().filter_map(|later| replaced(head, later)).min();
    let mut past: Vec<Past> = entries.iter().map(|head| Past { head: head.clone(), until_ms: until(head) }).collect();
    past.sort_by_key(|past| std::cmp::Reverse((past.head.salted.entry.time, past.head.id)));
    Ok(past)
}

/// When `later` replaced `head`, if it did.
fn replaced(head: &Head, later: &Head) -> Option<u64> {
    (later.id != head.id && later.version().covers(head.version())).then_some(later.salted.entry.time.ms)
}

/// When an entry of a path was first replaced.
pub fn replaced_ms(head: &Head, others: &[Head]) -> Option<u64> {
    others.iter().filter_map(|later| replaced(head, later)).min()
}

/// Entries of a path that an entry of another node replaced first: those may be asked back should that one lose its effect.
pub fn replaced_by_others(look: &(impl Look + ?Sized), path: &RelPath) -> Result<Vec<Entry>> {
    let entries = entries(look, path)?;
    let is_others = |head: &&Head| {
        let later = entries.iter().filter_map(|later| Some((replaced(head, later)?, later.id)));
        later.min().is_some_and(|(_, id)| id.writer.node != head.id.writer.node)
    };
    Ok(entries.iter().filter(is_others).map(|head| head.salted.entry.clone()).collect())
}

fn entries(look: &(impl Look + ?Sized), path: &RelPath) -> Result<Vec<Head>> {
    let mut entries = look.path(path)?.unwrap_or_default().heads;
    entries.extend(look.kept(path)?);
    Ok(entries)
}

/// What a path was: its heads at the moment.
fn record_at(entries: &[Head], at_ms: u64) -> PathRecord {
    let mut record = PathRecord::default();
    for head in entries.iter().filter(|head| head.salted.entry.time.ms <= at_ms) {
        reconcile::merge(&mut record, head.clone());
    }
    record
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The name.
    pub path: RelPath,
    /// What this node believes is there.
    pub expected: Option<FileInfo>,
    /// What shall be there.
    pub target: Target,
}

/// What brings a path, with all below it, back to a moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Removals that make room for what is to come, deepest first.
    pub room: Vec<Step>,
    /// What comes back or changes; directories before what is in them.
    pub puts: Vec<Step>,
    /// Other removals, deepest first.
    pub removals: Vec<Step>,
    /// Names that were there, or may have been, and of which it is not known here what they were.
    pub unknown: Vec<RelPath>,
    /// Names that were there, but are not received here.
    pub not_here: Vec<RelPath>,
    /// Names that are as they were.
    pub same: u64,
    /// Whether anything was there at the moment.
    pub lived: bool,
}

/// Where it shall be so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Where<'a> {
    /// In the folder, of which this much is received here.
    InPlace(&'a Selection),
    /// Elsewhere, where nothing is.
    Elsewhere,
}

/// A name on the current path of the walk, whose step waits for what is below.
struct Above {
    path: RelPath,
    step: Option<Step>,
    /// Something below it was there at the moment.
    holds: bool,
}

/// Plans how `top` and all below it become what they were at `at_ms`.
pub fn plan(look: &(impl Look + ?Sized), top: &RelPath, at_ms: u64, place: Where<'_>) -> Result<Plan> {
    let mut walk = Planning {
        plan: Plan::default(),
        above: Vec::new(),
        later: BTreeMap::new(),
        known_ms: BTreeMap::new(),
        for_group: look.is_for_group(),
    };
    let mut from = Some(top.clone());
    while let Some(start) = from.take() {
        let (page, next) = look.page(top, &start, PAGE)?;
        from = next;
        for (path, record) in page {
            if !path.is_root() && !record.heads.is_empty() {
                let mut entries = record.heads.clone();
                entries.extend(look.kept(&path)?);
                walk.see(path, record, &entries, at_ms, place);
            }
        }
    }
    walk.leave(None);
    let Planning { mut plan, later, known_ms, .. } = walk;
    let doubtful = doubtful(look, later, &known_ms, at_ms)?;
    plan.removals.retain(|step| !doubtful.contains(&step.path));
    plan.puts.retain(|step| !doubtful.contains(&step.path));
    plan.removals.sort_by(|a, b| b.path.cmp(&a.path));
    plan.puts.sort_by(|a, b| a.path.cmp(&b.path));
    plan.unknown.extend(doubtful);
    let is_dir = |step: &Step| step.expected.is_some_and(|info| info.kind == Kind::Dir);
    let gives_way =
        |step: &&Step| is_dir(step) && matches!(&step.target, Target::Put { what, .. } if *what != What::Dir);
    let tops: BTreeSet<RelPath> = plan.puts.iter().filter(gives_way).map(|step| step.path.clone()).collect();
    let makes_room = |step: &Step| step.path.ancestors().any(|above| tops.contains(&above));
    (plan.room, plan.removals) = std::mem::take(&mut plan.removals).into_iter().partition(makes_room);
    Ok(plan)
}

/// Names of whose past the part is missing that matters: an entry that a later one superseded, signed up to the moment, but
/// after what is known of it. When it was signed its batch says, which is kept.
fn doubtful(
    look: &(impl Look + ?Sized),
    later: BTreeMap<EntryId, RelPath>,
    known_ms: &BTreeMap<RelPath, u64>,
    at_ms: u64,
) -> Result<BTreeSet<RelPath>> {
    let mut doubtful = BTreeSet::new();
    let mut names = later.clone();
    let mut ends: BTreeSet<EntryId> = later.into_keys().collect();
    // What superseded an entry can be missing itself: back from link to link.
    while !ends.is_empty() {
        let mut found = BTreeSet::new();
        for missing in look.superseded_by(&ends)? {
            let Some(HoleReason::Superseded(writer, seq)) = look.hole(missing)? else { continue };
            let Some(path) = names.get(&EntryId { writer, seq }).cloned() else { continue };
            if names.insert(missing, path.clone()).is_none() {
                found.insert(missing);
            }
            let signed_ms = look.batch_of(missing)?.map(|(_, batch)| batch.header().time.ms);
            let known = known_ms.get(&path).copied().unwrap_or(0);
            if signed_ms.is_none_or(|signed| signed > known && signed <= at_ms) {
                doubtful.insert(path);
            }
        }
        ends = found;
    }
    Ok(doubtful)
}

struct Planning {
    plan: Plan,
    above: Vec<Above>,
    /// Entries signed after the moment, with their names.
    later: BTreeMap<EntryId, RelPath>,
    /// The time of what these names were at the moment, as far as it is known; 0 for nothing.
    known_ms: BTreeMap<RelPath, u64>,
    /// See `Look::is_for_group`.
    for_group: bool,
}

impl Planning {
    fn see(&mut self, path: RelPath, record: PathRecord, entries: &[Head], at_ms: u64, place: Where<'_>) {
        self.leave(Some(&path));
        let then = record_at(entries, at_ms);
        let later = entries.iter().filter(|head| head.salted.entry.time.ms > at_ms);
        let before = self.later.len();
        self.later.extend(later.map(|head| (head.id, path.clone())));
        if self.later.len() > before {
            let newest = then.heads.iter().map(|head| head.salted.entry.time.ms).max();
            self.known_ms.insert(path.clone(), newest.unwrap_or(0));
        }
        let wanted = match conflict::view(&then, false).main {
            Main::Head(head) => {
                let entry = &head.salted.entry;
                Some((entry.what.clone(), entry.mode, entry.mtime))
            }
            Main::Nothing | Main::ImpliedDir => None,
        };
        if wanted.is_some() {
            self.plan.lived = true;
            self.above.iter_mut().for_each(|above| above.holds = true);
        }
        let now = match place {
            Where::InPlace(_) => record.disk.filter(|_| record.copy_of.is_none()),
            Where::Elsewhere => None,
        };
        if let Where::InPlace(selection) = place
            && now.is_none()
            && !selection.covers(&path)
        {
            if wanted.is_some() {
                self.plan.not_here.push(path);
            }
            return;
        }
        let step = match reconcile::differs(now.as_ref(), wanted.as_ref(), self.for_group) {
            Some(target) => {
                let expected = now.as_ref().map(|disk| disk.info);
                Some(Step { path: path.clone(), expected, target })
            }
            None => {
                self.plan.same += u64::from(wanted.is_some());
                None
            }
        };
        self.above.push(Above { path, step, holds: false });
    }

    /// The walk leaves every name that does not hold `next`.
    fn leave(&mut self, next: Option<&RelPath>) {
        while let Some(last) = self.above.pop_if(|last| next.is_none_or(|next| !next.starts_with(&last.path))) {
            let Some(step) = last.step else { continue };
            let was_dir = step.expected.is_some_and(|info| info.kind == Kind::Dir);
            match &step.target {
                // What held something was a directory at least.
                Target::Nothing if last.holds && was_dir => self.plan.same += 1,
                Target::Put { what, .. } if last.holds && *what != What::Dir => {}
                Target::Nothing => self.plan.removals.push(step),
                _ => self.plan.puts.push(step),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ContentId, FileTime, FolderId, Hlc, MeshId, NodeId, VersionVector, Writer};
    use crate::logic::sync::index::{Index, MemoryIndex, OnDisk};
    use crate::wire::batch::{Batch, Header, Salted};
    use crate::wire::codec::List;

    const WRITER: Writer = Writer { node: NodeId([1; 32]), incarnation: 1 };

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("valid")
    }

    fn file(n: u8) -> What {
        What::File { bytes: u64::from(n), content: ContentId([n; 32]) }
    }

    fn gone() -> What {
        What::Tombstone { deleted: None }
    }

    fn head(at: &str, seq: u64, what: What) -> Head {
        let mut version = VersionVector::default();
        version.advance(WRITER, seq);
        let time = Hlc { ms: seq * 10, count: 0 };
        let entry = Entry::new(path(at), what, 0o644, FileTime::default(), time, version);
        Head { id: EntryId { writer: WRITER, seq }, salted: Salted { salt: [0; 16], entry } }
    }

    /// A path with its versions, the last of which is on the disk.
    fn put(index: &mut MemoryIndex, at: &str, versions: &[(u64, What)]) {
        let mut heads: Vec<Head> = versions.iter().map(|(seq, what)| head(at, *seq, what.clone())).collect();
        let last = heads.pop().expect("one at least");
        for old in heads {
            index.put_kept(&path(at), &old).expect("memory");
        }
        let kind = last.what().kind();
        let disk = kind.map(|kind| {
            let time = FileTime::default();
            let info = FileInfo { kind, bytes: 0, mode: 0o644, mtime: time, ctime: time, inode: 1 };
            OnDisk::new(info, last.what().clone(), last.version().clone())
        });
        index.put_path(&path(at), &PathRecord { heads: vec![last], disk, ..PathRecord::default() }).expect("memory");
    }

    fn plan_at(index: &MemoryIndex, top: &str, at_ms: u64) -> Plan {
        plan(index, &path(top), at_ms, Where::InPlace(&Selection::all())).expect("memory")
    }

    fn names(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| step.path.to_string()).collect()
    }

    #[test]
    fn every_version_is_told_with_the_time_for_which_it_stood() {
        let mut index = MemoryIndex::default();
        put(&mut index, "a", &[(1, file(1)), (2, file(2)), (4, gone())]);
        let told: Vec<_> =
            of(&index, &path("a")).expect("memory").iter().map(|past| (past.head.id.seq, past.until_ms)).collect();
        assert_eq!(told, [(4, None), (2, Some(40)), (1, Some(20))]);
    }

    #[test]
    fn what_another_node_replaced_is_told_from_what_its_own_did() {
        let mut index = MemoryIndex::default();
        let mut other = head("a", 3, file(3));
        let writer = Writer { node: NodeId([2; 32]), incarnation: 1 };
        other.id.writer = writer;
        let mut seen = other.version().clone();
        seen.advance(writer, 3);
        other.salted.entry.version = seen;
        put(&mut index, "a", &[(1, file(1)), (2, file(2)), (3, file(3))]);
        let record = PathRecord { heads: vec![other], ..PathRecord::default() };
        index.put_path(&path("a"), &record).expect("memory");
        let told = replaced_by_others(&index, &path("a")).expect("memory");
        assert_eq!(told.iter().map(|entry| entry.what.clone()).collect::<Vec<_>>(), [file(2)]);
    }

    #[test]
    fn what_was_changed_deleted_or_made_since_becomes_what_it_was() {
        let mut index = MemoryIndex::default();
        put(&mut index, "d", &[(1, What::Dir)]);
        put(&mut index, "d/changed", &[(2, file(1)), (5, file(2))]);
        put(&mut index, "d/deleted", &[(2, file(3)), (6, gone())]);
        put(&mut index, "d/made", &[(7, file(4))]);
        put(&mut index, "d/same", &[(2, file(5))]);
        put(&mut index, "e", &[(2, file(6)), (8, file(7))]);

        let plan = plan_at(&index, "d", 30);

        assert_eq!(names(&plan.puts), ["d/changed", "d/deleted"]);
        assert_eq!(names(&plan.removals), ["d/made"]);
        assert_eq!((plan.same, plan.lived, plan.room.len(), plan.unknown.len()), (2, true, 0, 0));
        assert_eq!(plan.puts[0].target.content().map(|(_, bytes)| bytes), Some(1));
    }

    #[test]
    fn nothing_lived_before_the_first_entry() {
        let mut index = MemoryIndex::default();
        put(&mut index, "a", &[(3, file(1))]);
        assert!(!plan_at(&index, "", 20).lived);
        assert!(plan_at(&index, "", 30).lived);
    }

    #[test]
    fn a_file_where_a_directory_is_waits_for_room_and_a_directory_that_held_something_stays() {
        let mut index = MemoryIndex::default();
        put(&mut index, "a", &[(1, file(1)), (4, gone()), (5, What::Dir)]);
        put(&mut index, "a/b", &[(6, What::Dir)]);
        put(&mut index, "a/b/c", &[(7, file(2))]);
        let plan = plan_at(&index, "", 20);
        assert_eq!((names(&plan.room), names(&plan.puts)), (vec!["a/b/c".into(), "a/b".into()], vec!["a".into()]));

        // Nobody announced the directory then, but something was in it.
        let mut index = MemoryIndex::default();
        put(&mut index, "a", &[(5, What::Dir)]);
        put(&mut index, "a/b", &[(1, file(1)), (6, file(2))]);
        let plan = plan_at(&index, "", 20);
        assert_eq!((names(&plan.puts), plan.removals.len()), (vec!["a/b".into()], 0));
    }

    #[test]
    fn an_entry_is_let_go_of_by_when_it_was_replaced_not_by_its_age() {
        let mut index = MemoryIndex::default();
        put(&mut index, "a", &[(1, file(1)), (9, file(2))]);
        let old = EntryId { writer: WRITER, seq: 1 };
        index.put_entry_path(old, &path("a")).expect("memory");
        let mut prune = |until_ms| crate::logic::sync::rejudge::prune(&mut index, until_ms, &|_| true);
        assert_eq!(prune(50).expect("memory"), 0, "its content was current at 50");
        assert_eq!(prune(91).expect("memory"), 1);
    }

    /// An entry that is missing because `later` superseded it, signed at the moment of its number.
    fn miss(index: &mut MemoryIndex, seq: u64, later: u64) {
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
        let header = Header {
            mesh: MeshId([0; 32]),
            folder: FolderId([0; 32]),
            writer: WRITER,
            first: seq,
            previous: None,
            heads: List::default(),
            time: Hlc { ms: seq * 10, count: 0 },
            entries: List::truncated(vec![head("x", seq, file(9)).salted.entry.hash(&[0; 16])]),
        };
        index.put_batch(&Batch::sign(header, &key)).expect("memory");
        let missing = EntryId { writer: WRITER, seq };
        index.put_hole(missing, Some(HoleReason::Superseded(WRITER, later))).expect("memory");
    }

    #[test]
    fn what_may_have_been_there_is_named_and_never_changed() {
        let mut index = MemoryIndex::default();
        put(&mut index, "a", &[(7, file(1))]);
        put(&mut index, "b", &[(1, file(2)), (8, file(3))]);
        put(&mut index, "c", &[(1, file(2))]);
        // Of both an entry is missing, of the first one by way of another.
        miss(&mut index, 2, 4);
        miss(&mut index, 4, 7);
        miss(&mut index, 3, 8);

        let plan = plan_at(&index, "", 30);
        assert_eq!((plan.removals.len(), plan.puts.len()), (0, 0));
        assert_eq!(plan.unknown, [path("a"), path("b")]);

        // Before the missing entries it is known what was there, and after them too.
        let plan = plan_at(&index, "", 15);
        assert_eq!(
            (names(&plan.removals), names(&plan.puts), plan.unknown.len()),
            (vec!["a".into()], vec!["b".into()], 0)
        );
        assert_eq!(plan_at(&index, "", 90).unknown.len(), 0);
    }

    #[test]
    fn what_is_not_received_here_is_named_and_elsewhere_everything_is_put() {
        let mut index = MemoryIndex::default();
        put(&mut index, "a", &[(1, file(1)), (5, gone())]);
        put(&mut index, "b", &[(1, file(2)), (6, file(3))]);
        let only_b = Selection::of([path("b")]).expect("few");
        let here = plan(&index, &path(""), 20, Where::InPlace(&only_b)).expect("memory");
        assert_eq!((here.not_here, names(&here.puts)), (vec![path("a")], vec!["b".into()]));
        let elsewhere = plan(&index, &path(""), 20, Where::Elsewhere).expect("memory");
        assert_eq!(names(&elsewhere.puts), ["a", "b"]);
        assert!(elsewhere.removals.is_empty() && elsewhere.puts.iter().all(|step| step.expected.is_none()));
    }
}
