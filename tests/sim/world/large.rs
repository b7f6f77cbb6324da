//! Contents of several chunks on their way: peers come and go while they do, lie, and die with half of it.

use lanyard::base::{ContentId, NodeId, RelPath};
use lanyard::wire::message::Part;

use super::World;
use crate::large::checked;
use crate::node::Got;

/// Requests of one fetch, more than ever needed.
const REQUESTS_MAX: usize = 200;

impl World {
    /// Gets what can be had of a content now; the whole, if that completes it.
    pub(super) fn fetch_in_parts(&mut self, at: usize, path: &RelPath, id: ContentId) -> Option<Got> {
        let asker = self.nodes[at].writer.node;
        let lists: Vec<_> = (0..self.nodes.len())
            .filter(|peer| self.connected(at, *peer))
            .filter_map(|peer| self.nodes[peer].list_of(path, id, asker))
            .collect();
        let own = self.nodes[at].list_of(path, id, asker);
        let list = own.or_else(|| lists.iter().find_map(|list| checked(id, list)))?;
        // Now and then the machine dies on the way; what people did there before is on the disk.
        let dies = self.rng.percent(if self.faulty { 10 } else { 30 });
        if dies && (self.faulty || self.fragile) {
            let fuse = self.rng.below(24);
            let mut disk = self.nodes[at].disk();
            disk.flush_all();
            disk.calls.fuse = Some(fuse);
        }
        let records = list.records.len();
        let Some(mut coming) = self.nodes[at].begin(path, id, list) else {
            self.note(|| format!("node {at} cannot begin {path}"));
            return None;
        };
        self.note(|| format!("node {at} fetches {path} of {records} chunks"));
        for peer in (0..self.nodes.len()).filter(|peer| self.connected(at, *peer)).collect::<Vec<_>>() {
            coming.fetch.peer_up(self.nodes[peer].writer.node);
            if let Some(map) = self.nodes[peer].tells_of(id) {
                coming.fetch.told(self.nodes[peer].writer.node, id, (0, &map), self.now_ms);
            }
        }
        let mut budget = if self.faulty { self.rng.below(4) } else { REQUESTS_MAX };
        'asking: loop {
            let requests = coming.fetch.next_requests(self.now_ms, &|_, _| true);
            if requests.is_empty() {
                break;
            }
            for request in requests {
                if budget == 0 {
                    break 'asking;
                }
                budget -= 1;
                let answer = self.answer(at, request.peer, path, (id, request.part));
                self.faults.chunks += u64::from(answer.is_some());
                let asked = (request.number, request.part);
                if self.nodes[at].chunk_came(&mut coming, asked, answer, self.now_ms).is_err() {
                    break 'asking;
                }
            }
        }
        let (partial, list) = self.nodes[at].came(coming).or_else(|| {
            self.faults.unfinished += 1;
            None
        })?;
        Some(Got::Whole(partial, list))
    }

    /// The machine died on the way: half of the time its power failed.
    pub(super) fn died_fetching(&mut self, at: usize) -> Result<(), String> {
        let faulty = std::mem::replace(&mut self.faulty, true);
        let perished = self.perish(at);
        self.faulty = faulty;
        perished
    }

    /// What a peer answers, if it is still there; a liar sends other bytes.
    fn answer(&mut self, at: usize, peer: NodeId, path: &RelPath, (id, part): (ContentId, Part)) -> Option<Vec<u8>> {
        let Part::Chunk { index, .. } = part else { panic!("the list is known") };
        let peer = self.nodes.iter().position(|node| node.writer.node == peer).expect("one of the office");
        if !self.connected(at, peer) || (self.faulty && self.rng.percent(15)) {
            return None;
        }
        let asker = self.nodes[at].writer.node;
        let mut bytes = self.nodes[peer].serve_chunk(path, (id, usize::try_from(index).ok()?), asker)?;
        if self.faulty && self.setup.liar == Some(peer) && self.rng.percent(30) {
            self.faults.lies += 1;
            bytes[0] ^= 1;
        }
        Some(bytes)
    }
}
