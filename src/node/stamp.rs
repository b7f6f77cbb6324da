//! The stamp of a home: the format of its files, and the lanyard that used them last.
//!
//! Page: `docs/spec/home.md`. It is read before anything else of the home, so that a lanyard that is too old changes
//! nothing there. A home without a stamp has format 1.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::places::Places;
use crate::shell::home::{self, HomeError};
use crate::wire::api::{Failure, FailureKind, PathText};
use crate::wire::versions::{HOME_FORMAT, SOFTWARE};

/// The file, in the state directory.
const FILE: &str = "format";
/// What the first line begins with; the format follows.
const HEAD: &str = "lanyard home ";
/// Longest stamp. Two short lines; a later version may add some.
const STAMP_BYTES_MAX: u64 = 4096;

/// Why a home is not used. It is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// A later lanyard wrote it, in a format that this one does not know.
    #[error("the home {} was written by {by} (format {found}), this is {SOFTWARE} (format {HOME_FORMAT})", shown(home))]
    Later {
        /// The home.
        home: PathBuf,
        /// Its format.
        found: u32,
        /// Who wrote it.
        by: String,
    },
    /// The stamp is not what was written.
    #[error("{} is not the stamp of a lanyard home", shown(path))]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read {}", shown(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StampError {
    /// The failure that people read.
    pub fn to_failure(&self) -> Failure {
        let failure = Failure::failed(self.to_string());
        match self {
            Self::Later { by, .. } => Failure { kind: FailureKind::TooOld, ..failure }
                .hint(format!("install {by} or later; nothing was changed")),
            Self::Damaged { path } => failure.hint(format!(
                "if this very lanyard used this home last, remove {}; else restore it from a backup",
                shown(path)
            )),
            Self::Unreadable { source, .. } => failure.because(source).hint("check the permissions of that file"),
        }
    }
}

impl Places {
    /// Whether this lanyard may use the home. Changes nothing.
    pub fn check_format(&self) -> Result<(), StampError> {
        let path = self.state.join(FILE);
        let Some(text) = read(&path)? else { return Ok(()) };
        match format_of(&text) {
            None | Some(0) => Err(StampError::Damaged { path }),
            Some(found) if found > HOME_FORMAT => {
                let by = text.lines().nth(1).unwrap_or_default();
                let by: String = by.chars().filter(|c| !c.is_control()).take(64).collect();
                let by = if by.is_empty() { "a later lanyard".to_owned() } else { by };
                Err(StampError::Later { home: self.home().into(), found, by })
            }
            Some(_) => Ok(()),
        }
    }

    /// Says that this lanyard uses the home. Whoever calls it has the lock and has checked the format.
    pub(super) fn stamp(&self) -> Result<(), HomeError> {
        let path = self.state.join(FILE);
        let own = format!("{HEAD}{HOME_FORMAT}\n{SOFTWARE}\n");
        match home::read(&path)? {
            Some(found) if found == own.as_bytes() => Ok(()),
            _ => home::replace(&path, own.as_bytes()),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, StampError> {
    let unreadable = |source| StampError::Unreadable { path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(STAMP_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    String::from_utf8(bytes).map(Some).map_err(|_| StampError::Damaged { path: path.into() })
}

fn format_of(text: &str) -> Option<u32> {
    let number = text.lines().next()?.strip_prefix(HEAD)?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

fn shown(path: &Path) -> String {
    PathText::from_bytes(path.as_os_str().as_encoded_bytes()).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::places::Surroundings;

    fn home() -> (tempfile::TempDir, Places) {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::of_node(Some(dir.path()), &Surroundings::default()).expect("places");
        places.make().expect("made");
        (dir, places)
    }

    #[test]
    fn a_home_without_a_stamp_or_with_an_own_one_is_used() {
        let (_dir, places) = home();
        places.check_format().expect("none yet");
        places.stamp().expect("written");
        places.check_format().expect("its own");
        // An older or equally old program had it last.
        std::fs::write(places.state.join(FILE), "lanyard home 1\nlanyard 0.0.9\nmore\n").expect("written");
        places.check_format().expect("an earlier one");
    }

    #[test]
    fn a_later_format_is_refused_with_both_programs_and_both_formats() {
        let (_dir, places) = home();
        std::fs::write(places.state.join(FILE), "lanyard home 7\nlanyard 0.9.0\n").expect("written");
        let failure = places.check_format().expect_err("later").to_failure();
        assert_eq!(failure.kind, FailureKind::TooOld);
        let ends = format!("was written by lanyard 0.9.0 (format 7), this is {SOFTWARE} (format {HOME_FORMAT})");
        assert!(failure.what.ends_with(&ends), "{failure:?}");
        assert_eq!(failure.hint.as_deref(), Some("install lanyard 0.9.0 or later; nothing was changed"));
    }

    #[test]
    fn what_is_no_stamp_is_not_taken_for_one() {
        let (_dir, places) = home();
        for bad in ["", "lanyard home \n", "lanyard home 0\n", "lanyard home +1\n", "lanyard home 99999999999\n", "1\n"]
        {
            std::fs::write(places.state.join(FILE), bad).expect("written");
            let error = places.check_format().expect_err("no stamp");
            assert!(matches!(error, StampError::Damaged { .. }), "{bad:?}: {error}");
        }
        std::fs::write(places.state.join(FILE), [0xff, 0xfe]).expect("written");
        assert!(matches!(places.check_format(), Err(StampError::Damaged { .. })));
    }

    #[test]
    fn the_package_knows_the_format_that_its_lanyard_reads() {
        let script = include_str!("../../debian/preinst");
        assert!(script.contains(&format!("\nreads={HOME_FORMAT}\n")), "{script}");
        assert!(script.contains(HEAD) && script.contains(&format!("/state/{FILE}\n")), "{script}");
    }
}
