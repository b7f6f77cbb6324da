//! Two nodes with one folder, a user who edits it, and a ledger that knows every content the user ever saved.
//!
//! The user saves whole files (written beside the folder, renamed into it), so that whatever else is seen under a name is
//! a fault of the product.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::lab::eventually;
use crate::node::{CONVERGE_MAX, Node};
use crate::tree::{self, Dice, Kind};

/// A number from the environment, or the default.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seed of this run, printed so that it can be repeated.
pub(crate) fn seed(test: &str) -> u64 {
    let seed = number("LANYARD_SEED", 1);
    println!("{test}: LANYARD_SEED={seed}");
    seed
}

/// Says aloud that a test cannot run here.
pub(crate) fn skip(why: &str) {
    // Straight to the descriptor: the test runner swallows what `eprintln!` prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Whether this runs as root with these programs; says aloud what is missing.
pub(crate) fn can(test: &str, root: bool, programs: &[&str]) -> bool {
    if root && !rustix::process::geteuid().is_root() {
        skip(&format!("{test}: needs root to mount a disk"));
        return false;
    }
    let found =
        |name: &&str| ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|dir| Path::new(dir).join(name).exists());
    match programs.iter().find(|name| !found(name)) {
        Some(missing) => {
            skip(&format!("{test}: {missing} is not installed"));
            false
        }
        None => true,
    }
}

/// Two members: the first shares `Shared`, the second receives it at the returned path.
pub(crate) fn pair<'lab>(a: &mut Node<'lab>, b: &mut Node<'lab>) -> PathBuf {
    let into = b.path("In");
    pair_at(a, b, &into)
}

/// The same, received below `into`.
pub(crate) fn pair_at<'lab>(a: &mut Node<'lab>, b: &mut Node<'lab>, into: &Path) -> PathBuf {
    a.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&[]);
    a.admit(b, &["--into", &into.display().to_string()]);
    eventually("the folder is received", CONVERGE_MAX, || {
        let path = b.folder("Shared")["path"].as_str().map(PathBuf::from);
        path.ok_or_else(|| "no path yet".to_owned())
    })
}

type Hash = [u8; 32];

/// What users saved: what should be there now, and everything that ever was.
#[derive(Default)]
pub(crate) struct Ledger {
    now: BTreeMap<String, Hash>,
    ever: BTreeMap<Hash, String>,
    saved: u64,
}

/// Shared with those who watch.
pub(crate) type Book = Arc<Mutex<Ledger>>;

fn locked(book: &Book) -> std::sync::MutexGuard<'_, Ledger> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One user at one folder.
pub(crate) struct User {
    pub(crate) book: Book,
    pub(crate) dice: Dice,
    /// Where files are written before they are renamed into the folder; on the same file system.
    aside: PathBuf,
}

impl User {
    pub(crate) fn new(book: &Book, seed: u64, aside: &Path) -> User {
        User { book: book.clone(), dice: Dice(seed), aside: aside.to_path_buf() }
    }

    /// Saves these bytes under a name, whole at once.
    pub(crate) fn save(&mut self, root: &Path, name: &str, bytes: &[u8]) {
        // A power cut may have taken it back.
        fs::create_dir_all(&self.aside).expect("a directory");
        let temporary = self.aside.join("unsaved");
        fs::write(&temporary, bytes).expect("room for a file");
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
        let mut ledger = locked(&self.book);
        let hash = *blake3::hash(bytes).as_bytes();
        ledger.ever.insert(hash, name.to_owned());
        ledger.now.insert(name.to_owned(), hash);
        ledger.saved += 1;
        drop(ledger);
        fs::rename(&temporary, &path).expect("a rename");
    }

    /// Saves bytes of this length that nobody saved before.
    pub(crate) fn save_some(&mut self, root: &Path, name: &str, bytes: u64) {
        let bytes = self.dice.bytes(bytes as usize);
        self.save(root, name, &bytes);
    }

    pub(crate) fn remove(&mut self, root: &Path, name: &str) {
        locked(&self.book).now.remove(name);
        fs::remove_file(root.join(name)).expect("a file that is there");
    }

    pub(crate) fn rename(&mut self, root: &Path, from: &str, to: &str) {
        let path = root.join(to);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
        let mut ledger = locked(&self.book);
        if let Some(hash) = ledger.now.remove(from) {
            ledger.now.insert(to.to_owned(), hash);
        }
        drop(ledger);
        fs::rename(root.join(from), path).expect("a file that is there");
    }

    /// A few edits of the kinds that people make: new, replaced, renamed and removed; small, of several chunks, large.
    /// No name is touched twice: what a user overwrites before it was told to anybody is lost by the user. What lies below
    /// `own` belongs to another user.
    pub(crate) fn edit(&mut self, root: &Path, round: u64) {
        let mut names: Vec<String> = locked(&self.book).now.keys().cloned().collect();
        names.retain(|name| !name.starts_with("own/"));
        let size = self.dice.between(1, 40 << 10);
        self.save_some(root, &format!("plans/{round}-a.odt"), size);
        let size = self.dice.between(64 << 10, 400 << 10);
        self.save_some(root, &format!("plans/{}/{round}-b.dwg", round % 3), size);
        if round.is_multiple_of(3) {
            let size = self.dice.between(1200 << 10, 2400 << 10);
            self.save_some(root, &format!("{round}-large.pdf"), size);
        }
        if let Some(name) = self.pick(&mut names) {
            let size = self.dice.between(0, 90 << 10);
            self.save_some(root, &name, size);
        }
        if let Some(name) = self.pick(&mut names) {
            self.rename(root, &name, &format!("moved/{round}"));
        }
        while names.len() > 12
            && let Some(name) = self.pick(&mut names)
        {
            self.remove(root, &name);
        }
    }

    fn pick(&mut self, names: &mut Vec<String>) -> Option<String> {
        let at = self.dice.roll() as usize;
        (!names.is_empty()).then(|| names.swap_remove(at % names.len()))
    }
}

/// Whether a tree's files are exactly what was saved last: nothing missing, resurrected, or in conflict.
pub(crate) fn is_current(book: &Book, root: &Path) -> Result<(), String> {
    let wanted = locked(book).now.clone();
    let names = |items: Vec<tree::Item>| -> Vec<String> {
        let files = items.into_iter().filter(|item| item.kind == Kind::File);
        files.map(|item| String::from_utf8_lossy(&item.path).into_owned()).collect()
    };
    let (there, wanted_names) = (names(tree::listing(root)), wanted.keys().cloned().collect::<Vec<_>>());
    if there != wanted_names {
        let lacks: Vec<_> = wanted_names.iter().filter(|name| !there.contains(name)).collect();
        let more: Vec<_> = there.iter().filter(|name| !wanted_names.contains(name)).collect();
        return Err(format!("{} lacks {lacks:?} and has {more:?} too many", root.display()));
    }
    for item in tree::snapshot(root).into_iter().filter(|item| item.kind == Kind::File) {
        let name = String::from_utf8_lossy(&item.path).into_owned();
        if wanted.get(&name) != Some(&item.hash) {
            return Err(format!("{name} in {} is not what was saved last ({} bytes)", root.display(), item.size));
        }
    }
    Ok(())
}

/// Whether every file that can be seen is a content that somebody saved, whole. What lies below `but` is not looked at.
pub(crate) fn is_whole(book: &Book, root: &Path, but: Option<&str>) -> Result<(), String> {
    let items = tree::snapshot(root);
    let ledger = locked(book);
    let other = |item: &&tree::Item| but.is_none_or(|but| !item.path.starts_with(but.as_bytes()));
    for item in items.iter().filter(|item| item.kind == Kind::File).filter(other) {
        if !ledger.ever.contains_key(&item.hash) {
            let name = item.path.escape_ascii();
            return Err(format!("{name} in {} has {} bytes that nobody saved", root.display(), item.size));
        }
    }
    Ok(())
}

/// Panics unless every content that was ever saved is in one of the folders: under a name, as a conflict copy, or among
/// the versions.
#[track_caller]
pub(crate) fn nothing_is_lost(book: &Book, roots: &[&Path]) -> u64 {
    let mut found = BTreeSet::new();
    for root in roots {
        for dir in [root.to_path_buf(), root.join(".lanyard/versions")] {
            found.extend(tree::snapshot(&dir).into_iter().filter(|item| item.kind == Kind::File).map(|item| item.hash));
        }
    }
    let ledger = locked(book);
    let lost: Vec<&String> =
        ledger.ever.iter().filter(|(hash, _)| !found.contains(*hash)).map(|(_, name)| name).collect();
    assert!(lost.is_empty(), "{} of {} contents are lost, last saved as {lost:?}", lost.len(), ledger.ever.len());
    ledger.ever.len() as u64
}

/// Looks at a folder again and again until dropped: every file seen under its name must be whole.
pub(crate) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(u64, Vec<String>)>>,
}

impl Watcher {
    pub(crate) fn over(book: &Book, root: &Path) -> Watcher {
        let (book, root, stop) = (book.clone(), root.to_path_buf(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut seen, mut faults, mut looks) = (BTreeSet::new(), Vec::new(), 0);
            while !stopped.load(Ordering::Relaxed) && faults.len() < 20 {
                looks += 1;
                for item in tree::listing(&root).into_iter().filter(|item| item.kind == Kind::File) {
                    let path = root.join(std::ffi::OsStr::new(&*String::from_utf8_lossy(&item.path)));
                    let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                    let this = (item.path.clone(), meta.ino(), meta.size(), meta.mtime_nsec(), meta.ctime_nsec());
                    if seen.contains(&this) {
                        continue;
                    }
                    // Whichever file the name leads to now has to be a whole one.
                    let Ok(bytes) = fs::read(&path) else { continue };
                    if !locked(&book).ever.contains_key(blake3::hash(&bytes).as_bytes()) {
                        faults.push(format!(
                            "{} was seen with {} bytes that nobody saved",
                            path.display(),
                            bytes.len()
                        ));
                    }
                    seen.insert(this);
                }
                thread::sleep(Duration::from_millis(5));
            }
            (looks, faults)
        });
        Watcher { stop, thread: Some(thread) }
    }

    /// Ends it; returns how often it looked, or panics with what it saw.
    #[track_caller]
    pub(crate) fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let (looks, faults) = self.thread.take().expect("finished once").join().expect("the watcher runs");
        assert!(faults.is_empty(), "half files were seen under their names: {faults:#?}");
        looks
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
