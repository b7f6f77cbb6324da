//! Messages of pairing.
//!
//! Page: `docs/spec/pairing.md`. They travel in frames of at most `PAIRING_FRAME_BYTES_MAX` inside TLS with a
//! throwaway key on the inviter's side.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codec::{self, Bytes, DecodeError, List, Text};
use super::envelope::{Envelope, kind};
use super::signed::Signed;
use super::statement::Name;
use crate::base::{DiscoveryKey, MeshId, NodeId};

/// Longest frame of pairing. Only the last one, with the statements of the mesh, is longer than 200 bytes.
pub const PAIRING_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Most statements handed over at admission; the rest follow over the first link.
pub const ADMISSION_STATEMENTS_MAX: usize = 1024;

/// One message of pairing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Joiner: here is my half of the exchange.
    Start(Start),
    /// Inviter: here is mine.
    Reply(Reply),
    /// Joiner: I know the code.
    Confirm(Confirm),
    /// Inviter: so do I, and you are in.
    Admit(Admission),
    /// Joiner: stored.
    Done,
    /// No, and what to do.
    Refused(Refusal),
}

/// See `Message::Start`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The invitation's number, the first part of the code.
    pub number: u16,
    /// Who wants to join; the same key that TLS proved.
    pub joiner: NodeId,
    /// SPAKE2 message.
    pub exchange: Bytes<64>,
}

/// See `Message::Reply`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// SPAKE2 message.
    pub exchange: Bytes<64>,
}

/// See `Message::Confirm`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Confirm {
    /// Key confirmation.
    pub mac: [u8; 32],
    /// The joiner's name for itself.
    pub name: Name,
}

/// See `Message::Admit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admission {
    /// Key confirmation, over both node ids.
    pub mac: [u8; 32],
    /// Who invites.
    pub inviter: NodeId,
    /// The mesh.
    pub mesh: MeshId,
    /// The discovery key in use.
    pub discovery: DiscoveryKey,
    /// Statements, ancestors first, the joiner's `Admit` among them.
    pub statements: List<Signed, ADMISSION_STATEMENTS_MAX>,
    /// Where the inviter can be reached: `address:port`.
    pub addresses: List<Text<64>, 16>,
}

/// Why not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// No open invitation has this number, or it has expired or was used.
    NoInvitation,
    /// The code is wrong; the invitation is void now.
    WrongCode,
    /// Something on the inviter's side failed.
    Failed,
}

impl Message {
    /// The message in its envelope.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Start(m) => (kind::PAIR_START, codec::encode(m)),
            Self::Reply(m) => (kind::PAIR_REPLY, codec::encode(m)),
            Self::Confirm(m) => (kind::PAIR_CONFIRM, codec::encode(m)),
            Self::Admit(m) => (kind::PAIR_ADMIT, codec::encode(m)),
            Self::Done => (kind::PAIR_DONE, Vec::new()),
            Self::Refused(m) => (kind::PAIR_REFUSED, codec::encode(m)),
        };
        Envelope::seal(kind, true, &body)
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        fn take<T: Serialize + DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
            codec::decode("pairing message", body, PAIRING_FRAME_BYTES_MAX)
        }
        let envelope = Envelope::open(bytes)?;
        if !envelope.critical {
            return Err(DecodeError::NotCanonical("pairing message"));
        }
        match envelope.kind {
            kind::PAIR_START => take(envelope.body).map(Self::Start),
            kind::PAIR_REPLY => take(envelope.body).map(Self::Reply),
            kind::PAIR_CONFIRM => take(envelope.body).map(Self::Confirm),
            kind::PAIR_ADMIT => take(envelope.body).map(Self::Admit),
            kind::PAIR_DONE => take::<()>(envelope.body).map(|()| Self::Done),
            kind::PAIR_REFUSED => take(envelope.body).map(Self::Refused),
            unknown => Err(DecodeError::UnknownKind(unknown)),
        }
    }
}
