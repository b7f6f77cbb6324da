//! The seam to the file system: eight calls on a tree, eight on an open file and four on its
//! attributes, and nothing of a system in them.
//!
//! Everything else of the disk shell is written in these calls, so that a model disk can stand in for the real one
//! and stop, fail or lose power at each of them. Rules every implementation keeps:
//! 1. a place is resolved from the root of the folder; no symbolic link is ever followed and no mount crossed;
//! 2. `rename` is atomic as far as the file system can, and never replaces anything;
//! 3. what `flush` or `flush_all` returned for survives a power cut.

use std::fmt;
use std::io;

use crate::base::path::{RESERVED, escape};
use crate::base::{FileInfo, FileTime, Mode, RelPath};

/// A place below the root of a folder: a shared path, or one in lanyard's own directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Vec<u8>);

impl Place {
    /// The root of the folder.
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// Where a shared path lies.
    pub fn shared(path: &RelPath) -> Self {
        Self(path.as_bytes().to_vec())
    }

    /// Lanyard's own directory.
    pub fn own() -> Self {
        Self(RESERVED.to_vec())
    }

    /// The place one name below this one. The name is ours or came from `Disk::list`: one component, never `.` or `..`.
    pub fn below(&self, name: impl AsRef<[u8]>) -> Self {
        let name = name.as_ref();
        debug_assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/'));
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes)
    }

    /// The place with the components of `path` appended.
    pub fn below_all(&self, path: &RelPath) -> Self {
        path.components().fold(self.clone(), |place, name| place.below(name))
    }

    /// The directory that holds it; the root holds itself.
    pub fn parent(&self) -> Self {
        Self(self.split().0.to_vec())
    }

    /// The directory that holds it and its name there; the name is empty for the root.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(cut) => (&self.0[..cut], &self.0[cut + 1..]),
            None => (&[], &self.0),
        }
    }

    /// `/`-separated bytes below the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "the folder's root" } else { "" })?;
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escape(&self.0))
    }
}

/// What is at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// A file, directory or symbolic link.
    Plain(FileInfo),
    /// A socket, pipe or device.
    Special,
    /// The root of another file system mounted here.
    Foreign,
}

/// What an open file is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// Reading here and there. Anything but a regular file is refused.
    Read,
    /// Reading from the beginning to the end. Anything but a regular file is refused.
    ReadAll,
    /// Writing a new file, for the owner only; refused if something is there.
    Create,
    /// Writing, keeping what is there already; made for the owner only if nothing is.
    Resume,
    /// Mode, time and flushing of a file or directory.
    Attributes,
}

/// How to rename. There is deliberately no way to replace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rename {
    /// Fails with `AlreadyExists` if the new name is taken.
    NoReplace,
    /// Both names exist and change places.
    Exchange,
}

/// What to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Make<'a> {
    /// An empty directory with exactly these permission bits.
    Dir(Mode),
    /// A symbolic link with this text and time.
    Symlink(&'a [u8], FileTime),
}

/// Whether an error means that a place was not reached because a symbolic link or a mount is in the way.
pub fn leads_out(error: &io::Error) -> bool {
    // The standard library's name for ELOOP is not stable yet.
    let link = Some(rustix::io::Errno::LOOP.raw_os_error());
    error.kind() == io::ErrorKind::CrossesDevices || error.raw_os_error() == link
}

/// A tree of files. At most eight calls: what is added here must be modelled too.
pub trait Disk: Send + Sync {
    /// Tells name and look of everything in the directory `dir`, in any order. What vanishes meanwhile may be missing.
    fn list(&self, dir: &Place, see: &mut dyn FnMut(&[u8], io::Result<Look>)) -> io::Result<()>;

    /// What is at a place; `NotFound` if nothing is.
    fn look(&self, at: &Place) -> io::Result<Look>;

    /// The text of a symbolic link.
    fn link_text(&self, at: &Place) -> io::Result<Vec<u8>>;

    /// Opens a file.
    fn open(&self, at: &Place, how: Open) -> io::Result<Box<dyn DiskFile>>;

    /// Renames, atomically where the file system can.
    fn rename(&self, from: &Place, to: &Place, how: Rename) -> io::Result<()>;

    /// Makes a directory or symbolic link; `AlreadyExists` if something is there.
    fn make(&self, at: &Place, what: Make<'_>) -> io::Result<()>;

    /// Removes a name; a directory (`dir`) must be empty.
    fn remove(&self, at: &Place, dir: bool) -> io::Result<()>;

    /// Whether files can have extended attributes here. It is known, and takes no call.
    fn has_attributes(&self) -> bool {
        false
    }

    /// Makes everything written to this file system durable.
    fn flush_all(&self) -> io::Result<()>;
}

/// An open file or directory.
pub trait DiskFile: Send + Sync {
    /// What it is now, under whatever name.
    fn look(&self) -> io::Result<Look>;

    /// Fills `buffer` from `offset` on; fewer bytes only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Sets permission bits and time. A directory keeps its own setgid and sticky bits; no other special bit is set.
    fn set(&self, mode: Mode, mtime: Option<FileTime>) -> io::Result<()>;

    /// Reserves space for `bytes` in all without changing the length, where the file system can.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Makes a range a hole, which reads as zeros and takes no space, where the file system can. The length stays.
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()>;

    /// Starts writing a range to the disk without waiting for it. A hint.
    fn start_writing(&self, offset: u64, bytes: u64);

    /// The first range at or after `offset` that was ever written, as start and end; `None` behind the last.
    fn written(&self, offset: u64) -> io::Result<Option<(u64, u64)>>;

    /// Names and values of the extended attributes that its user may set; `Unsupported` where the file system has none.
    fn attributes(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sets an extended attribute, or removes it.
    fn set_attribute(&self, _name: &[u8], _value: Option<&[u8]>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The numbers of its user and group.
    fn owner(&self) -> io::Result<(u32, u32)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives it to another user or group.
    fn set_owner(&self, _user: Option<u32>, _group: Option<u32>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes content, mode, time and attributes durable; for a directory, the names in it.
    fn flush(&self) -> io::Result<()>;
}
