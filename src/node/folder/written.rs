//! Contents that come from elsewhere than a folder, such as the archive: cut like all contents, in bounded memory.

use std::io;

use super::back::{Back, Content};
use super::fetcher::Data;
use crate::node::reasons;
use crate::shell::disk::stage::Partial;
use crate::wire::chunker::{Cutter, chunks_of};
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList, ChunkRecord};

/// Writes a whole content, from its beginning.
pub(in crate::node) type Write<'a> = dyn FnMut(&mut dyn io::Write) -> Result<(), String> + 'a;

impl Back {
    /// The content of `bytes` bytes that `write` writes. A large one is written twice: what it is called here is known only
    /// once it was seen whole.
    pub(in crate::node) fn written(&self, bytes: u64, write: &mut Write<'_>) -> Result<Content, String> {
        if bytes <= CHUNK_BYTES_MAX as u64 {
            let mut whole = Whole { bytes: Vec::new(), most: CHUNK_BYTES_MAX };
            write(&mut whole)?;
            let list = chunks_of(&whole.bytes);
            return Ok(Content::new(list, Data::Bytes(whole.bytes)));
        }
        let mut cutting = Cutting::default();
        write(&mut cutting)?;
        let list = cutting.end();
        if list.bytes() != bytes {
            return Err("its content is not as long as it should be".into());
        }
        let told = |error| reasons(&error).join(": ");
        let partial = Partial::open_or_create(self.disk(), list.id(), bytes).map_err(told)?;
        let mut placing = Placing { partial: &partial, buffer: Vec::new(), offset: 0, failed: None };
        let written = write(&mut placing).and_then(|()| io::Write::flush(&mut placing).map_err(|e| e.to_string()));
        let failed = placing.failed.take();
        match (failed, written) {
            (Some(why), _) | (None, Err(why)) => {
                // The failure is what is told.
                let _ = partial.discard();
                Err(why)
            }
            (None, Ok(())) => Ok(Content::new(list, Data::Partial(partial))),
        }
    }
}

/// All of it, within a bound.
struct Whole {
    bytes: Vec<u8>,
    most: usize,
}

impl io::Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The chunks of what is written.
#[derive(Default)]
struct Cutting {
    cutter: Cutter,
    buffer: Vec<u8>,
    records: Vec<ChunkRecord>,
}

impl Cutting {
    fn cut(&mut self, least: usize) {
        let mut start = 0;
        while self.buffer.len() - start > least {
            let window = &self.buffer[start..];
            let length = self.cutter.cut(window);
            self.records.push(ChunkRecord::of(&window[..length]));
            start += length;
        }
        self.buffer.drain(..start);
    }

    fn end(mut self) -> ChunkList {
        self.cut(0);
        ChunkList { records: self.records }
    }
}

impl io::Write for Cutting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // So many at once keep the buffer within its bound.
        let taken = bytes.len().min(CHUNK_BYTES_MAX);
        self.buffer.extend_from_slice(&bytes[..taken]);
        // A cut may depend on so many bytes.
        self.cut(CHUNK_BYTES_MAX);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts what is written in its place.
struct Placing<'p> {
    partial: &'p Partial,
    buffer: Vec<u8>,
    offset: u64,
    failed: Option<String>,
}

impl io::Write for Placing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES_MAX - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK_BYTES_MAX {
            io::Write::flush(self)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Err(error) = self.partial.write_at(self.offset, &self.buffer) {
            self.failed.get_or_insert_with(|| reasons(&error).join(": "));
            return Err(io::Error::other("not written"));
        }
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_written_in_any_pieces_is_cut_like_the_whole() {
        let mut state = 7u64;
        let bytes: Vec<u8> = (0..5_000_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        for piece in [1_000, 300_000, 4_999_999] {
            let mut cutting = Cutting::default();
            bytes.chunks(piece).for_each(|piece| cutting.write_all(piece).expect("room"));
            assert!(cutting.end() == chunks_of(&bytes), "{piece}");
        }
        let mut empty = Cutting::default();
        empty.write_all(b"").expect("room");
        assert_eq!(empty.end(), chunks_of(b""));
    }
}
