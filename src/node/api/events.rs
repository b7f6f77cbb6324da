//! The event bus: what happens in the node, told to everyone who follows.
//!
//! Rules: telling never waits and never fails; nothing is kept for nobody; each follower has a bounded queue, and
//! one that is too slow finds `Event::Missed` with the number it lost at the very place where they are missing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_channel::{Receiver, Sender};

use crate::wire::api::{Event, Stamped, UtcTime};

/// Most events that wait for one follower. A guess: a burst of some thousand files at a few hundred bytes each.
pub const QUEUE_MAX: usize = 4096;
/// Most followers at once. A guess: some terminals and pages.
pub const FOLLOWERS_MAX: usize = 16;

/// The bus. Clones are the same bus.
#[derive(Clone, Default)]
pub struct EventBus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// How many follow, so that telling nobody costs nothing.
    following: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    followers: Vec<Follower>,
}

struct Follower {
    queue: Sender<Arc<Stamped>>,
    missed: u64,
}

/// One follower's end. Dropping it ends following.
pub struct Following {
    queue: Receiver<Arc<Stamped>>,
}

impl EventBus {
    /// A bus that nobody follows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether anyone follows; where making an event costs something, ask first.
    pub fn is_followed(&self) -> bool {
        self.shared.following.load(Ordering::Relaxed) > 0
    }

    /// Tells an event to everyone who follows.
    pub fn tell(&self, at: UtcTime, event: Event) {
        if !self.is_followed() {
            return;
        }
        let stamped = Arc::new(Stamped { at, event });
        let mut state = self.state();
        state.followers.retain_mut(|follower| follower.tell(&stamped));
        self.count(&state);
    }

    /// From now on, every event; `None` while too many follow, or after `close`.
    pub fn follow(&self) -> Option<Following> {
        let mut state = self.state();
        state.followers.retain(|follower| !follower.queue.is_closed());
        if state.closed || state.followers.len() >= FOLLOWERS_MAX {
            return None;
        }
        let (sender, queue) = async_channel::bounded(QUEUE_MAX);
        state.followers.push(Follower { queue: sender, missed: 0 });
        self.count(&state);
        Some(Following { queue })
    }

    /// Ends following for everyone, after what waits for them.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.followers.clear();
        self.count(&state);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while the list is held leaves a list that is still true.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, state: &State) {
        self.shared.following.store(state.followers.len(), Ordering::Relaxed);
    }
}

impl Follower {
    /// Whether it still follows.
    fn tell(&mut self, stamped: &Arc<Stamped>) -> bool {
        if self.missed > 0 {
            let note = Arc::new(Stamped { at: stamped.at, event: Event::Missed { count: self.missed } });
            match self.queue.try_send(note) {
                Ok(()) => self.missed = 0,
                Err(error) if error.is_closed() => return false,
                Err(_) => {
                    self.missed += 1;
                    return true;
                }
            }
        }
        match self.queue.try_send(stamped.clone()) {
            Ok(()) => true,
            Err(error) if error.is_closed() => false,
            Err(_) => {
                self.missed += 1;
                true
            }
        }
    }
}

impl Following {
    /// The next event; `None` once the node ends.
    pub async fn next(&self) -> Option<Arc<Stamped>> {
        self.queue.recv().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    fn event(n: u64) -> Event {
        Event::Alert { what: n.to_string(), hint: None }
    }

    #[test]
    fn a_slow_follower_learns_what_it_missed_where_it_missed_it() {
        let bus = EventBus::new();
        let following = bus.follow().expect("room");
        let at = UtcTime::from_ms(0);
        for n in 0..QUEUE_MAX as u64 + 10 {
            bus.tell(at, event(n));
        }
        for n in 0..QUEUE_MAX as u64 {
            assert_eq!(block_on(following.next()).expect("kept").event, event(n));
        }
        bus.tell(at, event(7));
        assert_eq!(block_on(following.next()).expect("note").event, Event::Missed { count: 10 });
        assert_eq!(block_on(following.next()).expect("event").event, event(7));
    }

    #[test]
    fn followers_are_bounded_and_leave_when_dropped() {
        let bus = EventBus::new();
        let mut followers: Vec<Following> = (0..FOLLOWERS_MAX).map(|_| bus.follow().expect("room")).collect();
        assert!(bus.follow().is_none());
        followers.pop();
        assert!(bus.follow().is_some());
        drop(followers);
        bus.tell(UtcTime::from_ms(0), event(0));
        assert!(!bus.is_followed());
    }

    #[test]
    fn closing_ends_the_stream_after_what_was_told() {
        let bus = EventBus::new();
        let following = bus.follow().expect("room");
        bus.tell(UtcTime::from_ms(0), Event::Stopping);
        bus.close();
        assert_eq!(block_on(following.next()).expect("told").event, Event::Stopping);
        assert!(block_on(following.next()).is_none());
        assert!(bus.follow().is_none());
    }
}
