//! Short stories that random offices found, or that the rules promise: each once went wrong or must never.

use lanyard::base::RelPath;
use lanyard::logic::sync::index::Look;

use crate::disk::Body;
use crate::node::{Acted, Node};
use crate::parcel::Parcel;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::user::{self, path};
use crate::world::{Setup, World};

/// Two nodes in order, the second one's clock ahead: what it writes at the same time wins.
struct Story(World);

impl Story {
    fn new() -> Self {
        let setup = Setup {
            seed: 1,
            nodes: 2,
            steps: 0,
            plant: Plant::Nothing,
            reader: false,
            rogue: false,
            liar: None,
            forgets: false,
            put_back: None,
            large: false,
            guard: false,
        };
        let mut world = World::new(setup);
        world.nodes[0].skew_ms = 0;
        world.nodes[1].skew_ms = 1_000_000;
        let mut story = Self(world);
        story.settle();
        story
    }

    fn save(&mut self, at: usize, name: &str, bytes: &str) {
        self.now(at);
        self.0.oracle.saved(at, bytes.as_bytes());
        self.0.nodes[at].disk().put(&path(name), Body::File(bytes.into()), 0o644, false);
    }

    fn mkdir(&mut self, at: usize, name: &str) {
        self.now(at);
        self.0.nodes[at].disk().put(&path(name), Body::Dir, 0o755, false);
    }

    fn link(&mut self, at: usize, name: &str, target: &str) {
        self.now(at);
        self.0.nodes[at].disk().put(&path(name), Body::Link(target.into()), 0, false);
    }

    /// What is known of `name` is put there, and the machine dies before its index knows.
    fn commit_unnoted(&mut self, at: usize, name: &str, bytes: &str) {
        let action = self.0.nodes[at].plan(&path(name), 0).pop().expect("something to do");
        let (now_ms, unnoted) = (self.0.now_ms(), self.0.nodes[at].index.clone());
        assert_eq!(self.0.nodes[at].act(&action, Some(bytes.into()), now_ms), Acted::Done);
        self.0.nodes[at].index = unnoted;
        self.0.nodes[at].die();
        self.0.nodes[at].start();
    }

    /// A later version of `name` by a third node, which has seen nothing of these two.
    fn entry_of_another(&mut self, name: &str, bytes: &str) -> Parcel {
        self.0.pass(1000);
        let mut other = Node::new(9, &mut Rng::new(9), Plant::Nothing);
        other.skew_ms = 2_000_000;
        other.set_clock(self.0.now_ms());
        other.start();
        other.disk().put(&path(name), Body::File(bytes.into()), 0o644, false);
        other.scan(&RelPath::root());
        let signed = other.announce(&self.0.rules, &mut Rng::new(9), self.0.now_ms(), false).signed;
        Parcel::whole(signed.first().expect("one batch"))
    }

    fn delete(&mut self, at: usize, name: &RelPath) {
        self.0.nodes[at].disk().remove(name);
    }

    fn rename(&mut self, at: usize, from: &RelPath, to: &RelPath) {
        self.now(at);
        self.0.nodes[at].disk().rename(from, to);
    }

    fn now(&mut self, at: usize) {
        self.0.pass(1000);
        self.0.nodes[at].set_clock(self.0.now_ms());
    }

    /// Everybody tells everybody everything.
    fn settle(&mut self) {
        self.0.heal().expect("an office comes to rest");
        assert_eq!(self.0.nodes[0].disk().tree(), self.0.nodes[1].disk().tree());
    }

    /// What is there in the end: names, with copies as `copy of name`, and contents.
    fn files(&self) -> Vec<(String, String)> {
        let tree = self.0.nodes[0].disk().tree();
        let named = tree.iter().filter_map(|(at, (body, ..))| match body {
            Body::File(bytes) => {
                let name = user::owner(at).map_or(at.to_string(), |owner| format!("copy of {owner}"));
                Some((name, crate::large::text(bytes)))
            }
            _ => None,
        });
        named.collect()
    }

    fn copy(&self) -> RelPath {
        self.0.nodes[0].disk().paths().into_iter().find(user::is_copy).expect("a conflict copy")
    }

    /// A conflict on `name`: the first node's content loses.
    fn conflict(name: &str) -> Self {
        let mut story = Self::new();
        story.save(0, name, "loser");
        story.save(1, name, "winner");
        story.settle();
        let mut want = vec![(format!("copy of {name}"), "loser".into()), (name.into(), "winner".into())];
        let mut files = story.files();
        want.sort();
        files.sort();
        assert_eq!(files, want);
        story
    }
}

fn files(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, bytes)| ((*name).into(), (*bytes).into())).collect()
}

#[test]
fn who_lost_and_edits_the_winner_keeps_the_own_version_beside() {
    for at in [0, 1] {
        let mut story = Story::conflict("a.txt");
        story.save(at, "a.txt", "better");
        story.settle();
        assert_eq!(story.files(), files(&[("copy of a.txt", "loser"), ("a.txt", "better")]), "at node {at}");
    }
}

#[test]
fn deleting_the_winner_gives_the_name_to_the_loser() {
    for at in [0, 1] {
        let mut story = Story::conflict("a.txt");
        story.delete(at, &path("a.txt"));
        story.settle();
        assert_eq!(story.files(), files(&[("a.txt", "loser")]), "at node {at}");
    }
}

#[test]
fn deleting_the_copy_settles_for_the_winner() {
    for at in [0, 1] {
        let mut story = Story::conflict("a.txt");
        let copy = story.copy();
        story.delete(at, &copy);
        story.settle();
        assert_eq!(story.files(), files(&[("a.txt", "winner")]), "at node {at}");
    }
}

#[test]
fn deleting_winner_and_copy_at_once_leaves_nothing() {
    // One name that sorts after its copy, one that sorts before.
    for name in ["a.txt", "a"] {
        for at in [0, 1] {
            let mut story = Story::conflict(name);
            let copy = story.copy();
            story.delete(at, &copy);
            story.delete(at, &path(name));
            story.settle();
            assert_eq!(story.files(), [], "{name} at node {at}");
        }
    }
}

#[test]
fn deleting_winner_and_copy_one_after_the_other_leaves_nothing() {
    for copy_first in [false, true] {
        for at in [0, 1] {
            let mut story = Story::conflict("a.txt");
            let (copy, winner) = (story.copy(), path("a.txt"));
            let (first, second) = if copy_first { (&copy, &winner) } else { (&winner, &copy) };
            story.delete(at, first);
            story.0.scan_and_send(at).expect("sound");
            story.delete(at, second);
            story.settle();
            assert_eq!(story.files(), [], "copy first: {copy_first}, at node {at}");
        }
    }
}

#[test]
fn moving_the_copy_over_the_winner_settles_for_the_loser() {
    for name in ["a.txt", "a"] {
        for at in [0, 1] {
            let mut story = Story::conflict(name);
            let copy = story.copy();
            story.rename(at, &copy, &path(name));
            story.settle();
            assert_eq!(story.files(), files(&[(name, "loser")]), "{name} at node {at}");
        }
    }
}

#[test]
fn settling_does_not_bring_back_a_winner_that_was_deleted_meanwhile() {
    let mut story = Story::conflict("a.txt");
    let copy = story.copy();
    story.delete(0, &copy);
    story.delete(1, &path("a.txt"));
    story.settle();
    assert_eq!(story.files(), []);
}

#[test]
fn settling_makes_no_new_conflict_with_an_edit_of_the_winner() {
    let mut story = Story::conflict("a.txt");
    let copy = story.copy();
    story.delete(0, &copy);
    story.save(1, "a.txt", "better");
    story.settle();
    assert_eq!(story.files(), files(&[("a.txt", "better")]));
}

#[test]
fn a_file_brought_back_after_its_deletion_stays() {
    let mut story = Story::new();
    story.save(0, "a", "text");
    story.settle();
    story.rename(0, &path("a"), &path("b"));
    story.settle();
    story.rename(0, &path("b"), &path("a"));
    story.settle();
    assert_eq!(story.files(), files(&[("a", "text")]));
}

#[test]
fn a_commit_that_a_death_left_unnoted_is_nobodys_edit() {
    let mut story = Story::new();
    story.save(0, "a", "one");
    story.settle();
    story.save(0, "a", "two");
    story.0.scan_and_send(0).expect("sound");
    story.0.deliver_all().expect("sound");
    story.commit_unnoted(1, "a", "two");
    let before = story.0.nodes[1].index.frontiers().expect("memory");
    story.settle();
    assert_eq!(story.0.nodes[1].index.frontiers().expect("memory"), before);
    assert_eq!(story.files(), files(&[("a", "two")]));
}

#[test]
fn a_file_that_replaces_a_directory_yields_to_what_others_put_into_it() {
    let mut story = Story::new();
    story.mkdir(0, "d");
    story.settle();
    story.save(0, "d/new", "inside");
    story.0.scan_and_send(0).expect("sound");
    story.0.deliver_all().expect("sound");
    // The second node knows of it, does not show it yet, and its user makes a file of the directory.
    story.delete(1, &path("d"));
    story.save(1, "d", "file");
    story.settle();
    assert_eq!(story.files(), files(&[("d/new", "inside"), ("copy of d", "file")]));
}

#[test]
fn a_reader_whose_machine_died_between_a_file_and_its_directory_gets_the_directory() {
    let mut story = Story::new();
    story.save(0, "a", "one");
    story.settle();
    story.0.rules.readers.insert(story.0.nodes[1].writer.node);
    // What the commit of a directory leaves when the machine dies after the file was taken away.
    story.delete(0, &path("a"));
    story.mkdir(0, "a");
    story.0.scan_and_send(0).expect("sound");
    story.0.deliver_all().expect("sound");
    story.delete(1, &path("a"));
    story.settle();
    assert!(story.0.nodes[1].disk().is_dir(&path("a")));
}

#[test]
fn a_commit_left_unnoted_is_nobodys_edit_when_a_newer_version_comes_before_the_next_look() {
    let mut story = Story::new();
    story.save(0, "a", "one");
    story.0.scan_and_send(0).expect("sound");
    story.0.deliver_all().expect("sound");
    story.commit_unnoted(1, "a", "one");
    story.save(0, "a", "two");
    story.0.scan_and_send(0).expect("sound");
    story.0.deliver_all().expect("sound");
    let before = story.0.nodes[1].index.frontiers().expect("memory");
    story.settle();
    assert_eq!(story.0.nodes[1].index.frontiers().expect("memory"), before);
    assert_eq!(story.files(), files(&[("a", "two")]));
}

#[test]
fn a_commit_left_unnoted_is_nobodys_edit_when_it_lost_before_the_next_look() {
    let mut story = Story::new();
    story.save(0, "a", "loser");
    story.0.scan_and_send(0).expect("sound");
    story.0.deliver_all().expect("sound");
    story.commit_unnoted(1, "a", "loser");
    let third = story.entry_of_another("a", "winner");
    let now_ms = story.0.now_ms();
    story.0.nodes[1].receive(third, &story.0.rules, now_ms, false).expect("sound");
    let before = story.0.nodes[1].index.frontiers().expect("memory");
    story.0.scan_and_send(1).expect("sound");
    assert_eq!(story.0.nodes[1].index.frontiers().expect("memory"), before);
}

#[test]
fn a_commit_left_unnoted_is_nobodys_edit_where_a_copy_has_become_a_file_of_its_own() {
    let mut story = Story::conflict("a");
    let copy = story.copy();
    let name = String::from_utf8(copy.as_bytes().to_vec()).expect("UTF-8");
    // Who edits the copy makes it a file of its own; the other machine dies before it notes that it has it.
    story.save(0, &name, "edited");
    story.0.scan_and_send(0).expect("sound");
    story.0.deliver_all().expect("sound");
    story.commit_unnoted(1, &name, "edited");
    let before = story.0.nodes[1].index.frontiers().expect("memory");
    story.0.scan_and_send(1).expect("sound");
    assert_eq!(story.0.nodes[1].index.frontiers().expect("memory"), before);
}

#[test]
fn a_link_that_gets_its_name_back_is_not_settled_away_by_a_death() {
    let mut story = Story::new();
    story.link(0, "a", "target");
    story.mkdir(1, "a");
    story.save(1, "a/b", "below");
    story.settle();
    let copy = story.0.nodes[0].disk().paths().into_iter().find(user::is_copy).expect("a conflict copy");
    // The directory goes: the link will have the name. Until it has, its copy stays.
    story.delete(1, &path("a"));
    story.0.scan_and_send(1).expect("sound");
    story.0.deliver_all().expect("sound");
    let first = story.0.nodes[0].plan(&path("a"), 0);
    assert!(first.iter().all(|action| action.name != copy), "{first:?}");
    story.settle();
    assert!(
        matches!(story.0.nodes[0].disk().item(&path("a")), Some(item) if item.body == Body::Link(b"target".into()))
    );
}

#[test]
fn a_large_file_that_was_a_conflict_copy_reaches_the_others() {
    for at in [0, 1] {
        let mut story = Story::conflict("a.txt");
        let copy = story.copy().to_string();
        let bytes = crate::large::file("edited", at);
        story.now(at);
        story.0.oracle.saved(at, &bytes);
        story.0.nodes[at].disk().put(&path(&copy), Body::File(bytes), 0o644, false);
        story.settle();
        let mut texts: Vec<String> = story.files().into_iter().map(|(_, text)| text).collect();
        texts.sort();
        assert_eq!(texts, ["edited", "winner"], "at node {at}");
    }
}

#[test]
fn a_users_file_with_the_name_of_a_copy_to_be_decides_nothing() {
    let mut story = Story::new();
    story.save(0, "a", "loser");
    story.save(1, "a", "winner");
    story.0.scan_and_send(0).expect("sound");
    story.0.deliver_all().expect("sound");
    story.0.scan_and_send(1).expect("sound");
    story.0.deliver_all().expect("sound");
    let actions = story.0.nodes[1].plan(&path("a"), 0);
    let copy = actions.into_iter().find(|action| action.copy_of.is_some()).expect("a copy to be").name;
    story.save(1, &copy.to_string(), "mine");
    story.settle();
    let mut texts: Vec<String> = story.files().into_iter().map(|(_, text)| text).collect();
    texts.sort();
    assert_eq!(texts, ["loser", "mine", "winner"]);
}

#[test]
fn a_loser_that_lies_beside_outlives_a_death_between_its_removal_and_the_directory() {
    let mut story = Story::new();
    story.save(0, "a", "loser");
    story.mkdir(1, "a");
    story.0.scan_and_send(0).expect("sound");
    story.0.scan_and_send(1).expect("sound");
    story.0.deliver_all().expect("sound");
    // What the commit of the directory leaves on the first machine when it dies half way.
    let actions = story.0.nodes[0].plan(&path("a"), 0);
    let copy = actions.into_iter().find(|action| action.copy_of.is_some()).expect("a copy to be");
    let now_ms = story.0.now_ms();
    assert_eq!(story.0.nodes[0].act(&copy, Some(b"loser".to_vec()), now_ms), Acted::Done);
    story.delete(0, &path("a"));
    story.settle();
    assert!(story.0.nodes[1].disk().is_dir(&path("a")));
    assert_eq!(story.files(), files(&[("copy of a", "loser")]));
}

#[test]
fn a_file_deleted_since_follows_its_deletion_where_a_state_was_put_back_that_had_signed_nothing() {
    let mut story = Story::new();
    let state = story.0.nodes[1].backup();
    story.save(0, "a", "text");
    story.settle();
    // The index knows nothing of the file that lies on its disk.
    story.0.nodes[1].put_back(state, None);
    story.delete(0, &path("a"));
    story.settle();
    assert_eq!(story.files(), []);
}

#[test]
fn a_file_that_nobody_deleted_since_is_shared_where_a_state_was_put_back() {
    let mut story = Story::new();
    let state = story.0.nodes[1].backup();
    story.save(0, "a", "text");
    story.settle();
    story.0.nodes[1].put_back(state, None);
    story.save(1, "b", "made while the node was off");
    story.settle();
    assert_eq!(story.files(), files(&[("a", "text"), ("b", "made while the node was off")]));
}

#[test]
fn a_save_that_a_power_cut_took_back_without_a_trace_comes_back() {
    let mut story = Story::new();
    story.save(0, "a", "old");
    story.settle();
    story.save(0, "a", "new");
    story.settle();
    // Written in place: the times reached the disk, the bytes did not.
    story.0.nodes[0].disk().flush_all();
    story.0.nodes[0].lose_power();
    let was = story.0.nodes[0].disk().item(&path("a")).expect("there").info;
    for inode in story.0.nodes[0].disk().inodes.values_mut().filter(|inode| inode.body == Body::File("new".into())) {
        inode.body = Body::File("old".into());
    }
    assert_eq!(story.0.nodes[0].disk().item(&path("a")).expect("there").info, was);
    story.settle();
    assert_eq!(story.files(), files(&[("a", "new")]));
}

#[test]
fn a_save_after_a_power_cut_and_before_the_first_look_is_an_edit_however_short() {
    let mut story = Story::new();
    story.save(0, "a", "a long text");
    story.settle();
    story.0.nodes[0].disk().flush_all();
    story.0.nodes[0].lose_power();
    story.now(0);
    story.0.nodes[0].start();
    story.save(0, "a", "short");
    story.settle();
    assert_eq!(story.files(), files(&[("a", "short")]));
}

#[test]
fn a_reader_whose_machine_died_before_a_superseded_directory_was_replaced_has_changed_nothing() {
    let mut story = Story::new();
    story.mkdir(0, "g");
    story.settle();
    story.0.rules.readers.insert(story.0.nodes[1].writer.node);
    // A file took the place of the directory, and lost against that of a third who knew nothing of either.
    let third = story.entry_of_another("g", "winner");
    story.delete(0, &path("g"));
    story.save(0, "g", "loser");
    story.0.scan_and_send(0).expect("sound");
    story.0.deliver_all().expect("sound");
    let now_ms = story.0.now_ms();
    story.0.nodes[1].receive(third, &story.0.rules, now_ms, false).expect("sound");
    // What the commit of the file leaves when the machine dies after the directory was taken away.
    story.delete(1, &path("g"));
    story.0.scan_and_send(1).expect("sound");
    let record = story.0.nodes[1].index.path(&path("g")).expect("memory").expect("known");
    assert!(!record.local_only && record.disk.is_none(), "{record:?}");
}
