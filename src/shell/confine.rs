//! Landlock: a thread, and every thread that it starts, reaches only the places that were opened for it.
//!
//! Traps: a rule belongs to an inode, not to a name: a disk mounted over a directory later, or a directory put back under
//! the same name, is not open. What is open never grows; only another image of the program, started by a thread outside,
//! has other places. Kernels before 5.19 cannot permit renames between directories and are left alone.
//!
//! Sources: landlock(7); the kernel's `userspace-api/landlock`, "Filesystem flags".

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};

/// The rights known when this was written and tested; what older kernels do not know of them is left out.
const KNOWN: ABI = ABI::V5;
/// A thread of the main program's size. Source: the usual `ulimit -s`.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// The places that are open; every other one is closed. One that is not there is left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Open {
    /// Directories in which things are read, made, changed, renamed and removed.
    pub work: Vec<PathBuf>,
    /// The same, and sockets are made there.
    pub sockets: Vec<PathBuf>,
    /// Directories and files that are only read.
    pub read: Vec<PathBuf>,
    /// Files that are read and written, and neither made nor removed.
    pub write: Vec<PathBuf>,
}

/// Why a thread is not confined. It is as before, but may have given up the way to more rights by `execve`.
#[derive(Debug, thiserror::Error)]
pub enum Unconfined {
    /// The kernel has no Landlock, or one that is too old, or it was turned off at boot.
    #[error("this kernel has no Landlock that permits renames (Linux 5.19, and 'landlock' among its security modules)")]
    Lacking,
    /// A place could not be opened to be named.
    #[error("cannot open {}", path.display())]
    Place {
        /// Which.
        path: PathBuf,
        /// Why.
        source: PathFdError,
    },
    /// The kernel refused.
    #[error("the kernel refused")]
    Refused(#[from] RulesetError),
}

/// What a file may be opened for where things are only read. Nothing is ever executed.
fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

fn working() -> BitFlags<AccessFs> {
    use AccessFs as A;
    reading()
        | A::WriteFile
        | A::Truncate
        | A::MakeReg
        | A::MakeDir
        | A::MakeSym
        | A::RemoveFile
        | A::RemoveDir
        // Files are written aside and renamed into their directory.
        | A::Refer
}

/// Confines the calling thread, and all that it starts from now on, for good.
pub fn confine(open: &Open) -> Result<(), Unconfined> {
    let needed = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::Refer);
    let all = needed.map_err(|_| Unconfined::Lacking)?.set_compatibility(CompatLevel::BestEffort);
    let mut rules = all.handle_access(AccessFs::from_all(KNOWN))?.create()?;
    let rights = [
        (&open.work, working()),
        (&open.sockets, working() | AccessFs::MakeSock),
        (&open.read, reading()),
        (&open.write, AccessFs::ReadFile | AccessFs::WriteFile),
    ];
    for (path, right) in rights.iter().flat_map(|(paths, right)| paths.iter().map(move |path| (path, *right))) {
        let Some(place) = place(path)? else { continue };
        let right = if path.is_dir() { right } else { right & AccessFs::from_file(KNOWN) };
        rules = rules.add_rule(PathBeneath::new(place, right))?;
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(Unconfined::Lacking),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn place(path: &Path) -> Result<Option<PathFd>, Unconfined> {
    match PathFd::new(path) {
        Ok(place) => Ok(Some(place)),
        Err(PathFdError::OpenCall { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
        {
            Ok(None)
        }
        Err(source) => Err(Unconfined::Place { path: path.to_path_buf(), source }),
    }
}

/// Starts the thread that is to confine itself.
pub fn thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name("node".into()).stack_size(STACK_BYTES).spawn(work)
}

/// Replaces this process by the same program with the same arguments, and `name` in its environment set to `value`. It
/// keeps its number, and of what it has open only the standard streams. Returns only where that fails. The calling thread
/// must be outside: what comes is confined as it is.
pub fn start_anew(name: &str, value: &str) -> io::Error {
    let own = match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        // It was replaced meanwhile: what runs goes on.
        _ => PathBuf::from("/proc/self/exe"),
    };
    let mut args = std::env::args_os();
    let mut command = Command::new(own);
    if let Some(called) = args.next() {
        command.arg0(called);
    }
    command.args(args).env(name, value).exec()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What became of something tried by a confined thread.
    fn tried<T: Send + 'static>(open: Open, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let confined = thread(move || match confine(&open) {
            Ok(()) => Some(work()),
            Err(Unconfined::Lacking) => None,
            Err(error) => panic!("{error}"),
        });
        let done = confined.expect("a thread").join().expect("no panic");
        if done.is_none() {
            use std::io::Write;
            writeln!(io::stderr(), "SKIPPED: Landlock: this kernel has none that permits renames").expect("stderr");
        }
        done
    }

    fn is_denied<T>(result: io::Result<T>) -> bool {
        let denied =
            |error: io::Error| matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::CrossesDevices);
        result.err().is_some_and(denied)
    }

    #[test]
    fn a_confined_thread_works_where_it_may_and_nowhere_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mine, theirs) = (dir.path().join("mine"), dir.path().join("theirs"));
        fs::create_dir_all(mine.join("a")).expect("made");
        fs::create_dir(&theirs).expect("made");
        fs::write(theirs.join("id"), "secret").expect("written");
        fs::write(mine.join("letter"), "x").expect("written");
        std::os::unix::fs::symlink(theirs.join("id"), mine.join("way out")).expect("linked");
        let open = Open { work: vec![mine.clone()], ..Open::default() };
        tried(open, move || {
            fs::rename(mine.join("letter"), mine.join("a/letter")).expect("renames between its directories work");
            fs::create_dir(mine.join("b")).expect("made");
            fs::hard_link(mine.join("a/letter"), mine.join("b/letter")).expect("linked");
            assert!(is_denied(fs::read(theirs.join("id"))));
            assert!(is_denied(fs::read(mine.join("way out"))));
            assert!(is_denied(fs::write(theirs.join("new"), "x")));
            assert!(is_denied(fs::remove_file(theirs.join("id"))));
            assert!(is_denied(fs::rename(theirs.join("id"), mine.join("id"))));
            assert!(is_denied(fs::rename(mine.join("a/letter"), theirs.join("letter"))));
            assert!(is_denied(fs::hard_link(theirs.join("id"), mine.join("id"))));
            assert!(is_denied(std::os::unix::net::UnixListener::bind(mine.join("socket"))));
            // A thread that it starts is no way out.
            assert!(std::thread::spawn(move || is_denied(fs::read(theirs.join("id")))).join().expect("no panic"));
        });
    }

    #[test]
    fn what_is_only_read_is_not_changed_and_what_is_put_back_is_not_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let (read, work) = (dir.path().join("read"), dir.path().join("work"));
        fs::create_dir(&read).expect("made");
        fs::create_dir(&work).expect("made");
        fs::write(read.join("hosts"), "x").expect("written");
        let (replaced, kept) = (work.clone(), read.join("hosts"));
        let (ask, asked) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel();
        let open = Open { work: vec![work.clone()], read: vec![read], ..Open::default() };
        let outside = std::thread::spawn(move || {
            asked.recv().ok()?;
            fs::remove_dir(&work).expect("removed");
            fs::create_dir(&work).expect("put back");
            go.send(()).ok()
        });
        tried(open, move || {
            assert_eq!(fs::read(&kept).expect("readable"), b"x");
            assert!(is_denied(fs::write(&kept, "y")));
            assert!(fs::read_dir(&replaced).is_ok());
            ask.send(()).expect("heard");
            goes.recv().expect("put back");
            assert!(is_denied(fs::read_dir(&replaced)));
        });
        outside.join().expect("no panic");
    }
}
