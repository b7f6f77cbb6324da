//! The local API: HTTP/1.1 on a Unix socket, for this user and root.
//!
//! It decides nothing: a request becomes a `Call` to the node, what the node tells the `EventBus` becomes a stream of
//! server-sent events. Rules: who is at the other end is asked of the kernel before a byte is read; connections,
//! bodies, header time and queues are bounded; whatever comes in, the answer is an answer or a `Failure` in JSON.
//!
//! Page: `docs/spec/api.md`. Sources: unix(7) for `SO_PEERCRED`; WHATWG HTML 9.2 for server-sent events.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt, future, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{StatusCode, http};
use smol_hyper::rt::{FuturesIo, SmolTimer};

use crate::base::path::escape;
use crate::shell::rt;
use crate::wire::api::{EVENTS_PATH, Failure, FailureKind, REQUEST_BYTES_MAX, Request, Response, Stamped};

use self::events::{EventBus, Following};

pub mod events;

/// Most connections at once. A guess: every script of a machine at the same moment, and bounded memory.
const CONNECTIONS_MAX: usize = 64;
/// Most connections that are being told that they are not served; further ones are closed. A guess.
const TURNED_AWAY_MAX: usize = 16;
/// Most that is read of what those ask. A guess: a head has some hundred bytes.
const TURNED_AWAY_BYTES_MAX: usize = 4096;
/// Most calls that wait for the node. As many as there are connections, so that the bound above is the only one met.
pub const CALLS_MAX: usize = CONNECTIONS_MAX;
/// How long a client may take for its request. A guess: it is on the same machine.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// How long answers may still be written once the node ends. A guess: they are short and the reader is waiting.
const LINGER_MAX: Duration = Duration::from_millis(500);
/// Pause after the system refused a connection (out of descriptors), so that the loop does not spin. A guess.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// Who may use the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The user that runs the node, and root.
    Owner,
    /// Also the socket's group: the service's socket belongs to the group `lanyard`.
    Group,
}

/// One request to the node.
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: Reply,
}

/// Where one answer goes. Dropping it unanswered tells the client that the node ended.
pub struct Reply {
    answer: Sender<Result<Response, Failure>>,
}

/// Why the API cannot be offered. Nothing listens then.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The socket cannot be made.
    #[error("cannot listen on {}", escape(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())))]
    Bind {
        /// Which socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The API's socket, bound. It is removed when this is dropped.
pub struct ApiServer {
    listener: Async<UnixListener>,
    socket: PathBuf,
    access: Access,
}

impl Call {
    /// A call and the end at which its answer arrives.
    pub fn new(request: Request) -> (Self, Receiver<Result<Response, Failure>>) {
        let (answer, answered) = async_channel::bounded(1);
        (Self { request, reply: Reply { answer } }, answered)
    }
}

impl Reply {
    /// Answers.
    pub fn answer(self, answer: Result<Response, Failure>) {
        // A client that went away does not need the answer any more.
        let _gone = self.answer.try_send(answer);
    }

    /// Whether nobody waits for the answer any more: what takes long need not be done.
    pub fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }
}

impl ApiServer {
    /// Listens on `socket`, in place of what an earlier node left there. The caller holds the home's lock.
    pub fn bind(socket: &Path, access: Access) -> Result<Self, ApiError> {
        let failed = |source| ApiError::Bind { path: socket.into(), source };
        // Bound under another name first: it has its mode before anyone can find it.
        let new = socket.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed)?;
        let mode = match access {
            Access::Owner => 0o600,
            Access::Group => 0o660,
        };
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).map_err(failed)?;
        fs::rename(&new, socket).map_err(failed)?;
        Ok(Self { listener: Async::new(listener).map_err(failed)?, socket: socket.into(), access })
    }

    /// Serves until the node drops its end of `calls`; what is answered by then is still written.
    pub async fn serve(self, calls: Sender<Call>, events: EventBus) {
        let open = Arc::new(AtomicUsize::new(0));
        let leaving = Arc::new(AtomicUsize::new(0));
        while let Some(accepted) = future::or(async { Some(self.listener.accept().await) }, ended(&calls)).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("the local API cannot take a connection: {error}");
                    rt::sleep(REFUSED_PAUSE).await;
                    continue;
                }
            };
            let greeting = self.check(&stream);
            match greeting.and_then(|()| Slot::take(&open, CONNECTIONS_MAX).ok_or_else(too_many)) {
                Ok(slot) => {
                    let (calls, events) = (calls.clone(), events.clone());
                    drop(rt::spawn(async move {
                        serve_one(stream, calls, events).await;
                        drop(slot);
                    }));
                }
                Err(failure) => {
                    if let Some(slot) = Slot::take(&leaving, TURNED_AWAY_MAX) {
                        drop(rt::spawn(async move {
                            turn_away(stream, failure).await;
                            drop(slot);
                        }));
                    }
                }
            }
        }
        events.close();
        let written = async {
            while open.load(Ordering::Acquire) > 0 {
                rt::sleep(Duration::from_millis(5)).await;
            }
        };
        let _late = rt::timeout(LINGER_MAX, written).await;
    }

    /// Whether the process at the other end may use the API.
    fn check(&self, stream: &Async<UnixStream>) -> Result<(), Failure> {
        let unknown = |error: rustix::io::Errno| {
            Failure::refused("the system does not say who is asking").because(&io::Error::from(error))
        };
        let asking = rustix::net::sockopt::socket_peercred(stream.get_ref()).map_err(unknown)?.uid;
        // With the group's access, the socket's own mode already asked: only its group can connect.
        if asking.is_root() || asking == rustix::process::geteuid() || self.access == Access::Group {
            return Ok(());
        }
        Err(Failure::refused("this node belongs to another user").hint("use it as that user, or as root"))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // The lock is still held: what has the name is this socket. If it stays, the next node replaces it.
        let _stays = fs::remove_file(&self.socket);
    }
}

/// One of the connections that may be open.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let room = |n: usize| (n < max).then_some(n + 1);
        open.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok().map(|_| Self(open.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn ended<T>(calls: &Sender<Call>) -> Option<T> {
    calls.closed().await;
    None
}

fn too_many() -> Failure {
    Failure::failed("too many programs talk to this node at once").hint("end some of them and try again")
}

/// Tells a connection that is not served why. What it asks is read and forgotten: an answer that comes before the
/// question is no answer to an HTTP client.
async fn turn_away(mut stream: Async<UnixStream>, failure: Failure) {
    let body = json(&failure);
    let status = http_status(failure.kind);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let told = async {
        let (mut asked, mut piece) = (Vec::new(), [0; 1024]);
        while asked.len() < TURNED_AWAY_BYTES_MAX && !asked.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut piece).await? {
                0 => break,
                n => asked.extend_from_slice(&piece[..n]),
            }
        }
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.close().await
    };
    // A client that is gone, or asks nothing, needs no answer.
    let _gone: Result<io::Result<()>, _> = rt::timeout(LINGER_MAX, told).await;
}

async fn serve_one(stream: Async<UnixStream>, calls: Sender<Call>, events: EventBus) {
    let service = service_fn(|request| {
        let (calls, events) = (calls.clone(), events.clone());
        async move { Ok::<_, Infallible>(respond(request, calls, events).await) }
    });
    let served = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(REQUEST_TIME_MAX)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(FuturesIo::new(stream), service);
    let mut served = pin!(served);
    let done = async { Some(served.as_mut().await) }.or(ended(&calls)).await;
    let done = match done {
        Some(done) => done,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = done {
        tracing::debug!("a client of the local API went away: {error}");
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn respond(request: http::Request<Incoming>, calls: Sender<Call>, events: EventBus) -> http::Response<Body> {
    if request.uri().path() == EVENTS_PATH && request.method() == http::Method::GET {
        return match events.follow() {
            Some(following) => streamed(following),
            None => failed(&too_many()),
        };
    }
    let request = match read(request).await {
        Ok(request) => request,
        Err((status, failure)) => return answered(status, &failure),
    };
    match ask(request, &calls).await {
        Ok(response) => answered(StatusCode::OK, &response),
        Err(failure) => failed(&failure),
    }
}

async fn ask(request: Request, calls: &Sender<Call>) -> Result<Response, Failure> {
    let ending = || Failure::new(FailureKind::NoNode, "the node is ending").hint("start it again with 'lanyard up'");
    let (call, reply) = Call::new(request);
    calls.send(call).await.map_err(|_| ending())?;
    // A call may sit in the queue of a node that ended; what it answered before comes first.
    let answer = future::or(async { reply.recv().await.ok() }, ended(calls)).await;
    answer.unwrap_or_else(|| Err(ending()))
}

async fn read(request: http::Request<Incoming>) -> Result<Request, (StatusCode, Failure)> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let body = match rt::timeout(REQUEST_TIME_MAX, Limited::new(body, REQUEST_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let failure = Failure::usage(format!("the body of {path} is longer than {REQUEST_BYTES_MAX} bytes"));
            return Err((StatusCode::PAYLOAD_TOO_LARGE, failure));
        }
        Ok(Err(error)) => {
            return Err((StatusCode::BAD_REQUEST, Failure::usage("the request was cut short").because(&*error)));
        }
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, Failure::usage("the request did not arrive in time"))),
    };
    Request::from_http(head.method.as_str(), path, &body).map_err(|bad| {
        let status = StatusCode::from_u16(bad.status()).expect("BadRequest has HTTP's statuses");
        (status, bad.to_failure())
    })
}

fn failed(failure: &Failure) -> http::Response<Body> {
    answered(http_status(failure.kind), failure)
}

fn http_status(kind: FailureKind) -> StatusCode {
    StatusCode::from_u16(kind.http_status()).expect("every kind has one of HTTP's statuses")
}

fn answered<T: serde::Serialize>(status: StatusCode, answer: &T) -> http::Response<Body> {
    head(status, "application/json", Full::new(Bytes::from(json(answer))).boxed())
}

fn streamed(following: Following) -> http::Response<Body> {
    // A comment first: the client knows that from here on it misses nothing.
    let hello = stream::once(Bytes::from_static(b": following\n\n"));
    let told = stream::unfold(following, |following| async {
        let stamped = following.next().await?;
        Some((framed(&stamped), following))
    });
    let frames = stream::StreamExt::map(stream::StreamExt::chain(hello, told), |bytes| Ok(Frame::data(bytes)));
    head(StatusCode::OK, "text/event-stream", StreamBody::new(frames).boxed())
}

fn framed(stamped: &Stamped) -> Bytes {
    let mut frame = format!("event: {}\ndata: ", stamped.event.name()).into_bytes();
    frame.extend_from_slice(&json(stamped));
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

fn head(status: StatusCode, content: &'static str, body: Body) -> http::Response<Body> {
    let answer =
        http::Response::builder().status(status).header(CONTENT_TYPE, content).header(CACHE_CONTROL, "no-store");
    answer.body(body).expect("the head is constant")
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers have only text keys")
}
