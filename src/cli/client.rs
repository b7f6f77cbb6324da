//! The client of the local API: finds the node's socket, asks, follows events.
//!
//! The one file of the command line that knows more than the API's shapes: where a node's socket is, only
//! `node::places` says, so that both ends always agree.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::future;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::http;
use serde::de::DeserializeOwned;
use smol_hyper::rt::FuturesIo;

use crate::node::places::Places;
use crate::wire::api::{EVENT_BYTES_MAX, EVENTS_PATH, Failure, FailureKind, RESPONSE_BYTES_MAX, Request};

/// How long a node may take to answer what needs no other machine and no person. A guess: a node that scans a large
/// folder on a slow disk still answers within it.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// How often a node that starts anew is asked again.
const ANEW_LOOK: Duration = Duration::from_millis(20);
/// Half a minute of that: it ends within 8 seconds, and starts in less than one.
const ANEW_LOOKS_MAX: usize = 1_500;
/// Three seconds of it for a node that does not answer yet. A guess: a start takes less than one.
const COMING_LOOKS_MAX: usize = 150;

/// A running node.
#[derive(Clone)]
pub(super) struct Client {
    socket: PathBuf,
    home: Option<PathBuf>,
}

/// The stream of a node's events.
pub(super) struct Following {
    body: Incoming,
    link: Link,
    buffer: Vec<u8>,
}

/// What moves the bytes of one connection; it never ends, so that it can always be polled.
type Link = Pin<Box<dyn Future<Output = Infallible>>>;

impl Client {
    /// The first node that answers: `home`'s, else the user's, else the machine's.
    pub(super) fn find(home: Option<&Path>) -> Result<Self, Failure> {
        for _ in 0..COMING_LOOKS_MAX {
            match Self::find_once(home) {
                Err(failure) if failure.kind == FailureKind::NoNode && Places::is_coming(home) => {}
                found => return found,
            }
            async_io::block_on(Timer::after(ANEW_LOOK));
        }
        Self::find_once(home)
    }

    fn find_once(home: Option<&Path>) -> Result<Self, Failure> {
        let sockets = Places::sockets(home).map_err(|error| error.to_failure())?;
        let mut why = Vec::new();
        for socket in sockets {
            match UnixStream::connect(&socket) {
                Ok(_) => return Ok(Self { socket, home: home.map(Path::to_path_buf) }),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let what = format!("this account may not use the node on {}", shown(&socket));
                    let hint = "run the command as the node's user, or have the account added to the group 'lanyard'";
                    return Err(Failure::failed(what).because(&error).hint(hint));
                }
                Err(_) => why.push(format!("nothing answers on {}", shown(&socket))),
            }
        }
        let start = format!("start one with '{} up'", super::lanyard(home));
        Err(Failure { why, ..Failure::new(FailureKind::NoNode, "no node is running here").hint(start) })
    }

    /// Asks and waits for the answer, at most `patience` where one is given. Where the node starts anew to be able to do
    /// what is asked, it is asked again once it is back.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        request: &Request,
        patience: Option<Duration>,
    ) -> Result<T, Failure> {
        let mut anew = None;
        for _ in 0..ANEW_LOOKS_MAX {
            let failure = match self.ask_once(request, patience).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let has_ended = failure.kind == FailureKind::NoNode || failure.what == broken().what;
            // What was asked of a node that has ended may be done; to look twice does no harm.
            let is_a_look =
                request.route().0 == "GET" || matches!(request, Request::InviteOutcome(_) | Request::Wait(_));
            let may_be_asked = anew.is_some() || is_a_look;
            let is_coming = || Places::is_coming(self.home.as_deref());
            if failure.kind != FailureKind::Anew && !(has_ended && may_be_asked && is_coming()) {
                return Err(failure);
            }
            anew = anew.or(Some(failure));
            Timer::after(ANEW_LOOK).await;
        }
        Err(anew.unwrap_or_else(broken))
    }

    async fn ask_once<T: DeserializeOwned>(&self, request: &Request, patience: Option<Duration>) -> Result<T, Failure> {
        let (method, path) = request.route();
        let asked = async {
            let (answer, mut link) = self.send(method, path, request.body()).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), RESPONSE_BYTES_MAX).collect();
            let body = beside(&mut link, body).await.map_err(|error| broken().because(&*error))?.to_bytes();
            if status.is_success() {
                return serde_json::from_slice(&body).map_err(|error| foreign().because(&error));
            }
            Err(serde_json::from_slice::<Failure>(&body).unwrap_or_else(|error| foreign().because(&error)))
        };
        match patience {
            None => asked.await,
            Some(patience) => {
                let late = async {
                    Timer::after(patience).await;
                    Err(Failure::timed_out("the node does not answer")
                        .hint("it may be very busy, or stopped: look at its log, or start it again"))
                };
                future::or(asked, late).await
            }
        }
    }

    /// Asks what needs no other machine and no person.
    pub(super) fn ask_now<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failure> {
        async_io::block_on(self.ask(request, Some(ANSWER_TIME_MAX)))
    }

    /// Every event from now on.
    pub(super) async fn follow(&self) -> Result<Following, Failure> {
        let (answer, mut link) = self.send("GET", EVENTS_PATH, Vec::new()).await?;
        if answer.status().is_success() {
            return Ok(Following { body: answer.into_body(), link, buffer: Vec::new() });
        }
        let body = Limited::new(answer.into_body(), EVENT_BYTES_MAX).collect();
        let body = beside(&mut link, body).await.map_err(|error| broken().because(&*error))?.to_bytes();
        Err(serde_json::from_slice::<Failure>(&body).unwrap_or_else(|error| foreign().because(&error)))
    }

    async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<(http::Response<Incoming>, Link), Failure> {
        let gone = |error: io::Error| Failure::new(FailureKind::NoNode, "the node just ended").because(&error);
        let stream = Async::<UnixStream>::connect(&self.socket).await.map_err(gone)?;
        let (mut sender, link) =
            http1::handshake(FuturesIo::new(stream)).await.map_err(|error| broken().because(&error))?;
        let mut link: Link = Box::pin(async move {
            // What ends the connection early shows where its bytes are missing.
            let _ended = link.await;
            future::pending().await
        });
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "lanyard")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("methods and routes are constant");
        let answer = beside(&mut link, sender.send_request(request)).await;
        Ok((answer.map_err(|error| broken().because(&error))?, link))
    }
}

impl Following {
    /// The next event as it came, one line of JSON; `None` once the node ended.
    pub(super) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let frame: Vec<u8> = self.buffer.drain(..end + 2).collect();
                match data(&frame) {
                    Some(data) => return Ok(Some(data)),
                    None => continue,
                }
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(foreign().why("an event is longer than any should be"));
            }
            match self.frame().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) if error.is_incomplete_message() => return Ok(None),
                Some(Err(error)) => return Err(broken().because(&error)),
                None => return Ok(None),
            }
        }
    }

    async fn frame(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        future::poll_fn(|cx| {
            move_bytes(&mut self.link, cx);
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame.into_data().unwrap_or_default()))),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

/// The `data:` of one server-sent event; `None` for a comment. Source: WHATWG HTML 9.2.6.
fn data(frame: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(frame);
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Polls `work` while the connection moves its bytes.
async fn beside<T>(link: &mut Link, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    future::poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        // What the connection brought now is there for `work` at once, also when it was the last.
        move_bytes(link, cx);
        work.as_mut().poll(cx)
    })
    .await
}

fn move_bytes(link: &mut Link, cx: &mut Context<'_>) {
    let _never: Poll<Infallible> = link.as_mut().poll(cx);
}

fn broken() -> Failure {
    Failure::failed("the node ended before it answered").hint("look at the log of 'lanyard up', and start it again")
}

fn foreign() -> Failure {
    Failure::failed("the node's answer makes no sense here")
        .hint("the node may run another version than this command: start it again after an update")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_an_event_is_read_and_a_comment_is_not() {
        assert_eq!(data(b"event: x\ndata: {\"a\":1}\n\n").as_deref(), Some("{\"a\":1}"));
        assert_eq!(data(b": following\n\n"), None);
    }
}
