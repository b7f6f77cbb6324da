//! `[versions]`: how much of what was replaced is kept, on this node and for single folders.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

use super::within;
use crate::logic::retention::{DAY_MS, Retention};

/// Longest time, days. A guess: nobody looks further back.
const DAYS_MAX: u64 = 3650;
/// Most GiB. A guess: a petabyte is no small office.
const GIB_MAX: u64 = 1024 * 1024;
const GIB: u64 = 1024 * 1024 * 1024;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Versions {
    /// For how long.
    pub keep: Keep,
    /// How much of the file system that holds a folder, in percent, 1 to 90.
    #[serde(deserialize_with = "percent")]
    pub max_percent: u64,
    /// How many GiB for each folder; only the percentage counts where none is given.
    #[serde(deserialize_with = "gib")]
    pub max_gib: Option<u64>,
    /// What is otherwise for single folders, by name or id.
    pub folder: BTreeMap<String, OfFolder>,
}

/// What is otherwise for one folder.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfFolder {
    /// As in `Versions`.
    pub keep: Option<Keep>,
    /// As in `Versions`.
    #[serde(deserialize_with = "percent_if")]
    pub max_percent: Option<u64>,
    /// As in `Versions`.
    #[serde(deserialize_with = "gib")]
    pub max_gib: Option<u64>,
}

/// A time from 1 day to ten years.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    /// Milliseconds.
    pub ms: u64,
}

impl Default for Versions {
    fn default() -> Self {
        // 30 days: as long as a change that comes late may bring an earlier content back. A fifth of the disk: a guess
        // that leaves most of it to the files themselves.
        Self { keep: Keep { ms: 30 * DAY_MS }, max_percent: 20, max_gib: None, folder: BTreeMap::new() }
    }
}

impl Versions {
    /// What holds for a folder with this name and id on a file system of `capacity` bytes.
    pub fn of(&self, name: &str, id: &str, capacity: Option<u64>) -> Retention {
        let own = self.folder.get(id).or_else(|| self.folder.get(name)).cloned().unwrap_or_default();
        let percent = own.max_percent.unwrap_or(self.max_percent);
        let share = capacity.map(|bytes| bytes / 100 * percent);
        let fixed = own.max_gib.or(self.max_gib).map(|gib| gib.saturating_mul(GIB));
        let keep_ms = own.keep.unwrap_or(self.keep).ms;
        Retention { keep_ms, bytes_max: share.into_iter().chain(fixed).min() }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = text.parse::<jiff::Span>().ok().filter(|span| span.get_months() == 0 && span.get_years() == 0);
        let length = span.and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok());
        let Some(length) = length else {
            return Err(de::Error::custom(format!("'{text}' is no length of time such as 30d or 12w")));
        };
        match u64::try_from(length.as_millis()) {
            Ok(ms) if (DAY_MS..=DAYS_MAX * DAY_MS).contains(&ms) => Ok(Self { ms }),
            _ => Err(de::Error::custom(format!("'{text}' is not between 1 and {DAYS_MAX} days"))),
        }
    }
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 1, 90)
}

fn percent_if<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    within(deserializer, 1, 90).map(Some)
}

fn gib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    within(deserializer, 1, GIB_MAX).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_its_own_words_before_the_nodes() {
        let text = "keep = \"30d\"\nmax_percent = 10\n[folder.plans]\nkeep = \"52w\"\n[folder.ab12]\nmax_gib = 2\n";
        let versions: Versions = toml::from_str(text).expect("sound");
        let of = |name, id| versions.of(name, id, Some(1000 * GIB));
        let share = Some(100 * GIB);
        assert_eq!(of("drawings", "00"), Retention { keep_ms: 30 * DAY_MS, bytes_max: share });
        assert_eq!(of("plans", "00"), Retention { keep_ms: 364 * DAY_MS, bytes_max: share });
        assert_eq!(of("plans", "ab12"), Retention { keep_ms: 30 * DAY_MS, bytes_max: Some(2 * GIB) });
        assert_eq!(versions.of("plans", "00", None).bytes_max, None);
    }
}
