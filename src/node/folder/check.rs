//! Reading everything again: a file that nobody has changed since must still have the content that the index says.
//!
//! What the file system says of a damaged file is as it was, so no look at the disk ever notices it. Once it is known that
//! the file holds something else, the ordinary way goes on: what should be there is brought from other files, kept versions
//! or peers, and the damaged file goes to the versions.

use super::worker::{TurnError, Worker};
use super::{FolderEvent, FolderHandle};
use crate::base::{ContentId, FileInfo, RelPath};
use crate::logic::sync::index::IndexError;
use crate::logic::sync::reconcile;
use crate::shell::disk::chunk::{self, ReadError};
use crate::wire::batch::What;

/// Names read from the index in one step.
const PAGE: usize = 256;
/// Damaged files that are listed and repaired in one go. A guess: a disk with more is not repaired but replaced.
const DAMAGED_MAX: usize = 10_000;

/// A file that does not have the content that it was written with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::node) struct Damaged {
    /// Which.
    pub(in crate::node) path: RelPath,
    /// As the file system shows it.
    info: FileInfo,
    /// What it had.
    pub(in crate::node) expected: ContentId,
    /// What it has.
    found: ContentId,
}

/// What a check of a folder found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::node) struct Checked {
    /// Files that were read.
    pub(in crate::node) files: u64,
    /// Their bytes.
    pub(in crate::node) bytes: u64,
    /// Files that are not as they were written.
    pub(in crate::node) damaged: Vec<Damaged>,
    /// Files that cannot be read, with the reason.
    pub(in crate::node) unreadable: Vec<(RelPath, String)>,
}

impl FolderHandle {
    /// Reads every file that should not have changed; blocks. Ends early when `goes_on` says no.
    pub(in crate::node) fn check(&self, goes_on: &dyn Fn() -> bool) -> Result<Checked, IndexError> {
        let mut checked = Checked::default();
        let mut from = Some(RelPath::root());
        while let Some(start) = from.take().filter(|_| goes_on()) {
            let (page, next) = self.store.read(|look| look.page(&RelPath::root(), &start, PAGE))?;
            from = next;
            for (path, disk) in page.into_iter().filter_map(|(path, record)| Some((path, record.disk?))) {
                let What::File { content, bytes } = disk.what else { continue };
                match chunk::read_content(&self.disk, &path, &disk.info) {
                    Ok(list) => {
                        checked.files += 1;
                        checked.bytes += bytes;
                        if list.id() != content && checked.damaged.len() < DAMAGED_MAX {
                            let (info, found) = (disk.info, list.id());
                            checked.damaged.push(Damaged { path, info, expected: content, found });
                        }
                    }
                    // Somebody works on it: that is no damage, and the watch tells of it.
                    Err(ReadError::Changed(_) | ReadError::Gone) => {}
                    Err(error) if checked.unreadable.len() < DAMAGED_MAX => {
                        checked.unreadable.push((path, error.to_string()));
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(checked)
    }

    /// Has damaged files replaced by what they should be.
    pub(in crate::node) async fn repair(&self, damaged: Vec<Damaged>) {
        self.tell(FolderEvent::Damaged(damaged)).await;
    }

    /// Whether a file is again what it should be.
    pub(in crate::node) fn is_whole(&self, damaged: &Damaged) -> Result<bool, IndexError> {
        let record = self.store.read(|look| look.path(&damaged.path))?;
        Ok(record.and_then(|record| record.disk).is_none_or(|disk| disk.info != damaged.info))
    }
}

impl Worker {
    /// Notes what damaged files really hold, so that what they should be is put there.
    pub(super) fn note_damaged(&mut self, damaged: Vec<Damaged>) -> Result<(), TurnError> {
        let store = self.setup.store.clone();
        for Damaged { path, info, expected, found } in damaged {
            store.write(false, |index| {
                let Some(mut record) = index.path(&path)? else { return Ok(()) };
                let Some(disk) = &mut record.disk else { return Ok(()) };
                let What::File { content, .. } = &mut disk.what else { return Ok(()) };
                // What nobody else knows stays: it is all there is.
                if disk.info != info || *content != expected || record.local_only {
                    return Ok(());
                }
                *content = found;
                index.put_path(&path, &record)?;
                reconcile::mark(index, &path)
            })?;
            self.problem(format!("{path} was damaged on the disk: it is replaced by what it was"));
        }
        self.apply.touch();
        Ok(())
    }
}
