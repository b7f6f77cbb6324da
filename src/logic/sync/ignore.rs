//! `.lanyardignore`: which names of a folder are not shared, in the syntax of gitignore.
//!
//! The file lies in the folder's root and is shared like any other; changing it needs `manage`. What is ignored is
//! neither announced nor received; what is there already stays where it is, on every disk. Ignoring never deletes.
//! Syntax: gitignore(5); one file, so there are no deeper ones.

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::index::{Index, Look, Result, Walk};
use super::reconcile;
use crate::base::RelPath;
use crate::base::path::IGNORE_FILE;

/// Longest file that is read. A guess: some thousand patterns.
pub const BYTES_MAX: u64 = 64 * 1024;
/// Names looked at in one step after a change.
const STEP: usize = 1024;
/// Note in the index: the file's hash that its marks follow.
const NOTE: &str = "ignored";

/// The patterns of one file.
#[derive(Clone, Debug)]
pub struct Ignored {
    patterns: Gitignore,
    digest: [u8; 32],
}

impl Default for Ignored {
    fn default() -> Self {
        Self::parse(b"").0
    }
}

impl Ignored {
    /// Reads the file's text. Lines that are no patterns are left out, and returned with what is wrong.
    pub fn parse(text: &[u8]) -> (Self, Vec<String>) {
        let mut builder = GitignoreBuilder::new("");
        let mut wrong = Vec::new();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let line = String::from_utf8_lossy(line);
            if let Err(error) = builder.add_line(None, line.trim_end_matches('\r')) {
                wrong.push(format!("line {number}: {error}"));
            }
        }
        let patterns = builder.build().unwrap_or_else(|error| {
            wrong.push(error.to_string());
            Gitignore::empty()
        });
        (Self { patterns, digest: *blake3::hash(text).as_bytes() }, wrong)
    }

    /// Whether a name is not shared: it, or a directory that it is in, fits.
    pub fn covers(&self, path: &RelPath, is_dir: bool) -> bool {
        if self.patterns.is_empty() || path.is_root() || is_the_file(path) {
            return false;
        }
        // Of a name that is not UTF-8 the rest still fits.
        let path = String::from_utf8_lossy(path.as_bytes());
        self.patterns.matched_path_or_any_parents(&*path, is_dir).is_ignore()
    }

    /// Whether the index follows these patterns.
    pub fn is_followed(&self, look: &(impl Look + ?Sized)) -> Result<bool> {
        let none = *blake3::hash(b"").as_bytes();
        Ok(look.note(NOTE)?.unwrap_or(none.to_vec()) == self.digest)
    }

    /// Marks what is not ignored and may differ, one step from `from` on. Returns where the next step begins; `None`: the
    /// index follows these patterns.
    pub fn follow(&self, index: &mut (impl Index + ?Sized), from: &RelPath) -> Result<Option<RelPath>> {
        let mut found = Vec::new();
        let mut next = None;
        index.walk_from(&RelPath::root(), from, &mut |path, record| {
            if found.len() == STEP {
                next = Some(path);
                return Walk::Enough;
            }
            let differs = record.disk.as_ref().map(|disk| &disk.what) != record.heads.first().map(|head| head.what());
            if !record.heads.is_empty() && differs {
                found.push(path);
            }
            Walk::On
        })?;
        for path in found {
            reconcile::mark(index, &path)?;
        }
        if next.is_none() {
            index.put_note(NOTE, &self.digest)?;
        }
        Ok(next)
    }
}

/// Whether a path is the file that says what is ignored.
pub fn is_the_file(path: &RelPath) -> bool {
    path.as_bytes() == IGNORE_FILE.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("valid")
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        let text = b"# programs leave these\n*.tmp\n/build/\n!keep.tmp\ndocs/*.pdf\n**/cache\n\\#odd\n";
        let (ignored, wrong) = Ignored::parse(text);
        assert!(wrong.is_empty(), "{wrong:?}");
        for (name, is_dir, covered) in [
            ("a.tmp", false, true),
            ("deep/below/a.tmp", false, true),
            ("keep.tmp", false, false),
            ("build", true, true),
            ("build", false, false),
            ("build/x/y", false, true),
            ("sub/build", true, false),
            ("docs/a.pdf", false, true),
            ("docs/deep/a.pdf", false, false),
            ("x/cache", true, true),
            ("x/cache/y", false, true),
            ("#odd", false, true),
            ("plain", false, false),
            (".lanyardignore", false, false),
            ("", true, false),
        ] {
            assert_eq!(ignored.covers(&path(name), is_dir), covered, "{name}");
        }
    }

    #[test]
    fn nothing_is_ignored_without_the_file_and_it_cannot_ignore_itself() {
        assert!(!Ignored::default().covers(&path("a"), false));
        let (all, _) = Ignored::parse(b"*\n");
        assert!(all.covers(&path("a"), false) && !all.covers(&path(IGNORE_FILE), false));
    }

    #[test]
    fn a_line_that_is_no_pattern_is_named_and_the_others_count() {
        let (ignored, wrong) = Ignored::parse(b"*.tmp\r\n[z-a]\n\xff\xfe\n");
        assert!(wrong.len() == 1 && wrong[0].starts_with("line 2:"), "{wrong:?}");
        assert!(ignored.covers(&path("x.tmp"), false));
    }
}
