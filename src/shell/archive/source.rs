//! A folder as the library reads it: walked and read through the folder's confined handle, errors counted.
//!
//! Names come in the order of `RelPath`, below one directory with the folder's name, so that a restore by restic gives that
//! directory. `.lanyard` is left out, as are sockets, pipes, devices and other file systems mounted in the folder. What goes
//! away between the walk and the read was simply deleted; all else that cannot be read is trouble.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_channel::Receiver;
use rustic_core::jiff::Timestamp;
use rustic_core::repofile::{Metadata, Node, NodeType};
use rustic_core::{ErrorKind, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult};

use super::trouble::Trouble;
use crate::base::path::escape;
use crate::base::{FileInfo, FileTime, Kind, RelPath};
use crate::shell::disk::chunk::ReadError;
use crate::shell::disk::scan::{Seen, link_text, scan};
use crate::shell::disk::stream::FileStream;
use crate::shell::disk::{DiskError, Folder};
use crate::shell::rt;

/// Entries that the walk is ahead. A guess: enough that neither waits for the other.
const AHEAD_MAX: usize = 256;

/// See the module.
pub(super) struct Source {
    pub(super) folder: Folder,
    /// The one directory that holds all.
    pub(super) top: PathBuf,
    pub(super) trouble: Arc<Trouble>,
    pub(super) stop: Arc<AtomicBool>,
    /// Take files that change while they are read as they are read: better than nothing, once trying again did not help.
    pub(super) unsteady: bool,
}

/// A file that may be opened.
pub(super) struct Opening {
    folder: Folder,
    path: RelPath,
    info: FileInfo,
    trouble: Arc<Trouble>,
    stop: Arc<AtomicBool>,
    unsteady: bool,
}

/// A file that is read.
pub(super) struct Reading {
    stream: FileStream,
    opening: Opening,
    ended: bool,
}

/// What the walk meets.
pub(super) struct Entries(Receiver<ReadSourceEntry<Opening>>);

impl Iterator for Entries {
    type Item = RusticResult<ReadSourceEntry<Opening>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv_blocking().ok().map(Ok)
    }
}

impl ReadSource for Source {
    type Open = Opening;
    type Iter = Entries;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Entries {
        let (found, entries) = async_channel::bounded(AHEAD_MAX);
        let walk = Walk {
            folder: self.folder.clone(),
            top: self.top.clone(),
            trouble: self.trouble.clone(),
            stop: self.stop.clone(),
            unsteady: self.unsteady,
        };
        rt::thread("archive", move || {
            // Whoever reads has gone: nothing more is wanted.
            let top =
                Node::new_node(name(&walk.top), NodeType::Dir, Metadata { mode: Some(0o755), ..Default::default() });
            let send = |entry| match found.send_blocking(entry) {
                Ok(()) if !walk.stop.load(Ordering::Relaxed) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            };
            let _ = send(ReadSourceEntry { path: walk.top.clone(), node: top, open: None });
            let _ = scan(&walk.folder, &RelPath::root(), &mut |seen| match walk.entry(seen) {
                Some(entry) => send(entry),
                None => ControlFlow::Continue(()),
            });
        });
        Entries(entries)
    }
}

struct Walk {
    folder: Folder,
    top: PathBuf,
    trouble: Arc<Trouble>,
    stop: Arc<AtomicBool>,
    unsteady: bool,
}

impl Walk {
    fn entry(&self, seen: Seen) -> Option<ReadSourceEntry<Opening>> {
        let (path, info) = match seen {
            Seen::Entry { path, info } => (path, info),
            Seen::Unreadable { path, error } => {
                self.trouble.missed(path, reason(&error));
                return None;
            }
            Seen::BadName { dir, name, error } => {
                self.trouble.missed(dir, format!("the name '{}' in it cannot be shared: {error}", escape(&name)));
                return None;
            }
            Seen::Special { .. } | Seen::OtherFilesystem { .. } => return None,
        };
        let (kind, open) = match info.kind {
            Kind::Dir => (NodeType::Dir, None),
            Kind::File => (NodeType::File, Some(self.opening(path.clone(), info))),
            Kind::Symlink => match link_text(&self.folder, &path) {
                Ok(Some(text)) => (NodeType::from_link(Path::new(OsStr::from_bytes(&text))), None),
                Ok(None) => return None,
                Err(error) => {
                    self.trouble.missed(path, reason(&error));
                    return None;
                }
            },
        };
        let at = self.top.join(OsStr::from_bytes(path.as_bytes()));
        let node = Node::new_node(name(&at), kind, metadata(&info));
        Some(ReadSourceEntry { path: at, node, open })
    }

    fn opening(&self, path: RelPath, info: FileInfo) -> Opening {
        let Self { folder, trouble, stop, unsteady, .. } = self;
        Opening {
            folder: folder.clone(),
            path,
            info,
            trouble: trouble.clone(),
            stop: stop.clone(),
            unsteady: *unsteady,
        }
    }
}

fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn metadata(info: &FileInfo) -> Metadata {
    let bits = match info.kind {
        // restic's files carry Go's mode: permission bits, and for links all of them.
        Kind::Symlink => 0o777,
        Kind::File | Kind::Dir => u32::from(info.mode),
    };
    let mtime = time(info.mtime);
    Metadata {
        mode: Some(bits),
        mtime,
        atime: mtime,
        ctime: time(info.ctime),
        inode: info.inode,
        size: info.bytes,
        links: 1,
        ..Default::default()
    }
}

fn time(time: FileTime) -> Option<Timestamp> {
    Timestamp::new(time.secs, i32::try_from(time.nanos).ok()?).ok()
}

fn reason(error: &DiskError) -> String {
    error.cause().to_string()
}

impl ReadSourceOpen for Opening {
    type Reader = Reading;

    fn open(self) -> RusticResult<Reading> {
        let opened = match self.unsteady {
            true => FileStream::open_as_it_is(&self.folder, &self.path, &self.info),
            false => FileStream::open(&self.folder, &self.path, &self.info),
        };
        match opened {
            Ok(stream) => Ok(Reading { stream, opening: self, ended: false }),
            Err(error) => Err(self.fail(&error)),
        }
    }
}

impl Opening {
    fn fail(&self, error: &ReadError) -> Box<RusticError> {
        match error {
            ReadError::Gone => {}
            ReadError::Changed(_) => self.trouble.changed(self.path.clone(), "it changed while it was read"),
            ReadError::TooLarge => self.trouble.missed(self.path.clone(), error.to_string()),
            ReadError::Disk(error) => self.trouble.missed(self.path.clone(), reason(error)),
        }
        RusticError::new(ErrorKind::InputOutput, error.to_string())
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let opening = &self.opening;
        if opening.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the work was stopped"));
        }
        let read = self.stream.read(buffer).inspect_err(|error| {
            opening.trouble.missed(opening.path.clone(), error.to_string());
        })?;
        if read > 0 || buffer.is_empty() || self.ended {
            return Ok(read);
        }
        self.ended = true;
        match self.stream.check() {
            Ok(()) => Ok(0),
            Err(ReadError::Changed(_) | ReadError::Gone)
                if opening.unsteady && self.stream.offset() == opening.info.bytes =>
            {
                let why = "it changed while it was read: it is as it was read";
                opening.trouble.changed(opening.path.clone(), why);
                Ok(0)
            }
            Err(error) => Err(io::Error::other(opening.fail(&error))),
        }
    }
}
