//! One connection to a member: its messages go to the mesh and to the folders, in order.
//!
//! A session is a task. It waits for a folder that has much to do, so a peer that sends too much is slowed down and
//! nobody else. What a peer may not see is not told to it: folders it may not read do not exist for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use tracing::{debug, warn};

use super::audit::Refusal;
use super::folder::{FolderEvent, FolderHandle, Said};
use super::{Shared, doctor};
use crate::base::{FolderId, Level, NodeId, RelPath, StatementId};
use crate::logic::policy::Exchange;
use crate::logic::sync::replica::Rules;
use crate::shell::net::link::{Event, Incoming, LinkSender};
use crate::shell::{clock, rt};
use crate::wire::api::Deed;
use crate::wire::message::{Address, Answer, Bye, Content, ContentWant, Message, Purpose, RelayCall, Subscribe};

/// Incoming messages that wait for a session.
pub(super) const INCOMING_MAX: usize = 16;
/// Messages that a session holds until its link is in use; more wait in the link.
const HELD_MAX: usize = 16;
/// Requests for content answered by one job, so that many small files cost few changes of thread.
const SERVE_MAX: usize = 64;
/// Bytes of answers made before they are sent.
const SERVE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What a session is told by its node.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// This link is the one to send on from now on. The number grows with each such word of the main loop.
    Used(u64),
    /// These statements are new here.
    News(Vec<StatementId>),
    /// Ask for statements.
    Ask,
    /// The rules or the folders have changed.
    Folders,
    /// The discovery key has changed.
    Key,
    /// This folder is not received here any more.
    Dropped(FolderId),
    /// Where members are.
    Addresses(Vec<Address>),
    /// Say how this node is, if the peer may be coordinator.
    Report,
    /// Another member wants to meet this one here.
    Call(RelayCall),
    /// Close, after what was ordered before: a peer that is no member any more is told why by the statement itself.
    Close(Bye),
}

/// A running session.
pub(super) struct Session {
    shared: Arc<Shared>,
    link: LinkSender,
    peer: NodeId,
    purpose: Purpose,
    exchange: Exchange,
    /// Since which word of the main loop this link is the one to send on. Sessions run side by side: what is told of
    /// an earlier word may come later, and must not count then.
    used: Option<u64>,
    /// Folders whose workers know of this connection.
    open: BTreeSet<FolderId>,
    /// What came before the main loop's word that this link is the one in use: the peer may know that first.
    held: VecDeque<Message>,
}

impl Session {
    /// A session over a link that was just started.
    pub(super) fn new(shared: Arc<Shared>, link: LinkSender, purpose: Purpose) -> Self {
        let peer = link.peer();
        Self {
            shared,
            link,
            peer,
            purpose,
            exchange: Exchange::new(),
            used: None,
            open: BTreeSet::new(),
            held: VecDeque::new(),
        }
    }

    /// Serves the link until it ends; returns why it did.
    pub(super) async fn run(mut self, incoming: Receiver<Incoming>, orders: Receiver<Order>) -> String {
        let why = loop {
            if self.is_in_use()
                && let Some(message) = self.held.pop_front()
            {
                self.take(message, &incoming).await;
                continue;
            }
            let full = self.held.len() >= HELD_MAX && !self.link.is_closed();
            let message = async {
                if full {
                    future::pending::<()>().await;
                }
                Ok(incoming.recv().await)
            };
            match future::or(message, async { Err(orders.recv().await) }).await {
                Ok(Ok(Incoming { event: Event::Message(message), .. })) if self.is_in_use() => {
                    self.take(message, &incoming).await;
                }
                Ok(Ok(Incoming { event: Event::Message(message), .. })) => {
                    // A link that has ended is read to its end only.
                    if self.held.len() < HELD_MAX {
                        self.held.push_back(message);
                    }
                }
                Ok(Ok(Incoming { event: Event::Closed(error), .. })) => break error.to_string(),
                Ok(Err(_)) => break String::from("the link has ended"),
                Err(Ok(order)) => self.order(order).await,
                Err(Err(_)) => break String::from("the node stops"),
            }
        };
        for folder in std::mem::take(&mut self.open) {
            self.leave(folder).await;
        }
        why
    }

    /// Whether what comes is taken at once. Contents are asked for over the link that the asker uses, and are served.
    fn is_in_use(&self) -> bool {
        self.used.is_some() || self.purpose == Purpose::Bulk
    }

    async fn take(&mut self, message: Message, incoming: &Receiver<Incoming>) {
        if let Err(why) = self.message(message, incoming).await {
            let text = "broke the protocol; its link is closed";
            self.shared.refuse(Refusal::new(Deed::Protocol, text, why).from(self.peer));
            self.link.close(Bye::Protocol);
        }
    }

    async fn begin(&mut self) {
        if self.purpose == Purpose::Control {
            self.send(Message::Clock(clock::wall_ms())).await;
            for message in self.shared.mesh.announce(&self.exchange) {
                self.send(message).await;
            }
            Box::pin(self.order(Order::Key)).await;
            Box::pin(self.order(Order::Report)).await;
        }
        self.open_folders().await;
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Used(turn) => {
                self.used = Some(turn);
                // In use again after another one: the folders know of that one, and are told of this one once more.
                self.open.clear();
                self.begin().await;
            }
            Order::Close(bye) => self.link.close(bye),
            _ if self.used.is_none() => {}
            Order::Folders => self.open_folders().await,
            _ if self.purpose == Purpose::Bulk => {}
            Order::News(taken) => {
                for message in self.shared.mesh.news(&mut self.exchange, &taken) {
                    self.send(message).await;
                }
            }
            Order::Ask => {
                for message in self.shared.mesh.announce(&self.exchange) {
                    self.send(message).await;
                }
            }
            Order::Key => {
                if let Some(key) = self.shared.mesh.key_in_use() {
                    self.send(Message::DiscoveryKey(key)).await;
                }
            }
            Order::Call(call) => self.send(Message::RelayCall(call)).await,
            Order::Dropped(folder) => {
                if self.open.remove(&folder) {
                    self.send(Message::Subscribe(Subscribe { folder, receives: false })).await;
                }
            }
            Order::Report => {
                let (shared, peer) = (self.shared.clone(), self.peer);
                if let Some(report) = rt::spawn_blocking(move || shared.report_to(peer)).await {
                    self.send(Message::Report(Box::new(report))).await;
                }
            }
            Order::Addresses(addresses) => {
                self.send(Message::Addresses(crate::wire::codec::List::truncated(addresses))).await;
            }
        }
    }

    async fn send(&self, message: Message) {
        // A link that has ended says so through its own task.
        let _ = self.link.send(message).await;
    }

    /// Tells every folder that this peer may read of this connection, and those that it may no longer.
    async fn open_folders(&mut self) {
        if !self.shared.mesh.is_member(self.peer) {
            self.link.close(Bye::NotAMember);
            return;
        }
        let folders = self.shared.folders();
        let allowed: BTreeSet<FolderId> = folders.keys().copied().filter(|folder| self.may_read(*folder)).collect();
        let lost: Vec<FolderId> = self.open.difference(&allowed).copied().collect();
        for folder in lost {
            self.open.remove(&folder);
            self.leave(folder).await;
            // It begins anew, should the right come back: what it says then is asked for from the start.
            if self.purpose == Purpose::Control {
                self.send(Message::Subscribe(Subscribe { folder, receives: false })).await;
            }
        }
        for folder in allowed {
            self.open_folder(folder).await;
        }
    }

    /// Tells one folder of this connection, if it is the one to send on and the peer may know of the folder.
    async fn open_folder(&mut self, folder: FolderId) {
        let Some(handle) = self.shared.folder(folder) else { return };
        let Some(turn) = self.used else { return };
        if self.open.contains(&folder) || !self.may_read(folder) {
            return;
        }
        self.open.insert(folder);
        match self.purpose {
            Purpose::Control => handle.tell(FolderEvent::PeerUp(self.link.clone(), turn)).await,
            Purpose::Bulk => handle.bulk_up(self.link.clone(), turn).await,
        }
    }

    fn says(&self, said: Said) -> FolderEvent {
        FolderEvent::Said(self.link.clone(), said)
    }

    fn may_read(&self, folder: FolderId) -> bool {
        // A right to a part of a folder is one to be told of it; what it may not read is withheld entry by entry.
        let Some(policy) = self.shared.mesh.policy() else { return false };
        let now = crate::shell::clock::wall_ms();
        policy.visible_folders(self.peer, now).contains(&folder)
            || self.shared.mesh.rules(folder).permits(self.peer, &RelPath::root(), Level::Read)
    }

    async fn leave(&self, folder: FolderId) {
        let Some(handle) = self.shared.folder(folder) else { return };
        match self.purpose {
            Purpose::Control => handle.tell(FolderEvent::PeerDown(self.link.clone())).await,
            Purpose::Bulk => handle.bulk_down(self.link.clone()).await,
        }
    }

    /// The worker of a folder that this peer may be told of; for all others there is no such folder.
    fn folder(&self, folder: FolderId) -> Option<FolderHandle> {
        self.shared.folder(folder).filter(|_| self.open.contains(&folder) || self.may_read(folder))
    }

    async fn message(&mut self, message: Message, incoming: &Receiver<Incoming>) -> Result<(), String> {
        if !self.shared.mesh.is_member(self.peer) {
            // What it sent while its removal was on the way here is not taken any more.
            let text = "sent something after its membership had ended; its link is closed";
            self.shared.refuse(Refusal::new(Deed::Connect, text, "it is no member any more").from(self.peer));
            self.link.close(Bye::NotAMember);
            return Ok(());
        }
        match message {
            Message::StatementHeads(_) | Message::StatementWant(_) | Message::Statements(_) => {
                let replies = self.shared.mesh.exchange(&mut self.exchange, self.peer, message);
                for reply in replies.map_err(|error| error.to_string())? {
                    self.send(reply).await;
                }
            }
            Message::DiscoveryKey(key) => {
                if let Err(error) = self.shared.mesh.offer_key(self.peer, key) {
                    warn!(%error, "the new discovery key cannot be kept");
                }
            }
            Message::Clock(theirs_ms) => doctor::note_clock(&self.shared, self.peer, theirs_ms),
            Message::Addresses(addresses) => self.shared.told(self.peer, addresses.into_vec()).await,
            Message::Frontiers(said) => match self.folder(said.folder) {
                Some(folder) => folder.tell(self.says(Said::Frontiers(said))).await,
                None => self.refused(said.folder, Deed::List, "asked for the changes of a folder"),
            },
            Message::Applied(said) => {
                if let Some(folder) = self.folder(said.folder) {
                    folder.tell(self.says(Said::Applied(said))).await;
                }
            }
            Message::BatchPush(push) => match self.folder(push.folder) {
                Some(folder) => folder.tell(self.says(Said::Push(Box::new(push)))).await,
                None => self.refused(push.folder, Deed::Write, "sent changes of a folder"),
            },
            Message::EntryWant(want) => match self.folder(want.folder) {
                Some(folder) => folder.tell(self.says(Said::Want(want))).await,
                None => self.refused(want.folder, Deed::List, "asked for entries of a folder"),
            },
            Message::Subscribe(Subscribe { folder, receives: true }) => {
                // It may have said before that it does not receive the folder.
                self.open_folder(folder).await;
                if let Some(folder) = self.folder(folder) {
                    folder.tell(self.says(Said::Begin)).await;
                }
            }
            Message::Subscribe(Subscribe { folder, receives: false }) => {
                if self.open.remove(&folder) {
                    self.leave(folder).await;
                }
            }
            Message::ContentWant(want) => self.serve(want, incoming).await?,
            Message::Content(content) => self.content(content).await,
            Message::Report(report) => {
                if let Some(after) = self.shared.take_report(self.peer, *report) {
                    self.send(Message::AuditWant(after)).await;
                }
            }
            Message::AuditWant(after) => {
                let (shared, peer) = (self.shared.clone(), self.peer);
                if let Some(lines) = rt::spawn_blocking(move || shared.lines_for(peer, after)).await {
                    self.send(Message::AuditLines(lines)).await;
                }
            }
            Message::AuditLines(lines) => {
                let (shared, peer) = (self.shared.clone(), self.peer);
                if let Some(after) = rt::spawn_blocking(move || shared.take_lines(peer, &lines)).await {
                    self.send(Message::AuditWant(after)).await;
                }
            }
            Message::Have(have) => {
                if let Some(folder) = self.folder(have.folder) {
                    folder.told(self.peer, have).await;
                }
            }
            Message::RelayCall(call) if self.purpose == Purpose::Control => self.shared.called(self.peer, call).await,
            // Heartbeats are taken by the election before the others' turn.
            Message::RelayCall(_) | Message::Heartbeat(_) | Message::Unknown(_) => {}
            Message::Hello(_) | Message::Ping(_) | Message::Pong(_) | Message::Bye(_) => {
                return Err(String::from("a message out of place"));
            }
        }
        Ok(())
    }

    /// A folder that this peer may not be told of; one that is only not received here, or not known yet, is no refusal.
    fn refused(&self, folder: FolderId, deed: Deed, text: &str) {
        let Some(policy) = self.shared.mesh.policy() else { return };
        if policy.folder(folder).is_some() && !self.may_read(folder) {
            self.shared.refuse(Refusal::new(deed, text, "it may read nothing there").from(self.peer).folder(folder));
        }
    }

    async fn content(&self, content: Content) {
        if let Some(folder) = self.shared.folder_of_request(content.request) {
            folder.answered(self.peer, content.request, content.answer).await;
        }
    }

    /// Answers a request and those that came in right behind it.
    async fn serve(&mut self, first: ContentWant, incoming: &Receiver<Incoming>) -> Result<(), String> {
        let mut wants = vec![first];
        let mut others = Vec::new();
        while wants.len() < SERVE_MAX && others.is_empty() {
            match incoming.try_recv() {
                Ok(Incoming { event: Event::Message(Message::ContentWant(want)), .. }) => wants.push(want),
                Ok(other) => others.push(other),
                Err(_) => break,
            }
        }
        let (shared, peer, link) = (self.shared.clone(), self.peer, self.link.clone());
        let mut rest = wants;
        while !rest.is_empty() {
            let (answers, left) = match shared.reads.enter(peer).await {
                Ok(_reading) => {
                    let shared = shared.clone();
                    rt::spawn_blocking(move || answer(&shared, peer, rest)).await
                }
                Err(retry_ms) => {
                    debug!(peer = %peer.short(), requests = rest.len(), retry_ms, "too many read at once");
                    (busy(&rest, retry_ms), Vec::new())
                }
            };
            rest = left;
            for message in answers {
                if link.send(message).await.is_err() {
                    return Ok(());
                }
            }
        }
        for Incoming { event, .. } in others {
            match event {
                Event::Message(message) => Box::pin(self.message(message, incoming)).await?,
                Event::Closed(error) => debug!(%error, "closed while serving"),
            }
        }
        Ok(())
    }
}

/// The answer to all of them where too many others read.
fn busy(wants: &[ContentWant], retry_ms: u32) -> Vec<Message> {
    let busy = |want: &ContentWant| Content { request: want.request, answer: Answer::Busy(retry_ms) };
    wants.iter().map(|want| Message::Content(busy(want))).collect()
}

/// Answers as many requests as fit into memory at once; returns the others.
fn answer(shared: &Shared, peer: NodeId, wants: Vec<ContentWant>) -> (Vec<Message>, Vec<ContentWant>) {
    let mut answers = Vec::new();
    let mut bytes = 0;
    let mut wants = wants.into_iter();
    for want in wants.by_ref() {
        let answer = match shared.mesh.permit_read(want.folder, peer, &want.path) {
            Some(Ok(permit)) => match shared.folder(want.folder) {
                Some(folder) => folder.server().serve(&want, &permit),
                None => Answer::Absent,
            },
            Some(Err(refused)) => {
                let refusal = Refusal::new(Deed::Read, "asked for a content", refused.to_string());
                shared.refuse(refusal.from(peer).folder(want.folder).path(&want.path));
                Answer::Refused
            }
            None => Answer::Refused,
        };
        if let Answer::Bytes(content) = &answer {
            bytes += content.len() as u64;
        }
        answers.push(Message::Content(Content { request: want.request, answer }));
        if bytes > SERVE_BYTES_MAX {
            break;
        }
    }
    (answers, wants.collect())
}

/// A channel to a session.
pub(super) type Orders = Sender<Order>;
