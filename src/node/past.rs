//! Commands that look back: which versions of a path are known, and which of them are on this machine.

use std::sync::Arc;

use super::audit::folder_ref;
use super::folder::{Back, FolderHandle};
use super::rules::{known_folders, unclear};
use super::{Shared, standing};
use crate::base::{FileTime, FolderId, RelPath};
use crate::logic::policy::{self, Policy, find_folder, find_path};
use crate::logic::sync::history;
use crate::logic::sync::index::{Head, IndexError, Look, PathRecord};
use crate::shell::disk::versions::Version;
use crate::shell::rt;
use crate::wire::api::{
    Failure, FolderRef, KeptVersion, PAST_MAX, PathText, UtcTime, Versions, VersionsBelow, VersionsOf,
};
use crate::wire::batch::What;

/// Names of a folder looked at in one step.
const PAGE: usize = 1024;

/// A path in a folder that is received here.
pub(super) struct Spot {
    /// The policy by which it was found.
    pub(super) policy: Arc<Policy>,
    /// The folder.
    pub(super) folder: FolderId,
    /// The same for people.
    pub(super) named: FolderRef,
    /// The path.
    pub(super) path: RelPath,
    /// The running folder.
    pub(super) handle: FolderHandle,
}

impl Spot {
    /// `FOLDER/PATH`.
    pub(super) fn shown(&self) -> String {
        policy::place(&self.policy, self.folder, &self.path)
    }
}

/// Finds what is named.
pub(super) fn spot(shared: &Shared, folder: &str, path: Option<&PathText>) -> Result<Spot, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    let folder = find_folder(&policy, &known_folders(shared, &policy), folder).map_err(unclear)?;
    let path = path.map_or(Ok(RelPath::root()), |path| find_path(path.as_str())).map_err(unclear)?;
    let named = folder_ref(Some(&policy), folder);
    let handle = shared.folder(folder).ok_or_else(|| {
        Failure::failed(format!("folder {} is not received here", named.name))
            .hint(format!("receive it with `lanyard get {} PATH`, or ask where it is received", named.name))
    })?;
    Ok(Spot { policy, folder, named, path, handle })
}

/// What can be brought back of a path.
pub(super) async fn versions(shared: &Arc<Shared>, ask: VersionsOf) -> Result<Versions, Failure> {
    let spot = spot(shared, &ask.folder, ask.path.as_ref())?;
    let shared = shared.clone();
    rt::spawn_blocking(move || {
        let failed = |error: IndexError| {
            Failure::failed(format!("cannot list the versions of {}", spot.shown())).because(&error)
        };
        let mut back = spot.handle.back();
        let (mut versions, is_known) = of_path(&shared, &spot, &mut back).map_err(failed)?;
        let (below, below_count) = back.store.read(|look| below(look, &spot.path)).map_err(failed)?;
        if !is_known && versions.is_empty() && below.is_empty() {
            return Err(Failure::failed(format!("nothing is known of {}", spot.shown()))
                .hint(format!("'lanyard versions {}' lists what has versions", spot.named.name)));
        }
        let more = versions.len().saturating_sub(PAST_MAX) as u64;
        versions.truncate(PAST_MAX);
        let below_more = below_count - below.len() as u64;
        let path = PathText::from_bytes(spot.path.as_bytes());
        Ok(Versions { folder: spot.named.clone(), path, versions, more, below, below_more })
    })
    .await
}

/// Versions of the path itself, newest first, and whether anything is known of it.
fn of_path(shared: &Shared, spot: &Spot, back: &mut Back) -> Result<(Vec<KeptVersion>, bool), IndexError> {
    if spot.path.is_root() {
        return Ok((Vec::new(), true));
    }
    let store = back.store.clone();
    let (shelf, disk) = back.shelf();
    // What cannot be listed is not here now.
    let mut files = shelf.of(disk, &spot.path).unwrap_or_default();
    store.read(|look| {
        let record = look.path(&spot.path)?.unwrap_or_default();
        let mut versions = Vec::new();
        for past in history::of(look, &spot.path)?.into_iter().filter(|past| is_other(&past.head, &record)) {
            let entry = &past.head.salted.entry;
            let file = take_file(&mut files, past.head.what(), entry.mtime);
            let bytes = bytes_of(past.head.what());
            let is_place = match past.head.what().content() {
                Some(content) => bytes == 0 || !look.places_of(content, 1)?.is_empty(),
                None => true,
            };
            versions.push(KeptVersion {
                at: Some(UtcTime::from_ms(entry.time.ms)),
                until: past.until_ms.map(UtcTime::from_ms),
                bytes,
                by: Some(shared.node_ref(Some(&spot.policy), past.head.id.writer.node)),
                here: is_place || file.is_some(),
                file: file.map(|version| PathText::from_bytes(version.place.as_bytes())),
            });
        }
        versions.extend(files.into_iter().map(|version| KeptVersion {
            at: None,
            until: Some(UtcTime::from_ms(version.taken_ms)),
            bytes: version.info.bytes,
            by: None,
            here: true,
            file: Some(PathText::from_bytes(version.place.as_bytes())),
        }));
        versions.sort_by_key(|version| std::cmp::Reverse(version.at.or(version.until)));
        Ok((versions, !record.is_empty()))
    })
}

/// Whether a version is a file or link, and not what is there now.
fn is_other(head: &Head, record: &PathRecord) -> bool {
    let is_kept = matches!(head.what(), What::File { .. } | What::Symlink(_));
    is_kept && record.disk.as_ref().is_none_or(|disk| disk.what != *head.what())
}

fn bytes_of(what: &What) -> u64 {
    match what {
        What::File { bytes, .. } => *bytes,
        _ => 0,
    }
}

/// The replaced file that has this version, by its length and time: the listing reads no contents.
fn take_file(files: &mut Vec<Version>, what: &What, mtime: FileTime) -> Option<Version> {
    let is_it = |version: &Version| {
        Some(version.info.kind) == what.kind()
            && version.info.mtime == mtime
            && (what.content().is_none() || version.info.bytes == bytes_of(what))
    };
    let at = files.iter().position(is_it)?;
    let found = files.remove(at);
    // The same file taken out more than once is one version.
    files.retain(|version| !is_it(version));
    Some(found)
}

/// Names below a path that have versions, and how many there are.
fn below(look: &dyn Look, top: &RelPath) -> Result<(Vec<VersionsBelow>, u64), IndexError> {
    let (mut listed, mut count) = (Vec::new(), 0);
    let mut from = Some(top.clone());
    while let Some(start) = from.take() {
        let (page, next) = look.page(top, &start, PAGE)?;
        from = next;
        for (path, record) in page.into_iter().filter(|(path, _)| path != top) {
            let kept = look.kept(&path)?;
            let others = kept.iter().filter(|head| is_other(head, &record));
            let number = others.clone().count() as u64;
            if number == 0 {
                continue;
            }
            count += 1;
            if listed.len() < PAST_MAX {
                let all: Vec<Head> = kept.iter().chain(&record.heads).cloned().collect();
                let until = others.filter_map(|head| history::replaced_ms(head, &all)).max();
                listed.push(VersionsBelow {
                    path: PathText::from_bytes(path.as_bytes()),
                    count: number,
                    until: until.map(UtcTime::from_ms),
                    deleted: record.disk.is_none() && !record.is_live(),
                });
            }
        }
    }
    Ok((listed, count))
}
