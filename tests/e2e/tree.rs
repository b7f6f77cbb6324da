//! Trees of files: made from a seed, copied from the machine, listed byte for byte and compared.
//!
//! A listing holds what lanyard promises to carry (DESIGN, section 5): names as bytes, kinds, modes, nanosecond times of
//! files and symlinks, contents, link texts. A directory's time is not among it. `.lanyard` is the product's own.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// SplitMix64 (Steele, Lea, Flood, 2014): the same tree from the same seed, everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low)
    }

    /// Bytes that do not compress.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.roll().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Link,
    Other,
}

/// One path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    /// Nanoseconds since 1970; 0 for directories.
    pub(crate) mtime_ns: i128,
    pub(crate) size: u64,
    /// BLAKE3 of a file's bytes; zeros in a listing without contents.
    pub(crate) hash: [u8; 32],
    pub(crate) target: Vec<u8>,
}

/// Everything below `root` but `.lanyard`, sorted by path, with contents. What vanishes meanwhile is left out.
pub(crate) fn snapshot(root: &Path) -> Vec<Item> {
    walk(root, true)
}

/// As [`snapshot`] but without reading contents: cheap enough to look at often.
pub(crate) fn listing(root: &Path) -> Vec<Item> {
    walk(root, false)
}

fn walk(root: &Path, contents: bool) -> Vec<Item> {
    let mut items = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if dir == root && entry.file_name() == ".lanyard" {
                continue;
            }
            let Ok(item) = look(root, &path, contents) else { continue };
            if item.kind == Kind::Dir {
                open.push(path);
            }
            items.push(item);
        }
    }
    items.sort_by(|a, b| a.path.cmp(&b.path));
    items
}

fn look(root: &Path, path: &Path, contents: bool) -> io::Result<Item> {
    let meta = fs::symlink_metadata(path)?;
    let kind = match meta.file_type() {
        t if t.is_file() => Kind::File,
        t if t.is_dir() => Kind::Dir,
        t if t.is_symlink() => Kind::Link,
        _ => Kind::Other,
    };
    let mut hash = [0; 32];
    if contents && kind == Kind::File {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(path)?)?;
        hash = *hasher.finalize().as_bytes();
    }
    Ok(Item {
        path: path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes().to_vec(),
        kind,
        mode: if kind == Kind::Link { 0o777 } else { meta.mode() & 0o7777 },
        mtime_ns: if kind == Kind::Dir {
            0
        } else {
            i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
        },
        size: if kind == Kind::Dir { 0 } else { meta.size() },
        hash,
        target: if kind == Kind::Link { fs::read_link(path)?.into_os_string().into_vec() } else { Vec::new() },
    })
}

/// What differs between two sorted trees, for people: at most 20 lines and a count. Empty where they are the same.
pub(crate) fn diff(a: &[Item], b: &[Item]) -> Vec<String> {
    let (mut lines, mut count, mut i, mut j) = (Vec::new(), 0, 0, 0);
    let mut say = |line: String| {
        count += 1;
        if count <= 20 {
            lines.push(line);
        }
    };
    let name = |item: &Item| item.path.escape_ascii().to_string();
    while i < a.len() || j < b.len() {
        match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) if x.path == y.path => {
                if x != y {
                    let brief = |item: &Item| {
                        let hash = u32::from_le_bytes([item.hash[0], item.hash[1], item.hash[2], item.hash[3]]);
                        let target = item.target.escape_ascii();
                        format!(
                            "{:?} {:o} {} ns, {} B, {hash:08x} {target}",
                            item.kind, item.mode, item.mtime_ns, item.size
                        )
                    };
                    say(format!("{}: {} | {}", name(x), brief(x), brief(y)));
                }
                (i, j) = (i + 1, j + 1);
            }
            (Some(x), y) if y.is_none_or(|y| x.path < y.path) => {
                say(format!("only in the first: {}", name(x)));
                i += 1;
            }
            (_, Some(y)) => {
                say(format!("only in the second: {}", name(y)));
                j += 1;
            }
            _ => unreachable!("one of the two has an item left"),
        }
    }
    if count > 20 {
        lines.push(format!("... {count} differences, {} and {} paths", a.len(), b.len()));
    }
    lines
}

/// Whether two directories hold the same: cheap listings first, contents only when those agree.
pub(crate) fn same(a: &Path, b: &Path) -> Result<(), String> {
    for walk in [listing, snapshot] {
        let lines = diff(&walk(a), &walk(b));
        if !lines.is_empty() {
            return Err(lines.join("\n"));
        }
    }
    Ok(())
}

/// The sizes that an office's files have, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// The office files: 1-100 KiB.
pub(crate) const OFFICE: Sizes = Sizes { low: 1 << 10, high: 100 << 10 };

/// Fills `root` with `count` files in nested directories, about 25 a directory; the same for the same seed.
pub(crate) fn office(root: &Path, count: usize, seed: u64, sizes: Sizes) -> u64 {
    let departments = ["Accounts", "Bau & Planung", "Clients", "Personal - Übersicht", "Workshop"];
    let kinds = ["docx", "xlsx", "pdf", "dwg", "txt", "odt"];
    let mut dice = Dice(seed);
    let mut total = 0;
    let mut dir = root.to_path_buf();
    for number in 0..count {
        if number % 25 == 0 {
            let department = departments[dice.between(0, 5) as usize];
            let year = dice.between(2015, 2026);
            dir = root.join(format!("{department}/{year}/Project {:04}", number / 25));
            if dice.between(0, 3) == 0 {
                dir.push("drafts");
            }
            fs::create_dir_all(&dir).expect("a directory");
        }
        let size = dice.between(sizes.low, sizes.high);
        let bytes = dice.bytes(size as usize);
        let kind = kinds[dice.between(0, 6) as usize];
        fs::write(dir.join(format!("report {number:05}.{kind}")), bytes).expect("a file");
        total += size;
    }
    total
}

/// Writes one file of `size` bytes that do not compress.
pub(crate) fn big_file(path: &Path, size: u64, seed: u64) {
    let mut dice = Dice(seed);
    let mut file = io::BufWriter::with_capacity(1 << 20, fs::File::create(path).expect("a file"));
    let mut left = size;
    while left > 0 {
        let part = left.min(1 << 20);
        file.write_all(&dice.bytes(part as usize)).expect("room for the file");
        left -= part;
    }
    file.flush().expect("room for the file");
}

/// Copies the first 10,000 files (in byte order of their paths) of a real tree to `to` with modes, times and symlinks: the
/// toolchain's HTML documentation, or, where it is not installed, the sources of the crates this build uses. Says which.
pub(crate) fn real_tree(to: &Path) -> String {
    const FILES: usize = 10_000;
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().ok();
    let docs = sysroot
        .map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim().to_owned()).join("share/doc/rust/html"));
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let sources = cargo_home.or(home).map(|cargo| cargo.join("registry/src"));
    for (name, from) in [("the toolchain's documentation", docs), ("the sources of the crates", sources)] {
        let Some(from) = from.filter(|from| from.is_dir()) else { continue };
        let (mut files, mut bytes) = (0, 0);
        for item in listing(&from) {
            let path = Path::new(OsStr::from_bytes(&item.path));
            let (old, new) = (from.join(path), to.join(path));
            match item.kind {
                Kind::Dir => fs::create_dir_all(&new).expect("a directory"),
                Kind::Link => symlink(OsStr::from_bytes(&item.target), &new).expect("a symlink"),
                Kind::File => {
                    fs::copy(&old, &new).expect("a copy");
                    let when = fs::metadata(&old).and_then(|meta| meta.modified()).expect("a time");
                    fs::File::open(&new).and_then(|file| file.set_modified(when)).expect("a time");
                    files += 1;
                    bytes += item.size;
                }
                Kind::Other => {}
            }
            if files == FILES {
                return format!("{name}, {files} files, {} MiB", bytes >> 20);
            }
        }
        fs::remove_dir_all(to).and_then(|()| fs::create_dir_all(to)).expect("an empty directory");
    }
    office(to, FILES, 7, OFFICE);
    format!("no real tree of {FILES} files on this machine: {FILES} seeded office files")
}

/// Adds what real trees seldom have and a replica must carry all the same.
pub(crate) fn garnish(root: &Path) {
    let at = |name: &[u8]| root.join(OsStr::from_bytes(name));
    let odd = at(b"odd");
    fs::create_dir_all(odd.join("empty/inside an empty one")).expect("a directory");
    fs::create_dir(odd.join("private")).expect("a directory");
    fs::set_permissions(odd.join("private"), fs::Permissions::from_mode(0o700)).expect("a mode");
    for (name, mode) in [("script.sh", 0o755), ("secret", 0o600), ("read-only", 0o444), ("group", 0o664)] {
        fs::write(odd.join(name), name).expect("a file");
        fs::set_permissions(odd.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
    }
    fs::write(odd.join("nothing in it"), "").expect("a file");
    fs::write(at(b"odd/latin-1 \xe9t\xe9.txt"), "not UTF-8").expect("a file");
    fs::write(at(b"odd/a\nline and a \\ and a \"quote\""), "control characters").expect("a file");
    fs::write(odd.join("n".repeat(255)), "the longest name").expect("a file");
    let deep = (0..40).fold(odd.clone(), |dir, level| dir.join(format!("level {level}")));
    fs::create_dir_all(&deep).expect("a directory");
    fs::write(deep.join("bottom"), "deep down").expect("a file");
    let old = SystemTime::UNIX_EPOCH + Duration::new(981_173_106, 123_456_789);
    fs::write(odd.join("of 2001"), "old").expect("a file");
    fs::File::open(odd.join("of 2001")).and_then(|file| file.set_modified(old)).expect("a time");
    symlink("of 2001", odd.join("link")).expect("a symlink");
    symlink("../odd/empty", odd.join("link to a directory")).expect("a symlink");
    symlink("/nowhere/at all", odd.join("dangling")).expect("a symlink");
    symlink(OsStr::from_bytes(b"\xff\xfe"), odd.join("link to bytes")).expect("a symlink");
    let spec = rustix::fs::Timespec { tv_sec: 981_173_106, tv_nsec: 987_654_321 };
    let times = rustix::fs::Timestamps { last_access: spec, last_modification: spec };
    rustix::fs::utimensat(rustix::fs::CWD, odd.join("link"), &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .expect("a symlink's time");
}
