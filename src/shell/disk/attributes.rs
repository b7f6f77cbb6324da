//! Extended attributes and owners of files on the disk: read through the file's handle, set on a staged file before it has
//! its name, or on the file itself where only they change.
//!
//! What is set is best effort, and read again by whoever wants to know: a disk that refuses attributes, or a node that may
//! give files to nobody, keeps the content all the same. Of extended attributes only the users' own are ever touched.

use std::collections::BTreeMap;
use std::io;

use super::Folder;
use super::primitives::{DiskFile, Open, Place};
use crate::base::RelPath;
use crate::logic::sync::attributes::NAMESPACE;

/// Names and values.
pub type Raw = Vec<(Vec<u8>, Vec<u8>)>;

/// What changes beside content, mode and time. The file keeps what is not named.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attached {
    /// Extended attributes that it is to have.
    pub put: Raw,
    /// Names of those that it is to have no more, unless `put` has them.
    pub drop: Vec<Vec<u8>>,
    /// The user it is to belong to.
    pub user: Option<u32>,
    /// The group it is to belong to.
    pub group: Option<u32>,
}

impl Attached {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a file has that has `now`, after this.
    fn after(&self, now: Raw) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut after: BTreeMap<_, _> = now.into_iter().collect();
        self.drop.iter().for_each(|name| drop(after.remove(name)));
        after.extend(self.put.iter().cloned());
        after.retain(|name, _| name.starts_with(NAMESPACE));
        after
    }
}

/// What a file of the folder has; `None` for attributes where the file system has none.
pub fn read(folder: &Folder, path: &RelPath) -> io::Result<(Option<Raw>, (u32, u32))> {
    let file = folder.disk.open(&Place::shared(path), Open::Attributes)?;
    let raw = if folder.disk.has_attributes() { Some(file.attributes()?) } else { None };
    Ok((raw, file.owner()?))
}

/// What there is now at a place; nothing where it cannot be told.
pub(super) fn now(folder: &Folder, place: &Place) -> Raw {
    if !folder.disk.has_attributes() {
        return Raw::new();
    }
    let file = folder.disk.open(place, Open::Attributes);
    file.and_then(|file| file.attributes()).unwrap_or_default()
}

/// Sets the extended attributes of a file that is to have those of `now` with this change. Returns whether any was set.
pub(super) fn dress(file: &dyn DiskFile, attached: &Attached, now: Raw) -> bool {
    let wanted = attached.after(now);
    let there: BTreeMap<_, _> = file.attributes().unwrap_or_default().into_iter().collect();
    let mut changed = false;
    for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
        changed |= file.set_attribute(name, None).is_ok();
    }
    for (name, value) in wanted.iter().filter(|(name, value)| there.get(*name) != Some(value)) {
        changed |= file.set_attribute(name, Some(value)).is_ok();
    }
    changed
}

/// Gives a file to its user and group, each where this node may. Returns whether it tried.
pub(super) fn give(file: &dyn DiskFile, attached: &Attached) -> bool {
    let Ok((user, group)) = file.owner() else { return false };
    // The group first: who gives a file away may not be able to change it any more.
    let group = attached.group.filter(|wanted| *wanted != group);
    let user = attached.user.filter(|wanted| *wanted != user);
    if group.is_some() {
        let _ = file.set_owner(None, group);
    }
    if user.is_some() {
        let _ = file.set_owner(user, None);
    }
    group.is_some() || user.is_some()
}

#[cfg(test)]
mod tests {
    use super::super::commit::{CommitOrder, Outcome, Put, commit};
    use super::super::stage::stage_small;
    use super::*;
    use crate::base::{FileInfo, FolderId};

    fn attached(put: &[(&str, &str)], drop: &[&str]) -> Attached {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Attached {
            put: put.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
            drop: drop.iter().map(|name| bytes(name)).collect(),
            ..Attached::default()
        }
    }

    fn done(folder: &Folder, expected: Option<FileInfo>, put: Put, attached: Attached) -> FileInfo {
        let path = RelPath::new("f").expect("valid");
        let order = CommitOrder { attached, ..CommitOrder::new(path, expected, put) };
        match commit(folder, vec![order]).remove(0) {
            Outcome::Done { info: Some(info) } => info,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_gets_what_its_version_says_and_keeps_what_is_only_here() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path()).expect("opens");
        folder.create_marker(FolderId([1; 32])).expect("marks");
        let file = |text: &[u8]| {
            let staged = stage_small(&folder, text).expect("stages");
            Put::File { staged, mode: 0o400, mtime: Default::default() }
        };
        let has = || {
            let (found, _) = read(&folder, &RelPath::new("f").expect("valid")).expect("read");
            let mut found = found.unwrap_or_default();
            found.sort();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
            found.into_iter().map(|(name, value)| text(name) + "=" + &text(value)).collect::<Vec<_>>().join(" ")
        };
        let path = dir.path().join("f");
        let first = done(&folder, None, file(b"1"), attached(&[("user.a", "1"), ("security.x", "1")], &[]));
        if has().is_empty() {
            use std::io::Write;
            writeln!(io::stderr(), "SKIPPED: this file system has no attributes of users").expect("stderr");
            return;
        }
        assert_eq!(has(), "user.a=1");
        // Only attributes, on a file for reading only, in place.
        let meta = || Put::Meta { mode: 0o400, mtime: None };
        let second = done(&folder, Some(first), meta(), attached(&[("user.b", "2")], &["user.a"]));
        assert_eq!((has().as_str(), second.inode, second.mode), ("user.b=2", first.inode, 0o400));

        // A new content has what is said; what was not said of the old one is only here, and stays.
        rustix::fs::setxattr(&path, "user.here", b"x", rustix::fs::XattrFlags::empty()).expect("set");
        let now = super::super::scan::info(&folder, &RelPath::new("f").expect("valid")).expect("there");
        let third = done(&folder, now, file(b"2"), attached(&[("user.c", "3")], &["user.b"]));
        assert_eq!(has(), "user.c=3 user.here=x");
        // Who does not look at attributes leaves them all.
        done(&folder, Some(third), file(b"3"), Attached::default());
        assert_eq!(has(), "user.c=3 user.here=x");
    }
}
