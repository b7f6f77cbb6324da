//! How fast contents are relayed: so many bytes a second, all connections together.
//!
//! A virtual queue (ITU-T I.371, the continuous-state leaky bucket): each piece moves the time at which the queue is
//! empty; who comes waits until then, less what may be sent at once.

/// What may be sent at once after a pause, as time. A guess: a handful of chunks at a gigabit.
const BURST_MS: u64 = 100;

/// The pace; without a bound nobody waits.
#[derive(Debug, Clone)]
pub struct Pace {
    bytes_per_s: Option<u64>,
    /// When all that was let through is sent at that pace, microseconds.
    empty_us: u64,
}

impl Pace {
    /// So many bytes a second; 0: no bound.
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: Some(bytes_per_s).filter(|bytes| *bytes > 0), empty_us: 0 }
    }

    /// So many bytes are to be sent: how long to wait before, milliseconds.
    pub fn handle_bytes(&mut self, now_ms: u64, bytes: usize) -> u64 {
        let Some(bytes_per_s) = self.bytes_per_s else { return 0 };
        let now_us = now_ms * 1_000;
        let wait_ms = (self.empty_us.saturating_sub(now_us) / 1_000).saturating_sub(BURST_MS);
        self.empty_us = self.empty_us.max(now_us) + bytes as u64 * 1_000_000 / bytes_per_s;
        wait_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_who_wait_as_told_send_no_more_than_the_pace_together() {
        const BYTES_PER_S: u64 = 10_000_000;
        let mut pace = Pace::new(BYTES_PER_S);
        // Four connections, each sends 64 KiB as soon as it may.
        let (mut due, mut sent) = ([0_u64; 4], 0_u64);
        loop {
            let next = (0..4).min_by_key(|n| due[*n]).expect("four");
            let now = due[next];
            if now >= 10_000 {
                break;
            }
            due[next] = now + pace.handle_bytes(now, 65_536);
            sent += 65_536;
        }
        let allowed = BYTES_PER_S * 10 + BYTES_PER_S * BURST_MS / 1_000 + 5 * 65_536;
        assert!(sent <= allowed && sent > allowed * 9 / 10, "{sent} of {allowed}");
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let mut pace = Pace::new(0);
        assert!((0..1_000).all(|_| pace.handle_bytes(0, usize::MAX) == 0));
    }
}
