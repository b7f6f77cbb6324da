//! Frames off a stream: the length is checked before memory is taken, and memory grows only as bytes arrive.

use std::io;

use futures_lite::{AsyncRead, AsyncReadExt};

use super::link::ProtocolError;
use crate::wire::frame::{CONTENT_HEAD_BYTES_MAX, ContentHead, LENGTH_BYTES};
use crate::wire::message::Message;

/// Bytes read at once; many small frames come with one read.
const BUFFER_BYTES: usize = 64 * 1024;
/// As long as nothing but small frames came.
const BUFFER_BYTES_MIN: usize = 4 * 1024;
/// Memory taken for a long frame before its bytes came: at most this, or as much as has come.
const STEP_BYTES: usize = 256 * 1024;

/// What TLS gives at once: one record, RFC 8446 section 5.1.
const RECORD_BYTES: usize = 16 * 1024;

/// Why there is no frame.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The connection broke or ended.
    Io(io::Error),
    /// The peer broke the protocol.
    Protocol(ProtocolError),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads frames of at most `frame_bytes_max` bytes.
pub(super) struct FrameReader<R> {
    stream: R,
    frame_bytes_max: usize,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, frame_bytes_max: usize) -> Self {
        Self { stream, frame_bytes_max, buffer: vec![0; BUFFER_BYTES_MIN], start: 0, end: 0 }
    }

    /// The next message of a link.
    pub(super) async fn message(&mut self) -> Result<Message, FrameError> {
        let length = self.length().await?;
        self.fill(length.min(CONTENT_HEAD_BYTES_MAX)).await?;
        let decoded = match ContentHead::peek(
            &self.buffer[self.start..self.start + length.min(CONTENT_HEAD_BYTES_MAX)],
            length,
        ) {
            Some(head) => {
                self.start += head.bytes_at;
                let bytes = self.take(length - head.bytes_at).await?;
                Ok(head.message(bytes).expect("the head's length is at most a chunk's"))
            }
            None if length <= BUFFER_BYTES => {
                self.fill(length).await?;
                let message = Message::decode(&self.buffer[self.start..self.start + length]);
                self.start += length;
                message
            }
            None => Message::decode(&self.take(length).await?),
        };
        decoded.map_err(|error| FrameError::Protocol(error.into()))
    }

    /// The next frame, whatever it holds.
    pub(super) async fn frame(&mut self) -> Result<Vec<u8>, FrameError> {
        let length = self.length().await?;
        self.take(length).await
    }

    /// Reads and drops at most `bytes_max` bytes, until the stream ends.
    pub(super) async fn drain(&mut self, bytes_max: usize) -> io::Result<()> {
        let mut left = bytes_max;
        while left > 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        Ok(())
    }

    async fn length(&mut self) -> Result<usize, FrameError> {
        self.fill(LENGTH_BYTES).await?;
        let first = self.buffer[self.start..].first_chunk::<LENGTH_BYTES>().expect("just filled");
        let bytes = u32::from_be_bytes(*first) as usize;
        if bytes > self.frame_bytes_max {
            return Err(FrameError::Protocol(ProtocolError::TooLong { bytes, max: self.frame_bytes_max }));
        }
        self.start += LENGTH_BYTES;
        Ok(bytes)
    }

    /// Makes the next `bytes` available in the buffer; at most `BUFFER_BYTES`.
    async fn fill(&mut self, bytes: usize) -> io::Result<()> {
        while self.end - self.start < bytes {
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            }
            if self.start + bytes > self.buffer.len() || self.end == self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            if self.end == self.buffer.len() || bytes > self.buffer.len() {
                self.buffer.resize(BUFFER_BYTES, 0);
            }
            let read = self.stream.read(&mut self.buffer[self.end..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.end += read;
        }
        Ok(())
    }

    /// Takes the next `length` bytes out, past the buffer.
    async fn take(&mut self, length: usize) -> Result<Vec<u8>, FrameError> {
        let have = length.min(self.end - self.start);
        let mut bytes = Vec::with_capacity(length.min(STEP_BYTES.max(have)));
        bytes.extend_from_slice(&self.buffer[self.start..self.start + have]);
        self.start += have;
        let mut filled = have;
        while filled < length {
            if filled == bytes.capacity() {
                bytes.reserve_exact(length.min(filled + filled.max(STEP_BYTES)) - filled);
            }
            // Cleared piece by piece, just before it is filled: that memory is then near.
            bytes.resize(length.min(bytes.capacity()).min(filled + RECORD_BYTES), 0);
            let read = self.stream.read(&mut bytes[filled..]).await?;
            if read == 0 {
                return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            filled += read;
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;
    use crate::shell::rt::block_on;
    use crate::wire::codec::Bytes;
    use crate::wire::frame::Frame;
    use crate::wire::message::{Answer, Content, FRAME_BYTES_MAX};

    /// A stream that gives at most `step` bytes at a time.
    struct Dribble {
        bytes: Vec<u8>,
        at: usize,
        step: usize,
    }

    impl AsyncRead for Dribble {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
            let n = out.len().min(self.step).min(self.bytes.len() - self.at);
            out[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
            self.at += n;
            Poll::Ready(Ok(n))
        }
    }

    fn reader(bytes: Vec<u8>, step: usize) -> FrameReader<Dribble> {
        FrameReader::new(Dribble { bytes, at: 0, step }, FRAME_BYTES_MAX)
    }

    fn content(bytes: usize) -> Message {
        let bytes = (0..bytes).map(|n| n as u8).collect();
        Message::Content(Content { request: 7, answer: Answer::Bytes(Bytes::new(bytes).expect("fits")) })
    }

    #[test]
    fn messages_arrive_whole_however_the_bytes_are_cut() {
        let messages: Vec<Message> = [0, 1, 100, 4_000, 5_000, 70_000, 300_000, 1 << 20]
            .into_iter()
            .flat_map(|n| [content(n), Message::Ping(n as u64)])
            .collect();
        let mut bytes = Vec::new();
        for message in &messages {
            let frame = Frame::new(message.clone()).expect("fits");
            bytes.extend_from_slice(&frame.head);
            bytes.extend_from_slice(&frame.tail);
        }
        for step in [1, 3, 17, 4_095, 16_384, 1 << 21] {
            let mut reader = reader(bytes.clone(), step);
            for message in &messages {
                assert_eq!(&block_on(reader.message()).expect("a message"), message);
            }
            let end = block_on(reader.message()).expect_err("the end");
            assert!(matches!(end, FrameError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof));
        }
    }

    #[test]
    fn a_length_over_the_limit_takes_no_memory() {
        let mut reader = reader(vec![0xff; 64], 64);
        let error = block_on(reader.message()).expect_err("too long");
        assert!(matches!(error, FrameError::Protocol(ProtocolError::TooLong { bytes: 0xffff_ffff, .. })));
        assert_eq!(reader.buffer.len(), BUFFER_BYTES_MIN);
    }

    #[test]
    fn memory_grows_only_as_bytes_arrive() {
        let mut bytes = (FRAME_BYTES_MAX as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0; 100]);
        let mut reader = reader(bytes, 64);
        // The peer announces a megabyte and sends a hundred bytes.
        let error = block_on(reader.frame()).expect_err("the end");
        assert!(matches!(error, FrameError::Io(_)));
        assert!(reader.buffer.len() <= BUFFER_BYTES);
    }
}
