//! Answers peers that ask for content: only what they may read now, only what an entry at that path has.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use super::{MayRead, lock};
use crate::base::{ContentId, FileInfo, FolderId, NodeId, RelPath};
use crate::logic::policy::Permit;
use crate::logic::sync::index::IndexError;
use crate::shell::disk::{Folder, chunk};
use crate::shell::store::Store;
use crate::wire::codec::{Bytes, List};
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList};
use crate::wire::message::{Answer, ContentWant, Part};

/// Chunk lists of large contents kept at hand: one a transfer; a list of 16 GiB has 2 MiB.
const LISTS_MAX: usize = 4;

/// Places of one content that are looked at.
const PLACES_MAX: usize = 16;

/// Serves the contents of one folder.
pub(in crate::node) struct Server {
    folder: FolderId,
    disk: Arc<Folder>,
    store: Store,
    may_read: MayRead,
    lists: Mutex<VecDeque<Arc<Listed>>>,
}

/// A content with the offsets of its chunks.
struct Listed {
    content: ContentId,
    list: ChunkList,
    offsets: Vec<u64>,
}

/// Where a content is on this disk.
struct Place {
    path: RelPath,
    info: FileInfo,
}

impl Server {
    pub(super) fn new(folder: FolderId, disk: Arc<Folder>, store: Store, may_read: MayRead) -> Self {
        Self { folder, disk, store, may_read, lists: Mutex::new(VecDeque::new()) }
    }

    /// Answers one request. The permit names who asks, and was given for reading this path.
    pub(in crate::node) fn serve(&self, want: &ContentWant, permit: &Permit) -> Answer {
        if permit.folder() != self.folder || *permit.path() != want.path {
            return Answer::Refused;
        }
        match self.find(want) {
            Ok(Some(place)) => self.read(want, &place).unwrap_or(Answer::Absent),
            Ok(None) | Err(_) => Answer::Absent,
        }
    }

    /// The content must belong to a version of exactly the path that was asked for and permitted. Its bytes may lie
    /// anywhere in the folder that an author of such a version may read: who only knows the hash of a content cannot
    /// have it put where he reads.
    fn find(&self, want: &ContentWant) -> Result<Option<Place>, IndexError> {
        self.store.read(|look| {
            let Some(record) = look.path(&want.path)? else { return Ok(None) };
            let has = |what: &crate::wire::batch::What| what.content() == Some(want.content);
            let authors = record.heads.iter().filter(|head| has(head.what())).map(|head| head.id.writer.node);
            let authors: BTreeSet<NodeId> = authors.collect();
            if authors.is_empty() {
                return Ok(None);
            }
            if let Some(disk) = record.disk.filter(|disk| has(&disk.what)) {
                return Ok(Some(Place { path: want.path.clone(), info: disk.info }));
            }
            for path in look.places_of(want.content, PLACES_MAX)? {
                if !authors.iter().any(|author| (self.may_read)(*author, &path)) {
                    continue;
                }
                if let Some(disk) = look.path(&path)?.and_then(|record| record.disk) {
                    return Ok(Some(Place { path, info: disk.info }));
                }
            }
            Ok(None)
        })
    }

    fn read(&self, want: &ContentWant, place: &Place) -> Option<Answer> {
        match want.part {
            Part::Whole => {
                if place.info.bytes > CHUNK_BYTES_MAX as u64 {
                    return None;
                }
                let bytes = chunk::read_small(&self.disk, &place.path, &place.info).ok()?;
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
                    chunk::read_range(&self.disk, &place.path, offset, record.bytes as usize, Some(&place.info))
                        .ok()?;
                Some(Answer::Bytes(Bytes::new(bytes)?))
            }
        }
    }

    fn listed(&self, content: ContentId) -> Option<Arc<Listed>> {
        if let Some(listed) = lock(&self.lists).iter().find(|listed| listed.content == content) {
            return Some(listed.clone());
        }
        let list = self.store.read::<_, IndexError>(|look| look.chunk_list(content)).ok()??;
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
        Some(listed)
    }
}
