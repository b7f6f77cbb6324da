//! Kept versions: what was replaced or removed by another node's change, for a while.
//!
//! Layout: `.lanyard/versions/DIR/NAME~YYYYMMDDThhmmssmmmZ-N`, in the same directories as the file had in the folder;
//! the time is when it was taken out, in UTC, N counts those of one millisecond. Where that does not fit (a name of
//! 255 bytes, a file where a directory is needed) the version lies flat as `+HASH~...`, HASH of the whole path.
//! They are plain files: a person can copy one back without lanyard.

use std::io;

use super::primitives::{Look, Make, Open, Place, Rename};
use super::{DiskError, Folder};
use crate::base::path::NAME_BYTES_MAX;
use crate::base::{Kind, RelPath};

/// `~YYYYMMDDThhmmssmmmZ-`: what a version's name has after the file's.
const STAMP_BYTES: usize = 21;
/// Versions of one path in one millisecond. A guess; clocks are finer than renames are fast.
const SAME_STAMP_MAX: u32 = 1000;
/// Versions of one path and length that are read to find a content again. A guess: more are older than any freeze.
const READ_BACK_MAX: usize = 8;
/// Levels below `versions/` that `prune` enters: those of the deepest path and one.
const LEVELS_MAX: usize = crate::base::path::DEPTH_MAX + 1;

/// Where versions are kept.
pub(super) fn top() -> Place {
    Place::own().below("versions")
}

/// What `prune` removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Versions.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Moves what is at `from` to a new place for a version of `path`, and says where that is.
pub(super) fn take(folder: &Folder, from: &Place, path: &RelPath, now_ms: u64) -> io::Result<Place> {
    let stamp = stamp(now_ms);
    let mirrored = path
        .name()
        .filter(|name| name.len() + STAMP_BYTES + 4 <= NAME_BYTES_MAX)
        .map(|name| (path.parent().map(|dir| top().below_all(&dir)), name.to_vec()));
    if let Some((Some(dir), name)) = mirrored {
        match take_as(folder, from, &dir, &[&name, stamp.as_bytes()].concat()) {
            Err(error) if !is_about_source(folder, from) => drop(error),
            result => return result,
        }
    }
    let hash = blake3::hash(path.as_bytes()).to_hex();
    take_as(folder, from, &top(), format!("+{}{stamp}", &hash[..16]).as_bytes())
}

/// Whether nothing can be taken because nothing is there.
fn is_about_source(folder: &Folder, from: &Place) -> bool {
    folder.disk.look(from).is_err()
}

fn take_as(folder: &Folder, from: &Place, dir: &Place, name: &[u8]) -> io::Result<Place> {
    let mut made = false;
    let mut count = 0;
    while count < SAME_STAMP_MAX {
        let to = dir.below([name, count.to_string().as_bytes()].concat());
        match folder.disk.rename(from, &to, Rename::NoReplace) {
            Ok(()) => return Ok(to),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => count += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !made => {
                made = true;
                make_dirs(folder, dir)?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn make_dirs(folder: &Folder, dir: &Place) -> io::Result<()> {
    let mut place = Place::root();
    for name in dir.as_bytes().split(|b| *b == b'/') {
        place = place.below(name);
        match folder.disk.make(&place, Make::Dir(0o700)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes versions taken out more than `keep_ms` ago, and directories left empty. What could not be removed stays
/// for the next time; the first such error is returned after all else was done.
pub fn prune(folder: &Folder, now_ms: u64, keep_ms: u64) -> Result<Pruned, DiskError> {
    let mut pruned = Pruned::default();
    let mut first_error = None;
    let until = stamp(now_ms.saturating_sub(keep_ms));
    prune_dir(folder, &top(), &until, LEVELS_MAX, &mut pruned, &mut first_error);
    first_error.map_or(Ok(pruned), Err)
}

fn prune_dir(
    folder: &Folder,
    dir: &Place,
    until: &str,
    levels: usize,
    pruned: &mut Pruned,
    first_error: &mut Option<DiskError>,
) {
    let mut fail = |doing, place: &Place, error: io::Error| {
        if error.kind() != io::ErrorKind::NotFound {
            first_error.get_or_insert_with(|| DiskError::new(doing, place, error));
        }
    };
    let mut below = Vec::new();
    let listed = folder.disk.list(dir, &mut |name, look| match look {
        Ok(Look::Plain(info)) if info.kind == Kind::Dir => below.push(dir.below(name)),
        Ok(Look::Plain(info)) if stamp_of(name).is_some_and(|stamp| stamp < until.as_bytes()) => {
            match folder.disk.remove(&dir.below(name), false) {
                Ok(()) => {
                    pruned.files += 1;
                    pruned.bytes += info.bytes;
                }
                Err(error) => fail("remove", &dir.below(name), error),
            }
        }
        _ => {}
    });
    if let Err(error) = listed {
        fail("list", dir, error);
    }
    for place in below {
        if levels > 0 {
            prune_dir(folder, &place, until, levels - 1, pruned, first_error);
        }
        // Not empty is the usual case.
        let _ = folder.disk.remove(&place, true);
    }
}

/// Kept versions of a path that have this length, newest first; a few at most.
pub fn of(folder: &Folder, path: &RelPath, bytes: u64) -> io::Result<Vec<Place>> {
    let (Some(name), Some(parent)) = (path.name(), path.parent()) else { return Ok(Vec::new()) };
    let dir = top().below_all(&parent);
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut see = |found: &[u8], look: io::Result<Look>| {
        let is_one =
            stamp_of(found).is_some_and(|stamp| found.strip_prefix(name).is_some_and(|rest| rest.starts_with(stamp)));
        if is_one && matches!(look, Ok(Look::Plain(info)) if info.kind == Kind::File && info.bytes == bytes) {
            names.push(found.to_vec());
        }
    };
    match folder.disk.list(&dir, &mut see) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    names.sort_by(|a, b| b.cmp(a));
    names.truncate(READ_BACK_MAX);
    Ok(names.into_iter().map(|name| dir.below(name)).collect())
}

/// Reads a kept version whole.
pub fn read_small(folder: &Folder, at: &Place, bytes: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut read = vec![0; length];
    let mut done = 0;
    let file = folder.disk.open(at, Open::Read)?;
    while done < length {
        match file.read_at(&mut read[done..], done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            some => done += some,
        }
    }
    Ok(read)
}

/// `~YYYYMMDDThhmmssmmmZ-`, which sorts by time.
fn stamp(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let time = time.unwrap_or(jiff::Timestamp::MAX);
    time.strftime("~%Y%m%dT%H%M%S%3fZ-").to_string()
}

/// The stamp in a version's name.
fn stamp_of(name: &[u8]) -> Option<&[u8]> {
    let dash = name.iter().rposition(|b| *b == b'-')?;
    let stamp = name.get((dash + 1).checked_sub(STAMP_BYTES)?..=dash)?;
    (stamp[0] == b'~' && stamp[9] == b'T' && stamp[19] == b'Z').then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FolderId;

    const NOW_MS: u64 = 1_784_723_696_123;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path()).expect("opens");
        folder.create_marker(FolderId([1; 32])).expect("marks");
        (dir, folder)
    }

    fn keep(dir: &tempfile::TempDir, folder: &Folder, path: &RelPath, now_ms: u64) -> String {
        std::fs::write(dir.path().join("x"), "old").expect("written");
        let place = take(folder, &Place::own().parent().below("x"), path, now_ms).expect("taken");
        String::from_utf8_lossy(place.as_bytes()).into_owned()
    }

    #[test]
    fn a_version_lies_where_its_file_lay_with_its_time() {
        let (dir, folder) = folder();
        let path = RelPath::new("plans/2026/office.pdf").expect("valid");
        assert_eq!(
            [keep(&dir, &folder, &path, NOW_MS), keep(&dir, &folder, &path, NOW_MS)],
            [0, 1].map(|n| format!(".lanyard/versions/plans/2026/office.pdf~20260722T123456123Z-{n}"))
        );
    }

    #[test]
    fn every_path_has_a_place_for_its_versions() {
        let (dir, folder) = folder();
        let long = RelPath::new(vec!["d".repeat(255); 15].join("/")).expect("valid");
        assert!(keep(&dir, &folder, &long, NOW_MS).starts_with(".lanyard/versions/+"));
        let short = RelPath::new(format!("{}/f", vec!["d".repeat(255); 15].join("/"))).expect("valid");
        assert!(keep(&dir, &folder, &short, NOW_MS).ends_with("/f~20260722T123456123Z-0"));
        // A directory whose name is that of a version of a file beside it.
        let file = RelPath::new("a").expect("valid");
        let taken = keep(&dir, &folder, &file, NOW_MS);
        let below = RelPath::new(format!("{}/b", taken.trim_start_matches(".lanyard/versions/"))).expect("valid");
        assert!(keep(&dir, &folder, &below, NOW_MS).starts_with(".lanyard/versions/+"));
    }

    #[test]
    fn old_versions_go_and_young_ones_stay() {
        let (dir, folder) = folder();
        keep(&dir, &folder, &RelPath::new("a/b/old").expect("valid"), NOW_MS - 1000);
        let young = keep(&dir, &folder, &RelPath::new("a/young").expect("valid"), NOW_MS);

        let pruned = prune(&folder, NOW_MS + 500, 1000).expect("prunes");

        assert_eq!(pruned, Pruned { files: 1, bytes: 3 });
        assert!(dir.path().join(young).exists());
        assert!(!dir.path().join(".lanyard/versions/a/b").exists());
    }
}
