//! The archive's decisions: when a snapshot is due, and which snapshots are kept.
//!
//! Hours, days, weeks and months are those of UTC, so that every machine and every summer decides alike.

use std::collections::BTreeMap;

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// After a failure the next try comes no sooner. A guess: a disk that is full or away is put right by a person.
pub const RETRY_MS: u64 = 10 * 60 * 1000;
/// The archive is cleaned no more often: what was forgotten an hour ago takes room until then.
pub const PRUNE_EVERY_MS: u64 = DAY_MS;

/// What is known of the work on one folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Last {
    /// When it was last looked whether there is anything to take, milliseconds since 1970 UTC.
    pub done_ms: Option<u64>,
    /// When it last failed, if it did so since.
    pub failed_ms: Option<u64>,
}

/// Whether it is time to look at a folder again.
///
/// A time in the future comes from a clock that was wrong: it counts for nothing.
pub fn is_due(now_ms: u64, every_ms: u64, last: Last) -> bool {
    let passed = |since: Option<u64>, span: u64| since.is_none_or(|since| since > now_ms || now_ms - since >= span);
    passed(last.done_ms, every_ms) && passed(last.failed_ms, RETRY_MS.min(every_ms))
}

/// For how many hours, days, weeks and months the last snapshot of each is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    /// Hours.
    pub hourly: u32,
    /// Days.
    pub daily: u32,
    /// Weeks, which begin on Monday.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
}

/// A snapshot of a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// When, milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Whether everything is in it.
    pub whole: bool,
}

/// Which snapshots of one folder are kept, in the order of `taken`.
///
/// Only hours, days and so on in which a snapshot was taken count, so that a machine that was off for a year keeps what it
/// has. Of each the last whole one is kept, else the last. The newest, and the newest whole one, are always kept.
pub fn kept(taken: &[Taken], keep: Keep) -> Vec<bool> {
    let mut kept = vec![false; taken.len()];
    let newest = |whole: bool| {
        let fits = (0..taken.len()).filter(|at| taken[*at].whole || !whole);
        fits.max_by_key(|at| taken[*at].at_ms)
    };
    [newest(false), newest(true)].into_iter().flatten().for_each(|at| kept[at] = true);
    let rules: [(u32, fn(u64) -> u64); 4] = [
        (keep.hourly, |ms| ms / HOUR_MS),
        (keep.daily, |ms| ms / DAY_MS),
        // 1970-01-01 was a Thursday.
        (keep.weekly, |ms| (ms / DAY_MS + 3) / 7),
        (keep.monthly, month),
    ];
    for (count, span_of) in rules {
        let mut best: BTreeMap<u64, usize> = BTreeMap::new();
        for (at, one) in taken.iter().enumerate() {
            let here = best.entry(span_of(one.at_ms)).or_insert(at);
            if (one.whole, one.at_ms) > (taken[*here].whole, taken[*here].at_ms) {
                *here = at;
            }
        }
        best.values().rev().take(count as usize).for_each(|at| kept[*at] = true);
    }
    kept
}

/// Months since the year 0.
fn month(ms: u64) -> u64 {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    let date = stamp.to_zoned(jiff::tz::TimeZone::UTC).date();
    u64::from(date.year().unsigned_abs()) * 12 + u64::from(date.month().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds of 2026-03-01 00:00 UTC, a Sunday.
    const START: u64 = 1_772_323_200_000;
    const DEFAULT: Keep = Keep { hourly: 24, daily: 14, weekly: 8, monthly: 12 };

    fn every(span_ms: u64, count: u64) -> Vec<Taken> {
        (0..count).map(|number| Taken { at_ms: START + number * span_ms, whole: true }).collect()
    }

    #[test]
    fn a_snapshot_is_due_after_its_time_and_after_a_failure_later() {
        let last = |done_ms, failed_ms| Last { done_ms, failed_ms };
        let due = |last| is_due(START, HOUR_MS, last);
        assert!(due(Last::default()));
        assert!(!due(last(Some(START - HOUR_MS + 1), None)));
        assert!(due(last(Some(START - HOUR_MS), None)));
        assert!(!due(last(None, Some(START - RETRY_MS + 1))));
        assert!(due(last(None, Some(START - RETRY_MS))));
        assert!(due(last(Some(START + DAY_MS), None)), "a clock that was wrong stops nothing");
    }

    #[test]
    fn a_year_of_hours_is_thinned_to_what_was_asked_for() {
        let mut held: Vec<Taken> = Vec::new();
        let mut most = 0;
        for one in every(HOUR_MS, 24 * 400) {
            held.push(one);
            let keep = kept(&held, DEFAULT);
            let mut keep = keep.iter();
            held.retain(|_| *keep.next().expect("one for each"));
            most = most.max(held.len());
        }
        let newest = held.last().expect("some").at_ms;
        let within = |span: u64| held.iter().filter(|one| newest - one.at_ms < span).count();
        assert_eq!(within(24 * HOUR_MS), 24);
        assert_eq!(within(14 * DAY_MS), 24 + 13);
        // The last day of the month eleven months ago.
        assert!((300..366).contains(&((newest - held[0].at_ms) / DAY_MS)), "a year back");
        assert!(most <= 24 + 14 + 8 + 12, "{most}");
    }

    #[test]
    fn a_whole_snapshot_is_kept_before_a_later_one_that_is_not() {
        let taken = [
            Taken { at_ms: START, whole: true },
            Taken { at_ms: START + 1, whole: false },
            Taken { at_ms: START + 2, whole: false },
        ];
        let keep = Keep { hourly: 1, daily: 0, weekly: 0, monthly: 0 };
        assert_eq!(kept(&taken, keep), [true, false, true]);
        let nothing = Keep { hourly: 0, ..keep };
        assert_eq!(kept(&every(DAY_MS, 3), nothing), [false, false, true]);
        assert!(kept(&[], DEFAULT).is_empty());
    }

    #[test]
    fn weeks_begin_on_monday_and_months_with_their_first_day() {
        let sunday_and_monday = every(DAY_MS, 2);
        let keep = |weekly, monthly| Keep { hourly: 0, daily: 0, weekly, monthly };
        assert_eq!(kept(&sunday_and_monday, keep(2, 0)), [true, true]);
        assert_eq!(kept(&sunday_and_monday, keep(0, 2)), [false, true]);
        let around_midnight = [Taken { at_ms: START - 1, whole: true }, Taken { at_ms: START, whole: true }];
        assert_eq!(kept(&around_midnight, keep(0, 2)), [true, true]);
    }
}
