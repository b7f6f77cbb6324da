//! How long replaced contents are kept: all of the last day, then fewer and fewer, and no more than there is room for.
//!
//! Of one file, one version an hour is kept beyond a day, one a day beyond a week, one a week beyond 30 days; always the
//! one that was taken out first in its span, so that thinning twice is thinning once. Two things are not thinned for
//! 30 days, since an entry may lose its effect that late and what it replaced comes back: what a change of another
//! machine replaced, and what is younger than a day. Source of the steps: Syncthing's staggered versioning.

use std::collections::{BTreeMap, BTreeSet};

const HOUR_MS: u64 = 60 * 60 * 1000;
/// A day.
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// For so long an entry can lose its effect by what comes late, and its predecessor is needed: a month's backlog. A
/// guess.
pub const NEEDED_MS: u64 = 30 * DAY_MS;
/// Up to which age one version in which span is kept; what is younger than the first is all kept.
const STEPS: [(u64, u64); 3] = [(7 * DAY_MS, HOUR_MS), (NEEDED_MS, DAY_MS), (u64::MAX, 7 * DAY_MS)];

/// The time by which versions are dated and grow old: the wall clock's, but never back, and forward at most this many times
/// as fast as this machine ran. A clock that jumps by years ages nothing before somebody sets it right.
const CATCH_UP: u64 = 24;

/// That time, after what it was before (`None`: never noted) and `ran_ms` of running since.
pub fn advance(known_ms: Option<u64>, wall_ms: u64, ran_ms: u64) -> u64 {
    known_ms.map_or(wall_ms, |known| wall_ms.min(known.saturating_add(ran_ms.saturating_mul(CATCH_UP))).max(known))
}

/// What one folder keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// For how long, milliseconds.
    pub keep_ms: u64,
    /// How many bytes at most; `None`: no matter.
    pub bytes_max: Option<u64>,
}

/// One kept version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// When it was taken out, milliseconds since 1970 UTC.
    pub taken_ms: u64,
    /// A change of another machine replaced it.
    pub needed: bool,
}

/// Which versions of one file go: too old, or one too many of their span. In the order given.
pub fn gone(versions: &[Kept], now_ms: u64, keep_ms: u64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..versions.len()).collect();
    order.sort_by_key(|at| versions[*at].taken_ms);
    let mut spans = BTreeSet::new();
    let mut gone = vec![false; versions.len()];
    for at in order {
        let Kept { taken_ms, needed } = versions[at];
        let age = now_ms.saturating_sub(taken_ms);
        let is_extra = age > DAY_MS && {
            let (_, span) = STEPS.into_iter().find(|(up_to, _)| age <= *up_to).expect("the last step has no end");
            !spans.insert((span, taken_ms / span))
        };
        gone[at] = age > keep_ms || (is_extra && !(needed && age <= NEEDED_MS));
    }
    gone
}

/// Bytes by the hour in which they were taken out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sizes(BTreeMap<u64, u64>);

impl Sizes {
    /// A version that stays so far.
    pub fn add(&mut self, taken_ms: u64, bytes: u64) {
        *self.0.entry(taken_ms / HOUR_MS).or_default() += bytes;
    }

    /// What was taken out before this moment goes, so that the rest fits; 0: all of it fits.
    pub fn gone_before(&self, bytes_max: u64) -> u64 {
        let mut sum = 0u64;
        for (hour, bytes) in self.0.iter().rev() {
            sum = sum.saturating_add(*bytes);
            if sum > bytes_max {
                return (hour + 1) * HOUR_MS;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_772_357_400_000;

    fn at(ages_ms: impl IntoIterator<Item = u64>) -> Vec<Kept> {
        ages_ms.into_iter().map(|age| Kept { taken_ms: NOW - age, needed: false }).collect()
    }

    fn left(versions: &[Kept], now_ms: u64, keep_ms: u64) -> Vec<Kept> {
        let gone = gone(versions, now_ms, keep_ms);
        versions.iter().zip(gone).filter(|(_, gone)| !gone).map(|(kept, _)| *kept).collect()
    }

    #[test]
    fn a_clock_that_jumps_ages_nothing_at_once_and_one_set_back_turns_no_time_back() {
        let now = 1_000 * DAY_MS;
        assert_eq!(advance(None, now, 0), now);
        assert_eq!(advance(Some(now), now + HOUR_MS, HOUR_MS), now + HOUR_MS);
        assert_eq!(advance(Some(now), now + 400 * DAY_MS, HOUR_MS), now + DAY_MS);
        assert_eq!(advance(Some(now), now - 400 * DAY_MS, HOUR_MS), now);
        // A machine that was off for a month is at its age after a day and a quarter.
        let hours = (1..100).scan(now, |time, _| {
            *time = advance(Some(*time), now + 30 * DAY_MS, HOUR_MS);
            Some(*time)
        });
        assert_eq!(hours.take_while(|time| *time < now + 30 * DAY_MS).count(), 29);
    }

    #[test]
    fn a_file_saved_every_ten_minutes_keeps_fewer_and_fewer_versions() {
        let saved = at((0..400 * 144).map(|number| number * 10 * 60 * 1000));
        let left = left(&saved, NOW, 365 * DAY_MS);
        let within = |from: u64, to: u64| left.iter().filter(|k| (from..to).contains(&(NOW - k.taken_ms))).count();
        assert_eq!(within(0, DAY_MS + 1), 145);
        assert!((143..=146).contains(&within(DAY_MS + 1, 7 * DAY_MS)), "{}", within(DAY_MS + 1, 7 * DAY_MS));
        assert!((22..=25).contains(&within(7 * DAY_MS, 30 * DAY_MS)), "{}", within(7 * DAY_MS, 30 * DAY_MS));
        assert!((47..=50).contains(&within(30 * DAY_MS, 366 * DAY_MS)), "{}", within(30 * DAY_MS, 366 * DAY_MS));
    }

    #[test]
    fn thinning_often_leaves_what_thinning_once_leaves() {
        let mut often = at((0..2000).map(|number| number * 17 * 60 * 1000));
        let once = left(&often, NOW + 40 * DAY_MS, 90 * DAY_MS);
        for hours in 0..=40 * 24 {
            often = left(&often, NOW + hours * HOUR_MS, 90 * DAY_MS);
        }
        assert_eq!(often, once);
    }

    #[test]
    fn what_late_news_may_bring_back_is_kept_for_a_month_whatever_lies_beside_it() {
        let mut versions = at([3 * DAY_MS + 5, 3 * DAY_MS + 4, 3 * DAY_MS + 3]);
        let same_hour = versions.iter().map(|kept| kept.taken_ms / HOUR_MS).collect::<BTreeSet<_>>();
        assert_eq!(same_hour.len(), 1);
        assert_eq!(gone(&versions, NOW, 90 * DAY_MS), [false, true, true]);
        versions[2].needed = true;
        assert_eq!(gone(&versions, NOW, 90 * DAY_MS), [false, true, false]);
        assert_eq!(gone(&versions, NOW + NEEDED_MS, 90 * DAY_MS), [false, true, true]);
    }

    #[test]
    fn nothing_is_kept_beyond_its_time() {
        let versions = at([0, DAY_MS, DAY_MS + 1, 40 * DAY_MS]);
        assert_eq!(gone(&versions, NOW, DAY_MS), [false, false, true, true]);
        // A clock that was set back takes nothing for old.
        assert_eq!(gone(&versions, NOW - 90 * DAY_MS, DAY_MS), [false; 4]);
    }

    #[test]
    fn the_oldest_go_where_there_is_no_room() {
        let mut sizes = Sizes::default();
        for hour in 1..=4 {
            sizes.add(hour * HOUR_MS + 5, 10);
        }
        assert_eq!(sizes.gone_before(40), 0);
        assert_eq!(sizes.gone_before(39), 2 * HOUR_MS);
        assert_eq!(sizes.gone_before(20), 3 * HOUR_MS);
        assert_eq!(sizes.gone_before(0), 5 * HOUR_MS);
    }
}
