//! Where a node keeps what is its own, and where its socket is found.
//!
//! In this order: `--home DIR` (or `LANYARD_HOME`) holds everything of one node; a service has systemd's
//! `STATE_DIRECTORY`, `CONFIGURATION_DIRECTORY` and `RUNTIME_DIRECTORY`; anyone else has the platform's directories.
//! Rules: what is made is open to its owner alone; one home has one node, held by a lock that ends with the process.
//!
//! Source: systemd.exec(5), "RuntimeDirectory="; XDG Base Directory Specification 0.8; unix(7) for the socket's length.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use directories::{ProjectDirs, UserDirs};
use rustix::fs::FlockOperation;

use crate::base::path::escape;
use crate::shell::disk::group;
use crate::wire::api::{Failure, PathText};

/// Longest path of a Unix socket: `sun_path` has 108 bytes with its final NUL. Source: unix(7).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// A process number has at most 10 digits.
const PID_DIGITS_MAX: usize = 10;
const SOCKET: &str = "lanyard.sock";
/// Where the service's unit puts the socket (`RuntimeDirectory=lanyard`).
const SERVICE_RUNTIME: &str = "/run/lanyard";

/// Whose node it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The one of `--home`.
    Home,
    /// The user's.
    User,
    /// The machine's, run by systemd.
    Service,
}

/// The places of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// Whose node it is.
    pub scope: Scope,
    /// The configuration file; it need not exist.
    pub config: PathBuf,
    /// Directory of the key, the index and the lock.
    pub state: PathBuf,
    /// The socket of the local API.
    pub socket: PathBuf,
    /// Directory under which folders are received where nothing else is said.
    pub receive_into: PathBuf,
}

/// Why the places of a node cannot be used. What was made up to then stays.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// There is no home directory to put anything into.
    #[error("this account has no home directory")]
    NoHome,
    /// A directory cannot be made or read.
    #[error("cannot use {}", escape(path.as_os_str().as_bytes()))]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory for the socket that somebody else made or can change.
    #[error("{} belongs to somebody else, or others may write there", escape(path.as_os_str().as_bytes()))]
    NotOwn {
        /// Which one.
        path: PathBuf,
    },
    /// Another node has the home.
    #[error("a node is already running on {}", escape(home.as_os_str().as_bytes()))]
    Taken {
        /// Which home.
        home: PathBuf,
        /// Its process, where it could be read.
        pid: Option<u32>,
    },
}

/// The hold on a home. It ends when this is dropped, and with the process, however that ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

/// What the process was told about places by its surroundings.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `STATE_DIRECTORY`, as systemd sets it.
    pub state: Option<OsString>,
    /// `CONFIGURATION_DIRECTORY`, as systemd sets it.
    pub configuration: Option<OsString>,
    /// `RUNTIME_DIRECTORY`, as systemd sets it.
    pub runtime: Option<OsString>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let read = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            state: read("STATE_DIRECTORY"),
            configuration: read("CONFIGURATION_DIRECTORY"),
            runtime: read("RUNTIME_DIRECTORY"),
        }
    }
}

impl Places {
    /// The places of the node that this process is to run. Makes nothing yet.
    pub fn of_node(home: Option<&Path>, around: &Surroundings) -> Result<Self, PlacesError> {
        if let Some(home) = home {
            return Self::of_home(home);
        }
        match (&around.state, &around.runtime) {
            (Some(state), Some(runtime)) => Ok(Self::of_service(state, around.configuration.as_ref(), runtime)),
            _ => Self::of_user(),
        }
    }

    /// The sockets on which the command line may find a node, first choice first.
    pub fn sockets(home: Option<&Path>) -> Result<Vec<PathBuf>, PlacesError> {
        if let Some(home) = home {
            return Ok(vec![Self::of_home(home)?.socket]);
        }
        let mut sockets = Vec::new();
        if let Some(dirs) = ProjectDirs::from("", "", "lanyard") {
            sockets.extend(dirs.runtime_dir().map(|dir| dir.join(SOCKET)));
            // A command run by cron or sudo has no XDG_RUNTIME_DIR; the node it looks for may have had one.
            sockets.push(login_runtime().join("lanyard").join(SOCKET));
            sockets.push(dirs.data_local_dir().join("run").join(SOCKET));
        }
        sockets.push(Path::new(SERVICE_RUNTIME).join(SOCKET));
        sockets.dedup();
        Ok(sockets)
    }

    /// Whether a node has these places that may only not answer yet: it starts, or starts anew.
    pub fn is_coming(home: Option<&Path>) -> bool {
        let lock = Self::of_node(home, &Surroundings::default()).ok().map(|places| places.state.join("lock"));
        let pid = lock.and_then(|lock| read_pid(&mut File::open(lock).ok()?));
        // A process that has ended has no program any more.
        let runs = pid.is_some_and(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok());
        // systemd keeps the directory while the service runs.
        runs || (home.is_none() && Path::new(SERVICE_RUNTIME).exists())
    }

    fn of_home(home: &Path) -> Result<Self, PlacesError> {
        let unusable = |source| PlacesError::Unusable { path: home.into(), source };
        let home = real(&std::path::absolute(home).map_err(unusable)?);
        Ok(Self {
            scope: Scope::Home,
            config: home.join("config.toml"),
            state: home.join("state"),
            socket: home_socket(&home),
            receive_into: home,
        })
    }

    fn of_service(state: &OsString, configuration: Option<&OsString>, runtime: &OsString) -> Self {
        let (state, runtime) = (first(state), first(runtime));
        Self {
            // A user's unit sets the same variables, but its node is that user's alone.
            scope: if runtime.starts_with("/run/user") { Scope::User } else { Scope::Service },
            config: configuration.map(first).unwrap_or_else(|| state.clone()).join("config.toml"),
            socket: runtime.join(SOCKET),
            receive_into: state.join("shared"),
            state: state.join("state"),
        }
    }

    /// The places of the machine's service, as its unit says.
    pub fn of_system_service() -> Self {
        Self::of_service(&"/var/lib/lanyard".into(), Some(&"/etc/lanyard".into()), &SERVICE_RUNTIME.into())
    }

    fn of_user() -> Result<Self, PlacesError> {
        let dirs = ProjectDirs::from("", "", "lanyard").ok_or(PlacesError::NoHome)?;
        let user = UserDirs::new().ok_or(PlacesError::NoHome)?;
        let runtime = match dirs.runtime_dir() {
            Some(dir) => dir.to_path_buf(),
            None => dirs.data_local_dir().join("run"),
        };
        Ok(Self {
            scope: Scope::User,
            config: dirs.config_dir().join("config.toml"),
            state: dirs.data_local_dir().join("state"),
            socket: runtime.join(SOCKET),
            receive_into: user.home_dir().join("Lanyard"),
        })
    }

    /// Where this node's things are, in one path for people.
    pub fn home(&self) -> &Path {
        self.state.parent().unwrap_or(&self.state)
    }

    /// The node's key.
    pub fn key(&self) -> PathBuf {
        self.state.join("key")
    }

    /// The index database.
    pub fn index(&self) -> PathBuf {
        self.state.join("index.redb")
    }

    /// Makes the directories that are missing: state and socket, for the owner alone.
    pub fn make(&self) -> Result<(), PlacesError> {
        make_private(&self.state)?;
        let runtime = self.socket.parent().unwrap_or(&self.state);
        if self.scope == Scope::Service {
            // systemd made the runtime directory, with the mode and group that the unit says.
            return self.make_shared();
        }
        make_private(runtime)?;
        if runtime != self.home() && !is_own(runtime)? {
            return Err(PlacesError::NotOwn { path: runtime.into() });
        }
        Ok(())
    }

    /// The place of the service's folders, where the people of its group work.
    fn make_shared(&self) -> Result<(), PlacesError> {
        let path = &self.receive_into;
        let unusable = |source| PlacesError::Unusable { path: path.clone(), source };
        match DirBuilder::new().mode(0o770).create(path) {
            Ok(()) => group::open_to_group(path).map_err(unusable),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(unusable(error)),
        }
    }

    /// Takes the home for this process. `make` comes before.
    pub fn lock(&self) -> Result<HomeLock, PlacesError> {
        let path = self.state.join("lock");
        let unusable = |source| PlacesError::Unusable { path: path.clone(), source };
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(unusable)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(PlacesError::Taken { home: self.home().into(), pid: read_pid(&mut file) });
            }
            Err(errno) => return Err(unusable(errno.into())),
        }
        // The number is for people, and for who waits for a node that starts: nothing but the lock itself decides. Written
        // over the one before, for somebody may just be reading.
        let line = format!("{:<PID_DIGITS_MAX$}\n", std::process::id());
        let written = file.rewind().and_then(|()| file.write_all(line.as_bytes()));
        written.and_then(|()| file.set_len(line.len() as u64)).map_err(unusable)?;
        Ok(HomeLock { _file: file })
    }
}

impl PlacesError {
    /// The failure that people read.
    pub fn to_failure(&self) -> Failure {
        let failure = Failure::failed(self.to_string());
        let cause = std::error::Error::source(self);
        let failure = cause.into_iter().fold(failure, |failure, cause| failure.because(cause));
        match self {
            Self::NoHome => failure.hint("say where: 'lanyard --home DIR ...'"),
            Self::Unusable { .. } => {
                failure.hint("check the path and its permissions, or choose another by --home DIR")
            }
            Self::NotOwn { path } => failure.hint(format!(
                "remove {} or make it yours alone (chmod 700), then start again",
                escape(path.as_os_str().as_bytes())
            )),
            Self::Taken { pid, .. } => {
                let who =
                    pid.map_or_else(|| "another process has it".to_string(), |pid| format!("process {pid} has it"));
                failure.why(who).hint(
                    "talk to it with 'lanyard status'; to run a second node on this machine, give it its own --home DIR",
                )
            }
        }
    }
}

/// The socket of a home; where the home's path is too long for one, in the user's runtime directory under its hash.
fn home_socket(home: &Path) -> PathBuf {
    let socket = home.join(SOCKET);
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return socket;
    }
    let hash = blake3::hash(home.as_os_str().as_bytes()).to_hex();
    let login = login_runtime();
    let runtime = match is_own(&login) {
        Ok(true) => login.join("lanyard"),
        _ => std::env::temp_dir().join(format!("lanyard-{}", rustix::process::geteuid().as_raw())),
    };
    runtime.join(format!("home-{}.sock", &hash[..16]))
}

/// A path without symlinks as far as it exists, so that a home is the same by whatever way it is named, and before
/// and after its first start.
pub(super) fn real(path: &Path) -> PathBuf {
    for existing in path.ancestors() {
        if let (Ok(found), Ok(rest)) = (fs::canonicalize(existing), path.strip_prefix(existing)) {
            return if rest.as_os_str().is_empty() { found } else { found.join(rest) };
        }
    }
    path.into()
}

/// The runtime directory that a login makes. Source: pam_systemd(8).
fn login_runtime() -> PathBuf {
    PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw()))
}

/// The first of the directories in one of systemd's variables, which `:` separates.
fn first(value: &OsString) -> PathBuf {
    let bytes = value.as_bytes();
    let end = bytes.iter().position(|b| *b == b':').unwrap_or(bytes.len());
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes[..end]))
}

fn make_private(path: &Path) -> Result<(), PlacesError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| PlacesError::Unusable { path: path.into(), source })
}

/// Whether a directory is this user's, and only this user may write in it.
fn is_own(path: &Path) -> Result<bool, PlacesError> {
    let found = fs::symlink_metadata(path).map_err(|source| PlacesError::Unusable { path: path.into(), source })?;
    Ok(found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// A path as the API has it, for the file system.
pub(super) fn to_path(text: &PathText) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&text.to_bytes()))
}

/// A path of the file system, for the API.
pub(super) fn to_text(path: &Path) -> PathText {
    PathText::from_bytes(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_home_is_below_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = fs::canonicalize(dir.path()).expect("real path");
        let places = Places::of_node(Some(&home), &Surroundings::default()).expect("places");
        for path in [&places.config, &places.state, &places.socket, &places.receive_into, &places.key()] {
            assert!(path.starts_with(&home), "{path:?}");
        }
        assert_eq!(places.home(), home);
        assert_eq!(Places::sockets(Some(&home)).expect("sockets"), [places.socket]);
    }

    #[test]
    fn a_home_with_a_long_path_has_a_socket_that_fits_and_that_the_command_line_finds() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().join("x".repeat(100));
        let before = Places::of_node(Some(&home), &Surroundings::default()).expect("places");
        before.make().expect("made");
        assert!(before.socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
        assert_eq!(Places::sockets(Some(&home)).expect("sockets"), [before.socket]);
    }

    #[test]
    fn a_service_has_the_directories_of_systemd() {
        let around = Surroundings {
            state: Some("/var/lib/lanyard:/var/lib/other".into()),
            configuration: Some("/etc/lanyard".into()),
            runtime: Some("/run/lanyard".into()),
        };
        let places = Places::of_node(None, &around).expect("places");
        assert_eq!(places.scope, Scope::Service);
        assert_eq!(places.config, Path::new("/etc/lanyard/config.toml"));
        assert_eq!(places.home(), Path::new("/var/lib/lanyard"));
        assert_eq!(places.receive_into, Path::new("/var/lib/lanyard/shared"));
        assert_eq!(places.socket, Path::new("/run/lanyard/lanyard.sock"));
        assert!(Places::sockets(None).expect("sockets").contains(&places.socket));
    }

    #[test]
    fn a_home_has_one_node() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::of_node(Some(dir.path()), &Surroundings::default()).expect("places");
        places.make().expect("made");
        let held = places.lock().expect("free");
        let refused = places.lock().expect_err("taken").to_failure();
        assert!(refused.what.contains(dir.path().to_str().expect("utf-8")), "{refused:?}");
        assert_eq!(refused.why, [format!("process {} has it", std::process::id())]);
        drop(held);
        places.lock().expect("free again");
    }

    #[test]
    fn what_is_made_is_for_the_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::of_node(Some(&dir.path().join("a/b")), &Surroundings::default()).expect("places");
        places.make().expect("made");
        assert_eq!(fs::metadata(&places.state).expect("made").mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(places.home()).expect("made").mode() & 0o777, 0o700);
    }

    #[test]
    fn a_home_that_is_a_file_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let places = Places::of_node(Some(file.path()), &Surroundings::default()).expect("places");
        let failure = places.make().expect_err("a file").to_failure();
        assert!(failure.what.contains(file.path().to_str().expect("utf-8")));
    }
}
