//! What a node notes about its archive between two starts: `notes.json` beside the archive's key.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::shell::home::{self, HomeError};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Notes {
    /// Whether an archive was made: one that is missing then is away, not new.
    pub(super) made: bool,
    /// The recovery password that was last printed.
    pub(super) password: Option<Password>,
    /// What the last check found damaged, until it is repaired.
    pub(super) damage: Option<String>,
    /// When the archive was last cleaned, milliseconds since 1970 UTC.
    pub(super) pruned_ms: Option<u64>,
    /// What was taken of each folder, by id in hexadecimal.
    pub(super) folders: BTreeMap<String, Taken>,
}

/// A recovery password. It is in nobody's notes but those of its reader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Password {
    /// When it was printed, milliseconds since 1970 UTC.
    pub(super) at_ms: u64,
    /// The id of its key in the archive.
    pub(super) key: String,
}

/// What was last taken of a folder.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Taken {
    /// When it was last looked, milliseconds since 1970 UTC.
    pub(super) at_ms: u64,
    /// What the folder was then; the same again: nothing is new. Empty where something was missing.
    pub(super) mark: String,
}

impl Notes {
    /// Reads them. What cannot be understood is nothing noted: a snapshot more is taken, nothing worse.
    pub(super) fn read(dir: &Path) -> Result<Self, HomeError> {
        let bytes = home::read(&dir.join("notes.json"))?.unwrap_or_default();
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), HomeError> {
        home::make_dir(dir)?;
        let bytes = serde_json::to_vec_pretty(self).expect("notes have only text keys");
        home::replace(&dir.join("notes.json"), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_found_again_and_damaged_ones_are_none() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Notes::read(dir.path()).expect("none"), Notes::default());
        let password = Some(Password { at_ms: 5, key: "ab".into() });
        let notes = Notes { made: true, password, ..Notes::default() };
        notes.write(dir.path()).expect("written");
        assert_eq!(Notes::read(dir.path()).expect("read"), notes);
        std::fs::write(dir.path().join("notes.json"), "{\"made\":").expect("damaged");
        assert_eq!(Notes::read(dir.path()).expect("read"), Notes::default());
    }
}
