//! Answers peers that ask for content: only what they may read now, only what an entry at that path has.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::{MayRead, lock};
use crate::base::{ContentId, FileInfo, FileTime, FolderId, RelPath};
use crate::logic::policy::Permit;
use crate::logic::sync::index::IndexError;
use crate::logic::sync::reuse::{self, Source};
use crate::logic::sync::verify;
use crate::shell::disk::primitives::Place;
use crate::shell::disk::versions::{self, Shelf, Sought, Version};
use crate::shell::disk::{Folder, chunk, stage};
use crate::shell::store::Store;
use crate::wire::codec::{Bytes, List};
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList};
use crate::wire::message::{Answer, ContentWant, Part};

/// Chunk lists of large contents kept at hand: one a transfer; a list of 16 GiB has 2 MiB.
const LISTS_MAX: usize = 4;

/// Contents on their way that are served, also those just whole. A few more than are fetched at once; a list of
/// 16 GiB has 2 MiB.
const SHARES_MAX: usize = 8;

/// Serves the contents of one folder.
pub(in crate::node) struct Server {
    folder: FolderId,
    disk: Arc<Folder>,
    store: Store,
    may_read: MayRead,
    lists: Mutex<VecDeque<Arc<Listed>>>,
    /// Contents on their way here, the newest last, each with the path for which it comes.
    shares: Mutex<VecDeque<(RelPath, Arc<Listed>)>>,
    shelf: Mutex<Shelf>,
    /// Large contents that were found in a kept version of a path.
    kept: Mutex<VecDeque<(RelPath, ContentId, Version)>>,
}

/// A content with the offsets of its chunks.
pub(super) struct Listed {
    content: ContentId,
    pub(super) list: Arc<ChunkList>,
    /// Where each chunk begins, bytes.
    pub(super) offsets: Vec<u64>,
}

impl Listed {
    pub(super) fn new(content: ContentId, list: ChunkList) -> Self {
        let mut end = 0;
        let mut offsets = Vec::with_capacity(list.records.len());
        for record in &list.records {
            offsets.push(end);
            end += u64::from(record.bytes);
        }
        Self { content, list: Arc::new(list), offsets }
    }
}

/// Where a content is on this disk.
struct Found {
    place: Place,
    info: FileInfo,
}

impl Server {
    pub(super) fn new(folder: FolderId, disk: Arc<Folder>, store: Store, may_read: MayRead) -> Self {
        let (lists, shares, shelf, kept) = (Mutex::default(), Mutex::default(), Mutex::default(), Mutex::default());
        Self { folder, disk, store, may_read, lists, shares, shelf, kept }
    }

    /// What is here of this content, which comes for an entry at `path`, is served from now on.
    pub(super) fn share(&self, path: &RelPath, listed: Arc<Listed>) {
        let mut shares = lock(&self.shares);
        shares.retain(|(_, other)| other.content != listed.content);
        if shares.len() == SHARES_MAX {
            shares.pop_front();
        }
        shares.push_back((path.clone(), listed));
    }

    /// It comes no more.
    pub(super) fn share_no_more(&self, content: ContentId) {
        lock(&self.shares).retain(|(_, listed)| listed.content != content);
    }

    /// Answers one request. The permit names who asks, and was given for reading this path.
    ///
    /// The content must belong to a version of exactly the path that was asked for and permitted; its bytes may lie
    /// anywhere in the folder where both who asks and that version's author may read, on their way to that path, or
    /// where that path's own replaced contents are kept.
    pub(in crate::node) fn serve(&self, want: &ContentWant, permit: &Permit) -> Answer {
        if permit.folder() != self.folder || *permit.path() != want.path {
            return Answer::Refused;
        }
        let may_read = |node, path: &RelPath| (self.may_read)(node, path);
        let source = self.store.read::<_, IndexError>(|look| {
            reuse::place_to_serve(look, &want.path, want.content, permit.node(), &may_read)
        });
        let Ok(Some(source)) = source else { return Answer::Absent };
        let answer = match source {
            Source::File(path, info) => self.read(want, &Found { place: Place::shared(&path), info }),
            // What is on its way comes for this path: it is nobody else's secret.
            Source::Versions(bytes, mtimes) => self
                .read_share(want)
                .or_else(|| self.kept(want, bytes, mtimes).and_then(|found| self.read(want, &found))),
        };
        answer.unwrap_or(Answer::Absent)
    }

    /// A part of a content that is still on its way here, for the very path that was asked for. Only what has the hash
    /// that was asked for leaves: where nothing was written yet, other bytes are.
    fn read_share(&self, want: &ContentWant) -> Option<Answer> {
        let is_it = |(path, listed): &&(RelPath, Arc<Listed>)| (path, listed.content) == (&want.path, want.content);
        let listed = lock(&self.shares).iter().find(is_it).map(|(_, listed)| listed.clone())?;
        match want.part {
            Part::Whole => None,
            Part::Leaf(at) => leaf(&listed.list, at),
            Part::Chunk { index, hash } => {
                let at = usize::try_from(index).ok()?;
                let record = *listed.list.records.get(at).filter(|record| record.hash == hash)?;
                let (place, offset) = (stage::part(want.content), *listed.offsets.get(at)?);
                let bytes = chunk::read_range_at(&self.disk, &place, offset, record.bytes as usize, None).ok()?;
                let bytes = verify::chunk(record, bytes).ok()?;
                Some(Answer::Bytes(Bytes::new(bytes.into_inner())?))
            }
        }
    }

    /// A kept version of the path with the content.
    fn kept(&self, want: &ContentWant, bytes: u64, mtimes: Vec<FileTime>) -> Option<Found> {
        let found = |version: Version| Found { place: version.place, info: version.info };
        let is_it =
            |(path, content, _): &&(RelPath, ContentId, Version)| (path, content) == (&want.path, &want.content);
        if let Some((_, _, version)) = lock(&self.kept).iter().find(is_it) {
            return Some(found(version.clone()));
        }
        let sought = Sought { content: want.content, bytes, mtimes };
        // Not read while others wait for the shelf.
        let fitting = lock(&self.shelf).fitting(&self.disk, &want.path, &sought);
        let (version, list) = versions::first_with(&self.disk, fitting, want.content)?;
        if bytes > CHUNK_BYTES_MAX as u64 {
            self.list(want.content, list);
            let mut kept = lock(&self.kept);
            kept.truncate(LISTS_MAX - 1);
            kept.push_front((want.path.clone(), want.content, version.clone()));
        }
        Some(found(version))
    }

    fn read(&self, want: &ContentWant, found: &Found) -> Option<Answer> {
        match want.part {
            Part::Whole => {
                if found.info.bytes > CHUNK_BYTES_MAX as u64 {
                    return None;
                }
                let bytes = chunk::read_small_at(&self.disk, &found.place, &found.info).ok()?;
                Some(Answer::Bytes(Bytes::new(bytes)?))
            }
            Part::Leaf(at) => {
                let listed = self.listed(want.content)?;
                leaf(&listed.list, at)
            }
            Part::Chunk { index, hash } => {
                let listed = self.listed(want.content)?;
                let at = usize::try_from(index).ok()?;
                let record = listed.list.records.get(at).filter(|record| record.hash == hash)?;
                let offset = *listed.offsets.get(at)?;
                let bytes =
                    chunk::read_range_at(&self.disk, &found.place, offset, record.bytes as usize, Some(&found.info));
                let bytes = bytes.inspect_err(|_| self.forget_kept(want)).ok()?;
                Some(Answer::Bytes(Bytes::new(bytes)?))
            }
        }
    }

    fn listed(&self, content: ContentId) -> Option<Arc<Listed>> {
        if let Some(listed) = lock(&self.lists).iter().find(|listed| listed.content == content) {
            return Some(listed.clone());
        }
        let list = self.store.read::<_, IndexError>(|look| look.chunk_list(content)).ok()??;
        Some(self.list(content, list))
    }

    /// A version that was pruned since is looked for again.
    fn forget_kept(&self, want: &ContentWant) {
        lock(&self.kept).retain(|(path, content, _)| (path, content) != (&want.path, &want.content));
    }

    fn list(&self, content: ContentId, list: ChunkList) -> Arc<Listed> {
        let listed = Arc::new(Listed::new(content, list));
        let mut lists = lock(&self.lists);
        if lists.len() == LISTS_MAX {
            lists.pop_front();
        }
        lists.push_back(listed.clone());
        listed
    }
}

/// A leaf of a chunk list; with the first one, the hashes of all.
fn leaf(list: &ChunkList, at: u32) -> Option<Answer> {
    let leaf = list.leaf(usize::try_from(at).ok()?);
    if leaf.is_empty() {
        return None;
    }
    let leaves = if at == 0 { list.leaves() } else { List::default() };
    Some(Answer::Leaf { leaf: List::truncated(leaf.to_vec()), leaves })
}
