//! What every decoder must hold for any bytes at all: it never panics, and what it accepts encodes to the same bytes.
//!
//! Included by the fuzz targets and by `tests/vectors.rs`, which replays the corpora. A new decoder gets a line in
//! `DECODERS`, a target of that name in `fuzz_targets/`, and seeds.

use std::str::FromStr;

use ed25519_dalek::SigningKey;
use lanyard::base::{NodeId, RelPath, path};
use lanyard::wire::announce::Announcement;
use lanyard::wire::api::{Request, Stamped};
use lanyard::wire::batch::{Batch, Packed};
use lanyard::wire::code::{Code, Ticket};
use lanyard::wire::codec;
use lanyard::wire::content::{ChunkList, Leaf, Leaves, leaf_hash};
use lanyard::wire::envelope::Envelope;
use lanyard::wire::frame::{CONTENT_HEAD_BYTES_MAX, ContentHead, Frame, LENGTH_BYTES};
use lanyard::wire::message::{FRAME_BYTES_MAX, Message};
use lanyard::wire::pairing;
use lanyard::wire::relay;
use lanyard::wire::signed::{Domain, SIGNED_BYTES_MAX, Signed};
use lanyard::wire::statement::{Body, Statement};
use lanyard::wire::versions::{Spoken, VERSIONS_FRAME_BYTES_MAX, Versions};

/// Longest input that is worth a place in a corpus.
#[allow(dead_code, reason = "the fuzz targets take their bound from the command line")]
pub(crate) const INPUT_MAX: usize = 8 * 1024;

/// Takes any bytes; panics where a rule is broken.
pub(crate) type Decoder = fn(&[u8]);

/// Every decoder by name.
#[allow(dead_code, reason = "a fuzz target names its own decoder")]
pub(crate) const DECODERS: &[(&str, Decoder)] = &[
    ("node_id", node_id),
    ("path", path),
    ("envelope", envelope),
    ("signed", signed),
    ("statement", statement),
    ("batch", batch),
    ("entries", entries),
    ("content", content),
    ("message", message),
    ("pairing", pairing),
    ("relay", relay),
    ("versions", versions),
    ("frame", frame),
    ("announce", announce),
    ("code", code),
    ("ticket", ticket),
    ("api", api),
];

/// Text of a node id.
pub(crate) fn node_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = NodeId::from_text(text) {
        assert_eq!(NodeId::from_text(&id.to_text()), Ok(id));
    }
}

/// A path as bytes, and as the escaped text of one.
pub(crate) fn path(bytes: &[u8]) {
    let escaped = path::escape(bytes);
    assert_eq!(path::unescape(&escaped).as_deref(), Some(bytes));
    assert!(!escaped.chars().any(char::is_control));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = path::unescape(text);
    }
    let Ok(path) = RelPath::new(bytes) else { return };
    assert_eq!(path.as_bytes(), bytes);
    assert_eq!(RelPath::from_key(&path.to_key()), Ok(path.clone()));
    let joined = path.components().try_fold(RelPath::root(), |above, name| above.join(name));
    assert_eq!(joined, Ok(path.clone()));
    assert!(path.components().all(|name| name != b"." && name != b".." && !name.is_empty()));
    assert!(path.ancestors().all(|above| path.starts_with(&above) && above < path));
}

/// An envelope.
pub(crate) fn envelope(bytes: &[u8]) {
    if let Ok(Envelope { kind, critical, body }) = Envelope::open(bytes) {
        assert_eq!(Envelope::seal(kind, critical, body), bytes);
    }
}

/// A signed envelope as it travels, of a statement or a batch.
pub(crate) fn signed(bytes: &[u8]) {
    let Ok(signed) = codec::decode::<Signed>("signed", bytes, FRAME_BYTES_MAX) else { return };
    if let Ok(statement) = Statement::open(signed.clone()) {
        assert_eq!(codec::encode(statement.signed()), bytes);
    }
    if let Ok(batch) = Batch::open(signed) {
        assert_eq!(codec::encode(batch.signed()), bytes);
    }
}

/// A statement's envelope, under a good signature, so that nothing behind the signature stays in the dark.
pub(crate) fn statement(bytes: &[u8]) {
    if bytes.len() > SIGNED_BYTES_MAX {
        return;
    }
    let Ok(statement) = Statement::open(Signed::sign(Domain::Statement, bytes.to_vec(), &key())) else { return };
    if !matches!(statement.body(), Body::Unknown { .. }) {
        let again = Statement::sign(statement.head().clone(), statement.body().clone(), &key());
        assert_eq!(&*again.signed().envelope, bytes);
        assert_eq!(again.id(), statement.id());
    }
}

/// A batch header's envelope, under a good signature.
pub(crate) fn batch(bytes: &[u8]) {
    if bytes.len() > SIGNED_BYTES_MAX {
        return;
    }
    let Ok(batch) = Batch::open(Signed::sign(Domain::Batch, bytes.to_vec(), &key())) else { return };
    assert!(batch.header().last() >= batch.header().first);
    let again = Batch::sign(batch.header().clone(), &key());
    assert_eq!(&*again.signed().envelope, bytes);
    assert_eq!(again.hash(), batch.hash());
}

/// Packed entries. They need not be packed best, so packing anew may give other bytes, but never other entries.
pub(crate) fn entries(bytes: &[u8]) {
    let Ok(packed) = codec::decode::<Packed>("entries", bytes, FRAME_BYTES_MAX) else { return };
    let Ok(entries) = packed.unpack() else { return };
    let places = entries.iter().map(|(at, salted)| (u16::try_from(*at).expect("a place is a u16"), salted));
    assert_eq!(Packed::pack(places).unpack().as_ref(), Ok(&entries));
}

/// Chunk list leaves, leaf hashes, and a chunk list as the index keeps it.
pub(crate) fn content(bytes: &[u8]) {
    if let Ok(leaf) = codec::decode::<Leaf>("leaf", bytes, FRAME_BYTES_MAX) {
        let _ = leaf_hash(&leaf);
    }
    let _ = codec::decode::<Leaves>("leaves", bytes, FRAME_BYTES_MAX);
    if let Ok(list) = codec::decode::<ChunkList>("chunk list", bytes, FRAME_BYTES_MAX) {
        assert_eq!(list.encode(), bytes);
        let _ = list.id();
    }
}

/// A message between members.
pub(crate) fn message(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    let again = message.encode();
    if let Message::Unknown(_) = message {
        return;
    }
    // The critical bit of a kind that is known says nothing.
    assert_eq!(again[..2], bytes[..2]);
    assert_eq!(again[3..], bytes[3..]);
    if let Message::BatchPush(push) = message {
        let _ = Batch::open(push.header);
        let _ = push.entries.unpack();
    }
}

/// A message of pairing.
pub(crate) fn pairing(bytes: &[u8]) {
    let Ok(message) = pairing::Message::decode(bytes) else { return };
    let again = message.encode();
    assert_eq!(again[..2], bytes[..2]);
    assert_eq!(again[3..], bytes[3..]);
}

/// A message to a relay, or its answer.
pub(crate) fn relay(bytes: &[u8]) {
    let Ok(message) = relay::Message::decode(bytes) else { return };
    assert_eq!(message.encode(), bytes);
    assert!(bytes.len() <= relay::RELAY_FRAME_BYTES_MAX);
}

/// The word of two ends without a common version; and the names by which versions are offered.
pub(crate) fn versions(bytes: &[u8]) {
    if let Some(spoken) = Spoken::read(bytes) {
        assert_eq!(spoken.name(), bytes);
    }
    let Ok(versions) = Versions::decode(bytes) else { return };
    assert_eq!(versions.encode(), bytes);
    assert!(bytes.len() <= VERSIONS_FRAME_BYTES_MAX);
}

/// The beginning of a frame: read apart, a content is what it is when read whole.
pub(crate) fn frame(bytes: &[u8]) {
    let first = &bytes[..bytes.len().min(CONTENT_HEAD_BYTES_MAX)];
    let Some(head) = ContentHead::peek(first, bytes.len()) else { return };
    let message = head.message(bytes[head.bytes_at..].to_vec()).expect("the head says that it fits");
    assert_eq!(Message::decode(bytes).as_ref(), Ok(&message));
    let frame = Frame::new(message).expect("no longer than it was");
    assert_eq!([&frame.head[LENGTH_BYTES..], &frame.tail].concat(), bytes);
}

/// Texts of an announcement: `key=value` or a key alone, parted by NUL.
pub(crate) fn announce(bytes: &[u8]) {
    let texts = bytes.split(|b| *b == 0).filter_map(|text| {
        let at = text.iter().position(|b| *b == b'=');
        let key = std::str::from_utf8(&text[..at.unwrap_or(text.len())]).ok()?;
        Some((key, at.map(|at| &text[at + 1..])))
    });
    let Some(announcement) = Announcement::parse(texts) else { return };
    let again = announcement.texts();
    let borrowed = again.iter().map(|(key, value)| (*key, Some(value.as_bytes())));
    assert_eq!(Announcement::parse(borrowed), Some(announcement));
    assert!(again.iter().all(|(key, value)| key.len() + value.len() < 255), "fits one text of the record");
}

/// A pairing code as typed.
pub(crate) fn code(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Code::from_str(text) {
        Ok(code) => assert_eq!(Code::from_str(&code.to_string()), Ok(code)),
        // Shown to people as it is: whatever was typed, it stays short.
        Err(error) => assert!(error.to_string().len() < 400),
    }
}

/// The text of a ticket; and any bytes as its contents, under a good checksum.
pub(crate) fn ticket(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(ticket) = Ticket::from_text(text, 0)
    {
        assert_eq!(Ticket::from_text(&ticket.to_text(), 0), Ok(ticket));
    }
    if let Ok(ticket) = codec::decode::<Ticket>("ticket", bytes, FRAME_BYTES_MAX)
        && ticket.expires_at_ms > 0
    {
        assert_eq!(Ticket::from_text(&ticket.to_text(), 0), Ok(ticket));
    }
}

/// A request of the local API: method and path up to the first line break, then the body. And the body as an event.
pub(crate) fn api(bytes: &[u8]) {
    let at = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (line, body) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let _ = serde_json::from_slice::<Stamped>(body);
    let Some((method, path)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else { return };
    match Request::from_http(method, path, body) {
        Ok(request) => {
            let (method, path) = request.route();
            let again = Request::from_http(method, path, &request.body());
            assert_eq!(again.expect("what is written can be read"), request);
        }
        Err(bad) => assert!((400..500).contains(&bad.status())),
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}
