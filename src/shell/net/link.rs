//! A link: messages both ways over one TLS connection, with bounds on everything.
//!
//! Rules:
//! 1. a frame's length is checked before memory is taken, and memory grows only as bytes arrive;
//! 2. the outgoing queue is bounded in messages and in bytes: who sends more waits;
//! 3. who does not take incoming messages stops the reading, and so the peer; that is no sign of a dead peer;
//! 4. each end says something at least once in `ping_ms`; a peer that is silent for `silence_ms_max` while this end
//!    waits for its bytes is gone;
//! 5. a peer that breaks the protocol is told so and cut off; the error names it and what it did.
//!
//! Three tasks serve a link: one reads, one writes, one watches the time. Page: `docs/spec/links.md`.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_channel::Sender;
use event_listener::Event as Signal;
use futures_lite::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use futures_rustls::TlsStream;

use super::ear::Ear;
use super::frames::{FrameError, FrameReader};
use super::socket::{Breaker, Socket};
use super::tls::Secured;
use crate::base::NodeId;
pub use crate::logic::peering::LinkId;
use crate::shell::rt;
use crate::wire::codec::DecodeError;
use crate::wire::frame::Frame;
use crate::wire::heartbeat::Heartbeat;
use crate::wire::message::{Bye, FRAME_BYTES_MAX, Hello, Message, Purpose};

/// Small frames are gathered up to this many bytes before they are written: one system call for a burst.
const GATHER_BYTES: usize = 64 * 1024;
/// Long frames after which others get the thread: a link that never has to wait must not keep them from it. 4 MiB at
/// the average chunk, a few milliseconds.
const LONG_FRAMES_AT_ONCE: u32 = 16;
/// How long a link that ends on purpose may take to say so.
const FAREWELL_MS_MAX: u64 = 1_000;

pub(super) type Reader = FrameReader<ReadHalf<TlsStream<Socket>>>;
pub(super) type Writer = WriteHalf<TlsStream<Socket>>;

/// The bounds of one link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Something is said at least this often.
    pub ping_ms: u64,
    /// A peer that says nothing for so long is gone. Noticed at most `ping_ms` later.
    pub silence_ms_max: u64,
    /// Messages that wait to be sent.
    pub queue_messages_max: usize,
    /// Bytes that wait to be sent. One message of any length is always taken.
    pub queue_bytes_max: usize,
}

impl Limits {
    /// The bounds for a purpose. Guesses: four lost signs of life are no accident on a LAN; bulk links need to notice
    /// less quickly, as their control link does. Queues hold a push of statements, or four chunks.
    pub fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Control => {
                Self { ping_ms: 1_000, silence_ms_max: 4_000, queue_messages_max: 1024, queue_bytes_max: 4 << 20 }
            }
            Purpose::Bulk => {
                Self { ping_ms: 5_000, silence_ms_max: 20_000, queue_messages_max: 256, queue_bytes_max: 4 << 20 }
            }
        }
    }
}

/// Bytes on the wire, TLS and all, since the connection was made.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) read: AtomicU64,
    pub(super) written: AtomicU64,
}

impl Counters {
    /// Bytes received.
    pub fn bytes_in(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes sent.
    pub fn bytes_out(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer ended it on purpose.
    #[error("{} closed the link: {}", peer.short(), said(*bye))]
    Bye {
        /// Who.
        peer: NodeId,
        /// Why.
        bye: Bye,
    },
    /// The peer broke the protocol.
    #[error("{} broke the protocol", peer.short())]
    Protocol {
        /// Who.
        peer: NodeId,
        /// What it did.
        source: ProtocolError,
    },
    /// Nothing was heard for too long.
    #[error("{} has been silent for {ms} ms", peer.short())]
    Silent {
        /// Who.
        peer: NodeId,
        /// For how long.
        ms: u64,
    },
    /// The connection broke.
    #[error("the connection to {} broke", peer.short())]
    Lost {
        /// Who.
        peer: NodeId,
        /// Why.
        source: io::Error,
    },
    /// This node closed it.
    #[error("this node closed the link to {}: {}", peer.short(), said(*bye))]
    Closed {
        /// Who was at the other end.
        peer: NodeId,
        /// Why.
        bye: Bye,
    },
}

/// What a peer did that it must not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame over the limit; nothing was allocated for it.
    #[error("it announced a frame of {bytes} bytes, more than the {max} allowed")]
    TooLong {
        /// Announced.
        bytes: usize,
        /// Allowed.
        max: usize,
    },
    /// A frame that is no message.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A message that does not belong there.
    #[error("it sent {0} out of place")]
    OutOfPlace(&'static str),
}

fn said(bye: Bye) -> &'static str {
    match bye {
        Bye::Stopping => "it stops",
        Bye::NotAMember => "not a member of its mesh",
        Bye::Duplicate => "another connection is kept",
        Bye::Protocol => "the protocol was broken",
        Bye::Busy => "too many connections",
    }
}

/// A message could not be queued.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The queue is full. The message comes back.
    #[error("the outgoing queue is full")]
    Full(Box<Message>),
    /// The link has ended.
    #[error("the link has ended")]
    Closed,
    /// The message does not fit a frame: a bug of the caller.
    #[error("the message is longer than a frame may be")]
    TooLong,
}

/// What comes out of a link.
#[derive(Debug)]
pub struct Incoming {
    /// Which link.
    pub link: LinkId,
    /// What.
    pub event: Event,
}

/// See `Incoming`.
#[derive(Debug)]
pub enum Event {
    /// A message; never a hello or a sign of life.
    Message(Message),
    /// The link has ended; nothing comes after this.
    Closed(LinkError),
}

/// A connection on which both ends have said hello. It carries messages once it is started.
pub struct Link {
    /// Who is at the other end, proven by TLS.
    pub peer: NodeId,
    /// What the peer said of itself.
    pub hello: Hello,
    /// Where it is; an IPv6 scope is kept.
    pub remote: SocketAddr,
    /// The relay between, if there is one; `remote` is the relay's then.
    pub via: Option<NodeId>,
    /// Whether this node dialled.
    pub dialled: bool,
    reader: Reader,
    writer: Writer,
    breaker: Breaker,
    counters: Arc<Counters>,
    heartbeats: Option<Ear>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({:?} {:?} at {})", self.peer, self.hello.purpose, self.remote)
    }
}

impl Link {
    /// Says hello and waits for the peer's. The caller bounds the time and has asked whether the peer is a member.
    pub(super) async fn greet(secured: Secured, own: &Hello, dialled: bool) -> Result<Self, LinkError> {
        let Secured { stream, peer, .. } = secured;
        let socket = stream.get_ref().0;
        let (remote, via, breaker, counters) = (socket.remote(), socket.via(), socket.breaker(), socket.counters());
        let (read, mut writer) = split(stream);
        let mut reader = FrameReader::new(read, FRAME_BYTES_MAX);
        let lost = |source| LinkError::Lost { peer, source };
        let frame = Frame::new(Message::Hello(own.clone())).expect("a hello is short");
        writer.write_all(&frame.head).await.map_err(lost)?;
        writer.flush().await.map_err(lost)?;
        let protocol = |source| LinkError::Protocol { peer, source };
        let hello = match reader.message().await {
            // The purpose is the dialler's to say.
            Ok(Message::Hello(hello)) if dialled => Hello { purpose: own.purpose, ..hello },
            Ok(Message::Hello(hello)) => hello,
            Ok(Message::Bye(bye)) => return Err(LinkError::Bye { peer, bye }),
            Ok(_) => return Err(protocol(ProtocolError::OutOfPlace("something else than its hello"))),
            Err(FrameError::Io(source)) => return Err(lost(source)),
            Err(FrameError::Protocol(source)) => {
                farewell(&mut writer, &mut reader, Bye::Protocol).await;
                return Err(protocol(source));
            }
        };
        Ok(Self { peer, hello, remote, via, dialled, reader, writer, breaker, counters, heartbeats: None })
    }

    /// Heartbeats of the peer go there at once, past everything that waits to be taken.
    pub fn with_heartbeats(mut self, to: Ear) -> Self {
        self.heartbeats = Some(to);
        self
    }

    /// Bytes on the wire.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Says why there will be no link, and closes.
    pub async fn refuse(mut self, bye: Bye) {
        farewell(&mut self.writer, &mut self.reader, bye).await;
        self.breaker.trip();
    }

    /// Starts the tasks of the link. What comes in goes to `incoming`, last of all why the link ended; a receiver that
    /// is gone ends it. The link lives until it is closed or broken, not until the returned handle is dropped.
    pub fn start(self, id: LinkId, limits: Limits, incoming: Sender<Incoming>) -> LinkSender {
        let shared = Arc::new(Shared {
            id,
            peer: self.peer,
            limits,
            bulk: self.hello.purpose == Purpose::Bulk,
            queue: Mutex::new(Queue::default()),
            filled: Signal::new(),
            drained: Signal::new(),
            ended: Signal::new(),
            waiting: AtomicBool::new(true),
            breaker: self.breaker,
            counters: self.counters,
        });
        rt::spawn(write(shared.clone(), self.writer));
        rt::spawn(watch(shared.clone()));
        rt::spawn(read(shared.clone(), self.reader, incoming, self.heartbeats));
        LinkSender(shared)
    }
}

/// Tells the peer why and waits, a bounded time, until it has closed: closing at once could lose the last words.
pub(super) async fn farewell(writer: &mut Writer, reader: &mut Reader, bye: Bye) {
    let frame = Frame::new(Message::Bye(bye)).expect("a bye is short");
    let talk = async {
        writer.write_all(&frame.head).await?;
        writer.close().await?;
        reader.drain(FRAME_BYTES_MAX).await
    };
    // Whether it heard is its own affair.
    let _ = rt::timeout(Duration::from_millis(FAREWELL_MS_MAX), talk).await;
}

/// The sending end of a link. Clones share one queue.
#[derive(Clone)]
pub struct LinkSender(Arc<Shared>);

impl std::fmt::Debug for LinkSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkSender({:?} to {:?})", self.0.id, self.0.peer)
    }
}

impl LinkSender {
    /// Which link.
    pub fn id(&self) -> LinkId {
        self.0.id
    }

    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.0.peer
    }

    /// Bytes on the wire.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Queues a message; waits while the queue is full.
    pub async fn send(&self, message: Message) -> Result<(), SendError> {
        let frame = Frame::new(message).ok_or(SendError::TooLong)?;
        loop {
            let drained = self.0.drained.listen();
            {
                let mut queue = self.0.queue();
                if queue.closed() {
                    return Err(SendError::Closed);
                }
                if queue.fits(&self.0.limits, frame.bytes()) {
                    queue.push(frame);
                    // Others may wait for what is left of the room.
                    let room = queue.bytes < self.0.limits.queue_bytes_max;
                    drop(queue);
                    self.0.filled.notify(1);
                    if room {
                        self.0.drained.notify(1);
                    }
                    return Ok(());
                }
            }
            drained.await;
        }
    }

    /// Queues a message if there is room.
    pub fn try_send(&self, message: Message) -> Result<(), SendError> {
        let mut queue = self.0.queue();
        if queue.closed() {
            return Err(SendError::Closed);
        }
        // Whether there is room for the whole of it is known only once it is encoded, and then it could not be given
        // back; so one message may exceed the bound, as in `send` on an empty queue.
        if queue.frames.len() >= self.0.limits.queue_messages_max || queue.bytes >= self.0.limits.queue_bytes_max {
            return Err(SendError::Full(Box::new(message)));
        }
        let frame = Frame::new(message).ok_or(SendError::TooLong)?;
        queue.push(frame);
        drop(queue);
        self.0.filled.notify(1);
        Ok(())
    }

    /// Says a heartbeat, before everything that waits to be sent and in place of one that was not sent yet.
    pub fn heartbeat(&self, heartbeat: Heartbeat) {
        let frame = Frame::new(Message::Heartbeat(heartbeat)).expect("a heartbeat is short");
        self.0.queue().heartbeat = Some(frame);
        self.0.filled.notify(1);
    }

    /// Bytes that came so far, and whether more are waited for: else they wait here, untaken.
    pub fn life(&self) -> (u64, bool) {
        (self.0.counters.bytes_in(), self.0.waiting.load(Ordering::Acquire))
    }

    /// Queues bytes that need not be a message.
    #[cfg(test)]
    pub(super) fn write_raw(&self, bytes: Vec<u8>) {
        self.0.queue().push(Frame { head: bytes, tail: Vec::new() });
        self.0.filled.notify(1);
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.0.queue().bytes
    }

    /// Ends the link: what is queued is still sent, then `bye`, all within a second.
    pub fn close(&self, bye: Bye) {
        self.0.end(LinkError::Closed { peer: self.0.peer, bye }, Some(bye));
    }

    /// Whether the link has ended or is about to.
    pub fn is_closed(&self) -> bool {
        self.0.queue().closed()
    }
}

struct Shared {
    id: LinkId,
    peer: NodeId,
    limits: Limits,
    bulk: bool,
    queue: Mutex<Queue>,
    filled: Signal,
    drained: Signal,
    ended: Signal,
    /// Whether the reader waits for bytes (and not for who takes its messages).
    waiting: AtomicBool,
    breaker: Breaker,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    // One slot each: a peer that asks for a thousand signs of life gets one.
    ping: bool,
    pong: Option<u64>,
    heartbeat: Option<Frame>,
    pings: u64,
    bye: Option<Bye>,
    ended: Option<LinkError>,
    over: bool,
}

impl Queue {
    fn closed(&self) -> bool {
        self.over || self.ended.is_some()
    }

    fn fits(&self, limits: &Limits, bytes: usize) -> bool {
        self.frames.is_empty()
            || self.frames.len() < limits.queue_messages_max && self.bytes + bytes <= limits.queue_bytes_max
    }

    fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes();
        self.frames.push_back(frame);
    }

    /// The next frame: signs of life first, the last word last.
    fn pop(&mut self) -> Option<Frame> {
        let short = |message| Some(Frame::new(message).expect("a sign of life is short"));
        if let Some(number) = self.pong.take() {
            return short(Message::Pong(number));
        }
        if std::mem::take(&mut self.ping) {
            self.pings += 1;
            return short(Message::Ping(self.pings));
        }
        if let Some(heartbeat) = self.heartbeat.take() {
            return Some(heartbeat);
        }
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.bytes();
            return Some(frame);
        }
        self.bye.take().and_then(|bye| short(Message::Bye(bye)))
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no one panics while holding the queue")
    }

    /// Notes why the link ends; the first reason counts. With a last word the writer is given time to say it.
    fn end(&self, error: LinkError, bye: Option<Bye>) {
        let mut queue = self.queue();
        if queue.ended.is_some() {
            return;
        }
        queue.ended = Some(error);
        queue.bye = bye;
        drop(queue);
        self.drained.notify(usize::MAX);
        self.filled.notify(usize::MAX);
        self.ended.notify(usize::MAX);
        if bye.is_none() {
            self.breaker.trip();
        }
    }
}

/// The task that writes. Ends when the link has ended and the last word is said, or when it cannot write.
async fn write(shared: Arc<Shared>, mut writer: Writer) {
    if let Err(source) = write_all(&shared, &mut writer).await {
        // The reader may still find a last word of the peer that says more than a broken pipe; so only the queue ends.
        shared.queue().over = true;
        shared.drained.notify(usize::MAX);
        tracing::debug!(peer = %shared.peer.short(), %source, "cannot write");
        let _ = rt::timeout(Duration::from_millis(FAREWELL_MS_MAX), shared.ended.listen()).await;
        shared.end(LinkError::Lost { peer: shared.peer, source }, None);
    }
    shared.breaker.trip();
}

async fn write_all(shared: &Shared, writer: &mut Writer) -> io::Result<()> {
    let mut gathered = Vec::new();
    let mut flushed = true;
    let mut long = 0_u32;
    loop {
        let filled = shared.filled.listen();
        let (frame, ended) = {
            let mut queue = shared.queue();
            (queue.pop(), queue.ended.is_some())
        };
        let Some(frame) = frame else {
            if !gathered.is_empty() {
                writer.write_all(&gathered).await?;
                gathered.clear();
                // What is idle holds no memory.
                gathered.shrink_to(4 * 1024);
                flushed = false;
            }
            if !std::mem::replace(&mut flushed, true) {
                writer.flush().await?;
                // Something may have been queued meanwhile.
                continue;
            }
            if ended {
                writer.close().await?;
                // The peer closes when it has read the last word; till then the reader drains what it still sends.
                rt::sleep(Duration::from_millis(FAREWELL_MS_MAX / 2)).await;
                return Ok(());
            }
            filled.await;
            continue;
        };
        shared.drained.notify(1);
        gathered.extend_from_slice(&frame.head);
        if frame.tail.is_empty() && gathered.len() < GATHER_BYTES {
            continue;
        }
        flushed = false;
        writer.write_all(&gathered).await?;
        gathered.clear();
        writer.write_all(&frame.tail).await?;
        long += 1;
        if long.is_multiple_of(LONG_FRAMES_AT_ONCE) {
            rt::yield_now().await;
        }
    }
}

/// The task that watches the time.
async fn watch(shared: Arc<Shared>) {
    let (mut read, mut written) = (0, 0);
    let mut ticked = Instant::now();
    let mut silent = 0;
    loop {
        let ended = shared.ended.listen();
        if shared.queue().ended.is_some() {
            break;
        }
        let tick = Duration::from_millis(shared.limits.ping_ms);
        if rt::timeout(tick, ended).await.is_ok() {
            continue;
        }
        let (was_read, was_written) = (read, written);
        (read, written) = (shared.counters.bytes_in(), shared.counters.bytes_out());
        let own_doing = !shared.waiting.load(Ordering::Acquire);
        // A process that was stopped for a while blames nobody: one tick counts as little more than a tick.
        let passed = (ticked.elapsed().as_millis() as u64).min(shared.limits.ping_ms * 3 / 2);
        ticked = Instant::now();
        let heard = read != was_read || own_doing || (shared.bulk && written != was_written);
        silent = if heard { 0 } else { silent + passed };
        if silent >= shared.limits.silence_ms_max {
            shared.end(LinkError::Silent { peer: shared.peer, ms: silent }, None);
        } else if written == was_written {
            shared.queue().ping = true;
            shared.filled.notify(1);
        }
    }
    // A last word that cannot be said is not waited for.
    rt::sleep(Duration::from_millis(FAREWELL_MS_MAX)).await;
    shared.breaker.trip();
}

/// The task that reads. It ends last and says why the link ended.
async fn read(shared: Arc<Shared>, mut reader: Reader, incoming: Sender<Incoming>, heartbeats: Option<Ear>) {
    let peer = shared.peer;
    let mut long = 0_u32;
    loop {
        shared.waiting.store(true, Ordering::Release);
        let message = reader.message().await;
        shared.waiting.store(false, Ordering::Release);
        let message = match message {
            Ok(message) => message,
            Err(FrameError::Protocol(source)) => {
                shared.end(LinkError::Protocol { peer, source }, Some(Bye::Protocol));
                break;
            }
            Err(FrameError::Io(source)) => {
                shared.end(LinkError::Lost { peer, source }, None);
                break;
            }
        };
        match message {
            Message::Ping(number) => {
                shared.queue().pong = Some(number);
                shared.filled.notify(1);
            }
            Message::Pong(_) | Message::Unknown(_) => {}
            Message::Bye(bye) => {
                shared.end(LinkError::Bye { peer, bye }, None);
                break;
            }
            Message::Hello(_) => {
                let source = ProtocolError::OutOfPlace("a second hello");
                shared.end(LinkError::Protocol { peer, source }, Some(Bye::Protocol));
                break;
            }
            Message::Heartbeat(heartbeat) if heartbeats.is_some() => {
                heartbeats.iter().for_each(|ear| ear.hear(peer, heartbeat.clone()));
            }
            message => {
                let large = matches!(message, Message::Content(_));
                // After the last word nothing is passed on: the caller has closed this link.
                if shared.queue().ended.is_some() {
                    continue;
                }
                if incoming.send(Incoming { link: shared.id, event: Event::Message(message) }).await.is_err() {
                    shared.end(LinkError::Closed { peer, bye: Bye::Stopping }, Some(Bye::Stopping));
                    break;
                }
                long += u32::from(large);
                if large && long.is_multiple_of(LONG_FRAMES_AT_ONCE) {
                    rt::yield_now().await;
                }
            }
        }
    }
    // What the peer still sends is read and dropped, so that it reads the last word before a reset. Ends by the breaker.
    let _ = rt::timeout(Duration::from_millis(FAREWELL_MS_MAX), reader.drain(usize::MAX)).await;
    shared.breaker.trip();
    let error = {
        let mut queue = shared.queue();
        queue.over = true;
        queue.frames.clear();
        queue.bytes = 0;
        queue.ended.replace(LinkError::Closed { peer, bye: Bye::Stopping })
    };
    let error = error.expect("the reader ends only after a reason was noted");
    // Who is gone does not need to know.
    let _ = incoming.send(Incoming { link: shared.id, event: Event::Closed(error) }).await;
}
