//! Values that JSON shows as text: times and paths.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::path;

/// The latest moment that is told: 9999-12-30T20:00Z, within what RFC 3339 and jiff can write.
const LAST_MS: i64 = 253_402_200_000_000;

/// A moment, in JSON as RFC 3339 in UTC with milliseconds: `2026-03-01T09:30:00.000Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UtcTime {
    ms: i64,
}

impl UtcTime {
    /// A moment by its milliseconds since 1970-01-01 UTC; what lies beyond the year 9999 becomes that year's end.
    pub fn from_ms(ms: u64) -> Self {
        Self { ms: i64::try_from(ms).unwrap_or(LAST_MS).min(LAST_MS) }
    }

    /// Milliseconds since 1970-01-01 UTC, 0 for what lies before.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.ms).unwrap_or(0)
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stamp = jiff::Timestamp::from_millisecond(self.ms).map_err(|_| fmt::Error)?;
        write!(f, "{stamp:.3}")
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UtcTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let stamp: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(Self { ms: stamp.as_millisecond().min(LAST_MS) })
    }
}

/// A path of the local machine or of a folder as text: UTF-8 as it is, other bytes and control characters as `\xNN`,
/// a backslash as `\\`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct PathText(String);

impl PathText {
    /// The text form of the bytes of a path.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(path::escape(bytes))
    }

    /// The bytes again.
    pub fn to_bytes(&self) -> Vec<u8> {
        path::unescape(&self.0).expect("the text was checked when it was made")
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PathText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = path::unescape(&text)
            .ok_or_else(|| de::Error::custom("a path has a \\ that starts no escape (\\\\ or \\xNN)"))?;
        if bytes.contains(&0) {
            return Err(de::Error::custom("a path has a NUL byte"));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let time = UtcTime::from_ms(1_772_357_400_005);
        assert_eq!(serde_json::to_string(&time).expect("text"), "\"2026-03-01T09:30:00.005Z\"");
        assert_eq!(serde_json::from_str::<UtcTime>("\"2026-03-01T10:30:00.005+01:00\"").expect("time"), time);
        assert!(serde_json::from_str::<UtcTime>("\"yesterday\"").is_err());
        assert!(UtcTime::from_ms(u64::MAX).to_string().starts_with("9999-"));
    }

    #[test]
    fn a_path_that_is_not_utf_8_survives_json() {
        let path = PathText::from_bytes(b"/srv/caf\xe9\\x");
        let json = serde_json::to_string(&path).expect("text");
        assert_eq!(serde_json::from_str::<PathText>(&json).expect("path").to_bytes(), b"/srv/caf\xe9\\x");
    }

    #[test]
    fn a_path_with_a_stray_backslash_or_nul_is_refused() {
        for bad in ["\"a\\\\q\"", "\"a\\u0000b\"", "\"a\\\\x00\"", "\"\\\\\""] {
            assert!(serde_json::from_str::<PathText>(bad).is_err(), "{bad}");
        }
    }
}
