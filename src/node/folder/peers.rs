//! What each peer has of a folder, and what it is sent next.
//!
//! Own batches go out at once. Batches of others are passed on only to peers that do not report them within
//! `RELAY_MS`: usually their author reached them directly, and passing everything on would send it once per pair.

use std::collections::BTreeMap;

use crate::base::{FolderId, NodeId, RelPath, Writer};
use crate::logic::sync::index::{EntryId, IndexError, Look, Walk};
use crate::logic::sync::replica::{self, Push, Rules};
use crate::shell::net::link::{LinkSender, SendError};
use crate::wire::batch::Batch;
use crate::wire::codec::{Bytes, List};
use crate::wire::message::{
    BatchPush, Frontiers, Hole, HoleReason, INLINE_BYTES_MAX, INLINE_TOTAL_BYTES_MAX, Inline, Message,
};
use crate::wire::statement::Frontier;

/// How long a batch of another writer waits before it is passed on. A guess: some round trips and one flush.
const RELAY_MS: u64 = 1_000;
/// What a peer still lacks so long after it was sent is sent again: it had to drop it. Less than it keeps what it cannot
/// take yet, as its report comes then.
const RESEND_MS: u64 = 1_000;
/// A peer whose queue holds more than this is sent the rest later. A guess: a tenth of a second of a gigabit link.
const QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Entries of a push that may carry contents along. A burst is fetched over the bulk connection instead.
const INLINE_ENTRIES_MAX: usize = 16;

/// What is known of one peer.
pub(super) struct Peer {
    /// Its control connection.
    pub(super) link: LinkSender,
    /// What it said it has, and what it was sent since; `None` until it said so.
    has: Option<BTreeMap<Writer, u64>>,
    /// What it said it has: the measure of "told".
    reported: Vec<Frontier>,
    /// What it has on its disk.
    pub(super) applied: Vec<Frontier>,
    /// Whether it has history.
    pub(super) complete: bool,
    /// Arrival number from which batches of others still have to be passed on.
    relayed: u64,
    /// Its queue was full.
    pub(super) behind: bool,
    /// When it was last sent a batch.
    sent_ms: u64,
}

/// All peers that share one folder.
#[derive(Default)]
pub(super) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    /// Arrival numbers of recent batches of others, with the time before which they are not passed on.
    fresh: std::collections::VecDeque<(u64, u64)>,
    /// The newest word about a connection of each peer.
    turns: BTreeMap<NodeId, u64>,
}

/// Contents to send along: what a path has, if it is small and as known.
pub(super) type Contents<'a> = dyn Fn(&RelPath) -> Option<Vec<u8>> + 'a;

impl Peers {
    /// A peer can be reached, or from now on over another connection. A stale word is not taken.
    pub(super) fn up(&mut self, link: LinkSender, turn: u64) -> bool {
        let node = link.peer();
        let newest = self.turns.entry(node).or_default();
        if turn < *newest {
            return false;
        }
        *newest = turn;
        if let Some(peer) = self.peers.get_mut(&node) {
            // What was under way over the other connection may be lost: back to what it reported.
            peer.has = peer.has.as_ref().map(|_| peer.reported.iter().map(|f| (f.writer, f.seq)).collect());
            peer.relayed = 0;
            peer.link = link;
            return true;
        }
        let peer = Peer {
            link,
            has: None,
            reported: Vec::new(),
            applied: Vec::new(),
            complete: false,
            relayed: 0,
            behind: false,
            sent_ms: 0,
        };
        self.peers.insert(node, peer);
        true
    }

    /// It cannot any more, by this connection.
    pub(super) fn down(&mut self, link: &LinkSender) {
        if self.is_used(link) {
            self.peers.remove(&link.peer());
        }
    }

    /// Whether this is the connection in use to its peer. What comes over another one may be older than what came over
    /// this one, and is said again over it.
    pub(super) fn is_used(&self, link: &LinkSender) -> bool {
        self.peers.get(&link.peer()).is_some_and(|peer| peer.link.id() == link.id())
    }

    /// The peers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Peer)> {
        self.peers.iter()
    }

    /// One peer.
    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.get_mut(&node)
    }

    /// A peer begins: what it was sent before may not have reached it.
    pub(super) fn begun(&mut self, from: NodeId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.has = None;
            peer.reported.clear();
        }
    }

    /// A peer said how far its logs reach. Returns whether it is the first word since it is up.
    pub(super) fn reported(
        &mut self,
        from: NodeId,
        said: &Frontiers,
        index: &dyn Look,
        now_ms: u64,
    ) -> Result<bool, IndexError> {
        let Some(peer) = self.peers.get_mut(&from) else { return Ok(false) };
        let first = peer.has.is_none();
        peer.reported = said.frontiers.to_vec();
        peer.complete = said.complete;
        let reported: BTreeMap<Writer, u64> = said.frontiers.iter().map(|f| (f.writer, f.seq)).collect();
        let mut has = peer.has.take().unwrap_or_default();
        // A report can cross with what is under way; what it still lacks long after is not coming and is sent again.
        let lost = now_ms >= peer.sent_ms + RESEND_MS
            && has.iter().any(|(log, seq)| reported.get(log).is_none_or(|theirs| theirs < seq));
        if lost {
            has = reported;
        } else {
            reported.into_iter().for_each(|(log, seq)| {
                let known = has.entry(log).or_default();
                *known = (*known).max(seq);
            });
        }
        if first || lost {
            peer.relayed = first_lacking(index, &has)?;
        }
        peer.has = Some(has);
        Ok(first)
    }

    /// A peer sent a batch: it has it.
    pub(super) fn showed(&mut self, from: NodeId, reached: Frontier) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if let Some(has) = &mut peer.has {
            let known = has.entry(reached.writer).or_default();
            *known = (*known).max(reached.seq);
        }
        match peer.reported.iter_mut().find(|f| f.writer == reached.writer) {
            Some(known) if known.seq < reached.seq => *known = reached,
            Some(_) => {}
            None => peer.reported.push(reached),
        }
    }

    /// A batch of another writer arrived.
    pub(super) fn arrived(&mut self, arrival: u64, now_ms: u64) {
        self.fresh.push_back((arrival, now_ms + RELAY_MS));
    }

    /// When `pump` has to be called again though nothing happens.
    pub(super) fn wake_ms(&self, now_ms: u64) -> Option<u64> {
        let behind = self.peers.values().any(|peer| peer.behind).then_some(now_ms + 5);
        let relay = self.fresh.front().map(|(_, due)| *due);
        behind.into_iter().chain(relay).min()
    }

    /// Sends every peer what it lacks, as far as its queue has room.
    pub(super) fn pump(
        &mut self,
        index: &dyn Look,
        own: Writer,
        folder: FolderId,
        rules: &dyn Rules,
        contents: &Contents<'_>,
        now_ms: u64,
    ) -> Result<(), IndexError> {
        while self.fresh.front().is_some_and(|(_, due)| *due <= now_ms) {
            self.fresh.pop_front();
        }
        let held_from = self.fresh.front().map_or(u64::MAX, |(arrival, _)| *arrival);
        let reach = index.frontier(own)?.map_or(0, |f| f.seq);
        let mut inline = InlineCache::default();
        for (node, peer) in &mut self.peers {
            let Some(has) = &mut peer.has else { continue };
            peer.behind = false;
            let mut next = has.get(&own).copied().unwrap_or(0) + 1;
            while next <= reach {
                if peer.link.queued_bytes() > QUEUE_BYTES_MAX {
                    peer.behind = true;
                    break;
                }
                let Some((_, batch)) = index.batch_of(EntryId { writer: own, seq: next })? else { break };
                let last = batch.header().last();
                let push = replica::push_of(index, batch, *node, rules)?;
                if !send(&peer.link, folder, &push, inline.of(&push, contents)) {
                    peer.behind = true;
                    break;
                }
                has.insert(own, last);
                peer.sent_ms = now_ms;
                next = last + 1;
            }
            if peer.behind || peer.relayed >= held_from {
                continue;
            }
            let mut lacking = Vec::new();
            let mut reached = peer.relayed;
            index.arrivals(peer.relayed, &mut |arrival, batch| {
                if arrival >= held_from || lacking.len() >= 32 {
                    return Walk::Enough;
                }
                reached = arrival + 1;
                let header = batch.header();
                if header.writer != own && header.last() > has.get(&header.writer).copied().unwrap_or(0) {
                    lacking.push((arrival, batch));
                }
                Walk::On
            })?;
            for (arrival, batch) in lacking {
                let (writer, last) = (batch.header().writer, batch.header().last());
                let push = replica::push_of(index, batch, *node, rules)?;
                let full = peer.link.queued_bytes() > QUEUE_BYTES_MAX;
                if full || !send(&peer.link, folder, &push, inline.of(&push, contents)) {
                    peer.behind = true;
                    reached = arrival;
                    break;
                }
                has.insert(writer, last);
                peer.sent_ms = now_ms;
                peer.behind = true;
            }
            peer.relayed = reached;
        }
        Ok(())
    }

    /// Whether every peer was asked and answered, has all that we have, and we have all that it has. Of a log that
    /// forked only what both histories share counts, up to `common`: of the rest each may hold another one.
    pub(super) fn in_step(&self, ours: &[Frontier], common: &dyn Fn(Writer) -> Option<u64>) -> bool {
        self.peers.values().all(|peer| {
            peer.has.is_some() && covers(&peer.reported, ours, common) && covers(ours, &peer.reported, common)
        })
    }
}

/// Whether logs that reach as far as `a` hold everything that matters of those that reach as far as `b`.
fn covers(a: &[Frontier], b: &[Frontier], common: &dyn Fn(Writer) -> Option<u64>) -> bool {
    b.iter().all(|wanted| {
        let seq = wanted.seq.min(common(wanted.writer).unwrap_or(u64::MAX));
        seq == 0 || a.iter().any(|f| f.writer == wanted.writer && f.seq >= seq)
    })
}

/// The first batch here that a peer lacks, as an arrival number.
fn first_lacking(index: &dyn Look, has: &BTreeMap<Writer, u64>) -> Result<u64, IndexError> {
    let mut first = u64::MAX;
    for ours in index.frontiers()? {
        let next = has.get(&ours.writer).copied().unwrap_or(0) + 1;
        if next <= ours.seq
            && let Some((arrival, _)) = index.batch_of(EntryId { writer: ours.writer, seq: next })?
        {
            first = first.min(arrival);
        }
    }
    if first != u64::MAX {
        return Ok(first);
    }
    // Nothing is lacking: only what arrives from now on counts.
    index.arrival_count()
}

/// Contents of the batch that was sent last, so that several peers cost one reading.
#[derive(Default)]
struct InlineCache {
    of: Option<crate::base::BatchHash>,
    contents: BTreeMap<u16, Vec<u8>>,
}

impl InlineCache {
    fn of(&mut self, push: &Push, contents: &Contents<'_>) -> Vec<Inline> {
        if push.entries.len() > INLINE_ENTRIES_MAX {
            return Vec::new();
        }
        if self.of != Some(push.batch.hash()) {
            self.of = Some(push.batch.hash());
            self.contents = read_all(push, contents);
        }
        let sent = push.entries.iter().filter_map(|(at, _)| {
            let bytes = self.contents.get(at)?.clone();
            Some(Inline { index: *at, bytes: Bytes::new(bytes)? })
        });
        sent.collect()
    }
}

fn read_all(push: &Push, contents: &Contents<'_>) -> BTreeMap<u16, Vec<u8>> {
    let mut read = BTreeMap::new();
    let mut room = INLINE_TOTAL_BYTES_MAX as u64;
    for (at, salted) in &push.entries {
        if let crate::wire::batch::What::File { bytes, .. } = salted.entry.what
            && bytes <= INLINE_BYTES_MAX as u64
            && bytes <= room
            && let Some(content) = contents(&salted.entry.path)
        {
            room -= bytes;
            read.insert(*at, content);
        }
    }
    read
}

/// Whether the link took it.
fn send(link: &LinkSender, folder: FolderId, push: &Push, contents: Vec<Inline>) -> bool {
    let message = message(&push.batch, folder, push, contents);
    match link.try_send(message) {
        Ok(()) => true,
        Err(SendError::Full(_)) => false,
        // A link that has ended is reported by its task; what it took with it is sent over the next one.
        Err(SendError::Closed | SendError::TooLong) => false,
    }
}

fn message(batch: &Batch, folder: FolderId, push: &Push, contents: Vec<Inline>) -> Message {
    let entries = push.pack();
    let mut holes = push.holes.clone();
    // What found no room is asked for again by the receiver.
    let left_out = push.entries.iter().skip(entries.len());
    holes.extend(left_out.map(|(index, _)| Hole { index: *index, reason: HoleReason::Missing }));
    Message::BatchPush(BatchPush {
        folder,
        header: batch.signed().clone(),
        entries,
        holes: List::truncated(holes),
        contents: List::truncated(contents),
    })
}

/// Answers a peer that asks again for entries: pushes of the batches that hold them.
pub(super) fn answer_wants(
    index: &dyn Look,
    link: &LinkSender,
    folder: FolderId,
    rules: &dyn Rules,
    writer: Writer,
    numbers: &[u64],
) -> Result<(), IndexError> {
    let mut covered = 0;
    for seq in numbers.iter().copied() {
        if seq <= covered {
            continue;
        }
        let Some((_, batch)) = index.batch_of(EntryId { writer, seq })? else { continue };
        covered = batch.header().last();
        let push = replica::push_again(index, batch, link.peer(), rules)?;
        if !send(link, folder, &push, Vec::new()) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BatchHash;

    #[test]
    fn of_a_forked_log_only_what_both_histories_share_is_waited_for() {
        let at = |n: u8, seq| {
            let writer = Writer { node: NodeId([n; 32]), incarnation: 1 };
            Frontier { writer, seq, batch: BatchHash([0; 32]) }
        };
        let forked = at(1, 0).writer;
        let (none, at_three) = (|_| None, |writer| (writer == forked).then_some(3));
        let at_zero = |writer| (writer == forked).then_some(0);
        assert!(!covers(&[at(1, 5)], &[at(1, 6)], &none));
        assert!(covers(&[at(1, 3)], &[at(1, 6)], &at_three));
        assert!(!covers(&[at(1, 2)], &[at(1, 6)], &at_three), "what is below the fork is still lacking");
        assert!(covers(&[], &[at(1, 6)], &at_zero), "nothing is shared");
        assert!(!covers(&[at(1, 6)], &[at(2, 1)], &at_three), "other logs are waited for as ever");
    }
}
