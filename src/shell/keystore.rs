//! The node's secret key on disk: one text file that only its owner can read.
//!
//! Layout, three lines: `lanyard-key-1`; the 32-byte Ed25519 seed in lower-case base32 without padding; a checksum of
//! the seed, 8 letters of base32. Rules:
//! 1. the file is complete and 0600 from the moment its name exists (`O_TMPFILE` and `linkat`, else a temporary name);
//! 2. an existing file is never overwritten: a second key would be a second node;
//! 3. a key that others can read is refused, not repaired: it may already have been read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::SigningKey;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use zeroize::Zeroizing;

use crate::base::NodeId;

/// First line of a key file; the number is the version of the format.
const MAGIC: &str = "lanyard-key-1";
/// What every version of the format starts with.
const MAGIC_ANY: &str = "lanyard-key-";
/// Longest key file that is read. A valid one has 76 bytes.
const FILE_BYTES_MAX: u64 = 1024;

/// Why there is no key. The file on disk is as it was.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Others may read it.
    #[error(
        "the key file {} can be read by other users (mode {mode:o}); if nobody has read it, `chmod 600` it, else replace this node",
        path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error("the key file {} belongs to user {owner}, not to user {this}; run as its owner or `chown` it", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who this process is.
        this: u32,
    },
    /// It is damaged.
    #[error("the key file {} is damaged ({why}); restore it from a backup, or move it away to become a new node", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        why: &'static str,
    },
    /// A later version wrote it.
    #[error("the key file {} was written by a later version of lanyard ({version}); upgrade lanyard", path.display())]
    Future {
        /// Which file.
        path: PathBuf,
        /// The first line.
        version: String,
    },
    /// The system said no.
    #[error("cannot {action} the key file {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl KeyError {
    /// Whether a later lanyard wrote it.
    pub fn is_future(&self) -> bool {
        matches!(self, Self::Future { .. })
    }
}

/// The node's key, open.
pub struct Keystore {
    key: SigningKey,
    created: bool,
}

impl std::fmt::Debug for Keystore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keystore({:?})", self.node())
    }
}

impl Keystore {
    /// Reads the key at `path`; makes one from `seed` if there is none.
    pub fn open_or_create(path: &Path, seed: [u8; 32]) -> Result<Self, KeyError> {
        let seed = Zeroizing::new(seed);
        match Self::open(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        match create(path, &seed) {
            Ok(()) => Ok(Self { key: SigningKey::from_bytes(&seed), created: true }),
            // Another process was faster: its key counts.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::open(path),
            Err(source) => Err(KeyError::Io { action: "write", path: path.into(), source }),
        }
    }

    /// Reads the key at `path`.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let io = |action| move |source| KeyError::Io { action, path: path.into(), source };
        // NONBLOCK: a FIFO of that name must not hang the start.
        let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io("open"))?;
        let meta = file.metadata().map_err(io("examine"))?;
        if !meta.is_file() {
            return Err(KeyError::Corrupt { path: path.into(), why: "it is not a regular file" });
        }
        if meta.mode() & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.into(), mode: meta.mode() & 0o7777 });
        }
        let this = rustix::process::geteuid();
        if meta.uid() != this.as_raw() && !this.is_root() {
            return Err(KeyError::Foreign { path: path.into(), owner: meta.uid(), this: this.as_raw() });
        }
        let mut text = Zeroizing::new(String::new());
        // Read through the handle: what was checked is what is read.
        let length = Read::by_ref(&mut file).take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        match length {
            Ok(bytes) if bytes as u64 <= FILE_BYTES_MAX => parse(path, &text),
            Ok(_) => Err(KeyError::Corrupt { path: path.into(), why: "it is too long" }),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(KeyError::Corrupt { path: path.into(), why: "it is not text" })
            }
            Err(source) => Err(KeyError::Io { action: "read", path: path.into(), source }),
        }
    }

    /// Who this node is.
    pub fn node(&self) -> NodeId {
        NodeId(self.key.verifying_key().to_bytes())
    }

    /// The key, to sign with and for TLS.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Whether `open_or_create` has just made it.
    pub fn created(&self) -> bool {
        self.created
    }
}

fn parse(path: &Path, text: &str) -> Result<Keystore, KeyError> {
    let corrupt = |why| KeyError::Corrupt { path: path.into(), why };
    let mut lines = text.lines();
    let magic = lines.next().unwrap_or_default();
    if magic != MAGIC {
        let number = magic.strip_prefix(MAGIC_ANY).filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        return Err(match number {
            Some(_) => KeyError::Future { path: path.into(), version: magic.to_string() },
            None => corrupt("its first line is not that of a key"),
        });
    }
    let (Some(letters), Some(sum), None) = (lines.next(), lines.next(), lines.next()) else {
        return Err(corrupt("it does not have three lines"));
    };
    let upper = Zeroizing::new(letters.to_ascii_uppercase());
    let bytes = BASE32_NOPAD.decode(upper.as_bytes()).map(Zeroizing::new).map_err(|_| corrupt("a letter is wrong"))?;
    let seed: Zeroizing<[u8; 32]> =
        Zeroizing::new(bytes.as_slice().try_into().map_err(|_| corrupt("the key is too short or too long"))?);
    if sum != checksum(&seed) {
        return Err(corrupt("its checksum does not fit"));
    }
    Ok(Keystore { key: SigningKey::from_bytes(&seed), created: false })
}

fn format(seed: &[u8; 32]) -> Zeroizing<String> {
    let letters = Zeroizing::new(BASE32_NOPAD.encode(seed).to_ascii_lowercase());
    Zeroizing::new(format!("{MAGIC}\n{}\n{}\n", *letters, checksum(seed)))
}

fn checksum(seed: &[u8; 32]) -> String {
    let hash = blake3::derive_key("lanyard 1 key file checksum", seed);
    BASE32_NOPAD.encode(&hash[..5]).to_ascii_lowercase()
}

/// Fails with `AlreadyExists` if `path` exists.
fn create(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = format(seed);
    if !create_unnamed(directory, path, text.as_bytes())? {
        create_named(path, text.as_bytes())?;
    }
    File::open(directory)?.sync_all()
}

/// Writes a file without a name and links it. `false` if the file system cannot do that.
fn create_unnamed(directory: &Path, path: &Path, text: &[u8]) -> io::Result<bool> {
    let mode = Mode::RUSR | Mode::WUSR;
    let fd = match rustix::fs::openat(CWD, directory, OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC, mode) {
        Ok(fd) => fd,
        // What file systems without it answer: open(2).
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let mut file = File::from(fd);
    // The umask may have taken bits away; it cannot have added any.
    rustix::fs::fchmod(&file, mode)?;
    file.write_all(text)?;
    file.sync_all()?;
    let unnamed = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    match rustix::fs::linkat(CWD, &*unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(true),
        // Without /proc there is no way to name the file.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::XDEV) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes a file of a temporary name and links it to its own: a rename would overwrite.
fn create_named(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_os_string();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    // Left by a crash: never a key in use, as no name but this leads to it.
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(text).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&temporary, path));
    fs::remove_file(&temporary)?;
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("node.key");
        (dir, path)
    }

    fn write(path: &Path, text: &str) {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).expect("open");
        file.write_all(text.as_bytes()).expect("write");
    }

    #[test]
    fn a_key_is_made_once_and_stays() {
        let (_dir, path) = place();
        let made = Keystore::open_or_create(&path, [7; 32]).expect("made");
        let found = Keystore::open_or_create(&path, [8; 32]).expect("found");
        assert!(made.created() && !found.created());
        assert_eq!(made.node(), found.node());
        assert_eq!(fs::metadata(&path).expect("metadata").mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(path.parent().expect("parent")).expect("list").count(), 1);
    }

    #[test]
    fn the_way_without_unnamed_files_gives_the_same_and_never_overwrites() {
        let (_dir, path) = place();
        create_named(&path, format(&[7; 32]).as_bytes()).expect("made");
        let again = create_named(&path, format(&[8; 32]).as_bytes()).expect_err("exists");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let key = Keystore::open(&path).expect("opens");
        assert_eq!(key.key().to_bytes(), [7; 32]);
        assert_eq!(fs::read_dir(path.parent().expect("parent")).expect("list").count(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_what_to_do() {
        let (_dir, path) = place();
        Keystore::open_or_create(&path, [7; 32]).expect("made");
        for mode in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            let error = Keystore::open_or_create(&path, [8; 32]).expect_err("exposed").to_string();
            assert!(error.contains("chmod 600") && error.contains("node.key"), "{error}");
        }
    }

    #[test]
    fn every_single_damaged_byte_is_noticed() {
        let (_dir, path) = place();
        let good = format(&[7; 32]);
        for at in 0..good.len() {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
            let opened = Keystore::open(&path);
            // A final newline that is something else makes the checksum longer.
            assert!(opened.is_err(), "byte {at}");
        }
    }

    #[test]
    fn truncated_empty_binary_and_overlong_files_are_corrupt_and_named() {
        let (_dir, path) = place();
        let good = format(&[7; 32]);
        for bad in ["", "lanyard-key-1\n", "lanyard-key-", &good[..40], &format!("{}x\n", *good), &"a".repeat(5000)] {
            write(&path, bad);
            let error = Keystore::open(&path).expect_err("corrupt");
            assert!(matches!(error, KeyError::Corrupt { .. }), "{bad:?}: {error}");
            assert!(error.to_string().contains("node.key"));
        }
        fs::write(&path, [0xff, 0xfe, 0]).expect("write");
        assert!(matches!(Keystore::open(&path), Err(KeyError::Corrupt { .. })));
    }

    #[test]
    fn a_later_versions_key_asks_for_an_upgrade() {
        let (_dir, path) = place();
        write(&path, "lanyard-key-2\nsomething new\n");
        let error = Keystore::open_or_create(&path, [7; 32]).expect_err("future");
        assert!(matches!(error, KeyError::Future { .. }));
        assert!(error.to_string().contains("upgrade"));
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let (dir, _) = place();
        let error = Keystore::open_or_create(&dir.path().join("no/node.key"), [7; 32]).expect_err("no directory");
        assert!(error.to_string().contains("no/node.key"), "{error}");
    }
}
