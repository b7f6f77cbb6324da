//! What every decoder must hold for any bytes at all: it never panics, and what it accepts encodes to the same bytes.
//!
//! Included by the fuzz targets and by `tests/vectors.rs`, which replays the corpora. A new decoder gets a line in
//! `DECODERS`, a target of that name in `fuzz_targets/`, and seeds.

use ed25519_dalek::SigningKey;
use lanyard::base::{NodeId, RelPath, path};
use lanyard::wire::batch::{Batch, Packed};
use lanyard::wire::codec;
use lanyard::wire::content::{ChunkList, Leaf, Leaves, leaf_hash};
use lanyard::wire::envelope::Envelope;
use lanyard::wire::message::{FRAME_BYTES_MAX, Message};
use lanyard::wire::pairing;
use lanyard::wire::signed::{Domain, SIGNED_BYTES_MAX, Signed};
use lanyard::wire::statement::{Body, Statement};

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

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}
