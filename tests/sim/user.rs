//! The person at one machine: edits at any moment, with what is on the disk before their eyes. Names are few, so that
//! people meet.

use std::collections::BTreeSet;

use lanyard::base::{FileTime, RelPath};

use crate::disk::{Body, Disk};
use crate::large;
use crate::oracle::Oracle;
use crate::rng::Rng;

const DIRS: [&str; 5] = ["", "d", "d/e", "d/e/f", "g"];
const NAMES: [&str; 5] = ["a", "b.txt", "c.odt", "d", "g"];
/// How names of conflict copies look to a person.
pub(crate) const COPY_MARK: &str = " (conflict ";

/// A person's state: what they could bring back.
#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    pub(crate) saves: u64,
    /// Some of what is saved has several chunks.
    saves_large: bool,
    trash: Vec<(RelPath, Vec<u8>)>,
    last: Option<RelPath>,
    /// The node of this machine has not looked at everything since its index was made or put back: what equals a deleted file is
    /// taken for that old file, so nobody brings one back.
    pub(crate) is_anew: bool,
    /// The power of this machine failed and its node has not looked at everything since: a file that is missing may have
    /// been taken back, so it comes again.
    pub(crate) is_after_cut: bool,
    /// Names whose conflict this person had a hand in. The entry that says so may come after a later save.
    decided: BTreeSet<RelPath>,
}

impl User {
    /// Whether this person had a hand in the conflict of a name.
    pub(crate) fn has_decided(&self, path: &RelPath) -> bool {
        self.decided.contains(path)
    }

    pub(crate) fn new(saves_large: bool) -> Self {
        Self { saves_large, ..Self::default() }
    }
}

/// What one person did.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    pub(crate) text: String,
    pub(crate) paths: Vec<RelPath>,
}

/// Everything a deed needs.
pub(crate) struct Desk<'a> {
    pub(crate) node: usize,
    pub(crate) disk: &'a mut Disk,
    pub(crate) user: &'a mut User,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) rng: &'a mut Rng,
}

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("a valid path")
}

pub(crate) fn is_copy(path: &RelPath) -> bool {
    path.name().is_some_and(|name| String::from_utf8_lossy(name).contains(COPY_MARK))
}

/// The name whose conflict copy this is.
pub(crate) fn owner(copy: &RelPath) -> Option<RelPath> {
    let text = copy.to_string();
    let start = text.rfind(COPY_MARK)?;
    let end = start + text[start..].find(')')? + 1;
    RelPath::new(text[..start].to_string() + &text[end..]).ok()
}

impl Desk<'_> {
    /// Does something, if the chosen thing is possible.
    pub(crate) fn act(&mut self) -> Option<Deed> {
        let copies: Vec<RelPath> = self.disk.paths().into_iter().filter(is_copy).collect();
        if !copies.is_empty() && self.rng.percent(25) {
            let copy = self.rng.pick(&copies)?.clone();
            return self.touch_copy(copy);
        }
        match self.rng.below(100) {
            0..18 => {
                let path = self.any_name();
                self.save(&path, "save")
            }
            18..40 => {
                let path = self.a_file()?;
                self.save(&path, "edit")
            }
            40..45 => self.sly_edit(),
            45..49 => self.touch(),
            49..53 => self.chmod(),
            53..64 => {
                let path = self.a_file()?;
                self.delete(&path)
            }
            64..67 => {
                let dir = self.a_dir()?;
                self.delete(&dir)
            }
            67..76 => {
                let (from, to) = (self.a_file()?, self.any_name());
                self.rename(&from, &to)
            }
            76..80 => {
                let (from, to) = (self.a_dir()?, self.any_name());
                self.rename(&from, &to)
            }
            80..86 => self.mkdir(),
            86..89 => self.swap_kind(),
            89..93 => self.link(),
            93..96 => self.restore(),
            _ => self.same_bytes(),
        }
    }

    fn any_name(&mut self) -> RelPath {
        let dir = DIRS[self.rng.below(DIRS.len())];
        let name = NAMES[self.rng.below(NAMES.len())];
        path(&if dir.is_empty() { name.to_string() } else { format!("{dir}/{name}") })
    }

    fn a_file(&mut self) -> Option<RelPath> {
        let files: Vec<RelPath> = self.disk.paths().into_iter().filter(|p| self.disk.file(p).is_some()).collect();
        self.rng.pick(&files).cloned()
    }

    fn a_dir(&mut self) -> Option<RelPath> {
        let dirs: Vec<RelPath> = self.disk.paths().into_iter().filter(|p| self.disk.is_dir(p)).collect();
        self.rng.pick(&dirs).cloned()
    }

    fn fresh(&mut self) -> Vec<u8> {
        self.user.saves += 1;
        let own = format!("n{}s{:03}", self.node, self.user.saves);
        if self.user.saves_large && self.rng.percent(20) { large::file(&own, self.node) } else { own.into_bytes() }
    }

    pub(crate) fn deed(&self, text: String, paths: &[&RelPath]) -> Option<Deed> {
        Some(Deed { text: format!("user {} {text}", self.node), paths: paths.iter().map(|p| (*p).clone()).collect() })
    }

    /// Whoever touches a name that has conflict copies takes a decision on all of them.
    fn decide_on(&mut self, path: &RelPath) {
        let family = owner(path).unwrap_or_else(|| path.clone());
        if is_copy(path) {
            self.user.decided.insert(family.clone());
        }
        for (other, item) in self.disk.walk(&RelPath::root()) {
            if is_copy(&other) && owner(&other).as_ref() == Some(&family) {
                self.oracle.renewed(&item.body);
                if let Some(named) = self.disk.item(&family) {
                    self.oracle.renewed(&named.body);
                }
            }
        }
    }

    /// All at or below a name is thrown away.
    fn discard(&mut self, path: &RelPath) {
        for (gone, item) in self.disk.walk(path) {
            self.decide_on(&gone);
            self.oracle.discarded(self.node, &item.body);
            if self.user.is_after_cut {
                self.oracle.renewed(&item.body);
            }
            if let Body::File(bytes) = item.body {
                self.user.trash.push((gone, bytes));
            }
        }
    }

    /// Something else takes the name.
    fn replace(&mut self, path: &RelPath) {
        if let Some(item) = self.disk.item(path) {
            self.oracle.replaced(&item.body);
        }
        self.discard(path);
    }

    /// All at or below a name is kept and announced anew.
    fn carry(&mut self, path: &RelPath) {
        for (kept, item) in self.disk.walk(path) {
            self.decide_on(&kept);
            self.oracle.renewed(&item.body);
        }
    }

    pub(crate) fn write(&mut self, path: &RelPath, bytes: Vec<u8>) -> bool {
        if !self.disk.has_room(path) || self.disk.is_dir(path) || (self.disk.calls.full && self.rng.percent(70)) {
            return false;
        }
        self.replace(path);
        self.oracle.saved(self.node, &bytes);
        let in_place = self.rng.percent(50);
        let mode = if self.rng.percent(80) { 0o644 } else { 0o600 };
        let body = Body::File(bytes);
        if self.user.decided.contains(path) {
            self.oracle.renewed(&body);
        }
        self.user.last = Some(path.clone());
        self.disk.put(path, body, mode, in_place);
        if self.rng.percent(60) {
            self.disk.sync(path);
        }
        true
    }

    pub(crate) fn save(&mut self, path: &RelPath, verb: &str) -> Option<Deed> {
        let bytes = self.fresh();
        let text = format!("{verb} {path} = {}", large::text(&bytes));
        if self.write(path, bytes) { self.deed(text, &[path]) } else { None }
    }

    /// An edit of equal length that sets the modification time back.
    fn sly_edit(&mut self) -> Option<Deed> {
        let path = self.a_file()?;
        let before = self.disk.item(&path)?.info;
        let deed = self.save(&path, "slyly edit")?;
        self.disk.touch(&path, before.mtime);
        Some(deed)
    }

    /// Another save into the file that was saved last.
    pub(crate) fn save_again(&mut self) -> Option<Deed> {
        let path = self.user.last.clone().filter(|path| self.disk.file(path).is_some())?;
        self.save(&path, "save again")
    }

    fn touch(&mut self) -> Option<Deed> {
        let path = self.a_file()?;
        self.carry(&path);
        let secs = 1_000_000_000 + i64::try_from(self.rng.below(1_000_000_000)).expect("small");
        let nanos = u32::try_from(self.rng.below(1_000_000_000)).expect("small");
        self.disk.touch(&path, FileTime { secs, nanos });
        self.deed(format!("touch {path}"), &[&path])
    }

    fn chmod(&mut self) -> Option<Deed> {
        let paths = self.disk.paths();
        let path = self.rng.pick(&paths)?.clone();
        if let Some(item) = self.disk.item(&path) {
            self.decide_on(&path);
            self.oracle.renewed(&item.body);
        }
        let mode = [0o755, 0o700, 0o644, 0o600][self.rng.below(4)];
        self.disk.chmod(&path, mode);
        self.deed(format!("chmod {path} {mode:o}"), &[&path])
    }

    pub(crate) fn delete(&mut self, path: &RelPath) -> Option<Deed> {
        self.discard(path);
        self.disk.remove(path);
        self.deed(format!("delete {path}"), &[path])
    }

    pub(crate) fn rename(&mut self, from: &RelPath, to: &RelPath) -> Option<Deed> {
        let possible = self.disk.has_room(to)
            && !to.starts_with(from)
            && !from.starts_with(to)
            && !self.disk.has_below(to)
            && (self.disk.item(to).is_none() || self.disk.is_dir(from) == self.disk.is_dir(to));
        if !possible {
            return None;
        }
        self.replace(to);
        self.carry(from);
        self.disk.rename(from, to);
        self.deed(format!("rename {from} -> {to}"), &[from, to])
    }

    fn mkdir(&mut self) -> Option<Deed> {
        let path = self.any_name();
        if self.disk.item(&path).is_some() || !self.disk.has_room(&path) {
            return None;
        }
        self.disk.put(&path, Body::Dir, 0o755, false);
        self.deed(format!("mkdir {path}"), &[&path])
    }

    fn swap_kind(&mut self) -> Option<Deed> {
        if self.disk.calls.full {
            return None;
        }
        if self.rng.percent(50) {
            let path = self.a_file()?;
            self.replace(&path);
            self.disk.remove(&path);
            self.disk.put(&path, Body::Dir, 0o755, false);
            return self.deed(format!("replace file {path} by a directory"), &[&path]);
        }
        let path = self.a_dir()?;
        self.discard(&path);
        self.disk.remove(&path);
        self.save(&path, "replace directory")
    }

    fn link(&mut self) -> Option<Deed> {
        let path = self.any_name();
        if !self.disk.has_room(&path) || self.disk.is_dir(&path) {
            return None;
        }
        self.replace(&path);
        let target = ["a", "../b.txt", "/etc/passwd"][self.rng.below(3)];
        self.disk.put(&path, Body::Link(target.as_bytes().to_vec()), 0, false);
        self.deed(format!("link {path} -> {target}"), &[&path])
    }

    /// Brings back something thrown away, in its place.
    fn restore(&mut self) -> Option<Deed> {
        let (path, bytes) = self.rng.pick(&self.user.trash)?.clone();
        if self.disk.item(&path).is_some() || is_copy(&path) || self.user.is_anew {
            return None;
        }
        let text = format!("restore {path} = {}", large::text(&bytes));
        if self.write(&path, bytes) { self.deed(text, &[&path]) } else { None }
    }

    /// The same bytes that somebody else may save too.
    fn same_bytes(&mut self) -> Option<Deed> {
        let path = self.any_name();
        let bytes = format!("same{}", self.rng.below(3)).into_bytes();
        let text = format!("save {path} = {}", large::text(&bytes));
        if self.write(&path, bytes) { self.deed(text, &[&path]) } else { None }
    }

    fn touch_copy(&mut self, copy: RelPath) -> Option<Deed> {
        let named = owner(&copy)?;
        match self.rng.below(5) {
            0 => self.delete(&copy),
            1 if !self.disk.is_dir(&copy) => self.save(&copy, "edit copy"),
            2 => {
                let to = self.any_name();
                self.rename(&copy, &to)
            }
            3 => self.rename(&copy, &named),
            _ => self.delete(&named),
        }
    }
}
