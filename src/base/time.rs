//! Hybrid logical clocks: wall time that never runs behind what it has seen.
//!
//! Source: Kulkarni et al., *Logical Physical Clocks* (2014). Times order concurrent edits for people and
//! break ties; whether something is accepted never depends on them.

use serde::{Deserialize, Serialize};

/// How far ahead of the own wall clock a time that others sent may pull the own clock: one day. A guess;
/// far above honest skew, and small enough that one machine set to the wrong year does not drag the office along.
pub const PULL_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// A hybrid time: milliseconds since 1970 UTC, and a count that orders what happens within one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Hlc {
    /// Milliseconds since 1970-01-01 UTC.
    pub ms: u64,
    /// Order within the millisecond.
    pub count: u32,
}

impl Hlc {
    /// The smallest time after this one.
    pub fn next(self) -> Self {
        match self.count.checked_add(1) {
            Some(count) => Self { ms: self.ms, count },
            None => Self { ms: self.ms.saturating_add(1), count: 0 },
        }
    }
}

/// The state of one node's hybrid clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// A clock that has already given out `last`.
    pub fn starting_after(last: Hlc) -> Self {
        Self { last }
    }

    /// A time later than every time given before, at least the wall time `now_ms`.
    pub fn tick(&mut self, now_ms: u64) -> Hlc {
        self.last = self.last.next().max(Hlc { ms: now_ms, count: 0 });
        self.last
    }

    /// Takes note of a time that another node signed; one too far ahead of `now_ms` is not followed.
    pub fn observe(&mut self, seen: Hlc, now_ms: u64) {
        if seen.ms <= now_ms.saturating_add(PULL_MS_MAX) {
            self.last = self.last.max(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_backwards_when_the_wall_clock_does() {
        let mut clock = HlcClock::default();
        let a = clock.tick(1000);
        let b = clock.tick(10);
        assert!(b > a);
    }

    #[test]
    fn a_clock_a_year_ahead_is_not_followed() {
        let mut clock = HlcClock::default();
        clock.observe(Hlc { ms: 365 * 86_400_000, count: 0 }, 1000);
        assert_eq!(clock.tick(1000).ms, 1000);
        clock.observe(Hlc { ms: 5000, count: 3 }, 1000);
        assert_eq!(clock.tick(1000), Hlc { ms: 5000, count: 4 });
    }
}
