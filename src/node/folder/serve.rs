//! Answers peers that ask for content: only what they may read now, only what an entry at that path has.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::{MayRead, lock};
use crate::base::{ContentId, FileInfo, FileTime, FolderId, RelPath};
use crate::logic::policy::Permit;
use crate::logic::sync::index::IndexError;
use crate::logic::sync::reuse::{self, Source};
use crate::shell::disk::primitives::Place;
use crate::shell::disk::versions::{self, Shelf, Sought, Version};
use crate::shell::disk::{Folder, chunk};
use crate::shell::store::Store;
use crate::wire::codec::{Bytes, List};
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList};
use crate::wire::message::{Answer, ContentWant, Part};

/// Chunk lists of large contents kept at hand: one a transfer; a list of 16 GiB has 2 MiB.
const LISTS_MAX: usize = 4;

/// Serves the contents of one folder.
pub(in crate::node) struct Server {
    folder: FolderId,
    disk: Arc<Folder>,
    store: Store,
    may_read: MayRead,
    lists: Mutex<VecDeque<Arc<Listed>>>,
    shelf: Mutex<Shelf>,
    /// Large contents that were found in a kept version of a path.
    kept: Mutex<VecDeque<(RelPath, ContentId, Version)>>,
}

/// A content with the offsets of its chunks.
struct Listed {
    content: ContentId,
    list: ChunkList,
    offsets: Vec<u64>,
}

/// Where a content is on this disk.
struct Found {
    place: Place,
    info: FileInfo,
}

impl Server {
    pub(super) fn new(folder: FolderId, disk: Arc<Folder>, store: Store, may_read: MayRead) -> Self {
        Self { folder, disk, store, may_read, lists: Mutex::default(), shelf: Mutex::default(), kept: Mutex::default() }
    }

    /// Answers one request. The permit names who asks, and was given for reading this path.
    pub(in crate::node) fn serve(&self, want: &ContentWant, permit: &Permit) -> Answer {
        if permit.folder() != self.folder || *permit.path() != want.path {
            return Answer::Refused;
        }
        match self.find(want, permit) {
            Ok(Some(found)) => self.read(want, &found).unwrap_or(Answer::Absent),
            Ok(None) | Err(_) => Answer::Absent,
        }
    }

    /// The content must belong to a version of exactly the path that was asked for and permitted; its bytes may lie
    /// anywhere in the folder where both who asks and that version's author may read, or where that path's own
    /// replaced contents are kept.
    fn find(&self, want: &ContentWant, permit: &Permit) -> Result<Option<Found>, IndexError> {
        let may_read = |node, path: &RelPath| (self.may_read)(node, path);
        let source =
            self.store.read(|look| reuse::place_to_serve(look, &want.path, want.content, permit.node(), &may_read))?;
        Ok(match source {
            Some(Source::File(path, info)) => Some(Found { place: Place::shared(&path), info }),
            Some(Source::Versions(bytes, mtimes)) => self.kept(want, bytes, mtimes),
            None => None,
        })
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
                let leaf = listed.list.leaf(usize::try_from(at).ok()?);
                if leaf.is_empty() {
                    return None;
                }
                let leaves = if at == 0 { listed.list.leaves() } else { List::default() };
                Some(Answer::Leaf { leaf: List::truncated(leaf.to_vec()), leaves })
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
        let mut end = 0;
        let mut offsets = Vec::with_capacity(list.records.len());
        for record in &list.records {
            offsets.push(end);
            end += u64::from(record.bytes);
        }
        let listed = Arc::new(Listed { content, list, offsets });
        let mut lists = lock(&self.lists);
        if lists.len() == LISTS_MAX {
            lists.pop_front();
        }
        lists.push_back(listed.clone());
        listed
    }
}
