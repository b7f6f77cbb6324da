//! Bytes that were checked against the hash that was asked for. Only `Verified` reaches the disk.

use crate::base::ContentId;
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList, ChunkRecord, Leaf, Leaves, content_id, leaf_hash};

/// Bytes whose hash is known to be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified<T> {
    value: T,
}

impl<T> Verified<T> {
    /// The checked value.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// The checked value.
    pub fn inner(&self) -> &T {
        &self.value
    }
}

/// What a peer sent is not what was asked for. Nothing of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes do not have the hash that was asked for")]
pub struct WrongBytes;

/// Checks one chunk.
pub fn chunk(record: ChunkRecord, bytes: Vec<u8>) -> Result<Verified<Vec<u8>>, WrongBytes> {
    if bytes.len() <= CHUNK_BYTES_MAX && ChunkRecord::of(&bytes) == record {
        Ok(Verified { value: bytes })
    } else {
        Err(WrongBytes)
    }
}

/// Checks a whole small content; returns its chunk list with it. `list` is the list of these bytes.
pub fn whole(
    content: ContentId,
    bytes: Vec<u8>,
    list: ChunkList,
) -> Result<(Verified<Vec<u8>>, ChunkList), WrongBytes> {
    if list.id() == content { Ok((Verified { value: bytes }, list)) } else { Err(WrongBytes) }
}

/// Checks the hashes of all leaves of a content.
pub fn leaves(content: ContentId, bytes: u64, leaves: Leaves) -> Result<Verified<Leaves>, WrongBytes> {
    if content_id(bytes, &leaves) == content { Ok(Verified { value: leaves }) } else { Err(WrongBytes) }
}

/// Checks one leaf.
pub fn leaf(leaves: &Verified<Leaves>, at: usize, leaf: Leaf) -> Result<Verified<Leaf>, WrongBytes> {
    if leaves.inner().get(at) == Some(&leaf_hash(&leaf)) { Ok(Verified { value: leaf }) } else { Err(WrongBytes) }
}
