//! Where a content is cut into chunks: FastCDC 2020, normalisation level 1, chunker version 1.
//!
//! Page: `docs/spec/formats/contents.md`. Pure: the same bytes are cut at the same places on every machine and in
//! every window. A cut depends only on the bytes since the last one, and on at most `CHUNK_BYTES_MAX` of them.
//!
//! Source: Xia et al., *The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems*
//! (2020), as built by the crate `fastcdc`; a test below pins its cuts.

use fastcdc::v2020::{self, Normalization};

use super::content::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, ChunkList, ChunkRecord};

/// The masks that decide where to cut, computed once.
#[derive(Clone, Copy, Debug)]
pub struct Cutter {
    strict: u64,
    relaxed: u64,
}

impl Default for Cutter {
    fn default() -> Self {
        let (strict, relaxed) = v2020::select_masks(CHUNK_BYTES_AVERAGE, Normalization::Level1);
        Self { strict, relaxed }
    }
}

impl Cutter {
    /// Length of the first chunk of `window`, which holds at least `CHUNK_BYTES_MAX` bytes or all that is left of
    /// the content; 0 only if it is empty.
    pub fn cut(&self, window: &[u8]) -> usize {
        let (_, length) = v2020::cut(
            window,
            CHUNK_BYTES_MIN,
            CHUNK_BYTES_AVERAGE,
            CHUNK_BYTES_MAX,
            self.strict,
            self.relaxed,
            self.strict << 1,
            self.relaxed << 1,
        );
        length
    }
}

/// The chunk list of a content that is wholly in memory.
pub fn chunks_of(bytes: &[u8]) -> ChunkList {
    let cutter = Cutter::default();
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(cutter.cut(rest));
        records.push(ChunkRecord::of(chunk));
        rest = after;
    }
    ChunkList { records }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marsaglia's xorshift64*: the same bytes on every machine.
    fn noise(seed: u64, bytes: usize) -> Vec<u8> {
        let mut state = seed;
        let mut out = Vec::with_capacity(bytes + 8);
        while out.len() < bytes {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        out.truncate(bytes);
        out
    }

    #[test]
    fn the_cuts_of_version_1_never_change() {
        let list = chunks_of(&noise(1, 4 << 20));
        let lengths: Vec<u32> = list.records.iter().map(|r| r.bytes).collect();
        assert_eq!(
            lengths,
            [362950, 127471, 853179, 289502, 362722, 516591, 171540, 468190, 231811, 493742, 183451, 133155]
        );
    }

    #[test]
    fn chunks_add_up_to_the_content_within_their_bounds() {
        let bytes = noise(2, (3 << 20) + 17);
        let list = chunks_of(&bytes);
        assert_eq!(list.bytes(), bytes.len() as u64);
        let (last, others) = list.records.split_last().expect("not empty");
        assert!(others.iter().all(|r| (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&(r.bytes as usize))));
        assert!(last.bytes as usize <= CHUNK_BYTES_MAX);
    }

    #[test]
    fn what_has_no_natural_cut_is_cut_at_the_maximum() {
        let list = chunks_of(&vec![0; 2 * CHUNK_BYTES_MAX + 1]);
        let lengths: Vec<usize> = list.records.iter().map(|r| r.bytes as usize).collect();
        assert_eq!(lengths, [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 1]);
    }

    #[test]
    fn a_small_content_is_one_chunk_and_an_empty_one_none() {
        assert_eq!(chunks_of(&noise(3, CHUNK_BYTES_MIN)).records.len(), 1);
        assert!(chunks_of(b"").records.is_empty());
    }

    #[test]
    fn an_insertion_changes_only_chunks_near_it() {
        let before = noise(4, 8 << 20);
        let mut after = before.clone();
        after.insert(1 << 20, b'x');
        let (before, after) = (chunks_of(&before), chunks_of(&after));
        let new = after.records.iter().filter(|r| !before.records.contains(r)).count();
        assert!(new <= 3, "{new} new chunks");
    }
}
