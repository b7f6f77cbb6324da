//! The disk shell on a real file system: what is swapped in, what is kept, what stays out.

mod commit;
mod hooked;
mod twins;
mod watch;

use std::path::Path;

use lanyard::base::{FileInfo, FolderId, RelPath};
use lanyard::shell::disk::{Folder, scan};

/// A path that is known to be valid.
fn path(text: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(text).expect("valid")
}

/// A marked folder in a directory of its own.
fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(dir.path()).expect("opens");
    folder.create_marker(FolderId([1; 32])).expect("marks");
    (dir, folder)
}

/// What is at a path.
fn info(folder: &Folder, at: &str) -> Option<FileInfo> {
    scan::info(folder, &path(at)).expect("looked")
}

/// The contents of all files below a directory.
fn contents(dir: &Path) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable") {
        let at = entry.expect("an entry").path();
        let meta = at.symlink_metadata().expect("looked");
        if meta.is_dir() {
            out.extend(contents(&at));
        } else if meta.is_file() {
            out.push(std::fs::read(&at).expect("readable"));
        }
    }
    out
}
