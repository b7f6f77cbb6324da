//! `[archive]`: where snapshots go, how often they are taken, how many are kept.

use serde::{Deserialize, Deserializer, de};

use super::{AbsolutePath, within};
use crate::logic::archive::Keep;

/// Least and most time between two snapshots: a minute, a guess below which nobody gains; 30 days.
const EVERY_MS: std::ops::RangeInclusive<u64> = 60_000..=30 * 24 * 3_600_000;
/// Most snapshots of one kind. A guess: ten years of days.
const KEEP_MAX: u64 = 3_650;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// Whether this node takes snapshots, where it may.
    pub enabled: bool,
    /// Where the archive is; below the node's state where nothing is said.
    pub path: Option<AbsolutePath>,
    /// How often a snapshot of what changed is taken.
    pub every: Every,
    /// For how many hours the last snapshot is kept.
    #[serde(deserialize_with = "count")]
    pub keep_hourly: u32,
    /// For how many days.
    #[serde(deserialize_with = "count")]
    pub keep_daily: u32,
    /// For how many weeks.
    #[serde(deserialize_with = "count")]
    pub keep_weekly: u32,
    /// For how many months.
    #[serde(deserialize_with = "count")]
    pub keep_monthly: u32,
}

/// A time from a minute to 30 days.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Every {
    /// Milliseconds.
    pub ms: u64,
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            enabled: true,
            path: None,
            every: Every { ms: 3_600_000 },
            keep_hourly: 24,
            keep_daily: 14,
            keep_weekly: 8,
            keep_monthly: 12,
        }
    }
}

impl Archive {
    /// What is kept.
    pub fn keep(&self) -> Keep {
        Keep { hourly: self.keep_hourly, daily: self.keep_daily, weekly: self.keep_weekly, monthly: self.keep_monthly }
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = text.parse::<jiff::SignedDuration>().ok().and_then(|span| u64::try_from(span.as_millis()).ok());
        match span {
            Some(ms) if EVERY_MS.contains(&ms) => Ok(Self { ms }),
            Some(_) => Err(de::Error::custom(format!("'{text}' is not between 1m and 720h"))),
            None => Err(de::Error::custom(format!("'{text}' is no length of time such as 30m or 1h"))),
        }
    }
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 0, KEEP_MAX).map(|count| count as u32)
}
