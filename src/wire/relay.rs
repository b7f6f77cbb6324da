//! What is said to a relay before it joins two connections: one frame each way, then the bytes of the two.
//!
//! Page: `docs/spec/links.md`, "Relay". A frame is a `u32` length, big-endian, and one envelope of that many bytes.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codec::{self, DecodeError};
use super::envelope::{Envelope, kind};
use super::message::Purpose;
use crate::base::NodeId;

/// Longest frame. The longest message has 40 bytes.
pub const RELAY_FRAME_BYTES_MAX: usize = 128;

/// The number of a meeting, made by the relay at random: who names it was asked by that relay to come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Meeting(pub [u8; 16]);

/// One message on a connection to a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Join me with this member.
    Ask(Ask),
    /// I come because you called me to this meeting.
    Meet(Meeting),
    /// What becomes of it.
    Answer(Answer),
}

/// See `Message::Ask`. It names a member, never an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// With whom.
    pub to: NodeId,
    /// What the link is for.
    pub purpose: Purpose,
}

/// See `Message::Answer`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// All bytes from here on are the other's.
    Joined,
    /// Too much at once; ask another relay, or this one again after so many milliseconds.
    Busy(u32),
    /// That member is not connected here, or did not come.
    Away,
    /// This node is no relay, or there is no such member or meeting.
    Refused,
}

impl Message {
    /// The message in its envelope.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Ask(m) => (kind::RELAY_ASK, codec::encode(m)),
            Self::Meet(m) => (kind::RELAY_MEET, codec::encode(m)),
            Self::Answer(m) => (kind::RELAY_ANSWER, codec::encode(m)),
        };
        Envelope::seal(kind, true, &body)
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        fn take<T: Serialize + DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
            codec::decode("relay message", body, RELAY_FRAME_BYTES_MAX)
        }
        let envelope = Envelope::open(bytes)?;
        if !envelope.critical {
            return Err(DecodeError::NotCanonical("relay message"));
        }
        match envelope.kind {
            kind::RELAY_ASK => take(envelope.body).map(Self::Ask),
            kind::RELAY_MEET => take(envelope.body).map(Self::Meet),
            kind::RELAY_ANSWER => take(envelope.body).map(Self::Answer),
            unknown => Err(DecodeError::UnknownKind(unknown)),
        }
    }
}
