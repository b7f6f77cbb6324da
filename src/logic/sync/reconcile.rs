//! From heads to actions: merging a version into a path, and what the disk must become.
//!
//! `merge` is commutative, associative and idempotent, so that the order of arrival cannot matter. `plan`
//! compares what `conflict::view` says with what is on the disk and returns the actions that are missing; each
//! names what it expects to find, so that a user's edit in between is never replaced.

use super::attributes::{self, Attributes, Said};
use super::conflict::{self, Main};
use super::index::{EntryId, Head, Index, Look, OnDisk, PathRecord, Result, Walk};
use crate::base::{Causality, FileInfo, FileTime, Mode, RelPath, VersionVector, mode_for_group};
use crate::wire::batch::What;

/// Permission bits of a directory that nobody announced.
const IMPLIED_DIR_MODE: Mode = 0o755;

/// What a name should become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action {
    /// The name: the path itself, or one of its conflict copies.
    pub name: RelPath,
    /// What this node believes is there.
    pub expected: Option<FileInfo>,
    /// What has to be done.
    pub target: Target,
    /// What a user who edits the result has seen.
    pub version: VersionVector,
    /// For a conflict copy: of which path and version.
    pub copy_of: Option<(RelPath, EntryId)>,
    /// What its version says of attributes.
    pub said: Said,
}

/// See `Action`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Nothing is there.
    Nothing,
    /// This is there; never a tombstone.
    Put {
        /// Content, directory or link.
        what: What,
        /// Permission bits.
        mode: Mode,
        /// Modification time.
        mtime: FileTime,
    },
    /// The right content is there already; only these differ.
    Meta {
        /// What is there.
        what: What,
        /// Permission bits.
        mode: Mode,
        /// Modification time.
        mtime: FileTime,
    },
}

impl Target {
    /// The file content that must be at hand before the action can be done.
    pub fn content(&self) -> Option<(crate::base::ContentId, u64)> {
        match self {
            Self::Put { what: What::File { bytes, content }, .. } => Some((*content, *bytes)),
            _ => None,
        }
    }
}

/// Adds a version to a path. Returns whether it is one of the heads now.
pub fn merge(record: &mut PathRecord, head: Head) -> bool {
    if record.heads.iter().any(|other| yields(&head, other)) {
        return false;
    }
    record.heads.retain(|other| !yields(other, &head));
    let at = record.heads.partition_point(|other| other.id < head.id);
    record.heads.insert(at, head);
    true
}

/// Whether `this` is seen by `other`. Two that claim to have seen each other were made by liars; the greater id stays,
/// so that not even these can make the order of arrival matter.
fn yields(this: &Head, other: &Head) -> bool {
    match this.version().compare(other.version()) {
        Causality::Before => true,
        Causality::Equal => this.id <= other.id,
        Causality::After | Causality::Concurrent => false,
    }
}

/// Whether any path below `path` has a live version.
pub fn lives_below(index: &(impl Look + ?Sized), path: &RelPath) -> Result<bool> {
    let mut found = false;
    index.walk(path, &mut |below, record| {
        found = below != *path && record.is_live();
        if found { Walk::Enough } else { Walk::On }
    })?;
    Ok(found)
}

/// Marks a path as needed after its heads changed, and the directories above it whose name may now go to another.
pub fn mark(index: &mut (impl Index + ?Sized), path: &RelPath) -> Result<()> {
    index.put_need(path, true)?;
    // A file of its own under the name of a copy: the copy has to lie elsewhere.
    if let Some((owner, _)) = index.path(path)?.and_then(|record| record.copy_of) {
        index.put_need(&owner, true)?;
    }
    for above in path.ancestors() {
        let Some(record) = index.path(&above)? else { continue };
        let is_plain_dir = record.heads.iter().any(|head| head.is_live() && matches!(head.what(), What::Dir));
        if is_plain_dir {
            // Directories above this one were decided when it was announced.
            break;
        }
        index.put_need(&above, true)?;
    }
    Ok(())
}

/// The actions that bring a path and its conflict copies to what its heads say. Where only the knowledge differs
/// (equal content, newer version) the record is brought up to date at once and no action results.
pub fn plan(index: &mut (impl Index + ?Sized), path: &RelPath) -> Result<Vec<Action>> {
    plan_after(index, path, &mut None)
}

/// The same for names in ascending order, while nothing else changes the index: below `barren`, a name planned before, it is
/// known that nothing lives. Else each of the directories of a deep tree that goes would look through all below it.
pub fn plan_after(
    index: &mut (impl Index + ?Sized),
    path: &RelPath,
    barren: &mut Option<RelPath>,
) -> Result<Vec<Action>> {
    let Some(mut record) = index.path(path)? else { return Ok(Vec::new()) };
    // A change that may not spread is not replaced either. A name that is only a copy is planned with its path.
    if record.local_only || (record.heads.is_empty() && record.disk.is_none()) {
        return Ok(Vec::new());
    }
    if let (Some((owner, _)), true) = (record.copy_of.clone(), record.heads.is_empty()) {
        return if owner == *path { Ok(Vec::new()) } else { plan(index, &owner) };
    }
    let is_barren = barren.as_ref().is_some_and(|top| path.starts_with(top));
    let below = !has_live_dir(&record) && !is_barren && lives_below(index, path)?;
    if !below && !is_barren && !has_live_dir(&record) {
        *barren = Some(path.clone());
    }
    let view = conflict::view(&record, below);
    let (main, version) = match view.main {
        Main::Nothing => (None, tombstone_version(&record)),
        Main::ImpliedDir => (Some((What::Dir, IMPLIED_DIR_MODE, FileTime::default())), VersionVector::default()),
        Main::Head(head) => {
            let entry = &head.salted.entry;
            (Some((entry.what.clone(), entry.mode, entry.mtime)), seen_by_equals(&record, head))
        }
    };
    let said = match view.main {
        Main::Head(head) => attributes::of_heads(record.heads.iter().filter(|other| is_one(&record, other, head))),
        Main::Nothing | Main::ImpliedDir => Said::default(),
    };
    let mut copies: Vec<(RelPath, Head)> = Vec::new();
    for head in view.losers {
        if let Some(name) = copy_name(index, path, head)? {
            copies.push((name, head.clone()));
        }
    }

    let for_group = index.is_for_group();
    let missing = differs(record.disk.as_ref(), main.as_ref(), for_group)
        .or_else(|| undressed(record.disk.as_ref(), main.as_ref(), &version, &said));
    let mut actions = Vec::new();
    for name in &record.copies {
        if copies.iter().any(|(copy, _)| copy == name) {
            continue;
        }
        let Some(mut stale) = index.path(name)?.filter(|stale| stale.copy_of.is_some()) else { continue };
        if !stale.heads.is_empty() || stale.local_only {
            // A file of its own by now.
            stale.copy_of = None;
            index.put_path(name, &stale)?;
        } else if let Some(disk) = stale.disk {
            // It goes once the name has it: this may be the only place on this disk that has the content, and a removal
            // that is interrupted before it is noted would look as if the user had decided against it.
            if matches!(&missing, Some(Target::Put { what, .. }) if *what == disk.what) {
                continue;
            }
            actions.push(Action {
                name: name.clone(),
                expected: Some(disk.info),
                target: Target::Nothing,
                version: VersionVector::default(),
                copy_of: stale.copy_of,
                said: Said::default(),
            });
        }
    }
    let mut content_waits = false;
    for (name, head) in &copies {
        let mut there = index.path(name)?.unwrap_or_default();
        let copy_of = Some((path.clone(), head.id));
        if there.copy_of != copy_of {
            // Noted before it is on the disk: a scan after an interruption must know it for what it is.
            there.copy_of = copy_of;
            index.put_path(name, &there)?;
        }
        let entry = &head.salted.entry;
        let wanted = (entry.what.clone(), entry.mode, entry.mtime);
        let said = Said::of(entry);
        let target = differs(there.disk.as_ref(), Some(&wanted), for_group)
            .or_else(|| undressed(there.disk.as_ref(), Some(&wanted), head.version(), &said));
        let Some(target) = target else { continue };
        let on_disk = record.disk.as_ref().and_then(|disk| disk.what.content());
        content_waits |= on_disk.is_some() && on_disk == entry.what.content();
        actions.push(Action {
            name: name.clone(),
            expected: there.disk.map(|disk| disk.info),
            target,
            version: head.version().clone(),
            copy_of: Some((path.clone(), head.id)),
            said,
        });
    }
    let names: Vec<RelPath> = copies.into_iter().map(|(name, _)| name).collect();
    let mut changed = false;
    if !names.iter().all(|name| record.copies.contains(name)) {
        // Kept until their removal is done, so that an interruption forgets none.
        let stale = record.copies.iter().filter(|name| !names.contains(name)).cloned();
        record.copies = stale.chain(names.iter().cloned()).collect();
        changed = true;
    }
    match missing {
        // The content under the name goes to a copy first: it may be the only place on this disk that has it.
        Some(_) if content_waits => {}
        Some(target) => {
            let expected = record.disk.as_ref().map(|disk| disk.info);
            actions.push(Action { name: path.clone(), expected, target, version, copy_of: None, said });
        }
        None => {
            if let Some(disk) = record.disk.as_mut().filter(|disk| disk.version != version) {
                disk.version = version;
                changed = true;
            }
        }
    }
    if changed {
        index.put_path(path, &record)?;
    }
    Ok(actions)
}

/// The name under which a loser lies beside: the first that no file of its own has or had.
pub fn copy_name(index: &(impl Look + ?Sized), path: &RelPath, loser: &Head) -> Result<Option<RelPath>> {
    for name in conflict::copy_paths(path, loser) {
        let taken = index.path(&name)?.is_some_and(|record| !record.heads.is_empty() || record.local_only);
        if !taken {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Notes that an action was done and what is there now.
pub fn done(
    index: &mut (impl Index + ?Sized),
    action: &Action,
    info: Option<FileInfo>,
    recheck: bool,
    shown: Attributes,
) -> Result<()> {
    let mut record = index.path(&action.name)?.unwrap_or_default();
    record.disk = match (&action.target, info) {
        (Target::Nothing, _) | (_, None) => None,
        (Target::Put { what, .. } | Target::Meta { what, .. }, Some(info)) => {
            let unmet = attributes::differ(&shown, &action.said);
            let version = action.version.clone();
            Some(OnDisk { info, what: what.clone(), version, recheck, attributes: shown, unmet })
        }
    };
    if let Some((owner, _)) = &action.copy_of {
        record.copy_of = record.disk.is_some().then(|| action.copy_of.clone()).flatten();
        if record.disk.is_none()
            && let Some(mut owning) = index.path(owner)?
        {
            owning.copies.retain(|name| *name != action.name);
            index.put_path(owner, &owning)?;
        }
    }
    index.put_path(&action.name, &record)?;
    if action.target == Target::Nothing {
        mark_emptied(index, &action.name)?;
    }
    Ok(())
}

/// A directory that was there only for what was below it goes with the last of it.
fn mark_emptied(index: &mut (impl Index + ?Sized), gone: &RelPath) -> Result<()> {
    if let Some(parent) = gone.parent().filter(|parent| !parent.is_root())
        && let Some(record) = index.path(&parent)?
        && record.disk.is_some()
        && !has_live_dir(&record)
    {
        index.put_need(&parent, true)?;
    }
    Ok(())
}

fn has_live_dir(record: &PathRecord) -> bool {
    record.heads.iter().any(|head| matches!(head.what(), What::Dir))
}

fn tombstone_version(record: &PathRecord) -> VersionVector {
    let mut version = VersionVector::default();
    record.heads.iter().for_each(|head| version.join(head.version()));
    version
}

/// Who edits the winner has seen every version that is equal to it, and every deletion that it beat.
fn seen_by_equals(record: &PathRecord, winner: &Head) -> VersionVector {
    let mut version = winner.version().clone();
    let same = |head: &&Head| is_one(record, head, winner) || !head.is_live();
    record.heads.iter().filter(same).for_each(|head| version.join(head.version()));
    version
}

/// Whether a version shows no content of its own beside the winner.
fn is_one(record: &PathRecord, head: &Head, winner: &Head) -> bool {
    head.what() == winner.what() || conflict::is_passed_over(record, head)
}

/// The right content with the wrong attributes.
fn undressed(
    disk: Option<&OnDisk>,
    wanted: Option<&(What, Mode, FileTime)>,
    version: &VersionVector,
    said: &Said,
) -> Option<Target> {
    let (what, mode, mtime) = wanted?.clone();
    attributes::are_missing(disk?, version, said).then_some(Target::Meta { what, mode, mtime })
}

/// What is missing between what is on the disk and what should be; `None`: nothing.
pub fn differs(disk: Option<&OnDisk>, wanted: Option<&(What, Mode, FileTime)>, for_group: bool) -> Option<Target> {
    let (what, mode, mtime) = match (disk, wanted) {
        (None, None) => return None,
        (Some(_), None) => return Some(Target::Nothing),
        (_, Some((what, mode, mtime))) => (what.clone(), *mode, *mtime),
    };
    let Some(disk) = disk.filter(|disk| disk.what == what) else { return Some(Target::Put { what, mode, mtime }) };
    let seen = |mode| if for_group { mode_for_group(mode) } else { mode };
    let same_mode = seen(disk.info.mode) == seen(mode) || matches!(what, What::Symlink(_));
    let same_time = disk.info.mtime == mtime || matches!(what, What::Dir);
    if same_mode && same_time { None } else { Some(Target::Meta { what, mode, mtime }) }
}

#[cfg(test)]
mod tests {
    use super::super::index::MemoryIndex;
    use super::*;
    use crate::base::{ContentId, Kind, NodeId, Writer};

    #[test]
    fn for_a_group_a_mode_differs_only_beyond_what_the_group_gets() {
        let what = What::File { bytes: 1, content: ContentId([1; 32]) };
        let time = FileTime::default();
        let info = FileInfo { kind: Kind::File, bytes: 1, mode: 0o664, mtime: time, ctime: time, inode: 1 };
        let disk = OnDisk::new(info, what.clone(), VersionVector::default());
        let wanted = |mode| (what.clone(), mode, time);
        assert_eq!(differs(Some(&disk), Some(&wanted(0o644)), true), None);
        assert!(matches!(differs(Some(&disk), Some(&wanted(0o644)), false), Some(Target::Meta { mode: 0o644, .. })));
        assert!(matches!(differs(Some(&disk), Some(&wanted(0o755)), true), Some(Target::Meta { mode: 0o755, .. })));
    }

    #[test]
    fn what_others_put_under_the_name_of_a_copy_has_the_copied_path_planned_too() {
        let path = |text: &str| RelPath::new(text).expect("valid");
        let id = EntryId { writer: Writer { node: NodeId([1; 32]), incarnation: 1 }, seq: 1 };
        let mut index = MemoryIndex::default();
        let copy = PathRecord { copy_of: Some((path("plan"), id)), ..PathRecord::default() };
        index.put_path(&path("plan (conflict)"), &copy).expect("memory");
        mark(&mut index, &path("plan (conflict)")).expect("memory");
        assert_eq!(index.needs(None, 9).expect("memory"), [path("plan"), path("plan (conflict)")]);
    }
}
