//! Batches that came before something that they have seen: kept a while, offered again, bounded.

use crate::base::NodeId;
use crate::wire::message::BatchPush;

/// Batches kept. A guess: a burst of 50 machines that all pass on the same change.
const PARKED_MAX: usize = 64;
/// Their entries' bytes together.
const PARKED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// After this long what is missing is not coming by itself: its sender is told how far we are.
const OVERDUE_MS: u64 = 1_500;

struct Waiting {
    from: NodeId,
    push: Box<BatchPush>,
    since_ms: u64,
}

/// The parked batches of one folder.
#[derive(Default)]
pub(super) struct Parked {
    waiting: Vec<Waiting>,
    again: bool,
}

impl Parked {
    /// Keeps a batch. Returns a peer to be told how far we are, where one had to be dropped.
    pub(super) fn park(&mut self, from: NodeId, push: Box<BatchPush>, now_ms: u64) -> Option<NodeId> {
        let held: usize = self.waiting.iter().map(|w| bytes(&w.push)).sum();
        if self.waiting.len() >= PARKED_MAX || held + bytes(&push) > PARKED_BYTES_MAX {
            return Some(from);
        }
        let known = self.waiting.iter().any(|w| w.push.header == push.header);
        if !known {
            self.waiting.push(Waiting { from, push, since_ms: now_ms });
        }
        None
    }

    /// Something was taken: all of them may fit now.
    pub(super) fn advanced(&mut self) -> Vec<(NodeId, Box<BatchPush>)> {
        self.waiting.drain(..).map(|w| (w.from, w.push)).collect()
    }

    /// The rules changed: the next turn tries all again.
    pub(super) fn retry(&mut self) {
        self.again = !self.waiting.is_empty();
    }

    /// Batches to try again in this turn though nothing was taken.
    pub(super) fn due(&mut self) -> Vec<(NodeId, Box<BatchPush>)> {
        if std::mem::take(&mut self.again) { self.advanced() } else { Vec::new() }
    }

    /// Drops what waits too long; returns whom to tell how far we are.
    pub(super) fn overdue(&mut self, now_ms: u64) -> Vec<NodeId> {
        let is_late = |w: &Waiting| w.since_ms + OVERDUE_MS <= now_ms;
        let mut late: Vec<NodeId> = self.waiting.iter().filter(|w| is_late(w)).map(|w| w.from).collect();
        self.waiting.retain(|w| !is_late(w));
        late.sort();
        late.dedup();
        late
    }

    /// When a turn is due though nothing happens.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        if self.again { Some(0) } else { self.waiting.iter().map(|w| w.since_ms + OVERDUE_MS).min() }
    }

    /// Whether none is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What a parked batch holds on to, about.
fn bytes(push: &BatchPush) -> usize {
    let contents: usize = push.contents.iter().map(|c| c.bytes.len()).sum();
    push.header.envelope.len() + push.entries.len() * 512 + contents
}
