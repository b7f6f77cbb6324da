//! Looking back through the archive: what names were at a moment, and their contents.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::{open, place};
use crate::base::{FolderId, RelPath};
use crate::node::{Shared, reasons};
use crate::shell::archive::{ArchiveError, Item, Past};
use crate::wire::api::Failure;

/// An archive that is open for looking back. Nothing is removed from it meanwhile.
pub(in crate::node) struct Reader {
    past: Past,
    folder: FolderId,
    _using: async_lock::RwLockReadGuardArc<()>,
}

/// A name as a snapshot has it.
pub(in crate::node) struct Archived {
    /// What it is.
    pub(in crate::node) item: Item,
    /// The time of the snapshot.
    pub(in crate::node) at_ms: u64,
}

impl Reader {
    /// Opens it; `None` where this node has none. Blocks while the archive is cleaned.
    pub(in crate::node) fn open(shared: &Arc<Shared>, folder: FolderId) -> Result<Option<Self>, Failure> {
        if !place(shared).join("config").exists() {
            return Ok(None);
        }
        let archive = open(shared, false)?;
        let using = shared.archive.using.read_arc_blocking();
        let past = archive.past().map_err(|error| super::failure("cannot look into the archive", &error))?;
        Ok(Some(Self { past, folder, _using: using }))
    }

    /// What these names were at a moment: the last snapshot before it says so, an older one only where that is not whole.
    pub(in crate::node) fn at(
        &self,
        top: &RelPath,
        mut names: BTreeSet<RelPath>,
        at_ms: u64,
    ) -> Result<BTreeMap<RelPath, Archived>, ArchiveError> {
        let mut found = BTreeMap::new();
        for snapshot in self.past.of(self.folder).filter(|snapshot| snapshot.at_ms <= at_ms) {
            if names.is_empty() {
                break;
            }
            let items = self.past.items(snapshot, top, &mut |path| names.contains(path))?;
            for (path, item) in items {
                names.remove(&path);
                found.insert(path, Archived { item, at_ms: snapshot.at_ms });
            }
            if snapshot.whole {
                break;
            }
        }
        Ok(found)
    }

    /// Everything at and below a path, as the last snapshot before a moment has it.
    pub(in crate::node) fn all(&self, top: &RelPath, at_ms: u64) -> Result<BTreeMap<RelPath, Archived>, ArchiveError> {
        let Some(snapshot) = self.past.of(self.folder).find(|snapshot| snapshot.at_ms <= at_ms) else {
            return Ok(BTreeMap::new());
        };
        let items = self.past.items(snapshot, top, &mut |_| true)?;
        Ok(items.into_iter().map(|(path, item)| (path, Archived { item, at_ms: snapshot.at_ms })).collect())
    }

    /// The newest of each name that `fits`, from all snapshots.
    pub(in crate::node) fn ever(
        &self,
        top: &RelPath,
        fits: &mut dyn FnMut(&RelPath, &Item) -> bool,
        names: &BTreeSet<RelPath>,
    ) -> Result<BTreeMap<RelPath, Archived>, ArchiveError> {
        let mut found = BTreeMap::new();
        for snapshot in self.past.of(self.folder) {
            if found.len() == names.len() {
                break;
            }
            let wanted = &mut |path: &RelPath| names.contains(path) && !found.contains_key(path);
            let items = self.past.items(snapshot, top, wanted)?;
            for (path, item) in items.into_iter().filter(|(path, item)| fits(path, item)) {
                found.insert(path, Archived { item, at_ms: snapshot.at_ms });
            }
        }
        Ok(found)
    }

    /// Writes the content of a file.
    pub(in crate::node) fn read(&self, item: &Item, out: &mut dyn io::Write) -> Result<(), String> {
        self.past.read(item, out).map_err(|error| reasons(&error).join(": "))
    }
}
