//! Which version of a path has its name, and which lie beside it. Derived from the heads alone, never authored,
//! so that every node that knows the same heads shows the same files.
//!
//! Rules, in order: something beats a tombstone; a directory keeps the name against a file, also one that is
//! there only because something lives below it; the later hybrid time wins, ties go to the greater entry id;
//! equal contents are one. Who changed only attributes of a content that another version has replaced by then has no
//! content in the conflict.

use super::attributes;
use super::index::{EntryId, Head, PathRecord};
use crate::base::path::NAME_BYTES_MAX;
use crate::base::{Kind, NodeId, RelPath, Writer};
use crate::wire::batch::What;

/// What should be under a name, and beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View<'a> {
    /// Under the name itself.
    pub main: Main<'a>,
    /// Beside it, as conflict copies.
    pub losers: Vec<&'a Head>,
}

/// What should be under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Main<'a> {
    /// Nothing.
    Nothing,
    /// A directory that nobody announced or that somebody deleted, for what lives below it.
    ImpliedDir,
    /// This version.
    Head(&'a Head),
}

/// Decides a path. `lives_below`: whether any path below it has a live version.
pub fn view(record: &PathRecord, lives_below: bool) -> View<'_> {
    let counts = |head: &&Head| head.is_live() && !is_passed_over(record, head);
    let mut live: Vec<&Head> = record.heads.iter().filter(counts).collect();
    live.sort_by_key(|head| std::cmp::Reverse(rank(head)));
    let main = match live.first() {
        Some(head) if is_dir(head) || !lives_below => Main::Head(head),
        _ if lives_below => Main::ImpliedDir,
        _ => Main::Nothing,
    };
    let mut losers: Vec<&Head> = Vec::new();
    for head in live {
        let is_main = matches!(main, Main::Head(winner) if winner.what() == head.what());
        if !is_main && !is_dir(head) && losers.iter().all(|other| other.what() != head.what()) {
            losers.push(head);
        }
    }
    View { main, losers }
}

/// Whether a version changed only attributes of a content that another version is an edit of: then the edit shows all there
/// is to see, with the attributes of the newer.
pub fn is_passed_over(record: &PathRecord, head: &Head) -> bool {
    let is_passed = |head: &Head| record.heads.iter().any(|other| shows_more(other, head));
    // Only liars can pass over each other.
    is_passed(head) && record.heads.iter().any(|other| other.is_live() && !is_passed(other))
}

/// Whether `edit` has seen the content of `head`, which changed only attributes since.
fn shows_more(edit: &Head, head: &Head) -> bool {
    let Some(mark) = attributes::mark_of(&head.salted.entry) else { return false };
    let own = head.id.writer;
    let has_seen =
        |(writer, seq): &(Writer, u64)| edit.version().seen(*writer) >= if *writer == own { mark.since } else { *seq };
    edit.what().content().is_some()
        && head.what().content().is_some()
        && edit.what() != head.what()
        && head.version().components().iter().all(has_seen)
}

fn is_dir(head: &Head) -> bool {
    head.what().kind() == Some(Kind::Dir)
}

fn rank(head: &Head) -> (bool, crate::base::Hlc, EntryId) {
    (is_dir(head), head.salted.entry.time, head.id)
}

/// Most names of one conflict copy: whatever a name was used for since is not disturbed. A guess; each costs somebody
/// a deleted or edited copy of a version that came back.
const NAMES_MAX: usize = 8;

/// The name of a conflict copy: `name (conflict SHORTID UTC HASH6).ext`, shortened to fit a file name.
pub fn copy_path(path: &RelPath, loser: &Head) -> RelPath {
    numbered(path, loser, 1)
}

/// The names that a conflict copy can have, in order of preference: the first that is not another file's.
pub fn copy_paths<'a>(path: &'a RelPath, loser: &'a Head) -> impl Iterator<Item = RelPath> + 'a {
    (1..=NAMES_MAX).map(move |number| numbered(path, loser, number))
}

fn numbered(path: &RelPath, loser: &Head, number: usize) -> RelPath {
    let name = path.name().expect("the root has no versions");
    let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    let mark = mark(loser, number);
    // A very long extension gives way first: it is no extension then.
    let extension = if extension.len() > NAME_BYTES_MAX / 2 { &[] } else { extension };
    let room = NAME_BYTES_MAX - mark.len() - extension.len();
    let stem = cut(stem, room);
    let copy = [stem, mark.as_bytes(), extension].concat();
    let parent = path.parent().expect("the root has no versions");
    // Too deep or too long a path overall: the copy goes under a short name that still tells them apart.
    parent
        .join(&copy)
        .or_else(|_| parent.join(mark.trim_start()))
        .unwrap_or_else(|_| RelPath::new(mark.trim_start()).expect("the mark alone is a valid name"))
}

fn mark(loser: &Head, number: usize) -> String {
    let entry = &loser.salted.entry;
    let what = match &entry.what {
        What::File { content, .. } => content.to_hex(),
        What::Symlink(target) => blake3::hash(target).to_hex().to_string(),
        What::Dir | What::Tombstone { .. } => String::from("000000"),
    };
    let number = if number == 1 { String::new() } else { format!(" {number}") };
    format!(" (conflict {} {} {}{number})", short(loser.id.writer.node), utc(entry.time.ms), &what[..6])
}

fn short(node: NodeId) -> String {
    node.short()
}

/// `20261122T035800Z`; times beyond what the calendar can say show as zero.
fn utc(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// At most `room` bytes from the start, not inside a UTF-8 character.
fn cut(stem: &[u8], room: usize) -> &[u8] {
    if stem.len() <= room {
        return stem;
    }
    let mut end = room;
    while end > 0 && stem[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &stem[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ContentId, FileTime, Hlc, VersionVector};
    use crate::wire::batch::{Entry, Salted, Xattr};
    use crate::wire::codec::{Bytes, List, Text};

    fn head(node: u8, ms: u64, what: What) -> Head {
        let writer = Writer { node: NodeId([node; 32]), incarnation: 1 };
        let mut version = VersionVector::default();
        version.advance(writer, 1);
        let path = RelPath::new("dir/report.odt").expect("valid");
        let entry = Entry::new(path, what, 0, FileTime::default(), Hlc { ms, count: 0 }, version);
        Head { id: EntryId { writer, seq: 1 }, salted: Salted { salt: [0; 16], entry } }
    }

    fn file(n: u8) -> What {
        What::File { bytes: 1, content: ContentId([n; 32]) }
    }

    fn record(heads: Vec<Head>) -> PathRecord {
        PathRecord { heads, ..PathRecord::default() }
    }

    #[test]
    fn the_later_edit_has_the_name_and_the_other_lies_beside() {
        let record = record(vec![head(1, 20, file(1)), head(2, 10, file(2))]);
        let view = view(&record, false);
        assert_eq!(view.main, Main::Head(&record.heads[0]));
        assert_eq!(view.losers, [&record.heads[1]]);
    }

    #[test]
    fn equal_contents_are_one() {
        let record = record(vec![head(1, 20, file(1)), head(2, 10, file(1))]);
        assert!(view(&record, false).losers.is_empty());
    }

    #[test]
    fn who_changed_only_attributes_of_what_was_edited_makes_no_conflict() {
        // Node 1 wrote content 1 as its number 1, and only attributes since.
        let first = head(1, 5, file(1));
        let mut tagged = head(1, 20, file(1));
        tagged.id.seq = 3;
        tagged.salted.entry.version.advance(tagged.id.writer, 3);
        let value = [&1_u64.to_be_bytes()[..], &[1]].concat();
        let mark = Xattr { name: Text::default(), value: Bytes::new(value).expect("short") };
        tagged.salted.entry.xattrs = List::truncated(vec![mark]);
        let mut edited = head(2, 10, file(2));
        let unseen = record(vec![tagged.clone(), edited.clone()]);
        assert_eq!(view(&unseen, false).losers, [&edited], "it never saw the content");

        edited.salted.entry.version.join(first.version());
        let both = record(vec![tagged.clone(), edited.clone()]);
        assert_eq!(view(&both, false), View { main: Main::Head(&edited), losers: Vec::new() });
        let gone = record(vec![tagged.clone(), head(2, 30, What::Tombstone { deleted: None })]);
        assert_eq!(view(&gone, false).main, Main::Head(&tagged));
        // Only liars can have seen each other: nothing is hidden by that.
        edited.salted.entry.version.join(tagged.version());
        edited.salted.entry.xattrs = tagged.salted.entry.xattrs.clone();
        tagged.salted.entry.version.join(edited.version());
        assert_eq!(view(&record(vec![tagged.clone(), edited.clone()]), false).losers.len(), 1);
    }

    #[test]
    fn an_edit_beats_a_deletion_and_a_directory_beats_a_file() {
        let edited = record(vec![head(1, 20, What::Tombstone { deleted: None }), head(2, 10, file(2))]);
        assert_eq!(view(&edited, false).main, Main::Head(&edited.heads[1]));
        let both = record(vec![head(1, 20, file(1)), head(2, 10, What::Dir)]);
        assert_eq!(view(&both, false).main, Main::Head(&both.heads[1]));
        assert_eq!(view(&both, false).losers, [&both.heads[0]]);
        let implied = record(vec![head(1, 20, file(1))]);
        assert_eq!(view(&implied, true).main, Main::ImpliedDir);
        assert_eq!(view(&implied, true).losers, [&implied.heads[0]]);
    }

    #[test]
    fn a_copy_keeps_its_extension_and_fits_a_file_name() {
        let loser = head(2, 1_763_783_880_000, file(2));
        let path = RelPath::new("dir/report.odt").expect("valid");
        let copy = copy_path(&path, &loser).to_string();
        assert!(copy.starts_with("dir/report (conflict "), "{copy}");
        assert!(copy.ends_with(" 020202).odt"), "{copy}");
        let long = RelPath::new("ä".repeat(125) + ".odt").expect("valid");
        let copy = copy_path(&long, &loser);
        assert!(copy.as_bytes().len() <= NAME_BYTES_MAX);
        assert!(std::str::from_utf8(copy.as_bytes()).is_ok());
    }
}
