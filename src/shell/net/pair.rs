//! The stream on which two nodes pair: framed messages inside TLS, each with a time limit.
//!
//! The inviter's side uses a throwaway key, so that probing tells nothing; what proves the inviter is the exchange
//! over this stream, bound to it by `channel_binding`. Page: `docs/spec/pairing.md`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_lite::io::{AsyncWriteExt, split};
use futures_rustls::TlsStream;

use super::frames::{FrameError, FrameReader};
use super::link::{ProtocolError, Reader, Writer};
use super::tls::Secured;
use crate::base::NodeId;
use crate::shell::rt;
use crate::wire::frame::LENGTH_BYTES;
use crate::wire::pairing::{Message, PAIRING_FRAME_BYTES_MAX};

/// How long one message may take. The other side only computes; no person is waited for once the code is typed.
const MESSAGE_MS_MAX: u64 = 10_000;

/// Why pairing cannot go on. The stream is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The other side did not answer in time.
    #[error("the other machine did not answer")]
    Elapsed,
    /// The connection broke.
    #[error("the connection to the other machine broke")]
    Lost(#[source] io::Error),
    /// The other side broke the protocol.
    #[error("the other machine broke the protocol")]
    Protocol(#[source] ProtocolError),
}

/// A connection for pairing.
pub struct PairStream {
    /// Whose key is at the other end. On the joiner's side: a throwaway one that says nothing.
    pub peer: NodeId,
    /// Keying material of this TLS channel, the same at both ends and nowhere else.
    pub channel_binding: [u8; 32],
    /// Where the other side is.
    pub remote: SocketAddr,
    reader: Reader,
    writer: Writer,
}

impl std::fmt::Debug for PairStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PairStream(with {})", self.remote)
    }
}

impl PairStream {
    pub(super) fn new(secured: Secured, remote: SocketAddr) -> Self {
        let Secured { stream, peer, binding, .. } = secured;
        let (read, writer): (_, futures_lite::io::WriteHalf<TlsStream<_>>) = split(stream);
        let reader = FrameReader::new(read, PAIRING_FRAME_BYTES_MAX);
        Self { peer, channel_binding: binding, remote, reader, writer }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Message) -> Result<(), PairError> {
        let body = message.encode();
        let mut frame = Vec::with_capacity(LENGTH_BYTES + body.len());
        frame.extend_from_slice(&u32::try_from(body.len()).expect("bounded by its types").to_be_bytes());
        frame.extend_from_slice(&body);
        let talk = async {
            self.writer.write_all(&frame).await?;
            self.writer.flush().await
        };
        within(talk).await?.map_err(PairError::Lost)
    }

    /// Waits for a message.
    pub async fn recv(&mut self) -> Result<Message, PairError> {
        match within(self.reader.frame()).await? {
            Ok(bytes) => Message::decode(&bytes).map_err(|error| PairError::Protocol(error.into())),
            Err(FrameError::Io(error)) => Err(PairError::Lost(error)),
            Err(FrameError::Protocol(error)) => Err(PairError::Protocol(error)),
        }
    }

    /// Ends the stream so that the last message arrives.
    pub async fn close(mut self) {
        let talk = async {
            self.writer.close().await?;
            self.reader.drain(PAIRING_FRAME_BYTES_MAX).await
        };
        // Whether the other side heard the last message, its answer has said.
        let _ = rt::timeout(Duration::from_millis(1_000), talk).await;
    }
}

async fn within<F: Future>(talk: F) -> Result<F::Output, PairError> {
    rt::timeout(Duration::from_millis(MESSAGE_MS_MAX), talk).await.map_err(|_| PairError::Elapsed)
}
