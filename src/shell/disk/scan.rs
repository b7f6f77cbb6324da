//! The walk: what is really there, in the order of `RelPath`, so that it merges with the index in one pass.
//!
//! Rules:
//! 1. names of a directory are sorted by bytes; a directory comes before what is below it, that before its sibling;
//! 2. what could not be read is said, so that it is never taken for deleted;
//! 3. memory holds the directories on the current path only; the depth is bounded by `DEPTH_MAX`.
//!
//! What changes during the walk may be seen as before or after; the watcher's hint brings the next look.

use std::io;
use std::ops::ControlFlow;

use super::primitives::{Look, Place, leads_out};
use super::{DiskError, Folder, twins};
use crate::base::path::{PathError, is_reserved};
use crate::base::{FileInfo, Kind, RelPath};

/// One thing the walk met.
#[derive(Debug)]
pub enum Seen {
    /// A file, directory or symbolic link.
    Entry {
        /// Where.
        path: RelPath,
        /// What it is.
        info: FileInfo,
    },
    /// A path that exists but could not be looked at, or a directory that could not be listed (it was an `Entry`
    /// before; what is below it is unknown, not gone).
    Unreadable {
        /// Where.
        path: RelPath,
        /// Why.
        error: DiskError,
    },
    /// A name that no shared path can have.
    BadName {
        /// The directory it is in.
        dir: RelPath,
        /// The name.
        name: Vec<u8>,
        /// What is wrong with it.
        error: PathError,
    },
    /// A socket, pipe or device: never shared.
    Special {
        /// Where.
        path: RelPath,
    },
    /// Another file system mounted here: not entered.
    OtherFilesystem {
        /// Where.
        path: RelPath,
    },
}

/// One directory on the current path: its names in one block of memory, and where the walk is in it.
struct Level {
    path: RelPath,
    names: Vec<u8>,
    items: Vec<Item>,
    next: usize,
}

struct Item {
    start: u32,
    length: u16,
    look: io::Result<Look>,
}

/// Walks `start` and all below it; nothing is visited if nothing is there. The root itself is not visited.
pub fn scan(folder: &Folder, start: &RelPath, visit: &mut dyn FnMut(Seen) -> ControlFlow<()>) -> ControlFlow<()> {
    let mut levels = Vec::new();
    if start.is_root() {
        enter(folder, RelPath::root(), &mut levels, visit)?;
    } else {
        match folder.disk.look(&Place::shared(start)) {
            Err(error) if is_absent(&error) => return ControlFlow::Continue(()),
            look => see(folder, start.clone(), look, &mut levels, visit)?,
        }
    }
    while let Some(level) = levels.last_mut() {
        let at = level.next;
        level.next += 1;
        let Some(item) = level.items.get_mut(at) else {
            levels.pop();
            continue;
        };
        let look = std::mem::replace(&mut item.look, Ok(Look::Special));
        let name = &level.names[item.start as usize..][..usize::from(item.length)];
        match level.path.join(name) {
            Ok(path) => see(folder, path, look, &mut levels, visit)?,
            Err(PathError::Reserved) if level.path.is_root() => {}
            Err(error) => visit(Seen::BadName { dir: level.path.clone(), name: name.to_vec(), error })?,
        }
    }
    ControlFlow::Continue(())
}

fn see(
    folder: &Folder,
    path: RelPath,
    look: io::Result<Look>,
    levels: &mut Vec<Level>,
    visit: &mut dyn FnMut(Seen) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match look {
        Ok(Look::Plain(info)) if info.kind == Kind::Dir => {
            visit(Seen::Entry { path: path.clone(), info })?;
            enter(folder, path, levels, visit)
        }
        Ok(Look::Plain(info)) => visit(Seen::Entry { path, info }),
        Ok(Look::Special) => visit(Seen::Special { path }),
        Ok(Look::Foreign) => visit(Seen::OtherFilesystem { path }),
        Err(error) => {
            let error = DiskError::new("look at", &Place::shared(&path), error);
            visit(Seen::Unreadable { path, error })
        }
    }
}

fn enter(
    folder: &Folder,
    path: RelPath,
    levels: &mut Vec<Level>,
    visit: &mut dyn FnMut(Seen) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut names = Vec::new();
    let mut items = Vec::new();
    let place = Place::shared(&path);
    let listed = folder.disk.list(&place, &mut |name, look| {
        if path.is_root() && is_reserved(name) {
            return;
        }
        let (Ok(start), Ok(length)) = (u32::try_from(names.len()), u16::try_from(name.len())) else { return };
        names.extend_from_slice(name);
        items.push(Item { start, length, look });
    });
    match listed {
        Ok(()) => {
            items.sort_unstable_by(|a, b| name_of(&names, a).cmp(name_of(&names, b)));
            levels.push(Level { path, names, items, next: 0 });
            ControlFlow::Continue(())
        }
        // Gone since it was seen, or no directory any more: the next look tells.
        Err(error) if is_absent(&error) && !path.is_root() => ControlFlow::Continue(()),
        Err(error) => visit(Seen::Unreadable { path, error: DiskError::new("list", &place, error) }),
    }
}

fn name_of<'n>(names: &'n [u8], item: &Item) -> &'n [u8] {
    &names[item.start as usize..][..usize::from(item.length)]
}

/// What is at one path. `None` if nothing is, if something above it is no directory (a symbolic link neither), or if
/// it is nothing that can be shared: a socket, pipe, device or another file system.
///
/// On a disk that folds names it must have this very name, not that of a twin.
pub fn info(folder: &Folder, path: &RelPath) -> Result<Option<FileInfo>, DiskError> {
    let found = look(folder, &Place::shared(path))?;
    if found.is_some() && twins::of(folder, path)?.is_some() {
        return Ok(None);
    }
    Ok(found)
}

/// Whether something is there that cannot be shared: a socket, pipe, device or another file system.
pub fn is_special(folder: &Folder, path: &RelPath) -> bool {
    matches!(folder.disk.look(&Place::shared(path)), Ok(Look::Special | Look::Foreign))
}

pub(super) fn look(folder: &Folder, place: &Place) -> Result<Option<FileInfo>, DiskError> {
    match folder.disk.look(place) {
        Ok(Look::Plain(info)) => Ok(Some(info)),
        Ok(Look::Special | Look::Foreign) => Ok(None),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(DiskError::new("look at", place, error)),
    }
}

/// The text of a symbolic link; `None` if there is none at the path now.
pub fn link_text(folder: &Folder, path: &RelPath) -> Result<Option<Vec<u8>>, DiskError> {
    let place = Place::shared(path);
    match folder.disk.link_text(&place) {
        Ok(text) => Ok(Some(text)),
        // Not a symbolic link.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(DiskError::new("read the link", &place, error)),
    }
}

/// Whether an error means that no shared thing is there: missing, or behind something that is no directory.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) || leads_out(error)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(folder: &Folder, start: &RelPath) -> Vec<RelPath> {
        let mut out = Vec::new();
        let flow = scan(folder, start, &mut |seen| {
            if let Seen::Entry { path, .. } = seen {
                out.push(path);
            }
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        out
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("valid")
    }

    #[test]
    fn the_walk_is_in_the_order_of_paths_and_sees_every_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        for sub in ["a", "a/b", "a-", "a.b", "z"] {
            std::fs::create_dir(root.join(sub)).expect("made");
        }
        let long = "n".repeat(255);
        for file in ["a/b/c", "a/z", "a-/x", "a.b/y", "top", &long] {
            std::fs::write(root.join(file), file).expect("written");
        }
        std::fs::write(root.join(OsStr::from_bytes(b"z/caf\xe9\n\x01")), "x").expect("written");
        symlink("/etc", root.join("z/link")).expect("linked");
        let folder = Folder::open(root).expect("opens");
        folder.create_marker(crate::base::FolderId([1; 32])).expect("marks");

        let seen = paths(&folder, &RelPath::root());

        let mut sorted = seen.clone();
        sorted.sort();
        assert_eq!(seen, sorted);
        assert_eq!(seen.len(), 13, "{seen:?}");
        assert!(seen.contains(&RelPath::new(b"z/caf\xe9\n\x01").expect("valid")));
        assert!(seen.contains(&path(&long)));
    }

    #[test]
    fn a_walk_can_start_anywhere_and_stop_anywhere() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("made");
        std::fs::write(dir.path().join("a/b/c"), "x").expect("written");
        std::fs::write(dir.path().join("q"), "x").expect("written");
        let folder = Folder::open(dir.path()).expect("opens");

        assert_eq!(paths(&folder, &path("a/b")), [path("a/b"), path("a/b/c")]);
        assert_eq!(paths(&folder, &path("q")), [path("q")]);
        assert!(paths(&folder, &path("nothing/here")).is_empty());
        assert!(paths(&folder, &path("q/below a file")).is_empty());
        let mut count = 0;
        let flow = scan(&folder, &RelPath::root(), &mut |_| {
            count += 1;
            ControlFlow::Break(())
        });
        assert!(flow.is_break());
        assert_eq!(count, 1);
    }

    #[test]
    fn sockets_are_named_once_and_symlinks_never_entered() {
        let dir = tempfile::tempdir().expect("a directory");
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).expect("bound");
        symlink(".", dir.path().join("loop")).expect("linked");
        let folder = Folder::open(dir.path()).expect("opens");

        let mut special = Vec::new();
        let mut entries = Vec::new();
        let _ = scan(&folder, &RelPath::root(), &mut |seen| {
            match seen {
                Seen::Special { path } => special.push(path),
                Seen::Entry { path, info } => entries.push((path, info.kind)),
                other => panic!("{other:?}"),
            }
            ControlFlow::Continue(())
        });
        assert_eq!(special, [path("sock")]);
        assert_eq!(entries, [(path("loop"), Kind::Symlink)]);
        assert_eq!(link_text(&folder, &path("loop")).expect("read").as_deref(), Some(&b"."[..]));
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_reported_and_not_entered() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join(vec!["d"; 514].join("/"));
        std::fs::create_dir_all(deep).expect("made");
        let folder = Folder::open(dir.path()).expect("opens");

        let (mut entries, mut bad) = (0, Vec::new());
        let _ = scan(&folder, &RelPath::root(), &mut |seen| {
            match seen {
                Seen::Entry { .. } => entries += 1,
                Seen::BadName { error, .. } => bad.push(error),
                other => panic!("{other:?}"),
            }
            ControlFlow::Continue(())
        });
        assert_eq!(entries, 512);
        assert_eq!(bad, [PathError::TooDeep]);
    }

    #[test]
    fn what_is_behind_a_symlink_or_a_file_is_not_there() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("file"), "x").expect("written");
        symlink("/etc", dir.path().join("link")).expect("linked");
        let folder = Folder::open(dir.path()).expect("opens");

        for absent in ["none", "file/below", "link/passwd"] {
            assert_eq!(info(&folder, &path(absent)).expect("looked"), None, "{absent}");
        }
        assert_eq!(info(&folder, &path("link")).expect("looked").map(|i| i.kind), Some(Kind::Symlink));
        assert_eq!(link_text(&folder, &path("file")).expect("looked"), None);
    }
}
