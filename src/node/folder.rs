//! One shared folder of the running node: a worker that owns its index and disk, a fetcher that brings contents.
//!
//! The worker is one thread, so that a swap on the disk and its note in the index are never seen apart by a look
//! at the disk. Everything reaches it as an event over one bounded channel.

mod apply;
mod attributes;
mod back;
mod check;
mod fetcher;
mod guard;
mod local;
mod look;
mod own;
mod parked;
mod peers;
mod place;
mod prune;
mod put;
mod revert;
mod rules;
mod serve;
mod take;
mod unusual;
mod worker;
#[cfg(feature = "archive")]
mod written;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use tracing::warn;

use crate::base::{BatchHash, ContentId, FileInfo, FolderId, Hlc, MeshId, NodeId, RelPath, Writer};
use crate::logic::office;
use crate::logic::policy::VoidEntry;
use crate::logic::retention::Retention;
use crate::logic::sync::attributes::Looks;
use crate::logic::sync::guard::{Burst, Stretch, losses};
use crate::logic::sync::index::{EntryId, IndexError, Totals};
use crate::logic::sync::notices::Told;
use crate::logic::sync::selection::Selection;
use crate::node::Shared;
use crate::node::audit::Refusal;
use crate::node::mesh::MeshHandle;
use crate::shell::disk::{DiskError, Folder, chunk::ReadError};
use crate::shell::net::link::LinkSender;
use crate::shell::rt;
use crate::shell::store::Store;
use crate::wire::api::{Deed, FolderState};
use crate::wire::batch::{Batch, Entry, Header, What};
use crate::wire::content::ChunkList;
use crate::wire::message::{Answer, BatchPush, EntryWant, Frontiers, Have};
use crate::wire::statement::Range;

pub(super) use crate::logic::sync::guard::losses::Held;
pub(super) use back::{Back, Content, Wanted};
pub(super) use check::{Checked, Damaged};
use fetcher::Arrived;
pub(super) use put::{Change, NotMade};
pub(super) use rules::NOTE_COMPLETE;
pub(super) use serve::Server;

/// Events that wait for a worker. Pushes are the largest, at most one frame each.
const EVENTS_MAX: usize = 64;
/// Orders that wait for a fetcher: answers of at most one chunk each.
const ORDERS_MAX: usize = 64;
/// Entries read from the index in one step.
const PAGE: usize = 1024;

/// What a worker is told.
pub(super) enum FolderEvent {
    /// A member that may read the folder can be reached over this control connection; a word with a lower number than
    /// one before is stale.
    PeerUp(LinkSender, u64),
    /// It cannot any more.
    PeerDown(LinkSender),
    /// A peer said something over a connection. Nothing but that of the connection in use counts.
    Said(LinkSender, Said),
    /// Contents are complete.
    Arrived(Vec<Arrived>),
    /// A content cannot be had now.
    Unavailable(ContentId, Option<DiskError>),
    /// A large file was read.
    Read(RelPath, FileInfo, Result<ChunkList, ReadError>),
    /// The rules may have changed.
    Rules,
    /// From now on this is wanted on this disk.
    Select(Selection),
    /// These files hold something else than they should.
    Damaged(Vec<Damaged>),
    /// Look at everything.
    LookAgain,
    /// Take back changes at and below this path that are only here; answer which they were.
    Revert(RelPath, Sender<Vec<RelPath>>),
    /// Make these changes as this node's own; answer which were not made.
    Make(Vec<Change>, Sender<Vec<Result<(), NotMade>>>),
    /// Look at everything; answer when nothing is left to do.
    Wait(Sender<()>),
    /// End.
    Stop,
}

/// What a peer says of a folder.
pub(super) enum Said {
    /// From now on it takes what is new, over this connection; what it has, it says next.
    Begin,
    /// How far its logs reach.
    Frontiers(Frontiers),
    /// How far it has put the folder on its disk.
    Applied(Frontiers),
    /// A batch.
    Push(Box<BatchPush>),
    /// It asks for entries again.
    Want(EntryWant),
}

/// What a folder is doing, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Nothing to do.
    Idle,
    /// Reading what changed here.
    Scanning,
    /// Bringing here what changed elsewhere.
    Syncing,
    /// Part of what changed elsewhere waits for somebody's word, or for room on the disk.
    Held,
    /// Stopped, with a reason in `Status::problem`.
    Error,
}

impl State {
    /// The word that the API uses.
    pub(super) fn word(self) -> FolderState {
        match self {
            Self::Idle => FolderState::Idle,
            Self::Scanning => FolderState::Scanning,
            Self::Syncing => FolderState::Syncing,
            Self::Held => FolderState::Held,
            Self::Error => FolderState::Error,
        }
    }
}

/// Whether a node may read a path now.
type MayRead = Arc<dyn Fn(NodeId, &RelPath) -> bool + Send + Sync>;

/// A folder's state as the API shows it.
#[derive(Clone, Debug)]
pub(super) struct Status {
    /// What it is doing.
    pub(super) state: State,
    /// What is on this disk.
    pub(super) local: Totals,
    /// What differs from what it should be.
    pub(super) need: Totals,
    /// Names changed here without the right to write.
    pub(super) local_only: u64,
    /// Names changed here that wait until another machine is reached.
    pub(super) waiting: u64,
    /// Bursts of changes that wait for a verdict, by whose they are.
    pub(super) bursts: Vec<(NodeId, Burst)>,
    /// Whether changes on this disk are told by the system, all of them.
    pub(super) watched: bool,
    /// What is wrong, for people.
    pub(super) problem: Option<String>,
    /// What is unusual about names.
    pub(super) notices: Vec<Told>,
}

/// What a folder needs to run.
pub(super) struct Setup {
    /// The mesh.
    pub(super) mesh_id: MeshId,
    /// The folder.
    pub(super) folder: FolderId,
    /// Its name.
    pub(super) name: String,
    /// Where it is.
    pub(super) root: PathBuf,
    /// Its open disk.
    pub(super) disk: Arc<Folder>,
    /// Its index.
    pub(super) store: Store,
    /// The upper bits of this folder's request numbers.
    pub(super) slot: u16,
    /// Whether its history begins here: this node has just made the folder.
    pub(super) begins: bool,
    /// What of it is wanted on this disk.
    pub(super) selection: Selection,
    /// What all parts of the node share.
    pub(super) shared: Arc<Shared>,
    /// Milliseconds between looks at everything.
    pub(super) scan_ms: u64,
    /// How much of what was replaced is kept.
    pub(super) retention: Retention,
    /// Which attributes of files are carried.
    pub(super) looks: Looks,
}

/// An entry that does not count, as it is reported. A `Vouch` names it by writer, number and batch.
#[derive(Clone, Debug)]
pub(super) struct NotCounted {
    /// Which; its writer's node is the author.
    pub(super) id: EntryId,
    /// What it is about.
    pub(super) path: RelPath,
    /// Whether it says that nothing is there.
    pub(super) deleted: bool,
    /// When it was written.
    pub(super) at: Hlc,
    /// The batch that holds it.
    pub(super) batch: BatchHash,
    /// Why it does not count.
    pub(super) why: VoidEntry,
}

/// A running folder.
#[derive(Clone)]
pub(super) struct FolderHandle {
    folder: FolderId,
    mesh: MeshHandle,
    disk: Arc<Folder>,
    store: Store,
    events: Sender<FolderEvent>,
    orders: Sender<fetcher::Order>,
    status: Arc<Mutex<Status>>,
    server: Arc<Server>,
    /// Ends when the worker has.
    done: Receiver<()>,
}

impl FolderHandle {
    /// Starts a folder's threads.
    pub(super) fn start(setup: Setup) -> Result<Self, IndexError> {
        let (events, from_events) = async_channel::bounded(EVENTS_MAX);
        let (orders, from_orders) = async_channel::bounded(ORDERS_MAX);
        let (end, done) = async_channel::bounded(1);
        let status = Status {
            state: State::Scanning,
            local: Totals::default(),
            need: Totals::default(),
            local_only: 0,
            waiting: 0,
            bursts: Vec::new(),
            watched: true,
            problem: None,
            notices: Vec::new(),
        };
        let status = Arc::new(Mutex::new(status));
        setup.shared.mesh.hold(setup.folder, setup.store.clone());
        let (mesh, folder, shared) = (setup.shared.mesh.clone(), setup.folder, setup.shared.clone());
        let (handle_mesh, disk, store) = (mesh.clone(), setup.disk.clone(), setup.store.clone());
        let may_read: MayRead = Arc::new(move |node, path| mesh.may_read(folder, node, path));
        let server = Arc::new(Server::new(folder, setup.disk.clone(), setup.store.clone(), may_read.clone()));
        let fetcher = fetcher::Fetcher {
            folder,
            node: setup.shared.mesh.node(),
            slot: setup.slot,
            server: server.clone(),
            disk: setup.disk.clone(),
            store: setup.store.clone(),
            may_read,
            wrong_bytes: Arc::new(move |node, path| {
                let why = "they are not the bytes that were signed for; another node is asked";
                let refusal = Refusal::new(Deed::Protocol, "sent wrong bytes", why);
                shared.refuse(refusal.from(node).folder(folder).path(path));
            }),
            orders: from_orders,
            worker: events.clone(),
        };
        let setup_mesh = setup.shared.mesh.clone();
        let worker = worker::Worker::new(setup, from_events, events.clone(), orders.clone(), status.clone())?;
        rt::thread("fetch", move || fetcher.run());
        let (mesh, held) = (setup_mesh, folder);
        rt::thread("folder", move || {
            worker.run();
            mesh.let_go(held);
            drop(end);
        });
        Ok(Self { folder, mesh: handle_mesh, disk, store, events, orders, status, server, done })
    }

    /// Tells the worker; waits while it has much to do.
    pub(super) async fn tell(&self, event: FolderEvent) {
        // A worker that has ended needs no word.
        let _ = self.events.send(event).await;
    }

    /// A peer's bulk connection can be used.
    pub(super) async fn bulk_up(&self, link: LinkSender, turn: u64) {
        let _ = self.orders.send(fetcher::Order::PeerUp(link, turn)).await;
    }

    /// It cannot any more.
    pub(super) async fn bulk_down(&self, link: LinkSender) {
        let _ = self.orders.send(fetcher::Order::PeerDown(link)).await;
    }

    /// A peer answered a request for content.
    pub(super) async fn answered(&self, from: NodeId, request: u64, answer: Answer) {
        let _ = self.orders.send(fetcher::Order::Answer(from, request, answer)).await;
    }

    /// A peer told which chunks it has of a content that it is fetching.
    pub(super) async fn told(&self, by: NodeId, have: Have) {
        let _ = self.orders.send(fetcher::Order::Told(by, Box::new(have))).await;
    }

    /// What answers peers that ask for content.
    pub(super) fn server(&self) -> Arc<Server> {
        self.server.clone()
    }

    /// The state as the API shows it.
    pub(super) fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// Entries that do not count, with their authors and reasons; `most` of them are looked at.
    pub(super) fn not_counted(&self, most: usize) -> Result<Vec<NotCounted>, IndexError> {
        let verdicts = self.mesh.rules(self.folder).verdicts();
        self.store.read(|look| {
            let (mut listed, mut after, mut looked) = (Vec::new(), None, 0);
            let mut batch: Option<Batch> = None;
            while looked < most {
                let page = look.voids_after(after, PAGE.min(most - looked))?;
                let Some((last, _)) = page.last() else { break };
                (after, looked) = (Some(*last), looked + page.len());
                for (id, salted) in page {
                    // Entries come in runs of one batch.
                    let holds = |header: &Header| {
                        header.writer == id.writer && (header.first..=header.last()).contains(&id.seq)
                    };
                    if !batch.as_ref().is_some_and(|batch| holds(batch.header())) {
                        batch = look.batch_of(id)?.map(|(_, batch)| batch);
                    }
                    let Some(batch) = &batch else { continue };
                    let Entry { path, time, what, .. } = salted.entry;
                    if let Some(why) = verdicts.why(batch.header(), id.seq, &path, look)? {
                        let deleted = matches!(what, What::Tombstone { .. });
                        listed.push(NotCounted { id, path, deleted, at: time, batch: batch.hash(), why });
                    }
                }
            }
            Ok(listed)
        })
    }

    /// A hash of how far all logs reach.
    pub(super) fn reach(&self) -> Result<[u8; 32], IndexError> {
        Ok(office::reach(self.store.read(|look| look.frontiers())?))
    }

    /// The range of a log that a verdict on a burst names.
    pub(super) fn range(&self, writer: Writer, stretch: Stretch) -> Result<Option<Range>, IndexError> {
        self.store.read(|look| {
            let batch = look.batch_of(EntryId { writer, seq: stretch.last })?;
            Ok(batch.map(|(_, batch)| Range { writer, first: stretch.first, last: stretch.last, batch: batch.hash() }))
        })
    }

    /// What is held of a burst: how much, and some names; `most` entries are looked at.
    pub(super) fn held(&self, burst: &Burst, most: usize, listed: usize) -> Result<Held, IndexError> {
        let held = self.store.read(|look| losses::held(look, burst, most, listed))?;
        if held.is_cut {
            warn!(most, "more is held than is counted");
        }
        Ok(held)
    }

    /// Looks at everything and returns when nothing is left to do.
    pub(super) async fn wait(&self) {
        let (done, finished) = async_channel::bounded(1);
        self.tell(FolderEvent::Wait(done)).await;
        let _ = finished.recv().await;
    }

    /// Ends the threads; what is on disk and in the index stays. Waits until the worker has ended.
    pub(super) async fn stop(&self) {
        self.tell(FolderEvent::Stop).await;
        let _ = self.orders.send(fetcher::Order::Stop).await;
        let _ = self.done.recv().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held left a whole value behind: values are replaced, not edited in steps.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The next message, or `None` after `wait_ms`; an error once nobody can send any more.
fn next<T>(from: &Receiver<T>, wait_ms: Option<u64>) -> Option<Result<T, async_channel::RecvError>> {
    match wait_ms {
        None => Some(from.recv_blocking()),
        Some(0) => match from.try_recv() {
            Ok(message) => Some(Ok(message)),
            Err(async_channel::TryRecvError::Empty) => None,
            Err(async_channel::TryRecvError::Closed) => Some(Err(async_channel::RecvError)),
        },
        Some(wait_ms) => rt::block_on(future::or(async { Some(from.recv().await) }, async {
            rt::sleep(Duration::from_millis(wait_ms)).await;
            None
        })),
    }
}
