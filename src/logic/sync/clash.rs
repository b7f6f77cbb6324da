//! Names that other systems could not keep apart, or not have at all, found in the index.
//!
//! Windows and macOS take names for one that differ only in case or in the Unicode form of their letters (`Plan`
//! and `plan`, `ü` and `u` with two dots); Windows has names of its own that no file can have. Here all of them live side by
//! side; they are found so that somebody may rename them before such a machine has the folder.
//!
//! A pass over the index goes page by page. It remembers 8 bytes a name of the directories on its way, and goes twice where
//! there is something to say: the second time for the names themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Look, Result, Walk};
use super::notices::NAMES_MAX;
use crate::base::RelPath;
use crate::base::path::fold;

/// Directories with their folded names that are found a second time for their names. A guess, as for notices.
const SETS_MAX: usize = NAMES_MAX / 2;

/// A pass under way.
#[derive(Debug)]
pub struct Pass {
    next: Option<RelPath>,
    levels: Vec<(RelPath, BTreeSet<u64>)>,
    /// Directory and fold of names of which there are several.
    sets: BTreeSet<(RelPath, u64)>,
    again: bool,
    found: Found,
}

/// What a pass found: names, with the reason where there is one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Names of which there are several in other systems' eyes.
    pub clashes: BTreeMap<Vec<u8>, String>,
    /// Names that Windows cannot have.
    pub foreign: BTreeMap<Vec<u8>, String>,
}

impl Default for Pass {
    fn default() -> Self {
        Self {
            next: Some(RelPath::root()),
            levels: Vec::new(),
            sets: BTreeSet::new(),
            again: false,
            found: Found::default(),
        }
    }
}

impl Pass {
    /// Looks at the next `most` names; `Some` when the pass is over.
    pub fn step(&mut self, look: &(impl Look + ?Sized), most: usize) -> Result<Option<Found>> {
        let Some(from) = self.next.take() else { return Ok(Some(std::mem::take(&mut self.found))) };
        let mut count = 0;
        let mut next = None;
        look.walk_from(&RelPath::root(), &from, &mut |path, record| {
            if count == most {
                next = Some(path);
                return Walk::Enough;
            }
            count += 1;
            if record.disk.is_some() || record.is_live() {
                self.see(&path);
            }
            Walk::On
        })?;
        if next.is_none() && !self.again && !self.sets.is_empty() {
            self.again = true;
            self.levels.clear();
            next = Some(RelPath::root());
        }
        self.next = next;
        Ok(if self.next.is_none() { Some(std::mem::take(&mut self.found)) } else { None })
    }

    fn see(&mut self, path: &RelPath) {
        let (Some(dir), Some(name)) = (path.parent(), path.name()) else { return };
        let key = key(name);
        if self.again {
            if self.found.clashes.len() < NAMES_MAX && self.sets.contains(&(dir, key)) {
                self.found.clashes.insert(path.as_bytes().to_vec(), String::new());
            }
            return;
        }
        if self.found.foreign.len() < NAMES_MAX
            && let Some(why) = not_on_windows(name)
        {
            self.found.foreign.insert(path.as_bytes().to_vec(), why.to_owned());
        }
        while self.levels.last().is_some_and(|(level, _)| !dir.starts_with(level)) {
            self.levels.pop();
        }
        if self.levels.last().is_none_or(|(level, _)| *level != dir) {
            self.levels.push((dir.clone(), BTreeSet::new()));
        }
        let (_, seen) = self.levels.last_mut().expect("just put there");
        if !seen.insert(key) && self.sets.len() < SETS_MAX {
            self.sets.insert((dir, key));
        }
    }
}

/// 8 bytes that twins have in common.
fn key(name: &[u8]) -> u64 {
    let mut folded = Vec::with_capacity(name.len());
    fold(name, &mut folded);
    let hash = blake3::hash(&folded);
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 of 32 bytes"))
}

/// Why Windows cannot have a name; `None` if it can. Source: Microsoft, "Naming Files, Paths, and Namespaces".
pub fn not_on_windows(name: &[u8]) -> Option<&'static str> {
    const DEVICES: [&str; 22] = [
        "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8", "COM9", "LPT1",
        "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
    ];
    let Ok(text) = std::str::from_utf8(name) else { return Some("it is no Unicode text") };
    if text.bytes().any(|b| b < 0x20 || b"<>:\"\\|?*".contains(&b)) {
        return Some("it has a character that Windows reserves");
    }
    if text.ends_with(['.', ' ']) {
        return Some("it ends with a dot or a blank");
    }
    let stem = text.split('.').next().unwrap_or_default().trim_end();
    DEVICES.iter().any(|device| stem.eq_ignore_ascii_case(device)).then_some("Windows has a device of this name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ContentId, FileInfo, FileTime, Kind, VersionVector};
    use crate::logic::sync::index::{Index, MemoryIndex, OnDisk, PathRecord};
    use crate::wire::batch::What;

    fn index(paths: &[&[u8]]) -> MemoryIndex {
        let time = FileTime::default();
        let info = FileInfo { kind: Kind::File, bytes: 1, mode: 0o644, mtime: time, ctime: time, inode: 1 };
        let what = What::File { bytes: 1, content: ContentId([1; 32]) };
        let version = VersionVector::default();
        let mut index = MemoryIndex::default();
        for path in paths {
            let disk = OnDisk::new(info, what.clone(), version.clone());
            let record = PathRecord { disk: Some(disk), ..PathRecord::default() };
            index.put_path(&RelPath::new(path).expect("valid"), &record).expect("memory");
        }
        index
    }

    fn found(index: &MemoryIndex, most: usize) -> Found {
        let mut pass = Pass::default();
        (0..1000).find_map(|_| pass.step(index, most).expect("memory")).expect("it ends")
    }

    #[test]
    fn twins_of_one_directory_are_found_whatever_the_size_of_a_page() {
        let nfd = "u\u{308}ber".as_bytes();
        let names: [&[u8]; 7] =
            [b"DIR", b"DIR/Datei.txt", b"DIR/datei.TXT", b"b/Datei.txt", b"dir", nfd, "\u{fc}ber".as_bytes()];
        let index = index(&names);
        for most in [1, 2, 3, 100] {
            let clashes: Vec<_> = found(&index, most).clashes.into_keys().collect();
            assert_eq!(clashes, [names[0], names[1], names[2], names[4], names[5], names[6]], "pages of {most}");
        }
    }

    #[test]
    fn names_that_windows_cannot_have_are_told_with_the_reason() {
        for bad in ["CON", "aux.txt", "nul .tar.gz", "Lpt1", "a:b", "what?", "dot.", "blank ", "a\tb"] {
            assert!(not_on_windows(bad.as_bytes()).is_some(), "{bad}");
        }
        assert!(not_on_windows(b"\xff").is_some());
        for good in ["CONSOLE", "com10", "a.con", ".hidden", "ü", "a b", "auxiliary.txt"] {
            assert_eq!(not_on_windows(good.as_bytes()), None, "{good}");
        }
        let index = index(&[b"d/CON", b"d/ok"]);
        assert_eq!(found(&index, 10).foreign.into_keys().collect::<Vec<_>>(), [b"d/CON".to_vec()]);
    }
}
