//! The worker lets go of replaced contents: what is too old, one too many, or more than there is room for.

use tracing::{debug, warn};

use super::worker::Worker;
use crate::base::RelPath;
use crate::logic::retention::{self, DAY_MS, Kept, Sizes};
use crate::logic::sync::history;
use crate::logic::sync::index::IndexError;
use crate::shell::clock;
use crate::shell::disk::DiskError;
use crate::shell::disk::versions::{self, Pruned, Version};
use crate::wire::batch::What;

/// Note in the index: the time by which versions grow old, milliseconds since 1970 UTC.
const NOTE_AGE: &str = "age";

impl Worker {
    /// Lets go of replaced contents, as far as the configuration says.
    pub(super) fn prune(&mut self) {
        let now = match self.age() {
            Ok(now) => now,
            Err(error) => return warn!(folder = %self.setup.name, %error, "old versions stay for now"),
        };
        match self.prune_versions(now) {
            Ok(pruned) => debug!(folder = %self.setup.name, ?pruned, "old versions"),
            Err(error) => warn!(folder = %self.setup.name, %error, "old versions stay for now"),
        }
    }

    /// The time by which versions grow old; it goes on from here, also for those to come.
    fn age(&mut self) -> Result<u64, IndexError> {
        let (wall, running) = (clock::wall_ms(), clock::boottime_ms());
        let ran_ms = running.saturating_sub(self.aged_ms);
        self.aged_ms = running;
        let now = self.setup.store.write(false, |index| {
            let known = index.note(NOTE_AGE)?.and_then(|note| note.try_into().ok()).map(u64::from_be_bytes);
            let now = retention::advance(known, wall, ran_ms);
            index.put_note(NOTE_AGE, &now.to_be_bytes())?;
            Ok::<_, IndexError>(now)
        })?;
        self.setup.disk.date_versions_from(now);
        Ok(now)
    }

    fn prune_versions(&self, now: u64) -> Result<Pruned, DiskError> {
        let (disk, retention) = (&self.setup.disk, self.setup.retention);
        let mut sizes = Sizes::default();
        let mut thin = |path: Option<&RelPath>, files: &[Version]| {
            let gone = retention::gone(&self.kept(path, files, now), now, retention.keep_ms);
            let staying = files.iter().zip(&gone).filter(|(_, gone)| !**gone);
            staying.for_each(|(file, _)| sizes.add(file.taken_ms, file.info.bytes));
            gone
        };
        let mut pruned = versions::prune(disk, &mut thin)?;
        let before = retention.bytes_max.map_or(0, |most| sizes.gone_before(most));
        if before > 0 {
            let is_old = |file: &Version| file.taken_ms < before;
            let more = versions::prune(disk, &mut |_, files| files.iter().map(is_old).collect())?;
            pruned = Pruned { files: pruned.files + more.files, bytes: pruned.bytes + more.bytes };
        }
        Ok(pruned)
    }

    /// What is known of the versions of one file. What cannot be known is taken for needed.
    fn kept(&self, path: Option<&RelPath>, files: &[Version], now: u64) -> Vec<Kept> {
        let all_young = files.iter().all(|file| now.saturating_sub(file.taken_ms) <= DAY_MS);
        let past = match path {
            Some(path) if !all_young => {
                self.setup.store.read::<_, IndexError>(|look| history::replaced_by_others(look, path)).ok()
            }
            _ => None,
        };
        let is_it = |file: &Version, what: &What, mtime| match what {
            What::File { bytes, .. } => file.info.bytes == *bytes && file.info.mtime == mtime,
            What::Symlink(_) => file.info.mtime == mtime,
            What::Dir | What::Tombstone { .. } => false,
        };
        let needed = |file: &Version| match &past {
            Some(past) => past.iter().any(|entry| is_it(file, &entry.what, entry.mtime)),
            None => true,
        };
        files.iter().map(|file| Kept { taken_ms: file.taken_ms, needed: needed(file) }).collect()
    }
}
