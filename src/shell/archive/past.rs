//! Reading back from the archive: names of a snapshot, and contents, piece by piece.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustic_core::repofile::{Node, NodeType};
use rustic_core::{IndexedFullStatus, Repository, TreeId};

use super::files::Files;
use super::{ArchiveError, Result, Snapshot, plain};
use crate::base::file::MODE_BITS;
use crate::base::{FileTime, FolderId, Mode, RelPath};

/// An archive open for reading back. Its index is in memory while it lives.
pub struct Past {
    repo: Repository<IndexedFullStatus>,
    files: Arc<Files>,
    snapshots: Vec<Snapshot>,
}

/// A name in a snapshot.
#[derive(Clone, Debug)]
pub struct Item {
    node: Node,
    /// What it is.
    pub kind: ItemKind,
    /// Its permission bits.
    pub mode: Mode,
    /// When its content was last changed.
    pub mtime: FileTime,
}

/// What a name in a snapshot is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ItemKind {
    /// A file of this length.
    File(u64),
    /// A directory.
    Dir,
    /// A symbolic link with this text.
    Symlink(Vec<u8>),
}

impl Past {
    pub(super) fn new(repo: Repository<IndexedFullStatus>, files: Arc<Files>, mut snapshots: Vec<Snapshot>) -> Self {
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.at_ms));
        Self { repo, files, snapshots }
    }

    /// Snapshots of a folder, newest first.
    pub fn of(&self, folder: FolderId) -> impl Iterator<Item = &Snapshot> {
        self.snapshots.iter().filter(move |snapshot| snapshot.folder == folder)
    }

    /// The names at and below `top` that `wanted` asks for, with what they were.
    pub fn items(
        &self,
        snapshot: &Snapshot,
        top: &RelPath,
        wanted: &mut dyn FnMut(&RelPath) -> bool,
    ) -> Result<BTreeMap<RelPath, Item>> {
        let mut found = BTreeMap::new();
        // The one directory with the folder's name holds all.
        let all = self.tree(snapshot.tree)?;
        if let Some(tree) = all.iter().find_map(|node| node.subtree) {
            self.walk(tree, &RelPath::root(), top, wanted, &mut found)?;
        }
        Ok(found)
    }

    fn walk(
        &self,
        tree: TreeId,
        dir: &RelPath,
        top: &RelPath,
        wanted: &mut dyn FnMut(&RelPath) -> bool,
        found: &mut BTreeMap<RelPath, Item>,
    ) -> Result<()> {
        for node in self.tree(tree)? {
            // What cannot be a shared name was not put there by lanyard.
            let Ok(path) = dir.join(node.name().as_bytes()) else { continue };
            if !path.starts_with(top) && !top.starts_with(&path) {
                continue;
            }
            if path.starts_with(top)
                && wanted(&path)
                && let Some(item) = Item::of(&node)
            {
                found.insert(path.clone(), item);
            }
            if let Some(below) = node.subtree {
                self.walk(below, &path, top, wanted, found)?;
            }
        }
        Ok(())
    }

    fn tree(&self, id: TreeId) -> Result<Vec<Node>> {
        match self.repo.get_tree(&id) {
            Ok(tree) => Ok(tree.nodes),
            Err(error) => Err(self.broken("read the archive", &error)),
        }
    }

    /// Writes the content of a file to `out`, in order. A content that cannot be read whole is an error.
    pub fn read(&self, item: &Item, out: &mut dyn io::Write) -> Result<()> {
        let mut out = Counting { out, bytes: 0 };
        let read = self.repo.dump(&item.node, &mut out);
        read.map_err(|error| self.broken("read the archive", &error))?;
        match item.kind {
            ItemKind::File(bytes) if bytes != out.bytes => {
                let why = format!("{} bytes of {bytes} are there", out.bytes);
                Err(ArchiveError::Broken { doing: "read the archive", why })
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, doing: &'static str, error: &rustic_core::RusticError) -> ArchiveError {
        match self.files.take_failure() {
            Some((path, source)) => ArchiveError::Io { path, source },
            None => ArchiveError::Broken { doing, why: plain(&error.display_log()) },
        }
    }
}

impl Item {
    fn of(node: &Node) -> Option<Self> {
        let kind = match &node.node_type {
            NodeType::File => ItemKind::File(node.meta.size),
            NodeType::Dir => ItemKind::Dir,
            NodeType::Symlink { .. } => ItemKind::Symlink(node.node_type.to_link().as_os_str().as_bytes().to_vec()),
            _ => return None,
        };
        let mode = Mode::try_from(node.meta.mode.unwrap_or(0o600) & u32::from(MODE_BITS)).unwrap_or(0o600);
        let mtime = node.meta.mtime.map_or_else(FileTime::default, |time| {
            let nanos = time.subsec_nanosecond();
            match u32::try_from(nanos) {
                Ok(nanos) => FileTime { secs: time.as_second(), nanos },
                // Before 1970 the library counts back.
                Err(_) => FileTime { secs: time.as_second() - 1, nanos: (1_000_000_000 + nanos).unsigned_abs() },
            }
        });
        Some(Self { node: node.clone(), kind, mode, mtime })
    }
}

struct Counting<'a> {
    out: &'a mut dyn io::Write,
    bytes: u64,
}

impl io::Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
