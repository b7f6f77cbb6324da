//! The versions that this lanyard speaks, in one place; and the word of two machines that have none in common.
//!
//! Pages: `docs/spec/links.md`, "Versions", and `docs/spec/home.md`. The dialler offers every version it speaks in the
//! ALPN names of TLS, newest first; the listener takes the newest that it speaks too. Where there is none the handshake
//! ends without a name, so that both know who the other is, and each says one `Versions`.

use serde::{Deserialize, Serialize};

use super::codec::{self, DecodeError, List, Text};
use super::envelope::{Envelope, kind};

/// Versions of the links between members, newest first.
pub const LINKS: &[u16] = &[1];
/// Versions of what is said to a relay, newest first.
pub const RELAYS: &[u16] = &[1];
/// Versions of pairing, newest first.
pub const PAIRINGS: &[u16] = &[1];
/// The format of a node's home. It grows with every change that an older lanyard could not read or would undo.
pub const HOME_FORMAT: u32 = 1;

/// This program, as it names itself to others.
pub const SOFTWARE: &str = concat!("lanyard ", env!("CARGO_PKG_VERSION"));

/// Versions in one `Versions`, and names of one offer that are looked at.
pub const SPOKEN_MAX: usize = 16;
/// Longest frame of `Versions`.
pub const VERSIONS_FRAME_BYTES_MAX: usize = 256;

/// What is spoken inside TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Links between members.
    Link,
    /// What a member wants of a relay.
    Relay,
    /// Pairing.
    Pairing,
}

/// A protocol in one of its versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spoken {
    /// Which.
    pub protocol: Protocol,
    /// Its version.
    pub version: u16,
}

/// The versions that one node speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Speaks {
    /// Of links, newest first.
    pub links: Vec<u16>,
    /// Of what is said to a relay, newest first.
    pub relays: Vec<u16>,
    /// Of pairing, newest first.
    pub pairings: Vec<u16>,
}

impl Default for Speaks {
    fn default() -> Self {
        Self { links: LINKS.to_vec(), relays: RELAYS.to_vec(), pairings: PAIRINGS.to_vec() }
    }
}

impl Protocol {
    fn prefix(self) -> &'static str {
        match self {
            Self::Link => "lanyard/",
            Self::Relay => "lanyard-relay/",
            Self::Pairing => "lanyard-pair/",
        }
    }
}

impl Spoken {
    /// The ALPN name.
    pub fn name(self) -> Vec<u8> {
        format!("{}{}", self.protocol.prefix(), self.version).into_bytes()
    }

    /// Reads an ALPN name; `None` for that of another protocol.
    pub fn read(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        [Protocol::Link, Protocol::Relay, Protocol::Pairing].into_iter().find_map(|protocol| {
            let version = name.strip_prefix(protocol.prefix())?.parse().ok()?;
            let spoken = Self { protocol, version };
            // One version, one name.
            (spoken.name() == name.as_bytes()).then_some(spoken)
        })
    }
}

impl Speaks {
    /// The versions of one protocol, newest first.
    pub fn of(&self, protocol: Protocol) -> &[u16] {
        match protocol {
            Protocol::Link => &self.links,
            Protocol::Relay => &self.relays,
            Protocol::Pairing => &self.pairings,
        }
    }

    /// All that is spoken of some protocols, newest first.
    pub fn all(&self, protocols: &[Protocol]) -> Vec<Spoken> {
        let all = protocols.iter().flat_map(|protocol| {
            self.of(*protocol).iter().map(|version| Spoken { protocol: *protocol, version: *version })
        });
        all.collect()
    }
}

/// What a node speaks, said to one that speaks no version of it. This message is the same in every version: what a
/// later one has to say besides goes into a frame after it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Versions {
    /// Software and version, for people; empty towards a stranger.
    pub software: Text<64>,
    /// The versions of the protocol that was asked for, newest first.
    pub speaks: List<u16, SPOKEN_MAX>,
}

impl Versions {
    /// The message in its envelope.
    pub fn encode(&self) -> Vec<u8> {
        Envelope::seal(kind::VERSIONS, true, &codec::encode(self))
    }

    /// Reads the message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Envelope { kind, critical, body } = Envelope::open(bytes)?;
        match (kind, critical) {
            (kind::VERSIONS, true) => codec::decode("versions", body, VERSIONS_FRAME_BYTES_MAX),
            (kind::VERSIONS, false) => Err(DecodeError::NotCanonical("versions")),
            (unknown, _) => Err(DecodeError::UnknownKind(unknown)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_one_name() {
        let own = Speaks::default().all(&[Protocol::Link, Protocol::Relay, Protocol::Pairing]);
        let names: Vec<Vec<u8>> = own.iter().map(|spoken| spoken.name()).collect();
        assert_eq!(names, [b"lanyard/1".to_vec(), b"lanyard-relay/1".to_vec(), b"lanyard-pair/1".to_vec()]);
        assert!(own.iter().all(|spoken| Spoken::read(&spoken.name()) == Some(*spoken)));
        assert_eq!(Spoken::read(b"lanyard/65535").map(|spoken| spoken.version), Some(65_535));
        for other in [&b"lanyard/01"[..], b"lanyard/+1", b"lanyard/", b"lanyard/65536", b"lanyard", b"h2", b"\xff"] {
            assert_eq!(Spoken::read(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_longest_word_fits_its_frame_and_what_is_more_is_refused() {
        let longest =
            Versions { software: Text::truncated(&"x".repeat(64)), speaks: List::truncated(vec![u16::MAX; 16]) };
        let bytes = longest.encode();
        assert!(bytes.len() <= VERSIONS_FRAME_BYTES_MAX);
        assert_eq!(Versions::decode(&bytes), Ok(longest));
        assert!(Versions::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        let mut passable = bytes;
        passable[2] = 0;
        assert!(Versions::decode(&passable).is_err());
    }
}
