//! Brings back what a folder was: contents from this disk, from what was kept here, from what peers kept.
//!
//! It runs on a thread of its own, so that the worker goes on: the worker only makes the changes, whose contents are
//! here by then. What cannot be had is known before anything is changed at its name.

use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};

use super::fetcher::{Arrived, Data, Order, Reply};
use super::put::{Change, NotMade};
use super::worker::NOTE_TIME;
use super::{FolderEvent, FolderHandle, MayRead};
use crate::base::{ContentId, NodeId, RelPath};
use crate::logic::sync::fetch::Want;
use crate::logic::sync::index::IndexError;
use crate::logic::sync::reuse;
use crate::shell::disk::export::Export;
use crate::shell::disk::stage::{self, Staged};
use crate::shell::disk::versions::{Shelf, Sought};
use crate::shell::disk::{DiskError, Folder, chunk};
use crate::shell::rt;
use crate::shell::store::Store;
use crate::wire::chunker::chunks_of;
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList};

/// Places of one content that are tried. A guess, as in `reuse`.
const PLACES_MAX: usize = 4;
/// A content that is on its way for somebody else is asked for again after this long.
const BUSY_MS: u64 = 100;
/// So often, then it is not to be had: half a minute.
const BUSY_MAX: usize = 300;

/// A content to be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::node) struct Wanted {
    /// The path that had it.
    pub(in crate::node) path: RelPath,
    /// Which.
    pub(in crate::node) content: ContentId,
    /// Its length.
    pub(in crate::node) bytes: u64,
}

/// A content that was brought here.
pub(in crate::node) struct Content {
    list: ChunkList,
    data: Data,
}

/// What brings back.
pub(in crate::node) struct Back {
    disk: Arc<Folder>,
    pub(in crate::node) store: Store,
    orders: Sender<Order>,
    events: Sender<FolderEvent>,
    own: NodeId,
    may_read: MayRead,
    shelf: Shelf,
}

impl FolderHandle {
    /// What brings back contents and files of this folder.
    pub(in crate::node) fn back(&self) -> Back {
        let (mesh, folder) = (self.mesh.clone(), self.folder);
        Back {
            disk: self.disk.clone(),
            store: self.store.clone(),
            orders: self.orders.clone(),
            events: self.events.clone(),
            own: self.mesh.node(),
            may_read: Arc::new(move |node, path| mesh.may_read(folder, node, path)),
            shelf: Shelf::default(),
        }
    }
}

impl Back {
    /// The disk.
    pub(in crate::node) fn disk(&self) -> &Folder {
        &self.disk
    }

    /// The latest time that this node has signed in the folder, milliseconds since 1970 UTC: where the clock of another
    /// runs ahead, what is listed may lie ahead of the clock here.
    pub(in crate::node) fn signed_ms(&self) -> u64 {
        let note = self.store.read::<_, IndexError>(|look| look.note(NOTE_TIME)).ok().flatten();
        note.and_then(|note| note.try_into().ok()).map_or(0, u64::from_be_bytes)
    }

    /// The kept versions here.
    pub(in crate::node) fn shelf(&mut self) -> (&mut Shelf, &Folder) {
        (&mut self.shelf, &self.disk)
    }

    /// Brings contents here, several at once; the caller bounds their bytes. In the order of `wanted`; an error says why
    /// one cannot be had.
    pub(in crate::node) fn bring(&mut self, wanted: &[Wanted]) -> Vec<Result<Content, String>> {
        let begun: Vec<Begun> = wanted.iter().map(|wanted| self.begin(wanted)).collect();
        let pairs = wanted.iter().zip(begun);
        pairs.map(|(wanted, begun)| self.end(wanted, begun)).collect()
    }

    fn begin(&mut self, wanted: &Wanted) -> Begun {
        match self.at_hand(wanted) {
            Some((bytes, list)) => Begun::Here(Content { list, data: Data::Bytes(bytes) }),
            None => Begun::Asked(self.seek(wanted)),
        }
    }

    fn end(&mut self, wanted: &Wanted, mut begun: Begun) -> Result<Content, String> {
        for _ in 0..BUSY_MAX {
            let reply = match begun {
                Begun::Here(content) => return Ok(content),
                Begun::Asked(reply) => reply.recv_blocking(),
            };
            match reply {
                Ok(Reply::Here(Arrived { list, data, .. })) => return Ok(Content { list, data }),
                Ok(Reply::Busy) => rt::block_on(rt::sleep(Duration::from_millis(BUSY_MS))),
                Ok(Reply::Nobody) => {
                    return Err("its content is kept neither here nor on a machine that is connected".into());
                }
                Ok(Reply::Failed(error)) => return Err(crate::node::reasons(&error).join(": ")),
                Err(_) => return Err("the folder has ended".into()),
            }
            begun = self.begin(wanted);
        }
        Err("its content is on its way here already: try again when it has come".into())
    }

    /// A small content, where it is on this disk.
    fn at_hand(&mut self, wanted: &Wanted) -> Option<(Vec<u8>, ChunkList)> {
        let Wanted { path, content, bytes } = wanted;
        if *bytes > CHUNK_BYTES_MAX as u64 {
            return None;
        }
        if *bytes == 0 {
            let list = ChunkList::default();
            return (list.id() == *content).then(|| (Vec::new(), list));
        }
        let may_read = |path: &RelPath| (self.may_read)(self.own, path);
        let places = self.store.read(|look| reuse::places_for(look, *content, PLACES_MAX, &may_read)).ok()?;
        let checked = |bytes: Vec<u8>| {
            let list = chunks_of(&bytes);
            (list.id() == *content).then_some((bytes, list))
        };
        let mut read = places.iter().filter_map(|(at, info)| chunk::read_small(&self.disk, at, info).ok());
        if let Some(found) = read.find_map(checked) {
            return Some(found);
        }
        let mtimes = self.store.read(|look| reuse::times_of(look, path, *content)).unwrap_or_default();
        let sought = Sought { content: *content, bytes: *bytes, mtimes };
        let (version, list) = self.shelf.find(&self.disk, path, &sought)?;
        Some((chunk::read_small_at(&self.disk, &version.place, &version.info).ok()?, list))
    }

    fn seek(&self, wanted: &Wanted) -> Receiver<Reply> {
        let (reply, replied) = async_channel::bounded(1);
        let want = Want { content: wanted.content, bytes: wanted.bytes, path: wanted.path.clone() };
        // A fetcher that has ended drops the other end.
        let _ = self.orders.send_blocking(Order::Seek(want, self.own, reply));
        replied
    }

    /// Has the worker make changes; the results are in their order.
    pub(in crate::node) fn make(&self, changes: Vec<Change>) -> Vec<Result<(), NotMade>> {
        let count = changes.len();
        let (done, finished) = async_channel::bounded(1);
        // A worker that has ended drops the other end.
        let _ = self.events.send_blocking(FolderEvent::Make(changes, done));
        let ended = || vec![Err(NotMade::For("the folder cannot be changed now".into())); count];
        finished.recv_blocking().unwrap_or_else(|_| ended())
    }
}

enum Begun {
    Here(Content),
    Asked(Receiver<Reply>),
}

impl Content {
    /// A content that is at hand.
    #[cfg(feature = "archive")]
    pub(super) fn new(list: ChunkList, data: Data) -> Self {
        Self { list, data }
    }

    /// Which it is.
    #[cfg(feature = "archive")]
    pub(in crate::node) fn id(&self) -> ContentId {
        self.list.id()
    }

    /// Writes it aside in the folder.
    pub(in crate::node) fn stage(self, disk: &Folder) -> Result<(Staged, ChunkList), DiskError> {
        let staged = match self.data {
            Data::Bytes(bytes) => stage::stage_small(disk, &bytes)?,
            Data::Partial(partial) => partial.finish()?,
        };
        Ok((staged, self.list))
    }

    /// Writes it elsewhere.
    pub(in crate::node) fn export(
        self,
        to: &mut Export,
        path: &RelPath,
        meta: (crate::base::Mode, crate::base::FileTime),
    ) -> Result<(), DiskError> {
        match self.data {
            Data::Bytes(bytes) => to.file(path, meta, &mut |offset| {
                Ok(bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default().to_vec())
            }),
            Data::Partial(partial) => {
                let written = to.file(path, meta, &mut |offset| match partial.bytes().saturating_sub(offset) {
                    0 => Ok(Vec::new()),
                    left => partial.read_at(offset, usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX)),
                });
                // What was written aside for this is not needed in the folder.
                partial.discard()?;
                written
            }
        }
    }
}
