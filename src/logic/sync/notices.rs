//! What is unusual about the names of a folder on this machine, for people: what cannot be read, written or shared here,
//! and what other systems could not tell apart or could not have at all.
//!
//! Each kind remembers its first names and why; how many more there are is only known to be many. A kind is told once it
//! has a name, and over when it has none.

use std::collections::BTreeMap;

use crate::base::RelPath;

/// Names remembered of one kind. A guess: more than anybody reads, and little memory.
pub const NAMES_MAX: usize = 1000;
/// Names that a sentence lists. A guess at what one line holds.
const LISTED_MAX: usize = 3;

/// What is unusual about a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A file that cannot be read: its last known content stands.
    Unreadable,
    /// A directory that cannot be looked into: what is known of it stands.
    Closed,
    /// A change from elsewhere that cannot be carried out here: it waits.
    Unwritable,
    /// The same, because this disk takes the name for another's.
    Twin,
    /// A name that is too deep or too long to be shared.
    Unnamable,
    /// A pipe, socket, device or mounted disk: not shared.
    Special,
    /// Names that Windows or macOS cannot tell apart.
    Clash,
    /// Names that Windows cannot have.
    Foreign,
    /// Extended attributes of a file that are not carried: too many, too large, or refused by this disk.
    Attributes,
    /// A file that could not be given to the user or group to whom it belongs.
    Owner,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Unreadable,
        Self::Closed,
        Self::Unwritable,
        Self::Twin,
        Self::Unnamable,
        Self::Special,
        Self::Clash,
        Self::Foreign,
        Self::Attributes,
        Self::Owner,
    ];

    /// Whether somebody has to do something about it on this machine.
    pub fn is_alert(self) -> bool {
        matches!(self, Self::Unreadable | Self::Closed | Self::Unwritable | Self::Twin | Self::Unnamable)
    }

    /// Says it of `count` names.
    fn sentence(self, count: &str, one: bool) -> String {
        let noun = |single: &str, several: &str| format!("{count} {}", if one { single } else { several });
        match self {
            Self::Unreadable => format!("{} cannot be read here", noun("file", "files")),
            Self::Closed => format!("{} cannot be looked into here", noun("directory", "directories")),
            Self::Unwritable => {
                format!("{} here", noun("change cannot be carried out", "changes cannot be carried out"))
            }
            Self::Twin => {
                format!(
                    "{} for the name of another here",
                    noun("name waits: this disk takes it", "names wait: this disk takes them")
                )
            }
            Self::Unnamable => format!("{} too deep or too long to be shared", noun("name is", "names are")),
            Self::Special => format!(
                "{} not shared",
                noun("pipe, socket, device or mounted disk is", "pipes, sockets, devices or mounted disks are")
            ),
            Self::Clash => format!(
                "{} only in case or form of letters",
                noun("name differs from another", "names differ from others")
            ),
            Self::Foreign => format!("{} not possible on Windows", noun("name is", "names are")),
            Self::Attributes => {
                format!("{} not all of the extended attributes", noun("file has", "files have"))
            }
            Self::Owner => format!("{} here to another user or group", noun("file belongs", "files belong")),
        }
    }

    /// What helps.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Unreadable => {
                "give lanyard's user the right to read; it is then read by itself. What was known of it stands"
            }
            Self::Closed => {
                "give lanyard's user the right to list and enter; it is then looked into by itself. Nothing in it counts as deleted"
            }
            Self::Unwritable => "put right what is named; the change is tried again by itself. Everything else goes on",
            Self::Twin => "rename one of the two on any machine, or keep the folder on a disk that tells them apart",
            Self::Unnamable => "a path has at most 4095 bytes and 512 names, a name 255 bytes; move or shorten it",
            Self::Special => "only files, directories and symbolic links are shared",
            Self::Clash => {
                "on Windows and macOS these would be one; rename them if such machines are to have the folder"
            }
            Self::Foreign => {
                "rename them if Windows machines are to have the folder; here they are carried as they are"
            }
            Self::Attributes => {
                "at most 32 a file are carried, 4096 bytes each and 48 KiB in all; some file systems take fewer, or none. The file itself is carried"
            }
            Self::Owner => {
                "make the user and group on this machine, or run lanyard with the right to give files away; what is known of them stays"
            }
        }
    }
}

/// The names of one kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Names {
    /// By path, with the reason where there is one.
    of: BTreeMap<Vec<u8>, String>,
    /// There are others.
    more: bool,
}

/// What is unusual in one folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notices {
    kinds: BTreeMap<Kind, Names>,
    /// Counts changes, so that who shows them sees whether there is news.
    turn: u64,
}

/// What one kind comes to, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Which.
    pub kind: Kind,
    /// In a sentence, with the first names.
    pub text: String,
    /// How many names are known of.
    pub count: u64,
    /// The names, as many as are known; bytes of paths.
    pub paths: Vec<Vec<u8>>,
}

impl Notices {
    /// How often something changed.
    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// A name is of a kind, for this reason (may be empty).
    pub fn add(&mut self, kind: Kind, path: &[u8], why: &str) {
        let names = self.kinds.entry(kind).or_default();
        if names.of.len() >= NAMES_MAX && !names.of.contains_key(path) {
            self.turn += u64::from(!names.more);
            names.more = true;
            return;
        }
        let before = names.of.insert(path.to_vec(), why.to_owned());
        self.turn += u64::from(before.as_deref() != Some(why));
    }

    /// A name is no more of a kind.
    pub fn remove(&mut self, kind: Kind, path: &[u8]) {
        let Some(names) = self.kinds.get_mut(&kind) else { return };
        self.turn += u64::from(names.of.remove(path).is_some());
        self.tidy(kind);
    }

    /// Whether a name is of a kind.
    pub fn has(&self, kind: Kind, path: &[u8]) -> bool {
        self.kinds.get(&kind).is_some_and(|names| names.of.contains_key(path))
    }

    /// How many names are of a kind, as far as is known.
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds.get(&kind).map_or(0, |names| names.of.len())
    }

    /// The names of a kind at or below a path.
    pub fn below(&self, kind: Kind, top: &RelPath) -> Vec<Vec<u8>> {
        let names = self.kinds.get(&kind).into_iter().flat_map(|names| names.of.keys());
        names.filter(|path| is_below(path, top)).cloned().collect()
    }

    /// Everything at and below a path was looked at: these names are of this kind there, and no others.
    pub fn replace_below(&mut self, kind: Kind, top: &RelPath, found: &BTreeMap<Vec<u8>, String>) {
        for path in self.below(kind, top) {
            if !found.contains_key(&path) {
                self.remove(kind, &path);
            }
        }
        if top.is_root()
            && let Some(names) = self.kinds.get_mut(&kind)
            && found.len() <= NAMES_MAX
        {
            names.more = false;
        }
        found.iter().for_each(|(path, why)| self.add(kind, path, why));
        self.tidy(kind);
    }

    fn tidy(&mut self, kind: Kind) {
        if self.kinds.get(&kind).is_some_and(|names| names.of.is_empty()) {
            self.kinds.remove(&kind);
        }
    }

    /// What there is to say, by kind.
    pub fn tell(&self) -> Vec<Told> {
        self.kinds.iter().map(|(kind, names)| told(*kind, names)).collect()
    }
}

fn told(kind: Kind, names: &Names) -> Told {
    let count = names.of.len();
    let number = if names.more { format!("more than {count}") } else { count.to_string() };
    let listed: Vec<String> = names
        .of
        .iter()
        .take(LISTED_MAX)
        .map(|(path, why)| {
            let path = crate::base::path::escape(path);
            if why.is_empty() { path } else { format!("{path} ({why})") }
        })
        .collect();
    let rest = if count > LISTED_MAX { ", and others" } else { "" };
    let text = format!("{}: {}{rest}", kind.sentence(&number, count == 1 && !names.more), listed.join(", "));
    Told { kind, text, count: count as u64, paths: names.of.keys().cloned().collect() }
}

fn is_below(path: &[u8], top: &RelPath) -> bool {
    let top = top.as_bytes();
    top.is_empty() || (path.starts_with(top) && path.get(top.len()).is_none_or(|next| *next == b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("valid")
    }

    fn found(paths: &[&str]) -> BTreeMap<Vec<u8>, String> {
        paths.iter().map(|path| (path.as_bytes().to_vec(), String::new())).collect()
    }

    #[test]
    fn a_look_at_a_directory_replaces_what_was_known_of_it_and_nothing_else() {
        let mut notices = Notices::default();
        for name in ["a", "a/b", "ab", "c"] {
            notices.add(Kind::Special, name.as_bytes(), "");
        }
        notices.replace_below(Kind::Special, &path("a"), &found(&["a/new"]));
        assert_eq!(notices.tell()[0].paths, [&b"a/new"[..], b"ab", b"c"]);
        let turn = notices.turn();
        notices.replace_below(Kind::Special, &path("a"), &found(&["a/new"]));
        assert_eq!(notices.turn(), turn, "nothing new");
        notices.replace_below(Kind::Special, &RelPath::root(), &found(&[]));
        assert_eq!(notices, Notices { turn: notices.turn(), ..Notices::default() });
    }

    #[test]
    fn a_kind_remembers_a_bounded_number_of_names_and_says_that_there_are_more() {
        let mut notices = Notices::default();
        for number in 0..NAMES_MAX + 5 {
            notices.add(Kind::Unreadable, format!("{number:06}").as_bytes(), "no");
        }
        let told = notices.tell().remove(0);
        assert_eq!(told.count, NAMES_MAX as u64);
        assert!(told.text.starts_with("more than 1000 files cannot be read here: 000000 (no), "), "{}", told.text);
        notices.remove(Kind::Unreadable, b"000000");
        assert_eq!(notices.count(Kind::Unreadable), NAMES_MAX - 1);
    }

    #[test]
    fn names_are_escaped_in_sentences() {
        let mut notices = Notices::default();
        notices.add(Kind::Closed, b"a\n\xff", "permission denied");
        assert_eq!(notices.tell()[0].text, r"1 directory cannot be looked into here: a\x0a\xff (permission denied)");
    }
}
