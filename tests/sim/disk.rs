//! The model disk of one node: names, inodes, stamps of a coarse clock, and what of it survives a power cut.
//!
//! It behaves like ext4 as far as a program can tell: writing in place keeps the inode, a rename keeps inode and
//! modification time and renews the change time, and two changes within one step of the clock leave one stamp. Names
//! and attributes are journaled in order, and any flush makes the whole journal durable; the bytes of a file are
//! durable when that file was flushed, and after a power cut before that it may be as before, empty or cut short.
//!
//! `calls.rs` puts the product's `Disk` trait over it; people change it directly.

use std::collections::BTreeMap;

use lanyard::base::path::RESERVED;
use lanyard::base::{FileInfo, FileTime, Kind, Mode, RelPath};

use crate::calls::Calls;
use crate::rng::Rng;

/// Step of the clock that stamps files. Source: Linux `CONFIG_HZ=250`.
const STAMP_STEP_MS: u64 = 4;

/// What is under a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Body {
    File(Vec<u8>),
    Dir,
    Link(Vec<u8>),
}

impl Body {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Dir => Kind::Dir,
            Self::Link(_) => Kind::Symlink,
        }
    }
}

/// One name with what is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    pub(crate) info: FileInfo,
    pub(crate) body: Body,
}

/// A tree without stamps: what must be equal on all nodes.
pub(crate) type Tree = BTreeMap<RelPath, (Body, Mode, FileTime)>;

/// Who changed something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    User,
    Lanyard,
}

/// What has a number on the disk, under whatever names.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub(crate) body: Body,
    pub(crate) mode: Mode,
    pub(crate) mtime: FileTime,
    ctime: FileTime,
    /// The bytes that a power cut leaves; `None`: none were ever flushed.
    safe: Option<Vec<u8>>,
    /// Who wrote the bytes last.
    by: By,
    /// People could see it under a name of theirs.
    was_seen: bool,
    /// A flush failed: what it was for is lost, and a later flush says nothing of it.
    pub(crate) dropped: bool,
}

impl Inode {
    /// Whether it has bytes that a person wrote.
    pub(crate) fn is_somebodys(&self) -> bool {
        self.was_seen && self.by == By::User
    }
}

/// One step of the journal, with what takes it back.
#[derive(Clone, Debug)]
struct Step {
    by: By,
    names: Vec<(Vec<u8>, Option<u64>)>,
    set: Option<(u64, Mode, FileTime)>,
}

/// What a power cut did to what people had saved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    /// Contents that somebody saved and that may be gone, or that are back.
    pub(crate) unsure: Vec<Vec<u8>>,
    /// Bytes that nobody saved and that lie under a name that somebody was writing.
    pub(crate) torn: Vec<Vec<u8>>,
    /// A file that lanyard put in place is not whole any more.
    pub(crate) half: Option<String>,
    /// Steps of the journal and contents that were forgotten.
    pub(crate) forgotten: u64,
}

#[derive(Debug)]
pub(crate) struct Disk {
    /// Names by their keys: `/` is NUL, so that a directory comes before what is in it.
    pub(crate) names: BTreeMap<Vec<u8>, u64>,
    pub(crate) inodes: BTreeMap<u64, Inode>,
    last: u64,
    journal: Vec<Step>,
    /// The clock of the machine.
    pub(crate) now_ms: u64,
    /// What goes wrong in calls of lanyard.
    pub(crate) calls: Calls,
}

pub(crate) fn stamp(now_ms: u64) -> FileTime {
    let ms = now_ms - now_ms % STAMP_STEP_MS;
    FileTime { secs: i64::try_from(ms / 1000).expect("a time of this age"), nanos: (ms % 1000) as u32 * 1_000_000 }
}

/// Whether a key lies in lanyard's own directory.
pub(crate) fn is_own(key: &[u8]) -> bool {
    key.strip_prefix(RESERVED).is_some_and(|rest| rest.is_empty() || rest[0] == 0)
}

fn lies_below(key: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || key.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&0))
}

impl Disk {
    pub(crate) fn new(rng: Rng) -> Self {
        let (names, inodes) = (BTreeMap::new(), BTreeMap::new());
        Self { names, inodes, last: 0, journal: Vec::new(), now_ms: 0, calls: Calls::new(rng) }
    }

    pub(crate) fn inode(&self, key: &[u8]) -> Option<(u64, &Inode)> {
        let number = *self.names.get(key)?;
        Some((number, &self.inodes[&number]))
    }

    pub(crate) fn info_of(&self, number: u64) -> FileInfo {
        let inode = &self.inodes[&number];
        let bytes = if let Body::File(bytes) = &inode.body { bytes.len() as u64 } else { 0 };
        let (mode, mtime, ctime) = (inode.mode, inode.mtime, inode.ctime);
        FileInfo { kind: inode.body.kind(), bytes, mode, mtime, ctime, inode: number }
    }

    /// Keys at or below one.
    pub(crate) fn keys(&self, top: &[u8]) -> Vec<Vec<u8>> {
        let below = self.names.range(top.to_vec()..).map(|(key, _)| key);
        below.take_while(|key| *key == top || lies_below(key, top)).cloned().collect()
    }

    pub(crate) fn is_dir_at(&self, key: &[u8]) -> bool {
        key.is_empty() || self.inode(key).is_some_and(|(_, inode)| inode.body == Body::Dir)
    }

    // ---- changes, each one step of the journal -------------------------------------------------------------------

    fn step(&mut self, by: By, names: Vec<(Vec<u8>, Option<u64>)>) {
        let before = names.iter().map(|(key, _)| (key.clone(), self.names.get(key).copied())).collect();
        for (key, now) in names {
            let Some(number) = now else {
                self.names.remove(&key);
                continue;
            };
            if !is_own(&key)
                && let Some(inode) = self.inodes.get_mut(&number)
            {
                inode.was_seen = true;
                if by == By::Lanyard
                    && let Body::File(bytes) = &inode.body
                {
                    self.calls.shown.push(bytes.clone());
                }
            }
            self.names.insert(key, number);
        }
        self.journal.push(Step { by, names: before, set: None });
    }

    pub(crate) fn create(&mut self, key: &[u8], body: Body, mode: Mode, by: By) -> u64 {
        self.last += 1;
        let at = stamp(self.now_ms);
        let inode =
            Inode { body, mode, mtime: at, ctime: at, safe: None, by, was_seen: by == By::User, dropped: false };
        self.inodes.insert(self.last, inode);
        self.step(by, vec![(key.to_vec(), Some(self.last))]);
        self.last
    }

    pub(crate) fn write(&mut self, number: u64, bytes: Vec<u8>, by: By) {
        let at = stamp(self.now_ms);
        let inode = self.inodes.get_mut(&number).expect("an inode");
        (inode.body, inode.mtime, inode.ctime, inode.by) = (Body::File(bytes), at, at, by);
    }

    pub(crate) fn set(&mut self, number: u64, mode: Mode, mtime: Option<FileTime>, by: By) {
        let at = stamp(self.now_ms);
        let inode = self.inodes.get_mut(&number).expect("an inode");
        let before = (number, inode.mode, inode.mtime);
        inode.mode = mode;
        inode.mtime = mtime.unwrap_or(inode.mtime);
        inode.ctime = at;
        self.journal.push(Step { by, names: Vec::new(), set: Some(before) });
    }

    /// Takes a name away with all below it.
    pub(crate) fn unlink(&mut self, key: &[u8], by: By) {
        let gone = self.keys(key).into_iter().map(|key| (key, None)).collect();
        self.step(by, gone);
    }

    /// Moves a name with all below it; with `exchange` what was there comes back, else it is gone.
    pub(crate) fn move_name(&mut self, from: &[u8], to: &[u8], exchange: bool, by: By) {
        let (moved, there) = (self.keys(from), self.keys(to));
        let under = |key: &Vec<u8>, old: &[u8], new: &[u8]| [new, &key[old.len()..]].concat();
        let mut names: BTreeMap<Vec<u8>, Option<u64>> = BTreeMap::new();
        names.extend(moved.iter().chain(&there).map(|key| (key.clone(), None)));
        names.extend(moved.iter().map(|key| (under(key, from, to), Some(self.names[key]))));
        if exchange {
            names.extend(there.iter().map(|key| (under(key, to, from), Some(self.names[key]))));
        }
        let at = stamp(self.now_ms);
        for number in [from, to].map(|key| self.names.get(key).copied()).into_iter().flatten() {
            self.inodes.get_mut(&number).expect("an inode").ctime = at;
        }
        self.step(by, names.into_iter().collect());
    }

    // ---- durability ----------------------------------------------------------------------------------------------

    pub(crate) fn flush(&mut self, number: u64) {
        let inode = self.inodes.get_mut(&number).expect("an inode");
        if let (Body::File(bytes), false) = (&inode.body, inode.dropped) {
            inode.safe = Some(bytes.clone());
        }
        self.journal.clear();
    }

    pub(crate) fn flush_names(&mut self) {
        self.journal.clear();
    }

    pub(crate) fn flush_all(&mut self) {
        let numbers: Vec<u64> = self.names.values().copied().collect();
        numbers.into_iter().for_each(|number| self.flush(number));
        self.journal.clear();
    }

    /// The power fails: what was not flushed may be forgotten.
    pub(crate) fn power_cut(&mut self) -> Cut {
        let mut cut = Cut::default();
        let kept = self.calls.rng.below(self.journal.len() + 1);
        while self.journal.len() > kept {
            let step = self.journal.pop().expect("more than are kept");
            cut.forgotten += 1;
            for (key, before) in step.names {
                let after = match before {
                    Some(number) => self.names.insert(key, number),
                    None => self.names.remove(&key),
                };
                if step.by == By::User {
                    let bodies = [before, after].into_iter().flatten().map(|number| &self.inodes[&number].body);
                    cut.unsure.extend(bodies.filter_map(bytes_of));
                }
            }
            if let Some((number, mode, mtime)) = step.set {
                let inode = self.inodes.get_mut(&number).expect("an inode");
                (inode.mode, inode.mtime) = (mode, mtime);
                if step.by == By::User {
                    cut.unsure.extend(bytes_of(&inode.body));
                }
            }
        }
        self.journal.clear();
        for (key, number) in &self.names {
            let inode = self.inodes.get_mut(number).expect("an inode");
            let Body::File(bytes) = &inode.body else { continue };
            if inode.safe.as_ref() == Some(bytes) {
                continue;
            }
            let left = match self.calls.rng.below(3) {
                0 => inode.safe.clone().unwrap_or_default(),
                1 => bytes[..self.calls.rng.below(bytes.len())].to_vec(),
                _ => bytes.clone(),
            };
            inode.safe = Some(left.clone());
            if left == *bytes {
                continue;
            }
            cut.forgotten += 1;
            match inode.by {
                By::User => {
                    cut.unsure.extend([bytes.clone(), left.clone()]);
                    cut.torn.push(left.clone());
                }
                By::Lanyard if is_own(key) => {}
                By::Lanyard => cut.half = Some(String::from_utf8_lossy(key).replace('\0', "/")),
            }
            inode.body = Body::File(left);
        }
        cut
    }

    // ---- what people see and do ----------------------------------------------------------------------------------

    pub(crate) fn item(&self, path: &RelPath) -> Option<Item> {
        let (number, inode) = self.inode(&path.to_key())?;
        Some(Item { info: self.info_of(number), body: inode.body.clone() })
    }

    pub(crate) fn file(&self, path: &RelPath) -> Option<&Vec<u8>> {
        match self.inode(&path.to_key()) {
            Some((_, Inode { body: Body::File(bytes), .. })) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn is_dir(&self, path: &RelPath) -> bool {
        self.is_dir_at(&path.to_key())
    }

    /// Whether something can be put under this name: its parent is a directory.
    pub(crate) fn has_room(&self, path: &RelPath) -> bool {
        path.parent().is_some_and(|parent| self.is_dir(&parent))
    }

    /// Everything at or below `top`, in the order of a walk.
    pub(crate) fn walk(&self, top: &RelPath) -> Vec<(RelPath, Item)> {
        let shared = self.keys(&top.to_key()).into_iter().filter(|key| !is_own(key));
        let paths = shared.map(|key| RelPath::from_key(&key).expect("a valid path"));
        paths.map(|path| (path.clone(), self.item(&path).expect("a name that is there"))).collect()
    }

    pub(crate) fn paths(&self) -> Vec<RelPath> {
        let shared = self.names.keys().filter(|key| !is_own(key));
        shared.map(|key| RelPath::from_key(key).expect("a valid path")).collect()
    }

    pub(crate) fn has_below(&self, path: &RelPath) -> bool {
        let key = path.to_key();
        self.keys(&key).len() > usize::from(self.names.contains_key(&key))
    }

    /// Contents of files that lanyard replaced or removed.
    pub(crate) fn versions(&self) -> Vec<Vec<u8>> {
        let own = self.keys(&[RESERVED, b"\0versions"].concat());
        own.iter().filter_map(|key| bytes_of(&self.inode(key)?.1.body)).collect()
    }

    /// Puts something under a name, replacing a file or link in place or by a new inode.
    pub(crate) fn put(&mut self, path: &RelPath, body: Body, mode: Mode, in_place: bool) {
        assert!(self.has_room(path), "{path} has no parent");
        let key = path.to_key();
        let mode = if body.kind() == Kind::Symlink { 0 } else { mode };
        let kept = self.inode(&key).filter(|(_, old)| in_place && old.body.kind() == Kind::File);
        match (kept.map(|(number, _)| number), body) {
            (Some(number), Body::File(bytes)) => self.write(number, bytes, By::User),
            (_, body) => {
                self.create(&key, body, mode, By::User);
            }
        }
    }

    /// A program that saves waits for the disk.
    pub(crate) fn sync(&mut self, path: &RelPath) {
        if let Some((number, _)) = self.inode(&path.to_key()) {
            self.flush(number);
        }
    }

    pub(crate) fn touch(&mut self, path: &RelPath, mtime: FileTime) {
        if let Some((number, inode)) = self.inode(&path.to_key()) {
            self.set(number, inode.mode, Some(mtime), By::User);
        }
    }

    pub(crate) fn chmod(&mut self, path: &RelPath, mode: Mode) {
        if let Some((number, _)) = self.inode(&path.to_key()).filter(|(_, old)| old.body.kind() != Kind::Symlink) {
            self.set(number, mode, None, By::User);
        }
    }

    /// Removes a name and all below it.
    pub(crate) fn remove(&mut self, path: &RelPath) {
        self.unlink(&path.to_key(), By::User);
    }

    /// Moves a name with all below it; what was there is gone.
    pub(crate) fn rename(&mut self, from: &RelPath, to: &RelPath) {
        self.move_name(&from.to_key(), &to.to_key(), false, By::User);
    }

    /// The files of a backup are put back in place of all that is there.
    pub(crate) fn put_back(&mut self, files: &Tree) {
        for path in self.paths().into_iter().filter(|path| path.parent().is_some_and(|parent| parent.is_root())) {
            self.remove(&path);
        }
        for (path, (body, mode, mtime)) in files {
            self.put(path, body.clone(), *mode, false);
            if *body != Body::Dir {
                self.touch(path, *mtime);
            }
        }
        self.flush_all();
    }

    pub(crate) fn tree(&self) -> Tree {
        let plain = |item: Item| {
            let mtime = if item.body == Body::Dir { FileTime::default() } else { item.info.mtime };
            (item.body, item.info.mode, mtime)
        };
        self.walk(&RelPath::root()).into_iter().map(|(path, item)| (path, plain(item))).collect()
    }
}

pub(crate) fn bytes_of(body: &Body) -> Option<Vec<u8>> {
    if let Body::File(bytes) = body { Some(bytes.clone()) } else { None }
}
