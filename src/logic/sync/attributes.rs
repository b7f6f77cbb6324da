//! Extended attributes and owners of files: what a version says of them, what a disk shows, and what an edit makes of both.
//!
//! Page: `docs/spec/formats/batches.md`. Three rules:
//! 1. a machine that does not look at them says of a file what the version before said, so that nobody's are dropped by
//!    an edit elsewhere; what it has not looked at it never takes for an edit;
//! 2. they are no content: versions that differ only in them are one, and of those the newest that has any counts;
//! 3. what a disk cannot take stays in the version. An edit is the difference of two looks at the disk, not of the disk
//!    and the version.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::conflict;
use super::index::{EntryId, Head, Index, OnDisk, PathRecord, Result};
use super::reconcile;
use super::replica::Seen;
use crate::base::{FileInfo, NodeId, RelPath, VersionVector, Writer};
use crate::wire::batch::{Entry, Owner, What, XATTRS_MAX, Xattr, Xattrs};
use crate::wire::codec::{Bytes, List, Text};

/// The namespace of extended attributes that a file's owner may write. The others belong to the system and are never touched.
pub const NAMESPACE: &[u8] = b"user.";
/// Bytes of all names and values of one file: an entry has at most 64 KiB, its path and version among them.
pub const BYTES_MAX: usize = 48 * 1024;
/// Names looked at in one step when what is looked at has changed.
const STEP: usize = 1024;
/// Other names of a content that are looked at for one that was renamed.
const PLACES_MAX: usize = 8;

/// Which of them a machine looks at, reads and sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Looks {
    /// Extended attributes.
    pub xattrs: bool,
    /// Owner and group.
    pub owner: bool,
}

impl Looks {
    /// Whether it looks at any.
    pub fn any(self) -> bool {
        self.xattrs || self.owner
    }

    /// As it is noted in the index.
    pub fn note(self) -> [u8; 2] {
        [u8::from(self.xattrs), u8::from(self.owner)]
    }
}

/// What a disk shows of a file; `None`: not looked at, or the file system has none.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// Extended attributes, ascending by name.
    pub xattrs: Option<Xattrs>,
    /// Owner and group; empty where one has no name.
    pub owner: Option<Owner>,
}

impl Attributes {
    /// Whether any were looked at.
    pub fn any(&self) -> bool {
        self.xattrs.is_some() || self.owner.is_some()
    }

    /// These, and of what was not looked at those from before.
    pub fn over(self, before: Self) -> Self {
        Self { xattrs: self.xattrs.or(before.xattrs), owner: self.owner.or(before.owner) }
    }
}

/// What a version says of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Said {
    /// Extended attributes, ascending by name.
    pub xattrs: Xattrs,
    /// Owner and group; `None`: nobody has said.
    pub owner: Option<Owner>,
}

impl Said {
    /// What an entry says, as far as it makes sense.
    pub fn of(entry: &Entry) -> Self {
        if !matches!(entry.what, What::File { .. }) {
            return Self::default();
        }
        Self { xattrs: sound(&entry.xattrs), owner: entry.owner.clone() }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.xattrs.is_empty() && self.owner.is_none()
    }
}

/// The attributes that may be set, in their order: what a member signed is not trusted.
fn sound(listed: &Xattrs) -> Xattrs {
    let mut taken: BTreeMap<&[u8], &Xattr> = BTreeMap::new();
    let mut bytes = 0;
    for one in listed.iter() {
        let name = one.name.as_bytes();
        bytes += name.len() + one.value.len();
        if is_name(name) && bytes <= BYTES_MAX {
            taken.entry(name).or_insert(one);
        }
    }
    List::truncated(taken.into_values().cloned().collect())
}

fn is_name(name: &[u8]) -> bool {
    name.len() > NAMESPACE.len() && name.starts_with(NAMESPACE) && !name.contains(&0)
}

/// Of what a disk shows, what an entry can hold; and how many it cannot.
pub fn bounded(mut found: Vec<(Vec<u8>, Vec<u8>)>) -> (Xattrs, usize) {
    found.retain(|(name, _)| name.starts_with(NAMESPACE));
    found.sort();
    let (count, mut bytes) = (found.len(), 0);
    let mut taken = Vec::new();
    for (name, value) in found {
        let length = name.len() + value.len();
        let name = is_name(&name).then(|| String::from_utf8(name).ok().and_then(Text::new)).flatten();
        let (Some(name), Some(value), true) = (name, Bytes::new(value), bytes + length <= BYTES_MAX) else { continue };
        if taken.len() < XATTRS_MAX {
            bytes += length;
            taken.push(Xattr { name, value });
        }
    }
    let left_out = count - taken.len();
    (List::truncated(taken), left_out)
}

/// What several versions of one content say together: of each the newest that changed it and nothing else, or else the
/// newest that says anything. So an edit that only passed on what it had seen drops nothing.
pub fn of_heads<'a>(heads: impl Iterator<Item = &'a Head>) -> Said {
    let mut newest: Vec<&Head> = heads.collect();
    newest.sort_by_key(|head| std::cmp::Reverse((head.salted.entry.time, head.id)));
    let said: Vec<(Said, Option<Mark>)> =
        newest.iter().map(|head| (Said::of(&head.salted.entry), mark_of(&head.salted.entry))).collect();
    let by_mark = |changed: fn(&Mark) -> bool| said.iter().find(|(_, mark)| mark.as_ref().is_some_and(changed));
    let xattrs = by_mark(|mark| mark.xattrs).or_else(|| said.iter().find(|(said, _)| !said.xattrs.is_empty()));
    let owner = by_mark(|mark| mark.owner).or_else(|| said.iter().find(|(said, _)| said.owner.is_some()));
    Said {
        xattrs: xattrs.map(|(said, _)| said.xattrs.clone()).unwrap_or_default(),
        owner: owner.and_then(|(said, _)| said.owner.clone()),
    }
}

/// What is known of a file's version before an edit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Before {
    /// What it says.
    said: Said,
    /// Whether this node wrote it.
    own: bool,
}

/// What the version says that an edit has seen: that on the disk, else those that `base` covers. What the others have put in
/// its place may be here already, and not on the disk.
pub(super) fn before(
    index: &dyn Index,
    path: &RelPath,
    record: &PathRecord,
    base: &VersionVector,
    node: NodeId,
) -> Result<Before> {
    let base = record.disk.as_ref().filter(|disk| is_file(&disk.what)).map_or(base, |disk| &disk.version);
    let is_seen = |head: &&Head| is_file(head.what()) && base.covers(head.version());
    let newest =
        |heads: &[Head]| heads.iter().filter(is_seen).max_by_key(|head| (head.salted.entry.time, head.id)).cloned();
    if let Some(head) = newest(&record.heads) {
        return Ok(Before { said: of_heads(record.heads.iter().filter(is_seen)), own: head.id.writer.node == node });
    }
    let kept = newest(&index.kept(path)?);
    Ok(kept.map_or_else(Before::default, |head| Before {
        said: Said::of(&head.salted.entry),
        own: head.id.writer.node == node,
    }))
}

fn is_file(what: &What) -> bool {
    matches!(what, What::File { .. })
}

/// What was known to be on the disk, and what a look shows now.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// `None`: there was no such file.
    pub known: Option<&'a Attributes>,
    /// What is there now.
    pub seen: &'a Attributes,
    /// Whether this machine's user wrote the file: what is seen for the first time is theirs then.
    pub own: bool,
}

/// What the version of a file that was edited says: what was said before, with what changed on the disk.
pub fn announced(before: Said, change: Change<'_>) -> Said {
    let Change { known, seen, own } = change;
    let known_xattrs = known.and_then(|known| known.xattrs.as_ref());
    let xattrs = match (known_xattrs, &seen.xattrs) {
        (_, None) => before.xattrs,
        (None, Some(seen)) if before.xattrs.is_empty() => seen.clone(),
        (None, Some(_)) => before.xattrs,
        (Some(known), Some(seen)) => patched(&before.xattrs, known, seen),
    };
    let known_owner = known.and_then(|known| known.owner.as_ref());
    let owner = match (before.owner, known_owner, &seen.owner) {
        (before, _, None) => before,
        (None, None, Some(seen)) => (known.is_none() || own).then(|| seen.clone()),
        (Some(before), None, Some(_)) => Some(before),
        (None, Some(known), Some(seen)) => (known != seen).then(|| seen.clone()),
        (Some(before), Some(known), Some(seen)) => {
            let one = |before: &Text<64>, known: &Text<64>, seen: &Text<64>| {
                if known == seen || seen.is_empty() { before.clone() } else { seen.clone() }
            };
            let user = one(&before.user, &known.user, &seen.user);
            Some(Owner { user, group: one(&before.group, &known.group, &seen.group) })
        }
    };
    Said { xattrs, owner }
}

fn by_name(xattrs: &Xattrs) -> BTreeMap<&str, &Xattr> {
    xattrs.iter().map(|one| (&*one.name, one)).collect()
}

fn patched(before: &Xattrs, known: &Xattrs, seen: &Xattrs) -> Xattrs {
    let (known, seen) = (by_name(known), by_name(seen));
    let mut result = by_name(before);
    let names: BTreeSet<&str> = known.keys().chain(seen.keys()).copied().collect();
    for name in names.into_iter().filter(|name| known.get(name) != seen.get(name)) {
        match seen.get(name) {
            Some(one) => result.insert(name, one),
            None => result.remove(name),
        };
    }
    sound(&List::truncated(result.into_values().cloned().collect()))
}

/// What the version says that an edit becomes.
pub(super) fn of_edit(record: &PathRecord, before: &Before, seen: &Attributes) -> Said {
    let disk = record.disk.as_ref().filter(|disk| is_file(&disk.what));
    let known = disk.map(|disk| &disk.attributes);
    announced(before.said.clone(), Change { known, seen, own: before.own })
}

/// Whether what is seen of a file is no edit: as it was known, seen for the first time and said by its version, or halfway
/// to a version that is being put.
pub(super) fn is_same(record: &PathRecord, known: &OnDisk, seen: &Attributes, before: &Before) -> bool {
    let change = Change { known: Some(&known.attributes), seen, own: before.own };
    !seen.any()
        || announced(before.said.clone(), change) == before.said
        || record.heads.iter().any(|head| is_halfway(known, seen, head))
}

/// Each attribute is as it was known or as a version says that is not on the disk yet.
fn is_halfway(known: &OnDisk, seen: &Attributes, head: &Head) -> bool {
    if *head.what() != known.what || known.version.covers(head.version()) {
        return false;
    }
    let said = Said::of(&head.salted.entry);
    let xattrs = match (&known.attributes.xattrs, &seen.xattrs) {
        (Some(known), Some(seen)) => {
            let (known, seen, said) = (by_name(known), by_name(seen), by_name(&said.xattrs));
            let mut names = known.keys().chain(seen.keys()).chain(said.keys());
            names.all(|name| seen.get(name) == known.get(name) || seen.get(name) == said.get(name))
        }
        (_, seen) => seen.is_none(),
    };
    let owner = match (&known.attributes.owner, &seen.owner) {
        (Some(known), Some(seen)) => {
            let said = said.owner.as_ref();
            (seen.user == known.user || said.is_some_and(|said| said.user == seen.user))
                && (seen.group == known.group || said.is_some_and(|said| said.group == seen.group))
        }
        (_, seen) => seen.is_none(),
    };
    xattrs && owner
}

/// Whether a file on the disk may be this version, as far as attributes go: else its user changed or brought some.
pub(super) fn may_be(record: &PathRecord, seen: &Seen, entry: &Entry, before: &Before) -> bool {
    let said = Said::of(entry);
    match record.disk.as_ref().filter(|disk| disk.what == seen.what) {
        Some(known) if is_same(record, known, &seen.attributes, before) => true,
        Some(known) => !known.version.covers(&entry.version) && of_edit(record, before, &seen.attributes) == said,
        None => seen.attributes.xattrs.as_ref().is_none_or(|seen| seen.is_empty()) || !said.xattrs.is_empty(),
    }
}

/// What the entry says of one who changed only attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// Since this number of its writer's log content, mode and time are as they were.
    pub(super) since: u64,
    /// Extended attributes changed since.
    xattrs: bool,
    /// The owner changed since.
    owner: bool,
}

impl Mark {
    fn value(self) -> Vec<u8> {
        let changed = u8::from(self.xattrs) | u8::from(self.owner) << 1;
        [&self.since.to_be_bytes()[..], &[changed]].concat()
    }
}

/// The mark of an entry: see `Mark`.
pub(super) fn mark_of(entry: &Entry) -> Option<Mark> {
    let mark = entry.xattrs.iter().find(|one| one.name.is_empty())?;
    let (since, changed) = mark.value.split_first_chunk()?;
    let [changed] = changed else { return None };
    Some(Mark { since: u64::from_be_bytes(*since), xattrs: changed & 1 != 0, owner: changed & 2 != 0 })
}

/// What the entry of an edit lists: what it says and, where only attributes changed, a mark: so it is told apart from a
/// content that another has edited meanwhile (`conflict::is_passed_over`).
pub(super) fn listed(
    record: &PathRecord,
    what: &What,
    (before, says): (&Before, &Said),
    seen: &Seen,
    own: Writer,
) -> Xattrs {
    let mark = mark(record, what, (before, says), seen, own).filter(|_| says.xattrs.len() < XATTRS_MAX);
    let Some(value) = mark.and_then(|mark| Bytes::new(mark.value())) else { return says.xattrs.clone() };
    let mut all = vec![Xattr { name: Text::default(), value }];
    all.extend(says.xattrs.iter().cloned());
    List::truncated(all)
}

fn mark(record: &PathRecord, what: &What, (before, says): (&Before, &Said), seen: &Seen, own: Writer) -> Option<Mark> {
    let disk = record.disk.as_ref().filter(|disk| disk.what == *what && !record.local_only && seen.attributes.any())?;
    // With another mode or time it is a version of its own.
    let exact = (disk.info.mode, disk.info.mtime) == (seen.info.mode, seen.info.mtime);
    // A content of which no version is known is nobody's but its user's.
    if !exact || disk.version == VersionVector::default() {
        return None;
    }
    let last = disk.version.seen(own);
    // An own version that was passed over for this content changed only attributes, too.
    let is_last = |head: &&Head| {
        let goes_on = head.what() == what || conflict::is_passed_over(record, head);
        head.id == EntryId { writer: own, seq: last } && goes_on
    };
    let again = record.heads.iter().find(is_last).and_then(|head| mark_of(&head.salted.entry));
    let mark = again.unwrap_or(Mark { since: last, xattrs: false, owner: false });
    Some(Mark {
        xattrs: mark.xattrs || says.xattrs != before.said.xattrs,
        owner: mark.owner || says.owner != before.said.owner,
        ..mark
    })
}

/// What a file says that was renamed by a machine that may not look: it is the same file on the disk.
pub(super) fn of_renamed(index: &dyn Index, path: &RelPath, seen: &Seen) -> Result<Option<Said>> {
    let Some(content) = seen.what.content() else { return Ok(None) };
    let is_moved = |info: &FileInfo| info.inode == seen.info.inode && info.mtime == seen.info.mtime;
    for place in index.places_of(content, PLACES_MAX)? {
        let Some(record) = index.path(&place)?.filter(|_| place != *path) else { continue };
        let Some(disk) = record.disk.as_ref().filter(|disk| disk.what == seen.what && is_moved(&disk.info)) else {
            continue;
        };
        let before = before(index, &place, &record, &disk.version, NodeId([0; 32]))?;
        let change = Change { known: Some(&disk.attributes), seen: &seen.attributes, own: false };
        return Ok(Some(announced(before.said, change)));
    }
    Ok(None)
}

/// Whether a file's attributes are other than its version says, and it was not tried in vain.
pub(super) fn are_missing(disk: &OnDisk, version: &VersionVector, said: &Said) -> bool {
    is_file(&disk.what) && !(disk.unmet && disk.version == *version) && differ(&disk.attributes, said)
}

/// Whether a disk shows other than what is said.
pub fn differ(shown: &Attributes, said: &Said) -> bool {
    let other = |shown: &Text<64>, said: &Text<64>| !said.is_empty() && shown != said;
    let owner = shown.owner.as_ref().zip(said.owner.as_ref());
    shown.xattrs.as_ref().is_some_and(|shown| *shown != said.xattrs)
        || owner.is_some_and(|(shown, said)| other(&shown.user, &said.user) || other(&shown.group, &said.group))
}

/// What is looked at may be other than at the last start, and what a disk refused then it may take now: what is known of
/// the next names follows. Returns where to go on.
pub fn follow(index: &mut dyn Index, from: &RelPath, looks: Looks, changed: bool) -> Result<Option<RelPath>> {
    let (page, next) = index.page(&RelPath::root(), from, STEP)?;
    for (path, mut record) in page {
        let Some(disk) = record.disk.as_mut().filter(|disk| is_file(&disk.what)) else { continue };
        if !changed && !disk.unmet {
            continue;
        }
        let again = disk.unmet;
        disk.unmet = false;
        if changed {
            disk.recheck |= looks.any();
            disk.attributes = Attributes::default();
        }
        index.put_path(&path, &record)?;
        if again {
            reconcile::mark(index, &path)?;
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattrs(of: &[(&str, &str)]) -> Xattrs {
        let one = |(name, value): &(&str, &str)| Xattr {
            name: Text::new(*name).expect("short"),
            value: Bytes::new(value.as_bytes().to_vec()).expect("short"),
        };
        List::truncated(of.iter().map(one).collect())
    }

    fn owner(user: &str, group: &str) -> Option<Owner> {
        Some(Owner { user: Text::new(user).expect("short"), group: Text::new(group).expect("short") })
    }

    fn shown(of: &[(&str, &str)]) -> Attributes {
        Attributes { xattrs: Some(xattrs(of)), owner: None }
    }

    fn said(of: &[(&str, &str)]) -> Said {
        Said { xattrs: xattrs(of), owner: None }
    }

    fn edit(before: &Said, known: Option<&Attributes>, seen: &Attributes) -> Said {
        announced(before.clone(), Change { known, seen, own: false })
    }

    #[test]
    fn who_does_not_look_says_what_was_said_before() {
        let before = Said { owner: owner("ann", "office"), ..said(&[("user.tag", "red")]) };
        let unseen = Attributes::default();
        assert_eq!(edit(&before, Some(&unseen), &unseen), before);
        assert_eq!(edit(&before, None, &unseen), before);
    }

    #[test]
    fn an_edit_is_what_changed_on_the_disk_and_the_rest_stays_said() {
        // This disk did not take `user.big`, and its user changes one, removes one and adds one.
        let before = said(&[("user.a", "1"), ("user.b", "2"), ("user.big", "…")]);
        let known = shown(&[("user.a", "1"), ("user.b", "2")]);
        let seen = shown(&[("user.a", "9"), ("user.c", "3")]);
        let after = said(&[("user.a", "9"), ("user.big", "…"), ("user.c", "3")]);
        assert_eq!(edit(&before, Some(&known), &seen), after);
    }

    #[test]
    fn what_is_seen_first_is_said_only_where_nobody_has_said_anything() {
        let unseen = Attributes::default();
        let seen = shown(&[("user.local", "x")]);
        assert_eq!(edit(&said(&[]), Some(&unseen), &seen), said(&[("user.local", "x")]));
        assert_eq!(edit(&said(&[("user.tag", "red")]), Some(&unseen), &seen), said(&[("user.tag", "red")]));
    }

    #[test]
    fn who_only_received_a_file_does_not_announce_to_whom_it_belongs_here() {
        let seen = Attributes { xattrs: None, owner: owner("lanyard", "lanyard") };
        let unseen = Attributes::default();
        let of = |own, known| announced(Said::default(), Change { known, seen: &seen, own }).owner;
        assert_eq!(of(false, Some(&unseen)), None);
        assert_eq!(of(true, Some(&unseen)), owner("lanyard", "lanyard"));
        assert_eq!(of(false, None), owner("lanyard", "lanyard"), "a new file is its user's");
    }

    #[test]
    fn an_owner_that_could_not_be_given_stays_said_and_a_changed_group_is_an_edit() {
        let before = Said { owner: owner("ann", "office"), ..Said::default() };
        let of = |user, group| Attributes { xattrs: None, owner: owner(user, group) };
        let known = of("lanyard", "lanyard");
        assert_eq!(edit(&before, Some(&known), &of("lanyard", "lanyard")), before);
        assert_eq!(edit(&before, Some(&known), &of("lanyard", "print")).owner, owner("ann", "print"));
        assert_eq!(edit(&before, Some(&known), &of("", "lanyard")).owner, owner("ann", "office"));
    }

    #[test]
    fn only_what_users_may_set_is_taken_each_once_and_within_the_bounds() {
        let mean = xattrs(&[
            ("security.capability", "x"),
            ("trusted.x", "x"),
            ("system.posix_acl_access", "x"),
            ("user.", "x"),
            ("user.nul\0", "x"),
            ("user.tag", "1"),
            ("user.a", "2"),
            ("user.tag", "3"),
        ]);
        assert_eq!(sound(&mean), xattrs(&[("user.a", "2"), ("user.tag", "1")]));
        let large = "x".repeat(4096);
        let names: Vec<String> = (0..20).map(|n| format!("user.{n:02}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), large.as_str())).collect();
        assert_eq!(sound(&xattrs(&many)).len(), BYTES_MAX / (4096 + 7));
    }

    #[test]
    fn what_a_disk_shows_beyond_the_bounds_is_left_out_and_counted() {
        let found = |names: usize, bytes: usize| {
            (0..names).map(|n| (format!("user.{n:03}").into_bytes(), vec![7; bytes])).collect::<Vec<_>>()
        };
        let counts = |found| {
            let (taken, left_out) = bounded(found);
            (taken.len(), left_out)
        };
        assert_eq!(counts(found(32, 10)), (32, 0));
        assert_eq!(counts(found(40, 10)), (32, 8));
        assert_eq!(counts(found(1, 4097)), (0, 1));
        assert_eq!(counts(found(20, 4096)), (BYTES_MAX / (4096 + 8), 20 - BYTES_MAX / (4096 + 8)));
        assert_eq!(counts(vec![(b"user.\xff".to_vec(), Vec::new()), (b"security.x".to_vec(), Vec::new())]), (0, 1));
    }

    #[test]
    fn attributes_differ_only_where_they_are_looked_at_and_said() {
        assert!(!differ(&Attributes::default(), &said(&[("user.tag", "red")])));
        assert!(differ(&shown(&[]), &said(&[("user.tag", "red")])));
        assert!(differ(&shown(&[("user.tag", "red")]), &said(&[])));
        let of = |user| Attributes { xattrs: None, owner: owner(user, "office") };
        assert!(!differ(&of("ann"), &Said::default()));
        assert!(!differ(&of("ann"), &Said { owner: owner("", "office"), ..Said::default() }));
        assert!(differ(&of("ann"), &Said { owner: owner("bob", "office"), ..Said::default() }));
    }
}
