//! What a path can be, without its content.

use serde::{Deserialize, Serialize};

/// Permission bits that travel: `rwxrwxrwx`. Setuid, setgid and sticky bits never do.
pub const MODE_BITS: u16 = 0o777;

/// The permission bits of a file or directory, within `MODE_BITS`.
pub type Mode = u16;

/// The permission bits in a directory that a group of people shares: the group may do what the owner may.
pub fn mode_for_group(mode: Mode) -> Mode {
    mode | (mode & 0o700) >> 3
}

/// What a path is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link; its target is text and is never followed.
    Symlink,
}

/// A file time as the file system keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct FileTime {
    /// Seconds since 1970-01-01 UTC, negative before.
    pub secs: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

impl FileTime {
    /// Milliseconds since 1970 UTC, 0 for earlier times.
    pub fn to_ms(self) -> u64 {
        u64::try_from(self.secs).unwrap_or(0).saturating_mul(1000).saturating_add(u64::from(self.nanos / 1_000_000))
    }
}

/// What the file system says of one path, without following a symlink.
///
/// Two looks that give the same values saw the same content, except within one tick of the clock: see
/// `FileInfo::may_change_unseen`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileInfo {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes; 0 for directories and symlinks.
    pub bytes: u64,
    /// Permission bits within `MODE_BITS`; 0 for symlinks.
    pub mode: Mode,
    /// Last change of the content.
    pub mtime: FileTime,
    /// Last change of content or attributes; no program can set it back.
    pub ctime: FileTime,
    /// Inode number.
    pub inode: u64,
}

/// Longest step of the clock that stamps files. Source: Linux `CONFIG_HZ=100`, the slowest in use, is 10 ms; twice that.
const STAMP_STEP_MS: u64 = 20;

impl FileInfo {
    /// Whether the file changed so shortly before `now_ms` (1970 UTC) that a further change could leave the same stamp.
    pub fn may_change_unseen(&self, now_ms: u64) -> bool {
        self.ctime.to_ms().saturating_add(STAMP_STEP_MS) >= now_ms
    }
}
