//! Frames of a link: a length and a message, with the bytes of contents never copied to be framed.
//!
//! Page: `docs/spec/links.md`. The bytes are those of `Message::encode` after a `u32` length, big-endian. Contents are
//! most of what a link carries, and their bytes are the last field of their message: they are kept apart here, so that
//! a sender encodes some 20 bytes a chunk and a receiver reads the rest straight into the buffer that becomes the chunk.

use super::codec::Bytes;
use super::content::CHUNK_BYTES_MAX;
use super::envelope::{CRITICAL, HEADER_BYTES, kind};
use super::message::{Answer, Content, FRAME_BYTES_MAX, Message};

/// Bytes of the length before each frame.
pub const LENGTH_BYTES: usize = 4;
/// Longest beginning of a content message: envelope, request (10), answer kind (1), length (3, as it is at most 1 MiB).
pub const CONTENT_HEAD_BYTES_MAX: usize = HEADER_BYTES + 10 + 1 + 3;
/// Contents below this are framed in one piece: a copy is cheaper than a second write.
const APART_BYTES_MIN: usize = 4 * 1024;

/// A message ready to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Length, and all of the message but its tail.
    pub head: Vec<u8>,
    /// The last bytes of the message; empty for most.
    pub tail: Vec<u8>,
}

impl Frame {
    /// Frames a message; `None` if it is longer than a frame may be.
    pub fn new(message: Message) -> Option<Self> {
        let (body, tail) = match message {
            Message::Content(Content { request, answer: Answer::Bytes(bytes) }) if bytes.len() >= APART_BYTES_MIN => {
                (content_head(request, bytes.len()), bytes.into_vec())
            }
            other => (other.encode(), Vec::new()),
        };
        let length = body.len() + tail.len();
        if length > FRAME_BYTES_MAX {
            return None;
        }
        let mut head = Vec::with_capacity(LENGTH_BYTES + body.len());
        head.extend_from_slice(&u32::try_from(length).expect("bounded above").to_be_bytes());
        head.extend_from_slice(&body);
        Some(Self { head, tail })
    }

    /// Bytes of the frame.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

/// The beginning of a frame that is nothing but content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentHead {
    /// The request that it answers.
    pub request: u64,
    /// Where in the frame its bytes begin; they fill the rest.
    pub bytes_at: usize,
}

impl ContentHead {
    /// Reads it from the first bytes of a frame of `length` bytes. `None` if this is another message, or not the one
    /// canonical encoding: then the whole frame goes to `Message::decode`, which says what it is.
    pub fn peek(first: &[u8], length: usize) -> Option<Self> {
        let (header, rest) = first.split_first_chunk::<HEADER_BYTES>()?;
        let [k0, k1, flags, l0, l1, l2, l3] = *header;
        let whole = u16::from_be_bytes([k0, k1]) == kind::CONTENT
            && flags == CRITICAL
            && u32::from_be_bytes([l0, l1, l2, l3]) as usize == length.checked_sub(HEADER_BYTES)?;
        let (request, rest) = number(rest).filter(|_| whole)?;
        let (&ANSWER_BYTES, rest) = rest.split_first()? else { return None };
        let (bytes, rest) = number(rest)?;
        let bytes_at = first.len() - rest.len();
        let fits = bytes <= CHUNK_BYTES_MAX as u64 && bytes == (length - bytes_at) as u64;
        fits.then_some(Self { request, bytes_at })
    }

    /// The message, once its bytes are there. `None` if they are more than a chunk.
    pub fn message(self, bytes: Vec<u8>) -> Option<Message> {
        Some(Message::Content(Content { request: self.request, answer: Answer::Bytes(Bytes::new(bytes)?) }))
    }
}

/// Number of `Answer::Bytes` among the answers, as postcard writes it.
const ANSWER_BYTES: u8 = 0;

fn content_head(request: u64, bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(CONTENT_HEAD_BYTES_MAX);
    body.extend_from_slice(&[0; HEADER_BYTES]);
    push_number(&mut body, request);
    body.push(ANSWER_BYTES);
    push_number(&mut body, bytes as u64);
    let length = u32::try_from(body.len() - HEADER_BYTES + bytes).expect("a chunk is at most 1 MiB");
    body[..2].copy_from_slice(&kind::CONTENT.to_be_bytes());
    body[2] = CRITICAL;
    body[3..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    body
}

/// LEB128, as postcard writes numbers.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads LEB128 in its one shortest form.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        let part = u64::from(byte & 0x7f);
        if at == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * at);
        if byte & 0x80 == 0 {
            return (byte != 0 || at == 0).then_some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::message::Bye;

    fn content(request: u64, bytes: Vec<u8>) -> Message {
        Message::Content(Content { request, answer: Answer::Bytes(Bytes::new(bytes).expect("fits")) })
    }

    fn whole(frame: &Frame) -> Vec<u8> {
        [frame.head.as_slice(), &frame.tail].concat()
    }

    #[test]
    fn a_frame_is_the_length_and_the_encoding_of_its_message() {
        for bytes in [0, 1, 4095, 4096, 127 * 129, 100_000, CHUNK_BYTES_MAX] {
            for request in [0, 127, 128, 1 << 35, u64::MAX] {
                let message = content(request, vec![7; bytes]);
                let encoded = message.encode();
                let frame = Frame::new(message).expect("fits");
                let expected = [&(encoded.len() as u32).to_be_bytes()[..], &encoded].concat();
                assert_eq!(whole(&frame), expected);
                assert_eq!(frame.bytes(), expected.len());
            }
        }
    }

    #[test]
    fn content_is_recognised_by_its_first_bytes_and_other_messages_are_not() {
        let message = content(300, vec![7; 5000]);
        let encoded = message.encode();
        let head = ContentHead::peek(&encoded[..CONTENT_HEAD_BYTES_MAX], encoded.len()).expect("content");
        assert_eq!(head.message(encoded[head.bytes_at..].to_vec()), Some(message));
        let absent = Message::Content(Content { request: 1, answer: Answer::Absent }).encode();
        let bye = Message::Bye(Bye::Stopping).encode();
        assert_eq!(ContentHead::peek(&absent, absent.len()), None);
        assert_eq!(ContentHead::peek(&bye, bye.len()), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_for_content_is_exactly_what_decoding_takes(
            request: u64, bytes in 0_usize..300, flip in 0_usize..40, bit in 0_u8..8, cut in 0_usize..3,
        ) {
            let mut encoded = content(request, vec![1; bytes]).encode();
            if flip < encoded.len() {
                encoded[flip] ^= 1 << bit;
            }
            encoded.truncate(encoded.len() - cut);
            let first = &encoded[..encoded.len().min(CONTENT_HEAD_BYTES_MAX)];
            if let Some(head) = ContentHead::peek(first, encoded.len()) {
                let message = head.message(encoded[head.bytes_at..].to_vec());
                prop_assert_eq!(message, Message::decode(&encoded).ok());
            }
        }
    }
}
