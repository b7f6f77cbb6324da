//! Listening: one TCP port; strangers are limited, members become links, joiners become pairing streams.
//!
//! Rules:
//! 1. who has not proven a discovery key sees random bytes and a closed connection, unless an invitation is open; then
//!    it gets TLS with a throwaway key, which tells nothing of this node or its mesh;
//! 2. strangers are bounded in number, rate and time, and so is what they make this node compute or remember;
//! 3. an expelled node that still knows the key is told that it is no member, and nothing else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use ed25519_dalek::SigningKey;
use futures_lite::io::split;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::frames::FrameReader;
use super::link::{self, Link};
use super::pair::PairStream;
use super::relay::{RelayStream, Tunnel};
use super::socket::Socket;
use super::strangers::Strangers;
use super::versions::{self, Met};
use super::{IsMember, KeyRing, random, tls};
use crate::base::NodeId;
use crate::shell::rt::{self, TcpListener, TcpStream};
use crate::wire::codec::Text;
use crate::wire::hello::{ANSWER_BYTES, CHALLENGE_BYTES};
use crate::wire::message::{Bye, FRAME_BYTES_MAX, Hello, Purpose};
use crate::wire::relay::Answer;
use crate::wire::versions::{Protocol, Speaks, Spoken};

/// The port to begin with; not assigned by IANA.
pub const PORT: u16 = 47_474;
/// Ports tried after it.
const PORTS_MAX: u16 = 100;
/// Time to prove a discovery key. A machine on a LAN needs a millisecond; slow strangers hold a place no longer.
const PROOF_MS_MAX: u64 = 2_000;
/// Time for TLS and hello.
const HANDSHAKE_MS_MAX: u64 = 5_000;
/// Refused connections that wait to be noted.
const TURNED_MAX: usize = 32;
/// Connections that were too many are told of once in this time.
const TOLD_MS: u64 = 1_000;
/// Connections that wait to be accepted: `listen(2)`.
const BACKLOG: i32 = 128;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The asked port is taken or not allowed.
    #[error("cannot listen on port {port}")]
    Port {
        /// Which.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// All ports tried are taken.
    #[error("cannot listen: the ports {first} to {last} are all taken")]
    AllTaken {
        /// First tried.
        first: u16,
        /// Last tried.
        last: u16,
    },
}

/// Where to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// `PORT`, else the next free one.
    Usual,
    /// This port if it is free (the one remembered from the last run), else as `Usual`.
    Preferred(u16),
    /// This port and no other, as configured. 0: one that the system chooses.
    Fixed(u16),
}

/// Who came in.
#[derive(Debug)]
pub enum Inbound {
    /// A member; both have said hello.
    Link(Link),
    /// A member that wants something of a relay.
    Relay(RelayStream),
    /// Someone who wants to join, while an invitation is open.
    Pairing(PairStream),
    /// A member that speaks no version that this node speaks.
    Apart(Met),
}

/// Who was not let in, for the audit log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turned {
    /// From where.
    pub from: IpAddr,
    /// Which node, where it proved that.
    pub node: Option<NodeId>,
    /// Why.
    pub why: &'static str,
}

/// What a listener needs to know.
#[derive(Clone)]
pub struct Door {
    /// The node's key.
    pub key: SigningKey,
    /// The discovery keys that are accepted.
    pub ring: KeyRing,
    /// Who is a member.
    pub is_member: IsMember,
    /// What this node says of itself. Purpose and port are replaced.
    pub hello: Hello,
    /// The versions that it speaks.
    pub speaks: Speaks,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

/// A bound port on which nobody is served yet.
#[derive(Debug)]
pub struct Bound {
    sockets: Vec<std::net::TcpListener>,
    port: u16,
}

/// A port that is served. Dropping it closes the port; links stay.
#[derive(Debug)]
pub struct Listener {
    port: u16,
    shared: Arc<Shared>,
    refused: Receiver<Turned>,
    _stop: Sender<()>,
}

#[derive(Debug)]
struct Shared {
    door: Door,
    pairing: AtomicBool,
    strangers: Mutex<Strangers>,
    started: Instant,
    inbound: Sender<Inbound>,
    turned: Sender<Turned>,
}

impl Bound {
    /// Takes a port on all addresses of this machine, both IPv4 and IPv6 where the machine has them.
    pub fn new(place: Place) -> Result<Self, ListenError> {
        if let Place::Fixed(port) = place {
            return bind(port).map_err(|source| ListenError::Port { port, source });
        }
        if let Place::Preferred(port) = place
            && let Ok(bound) = bind(port)
        {
            return Ok(bound);
        }
        for port in PORT..=PORT + PORTS_MAX {
            match bind(port) {
                Ok(bound) => return Ok(bound),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(source) => return Err(ListenError::Port { port, source }),
            }
        }
        Err(ListenError::AllTaken { first: PORT, last: PORT + PORTS_MAX })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves it: who comes in goes to `inbound`.
    pub fn serve(self, mut door: Door, inbound: Sender<Inbound>) -> Listener {
        door.hello.port = self.port;
        let (turned, refused) = async_channel::bounded(TURNED_MAX);
        let shared = Arc::new(Shared {
            door,
            pairing: AtomicBool::new(false),
            strangers: Mutex::default(),
            started: Instant::now(),
            inbound,
            turned,
        });
        let (stop, stopped) = async_channel::bounded::<()>(1);
        for socket in self.sockets {
            let (shared, stopped) = (shared.clone(), stopped.clone());
            rt::spawn(async move {
                let socket = TcpListener::from(socket);
                // The sending end is dropped with the `Listener`: then receiving ends.
                let stop = async {
                    let _ = stopped.recv().await;
                };
                futures_lite::future::or(stop, accept_all(shared, &socket)).await;
            });
        }
        Listener { port: self.port, shared, refused, _stop: stop }
    }
}

impl Listener {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Those who were not let in. What nobody takes from there is let go.
    pub fn refused(&self) -> Receiver<Turned> {
        self.refused.clone()
    }

    /// The same door for those who come through a relay.
    pub fn guests(&self) -> Guests {
        Guests(self.shared.clone())
    }

    /// Says whether an invitation is open: only then strangers get an answer.
    pub fn set_pairing(&self, open: bool) {
        self.shared.pairing.store(open, Ordering::Release);
    }
}

/// The door for members that come through a relay.
pub struct Guests(Arc<Shared>);

impl Guests {
    /// Serves a member that dials inside a tunnel as one that dials directly; it must be `from`. Only links are served
    /// there: nobody is paired, and nothing is relayed again.
    pub async fn welcome(self, tunnel: Tunnel, from: NodeId) {
        let (shared, Tunnel(mut socket)) = (self.0, tunnel);
        let welcomed = async {
            if challenge(&shared, &mut socket).await? {
                admit(&shared, socket, &[Protocol::Link]).await
            } else {
                Err("no proof of this mesh's key".into())
            }
        };
        match rt::timeout(Duration::from_millis(PROOF_MS_MAX + HANDSHAKE_MS_MAX), welcomed).await {
            Ok(Ok(Some(Inbound::Link(link)))) if link.peer == from => {
                let _ = shared.inbound.send(Inbound::Link(link)).await;
            }
            Ok(Ok(Some(Inbound::Apart(met)))) if met.node == Some(from) => {
                let _ = shared.inbound.send(Inbound::Apart(met)).await;
            }
            Ok(Ok(_)) => tracing::debug!(from = %from.short(), "somebody else came through the relay"),
            Ok(Err(error)) => tracing::debug!(from = %from.short(), %error, "no link through the relay"),
            Err(error) => tracing::debug!(from = %from.short(), %error, "no link through the relay"),
        }
    }
}

/// One socket for both families where the system allows it, else one of each that it has.
fn bind(port: u16) -> io::Result<Bound> {
    match listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), false) {
        Ok(socket) => {
            let port = socket.local_addr()?.port();
            Ok(Bound { sockets: vec![socket], port })
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // IPv6 is switched off.
        Err(_) => {
            let socket = listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), true)?;
            let port = socket.local_addr()?.port();
            Ok(Bound { sockets: vec![socket], port })
        }
    }
}

fn listen(addr: SocketAddr, v4: bool) -> io::Result<std::net::TcpListener> {
    let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart must get its port back although old connections linger.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if !v4 {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

async fn accept_all(shared: Arc<Shared>, socket: &TcpListener) {
    let mut told_ms = 0;
    loop {
        match socket.accept().await {
            Ok((stream, from)) => {
                let from = super::plain(from).ip();
                let now_ms = shared.started.elapsed().as_millis() as u64;
                if !shared.strangers.lock().expect("bookkeeping does not panic").enter(now_ms, from) {
                    tracing::debug!(%from, "too many connections; closed");
                    if now_ms >= told_ms + TOLD_MS || told_ms == 0 {
                        told_ms = now_ms.max(1);
                        shared.turned(from, None, "too many connections that proved nothing");
                    }
                    continue;
                }
                let place = Visit { shared: shared.clone(), from, member: false, left: false };
                rt::spawn(serve(shared.clone(), stream, place));
            }
            // Out of descriptors: what is open must close first; accepting again at once would only spin.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                rt::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A stranger's place, given back whatever happens.
struct Visit {
    shared: Arc<Shared>,
    from: IpAddr,
    member: bool,
    left: bool,
}

impl Visit {
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.shared.strangers.lock().expect("bookkeeping does not panic").leave(self.from, self.member);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.leave();
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, mut place: Visit) {
    let from = place.from;
    let Ok(mut socket) = Socket::new(stream) else { return };
    let proof = rt::timeout(Duration::from_millis(PROOF_MS_MAX), challenge(&shared, &mut socket)).await;
    let Ok(Ok(proven)) = proof else {
        return shared.turned(from, None, "it did not answer the challenge of a member");
    };
    if proven {
        // From here on it costs nobody else a place.
        place.member = true;
        place.leave();
        let admitting = admit(&shared, socket, &[Protocol::Link, Protocol::Relay]);
        match rt::timeout(Duration::from_millis(HANDSHAKE_MS_MAX), admitting).await {
            Ok(Ok(Some(inbound))) => {
                // A node that stops takes no more links.
                let _ = shared.inbound.send(inbound).await;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(%from, %error, "no link"),
            Err(error) => tracing::debug!(%from, %error, "no link"),
        }
    } else if shared.pairing.load(Ordering::Acquire) {
        let remote = socket.remote();
        // A new key each time: two visits cannot be told to have met the same node.
        let throwaway = SigningKey::from_bytes(&random());
        let speaks = shared.door.speaks.all(&[Protocol::Pairing]);
        let secured = async {
            let secured = tls::accept(socket, &throwaway, &speaks).await?;
            if secured.spoken.is_none() && asks(&secured.offered) == Some(Protocol::Pairing) {
                // It learns what this node speaks; which program this is, is told to members only.
                versions::part(secured, Protocol::Pairing, &shared.door.speaks.pairings, Text::default()).await;
                return Ok(None);
            }
            Ok::<_, io::Error>(Some(secured).filter(|secured| secured.spoken.is_some()))
        };
        match rt::timeout(Duration::from_millis(HANDSHAKE_MS_MAX), secured).await {
            Ok(Ok(Some(secured))) => {
                let _ = shared.inbound.send(Inbound::Pairing(PairStream::new(secured, remote))).await;
            }
            Ok(Ok(None)) => {
                shared.turned(
                    from,
                    None,
                    "it pairs in no version that this lanyard speaks: upgrade the older of the two",
                );
            }
            Ok(Err(error)) => tracing::debug!(%from, %error, "no pairing"),
            Err(error) => tracing::debug!(%from, %error, "no pairing"),
        }
    } else {
        shared.turned(from, None, "it is no member: it does not know the key of this mesh");
    }
}

impl Shared {
    /// Says who was not let in. Where the node does not keep up, it is not told: that is a flood, and bounded elsewhere.
    fn turned(&self, from: IpAddr, node: Option<NodeId>, why: &'static str) {
        let _ = self.turned.try_send(Turned { from, node, why });
    }
}

async fn challenge(shared: &Shared, socket: &mut Socket) -> io::Result<bool> {
    let challenge: [u8; CHALLENGE_BYTES] = random();
    socket.write_all(&challenge).await?;
    socket.flush().await?;
    let mut answer = [0; ANSWER_BYTES];
    socket.read_exact(&mut answer).await?;
    Ok(shared.door.ring.proves(&challenge, &answer))
}

/// TLS and hello with one who knows the discovery key. `None`: it is no member and was told so.
async fn admit(
    shared: &Shared,
    socket: Socket,
    protocols: &[Protocol],
) -> Result<Option<Inbound>, Box<dyn std::error::Error + Send + Sync>> {
    let from = super::plain(socket.remote()).ip();
    let door = &shared.door;
    let secured = tls::accept(socket, &door.key, &door.speaks.all(protocols)).await?;
    let relayed = secured.spoken.is_some_and(|spoken| spoken.protocol == Protocol::Relay);
    if !(door.is_member)(secured.peer) {
        shared.turned(from, Some(secured.peer), "it is no member, or no member any more");
        if secured.spoken.is_none() {
            return Ok(None);
        }
        if relayed {
            RelayStream::new(secured).refuse(Answer::Refused).await;
            return Ok(None);
        }
        let (read, mut writer) = split(secured.stream);
        let mut reader = FrameReader::new(read, FRAME_BYTES_MAX);
        link::farewell(&mut writer, &mut reader, Bye::NotAMember).await;
        return Ok(None);
    }
    if secured.spoken.is_none() {
        let Some(asked) = asks(&secured.offered).filter(|asked| protocols.contains(asked)) else {
            return Err("it offers nothing that is spoken here".into());
        };
        let met = versions::part(secured, asked, door.speaks.of(asked), door.hello.software.clone()).await;
        return Ok(Some(Inbound::Apart(met)));
    }
    if relayed {
        return Ok(Some(Inbound::Relay(RelayStream::new(secured))));
    }
    // The purpose is the dialler's to say; what this end puts there is not looked at.
    let hello = Hello { purpose: Purpose::Control, ..door.hello.clone() };
    Ok(Some(Inbound::Link(Link::greet(secured, &hello, false).await?)))
}

/// What a dialler wants: it offers one protocol, in several versions.
fn asks(offered: &[Spoken]) -> Option<Protocol> {
    offered.first().map(|spoken| spoken.protocol)
}
