//! Relayed connections: what the two ends say to the relay, and the relay that joins their bytes.
//!
//! Rules:
//! 1. both ends come to the relay over TLS of their own, and say one message each; then their bytes are the other's;
//! 2. inside they do what they do on a direct connection: proof, TLS with node keys, hello. The relay sees ciphertext;
//! 3. a relayed connection holds two buffers of `COPY_BYTES` and what TLS and the kernel buffer; who reads slowly
//!    slows the other down;
//! 4. what moves nothing for `IDLE_MS_MAX` ends: both ends of a living link say something every few seconds.
//!
//! Page: `docs/spec/links.md`, "Relay". Who may meet whom is decided by `logic::relay`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_channel::Receiver;
use event_listener::Event as Signal;
use futures_lite::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use futures_lite::{AsyncRead, future};
use futures_rustls::TlsStream;

use super::socket::Socket;
use super::tls::Secured;
use crate::base::NodeId;
use crate::shell::rt;
use crate::wire::frame::LENGTH_BYTES;
use crate::wire::relay::{Answer, Message, RELAY_FRAME_BYTES_MAX};

/// How long the first message, or the sending of one, may take.
const MESSAGE_MS_MAX: u64 = 5_000;
/// How long a relay may take to answer: the other end is called meanwhile, and has to come.
pub const ANSWER_MS_MAX: u64 = 8_000;
/// Bytes moved at once, each way.
const COPY_BYTES: usize = 64 * 1024;
/// Moves after which others get the thread.
const MOVES_AT_ONCE: u32 = 32;
/// A bulk link that lives says something every 5 seconds; its ends give it up after 20.
const IDLE_MS_MAX: u64 = 30_000;
/// When one end has closed, the other has so long to say its last.
const LAST_WORDS_MS_MAX: u64 = 2_000;

/// How long to wait before so many bytes are passed on.
pub type Pace = Arc<dyn Fn(usize) -> Duration + Send + Sync>;

/// A connection between a member and a relay, before it is joined with another.
pub struct RelayStream {
    /// Who is at the other end, proven by TLS.
    pub peer: NodeId,
    /// Where.
    pub remote: SocketAddr,
    stream: Box<TlsStream<Socket>>,
}

/// A joined connection at one of its ends: nothing was said on it yet.
pub struct Tunnel(pub(super) Socket);

impl std::fmt::Debug for RelayStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelayStream({} at {})", self.peer.short(), self.remote)
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tunnel(over {})", self.0.remote())
    }
}

impl RelayStream {
    pub(super) fn new(secured: Secured) -> Self {
        let remote = secured.stream.get_ref().0.remote();
        Self { peer: secured.peer, remote, stream: Box::new(secured.stream) }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Message) -> io::Result<()> {
        let body = message.encode();
        let mut frame = u32::try_from(body.len()).expect("a message is short").to_be_bytes().to_vec();
        frame.extend_from_slice(&body);
        let talk = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await
        };
        bounded(MESSAGE_MS_MAX, talk).await
    }

    /// Waits for the first message. Not a byte more is read: what follows belongs to the other end.
    pub async fn first(&mut self) -> io::Result<Message> {
        bounded(MESSAGE_MS_MAX, read(&mut self.stream)).await
    }

    /// Refuses, and closes.
    pub async fn refuse(mut self, answer: Answer) {
        // Whether it heard is its own affair.
        if self.send(&Message::Answer(answer)).await.is_ok() {
            let _ = bounded(LAST_WORDS_MS_MAX, self.stream.close()).await;
        }
    }

    /// Says `message` to a relay; the joined connection, or why there is none.
    pub(super) async fn joined(mut self, message: Message) -> io::Result<Result<Tunnel, Answer>> {
        self.send(&message).await?;
        match bounded(ANSWER_MS_MAX, read(&mut self.stream)).await? {
            Message::Answer(Answer::Joined) => Ok(Ok(Tunnel(Socket::tunnel(self.stream, self.peer)))),
            Message::Answer(answer) => Ok(Err(answer)),
            Message::Ask(_) | Message::Meet(_) => Err(invalid("the relay asked instead of answering")),
        }
    }
}

/// Joins two connections until one of them ends, both are idle, or `stop` closes. Returns the bytes moved.
pub async fn join(mut one: RelayStream, mut other: RelayStream, pace: Pace, stop: Receiver<()>) -> u64 {
    let breakers = [one.stream.get_ref().0.breaker(), other.stream.get_ref().0.breaker()];
    let moved = AtomicU64::new(0);
    let closed = Signal::new();
    let talk = async {
        let joined = Message::Answer(Answer::Joined);
        let (first, second) = future::zip(one.send(&joined), other.send(&joined)).await;
        if first.is_err() || second.is_err() {
            return;
        }
        let (from_one, to_one) = split(*one.stream);
        let (from_other, to_other) = split(*other.stream);
        let last_words = closed.listen();
        let both = future::zip(
            copy(from_one, to_other, &pace, &moved, &closed),
            copy(from_other, to_one, &pace, &moved, &closed),
        );
        let too_long = async {
            last_words.await;
            rt::sleep(Duration::from_millis(LAST_WORDS_MS_MAX)).await;
        };
        let all = async {
            both.await;
        };
        future::or(all, too_long).await;
    };
    let idle = async {
        let mut seen = u64::MAX;
        while moved.load(Ordering::Relaxed) != seen {
            seen = moved.load(Ordering::Relaxed);
            rt::sleep(Duration::from_millis(IDLE_MS_MAX)).await;
        }
    };
    let stopped = async {
        let _ = stop.recv().await;
    };
    future::or(talk, future::or(idle, stopped)).await;
    for breaker in breakers {
        breaker.trip();
    }
    moved.into_inner()
}

/// Moves bytes one way until that end closes, and closes the other then.
async fn copy(
    mut from: ReadHalf<TlsStream<Socket>>,
    mut to: WriteHalf<TlsStream<Socket>>,
    pace: &Pace,
    moved: &AtomicU64,
    closed: &Signal,
) {
    let mut buffer = vec![0; COPY_BYTES];
    let mut moves = 0_u32;
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        let wait = pace(bytes);
        if !wait.is_zero() {
            rt::sleep(wait).await;
        }
        if to.write_all(&buffer[..bytes]).await.is_err() || to.flush().await.is_err() {
            break;
        }
        moved.fetch_add(bytes as u64, Ordering::Relaxed);
        moves += 1;
        if moves.is_multiple_of(MOVES_AT_ONCE) {
            rt::yield_now().await;
        }
    }
    closed.notify(usize::MAX);
    let _ = to.close().await;
}

/// One frame, and nothing of what follows it.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > RELAY_FRAME_BYTES_MAX {
        return Err(invalid("a frame that is longer than any message to a relay"));
    }
    let mut body = [0; RELAY_FRAME_BYTES_MAX];
    stream.read_exact(&mut body[..length]).await?;
    Message::decode(&body[..length]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

async fn bounded<T>(ms: u64, talk: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    rt::timeout(Duration::from_millis(ms), talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Purpose;
    use crate::wire::relay::Ask;

    #[test]
    fn a_message_is_read_to_its_last_byte_and_not_beyond() {
        let ask = Message::Ask(Ask { to: NodeId([7; 32]), purpose: Purpose::Bulk });
        let body = ask.encode();
        assert!(body.len() <= RELAY_FRAME_BYTES_MAX);
        let bytes = [&(body.len() as u32).to_be_bytes()[..], &body, b"the other's"].concat();
        let mut rest = bytes.as_slice();
        assert_eq!(rt::block_on(read(&mut rest)).expect("a message"), ask);
        assert_eq!(rest, b"the other's");
    }

    #[test]
    fn a_frame_beyond_the_bound_is_refused_before_it_is_read() {
        let mut bytes: &[u8] = &[0, 0, 0, 129, 1, 2, 3];
        assert_eq!(rt::block_on(read(&mut bytes)).expect_err("too long").kind(), io::ErrorKind::InvalidData);
        assert_eq!(bytes, [1, 2, 3]);
    }
}
