//! What of a flood of refusals is written to the audit log one by one, and what is only counted.
//!
//! Nobody may fill the log, nor push out of it what others did, by being refused often. Each source has a few lines
//! at once and one a minute after that; the rest is counted and told in one line a minute.

use std::collections::BTreeMap;

/// Lines that one source may cause in a row. A guess: what one mistake of a person or program causes, and its retries.
const BURST_MAX: u32 = 32;
/// After so many milliseconds a source may cause one more.
const REFILL_MS: u64 = 60_000;
/// Sources told apart. More than these share one count.
const SOURCES_MAX: usize = 256;
/// A source with nothing to tell is forgotten after this long: by then it has all its lines again.
const FORGET_MS: u64 = REFILL_MS * BURST_MAX as u64;

/// How often each source was refused, in bounded memory. `K` tells sources apart.
#[derive(Debug)]
pub struct Damper<K> {
    sources: BTreeMap<K, Source>,
    others: u64,
}

#[derive(Debug)]
struct Source {
    lines: u32,
    refilled_ms: u64,
    counted: u64,
}

/// What has been counted and not written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted<K> {
    /// Whose; `None`: of many sources together.
    pub source: Option<K>,
    /// How many.
    pub count: u64,
}

impl<K> Default for Damper<K> {
    fn default() -> Self {
        Self { sources: BTreeMap::new(), others: 0 }
    }
}

impl<K: Ord + Clone> Damper<K> {
    /// Something of `source` was refused. Whether it is written as a line of its own; else it is counted.
    pub fn handle_refusal(&mut self, now_ms: u64, source: K) -> bool {
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES_MAX {
            self.sources.retain(|_, s| s.counted > 0 || s.refilled_ms + FORGET_MS > now_ms);
            if self.sources.len() >= SOURCES_MAX {
                self.others += 1;
                return false;
            }
        }
        let known = self.sources.entry(source).or_insert(Source { lines: BURST_MAX, refilled_ms: now_ms, counted: 0 });
        let gained = now_ms.saturating_sub(known.refilled_ms) / REFILL_MS;
        known.refilled_ms += gained * REFILL_MS;
        known.lines = known.lines.saturating_add(u32::try_from(gained).unwrap_or(u32::MAX)).min(BURST_MAX);
        if known.lines == 0 {
            known.counted += 1;
            return false;
        }
        known.lines -= 1;
        true
    }

    /// What was counted since the last call.
    pub fn take_counted(&mut self) -> Vec<Counted<K>> {
        let mut counted: Vec<Counted<K>> = Vec::new();
        for (source, known) in self.sources.iter_mut().filter(|(_, known)| known.counted > 0) {
            counted.push(Counted { source: Some(source.clone()), count: std::mem::take(&mut known.counted) });
        }
        if self.others > 0 {
            counted.push(Counted { source: None, count: std::mem::take(&mut self.others) });
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_source_is_some_lines_and_a_count() {
        let mut damper = Damper::default();
        let written = (0..10_000).filter(|n| damper.handle_refusal(*n, "a")).count();
        assert_eq!(written, BURST_MAX as usize);
        assert!(damper.handle_refusal(10_000, "b"), "another source has its own");
        assert_eq!(damper.take_counted(), [Counted { source: Some("a"), count: 10_000 - u64::from(BURST_MAX) }]);
        assert!(damper.take_counted().is_empty());
    }

    #[test]
    fn a_quiet_source_gets_its_lines_back_one_a_minute() {
        let mut damper = Damper::default();
        (0..BURST_MAX).for_each(|_| assert!(damper.handle_refusal(0, 1)));
        assert!(!damper.handle_refusal(REFILL_MS - 1, 1));
        assert!(damper.handle_refusal(REFILL_MS, 1));
        assert!(!damper.handle_refusal(REFILL_MS, 1));
    }

    #[test]
    fn any_number_of_sources_fits_and_none_is_lost_from_the_count() {
        let mut damper = Damper::default();
        let written = (0..5_000_u64).filter(|n| damper.handle_refusal(0, *n)).count();
        assert_eq!(written, SOURCES_MAX);
        assert_eq!(damper.take_counted(), [Counted { source: None, count: 5_000 - SOURCES_MAX as u64 }]);
        assert!(damper.handle_refusal(FORGET_MS + 1, 9_999), "those that were quiet make room");
    }
}
