//! Dialling: connect, prove the discovery key, TLS, hello.
//!
//! Rules:
//! 1. a dialler shows who it is only to a listener whose key is that of a member, and of the expected one if any;
//! 2. every dial ends within a bounded time;
//! 3. through a relay the same is done inside a connection that the relay has joined;
//! 4. a listener that closes at the proof may have been away while the key changed: the older keys are tried as well.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::link::{Link, LinkError};
use super::pair::PairStream;
use super::relay::{ANSWER_MS_MAX, RelayStream, Tunnel};
use super::socket::Socket;
use super::versions::{self, Met};
use super::{IsMember, KeyRing, random, tls};
use crate::base::{DiscoveryKey, NodeId};
use crate::logic::versions::Apart;
use crate::shell::rt::{self, Elapsed, TcpStream};
use crate::wire::codec::Text;
use crate::wire::hello::{self, ANSWER_BYTES, CHALLENGE_BYTES};
use crate::wire::message::{Hello, Purpose};
use crate::wire::relay::{Answer, Ask, Meeting, Message};
use crate::wire::versions::{PAIRINGS, Protocol, SOFTWARE, Speaks, Spoken};

/// Time for TCP to connect. A LAN answers in milliseconds; a machine that just woke may need a second.
const CONNECT_MS_MAX: u64 = 3_000;
/// Time for all that follows, hello included.
const HANDSHAKE_MS_MAX: u64 = 5_000;

/// Keys tried at one address. Guess: who missed more changes than this is found by its last known addresses, from its side.
const TRIES_MAX: usize = 3;

/// Why there is no connection. Nothing was told to the other end but what the variant says.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection to the address.
    #[error("cannot connect to {addr}")]
    Connect {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error("{addr} did not answer in time")]
    Elapsed {
        /// Where.
        addr: SocketAddr,
    },
    /// It answered, but is not who it should be or does not know this node's mesh; or TLS failed.
    #[error("{addr} is no node of this mesh, or not the one that was expected")]
    Handshake {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A member answered, and then there was no link.
    #[error("no link with {addr}")]
    Link {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: LinkError,
    },
    /// A relay was reached, and there is no way through it.
    #[error("no way through {}: {}", relay.short(), answered(*answer))]
    Relay {
        /// Which.
        relay: NodeId,
        /// Why.
        answer: Answer,
    },
    /// It speaks no version that this node speaks.
    #[error("{}", met.apart.what(&met.remote.to_string(), SOFTWARE))]
    Versions {
        /// Whom, and what it speaks.
        met: Box<Met>,
    },
    /// This node has no mesh, so there is no key to prove.
    #[error("this node belongs to no mesh yet")]
    NoMesh,
}

/// What stays the same from dial to dial.
#[derive(Clone)]
pub struct Dialler {
    /// The node's key.
    pub key: SigningKey,
    /// The discovery keys; the newest is proven first.
    pub ring: KeyRing,
    /// Who is a member.
    pub is_member: IsMember,
    /// What this node says of itself; the purpose is replaced.
    pub hello: Hello,
    /// The versions that it speaks.
    pub speaks: Speaks,
}

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialler")
    }
}

impl Dialler {
    /// Makes a link. `expected`: only this node will do; without it any member but this node itself.
    pub async fn dial(&self, addr: SocketAddr, expected: Option<NodeId>, purpose: Purpose) -> Result<Link, DialError> {
        let mut last = DialError::NoMesh;
        for key in self.ring.all().iter().take(TRIES_MAX) {
            match self.dial_with(key, addr, expected, purpose).await {
                Err(DialError::Handshake { source, .. }) if shut_the_door(&source) => {
                    last = DialError::Handshake { addr, source };
                }
                answered => return answered,
            }
        }
        Err(last)
    }

    async fn dial_with(
        &self,
        key: &DiscoveryKey,
        addr: SocketAddr,
        expected: Option<NodeId>,
        purpose: Purpose,
    ) -> Result<Link, DialError> {
        let socket = connect(addr).await?;
        let talk = self.greet(key, socket, expected, purpose);
        within(HANDSHAKE_MS_MAX, addr, talk).await
    }

    /// Makes a link with `to` through `relay`, which listens at `addr`.
    pub async fn dial_through(
        &self,
        addr: SocketAddr,
        relay: NodeId,
        to: NodeId,
        purpose: Purpose,
    ) -> Result<Link, DialError> {
        let (key, stream) = self.reach(addr, relay).await?;
        let Tunnel(socket) = joined(addr, stream, Message::Ask(Ask { to, purpose })).await?;
        within(HANDSHAKE_MS_MAX, addr, self.greet(&key, socket, Some(to), purpose)).await
    }

    /// Comes to a meeting to which `relay` has called; the other end dials inside of what comes back.
    pub async fn meet(&self, addr: SocketAddr, relay: NodeId, meeting: Meeting) -> Result<Tunnel, DialError> {
        let (_, stream) = self.reach(addr, relay).await?;
        joined(addr, stream, Message::Meet(meeting)).await
    }

    /// Connects to a relay; says under which of the discovery keys that worked.
    async fn reach(&self, addr: SocketAddr, relay: NodeId) -> Result<(DiscoveryKey, RelayStream), DialError> {
        let mut last = DialError::NoMesh;
        for key in self.ring.all().into_iter().take(TRIES_MAX) {
            let mut socket = connect(addr).await?;
            let handshake = |source| DialError::Handshake { addr, source };
            let talk = async {
                prove(&mut socket, |challenge| hello::answer(&key, challenge, &random())).await.map_err(handshake)?;
                self.secure(socket, Protocol::Relay, Some(relay)).await
            };
            match within(HANDSHAKE_MS_MAX, addr, talk).await {
                Ok(secured) => return Ok((key, RelayStream::new(secured))),
                Err(DialError::Handshake { source, .. }) if shut_the_door(&source) => last = handshake(source),
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn accept(&self, expected: Option<NodeId>) -> tls::Accept {
        let own = NodeId(self.key.verifying_key().to_bytes());
        let is_member = self.is_member.clone();
        Arc::new(move |node| node != own && expected.is_none_or(|e| e == node) && is_member(node))
    }

    /// Proof, TLS, hello.
    async fn greet(
        &self,
        key: &DiscoveryKey,
        mut socket: Socket,
        expected: Option<NodeId>,
        purpose: Purpose,
    ) -> Result<Link, DialError> {
        let addr = socket.remote();
        let handshake = |source| DialError::Handshake { addr, source };
        prove(&mut socket, |challenge| hello::answer(key, challenge, &random())).await.map_err(handshake)?;
        let secured = self.secure(socket, Protocol::Link, expected).await?;
        let hello = Hello { purpose, ..self.hello.clone() };
        Link::greet(secured, &hello, true).await.map_err(|source| DialError::Link { addr, source })
    }

    /// TLS with a member, in the newest version that both speak.
    async fn secure(
        &self,
        socket: Socket,
        protocol: Protocol,
        expected: Option<NodeId>,
    ) -> Result<tls::Secured, DialError> {
        let (speaks, software) = (self.speaks.of(protocol), self.hello.software.clone());
        secure(socket, &self.key, (protocol, speaks, software), expected, self.accept(expected)).await
    }
}

/// TLS in the newest version that both ends speak.
async fn secure(
    socket: Socket,
    key: &SigningKey,
    (protocol, ours, software): (Protocol, &[u16], Text<64>),
    expected: Option<NodeId>,
    accept: tls::Accept,
) -> Result<tls::Secured, DialError> {
    let addr = socket.remote();
    let speaks: Vec<Spoken> = ours.iter().map(|version| Spoken { protocol, version: *version }).collect();
    match tls::connect(socket, key, &speaks, accept).await {
        Ok(secured) if secured.spoken.is_some() => Ok(secured),
        Ok(secured) => {
            Err(DialError::Versions { met: Box::new(versions::part(secured, protocol, ours, software).await) })
        }
        Err(error) if tls::is_no_version(&error) => {
            let apart = Apart { ours: ours.to_vec(), ..Apart::default() };
            Err(DialError::Versions { met: Box::new(Met { node: expected, remote: addr, apart }) })
        }
        Err(source) => Err(DialError::Handshake { addr, source }),
    }
}

/// Says `message` to a relay and waits until it has joined both ends.
async fn joined(addr: SocketAddr, stream: RelayStream, message: Message) -> Result<Tunnel, DialError> {
    let relay = stream.peer;
    let talk = async {
        let answer = stream.joined(message).await.map_err(|source| DialError::Handshake { addr, source })?;
        answer.map_err(|answer| DialError::Relay { relay, answer })
    };
    within(ANSWER_MS_MAX, addr, talk).await
}

async fn within<T>(
    ms: u64,
    addr: SocketAddr,
    talk: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    rt::timeout(Duration::from_millis(ms), talk).await.unwrap_or_else(|Elapsed| Err(DialError::Elapsed { addr }))
}

fn answered(answer: Answer) -> &'static str {
    match answer {
        Answer::Joined => "it said so twice",
        Answer::Busy(_) => "it has too much to do",
        Answer::Away => "that member is not connected there",
        Answer::Refused => "it relays nothing between these two",
    }
}

/// Whether the listener closed without a word, as it does when the proof does not fit.
fn shut_the_door(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// Connects to a node that has an open invitation, as one that knows no discovery key.
pub async fn dial_pairing(addr: SocketAddr, key: &SigningKey) -> Result<PairStream, DialError> {
    let mut socket = connect(addr).await?;
    let handshake = |source| DialError::Handshake { addr, source };
    let talk = async {
        // To anyone but the listener this is an answer like any other.
        prove(&mut socket, |_| random()).await.map_err(handshake)?;
        // Neither end tells a stranger which program it is.
        let offer = (Protocol::Pairing, PAIRINGS, Text::default());
        secure(socket, key, offer, None, Arc::new(|_| true)).await
    };
    let timed = rt::timeout(Duration::from_millis(HANDSHAKE_MS_MAX), talk).await;
    let secured = timed.map_err(|Elapsed| DialError::Elapsed { addr })??;
    Ok(PairStream::new(secured, addr))
}

async fn connect(addr: SocketAddr) -> Result<Socket, DialError> {
    let connecting = rt::timeout(Duration::from_millis(CONNECT_MS_MAX), TcpStream::connect(addr)).await;
    let failed = |source| DialError::Connect { addr, source };
    let stream = connecting.map_err(|Elapsed| DialError::Elapsed { addr })?.map_err(failed)?;
    Socket::new(stream).map_err(failed)
}

async fn prove(
    socket: &mut Socket,
    answer: impl FnOnce(&[u8; CHALLENGE_BYTES]) -> [u8; ANSWER_BYTES],
) -> io::Result<()> {
    let mut challenge = [0; CHALLENGE_BYTES];
    socket.read_exact(&mut challenge).await?;
    socket.write_all(&answer(&challenge)).await?;
    socket.flush().await
}
