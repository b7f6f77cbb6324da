//! A disk that takes names for one, as those of Windows and macOS do: nothing goes under another's name.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use lanyard::base::{FolderId, RelPath, path::fold};
use lanyard::shell::disk::commit::{CommitOrder, Outcome, Put, commit};
use lanyard::shell::disk::primitives::{Disk, DiskFile, Look, Make, Open, Place, Rename};
use lanyard::shell::disk::real::RealDisk;
use lanyard::shell::disk::stage::stage_small;
use lanyard::shell::disk::{Folder, scan, twins};

use crate::path;

/// A real disk below calls that find a name by any of its spellings, and keep the one with which it was made.
struct Folding(RealDisk);

impl Folding {
    fn real(&self, at: &Place) -> Place {
        let key = |name: &[u8]| {
            let mut key = Vec::new();
            fold(name, &mut key);
            key
        };
        at.as_bytes().split(|b| *b == b'/').filter(|name| !name.is_empty()).fold(Place::root(), |dir, name| {
            let mut found = name.to_vec();
            // A directory that is not there lists nothing.
            let _ = self.0.list(&dir, &mut |listed, _| {
                if key(listed) == key(name) {
                    found = listed.to_vec();
                }
            });
            dir.below(found)
        })
    }
}

impl Disk for Folding {
    fn list(&self, dir: &Place, see: &mut dyn FnMut(&[u8], io::Result<Look>)) -> io::Result<()> {
        self.0.list(&self.real(dir), see)
    }
    fn look(&self, at: &Place) -> io::Result<Look> {
        self.0.look(&self.real(at))
    }
    fn link_text(&self, at: &Place) -> io::Result<Vec<u8>> {
        self.0.link_text(&self.real(at))
    }
    fn open(&self, at: &Place, how: Open) -> io::Result<Box<dyn DiskFile>> {
        self.0.open(&self.real(at), how)
    }
    fn rename(&self, from: &Place, to: &Place, how: Rename) -> io::Result<()> {
        self.0.rename(&self.real(from), &self.real(to), how)
    }
    fn make(&self, at: &Place, what: Make<'_>) -> io::Result<()> {
        self.0.make(&self.real(at), what)
    }
    fn remove(&self, at: &Place, dir: bool) -> io::Result<()> {
        self.0.remove(&self.real(at), dir)
    }
    fn flush_all(&self) -> io::Result<()> {
        self.0.flush_all()
    }
}

fn folding(root: &Path) -> Folder {
    let folder = Folder::over(root, Arc::new(Folding(RealDisk::open(root).expect("opens"))));
    folder.create_marker(FolderId([1; 32])).expect("marks");
    folder
}

fn twin(folder: &Folder, at: &str) -> Option<String> {
    twins::of(folder, &path(at)).expect("looked").map(|twin| String::from_utf8(twin).expect("text"))
}

#[test]
fn the_second_of_two_twins_is_known_for_what_it_is_and_never_put_over_the_first() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("Docs")).expect("a directory");
    fs::write(dir.path().join("Docs/a"), "a").expect("a file");
    fs::write(dir.path().join("Gr\u{fc}n"), "first").expect("a file");
    let folder = folding(dir.path());

    assert_eq!(twin(&folder, "gru\u{308}n").as_deref(), Some("Gr\u{fc}n"));
    assert_eq!(twin(&folder, "docs/new").as_deref(), Some("Docs"), "nor does it go into another directory");
    assert_eq!(twin(&folder, "Docs/A").as_deref(), Some("Docs/a"));
    for own in ["Gr\u{fc}n", "Docs/a", "Docs/new", "none/below"] {
        assert_eq!(twin(&folder, own), None, "{own}");
    }
    // What has another's name is not there.
    let info = |at: &str| scan::info(&folder, &path(at)).expect("looked");
    assert!(info("Gr\u{fc}n").is_some() && info("GR\u{dc}N").is_none() && info("docs/a").is_none());

    let staged = stage_small(&folder, b"second").expect("stages");
    let put = Put::File { staged, mode: 0o644, mtime: Default::default() };
    let order = CommitOrder::new(RelPath::new("GR\u{dc}N").expect("valid"), None, put);
    let outcome = commit(&folder, vec![order]).pop().expect("one outcome");
    assert!(matches!(outcome, Outcome::LocalChange { .. }), "{outcome:?}");
    assert_eq!(fs::read_to_string(dir.path().join("Gr\u{fc}n")).expect("readable"), "first");
}

#[test]
fn a_disk_that_tells_names_apart_has_no_twins() {
    let (dir, folder) = crate::folder();
    fs::write(dir.path().join("a"), "a").expect("a file");
    assert_eq!(twin(&folder, "A"), None);
    assert_eq!(fs::read_dir(dir.path().join(".lanyard/tmp")).expect("readable").count(), 0, "the probe is gone");
}
