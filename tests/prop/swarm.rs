//! The scheduler of contents: whatever peers come and go, tell, lack or lie, every chunk is fetched in the end, and
//! never twice at a time, nor of a peer that cannot have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lanyard::base::{ChunkHash, ContentId, NodeId, RelPath};
use lanyard::logic::sync::fetch::{Failure, Fetch, Request, Want};
use lanyard::wire::content::{ChunkList, ChunkRecord};
use lanyard::wire::message::Part;
use proptest::prelude::*;

const CONTENT: ContentId = ContentId([7; 32]);
/// The peers that come, go and lie.
const PEERS: u8 = 4;
/// It has everything, and comes at last.
const HONEST: NodeId = NodeId([99; 32]);

#[derive(Clone, Debug)]
enum Step {
    Up(u8),
    Down(u8),
    /// A peer tells some map from some chunk on.
    Tells(u8, u64, Vec<u8>),
    /// The n-th request under way is answered.
    Answered(usize, Answer),
    Pass(u64),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Right,
    Lacks,
    Wrong,
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![3 => Just(Answer::Right), 2 => Just(Answer::Lacks), 1 => Just(Answer::Wrong)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..PEERS).prop_map(Step::Up),
        (0..PEERS).prop_map(Step::Down),
        (0..PEERS, prop_oneof![Just(0), Just(32_768), any::<u64>()], prop::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(peer, first, map)| Step::Tells(peer, first, map)),
        (any::<usize>(), answer()).prop_map(|(at, answer)| Step::Answered(at, answer)),
        (any::<usize>(), answer()).prop_map(|(at, answer)| Step::Answered(at, answer)),
        prop_oneof![0u64..300, 0u64..60_000].prop_map(Step::Pass),
    ]
}

fn node(peer: u8) -> NodeId {
    NodeId([peer + 1; 32])
}

/// The scheduler with what it asked for.
struct Run {
    fetch: Fetch,
    now_ms: u64,
    missing: BTreeSet<u64>,
    up: BTreeSet<NodeId>,
    told: BTreeMap<NodeId, BTreeSet<u64>>,
    flying: Vec<Request>,
    done: bool,
}

impl Run {
    fn of(chunks: u64) -> Self {
        // Records of distinct hashes; no bytes are needed to decide who is asked.
        let record = |n: u64| {
            let hash = ChunkHash(*blake3::hash(&n.to_be_bytes()).as_bytes());
            ChunkRecord { hash, bytes: 600_000 + u32::try_from(n * 4099 % 400_000).expect("small") }
        };
        let list = ChunkList { records: (0..chunks).map(record).collect() };
        let mut fetch = Fetch::new(NodeId([50; 32]), 0);
        fetch.want(Want { content: CONTENT, bytes: list.bytes(), path: RelPath::new("f").expect("valid") });
        fetch.listed(CONTENT, Arc::new(list), (0..chunks).collect());
        let (up, told, flying) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Self { fetch, now_ms: 0, missing: (0..chunks).collect(), up, told, flying, done: false }
    }

    fn ask(&mut self) {
        for request in self.fetch.next_requests(self.now_ms, &|_, _| true) {
            let Part::Chunk { index, .. } = request.part else { panic!("the list is known") };
            assert!(self.up.contains(&request.peer), "a peer that is gone is asked");
            assert!(self.missing.contains(&index), "a chunk that is here is asked for");
            if let Some(told) = self.told.get(&request.peer) {
                assert!(told.contains(&index), "a chunk is asked of who has it not");
            }
            self.flying.push(request);
        }
        // What was given up for silence is not under way any more.
        let fetch = &self.fetch;
        self.flying.retain(|request| fetch.asked(request.peer, request.number).is_some());
        let mut chunks: Vec<u64> = self.flying.iter().map(chunk).collect();
        chunks.sort_unstable();
        let before = chunks.len();
        chunks.dedup();
        assert_eq!(chunks.len(), before, "one chunk is asked for twice at a time");
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Up(peer) => {
                self.fetch.peer_up(node(peer));
                self.up.insert(node(peer));
            }
            Step::Down(peer) => self.down(node(peer)),
            Step::Tells(peer, first, map) => {
                self.fetch.told(node(peer), CONTENT, (first, &map), self.now_ms);
                // What it is believed to have is checked only where it is simple: one window, and no time passes.
                if first == 0 && self.up.contains(&node(peer)) && !self.done {
                    let bits = (0u64..)
                        .zip(&map)
                        .flat_map(|(at, byte)| (0..8).map(move |bit| (at * 8 + bit, byte >> bit & 1)));
                    let told = bits.filter(|(_, bit)| *bit == 1).map(|(at, _)| at).collect();
                    self.told.insert(node(peer), told);
                }
            }
            Step::Answered(at, answer) if !self.flying.is_empty() => self.answered(at % self.flying.len(), answer),
            Step::Answered(..) => {}
            Step::Pass(ms) => {
                self.now_ms += ms;
                self.told.clear();
            }
        }
        self.ask();
    }

    fn down(&mut self, peer: NodeId) {
        self.fetch.peer_down(peer);
        self.up.remove(&peer);
        self.told.remove(&peer);
    }

    fn answered(&mut self, at: usize, answer: Answer) {
        let request = self.flying.remove(at);
        match answer {
            Answer::Right => {
                self.missing.remove(&chunk(&request));
                self.done |= self.fetch.arrived(request.number).is_some();
            }
            Answer::Lacks => self.fetch.failed(request.number, Failure::Lacks, self.now_ms),
            Answer::Wrong => self.fetch.failed(request.number, Failure::Wrong, self.now_ms),
        }
    }
}

fn chunk(request: &Request) -> u64 {
    match request.part {
        Part::Chunk { index, .. } => index,
        other => panic!("a chunk, not {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_chunk_is_fetched_in_the_end_and_none_twice_at_a_time(
        chunks in 2u64..90,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut run = Run::of(chunks);
        for step in steps {
            run.take(step);
        }
        // One comes who has everything; of the others, those that are left never answer right.
        run.fetch.peer_up(HONEST);
        run.up.insert(HONEST);
        for _ in 0..4 * chunks + 600 {
            run.told.clear();
            run.ask();
            if let Some(at) = run.flying.iter().position(|request| request.peer == HONEST) {
                run.answered(at, Answer::Right);
            } else if !run.flying.is_empty() {
                run.answered(0, Answer::Lacks);
            } else if let Some(wake) = run.fetch.wake_ms() {
                run.now_ms = run.now_ms.max(wake);
            } else {
                prop_assert!(run.done, "nothing would ever happen");
            }
        }
        prop_assert!(run.done && run.missing.is_empty(), "left: {:?}", run.missing);
        prop_assert!(run.fetch.is_idle() && run.fetch.is_quiet());
    }
}
