//! A TCP connection as TLS wants it: large reads, no waiting for more to send, and counters.
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

use super::link::Counters;
use crate::shell::rt::TcpStream;

/// Bytes that one system call may read.
const READ_BUFFER_BYTES: usize = 128 * 1024;
/// Bytes to begin with: enough for all of a handshake; a link that carries contents grows it once.
const READ_BUFFER_BYTES_MIN: usize = 4 * 1024;

/// How long the kernel keeps a connection whose peer acknowledges nothing. Above the time that a peer may be busy
/// with its disk while it still sends signs of life; only what closed links leave behind ends by this.
const USER_TIMEOUT_MS: u32 = 120_000;

/// A TCP stream with a read buffer and counters.
pub(super) struct Socket {
    stream: TcpStream,
    remote: SocketAddr,
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
        let counters = Arc::new(Counters::default());
        Ok(Self { stream, remote, buffer: vec![0; READ_BUFFER_BYTES_MIN], start: 0, end: 0, counters })
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// A handle that ends the connection from anywhere, at once.
    pub(super) fn breaker(&self) -> Breaker {
        Breaker(self.stream.clone())
    }
}

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
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut this.buffer))?;
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
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        count(&this.counters.written, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bytes))?;
        count(&this.counters.written, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}
