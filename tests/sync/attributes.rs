//! Attributes on a few machines, two of which carry them, for any interleaving of edits, tags and meetings.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use lanyard::base::time::HlcClock;
use lanyard::base::{ContentId, FileInfo, FileTime, FolderId, Kind, Level, MeshId, NodeId, RelPath, Writer};
use lanyard::logic::sync::attributes::Attributes;
use lanyard::logic::sync::index::{Index, Look, MemoryIndex, Result};
use lanyard::logic::sync::reconcile::{self, Target};
use lanyard::logic::sync::rejudge::Verdicts;
use lanyard::logic::sync::replica::{self, Author, Authored, Found, Rules, Seen};
use lanyard::wire::batch::{Header, What, Xattr};
use lanyard::wire::codec::{Bytes, List, Text};
use proptest::collection::vec;
use proptest::prelude::*;

const IDS: (MeshId, FolderId) = (MeshId([1; 32]), FolderId([2; 32]));

struct Open;

impl Rules for Open {
    fn permits(&self, _: NodeId, _: &RelPath, _: Level) -> bool {
        true
    }
}

impl Verdicts for Open {
    fn counts(&self, _: &Header, _: u64, _: &RelPath, _: &dyn Look) -> Result<bool> {
        Ok(true)
    }
}

/// A file as its disk has it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct File {
    content: u64,
    tags: BTreeMap<u8, u64>,
}

struct Machine {
    key: SigningKey,
    /// Whether it carries attributes.
    looks: bool,
    index: MemoryIndex,
    clock: HlcClock,
    /// Every batch that it has, in the order in which it came.
    log: Vec<Authored>,
    disk: BTreeMap<RelPath, File>,
}

fn name() -> RelPath {
    RelPath::new("plan").expect("valid")
}

fn what(content: u64) -> What {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&content.to_be_bytes());
    What::File { bytes: 1, content: ContentId(id) }
}

fn content_of(what: &What) -> u64 {
    let id = what.content().expect("a file");
    u64::from_be_bytes(id.0[..8].try_into().expect("8 bytes"))
}

fn info(content: u64) -> FileInfo {
    let mtime = FileTime { secs: i64::try_from(content).expect("small"), nanos: 0 };
    FileInfo { kind: Kind::File, bytes: 1, mode: 0o644, mtime, ctime: mtime, inode: 7 }
}

impl Machine {
    fn new(n: u8, looks: bool) -> Self {
        let key = SigningKey::from_bytes(&[n; 32]);
        let (index, clock) = (MemoryIndex::default(), HlcClock::default());
        Self { key, looks, index, clock, log: Vec::new(), disk: BTreeMap::new() }
    }

    fn shown(&self, path: &RelPath) -> Attributes {
        let tags = self.disk.get(path).filter(|_| self.looks).map(|file| {
            let one = |(name, value): (&u8, &u64)| Xattr {
                name: Text::new(format!("user.{name}")).expect("short"),
                value: Bytes::new(value.to_be_bytes().to_vec()).expect("short"),
            };
            List::truncated(file.tags.iter().map(one).collect())
        });
        Attributes { xattrs: tags, owner: None }
    }

    /// Looks at the name, and signs what its user changed.
    fn look(&mut self, now: u64) {
        let attributes = self.shown(&name());
        let seen =
            self.disk.get(&name()).map(|file| Seen { attributes, ..Seen::new(info(file.content), what(file.content)) });
        let writer = Writer { node: NodeId(self.key.verifying_key().to_bytes()), incarnation: 1 };
        let ((mesh, folder), heads, seed) = (IDS, Vec::new(), [now as u8; 32]);
        let author = Author { mesh, folder, writer, key: &self.key, heads, rules: &Open, seed, late: None };
        let found = vec![Found { path: name(), seen }];
        let signed = replica::author(&mut self.index, &author, &mut self.clock, now, found).expect("memory");
        self.log.extend(signed);
    }

    fn take(&mut self, log: &[Authored]) {
        for authored in log {
            if self.log.iter().any(|known| known.batch.hash() == authored.batch.hash()) {
                continue;
            }
            let entries = authored.entries.iter().cloned().enumerate().collect();
            replica::receive(&mut self.index, IDS, &Open, &authored.batch, entries, &[]).expect("sound");
            self.log.push(authored.clone());
        }
    }

    /// Brings the disk to what the index says.
    fn put(&mut self) {
        for _ in 0..4 {
            let needs = self.index.needs(None, 99).expect("memory");
            let plan = |path: &RelPath| reconcile::plan(&mut self.index, path).expect("memory");
            let actions: Vec<_> = needs.iter().flat_map(plan).collect();
            if actions.is_empty() {
                needs.iter().for_each(|path| self.index.put_need(path, false).expect("memory"));
            }
            for action in actions {
                let (Target::Put { what, .. } | Target::Meta { what, .. }) = &action.target else {
                    self.disk.remove(&action.name);
                    reconcile::done(&mut self.index, &action, None, false, Attributes::default()).expect("memory");
                    continue;
                };
                let content = content_of(what);
                let before = self.disk.remove(&action.name);
                let tags = if self.looks {
                    let one = |one: &Xattr| {
                        let name = one.name.strip_prefix("user.").and_then(|name| name.parse().ok());
                        (name.expect("a tag"), u64::from_be_bytes(one.value[..].try_into().expect("8 bytes")))
                    };
                    action.said.xattrs.iter().map(one).collect()
                } else {
                    before.map(|file| file.tags).unwrap_or_default()
                };
                self.disk.insert(action.name.clone(), File { content, tags });
                let shown = self.shown(&action.name);
                reconcile::done(&mut self.index, &action, Some(info(content)), false, shown).expect("memory");
            }
        }
    }

    fn main(&self) -> Option<&File> {
        self.disk.get(&name())
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A machine's user saves.
    Save(usize),
    /// A machine's user sets a tag, where the machine carries them.
    Tag(usize, u8),
    /// The same removed.
    Untag(usize, u8),
    /// One takes what another has.
    Meet(usize, usize),
    /// A machine's disk follows.
    Put(usize),
}

fn step(savers: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..savers).prop_map(Step::Save),
        3 => (0..2usize, 0..3u8).prop_map(|(at, tag)| Step::Tag(at, tag)),
        1 => (0..2usize, 0..3u8).prop_map(|(at, tag)| Step::Untag(at, tag)),
        4 => (0..3usize, 0..3usize).prop_map(|(from, to)| Step::Meet(from, to)),
        3 => (0..3usize).prop_map(Step::Put),
    ]
}

/// Runs the steps, lets all meet until all is at rest, and returns the machines; the third carries no attributes.
fn run(steps: &[Step]) -> Vec<Machine> {
    let mut office = vec![Machine::new(1, true), Machine::new(2, true), Machine::new(3, false)];
    let mut now = 1_000;
    office[2].disk.insert(name(), File { content: 1, tags: BTreeMap::new() });
    office[2].look(now);
    let meet = |office: &mut Vec<Machine>, from: usize, to: usize| {
        let log = office[from].log.clone();
        office[to].take(&log);
    };
    let settle = |office: &mut Vec<Machine>, now: &mut u64| {
        for _ in 0..3 {
            for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 2), (2, 1), (1, 0)] {
                meet(office, from, to);
                office[to].put();
                *now += 1;
                let at = *now;
                office[to].look(at);
            }
        }
    };
    settle(&mut office, &mut now);
    for step in steps {
        now += 10;
        match *step {
            Step::Save(at) => {
                if let Some(file) = office[at].disk.get_mut(&name()) {
                    file.content = now;
                }
                office[at].look(now);
            }
            Step::Tag(at, tag) => {
                if let Some(file) = office[at].disk.get_mut(&name()) {
                    file.tags.insert(tag, now);
                }
                office[at].look(now);
            }
            Step::Untag(at, tag) => {
                if let Some(file) = office[at].disk.get_mut(&name()) {
                    file.tags.remove(&tag);
                }
                office[at].look(now);
            }
            Step::Meet(from, to) => meet(&mut office, from, to),
            Step::Put(at) => office[at].put(),
        }
    }
    settle(&mut office, &mut now);
    let rest: Vec<usize> = office.iter().map(|machine| machine.log.len()).collect();
    settle(&mut office, &mut now);
    assert_eq!(office.iter().map(|machine| machine.log.len()).collect::<Vec<_>>(), rest, "it is at rest");
    office
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn all_end_with_one_content_and_those_who_look_with_one_set_of_tags(steps in vec(step(3), 0..24)) {
        let office = run(&steps);
        prop_assert_eq!(office[0].main(), office[1].main());
        prop_assert_eq!(office[0].main().map(|file| file.content), office[2].main().map(|file| file.content));
        let names = |machine: &Machine| machine.disk.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(names(&office[0]), names(&office[1]));
        prop_assert_eq!(names(&office[0]), names(&office[2]));
        prop_assert!(office[2].disk.values().all(|file| file.tags.is_empty()), "who does not look has none");
    }

    #[test]
    fn where_one_machine_edits_and_another_tags_there_is_no_conflict_and_no_tag_is_lost(
        steps in vec(step(1).prop_filter("one saves, the other tags", |step| match step {
            Step::Tag(at, _) | Step::Untag(at, _) => *at == 1,
            _ => true,
        }), 0..24),
    ) {
        // The third saves in the place of the first: it does not look at attributes.
        let steps: Vec<Step> = steps.into_iter().map(|step| match step {
            Step::Save(_) => Step::Save(2),
            other => other,
        }).collect();
        let office = run(&steps);
        for machine in &office {
            prop_assert_eq!(machine.disk.len(), 1, "{:?}", machine.disk.keys());
        }
        let saves = steps.iter().filter(|step| matches!(step, Step::Save(_))).count();
        prop_assert_eq!(office[1].main().map(|file| file.content > 1), Some(saves > 0));
        // What was set last and not removed since is there.
        let mut tags: BTreeMap<u8, bool> = BTreeMap::new();
        for step in &steps {
            match step {
                Step::Tag(_, tag) => drop(tags.insert(*tag, true)),
                Step::Untag(_, tag) => drop(tags.insert(*tag, false)),
                _ => {}
            }
        }
        let there = office[1].main().expect("a file");
        for (tag, _) in tags.iter().filter(|(_, set)| **set) {
            prop_assert!(there.tags.contains_key(tag), "tag {tag} of {tags:?} is lost: {there:?}");
        }
    }
}
