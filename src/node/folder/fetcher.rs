//! Brings contents here: asks peers, verifies, reuses chunks that are on the disk already, resumes partial files.
//!
//! One thread a folder. It owns the scheduler and the partial files; the worker hands it wants and takes what is
//! complete. Small contents stay in memory until the worker has placed them: at most the scheduler's window.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use tracing::debug;

use super::serve::{Listed, Server};
use super::{FolderEvent, MayRead};
use crate::base::{ContentId, FolderId, NodeId, RelPath};
use crate::logic::sync::fetch::{Failure, Fetch, Want};
use crate::logic::sync::index::IndexError;
use crate::logic::sync::swarm::Tell;
use crate::logic::sync::{reuse, verify};
use crate::shell::clock;
use crate::shell::disk::primitives::Place;
use crate::shell::disk::stage::Partial;
use crate::shell::disk::versions::{Shelf, Sought};
use crate::shell::disk::{DiskError, Folder};
use crate::shell::net::link::{LinkSender, SendError};
use crate::shell::store::Store;
use crate::wire::chunker::chunks_of;
use crate::wire::codec::Bytes;
use crate::wire::content::ChunkList;
use crate::wire::message::{Answer, ContentWant, Have, Message, Part};

/// What the fetcher is told.
pub(super) enum Order {
    /// Get this. The node is the one whose entry names it: only what it may read is reused for it.
    Want(Want, NodeId),
    /// Get this for who waits at the channel, if it can be had now. The node is as in `Want`.
    Seek(Want, NodeId, Sender<Reply>),
    /// No name waits for this any more.
    Forget(ContentId),
    /// A peer can be asked over this connection.
    PeerUp(LinkSender, u64),
    /// It cannot any more.
    PeerDown(LinkSender),
    /// A peer answered.
    Answer(NodeId, u64, Answer),
    /// A peer told which chunks it has of a content that it is fetching.
    Told(NodeId, Box<Have>),
    /// Nothing is wanted any more.
    Stop,
}

/// What becomes of a `Seek`.
pub(super) enum Reply {
    /// Here it is.
    Here(Arrived),
    /// No peer that can be asked has it, and it is not kept here.
    Nobody,
    /// It is on its way already, for somebody else: ask again.
    Busy,
    /// It cannot be written here.
    Failed(DiskError),
}

/// A content that is complete and verified.
pub(in crate::node) struct Arrived {
    /// Which.
    pub(super) content: ContentId,
    /// Its chunk list.
    pub(super) list: ChunkList,
    /// The bytes, or the file that has them.
    pub(super) data: Data,
}

/// See `Arrived`.
pub(in crate::node) enum Data {
    /// A small content.
    Bytes(Vec<u8>),
    /// A large one.
    Partial(Partial),
}

/// Told who sent wrong bytes, and for which path.
pub(super) type WrongBytes = Arc<dyn Fn(NodeId, &RelPath) + Send + Sync>;
/// The thread's state.
pub(super) struct Fetcher {
    /// The folder.
    pub(super) folder: FolderId,
    /// This node.
    pub(super) node: NodeId,
    /// The upper bits of request numbers.
    pub(super) slot: u16,
    /// Serves what is here of contents that are on their way.
    pub(super) server: Arc<Server>,
    /// Its disk.
    pub(super) disk: Arc<Folder>,
    /// Its index.
    pub(super) store: Store,
    /// Who may read what.
    pub(super) may_read: MayRead,
    /// Told of bytes that were not what was asked for: who sent them, for which path.
    pub(super) wrong_bytes: WrongBytes,
    /// What it is told.
    pub(super) orders: Receiver<Order>,
    /// Where complete contents go.
    pub(super) worker: Sender<FolderEvent>,
}

struct Work {
    fetch: Fetch,
    tell: Tell,
    links: BTreeMap<NodeId, LinkSender>,
    /// The newest word about a connection of each peer.
    turns: BTreeMap<NodeId, u64>,
    assemblies: BTreeMap<ContentId, Assembly>,
    authors: BTreeMap<ContentId, NodeId>,
    /// Requests that found a full queue.
    unsent: std::collections::VecDeque<(NodeId, Message)>,
    shelf: Shelf,
    /// Who waits for contents that were sought.
    seekers: BTreeMap<ContentId, Sender<Reply>>,
    /// What is wanted while it is sought: what is at hand for the one is at hand for nobody else.
    deferred: Vec<(Want, NodeId)>,
}

/// A large content on its way into a file.
struct Assembly {
    partial: Partial,
    listed: Arc<Listed>,
}

impl Fetcher {
    /// Runs until it is told to stop.
    pub(super) fn run(self) {
        let mut work = Work {
            fetch: Fetch::new(self.node, u64::from(self.slot) << crate::node::SLOT_SHIFT),
            tell: Tell::default(),
            links: BTreeMap::new(),
            turns: BTreeMap::new(),
            assemblies: BTreeMap::new(),
            authors: BTreeMap::new(),
            unsent: std::collections::VecDeque::new(),
            shelf: Shelf::default(),
            seekers: BTreeMap::new(),
            deferred: Vec::new(),
        };
        loop {
            let now = clock::boottime_ms();
            let wait_ms = if work.unsent.is_empty() {
                let wake = work.fetch.wake_ms().into_iter().chain(work.tell.wake_ms()).min();
                wake.map(|at| at.saturating_sub(now).max(1))
            } else {
                Some(2)
            };
            let mut orders = Vec::new();
            match super::next(&self.orders, wait_ms) {
                Some(Ok(order)) => orders.push(order),
                Some(Err(_)) => return,
                None => {}
            }
            while orders.len() < 256 {
                let Ok(order) = self.orders.try_recv() else { break };
                orders.push(order);
            }
            let mut arrived = Vec::new();
            for order in orders {
                if matches!(order, Order::Stop) {
                    return;
                }
                self.handle(&mut work, order, &mut arrived);
            }
            for (want, author) in std::mem::take(&mut work.deferred) {
                self.handle(&mut work, Order::Want(want, author), &mut arrived);
            }
            if !arrived.is_empty() && self.worker.send_blocking(FolderEvent::Arrived(arrived)).is_err() {
                return;
            }
            self.ask(&mut work);
        }
    }

    fn handle(&self, work: &mut Work, order: Order, arrived: &mut Vec<Arrived>) {
        match order {
            Order::Want(want, author) if work.seekers.contains_key(&want.content) => {
                work.deferred.push((want, author));
            }
            Order::Want(want, author) => {
                work.authors.insert(want.content, author);
                self.want(work, &want, arrived);
            }
            Order::Seek(want, _, reply) if work.fetch.has(want.content) => {
                // Who waits no more needs no answer.
                let _ = reply.try_send(Reply::Busy);
            }
            Order::Seek(want, own, reply) => {
                work.authors.insert(want.content, own);
                work.seekers.insert(want.content, reply);
                self.want(work, &want, arrived);
            }
            Order::Forget(content) => {
                work.authors.remove(&content);
                if let Some(Assembly { partial, .. }) = self.give_up(work, content) {
                    // What cannot be removed now is removed when it is old.
                    let _ = partial.discard();
                }
            }
            Order::PeerUp(link, turn) => {
                let newest = work.turns.entry(link.peer()).or_default();
                if turn < *newest {
                    return;
                }
                *newest = turn;
                if work.links.get(&link.peer()).is_some_and(|used| used.id() != link.id()) {
                    // What was asked over the link before is not answered any more once that is closed.
                    work.unsent.retain(|(peer, _)| *peer != link.peer());
                    work.fetch.peer_down(link.peer());
                }
                work.fetch.peer_up(link.peer());
                work.tell.peer_up(link.peer());
                work.links.insert(link.peer(), link);
            }
            Order::PeerDown(link) => {
                if work.links.get(&link.peer()).is_some_and(|used| used.id() == link.id()) {
                    work.links.remove(&link.peer());
                    work.unsent.retain(|(peer, _)| *peer != link.peer());
                    work.fetch.peer_down(link.peer());
                    work.tell.peer_down(link.peer());
                }
            }
            Order::Answer(from, number, answer) => self.answered(work, from, number, answer, arrived),
            Order::Told(by, have) => {
                work.fetch.told(by, have.content, (have.first, &have.chunks), clock::boottime_ms());
                work.tell.heard(by, have.content);
            }
            Order::Stop => {}
        }
    }

    /// Begins with a content: its chunk list may be known, or what the path had before may have it.
    fn want(&self, work: &mut Work, want: &Want, arrived: &mut Vec<Arrived>) {
        work.fetch.want(want.clone());
        if want.is_small() {
            return;
        }
        if let Ok(Some(list)) = self.store.read::<_, IndexError>(|look| look.chunk_list(want.content)) {
            return self.begin(work, want, list, None, arrived);
        }
        let mtimes = self.store.read(|look| reuse::times_of(look, &want.path, want.content)).unwrap_or_default();
        let sought = Sought { content: want.content, bytes: want.bytes, mtimes };
        if let Some((version, list)) = work.shelf.find(&self.disk, &want.path, &sought) {
            self.begin(work, want, list, Some(&version.place), arrived);
        }
    }

    fn answered(&self, work: &mut Work, from: NodeId, number: u64, answer: Answer, arrived: &mut Vec<Arrived>) {
        let Some((want, part)) = work.fetch.asked(from, number) else { return };
        let now = clock::boottime_ms();
        let failure = match (part, answer) {
            (Part::Whole, Answer::Bytes(bytes)) => {
                let bytes = bytes.into_vec();
                let list = chunks_of(&bytes);
                match verify::whole(want.content, bytes, list) {
                    Ok((bytes, list)) => {
                        work.fetch.arrived(number);
                        work.authors.remove(&want.content);
                        let data = Data::Bytes(bytes.into_inner());
                        hand_over(work, Arrived { content: want.content, list, data }, arrived);
                        return;
                    }
                    Err(_) => Failure::Wrong,
                }
            }
            (Part::Leaf(at), Answer::Leaf { leaf, leaves }) => {
                if at == 0 {
                    match verify::leaves(want.content, want.bytes, leaves) {
                        Ok(leaves) => work.fetch.leaves_arrived(want.content, leaves),
                        Err(_) => return self.wrong(work, from, number, &want, now),
                    }
                }
                let checked = work
                    .fetch
                    .leaves(want.content)
                    .ok_or(verify::WrongBytes)
                    .and_then(|leaves| verify::leaf(leaves, at as usize, leaf));
                match checked {
                    Ok(leaf) => {
                        if let Some((want, list)) = work.fetch.leaf_arrived(number, at, leaf) {
                            self.begin(work, &want, list, None, arrived);
                        }
                        return;
                    }
                    Err(_) => Failure::Wrong,
                }
            }
            (Part::Chunk { index, .. }, Answer::Bytes(bytes)) => {
                let Some(record) = work.fetch.record(want.content, index) else { return };
                let Ok(chunk) = verify::chunk(record, bytes.into_vec()) else {
                    return self.wrong(work, from, number, &want, now);
                };
                return self.chunk_arrived(work, number, index, &want, &chunk.into_inner(), arrived);
            }
            (_, Answer::Absent | Answer::Refused) => Failure::Lacks,
            (_, Answer::Busy(retry_ms)) => Failure::Busy { retry_ms },
            (_, Answer::Bytes(_) | Answer::Leaf { .. }) => Failure::Wrong,
        };
        if failure == Failure::Wrong {
            return self.wrong(work, from, number, &want, now);
        }
        work.fetch.failed(number, failure, now);
    }

    fn wrong(&self, work: &mut Work, from: NodeId, number: u64, want: &Want, now: u64) {
        (self.wrong_bytes)(from, &want.path);
        work.fetch.failed(number, Failure::Wrong, now);
    }

    /// The list of a large content is known: what of it is here already?
    /// `kept`: a version that has all of it.
    fn begin(&self, work: &mut Work, want: &Want, list: ChunkList, kept: Option<&Place>, arrived: &mut Vec<Arrived>) {
        let author = work.authors.get(&want.content).copied();
        let begun = Partial::open_or_create(&self.disk, want.content, want.bytes).and_then(|partial| {
            let mut have = partial.verified(&list)?;
            self.reuse(&partial, &list, &mut have, (author, kept))?;
            Ok((partial, have))
        });
        match begun {
            Ok((partial, have)) => {
                let missing = (0u64..).zip(&have).filter(|(_, have)| !**have).map(|(at, _)| at).collect();
                let chunks = list.records.len() as u64;
                debug!(path = %want.path, chunks, "begun");
                let listed = Arc::new(Listed::new(want.content, list));
                self.server.share(&want.path, listed.clone());
                work.fetch.listed(want.content, listed.list.clone(), missing);
                let here = (0u64..).zip(&have).filter(|(_, have)| **have).map(|(at, _)| at);
                work.tell.begun(want.content, &want.path, chunks, here);
                work.assemblies.insert(want.content, Assembly { partial, listed });
                if work.fetch.finished(want.content).is_some() {
                    complete(work, want.content, arrived);
                }
            }
            Err(error) => {
                self.unavailable(work, want.content, error);
            }
        }
    }

    /// Copies chunks that are in other files of this folder, or in a kept version that has them all.
    fn reuse(
        &self,
        partial: &Partial,
        list: &ChunkList,
        have: &mut [bool],
        (author, kept): (Option<NodeId>, Option<&Place>),
    ) -> Result<(), DiskError> {
        let mut to = 0;
        for (at, record) in list.records.iter().enumerate() {
            let offset = to;
            to += u64::from(record.bytes);
            have[at] = have[at] || partial.put_zeros(record, offset);
            if have[at] {
                continue;
            }
            if let Some(kept) = kept {
                have[at] = partial.copy_chunk(&self.disk, kept, offset, record, offset)?;
                continue;
            }
            let Some(author) = author else { continue };
            let may_read = |path: &RelPath| (self.may_read)(author, path);
            let place = self.store.read(|look| reuse::chunk_for(look, record.hash, &may_read)).ok().flatten();
            if let Some(place) = place {
                have[at] = partial.copy_chunk(&self.disk, &Place::shared(&place.path), place.offset, record, offset)?;
            }
        }
        Ok(())
    }

    fn chunk_arrived(
        &self,
        work: &mut Work,
        number: u64,
        index: u64,
        want: &Want,
        bytes: &[u8],
        arrived: &mut Vec<Arrived>,
    ) {
        let Some(assembly) = work.assemblies.get_mut(&want.content) else { return };
        let offset = usize::try_from(index).ok().and_then(|at| assembly.listed.offsets.get(at).copied());
        let Some(offset) = offset else { return };
        if let Err(error) = assembly.partial.write_at(offset, bytes) {
            self.unavailable(work, want.content, error);
            return;
        }
        work.tell.got(want.content, index);
        if work.fetch.arrived(number).is_some() {
            complete(work, want.content, arrived);
        }
    }

    /// A content cannot be written here: it is given up, and who waits for it is told.
    fn unavailable(&self, work: &mut Work, content: ContentId, error: DiskError) {
        self.give_up(work, content);
        // Who is gone needs no word.
        match work.seekers.remove(&content) {
            Some(seeker) => {
                let _ = seeker.try_send(Reply::Failed(error));
            }
            None => {
                let _ = self.worker.send_blocking(FolderEvent::Unavailable(content, Some(error)));
            }
        }
    }

    /// A content is fetched no more.
    fn give_up(&self, work: &mut Work, content: ContentId) -> Option<Assembly> {
        work.fetch.forget(content);
        work.tell.forget(content);
        self.server.share_no_more(content);
        work.assemblies.remove(&content)
    }

    /// Tells who seeks what nobody has.
    fn answer_seekers(&self, work: &mut Work) {
        let lost: Vec<ContentId> =
            work.seekers.keys().copied().filter(|sought| work.fetch.nobody_has(*sought)).collect();
        for content in lost {
            self.give_up(work, content);
            work.authors.remove(&content);
            if let Some(seeker) = work.seekers.remove(&content) {
                let _ = seeker.try_send(Reply::Nobody);
            }
        }
    }

    /// Tells peers which chunks are here of what is on its way, if they may read it.
    fn tell(&self, work: &mut Work) {
        for word in work.tell.next(clock::boottime_ms()) {
            if !(self.may_read)(word.peer, &word.path) {
                continue;
            }
            let have = Have {
                folder: self.folder,
                path: word.path,
                content: word.content,
                first: word.first,
                chunks: Bytes::new(word.chunks).expect("a window is what one message holds"),
            };
            work.unsent.push_back((word.peer, Message::Have(have)));
        }
    }

    fn ask(&self, work: &mut Work) {
        for request in work.fetch.next_requests(clock::boottime_ms(), &*self.may_read) {
            let message = Message::ContentWant(ContentWant {
                request: request.number,
                folder: self.folder,
                path: request.want.path,
                content: request.want.content,
                part: request.part,
            });
            work.unsent.push_back((request.peer, message));
        }
        self.answer_seekers(work);
        if work.unsent.is_empty() {
            self.tell(work);
        }
        while let Some((peer, message)) = work.unsent.pop_front() {
            let Some(link) = work.links.get(&peer) else { continue };
            if let Err(SendError::Full(message)) = link.try_send(message) {
                work.unsent.push_front((peer, *message));
                return;
            }
        }
    }
}

/// A complete content goes to who sought it, else to the worker.
fn hand_over(work: &mut Work, complete: Arrived, arrived: &mut Vec<Arrived>) {
    match work.seekers.remove(&complete.content) {
        Some(seeker) => {
            // Who waits no more needs no answer; a large content stays for another try.
            let _ = seeker.try_send(Reply::Here(complete));
        }
        None => arrived.push(complete),
    }
}

fn complete(work: &mut Work, content: ContentId, arrived: &mut Vec<Arrived>) {
    work.authors.remove(&content);
    work.tell.whole(content);
    if let Some(Assembly { partial, listed }) = work.assemblies.remove(&content) {
        let list = ChunkList::clone(&listed.list);
        hand_over(work, Arrived { content, list, data: Data::Partial(partial) }, arrived);
    }
}
