//! Checking an archive, and repairing it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rustic_core::repofile::FileType;
use rustic_core::{CheckOptions, Id, ReadBackend, RepairIndexOptions, RepairSnapshotsOptions};
use sha2::{Digest, Sha256};

use super::files::Files;
use super::{Archive, ArchiveError, Failed, Result, TAG_INCOMPLETE, own, plain};

/// Findings of a check that are listed. A guess: a screenful.
const FINDINGS_MAX: usize = 20;

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// Snapshots in the archive.
    pub snapshots: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Files of the repository that are not what they were written as.
    pub damaged: Vec<Damaged>,
    /// What is wrong besides, in the library's words; some of it.
    pub findings: Vec<String>,
    /// How much is wrong.
    pub count: u64,
}

/// A damaged file of the repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged {
    tpe: FileType,
    id: Id,
    /// Where it is.
    pub path: PathBuf,
}

impl Archive {
    /// Checks that everything that a snapshot needs is there; with `read_data` every file of the repository is read and
    /// must be what it was written as.
    pub fn check(&self, read_data: bool) -> Result<Checked> {
        let mut checked = Checked::default();
        if read_data {
            self.read_all(&mut checked)?;
        }
        let is_bad_index = checked.damaged.iter().any(|damaged| damaged.tpe != FileType::Pack);
        let found = self.with("check the archive", |_, repo| {
            checked.snapshots = own(&repo)?.len() as u64;
            repo.check(CheckOptions::default()).map_err(Failed::Library)
        });
        let found: Vec<String> = match found {
            // The library does not name the type of the level; the other one is a warning.
            Ok(results) => {
                let serious = results.0.iter().filter(|(level, _)| format!("{level:?}") == "Error");
                serious.map(|(_, finding)| plain(finding)).collect()
            }
            // It says where already.
            Err(ArchiveError::Broken { why, .. }) if is_bad_index => vec![why],
            Err(error) => return Err(error),
        };
        checked.count = checked.damaged.len() as u64 + found.len() as u64;
        checked.findings = found.into_iter().take(FINDINGS_MAX).collect();
        Ok(checked)
    }

    /// Every file's name is the hash of its content.
    fn read_all(&self, checked: &mut Checked) -> Result<()> {
        let files = Files::new(&self.root, self.stop.clone());
        let mut all = Vec::new();
        for tpe in [FileType::Key, FileType::Snapshot, FileType::Index, FileType::Pack] {
            let listed = files.list_with_size(tpe).map_err(|error| self.failed("check the archive", &files, &error))?;
            all.extend(listed.into_iter().map(|(id, bytes)| (tpe, id, bytes)));
        }
        self.meter.start(all.iter().map(|(_, _, bytes)| u64::from(*bytes)).sum());
        for (tpe, id, bytes) in all {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ArchiveError::Stopped);
            }
            let path = files.path(tpe, &id);
            let sound = std::fs::read(&path).map(|bytes| hex(&Sha256::digest(&bytes)) == id.to_hex().as_str());
            match sound {
                Ok(true) => {}
                Ok(false) => checked.damaged.push(Damaged { tpe, id, path }),
                // A disk that cannot give it back has lost it, too.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    checked.damaged.push(Damaged { tpe, id, path });
                }
                Err(_) => {}
            }
            checked.bytes += u64::from(bytes);
            self.meter.done.fetch_add(u64::from(bytes), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes damaged files out of the repository, to `damaged/` in it. A snapshot of everything that is read afresh then
    /// brings back what is still there.
    pub fn set_aside(&self, damaged: &[Damaged]) -> Result<()> {
        self.must_be_free()?;
        self.mark_busy(true)?;
        let files = Files::new(&self.root, self.stop.clone());
        for one in damaged {
            files.set_aside(one.tpe, &one.id).map_err(|error| self.io(one.path.clone(), error))?;
        }
        self.with("repair the index", |_, repo| {
            repo.repair_index(&RepairIndexOptions::default(), false).map_err(Failed::Library)
        })?;
        self.mark_busy(false)
    }

    /// Takes what is lost out of the snapshots, which are marked then. What is left of a file has `.repaired` behind its name.
    pub fn repair_snapshots(&self) -> Result<()> {
        self.must_be_free()?;
        self.mark_busy(true)?;
        self.with("repair the snapshots", |_, repo| {
            let all = repo.get_all_snapshots().map_err(Failed::Library)?;
            let repo = repo.to_indexed().map_err(Failed::Library)?;
            for snapshot in all {
                // The library sets the tags that it is given instead of those that were there.
                let mut tags = snapshot.tags.clone();
                tags.add(TAG_INCOMPLETE.to_owned());
                let mut options = RepairSnapshotsOptions::default();
                options.tag = vec![tags];
                repo.repair_snapshots(&options, vec![snapshot], false).map_err(Failed::Library)?;
            }
            Ok(())
        })?;
        self.mark_busy(false)
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
