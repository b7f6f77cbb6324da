//! The scheduler, one behaviour a test.

use super::*;
use crate::logic::sync::verify;
use crate::wire::codec::List;

const A: NodeId = NodeId([1; 32]);
const B: NodeId = NodeId([2; 32]);

fn want(n: u8, bytes: u64) -> Want {
    Want { content: ContentId([n; 32]), bytes, path: RelPath::new("f").expect("valid") }
}

#[test]
fn nobody_has_what_all_who_can_be_asked_lack() {
    let mut fetch = Fetch::default();
    let want = Want { content: ContentId([7; 32]), bytes: 9, path: RelPath::new("a").expect("valid") };
    fetch.want(want.clone());
    assert!(fetch.nobody_has(want.content), "there is nobody to ask");
    fetch.peer_up(NodeId([1; 32]));
    fetch.peer_up(NodeId([2; 32]));
    for _ in 0..2 {
        assert!(!fetch.nobody_has(want.content));
        let asked = fetch.next_requests(0, &|_, _| true).pop().expect("somebody is asked");
        assert!(!fetch.nobody_has(want.content));
        fetch.failed(asked.number, Failure::Lacks, 0);
    }
    assert!(fetch.nobody_has(want.content));
}

#[test]
fn a_peer_that_lacks_a_content_is_passed_over_for_another() {
    let mut fetch = Fetch::default();
    fetch.peer_up(A);
    fetch.peer_up(B);
    fetch.want(want(1, 100));
    let first = fetch.next_requests(0, &|_, _| true).remove(0);
    fetch.failed(first.number, Failure::Lacks, 0);
    let second = fetch.next_requests(1, &|_, _| true).remove(0);
    assert_ne!(first.peer, second.peer);
    assert_eq!(fetch.arrived(second.number), Some(want(1, 100)));
    assert!(fetch.is_idle() && fetch.is_quiet());
}

#[test]
fn who_may_not_read_a_path_is_not_asked_for_it_until_the_rules_are_others() {
    let mut fetch = Fetch::default();
    fetch.peer_up(A);
    fetch.want(want(1, 100));
    fetch.want(want(2, 10 << 20));
    assert_eq!(fetch.next_requests(0, &|_, _| false), []);
    assert!(fetch.nobody_has(ContentId([1; 32])) && fetch.nobody_has(ContentId([2; 32])));
    assert_eq!(fetch.wake_ms(), Some(LACK_MS), "it looks again by itself");
    fetch.peer_up(B);
    let asked = fetch.next_requests(1, &|node, _| node == B);
    assert_eq!(asked.iter().map(|request| request.peer).collect::<Vec<_>>(), [B, B]);
    fetch.peer_down(B);
    let again = fetch.next_requests(LACK_MS, &|_, _| true);
    assert_eq!(again.iter().map(|request| request.peer).collect::<Vec<_>>(), [A, A]);
}

#[test]
fn what_a_lost_peer_owed_is_asked_of_another() {
    let mut fetch = Fetch::default();
    fetch.peer_up(A);
    for n in 0..10 {
        fetch.want(want(n, 100));
    }
    assert_eq!(fetch.next_requests(0, &|_, _| true).len(), 10);
    fetch.peer_up(B);
    fetch.peer_down(A);
    let again = fetch.next_requests(1, &|_, _| true);
    assert_eq!(again.len(), 10);
    assert!(again.iter().all(|request| request.peer == B));
}

#[test]
fn the_window_bounds_what_is_in_flight() {
    let mut fetch = Fetch::default();
    fetch.peer_up(A);
    for n in 0..200 {
        fetch.want(want(n, 1024 * 1024));
    }
    let asked = fetch.next_requests(0, &|_, _| true);
    assert_eq!(asked.len() as u64, WINDOW_BYTES_MAX / (1024 * 1024));
    assert!(fetch.arrived(asked[0].number).is_some());
    assert_eq!(fetch.next_requests(0, &|_, _| true).len(), 1);
}

#[test]
fn a_large_content_comes_as_list_then_as_the_chunks_that_are_missing() {
    let records: Vec<ChunkRecord> = (0..5).map(|n| ChunkRecord::of(&vec![n; 1024 * 1024])).collect();
    let list = ChunkList { records };
    let mut fetch = Fetch::default();
    fetch.peer_up(A);
    let large = Want { content: list.id(), bytes: list.bytes(), path: RelPath::new("f").expect("valid") };
    fetch.want(large.clone());
    let request = fetch.next_requests(0, &|_, _| true).remove(0);
    assert_eq!(request.part, Part::Leaf(0));
    let leaves = verify::leaves(list.id(), list.bytes(), list.leaves()).expect("right");
    let leaf = verify::leaf(&leaves, 0, List::truncated(list.leaf(0).to_vec())).expect("right");
    fetch.leaves_arrived(list.id(), leaves);
    let (_, arrived) = fetch.leaf_arrived(request.number, 0, leaf).expect("the only leaf");
    assert_eq!(arrived, list);
    fetch.listed(list.id(), Arc::new(arrived), vec![1, 3]);
    let asked = fetch.next_requests(0, &|_, _| true);
    assert_eq!(asked.len(), 2);
    assert_eq!(fetch.arrived(asked[0].number), None);
    assert_eq!(fetch.arrived(asked[1].number), Some(large));
}

const C: NodeId = NodeId([3; 32]);
const MIB: u64 = 1024 * 1024;

/// A scheduler of `node` that has the list of a content of so many chunks, and nothing else of it.
fn listed(node: NodeId, chunks: u8, peers: &[NodeId]) -> (Fetch, Want) {
    let list = ChunkList { records: (0..chunks).map(|n| ChunkRecord::of(&vec![n; 1024 * 1024])).collect() };
    let mut fetch = Fetch::new(node, 0);
    peers.iter().for_each(|peer| fetch.peer_up(*peer));
    let large = Want { content: list.id(), bytes: list.bytes(), path: RelPath::new("f").expect("valid") };
    fetch.want(large.clone());
    fetch.listed(large.content, Arc::new(list), (0..u64::from(chunks)).collect());
    (fetch, large)
}

fn chunk(request: &Request) -> u64 {
    match request.part {
        Part::Chunk { index, .. } => index,
        other => panic!("a chunk, not {other:?}"),
    }
}

#[test]
fn the_chunk_that_the_fewest_have_comes_first() {
    let (mut fetch, large) = listed(A, 8, &[B, C]);
    // All but the fifth are with both.
    fetch.told(B, large.content, (0, &[0b1110_1111]), 0);
    fetch.told(C, large.content, (0, &[0b1111_1111]), 0);
    let asked = fetch.next_requests(0, &|_, _| true);
    assert_eq!((asked.len(), chunk(&asked[0]), asked[0].peer), (8, 4, C));
}

#[test]
fn a_peer_is_asked_only_for_chunks_that_it_told_of() {
    let (mut fetch, large) = listed(A, 8, &[B]);
    fetch.told(B, large.content, (0, &[]), 0);
    assert_eq!(fetch.next_requests(0, &|_, _| true), []);
    fetch.told(B, large.content, (0, &[0b0010_0100]), 1);
    let mut asked: Vec<u64> = fetch.next_requests(1, &|_, _| true).iter().map(chunk).collect();
    asked.sort_unstable();
    assert_eq!(asked, [2, 5]);
}

#[test]
fn what_was_told_long_ago_may_have_become_the_whole() {
    let (mut fetch, large) = listed(A, 8, &[B]);
    fetch.told(B, large.content, (0, &[]), 0);
    assert_eq!(fetch.next_requests(TOLD_MS_MAX - 1, &|_, _| true), []);
    assert!(fetch.nobody_has(large.content));
    assert_eq!(fetch.wake_ms(), Some(TOLD_MS_MAX));
    assert_eq!(fetch.next_requests(TOLD_MS_MAX, &|_, _| true).len(), 8);
}

#[test]
fn receivers_ask_a_source_for_different_chunks() {
    let source = NodeId([9; 32]);
    let mut asked = BTreeSet::new();
    let mut count = 0;
    for (own, others) in [(A, [B, C]), (B, [C, A]), (C, [A, B])] {
        let (mut fetch, large) = listed(own, 48, &[source, others[0], others[1]]);
        for other in others {
            fetch.told(other, large.content, (0, &[]), 0);
        }
        let requests = fetch.next_requests(0, &|_, _| true);
        assert!(requests.iter().all(|request| request.peer == source));
        // As many as there is room for, were they alone; of those that are others', as good as none.
        let bytes = requests.len() as u64 * MIB;
        assert!(bytes <= WINDOW_BYTES_MAX);
        count += requests.len();
        asked.extend(requests.iter().map(chunk));
    }
    assert!(count >= 12, "{count}");
    assert_eq!(asked.len(), count, "nobody asks for what another asks for");
}

#[test]
fn what_is_another_receivers_is_asked_for_in_small_measure() {
    let (mut fetch, large) = listed(A, 48, &[B, C]);
    fetch.told(C, large.content, (0, &[]), 0);
    // The source is fast, and the other receiver gets nothing.
    let mut most = Vec::new();
    while let requests = fetch.next_requests(0, &|_, _| true)
        && !requests.is_empty()
    {
        most.push(requests.len());
        requests.iter().for_each(|request| _ = fetch.arrived(request.number));
    }
    assert_eq!(most.first(), Some(&8), "its own in large measure: {most:?}");
    assert_eq!(most.last(), Some(&1), "the others' in small: {most:?}");
    assert!(fetch.is_idle(), "the rest is not waited for");
}

#[test]
fn who_told_of_a_chunk_and_lacks_it_is_not_asked_for_it_again() {
    let (mut fetch, large) = listed(A, 3, &[B]);
    fetch.told(B, large.content, (0, &[0b001]), 0);
    let request = fetch.next_requests(0, &|_, _| true).remove(0);
    fetch.failed(request.number, Failure::Lacks, 0);
    assert_eq!(fetch.next_requests(LACK_SOME_MS + 1, &|_, _| true), []);
    fetch.told(B, large.content, (0, &[0b111]), 300);
    assert_eq!(fetch.next_requests(300, &|_, _| true).len(), 3);
}

#[test]
fn who_sent_wrong_bytes_talks_in_vain() {
    let (mut fetch, large) = listed(A, 3, &[B]);
    let request = fetch.next_requests(0, &|_, _| true).remove(0);
    fetch.failed(request.number, Failure::Wrong, 0);
    fetch.told(B, large.content, (0, &[0b111]), 1);
    assert_eq!(fetch.next_requests(1_000_000, &|_, _| true), []);
}

#[test]
fn what_was_told_is_forgotten_with_its_content() {
    let (mut fetch, large) = listed(A, 3, &[B]);
    fetch.told(B, large.content, (0, &[0b111]), 0);
    for request in fetch.next_requests(0, &|_, _| true) {
        fetch.arrived(request.number);
    }
    assert!(fetch.is_idle());
    fetch.told(B, large.content, (0, &[0b111]), 0);
    assert!(fetch.peers.values().all(|peer| peer.told.is_empty()));
}
