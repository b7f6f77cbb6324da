//! When to try again: at once, then ever later, never in step with others.

/// First wait.
const FIRST_MS: u64 = 250;
/// Longest wait before jitter, which adds up to as much again: 30 to 60 s.
const LAST_MS: u64 = 30_000;

/// The back-off of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct BackOff {
    attempts: u32,
    due_ms: u64,
}

impl BackOff {
    /// When to try.
    pub(super) fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// How often it failed in a row.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Something changed: try at `due_ms`, or before if that was planned already.
    pub(super) fn begin_anew(&mut self, due_ms: u64) {
        let planned = if self.attempts == 0 { self.due_ms } else { u64::MAX };
        *self = Self { attempts: 0, due_ms: if planned == 0 { due_ms } else { due_ms.min(planned) } };
    }

    /// It failed.
    pub(super) fn failed(&mut self, now_ms: u64, jitter: &mut Jitter) {
        self.attempts = self.attempts.saturating_add(1);
        let wait_ms = FIRST_MS.checked_shl(self.attempts - 1).unwrap_or(LAST_MS).min(LAST_MS);
        let wait_ms = if self.attempts > 16 { LAST_MS } else { wait_ms };
        self.due_ms = now_ms + wait_ms + jitter.below(wait_ms);
    }

    /// It will not work for long.
    pub(super) fn put_off(&mut self, now_ms: u64, jitter: &mut Jitter) {
        self.attempts = self.attempts.max(16);
        self.failed(now_ms, jitter);
    }

    /// It worked, and what came of it has ended. If it did not last, that is as good as a failure.
    pub(super) fn ended(&mut self, now_ms: u64, lasted: bool, jitter: &mut Jitter) {
        if lasted {
            *self = Self { attempts: 0, due_ms: now_ms };
        } else {
            self.failed(now_ms, jitter);
        }
    }
}

/// Randomness from a seed: SplitMix64 (Steele et al., 2014).
#[derive(Debug, Clone)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; 0 for 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_jitter_never_shortens_them() {
        let mut jitter = Jitter::new(1);
        let mut back_off = BackOff::default();
        assert_eq!(back_off.due_ms(), 0);
        let mut floor = FIRST_MS;
        for _ in 0..100 {
            back_off.failed(1_000, &mut jitter);
            let wait = back_off.due_ms() - 1_000;
            assert!((floor..2 * floor).contains(&wait), "{wait} for {floor}");
            floor = (floor * 2).min(LAST_MS);
        }
    }

    #[test]
    fn a_change_begins_anew_and_delays_nothing() {
        let mut jitter = Jitter::new(1);
        let mut back_off = BackOff::default();
        back_off.failed(1_000, &mut jitter);
        back_off.begin_anew(1_100);
        assert_eq!((back_off.attempts(), back_off.due_ms()), (0, 1_100));
        back_off.begin_anew(5_000);
        assert_eq!(back_off.due_ms(), 1_100);
    }

    #[test]
    fn what_did_not_last_counts_as_failed() {
        let mut jitter = Jitter::new(1);
        let mut back_off = BackOff::default();
        back_off.ended(1_000, false, &mut jitter);
        back_off.ended(2_000, false, &mut jitter);
        assert_eq!(back_off.attempts(), 2);
        back_off.ended(3_000, true, &mut jitter);
        assert_eq!((back_off.attempts(), back_off.due_ms()), (0, 3_000));
    }
}
