//! Dialling: connect, prove the discovery key, TLS, hello.
//!
//! Rules:
//! 1. a dialler shows who it is only to a listener whose key is that of a member, and of the expected one if any;
//! 2. every dial ends within a bounded time;
//! 3. a listener that closes at the proof may have been away while the key changed: the older keys are tried as well.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::link::{Link, LinkError};
use super::pair::PairStream;
use super::socket::Socket;
use super::{IsMember, KeyRing, random, tls};
use crate::base::{DiscoveryKey, NodeId};
use crate::shell::rt::{self, Elapsed, TcpStream};
use crate::wire::hello::{self, ALPN_LINK, ALPN_PAIR, ANSWER_BYTES, CHALLENGE_BYTES};
use crate::wire::message::{Hello, Purpose};

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
        let own = NodeId(self.key.verifying_key().to_bytes());
        let is_member = self.is_member.clone();
        let accept: tls::Accept =
            Arc::new(move |node| node != own && expected.is_none_or(|e| e == node) && is_member(node));
        let mut socket = connect(addr).await?;
        let handshake = |source| DialError::Handshake { addr, source };
        let talk = async {
            prove(&mut socket, |challenge| hello::answer(key, challenge, &random())).await.map_err(handshake)?;
            let secured = tls::connect(socket, &self.key, ALPN_LINK, accept).await.map_err(handshake)?;
            let hello = Hello { purpose, ..self.hello.clone() };
            Link::greet(secured, &hello, true).await.map_err(|source| DialError::Link { addr, source })
        };
        rt::timeout(Duration::from_millis(HANDSHAKE_MS_MAX), talk)
            .await
            .map_err(|Elapsed| DialError::Elapsed { addr })?
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
        tls::connect(socket, key, ALPN_PAIR, Arc::new(|_| true)).await.map_err(handshake)
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
