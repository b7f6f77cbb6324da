//! Contents: chunk records, the list of them, and the content id over the list.
//!
//! Page: `docs/spec/formats/contents.md`. A content is a list of chunks; the list is cut into leaves of 4,096
//! records, so that the list of a huge file is fetched and verified piece by piece like the content itself.

use serde::{Deserialize, Serialize};

use super::codec::{self, List};
use crate::base::{ChunkHash, ContentId};

/// FastCDC 2020, normalisation level 1, parameters below. A change of any of them is a new version.
pub const CHUNKER_VERSION: u8 = 1;
/// Smallest chunk but the last, bytes. Source: measured in `docs/decisions/0001-chunks.md`.
pub const CHUNK_BYTES_MIN: usize = 64 * 1024;
/// Aim, bytes.
pub const CHUNK_BYTES_AVERAGE: usize = 256 * 1024;
/// Largest chunk, bytes; one chunk fits one frame.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Chunk records in one leaf of the list: 4,096 records of 36 bytes, up to 4 GiB of content.
pub const LEAF_MAX: usize = 4096;
/// Most leaves: 16 TiB at the average chunk, the largest file of ext4; the index of leaves fits one frame.
pub const LEAVES_MAX: usize = 16_384;

/// One chunk of a content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// BLAKE3 of its bytes.
    pub hash: ChunkHash,
    /// How many bytes.
    pub bytes: u32,
}

impl ChunkRecord {
    /// The record of these bytes, at most `CHUNK_BYTES_MAX`.
    pub fn of(bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).expect("a chunk is at most 1 MiB");
        Self { hash: ChunkHash(*blake3::hash(bytes).as_bytes()), bytes: length }
    }
}

/// Consecutive chunk records: `LEAF_MAX` of them, fewer only in the last leaf.
pub type Leaf = List<ChunkRecord, LEAF_MAX>;

/// The hash of one leaf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LeafHash(pub [u8; 32]);

/// The hashes of all leaves of a content, in order.
pub type Leaves = List<LeafHash, LEAVES_MAX>;

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[ChunkRecord]) -> LeafHash {
    let mut hasher = blake3::Hasher::new_derive_key("lanyard 1 chunk list leaf");
    for record in leaf {
        hasher.update(&record.hash.0);
        hasher.update(&record.bytes.to_be_bytes());
    }
    LeafHash(*hasher.finalize().as_bytes())
}

/// The id of the content of `bytes` bytes whose list has these leaves.
pub fn content_id(bytes: u64, leaves: &[LeafHash]) -> ContentId {
    let mut hasher = blake3::Hasher::new_derive_key("lanyard 1 content id");
    hasher.update(&[CHUNKER_VERSION]);
    hasher.update(&bytes.to_be_bytes());
    for leaf in leaves {
        hasher.update(&leaf.0);
    }
    ContentId(*hasher.finalize().as_bytes())
}

/// A whole chunk list, as it is kept in the index: the records, and what they add up to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ChunkList {
    /// All records in order.
    pub records: Vec<ChunkRecord>,
}

impl ChunkList {
    /// Bytes of the content.
    pub fn bytes(&self) -> u64 {
        self.records.iter().map(|r| u64::from(r.bytes)).sum()
    }

    /// The leaf hashes.
    pub fn leaves(&self) -> Leaves {
        Leaves::truncated(self.records.chunks(LEAF_MAX).map(leaf_hash).collect())
    }

    /// The content's id.
    pub fn id(&self) -> ContentId {
        content_id(self.bytes(), &self.leaves())
    }

    /// The leaf at `at`, empty beyond the end.
    pub fn leaf(&self, at: usize) -> &[ChunkRecord] {
        self.records.chunks(LEAF_MAX).nth(at).unwrap_or_default()
    }

    /// The list as bytes for the index.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_content_has_no_leaf_and_an_id_of_its_own() {
        let empty = ChunkList::default();
        assert!(empty.leaves().is_empty());
        assert_ne!(empty.id(), ChunkList { records: vec![ChunkRecord::of(b"x")] }.id());
    }
}
