//! The clocks: the only file that reads them.
//!
//! Wall time is for people and for comparing with file times; intervals are measured in boot time, which goes on
//! while the machine sleeps, so that a lease does not outlive a suspend.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970-01-01 UTC as this machine believes; 0 before. It may jump both ways.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Nanoseconds since the machine started, time asleep included. It never runs backwards.
///
/// Source: Linux `clock_gettime(2)`, `CLOCK_BOOTTIME`.
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Milliseconds since the machine started, time asleep included.
pub fn boottime_ms() -> u64 {
    boottime_ns() / 1_000_000
}

/// Which start of the machine this is: another text after each. `None` where the kernel does not say.
///
/// Source: Linux `random(4)`, `/proc/sys/kernel/random/boot_id`.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_never_runs_backwards() {
        let first = boottime_ns();
        assert!(boottime_ns() >= first);
    }

    #[test]
    fn wall_time_is_after_this_was_written() {
        assert!(wall_ms() > 1_750_000_000_000);
    }
}
