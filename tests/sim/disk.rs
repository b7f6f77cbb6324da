//! The model disk of one node: names, inodes, stamps of a coarse clock, and the versions that lanyard kept.
//!
//! It behaves like ext4 as far as a scan can tell: writing in place keeps the inode, a rename keeps inode and
//! modification time and renews the change time, and two changes within one step of the clock leave one stamp.

use std::collections::BTreeMap;

use lanyard::base::{FileInfo, FileTime, Kind, Mode, RelPath};

/// Step of the clock that stamps files. Source: Linux `CONFIG_HZ=250`.
const STAMP_STEP_MS: u64 = 4;

/// What is under a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Body {
    File(Vec<u8>),
    Dir,
    Link(Vec<u8>),
}

impl Body {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Dir => Kind::Dir,
            Self::Link(_) => Kind::Symlink,
        }
    }
}

/// One name with what is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    pub(crate) info: FileInfo,
    pub(crate) body: Body,
}

/// A tree without stamps: what must be equal on all nodes.
pub(crate) type Tree = BTreeMap<RelPath, (Body, Mode, FileTime)>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    items: BTreeMap<RelPath, Item>,
    inodes: u64,
    /// Files that lanyard replaced or removed.
    pub(crate) versions: Vec<Vec<u8>>,
}

pub(crate) fn stamp(now_ms: u64) -> FileTime {
    let ms = now_ms - now_ms % STAMP_STEP_MS;
    FileTime { secs: i64::try_from(ms / 1000).expect("a time of this age"), nanos: (ms % 1000) as u32 * 1_000_000 }
}

impl Disk {
    pub(crate) fn item(&self, path: &RelPath) -> Option<&Item> {
        self.items.get(path)
    }

    pub(crate) fn info(&self, path: &RelPath) -> Option<FileInfo> {
        self.items.get(path).map(|item| item.info)
    }

    pub(crate) fn file(&self, path: &RelPath) -> Option<&Vec<u8>> {
        match self.items.get(path).map(|item| &item.body) {
            Some(Body::File(bytes)) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn is_dir(&self, path: &RelPath) -> bool {
        path.is_root() || self.items.get(path).is_some_and(|item| item.body == Body::Dir)
    }

    /// Whether something can be put under this name: its parent is a directory.
    pub(crate) fn has_room(&self, path: &RelPath) -> bool {
        path.parent().is_some_and(|parent| self.is_dir(&parent))
    }

    /// Everything at or below `top`, in the order of a walk.
    pub(crate) fn walk(&self, top: &RelPath) -> Vec<(RelPath, Item)> {
        let below = self.items.range(top.clone()..).take_while(|(path, _)| path.starts_with(top));
        below.map(|(path, item)| (path.clone(), item.clone())).collect()
    }

    pub(crate) fn paths(&self) -> Vec<RelPath> {
        self.items.keys().cloned().collect()
    }

    pub(crate) fn has_below(&self, path: &RelPath) -> bool {
        self.walk(path).len() > usize::from(self.items.contains_key(path))
    }

    /// Puts something under a name, replacing a file or link in place or by a new inode.
    pub(crate) fn put(&mut self, path: &RelPath, body: Body, mode: Mode, in_place: bool, now_ms: u64) {
        assert!(self.has_room(path), "{path} has no parent");
        let kept = self.items.get(path).filter(|old| in_place && old.body.kind() == body.kind());
        let (inode, mode) = match kept {
            Some(old) => (old.info.inode, old.info.mode),
            None => {
                self.inodes += 1;
                (self.inodes, mode)
            }
        };
        let at = stamp(now_ms);
        let bytes = if let Body::File(bytes) = &body { bytes.len() as u64 } else { 0 };
        let mode = if body.kind() == Kind::Symlink { 0 } else { mode };
        let info = FileInfo { kind: body.kind(), bytes, mode, mtime: at, ctime: at, inode };
        self.items.insert(path.clone(), Item { info, body });
    }

    pub(crate) fn touch(&mut self, path: &RelPath, mtime: FileTime, now_ms: u64) {
        if let Some(item) = self.items.get_mut(path) {
            item.info.mtime = mtime;
            item.info.ctime = stamp(now_ms);
        }
    }

    pub(crate) fn chmod(&mut self, path: &RelPath, mode: Mode, now_ms: u64) {
        if let Some(item) = self.items.get_mut(path).filter(|item| item.body.kind() != Kind::Symlink) {
            item.info.mode = mode;
            item.info.ctime = stamp(now_ms);
        }
    }

    /// Removes a name and all below it.
    pub(crate) fn remove(&mut self, path: &RelPath) {
        for (gone, _) in self.walk(path) {
            self.items.remove(&gone);
        }
    }

    /// Moves a name with all below it; what was there is gone.
    pub(crate) fn rename(&mut self, from: &RelPath, to: &RelPath, now_ms: u64) {
        let moved = self.walk(from);
        self.remove(from);
        self.remove(to);
        for (path, mut item) in moved {
            let tail = &path.as_bytes()[from.as_bytes().len()..];
            let target = RelPath::new([to.as_bytes(), tail].concat()).expect("a short path");
            if path == *from {
                item.info.ctime = stamp(now_ms);
            }
            self.items.insert(target, item);
        }
    }

    pub(crate) fn tree(&self) -> Tree {
        let plain = |item: &Item| {
            let mtime = if item.body == Body::Dir { FileTime::default() } else { item.info.mtime };
            (item.body.clone(), item.info.mode, mtime)
        };
        self.items.iter().map(|(path, item)| (path.clone(), plain(item))).collect()
    }
}
