//! A connection as TLS wants it: large reads, no waiting for more to send, and counters.
//!
//! It is a TCP connection, or a tunnel: a connection to a relay that has joined it with another member's. What runs
//! over a tunnel is what runs over TCP, its own TLS included, so the relay sees ciphertext.
//!
//! TLS asks for 4 KiB at a time; a read buffer of 128 KiB turns thirty system calls into one (measured with
//! `benches/link.rs`).

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::TlsStream;

use super::link::Counters;
use crate::base::NodeId;
use crate::shell::rt::TcpStream;

/// Bytes that one system call may read.
const READ_BUFFER_BYTES: usize = 128 * 1024;
/// Bytes to begin with: enough for all of a handshake; a link that carries contents grows it once.
const READ_BUFFER_BYTES_MIN: usize = 4 * 1024;

/// How long the kernel keeps a connection whose peer acknowledges nothing. Above the time that a peer may be busy
/// with its disk while it still sends signs of life; only what closed links leave behind ends by this.
const USER_TIMEOUT_MS: u32 = 120_000;

/// What carries the bytes.
enum Carrier {
    Tcp(TcpStream),
    Tunnel(Box<TlsStream<Socket>>),
}

/// A stream with a read buffer and counters.
pub(super) struct Socket {
    carrier: Carrier,
    remote: SocketAddr,
    via: Option<NodeId>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    counters: Arc<Counters>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        rustix::net::sockopt::set_tcp_user_timeout(&stream, USER_TIMEOUT_MS)?;
        let remote = super::plain(stream.peer_addr()?);
        Ok(Self::over(Carrier::Tcp(stream), remote, None))
    }

    /// The connection to `relay`, whose bytes are another member's from here on.
    pub(super) fn tunnel(stream: Box<TlsStream<Self>>, relay: NodeId) -> Self {
        let remote = stream.get_ref().0.remote;
        Self::over(Carrier::Tunnel(stream), remote, Some(relay))
    }

    fn over(carrier: Carrier, remote: SocketAddr, via: Option<NodeId>) -> Self {
        let counters = Arc::new(Counters::default());
        Self { carrier, remote, via, buffer: vec![0; READ_BUFFER_BYTES_MIN], start: 0, end: 0, counters }
    }

    /// The relay, if this is a tunnel.
    pub(super) fn via(&self) -> Option<NodeId> {
        self.via
    }

    /// The other end of the TCP connection: a relay's, if this is a tunnel.
    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// A handle that ends the connection from anywhere, at once.
    pub(super) fn breaker(&self) -> Breaker {
        match &self.carrier {
            Carrier::Tcp(stream) => Breaker(stream.clone()),
            Carrier::Tunnel(stream) => stream.get_ref().0.breaker(),
        }
    }
}

impl Carrier {
    /// One object for both, to be polled.
    fn stream(&mut self) -> Pin<&mut dyn Stream> {
        match self {
            Self::Tcp(stream) => Pin::new(stream),
            Self::Tunnel(stream) => Pin::new(&mut **stream),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Ends a connection: whoever waits to read or write gets an answer.
pub(super) struct Breaker(TcpStream);

impl Breaker {
    pub(super) fn trip(&self) {
        // Fails only if the connection is already gone.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.start == this.end {
            let read = ready!(this.carrier.stream().poll_read(cx, &mut this.buffer))?;
            count(&this.counters.read, read);
            (this.start, this.end) = (0, read);
        }
        let n = out.len().min(this.end - this.start);
        out[..n].copy_from_slice(&this.buffer[this.start..this.start + n]);
        this.start += n;
        // A full buffer means that more is waiting.
        if this.start == this.buffer.len() && this.buffer.len() < READ_BUFFER_BYTES {
            this.buffer.resize(READ_BUFFER_BYTES, 0);
            (this.start, this.end) = (0, 0);
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(this.carrier.stream().poll_write(cx, bytes))?;
        count(&this.counters.written, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(this.carrier.stream().poll_write_vectored(cx, bytes))?;
        count(&this.counters.written, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().carrier.stream().poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().carrier.stream().poll_close(cx)
    }
}
