//! The real disk: Linux calls relative to the handle of the folder's root.
//!
//! Confinement is the kernel's: `openat2(2)` resolves every place with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
//! RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV`, so a directory swapped for a symbolic link gives `ELOOP`, a mount gives
//! `EXDEV`. Two fallbacks, each taken for good once the kernel or file system says it lacks the call:
//! - without `openat2` (before 5.6, or filtered) a place is opened name by name with `O_NOFOLLOW`;
//! - without `renameat2` flags (some network and FUSE file systems) `NoReplace` is `linkat` + `unlinkat`, which is
//!   atomic too, or, without hard links, a look before the rename; `Exchange` is two renames, the other file aside
//!   first. A crash or a writer in between can then leave the name missing, never a content lost.

use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    self, Advice, AtFlags, FallocateFlags, FileType, Mode as Bits, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom,
    Statx, StatxAttributes, StatxFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::primitives::{Disk, DiskFile, Look, Make, Open, Place, Rename};
use crate::base::file::MODE_BITS;
use crate::base::{FileInfo, FileTime, Kind, Mode};
use crate::logic::sync::attributes::NAMESPACE;

/// Bytes of the buffer for directory entries: about 800 names a call. A guess; larger ones were no faster.
const LIST_BYTES: usize = 32 * 1024;
/// Longest path given to one call. Source: Linux `PATH_MAX` is 4096; a place in lanyard's directory may be longer.
const PIECE_BYTES_MAX: usize = 4000;
/// Tries while the tree is being renamed under us. Source: `openat2(2)` asks to retry `EAGAIN`; the number is a guess.
const TRIES_MAX: usize = 16;
/// Most bytes of all names, and of one value. Source: Linux `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`, 64 KiB each.
const XATTR_BYTES_MAX: usize = 64 * 1024;
/// Bytes of names that are made room for first. A guess: dozens of names.
const XATTR_NAMES_BYTES: usize = 1024;
/// Bits of a directory that replication leaves alone: setgid and sticky.
const KEPT_BITS: u32 = 0o3000;

/// A folder on a mounted file system.
#[derive(Debug)]
pub struct RealDisk {
    root: OwnedFd,
    device: (u32, u32),
    /// See `Disk::has_attributes`.
    has_attributes: bool,
    lacks_openat2: AtomicBool,
    lacks_rename_flags: AtomicBool,
}

/// A handle of the directory that holds a place.
enum Dir<'a> {
    Root(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

impl RealDisk {
    /// Opens the directory at `path` as a root. Symbolic links in `path` itself are followed: it is the operator's word.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Bits::empty())?;
        let stat = stat_fd(root.as_fd())?;
        let mut value = [0; 8];
        let asked = fs::fgetxattr(&root, "user.lanyard", &mut value[..]);
        Ok(Self {
            root,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            has_attributes: !matches!(asked, Err(Errno::OPNOTSUPP)),
            lacks_openat2: AtomicBool::new(false),
            lacks_rename_flags: AtomicBool::new(false),
        })
    }

    /// The same disk as a kernel and a file system without the newer calls would give it, for tests of the fallbacks.
    #[cfg(test)]
    pub(crate) fn open_without_newer_calls(path: &Path) -> io::Result<Self> {
        let disk = Self::open(path)?;
        disk.lacks_openat2.store(true, Ordering::Relaxed);
        disk.lacks_rename_flags.store(true, Ordering::Relaxed);
        Ok(disk)
    }

    fn open_at(&self, path: &[u8], flags: OFlags, bits: Bits) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if path.is_empty() {
            return fs::openat(&self.root, ".", flags, bits);
        }
        if self.lacks_openat2.load(Ordering::Relaxed) {
            return open_by_name(self.root.as_fd(), path, flags, bits);
        }
        match open_beneath(self.root.as_fd(), path, flags, bits) {
            Err(Errno::NOSYS) => {
                self.lacks_openat2.store(true, Ordering::Relaxed);
                open_by_name(self.root.as_fd(), path, flags, bits)
            }
            result => result,
        }
    }

    fn parent<'p>(&self, at: &'p Place) -> rustix::io::Result<(Dir<'_>, &'p [u8])> {
        let (parent, name) = at.split();
        if name.is_empty() {
            return Err(Errno::INVAL);
        }
        let dir = match parent {
            [] => Dir::Root(self.root.as_fd()),
            parent => Dir::Below(self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY, Bits::empty())?),
        };
        Ok((dir, name))
    }

    fn to_look(&self, stat: &Statx) -> Look {
        // A mount of the same file system has the same device number: newer kernels mark its root.
        if (stat.stx_dev_major, stat.stx_dev_minor) != self.device && to_kind(stat) == Some(Kind::Dir)
            || stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        {
            return Look::Foreign;
        }
        plain(stat)
    }

    fn rename_without_flags(&self, from: &Place, to: &Place, how: Rename) -> io::Result<()> {
        match how {
            Rename::NoReplace => self.rename_by_link(from, to),
            Rename::Exchange => {
                let aside = from.parent().below([from.split().1, b"~"].concat());
                self.rename_by_link(to, &aside)?;
                self.rename_by_link(from, to)?;
                self.rename_by_link(&aside, from)
            }
        }
    }

    fn rename_by_link(&self, from: &Place, to: &Place) -> io::Result<()> {
        let (old, old_name) = self.parent(from)?;
        let (new, new_name) = self.parent(to)?;
        match fs::linkat(&old, old_name, &new, new_name, AtFlags::empty()) {
            Ok(()) => Ok(fs::unlinkat(&old, old_name, AtFlags::empty())?),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                match fs::statat(&new, new_name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => Ok(fs::renameat(&old, old_name, &new, new_name)?),
                    Ok(_) => Err(Errno::EXIST.into()),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Disk for RealDisk {
    fn list(&self, dir: &Place, see: &mut dyn FnMut(&[u8], io::Result<Look>)) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = match self.open_at(dir.as_bytes(), flags | OFlags::NOATIME, Bits::empty()) {
            Err(Errno::PERM) => self.open_at(dir.as_bytes(), flags, Bits::empty())?,
            result => result?,
        };
        let mut buffer = vec![MaybeUninit::uninit(); LIST_BYTES];
        let mut names = RawDir::new(&fd, &mut buffer);
        while let Some(entry) = names.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match stat_at(fd.as_fd(), name) {
                Ok(stat) => see(name.to_bytes(), Ok(self.to_look(&stat))),
                Err(Errno::NOENT) => {}
                Err(error) => see(name.to_bytes(), Err(error.into())),
            }
        }
        Ok(())
    }

    fn look(&self, at: &Place) -> io::Result<Look> {
        if at.as_bytes().is_empty() {
            return Ok(plain(&stat_fd(self.root.as_fd())?));
        }
        let (dir, name) = self.parent(at)?;
        Ok(self.to_look(&stat_at(dir.as_fd(), name)?))
    }

    fn link_text(&self, at: &Place) -> io::Result<Vec<u8>> {
        let (dir, name) = self.parent(at)?;
        Ok(fs::readlinkat(&dir, name, Vec::new())?.into_bytes())
    }

    fn open(&self, at: &Place, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let path = at.as_bytes();
        let private = Bits::RUSR | Bits::WUSR;
        let fd = match how {
            Open::Read | Open::ReadAll => {
                // Without NONBLOCK a pipe put in the file's place would block the thread.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                let fd = match self.open_at(path, flags | OFlags::NOATIME, Bits::empty()) {
                    // Only the owner may leave the access time alone.
                    Err(Errno::PERM) => self.open_at(path, flags, Bits::empty())?,
                    result => result?,
                };
                if to_kind(&stat_fd(fd.as_fd())?) != Some(Kind::File) {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
                }
                if how == Open::ReadAll {
                    // A hint; reading works without it.
                    let _ = fs::fadvise(&fd, 0, None, Advice::Sequential);
                }
                fd
            }
            Open::Create => self.open_at(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, private)?,
            Open::Resume => self.open_at(path, OFlags::RDWR | OFlags::CREATE, private)?,
            Open::Attributes => match self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK, Bits::empty()) {
                Err(Errno::ACCESS) => self.open_at(path, OFlags::PATH, Bits::empty())?,
                result => result?,
            },
        };
        Ok(Box::new(RealFile { fd }))
    }

    fn rename(&self, from: &Place, to: &Place, how: Rename) -> io::Result<()> {
        if self.lacks_rename_flags.load(Ordering::Relaxed) {
            return self.rename_without_flags(from, to, how);
        }
        let flags = match how {
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        let (old, old_name) = self.parent(from)?;
        let (new, new_name) = self.parent(to)?;
        match fs::renameat_with(&old, old_name, &new, new_name, flags) {
            // INVAL also means a directory moved into itself, which no caller does.
            Err(Errno::INVAL | Errno::NOSYS) => {
                self.lacks_rename_flags.store(true, Ordering::Relaxed);
                self.rename_without_flags(from, to, how)
            }
            result => Ok(result?),
        }
    }

    fn make(&self, at: &Place, what: Make<'_>) -> io::Result<()> {
        let (dir, name) = self.parent(at)?;
        match what {
            Make::Dir(mode) => {
                fs::mkdirat(&dir, name, Bits::RWXU)?;
                // The process's umask took bits away; the mode is exact.
                self.open(at, Open::Attributes)?.set(mode, None)
            }
            Make::Symlink(text, mtime) => {
                fs::symlinkat(text, &dir, name)?;
                Ok(fs::utimensat(&dir, name, &times(Some(mtime)), AtFlags::SYMLINK_NOFOLLOW)?)
            }
        }
    }

    fn remove(&self, at: &Place, dir: bool) -> io::Result<()> {
        let (parent, name) = self.parent(at)?;
        Ok(fs::unlinkat(&parent, name, if dir { AtFlags::REMOVEDIR } else { AtFlags::empty() })?)
    }

    fn has_attributes(&self) -> bool {
        self.has_attributes
    }

    fn flush_all(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.root)?)
    }
}

/// An open file or directory; `O_PATH` only where reading it is not allowed.
struct RealFile {
    fd: OwnedFd,
}

impl DiskFile for RealFile {
    fn look(&self) -> io::Result<Look> {
        Ok(plain(&stat_fd(self.fd.as_fd())?))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match retry_on_intr(|| pread(&self.fd, &mut buffer[done..], offset + done as u64))? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match retry_on_intr(|| pwrite(&self.fd, &bytes[done..], offset + done as u64))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    fn set(&self, mode: Mode, mtime: Option<FileTime>) -> io::Result<()> {
        let stat = stat_fd(self.fd.as_fd())?;
        let mut bits = u32::from(mode & MODE_BITS);
        if to_kind(&stat) == Some(Kind::Dir) {
            bits |= u32::from(stat.stx_mode) & KEPT_BITS;
        }
        let wanted = Bits::from_raw_mode(bits);
        let times = times(mtime);
        let changes_mode = u32::from(stat.stx_mode) & 0o7777 != bits;
        match if changes_mode { fs::fchmod(&self.fd, wanted) } else { Ok(()) } {
            // An `O_PATH` handle: reach the same inode by its name in /proc, which no rename can divert.
            Err(Errno::BADF) => {
                let name = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
                fs::chmod(name.as_str(), wanted)?;
            }
            result => result?,
        }
        if mtime.is_some() {
            match fs::futimens(&self.fd, &times) {
                Err(Errno::BADF) => {
                    let name = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
                    fs::utimensat(fs::CWD, name.as_str(), &times, AtFlags::empty())?;
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        match retry_on_intr(|| fs::fallocate(&self.fd, FallocateFlags::KEEP_SIZE, 0, bytes)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let how = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE;
        Ok(retry_on_intr(|| fs::fallocate(&self.fd, how, offset, bytes))?)
    }

    fn start_writing(&self, offset: u64, bytes: u64) {
        // Linux starts writing a dirty range that is said not to be needed, without waiting, and keeps pages that are
        // being written; `sync_file_range(2)` would say it better, but the crate lacks it.
        let _ = fs::fadvise(&self.fd, offset, NonZeroU64::new(bytes), Advice::DontNeed);
    }

    fn written(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        match fs::seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(start) => Ok(Some((start, fs::seek(&self.fd, SeekFrom::Hole(start))?))),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn attributes(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut names = vec![0; XATTR_NAMES_BYTES];
        let length = match fs::flistxattr(&self.fd, &mut names[..]) {
            Err(Errno::RANGE) => {
                names.resize(XATTR_BYTES_MAX, 0);
                fs::flistxattr(&self.fd, &mut names[..])?
            }
            result => result?,
        };
        names.truncate(length);
        let (mut found, mut value) = (Vec::new(), Vec::new());
        for name in names.split(|byte| *byte == 0).filter(|name| name.starts_with(NAMESPACE)) {
            value.resize(XATTR_BYTES_MAX, 0);
            match fs::fgetxattr(&self.fd, name, &mut value[..]) {
                Ok(length) => found.push((name.to_vec(), value[..length].to_vec())),
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    fn set_attribute(&self, name: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let done = match value {
            Some(value) => fs::fsetxattr(&self.fd, name, value, XattrFlags::empty()),
            None => fs::fremovexattr(&self.fd, name),
        };
        Ok(done?)
    }

    fn owner(&self) -> io::Result<(u32, u32)> {
        let stat = stat_fd(self.fd.as_fd())?;
        Ok((stat.stx_uid, stat.stx_gid))
    }

    fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
        // What the kernel takes for no change.
        let is_none = |id: Option<u32>| id == Some(u32::MAX);
        if is_none(user) || is_none(group) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(fs::fchown(&self.fd, user.map(fs::Uid::from_raw), group.map(fs::Gid::from_raw))?)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fsync(&self.fd))?)
    }
}

fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, bits: Bits) -> rustix::io::Result<OwnedFd> {
    if path.len() > PIECE_BYTES_MAX
        && let Some(cut) = path[..PIECE_BYTES_MAX].iter().rposition(|b| *b == b'/')
    {
        let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let first = open_beneath(root, &path[..cut], dir, Bits::empty())?;
        return open_beneath(first.as_fd(), &path[cut + 1..], flags, bits);
    }
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES_MAX {
        result = fs::openat2(root, path, flags, bits, resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

fn open_by_name(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, bits: Bits) -> rustix::io::Result<OwnedFd> {
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut names = path.split(|b| *b == b'/').peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::XDEV);
        }
        let above = at.as_ref().map_or(root, AsFd::as_fd);
        if names.peek().is_none() {
            return fs::openat(above, name, flags, bits);
        }
        let next = fs::openat(above, name, dir, Bits::empty())?;
        at = Some(next);
    }
    Err(Errno::NOENT)
}

fn stat_at<P: rustix::path::Arg>(dir: BorrowedFd<'_>, name: P) -> rustix::io::Result<Statx> {
    fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)
}

fn stat_fd(fd: BorrowedFd<'_>) -> rustix::io::Result<Statx> {
    fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

fn to_kind(stat: &Statx) -> Option<Kind> {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Dir),
        FileType::Symlink => Some(Kind::Symlink),
        _ => None,
    }
}

fn plain(stat: &Statx) -> Look {
    let Some(kind) = to_kind(stat) else { return Look::Special };
    let time =
        |stamp: rustix::fs::StatxTimestamp| FileTime { secs: stamp.tv_sec, nanos: stamp.tv_nsec.min(999_999_999) };
    Look::Plain(FileInfo {
        kind,
        bytes: if kind == Kind::File { stat.stx_size } else { 0 },
        mode: if kind == Kind::Symlink { 0 } else { stat.stx_mode & MODE_BITS },
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        inode: stat.stx_ino,
    })
}

fn times(mtime: Option<FileTime>) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let last_modification =
        mtime.map_or(omit, |time| Timespec { tv_sec: time.secs, tv_nsec: time.nanos.min(999_999_999).into() });
    Timestamps { last_access: omit, last_modification }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::base::RelPath;

    fn place(path: &str) -> Place {
        Place::shared(&RelPath::new(path).expect("valid"))
    }

    /// The same disk with the newer calls and without them.
    fn both(root: &Path) -> [RealDisk; 2] {
        [RealDisk::open(root).expect("opens"), RealDisk::open_without_newer_calls(root).expect("opens")]
    }

    #[test]
    fn no_rename_replaces_and_an_exchange_swaps_with_and_without_the_newer_calls() {
        let dir = tempfile::tempdir().expect("a directory");
        for disk in both(dir.path()) {
            fs::write(dir.path().join("a"), "a").expect("written");
            fs::write(dir.path().join("b"), "b").expect("written");
            let taken = disk.rename(&place("a"), &place("b"), Rename::NoReplace).expect_err("taken");
            assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
            let missing = disk.rename(&place("a"), &place("c"), Rename::Exchange).expect_err("missing");
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);

            disk.rename(&place("a"), &place("b"), Rename::Exchange).expect("swaps");
            disk.rename(&place("a"), &place("c"), Rename::NoReplace).expect("renames");

            let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("readable");
            assert_eq!((read("b"), read("c")), ("a".to_string(), "b".to_string()));
            assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 2);
            fs::remove_file(dir.path().join("c")).expect("removed");
        }
    }

    #[test]
    fn no_call_follows_a_symlink_with_and_without_the_newer_calls() {
        let outside = tempfile::tempdir().expect("a directory");
        fs::write(outside.path().join("f"), "outside").expect("written");
        let dir = tempfile::tempdir().expect("a directory");
        symlink(outside.path(), dir.path().join("d")).expect("linked");
        symlink(outside.path().join("f"), dir.path().join("l")).expect("linked");
        fs::write(dir.path().join("own"), "own").expect("written");
        for disk in both(dir.path()) {
            for (at, how) in
                [("d/f", Open::Read), ("d/n", Open::Create), ("d/f", Open::Resume), ("d/f", Open::Attributes)]
            {
                assert!(disk.open(&place(at), how).is_err(), "{at} {how:?}");
            }
            for how in [Open::Read, Open::Resume, Open::Attributes] {
                assert!(disk.open(&place("l"), how).is_err(), "{how:?}");
            }
            assert!(disk.look(&place("d/f")).is_err());
            assert!(disk.list(&place("d"), &mut |_, _| {}).is_err());
            assert!(disk.remove(&place("d/f"), false).is_err());
            assert!(disk.make(&place("d/n"), Make::Dir(0o755)).is_err());
            assert!(disk.rename(&place("own"), &place("d/own"), Rename::NoReplace).is_err());
            assert!(disk.rename(&place("d/f"), &place("f"), Rename::NoReplace).is_err());
        }
        assert_eq!(fs::read_dir(outside.path()).expect("readable").count(), 1);
        assert!(dir.path().join("own").exists());
    }

    #[test]
    fn the_longest_place_is_reached_with_and_without_the_newer_calls() {
        let dir = tempfile::tempdir().expect("a directory");
        for disk in both(dir.path()) {
            let mut at = Place::own();
            let _ = disk.make(&at, Make::Dir(0o700));
            for _ in 0..20 {
                at = at.below("d".repeat(255));
                match disk.make(&at, Make::Dir(0o700)) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{error}"),
                    _ => {}
                }
            }
            assert!(at.as_bytes().len() > 5000);
            assert!(matches!(disk.look(&at), Ok(Look::Plain(info)) if info.kind == Kind::Dir));
        }
    }
}
