//! Kept versions: what was replaced or removed by another node's change, for a while.
//!
//! Layout: `.lanyard/versions/DIR/NAME~YYYYMMDDThhmmssmmmZ-N`, in the same directories as the file had in the folder;
//! the time is when it was taken out, in UTC, N counts those of one millisecond. Where that does not fit (a name of
//! 255 bytes, a file where a directory is needed) the version lies flat as `+HASH~...`, HASH of the whole path; so does
//! that of a file in the root whose name begins with `+`, for no name may lead to the versions of another path.
//! They are plain files: a person can copy one back without lanyard.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::primitives::{Look, Make, Place, Rename};
use super::{DiskError, Folder, chunk};
use crate::base::path::NAME_BYTES_MAX;
use crate::base::{ContentId, FileInfo, FileTime, Kind, RelPath};
use crate::shell::clock;
use crate::wire::content::{CHUNK_BYTES_MAX, ChunkList};

/// `~YYYYMMDDThhmmssmmmZ-`: what a version's name has after the file's.
const STAMP_BYTES: usize = 21;
/// Versions of one path in one millisecond. A guess; clocks are finer than renames are fast.
const SAME_STAMP_MAX: u32 = 1000;
/// Versions of one path and length that are read to find a content again. A guess: more are older than any freeze.
const READ_BACK_MAX: usize = 8;
/// Directories whose versions a shelf knows. A guess: the one that is being looked through and the flat one, and some.
const SHELVES_MAX: usize = 4;
/// Versions in one directory that a shelf remembers; larger ones are listed each time. Some 10 MB.
const SHELF_MAX: usize = 50_000;
/// Versions of one directory that are listed; the rest is seen when these have become fewer. Some 50 MB.
const LISTED_MAX: usize = 250_000;
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
        .filter(|name| name.len() + STAMP_BYTES + 4 <= NAME_BYTES_MAX && !is_flat(path))
        .map(|name| (path.parent().map(|dir| top().below_all(&dir)), name.to_vec()));
    if let Some((Some(dir), name)) = mirrored {
        match take_as(folder, from, &dir, &[&name, stamp.as_bytes()].concat()) {
            Err(error) if !is_about_source(folder, from) => drop(error),
            result => return result,
        }
    }
    take_as(folder, from, &top(), &[&flat_name(path), stamp.as_bytes()].concat())
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

/// Removes versions that `decide` lets go of, and directories left empty. It is shown all versions of one file at once, with
/// the file's path where the name tells it. What could not be removed stays for the next time; the first such error is
/// returned after all else was done.
pub fn prune(folder: &Folder, decide: &mut Decide<'_>) -> Result<Pruned, DiskError> {
    let mut pruned = Pruned::default();
    let mut first_error = None;
    prune_dir(folder, &RelPath::root(), decide, LEVELS_MAX, &mut pruned, &mut first_error);
    first_error.map_or(Ok(pruned), Err)
}

/// Says which versions of a file go, in their order.
pub type Decide<'a> = dyn FnMut(Option<&RelPath>, &[Version]) -> Vec<bool> + 'a;

fn prune_dir(
    folder: &Folder,
    at: &RelPath,
    decide: &mut Decide<'_>,
    levels: usize,
    pruned: &mut Pruned,
    first_error: &mut Option<DiskError>,
) {
    let dir = top().below_all(at);
    let mut fail = |doing, place: &Place, error: io::Error| {
        if error.kind() != io::ErrorKind::NotFound {
            first_error.get_or_insert_with(|| DiskError::new(doing, place, error));
        }
    };
    let mut below = Vec::new();
    match list(folder, &dir, &mut |name| below.push(name.to_vec())) {
        Ok(versions) => {
            for (name, versions) in versions {
                // A name like that of a flat one does not tell the path.
                let path = at.join(&name).ok().filter(|_| !(at.is_root() && name.starts_with(b"+")));
                for (version, _) in versions.iter().zip(decide(path.as_ref(), &versions)).filter(|(_, gone)| *gone) {
                    match folder.disk.remove(&version.place, false) {
                        Ok(()) => {
                            pruned.files += 1;
                            pruned.bytes += version.info.bytes;
                        }
                        Err(error) => fail("remove", &version.place, error),
                    }
                }
            }
        }
        Err(error) => fail("list", &dir, error),
    }
    for name in below {
        if let (Ok(path), true) = (at.join(&name), levels > 0) {
            prune_dir(folder, &path, decide, levels - 1, pruned, first_error);
        }
        // Not empty is the usual case.
        let _ = folder.disk.remove(&dir.below(&name), true);
    }
}

/// Bytes of the file system that holds a folder; `None` where the system does not say.
pub fn capacity(folder: &Folder) -> Option<u64> {
    super::room(folder.path()).map(|(_, total)| total).filter(|bytes| *bytes > 0)
}

/// A kept version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Where it lies.
    pub place: Place,
    /// When it was taken out, milliseconds since 1970 UTC.
    pub taken_ms: u64,
    /// What it is: a file or a symbolic link.
    pub info: FileInfo,
}

/// What a content that is looked for is known to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sought {
    /// Which.
    pub content: ContentId,
    /// Its length.
    pub bytes: u64,
    /// Modification times that a file with it had at the path.
    pub mtimes: Vec<FileTime>,
}

/// Versions by the name of their file; directories are listed once and remembered until they change.
#[derive(Debug, Default)]
pub struct Shelf {
    listed: VecDeque<Listed>,
}

#[derive(Debug)]
struct Listed {
    dir: Place,
    /// What the directory was before it was listed.
    was: FileInfo,
    versions: BTreeMap<Vec<u8>, Vec<Version>>,
}

impl Shelf {
    /// Kept versions of a path, newest first.
    pub fn of(&mut self, folder: &Folder, path: &RelPath) -> io::Result<Vec<Version>> {
        let (Some(name), Some(parent)) = (path.name(), path.parent()) else { return Ok(Vec::new()) };
        let mut found = match is_flat(path) {
            true => Vec::new(),
            false => self.named(folder, &top().below_all(&parent), name)?,
        };
        found.extend(self.named(folder, &top(), &flat_name(path))?);
        found.sort_by(|a, b| (b.taken_ms, &b.place).cmp(&(a.taken_ms, &a.place)));
        Ok(found)
    }

    /// A kept version of `path` that has the content, and its chunk list.
    pub fn find(&mut self, folder: &Folder, path: &RelPath, sought: &Sought) -> Option<(Version, ChunkList)> {
        first_with(folder, self.fitting(folder, path, sought), sought.content)
    }

    /// Kept versions of `path` that may have the content, by their length; large ones only where their time fits too.
    pub fn fitting(&mut self, folder: &Folder, path: &RelPath, sought: &Sought) -> Vec<Version> {
        let is_timed = |version: &Version| sought.mtimes.contains(&version.info.mtime);
        let mut fitting = self.of(folder, path).unwrap_or_default();
        fitting.retain(|version| version.info.kind == Kind::File && version.info.bytes == sought.bytes);
        fitting.retain(|version| sought.bytes <= CHUNK_BYTES_MAX as u64 || is_timed(version));
        fitting.sort_by_key(|version| !is_timed(version));
        fitting.truncate(READ_BACK_MAX);
        fitting
    }

    fn named(&mut self, folder: &Folder, dir: &Place, name: &[u8]) -> io::Result<Vec<Version>> {
        let was = match folder.disk.look(dir) {
            Ok(Look::Plain(info)) => info,
            Ok(_) => return Ok(Vec::new()),
            Err(error) if super::scan::is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if let Some(known) = self.listed.iter().find(|known| known.dir == *dir && known.was == was) {
            return Ok(known.versions.get(name).cloned().unwrap_or_default());
        }
        let versions = list(folder, dir, &mut |_| {})?;
        let named = versions.get(name).cloned().unwrap_or_default();
        self.listed.retain(|known| known.dir != *dir);
        let count: usize = versions.values().map(Vec::len).sum();
        if count <= SHELF_MAX && !was.may_change_unseen(clock::wall_ms()) {
            self.listed.truncate(SHELVES_MAX - 1);
            self.listed.push_front(Listed { dir: dir.clone(), was, versions });
        }
        Ok(named)
    }
}

/// The first of these that has the content, and its chunk list; they are read to be sure.
pub fn first_with(folder: &Folder, fitting: Vec<Version>, content: ContentId) -> Option<(Version, ChunkList)> {
    fitting.into_iter().find_map(|version| {
        let list = chunk::read_content_at(folder, &version.place, &version.info).ok()?;
        (list.id() == content).then_some((version, list))
    })
}

/// The versions in one directory, by the name of their file; `see_dir` is told the directories in it.
fn list(folder: &Folder, dir: &Place, see_dir: &mut dyn FnMut(&[u8])) -> io::Result<BTreeMap<Vec<u8>, Vec<Version>>> {
    let mut versions: BTreeMap<Vec<u8>, Vec<Version>> = BTreeMap::new();
    let mut count = 0;
    let mut see = |found: &[u8], look: io::Result<Look>| {
        let Ok(Look::Plain(info)) = look else { return };
        if info.kind == Kind::Dir {
            return see_dir(found);
        }
        count += 1;
        if count > LISTED_MAX {
            return;
        }
        let Some((name, taken_ms)) = stamp_of(found).and_then(|stamp| {
            let name = &found[..found.len() - stamp.len() - count_bytes(found)];
            Some((name, ms_of(stamp)?))
        }) else {
            return;
        };
        versions.entry(name.to_vec()).or_default().push(Version { place: dir.below(found), taken_ms, info });
    };
    match folder.disk.list(dir, &mut see) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(versions),
    }
}

/// Bytes of what follows the stamp in a version's name.
fn count_bytes(name: &[u8]) -> usize {
    name.iter().rev().take_while(|b| **b != b'-').count()
}

/// Whether versions of this path never lie under its own name: that could be the flat name of another path.
fn is_flat(path: &RelPath) -> bool {
    path.as_bytes().starts_with(b"+") && path.parent().is_some_and(|parent| parent.is_root())
}

/// The name in `versions/` itself of what cannot lie in the same directories as its file.
fn flat_name(path: &RelPath) -> Vec<u8> {
    let hash = blake3::hash(path.as_bytes()).to_hex();
    format!("+{}", &hash[..16]).into_bytes()
}

/// `~YYYYMMDDThhmmssmmmZ-`, which sorts by time.
fn stamp(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let time = time.unwrap_or(jiff::Timestamp::MAX);
    time.strftime("~%Y%m%dT%H%M%S%3fZ-").to_string()
}

/// The moment of a stamp, milliseconds since 1970 UTC.
fn ms_of(stamp: &[u8]) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<i32> {
        let digits = stamp.get(from..to).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let small = |from, to| number(from, to).and_then(|n| i8::try_from(n).ok());
    let (year, nanos) = (i16::try_from(number(1, 5)?).ok()?, number(16, 19)? * 1_000_000);
    let (month, day) = (small(5, 7)?, small(7, 9)?);
    let (hour, minute, second) = (small(10, 12)?, small(12, 14)?, small(14, 16)?);
    let time = jiff::civil::DateTime::new(year, month, day, hour, minute, second, nanos).ok()?;
    u64::try_from(jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_millisecond()).ok()
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
    fn a_shelf_tells_versions_of_a_path_newest_first_and_notices_new_ones() {
        let (dir, folder) = folder();
        let path = RelPath::new("a/b").expect("valid");
        let long = RelPath::new("n".repeat(250)).expect("valid");
        let mut shelf = Shelf::default();
        assert_eq!(shelf.of(&folder, &path).expect("listed"), []);
        for ms in [NOW_MS, NOW_MS + 1] {
            keep(&dir, &folder, &path, ms);
            keep(&dir, &folder, &long, ms);
        }
        keep(&dir, &folder, &RelPath::new("a/b-2").expect("valid"), NOW_MS);

        for path in [&path, &long] {
            let told: Vec<u64> = shelf.of(&folder, path).expect("listed").iter().map(|v| v.taken_ms).collect();
            assert_eq!(told, [NOW_MS + 1, NOW_MS]);
        }
        // Once the directory is older than the clock's step it is remembered; a new version changes it.
        std::thread::sleep(std::time::Duration::from_millis(60));
        assert_eq!(shelf.of(&folder, &path).expect("listed").len(), 2);
        keep(&dir, &folder, &path, NOW_MS + 2);
        assert_eq!(shelf.of(&folder, &path).expect("listed").len(), 3);
    }

    #[test]
    fn a_content_is_found_among_the_versions_of_its_path_only() {
        let (dir, folder) = folder();
        let path = RelPath::new("a").expect("valid");
        keep(&dir, &folder, &path, NOW_MS);
        let list = crate::wire::chunker::chunks_of(b"old");
        let sought = Sought { content: list.id(), bytes: 3, mtimes: Vec::new() };
        let mut shelf = Shelf::default();
        let (found, read) = shelf.find(&folder, &path, &sought).expect("kept");
        assert_eq!((found.taken_ms, read), (NOW_MS, list));
        assert!(shelf.find(&folder, &RelPath::new("b").expect("valid"), &sought).is_none());
        let other = Sought { content: crate::wire::chunker::chunks_of(b"new").id(), ..sought };
        assert!(shelf.find(&folder, &path, &other).is_none());
    }

    #[test]
    fn no_name_leads_to_the_versions_of_another_path() {
        let (dir, folder) = folder();
        let secret = RelPath::new(format!("secret/{}", "n".repeat(250))).expect("valid");
        keep(&dir, &folder, &secret, NOW_MS);
        let twin = RelPath::new(flat_name(&secret)).expect("valid");
        let mut shelf = Shelf::default();
        assert_eq!(shelf.of(&folder, &secret).expect("listed").len(), 1);
        assert_eq!(shelf.of(&folder, &twin).expect("listed").len(), 0);
        keep(&dir, &folder, &twin, NOW_MS);
        assert_eq!(shelf.of(&folder, &secret).expect("listed").len(), 1);
        assert_eq!(shelf.of(&folder, &twin).expect("listed").len(), 1);
    }

    #[test]
    fn old_versions_go_and_young_ones_stay() {
        let (dir, folder) = folder();
        keep(&dir, &folder, &RelPath::new("a/b/old").expect("valid"), NOW_MS - 1000);
        let young = keep(&dir, &folder, &RelPath::new("a/young").expect("valid"), NOW_MS);

        let mut shown = Vec::new();
        let pruned = prune(&folder, &mut |path, versions| {
            shown.push((path.map(ToString::to_string), versions.len()));
            versions.iter().map(|version| version.taken_ms < NOW_MS).collect()
        });
        let pruned = pruned.expect("prunes");

        shown.sort();
        assert_eq!(shown, [(Some("a/b/old".into()), 1), (Some("a/young".into()), 1)]);
        assert_eq!(pruned, Pruned { files: 1, bytes: 3 });
        assert!(dir.path().join(young).exists());
        assert!(!dir.path().join(".lanyard/versions/a/b").exists());
    }
}
