//! The command that reads everything again and has repaired what is damaged.

use std::sync::Arc;
use std::time::Duration;

use super::audit::folder_ref;
use super::folder::{Checked, Damaged, FolderHandle};
use super::rules::folders_meant;
use super::{Shared, standing};
use crate::base::{FolderId, RelPath};
use crate::logic::sync::index::IndexError;
use crate::shell::{clock, rt};
use crate::wire::api::{Amount, DAMAGED_LISTED_MAX, Failure, PathText, REPAIR_MS_MAX, Unread, Verified, VerifyFolders};

/// Between two looks at what is being repaired.
const LOOK_MS: u64 = 100;

/// Reads every file of one folder, or of all.
pub(super) async fn verify(shared: &Arc<Shared>, ask: VerifyFolders) -> Result<Vec<Verified>, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    let (folders, _) = folders_meant(shared, &policy, ask.folder.as_deref())?;
    let running: Vec<(FolderId, FolderHandle)> =
        folders.iter().filter_map(|folder| Some((*folder, shared.folder(*folder)?))).collect();
    if let (Some(wanted), true) = (&ask.folder, running.is_empty()) {
        return Err(Failure::failed(format!("folder {wanted} is not received here"))
            .hint("'lanyard folders' lists those that are"));
    }
    let mut found = Vec::new();
    for (folder, handle) in running {
        let named = folder_ref(Some(&policy), folder);
        let unreadable =
            |error: IndexError| Failure::failed(format!("cannot check folder {}", named.name)).because(&error);
        // While nobody waits for the answer any more, nothing more is read.
        let (waits, abandoned) = async_channel::bounded::<()>(1);
        let reader = handle.clone();
        let checked = rt::spawn_blocking(move || reader.check(&|| !abandoned.is_closed())).await;
        drop(waits);
        let Checked { files, bytes, damaged, unreadable: unread } = checked.map_err(unreadable)?;
        handle.repair(damaged.clone()).await;
        let until = clock::boottime_ms() + ask.repair_ms.min(REPAIR_MS_MAX);
        let left = repaired_until(&handle, damaged.clone(), until).await.map_err(unreadable)?;
        let text = |path: &RelPath| PathText::from_bytes(path.as_bytes());
        let listed =
            |of: &mut dyn Iterator<Item = &Damaged>| of.take(DAMAGED_LISTED_MAX).map(|d| text(&d.path)).collect();
        found.push(Verified {
            folder: named,
            read: Amount { files, bytes },
            repaired: listed(&mut damaged.iter().filter(|one| !left.contains(one))),
            damaged: listed(&mut left.iter()),
            unreadable: unread
                .into_iter()
                .take(DAMAGED_LISTED_MAX)
                .map(|(path, why)| Unread { path: text(&path), why })
                .collect(),
        });
    }
    Ok(found)
}

/// Waits until nothing is left to repair; returns what is.
async fn repaired_until(
    handle: &FolderHandle,
    mut damaged: Vec<Damaged>,
    until: u64,
) -> Result<Vec<Damaged>, IndexError> {
    loop {
        let mut left = Vec::new();
        for one in damaged {
            if !handle.is_whole(&one)? {
                left.push(one);
            }
        }
        if left.is_empty() || clock::boottime_ms() >= until {
            return Ok(left);
        }
        damaged = left;
        rt::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}
