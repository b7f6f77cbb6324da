//! Short stories that random offices found, or that the rules promise: each once went wrong or must never.

use lanyard::base::RelPath;
use lanyard::logic::sync::index::Look;

use crate::disk::Body;
use crate::node::Acted;
use crate::plant::Plant;
use crate::user::{self, path};
use crate::world::{Setup, World};

/// Two nodes in order, the second one's clock ahead: what it writes at the same time wins.
struct Story(World);

impl Story {
    fn new() -> Self {
        let setup = Setup { seed: 1, nodes: 2, steps: 0, plant: Plant::Nothing, reader: false, rogue: false };
        let mut world = World::new(setup);
        world.nodes[0].skew_ms = 0;
        world.nodes[1].skew_ms = 1_000_000;
        let mut story = Self(world);
        story.settle();
        story
    }

    fn save(&mut self, at: usize, name: &str, bytes: &str) {
        let now_ms = self.now(at);
        self.0.nodes[at].disk.put(&path(name), Body::File(bytes.into()), 0o644, false, now_ms);
    }

    fn mkdir(&mut self, at: usize, name: &str) {
        let now_ms = self.now(at);
        self.0.nodes[at].disk.put(&path(name), Body::Dir, 0o755, false, now_ms);
    }

    fn delete(&mut self, at: usize, name: &RelPath) {
        self.0.nodes[at].disk.remove(name);
    }

    fn rename(&mut self, at: usize, from: &RelPath, to: &RelPath) {
        let now_ms = self.now(at);
        self.0.nodes[at].disk.rename(from, to, now_ms);
    }

    fn now(&mut self, at: usize) -> u64 {
        self.0.pass(1000);
        let node = &self.0.nodes[at];
        node.local_ms(self.0.now_ms())
    }

    /// Everybody tells everybody everything.
    fn settle(&mut self) {
        self.0.heal().expect("an office comes to rest");
        assert_eq!(self.0.nodes[0].disk.tree(), self.0.nodes[1].disk.tree());
    }

    /// What is there in the end: names, with copies as `copy of name`, and contents.
    fn files(&self) -> Vec<(String, String)> {
        let tree = self.0.nodes[0].disk.tree();
        let named = tree.iter().filter_map(|(at, (body, ..))| match body {
            Body::File(bytes) => {
                let name = user::owner(at).map_or(at.to_string(), |owner| format!("copy of {owner}"));
                Some((name, String::from_utf8_lossy(bytes).into_owned()))
            }
            _ => None,
        });
        named.collect()
    }

    fn copy(&self) -> RelPath {
        self.0.nodes[0].disk.paths().into_iter().find(user::is_copy).expect("a conflict copy")
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
    let action = story.0.nodes[1].plan(&path("a"), 0).pop().expect("something to do");
    let now_ms = story.now(1);
    assert_eq!(story.0.nodes[1].act(&action, Some(b"two".to_vec()), now_ms, true), Acted::Died);
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
