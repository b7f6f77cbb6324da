//! Four nodes, cut apart and joined at random, killed and started again, while a user at each of them edits.
//!
//! The oracle knows every content that was ever seen in a node's folder, and which of them that node's own user replaced
//! or removed: by exchange, so that what came out is known for certain. What stood on a disk and was not taken away by its
//! own user was acknowledged there, and must be found in the end, on some node: under a name, as a conflict copy, or among
//! the kept versions. And what is seen must be whole at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::office::{number, seed};
use crate::tree::{self, Dice, Kind};

const NODES: usize = 4;
/// Names that all users edit: few, so that they meet.
const NAMES: u64 = 24;

type Hash = [u8; 32];

#[derive(Default)]
struct Oracle {
    ever: BTreeMap<Hash, String>,
    seen: [BTreeSet<Hash>; NODES],
    taken: [BTreeSet<Hash>; NODES],
    faults: Vec<String>,
}

fn locked(oracle: &Mutex<Oracle>) -> MutexGuard<'_, Oracle> {
    oracle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn four_nodes_under_cuts_and_kills_and_edits_end_equal_and_every_acknowledged_content_is_found() {
    let Some(lab) = Lab::alone("chaos") else { return };
    let seed = seed("chaos");
    let hosts: Vec<Host<'_>> = (0..NODES).map(|_| lab.host()).collect();
    let mut nodes: Vec<Node<'_>> =
        hosts.iter().zip(["front-desk", "workshop", "laptop", "office"]).map(|(host, name)| host.node(name)).collect();
    let (first, others) = nodes.split_at_mut(1);
    first[0].mkdir("Shared");
    first[0].up(&["Shared"]);
    let mut roots = vec![first[0].path("Shared")];
    for node in others {
        node.up(&[]);
        first[0].admit(node, &["--into", &node.path("In").display().to_string()]);
        roots.push(eventually("the folder is received", CONVERGE_MAX, || {
            node.folder("Shared")["path"].as_str().map(PathBuf::from).ok_or_else(|| "no path yet".to_owned())
        }));
    }
    fs::create_dir(lab.dir().join("aside")).expect("a directory");

    let oracle = Mutex::new(Oracle::default());
    let stop = AtomicBool::new(false);
    let mut done = Done::default();
    thread::scope(|scope| {
        for (at, root) in roots.iter().enumerate() {
            let (oracle, stop) = (&oracle, &stop);
            scope.spawn(move || watch(oracle, at, root, stop));
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut script = Script { lab: &lab, hosts: &hosts, roots: &roots, dice: Dice(seed), done: &mut done };
            script.run(&mut nodes, &oracle);
            // The trees first: where they differ says more than that a node still waits.
            for root in &roots[1..] {
                eventually("all nodes hold the same", CONVERGE_MAX, || tree::same(&roots[0], root));
            }
            for node in &nodes {
                node.lanyard(&["wait", "--timeout", "100s"]).ok();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });

    let oracle = locked(&oracle);
    assert!(oracle.faults.is_empty(), "half files were seen under their names: {:#?}", oracle.faults);
    let mut found = BTreeSet::new();
    for root in &roots {
        for dir in [root.clone(), root.join(".lanyard/versions")] {
            found.extend(tree::snapshot(&dir).into_iter().filter(|item| item.kind == Kind::File).map(|item| item.hash));
        }
    }
    let acknowledged: BTreeSet<&Hash> =
        (0..NODES).flat_map(|at| oracle.seen[at].difference(&oracle.taken[at])).collect();
    let lost: Vec<&String> =
        acknowledged.iter().filter(|hash| !found.contains(**hash)).map(|hash| &oracle.ever[*hash]).collect();
    let files = tree::listing(&roots[0]);
    let copies = files.iter().filter(|item| String::from_utf8_lossy(&item.path).contains("(conflict ")).count();
    println!(
        "chaos: {done:?}; {} contents saved, {} acknowledged, {} lost; {} paths at the end, {copies} of them conflict copies",
        oracle.ever.len(),
        acknowledged.len(),
        lost.len(),
        files.len()
    );
    assert!(lost.is_empty(), "acknowledged and nowhere: {lost:?}");
    assert!(done.saved > 0 && acknowledged.len() as u64 * 2 > done.saved, "most of what was saved was acknowledged");
}

#[derive(Debug, Default)]
struct Done {
    saved: u64,
    removed: u64,
    cuts: u64,
    heals: u64,
    kills: u64,
}

struct Script<'a> {
    lab: &'a Lab,
    hosts: &'a [Host<'a>],
    roots: &'a [PathBuf],
    dice: Dice,
    done: &'a mut Done,
}

impl Script<'_> {
    fn run(&mut self, nodes: &mut [Node<'_>], oracle: &Mutex<Oracle>) {
        let (began, lasts) = (Instant::now(), Duration::from_secs(number("LANYARD_CHAOS_S", 20)));
        let mut is_cut = false;
        while began.elapsed() < lasts {
            let at = self.any(NODES);
            match self.dice.between(0, 100) {
                0..=4 => {
                    let other = (at + 1 + self.any(NODES - 1)) % NODES;
                    self.lab.partition(&self.hosts[at], &self.hosts[other]);
                    is_cut = true;
                    self.done.cuts += 1;
                }
                5..=7 if is_cut => {
                    self.lab.heal();
                    is_cut = false;
                    self.done.heals += 1;
                }
                8..=9 => {
                    nodes[at].kill9();
                    nodes[at].start(&[]);
                    self.done.kills += 1;
                }
                10..=19 => self.remove(oracle, at),
                _ => self.save(oracle, at),
            }
            sleep(Duration::from_millis(self.dice.between(5, 60)));
        }
        if is_cut {
            self.lab.heal();
        }
        nodes.iter_mut().for_each(Node::wait_until_up);
    }

    fn any(&mut self, count: usize) -> usize {
        self.dice.between(0, count as u64) as usize
    }

    fn name(&mut self) -> String {
        let n = self.dice.between(0, NAMES);
        format!("{}/document {n}.odt", ["plans", "letters/2026", "letters"][n as usize % 3])
    }

    fn save(&mut self, oracle: &Mutex<Oracle>, at: usize) {
        let (name, aside) = (self.name(), self.lab.dir().join("aside/new"));
        let most = if self.dice.between(0, 8) == 0 { 1 << 20 } else { 50 << 10 };
        let length = self.dice.between(1, most) as usize;
        let bytes = self.dice.bytes(length);
        let hash = *blake3::hash(&bytes).as_bytes();
        fs::write(&aside, bytes).expect("room for a file");
        locked(oracle).ever.insert(hash, name.clone());
        let path = self.roots[at].join(&name);
        // A node may remove an empty directory or place a file at any moment.
        for _ in 0..100 {
            fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
            if renameat_with(CWD, &aside, CWD, &path, RenameFlags::NOREPLACE).is_ok() {
                self.done.saved += 1;
                return;
            }
            if renameat_with(CWD, &aside, CWD, &path, RenameFlags::EXCHANGE).is_ok() {
                let old = *blake3::hash(&fs::read(&aside).expect("the file that came out")).as_bytes();
                locked(oracle).taken[at].insert(old);
                self.done.saved += 1;
                return;
            }
        }
        panic!("{} can be neither made nor replaced", path.display());
    }

    fn remove(&mut self, oracle: &Mutex<Oracle>, at: usize) {
        let (name, aside) = (self.name(), self.lab.dir().join("aside/old"));
        if fs::rename(self.roots[at].join(name), &aside).is_ok() {
            let old = *blake3::hash(&fs::read(&aside).expect("the file that came out")).as_bytes();
            locked(oracle).taken[at].insert(old);
            self.done.removed += 1;
        }
    }
}

/// Notes what is seen in one node's folder, until told to stop.
fn watch(oracle: &Mutex<Oracle>, at: usize, root: &Path, stop: &AtomicBool) {
    let mut known = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        for item in tree::listing(root).into_iter().filter(|item| item.kind == Kind::File) {
            // Whichever file the name leads to when it is read; one that is listed again unchanged was read before.
            if !known.insert((item.path.clone(), item.size, item.mtime_ns)) {
                continue;
            }
            let Ok(bytes) = fs::read(root.join(String::from_utf8_lossy(&item.path).as_ref())) else { continue };
            let hash = *blake3::hash(&bytes).as_bytes();
            let mut oracle = locked(oracle);
            if oracle.ever.contains_key(&hash) {
                oracle.seen[at].insert(hash);
            } else {
                let name = item.path.escape_ascii();
                oracle.faults.push(format!(
                    "{name} at {} with {} bytes that nobody saved",
                    root.display(),
                    bytes.len()
                ));
            }
        }
        sleep(Duration::from_millis(20));
    }
}
