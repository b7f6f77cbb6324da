//! Contents of several chunks: how people's bytes come to have them, and what a node does to get one, chunk by chunk,
//! into a partial file that outlives its death. Stands where `node::folder::fetcher` stands in the product; the
//! scheduler, the partial file and the checks are the product's own.

use std::sync::{Arc, LazyLock};

use lanyard::base::{ContentId, NodeId, RelPath};
use lanyard::logic::sync::fetch::{Failure, Fetch, Want};
use lanyard::logic::sync::index::Look;
use lanyard::logic::sync::{reuse, verify};
use lanyard::shell::disk::chunk;
use lanyard::shell::disk::stage::{self, Partial};
use lanyard::wire::chunker::{Cutter, chunks_of};
use lanyard::wire::codec::List;
use lanyard::wire::content::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, ChunkList, ChunkRecord};
use lanyard::wire::message::Part;

use crate::node::Node;
use crate::plant::Plant;
use crate::rng::Rng;

/// What fills a chunk.
const FILLER: u8 = b'.';

/// Bytes behind which the chunker cuts, when at least the smallest chunk is before them.
static CUT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = Rng::new(1);
    (0..200)
        .find_map(|_| {
            let noise: Vec<u8> = (0..8192).flat_map(|_| rng.bytes()).collect();
            let end = Cutter::default().cut(&noise);
            // The byte behind the cut has part in it.
            let mark = noise.get(end.checked_sub(64)?..end + 2)?.to_vec();
            let cuts = Cutter::default().cut(&[&[FILLER; CHUNK_BYTES_MIN][..], &mark, &noise].concat());
            (cuts <= CHUNK_BYTES_MIN + mark.len()).then_some(mark)
        })
        .expect("the chunker cuts noise")
});

/// A file of three chunks: its own beginning, a middle that this author's files share, its own end.
pub(crate) fn file(own: &str, author: usize) -> Vec<u8> {
    let chunk = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(CHUNK_BYTES_MIN, FILLER);
        [bytes, CUT.clone()].concat()
    };
    [chunk(&format!("{own}.")), chunk(&format!("shared by n{author}")), own.as_bytes().to_vec()].concat()
}

/// How a content is shown to people.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == FILLER).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A content on its way to a node.
pub(crate) struct Coming {
    pub(crate) fetch: Fetch,
    partial: Partial,
    content: ContentId,
    list: Arc<ChunkList>,
}

impl Node {
    /// The chunk list that a node gives to who asks for it.
    pub(crate) fn list_of(&self, path: &RelPath, content: ContentId, peer: NodeId) -> Option<ChunkList> {
        let known = reuse::place_to_serve(&self.index, path, content, peer, &|_, _| true).expect("memory").is_some();
        let partial = || self.partials.get(&content).filter(|(at, ..)| at == path).map(|(_, list, _)| list.clone());
        known.then(|| self.index.chunk_list(content).expect("memory").or_else(partial)).flatten()
    }

    /// Answers who asks for a chunk of a path: from the whole content, or from what came of it so far.
    pub(crate) fn serve_chunk(
        &self,
        path: &RelPath,
        (content, index): (ContentId, usize),
        peer: NodeId,
    ) -> Option<Vec<u8>> {
        if let Some(whole) = self.serve(path, content, peer) {
            let list = chunks_of(&whole);
            let (start, end) = bounds(&list, index)?;
            return Some(whole[start..end].to_vec());
        }
        reuse::place_to_serve(&self.index, path, content, peer, &|_, _| true).expect("memory")?;
        let (_, list, _) = self.partials.get(&content).filter(|(at, ..)| at == path)?;
        let (start, end) = bounds(list, index)?;
        let place = stage::part(content);
        let bytes = chunk::read_range_at(&self.folder, &place, start as u64, end - start, None).ok()?;
        verify::chunk(list.records[index], bytes).ok().map(verify::Verified::into_inner)
    }

    /// Which chunks a node tells that it has of a content that it is still fetching.
    pub(crate) fn tells_of(&self, content: ContentId) -> Option<Vec<u8>> {
        let (_, list, have) = self.partials.get(&content)?;
        let mut map = vec![0; list.records.len().div_ceil(8)];
        for at in have.iter().enumerate().filter(|(_, have)| **have).map(|(at, _)| at) {
            map[at / 8] |= 1 << (at % 8);
        }
        Some(map)
    }

    /// Begins with a content, or goes on with what came of it before; what is in other files here is taken from there.
    pub(crate) fn begin(&mut self, path: &RelPath, content: ContentId, list: ChunkList) -> Option<Coming> {
        let partial = Partial::open_or_create(&self.folder, content, list.bytes()).ok()?;
        let noted = self.noted_chunks.get(&content).cloned();
        let mut have = match noted.filter(|_| self.plant == Plant::TrustPartialAfterCrash) {
            Some(noted) => noted,
            None => partial.verified(&list).ok()?,
        };
        for (at, have) in have.iter_mut().enumerate() {
            let (start, _) = bounds(&list, at).expect("a chunk of the list");
            let place = || reuse::chunk_for(&self.index, list.records[at].hash, &|_| true).expect("memory");
            if let Some(from) = (!*have).then(place).flatten() {
                let shared = lanyard::shell::disk::primitives::Place::shared(&from.path);
                let (record, start) = (&list.records[at], start as u64);
                *have = partial.copy_chunk(&self.folder, &shared, from.offset, record, start).ok()?;
            }
        }
        let mut fetch = Fetch::new(self.writer.node, 0);
        // In this office a content of several chunks is a large one.
        let bytes = list.bytes() + CHUNK_BYTES_MAX as u64;
        fetch.want(Want { content, bytes, path: path.clone() });
        let list = Arc::new(list);
        let missing = (0u64..).zip(&have).filter(|(_, have)| !**have).map(|(at, _)| at).collect();
        fetch.listed(content, list.clone(), missing);
        self.noted_chunks.insert(content, have.clone());
        self.partials.insert(content, (path.clone(), ChunkList::clone(&list), have));
        Some(Coming { fetch, partial, content, list })
    }

    /// Takes what a peer answered. An error: this disk does not take it.
    pub(crate) fn chunk_came(
        &mut self,
        coming: &mut Coming,
        (number, part): (u64, Part),
        answer: Option<Vec<u8>>,
        now_ms: u64,
    ) -> Result<(), ()> {
        let Part::Chunk { index, .. } = part else { panic!("the list is known") };
        let at = usize::try_from(index).expect("small");
        let Some(bytes) = answer else {
            coming.fetch.failed(number, Failure::Lacks, now_ms);
            return Ok(());
        };
        let record: ChunkRecord = coming.list.records[at];
        let bytes = match verify::chunk(record, bytes.clone()) {
            Ok(right) => right.into_inner(),
            Err(_) if self.plant == Plant::ServeUnverified => bytes,
            Err(_) => {
                coming.fetch.failed(number, Failure::Wrong, now_ms);
                return Ok(());
            }
        };
        let (start, _) = bounds(&coming.list, at).expect("a chunk of the list");
        coming.partial.write_at(start as u64, &bytes).map_err(|_| ())?;
        if let Some((_, _, have)) = self.partials.get_mut(&coming.content) {
            have[at] = true;
            self.noted_chunks.insert(coming.content, have.clone());
        }
        coming.fetch.arrived(number);
        Ok(())
    }

    /// The whole content, if nothing of it is missing.
    pub(crate) fn came(&mut self, mut coming: Coming) -> Option<(Partial, ChunkList)> {
        coming.fetch.finished(coming.content);
        if !coming.fetch.is_idle() {
            return None;
        }
        self.partials.remove(&coming.content);
        self.noted_chunks.remove(&coming.content);
        Some((coming.partial, Arc::unwrap_or_clone(coming.list)))
    }
}

/// A list that a peer sent, if it is the one of the content.
pub(crate) fn checked(content: ContentId, list: &ChunkList) -> Option<ChunkList> {
    let leaves = verify::leaves(content, list.bytes(), list.leaves()).ok()?;
    let leaf = verify::leaf(&leaves, 0, List::truncated(list.records.clone())).ok()?;
    Some(ChunkList { records: leaf.into_inner().into_vec() })
}

/// Where a chunk begins and ends.
fn bounds(list: &ChunkList, index: usize) -> Option<(usize, usize)> {
    let start: usize = list.records.iter().take(index).map(|record| record.bytes as usize).sum();
    Some((start, start + list.records.get(index)?.bytes as usize))
}

#[test]
fn a_large_file_has_three_chunks_and_shares_one() {
    let [a, b] = ["n0s001", "n0s002"].map(|own| chunks_of(&file(own, 0)).records);
    assert_eq!((a.len(), b.len()), (3, 3));
    assert!(a[0] != b[0] && a[1] == b[1] && a[2] != b[2]);
    assert_eq!(text(&file("n0s001", 0)), "n0s001");
}
