//! The runtime: the one file that names async-std.
//!
//! Rule: everything else takes `futures_lite`'s traits and what is exported here, so that leaving the runtime is
//! one file's work. Source: `docs/ARCHITECTURE.md`, "Runtime".

use std::future::Future;
use std::time::Duration;

pub use async_std::net::{TcpListener, TcpStream};
pub use async_std::task::JoinHandle;

/// The time given to an operation is over. The operation was dropped where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within the time allowed")]
pub struct Elapsed;

/// Runs a future on the shared pool. Dropping the handle lets it run on.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    async_std::task::spawn(future)
}

/// Runs blocking work (disk, index) on threads made for it.
pub fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    async_std::task::spawn_blocking(work)
}

/// Runs work that lasts on a thread of its own. Ends with the process if the work does not end before.
pub fn thread(name: &str, work: impl FnOnce() + Send + 'static) {
    let made = std::thread::Builder::new().name(name.to_string()).spawn(work);
    drop(made.expect("the system gives this process another thread"));
}

/// Runs a future on the calling thread until it is done.
pub fn block_on<F: Future>(future: F) -> F::Output {
    async_std::task::block_on(future)
}

/// Waits.
pub async fn sleep(time: Duration) {
    async_std::task::sleep(time).await;
}

/// Gives a future at most `time`.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, Elapsed> {
    async_std::future::timeout(time, future).await.map_err(|_| Elapsed)
}

/// Lets others run; for loops that may find work without ever waiting.
pub async fn yield_now() {
    async_std::task::yield_now().await;
}
