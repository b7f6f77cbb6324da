//! The turns of those who ask this node for contents: `logic::load` says who may read.

use std::sync::Mutex;
use std::time::Duration;

use event_listener::Event as Signal;

use super::lock;
use crate::base::NodeId;
use crate::logic::load::{Load, Turn};
use crate::shell::rt;

/// How long somebody stands in line before it is sent elsewhere. A guess: asking others takes less.
const WAIT_MS_MAX: u64 = 1_000;

/// What all sessions share.
pub(super) struct Reads {
    load: Mutex<Load>,
    ended: Signal,
}

/// A place among those who read; given back when it is dropped.
pub(super) struct Reading<'a> {
    reads: &'a Reads,
    peer: NodeId,
}

/// A place in line, left when it is dropped.
struct InLine<'a>(Option<&'a Reads>);

impl Reads {
    /// So many at once.
    pub(super) fn new(jobs_max: usize) -> Self {
        Self { load: Mutex::new(Load::new(jobs_max)), ended: Signal::new() }
    }

    /// A place for a job of this peer, or after how many milliseconds it should ask again.
    pub(super) async fn enter(&self, peer: NodeId) -> Result<Reading<'_>, u32> {
        let mut ended = self.ended.listen();
        let turn = lock(&self.load).handle_ask(peer);
        match turn {
            Turn::Go => return Ok(Reading { reads: self, peer }),
            Turn::Shed { retry_ms } => return Err(retry_ms),
            Turn::Wait => {}
        }
        let mut place = InLine(Some(self));
        let waiting = async {
            loop {
                ended.await;
                ended = self.ended.listen();
                if lock(&self.load).handle_turn(peer) {
                    return;
                }
            }
        };
        match rt::timeout(Duration::from_millis(WAIT_MS_MAX), waiting).await {
            Ok(()) => {
                place.0 = None;
                Ok(Reading { reads: self, peer })
            }
            Err(_) => {
                place.0 = None;
                Err(lock(&self.load).handle_left())
            }
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        lock(&self.reads.load).handle_done(self.peer);
        self.reads.ended.notify(usize::MAX);
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if let Some(reads) = self.0 {
            lock(&reads.load).handle_left();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    #[test]
    fn a_place_that_is_given_back_goes_to_who_waits_and_who_waits_too_long_is_told_when_to_come() {
        rt::block_on(async {
            let reads = Arc::new(Reads::new(1));
            let first = reads.enter(node(1)).await.expect("free");
            let waiting = {
                let reads = reads.clone();
                rt::spawn(async move { reads.enter(node(2)).await.map(drop) })
            };
            while lock(&reads.load).handle_ask(node(3)) != Turn::Wait {
                rt::yield_now().await;
            }
            lock(&reads.load).handle_left();
            drop(first);
            waiting.await.expect("its turn");
            let _second = reads.enter(node(1)).await.expect("free again");
            assert!(reads.enter(node(2)).await.is_err_and(|retry_ms| retry_ms > 0));
            assert!(matches!(lock(&reads.load).handle_ask(node(4)), Turn::Wait), "the line is as it was");
        });
    }
}
