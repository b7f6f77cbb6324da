//! Messages on a link between two members.
//!
//! Page: `docs/spec/links.md`. A frame is a `u32` length, big-endian, and one envelope of that many bytes.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::batch::{ENTRIES_MAX, Packed};
use super::codec::{self, Bytes, DecodeError, List, Text};
use super::content::{CHUNK_BYTES_MAX, Leaf, Leaves};
use super::envelope::{Envelope, kind};
use super::heartbeat::Heartbeat;
use super::relay::Meeting;
use super::report::{AuditLines, Report};
use super::signed::Signed;
use super::statement::Frontier;
use crate::base::{ContentId, DiscoveryKey, FolderId, NodeId, RelPath, StatementId, Writer};

/// Longest frame: the largest chunk, or the largest batch with its header, with room for the rest.
pub const FRAME_BYTES_MAX: usize = CHUNK_BYTES_MAX + 64 * 1024;
/// A content of at most this many bytes may travel in the push of its batch.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// All contents in one push together. A guess: a handful of saves at once, 2 ms of a gigabit link.
pub const INLINE_TOTAL_BYTES_MAX: usize = 256 * 1024;
/// Most writers of one folder that a frontiers message names.
pub const FRONTIERS_MAX: usize = 4096;

/// Bytes of the map of chunks in one `Have`: 32,768 chunks, 8 GiB at the average.
pub const HAVE_BYTES_MAX: usize = 4096;

/// One message on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// First each way.
    Hello(Hello),
    /// A sign of life that asks for one; the number comes back.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// The link ends on purpose.
    Bye(Bye),
    /// The newest statements that the sender knows.
    StatementHeads(List<StatementId, 256>),
    /// Asks for these statements.
    StatementWant(List<StatementId, 1024>),
    /// Statements, ancestors first.
    Statements(List<Signed, 1024>),
    /// The discovery key in use and how often it was rotated.
    DiscoveryKey(KeyInUse),
    /// Where members were last reached.
    Addresses(List<Address, 256>),
    /// What the sender's clock shows, milliseconds since 1970 UTC: for people, who may have to set it.
    Clock(u64),
    /// How far the sender's logs of a folder reach; says also that it receives the folder.
    Frontiers(Frontiers),
    /// One batch.
    BatchPush(BatchPush),
    /// Asks again for entries that an earlier push left out.
    EntryWant(EntryWant),
    /// Whether the sender receives a folder.
    Subscribe(Subscribe),
    /// How far the sender has put a folder's entries on its disk.
    Applied(Frontiers),
    /// Asks for content.
    ContentWant(ContentWant),
    /// Content, or why there is none.
    Content(Content),
    /// How the sender is.
    Report(Box<Report>),
    /// Asks for the lines of the receiver's audit log above this number.
    AuditWant(u64),
    /// Those lines, or the first of them.
    AuditLines(AuditLines),
    /// Which chunks the sender has of a content that it is still fetching.
    Have(Have),
    /// A relay says that a member wants to meet the receiver there.
    RelayCall(RelayCall),
    /// Who claims to be coordinator, and what the sender hears of it.
    Heartbeat(Heartbeat),
    /// A kind that a later version gave and that may be ignored.
    Unknown(u16),
}

/// What a connection carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// Small messages; never waits behind contents.
    Control,
    /// Contents.
    Bulk,
}

/// See `Message::Hello`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Software and version, for people.
    pub software: Text<64>,
    /// What this connection carries.
    pub purpose: Purpose,
    /// Random number of this run of the node: tells a restarted peer from a second connection.
    pub run: u64,
    /// The port on which the sender listens.
    pub port: u16,
}

/// See `Message::Bye`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Bye {
    /// The node stops.
    Stopping,
    /// The receiver is no member of the mesh as the sender knows it.
    NotAMember,
    /// Another connection to the same node is kept.
    Duplicate,
    /// The receiver broke the protocol.
    Protocol,
    /// Too many connections; try later.
    Busy,
}

/// See `Message::DiscoveryKey`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct KeyInUse {
    /// How often it was rotated; the higher one is used.
    pub epoch: u64,
    /// The key.
    pub key: DiscoveryKey,
}

/// Where a member was last reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Address {
    /// Who.
    pub node: NodeId,
    /// `address:port`, never with an IPv6 scope.
    pub at: Text<64>,
}

/// See `Message::Frontiers` and `Message::Applied`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Frontiers {
    /// The folder.
    pub folder: FolderId,
    /// Whether the sender has the folder's history: it made the folder, or has merged the index of one who has it.
    pub complete: bool,
    /// One a writer, sorted.
    pub frontiers: List<Frontier, FRONTIERS_MAX>,
}

/// See `Message::BatchPush`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BatchPush {
    /// The folder.
    pub folder: FolderId,
    /// The signed header.
    pub header: Signed,
    /// The entries that the receiver may see and that still matter.
    pub entries: Packed,
    /// Why others are missing.
    pub holes: List<Hole, ENTRIES_MAX>,
    /// Small contents of these entries, by place in the batch.
    pub contents: List<Inline, 64>,
}

/// Why an entry is missing in a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hole {
    /// Its place in the batch.
    pub index: u16,
    /// Why.
    pub reason: HoleReason,
}

/// See `Hole`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HoleReason {
    /// A later entry of the same path has seen it: this one.
    Superseded(Writer, u64),
    /// The receiver may not read its path.
    Withheld,
    /// The sender does not have it either.
    Missing,
}

/// A small content inside a push.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inline {
    /// Place of the entry in the batch.
    pub index: u16,
    /// The content.
    pub bytes: Bytes<INLINE_BYTES_MAX>,
}

/// See `Message::EntryWant`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryWant {
    /// The folder.
    pub folder: FolderId,
    /// Whose entries.
    pub writer: Writer,
    /// Their numbers.
    pub numbers: List<u64, ENTRIES_MAX>,
}

/// See `Message::Subscribe`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subscribe {
    /// The folder.
    pub folder: FolderId,
    /// Whether the sender receives it.
    pub receives: bool,
}

/// See `Message::ContentWant`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContentWant {
    /// Comes back with the answer.
    pub request: u64,
    /// The folder.
    pub folder: FolderId,
    /// An entry that has this content; the sender must be allowed to read there.
    pub path: RelPath,
    /// Which content.
    pub content: ContentId,
    /// Which part of it.
    pub part: Part,
}

/// A part of a content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Part {
    /// All of it; for contents of at most `CHUNK_BYTES_MAX` bytes.
    Whole,
    /// One leaf of its chunk list.
    Leaf(u32),
    /// One chunk.
    Chunk {
        /// Which.
        index: u64,
        /// The hash it must have.
        hash: crate::base::ChunkHash,
    },
}

/// See `Message::Content`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Content {
    /// The request that this answers.
    pub request: u64,
    /// The answer.
    pub answer: Answer,
}

/// See `Message::Have`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Have {
    /// The folder.
    pub folder: FolderId,
    /// The entry for which the sender fetches it; the receiver must be allowed to read there.
    pub path: RelPath,
    /// Which content.
    pub content: ContentId,
    /// The first chunk that `chunks` speaks of.
    pub first: u64,
    /// One bit a chunk, the least significant of a byte first; what is beyond is not there.
    pub chunks: Bytes<HAVE_BYTES_MAX>,
}

/// The answer to a `ContentWant`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The bytes of the whole content or of the chunk.
    Bytes(Bytes<CHUNK_BYTES_MAX>),
    /// A leaf, and with the first leaf the hashes of all.
    Leaf {
        /// The records.
        leaf: Leaf,
        /// All leaves, with leaf 0; empty with the others.
        leaves: Leaves,
    },
    /// The sender has it no more, or not yet.
    Absent,
    /// The rules do not permit it.
    Refused,
    /// Too much at once; ask elsewhere, or here again after so many milliseconds.
    Busy(u32),
}

/// See `Message::RelayCall`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelayCall {
    /// Which meeting to name when coming.
    pub meeting: Meeting,
    /// Who wants to meet the receiver; proven only by TLS with it, inside.
    pub from: NodeId,
    /// What the link between the two is for.
    pub purpose: Purpose,
}

impl Message {
    /// The message in its envelope.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Hello(m) => (kind::HELLO, codec::encode(m)),
            Self::Ping(m) => (kind::PING, codec::encode(m)),
            Self::Pong(m) => (kind::PONG, codec::encode(m)),
            Self::Bye(m) => (kind::BYE, codec::encode(m)),
            Self::StatementHeads(m) => (kind::STATEMENT_HEADS, codec::encode(m)),
            Self::StatementWant(m) => (kind::STATEMENT_WANT, codec::encode(m)),
            Self::Statements(m) => (kind::STATEMENTS, codec::encode(m)),
            Self::DiscoveryKey(m) => (kind::DISCOVERY_KEY, codec::encode(m)),
            Self::Addresses(m) => (kind::ADDRESSES, codec::encode(m)),
            Self::Clock(m) => (kind::CLOCK, codec::encode(m)),
            Self::Frontiers(m) => (kind::FRONTIERS, codec::encode(m)),
            Self::BatchPush(m) => (kind::BATCH_PUSH, codec::encode(m)),
            Self::EntryWant(m) => (kind::ENTRY_WANT, codec::encode(m)),
            Self::Subscribe(m) => (kind::SUBSCRIBE, codec::encode(m)),
            Self::Applied(m) => (kind::APPLIED, codec::encode(m)),
            Self::ContentWant(m) => (kind::CONTENT_WANT, codec::encode(m)),
            Self::Content(m) => (kind::CONTENT, codec::encode(m)),
            Self::Report(m) => (kind::REPORT, codec::encode(m)),
            Self::AuditWant(m) => (kind::AUDIT_WANT, codec::encode(m)),
            Self::AuditLines(m) => (kind::AUDIT_LINES, codec::encode(m)),
            Self::Have(m) => (kind::HAVE, codec::encode(m)),
            Self::RelayCall(m) => (kind::RELAY_CALL, codec::encode(m)),
            Self::Heartbeat(m) => (kind::HEARTBEAT, codec::encode(m)),
            Self::Unknown(kind) => return Envelope::seal(*kind, false, &[]),
        };
        Envelope::seal(kind, is_critical(kind), &body)
    }

    /// Reads a message. An unknown critical kind is an error, an unknown other one is `Unknown`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        fn take<T: Serialize + DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
            codec::decode("message", body, FRAME_BYTES_MAX)
        }
        let Envelope { kind, critical, body } = Envelope::open(bytes)?;
        let message = match kind {
            kind::HELLO => take(body).map(Self::Hello),
            kind::PING => take(body).map(Self::Ping),
            kind::PONG => take(body).map(Self::Pong),
            kind::BYE => take(body).map(Self::Bye),
            kind::STATEMENT_HEADS => take(body).map(Self::StatementHeads),
            kind::STATEMENT_WANT => take(body).map(Self::StatementWant),
            kind::STATEMENTS => take(body).map(Self::Statements),
            kind::DISCOVERY_KEY => take(body).map(Self::DiscoveryKey),
            kind::ADDRESSES => take(body).map(Self::Addresses),
            kind::CLOCK => take(body).map(Self::Clock),
            kind::FRONTIERS => take(body).map(Self::Frontiers),
            kind::BATCH_PUSH => take(body).map(Self::BatchPush),
            kind::ENTRY_WANT => take(body).map(Self::EntryWant),
            kind::SUBSCRIBE => take(body).map(Self::Subscribe),
            kind::APPLIED => take(body).map(Self::Applied),
            kind::CONTENT_WANT => take(body).map(Self::ContentWant),
            kind::CONTENT => take(body).map(Self::Content),
            kind::REPORT => take(body).map(|report| Self::Report(Box::new(report))),
            kind::AUDIT_WANT => take(body).map(Self::AuditWant),
            kind::AUDIT_LINES => take(body).map(Self::AuditLines),
            kind::HAVE => take(body).map(Self::Have),
            kind::RELAY_CALL => take(body).map(Self::RelayCall),
            kind::HEARTBEAT => take(body).map(Self::Heartbeat),
            unknown if critical => return Err(DecodeError::UnknownKind(unknown)),
            unknown => return Ok(Self::Unknown(unknown)),
        }?;
        if critical == is_critical(kind) { Ok(message) } else { Err(DecodeError::NotCanonical("message")) }
    }
}

/// Whether a node that does not know this kind must end the link instead of passing over it.
fn is_critical(kind: u16) -> bool {
    !matches!(
        kind,
        kind::ADDRESSES
            | kind::CLOCK
            | kind::HEARTBEAT
            | kind::HAVE
            | kind::REPORT
            | kind::AUDIT_WANT
            | kind::AUDIT_LINES
            | kind::RELAY_CALL
    )
}
