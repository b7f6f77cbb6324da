//! The network: finding other nodes, connecting to them, and framed links over TLS.
//!
//! In order of travel: `mdns` and `interfaces` find addresses; `dial` and `listen` prove knowledge of the discovery key
//! and set up `tls`; `link` carries messages. Nothing here decides whom to trust: whether a node is a member is asked
//! of a function that the caller gives, whom to dial is decided by `logic::peering`. Page: `docs/spec/links.md`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use crate::base::{DiscoveryKey, NodeId};
use crate::wire::hello::{self, ANSWER_BYTES, CHALLENGE_BYTES};

pub mod dial;
pub mod ear;
#[cfg(test)]
mod foul;
mod frames;
pub mod interfaces;
pub mod link;
pub mod listen;
pub mod mdns;
pub mod pair;
pub mod probe;
pub mod relay;
mod socket;
mod strangers;
pub mod tls;
pub mod versions;

pub use dial::{DialError, Dialler};
pub use link::{Counters, Event, Incoming, Link, LinkError, LinkId, LinkSender};
pub use listen::{Inbound, Listener};
pub use pair::PairStream;
pub use relay::{RelayStream, Tunnel};

/// Most discovery keys that are accepted at once. A guess: as many expulsions as a machine may miss while it is off.
pub const KEYS_MAX: usize = 8;

/// Whether a node is a member of the mesh now; asked after TLS, before anything is said.
pub type IsMember = Arc<dyn Fn(NodeId) -> bool + Send + Sync>;

/// The discovery keys, shared by all who listen, dial and announce. The first is in use, the others are still accepted.
#[derive(Clone, Default)]
pub struct KeyRing(Arc<RwLock<Vec<DiscoveryKey>>>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.all().len())
    }
}

impl KeyRing {
    /// A ring of these keys, newest first; more than `KEYS_MAX` are cut off.
    pub fn new(keys: Vec<DiscoveryKey>) -> Self {
        let ring = Self::default();
        ring.replace(keys);
        ring
    }

    /// Replaces the keys, newest first. Whoever announces must be told.
    pub fn replace(&self, mut keys: Vec<DiscoveryKey>) {
        keys.truncate(KEYS_MAX);
        *self.0.write().expect("no one panics while holding the ring") = keys;
    }

    /// The key in use, if the node has a mesh.
    pub fn newest(&self) -> Option<DiscoveryKey> {
        self.0.read().expect("no one panics while holding the ring").first().cloned()
    }

    fn all(&self) -> Vec<DiscoveryKey> {
        self.0.read().expect("no one panics while holding the ring").clone()
    }

    /// Whether a dialler's answer proves one of the keys.
    fn proves(&self, challenge: &[u8; CHALLENGE_BYTES], answer: &[u8; ANSWER_BYTES]) -> bool {
        // All keys are tried, whichever fits: the time taken says nothing about which.
        self.all().iter().fold(false, |any, key| any | hello::proves(key, challenge, answer))
    }

    /// Whether an announcement was made by a member.
    fn recognises(&self, instance: &str, tag: &[u8; 16]) -> bool {
        self.all().iter().any(|key| hello::tag(key, instance) == *tag)
    }
}

/// An address as people read it: an IPv4 address that came over an IPv6 socket is an IPv4 address.
pub fn plain(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => addr,
        },
        SocketAddr::V4(_) => addr,
    }
}

/// Fresh random bytes.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's generator does not fail once it is seeded");
    bytes
}
