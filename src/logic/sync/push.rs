//! What a peer is sent: of each batch the entries that it may read and that still matter, and why the others are missing.

use super::index::{EntryId, Look, Result, Walk};
use super::replica::Rules;
use crate::base::{Level, NodeId, Writer};
use crate::wire::batch::{Batch, Packed, Salted};
use crate::wire::message::{Hole, HoleReason};
use crate::wire::statement::Frontier;

/// What one peer should be sent of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Push {
    /// The batch.
    pub batch: Batch,
    /// Entries that the peer may read and that still matter, with their places.
    pub entries: Vec<(u16, Salted)>,
    /// Why the others are missing.
    pub holes: Vec<Hole>,
}

impl Push {
    /// The entries as they travel.
    pub fn pack(&self) -> Packed {
        Packed::pack(self.entries.iter().map(|(at, salted)| (*at, salted)))
    }
}

/// Puts together what `reader` may have of a batch: what still matters.
pub fn push_of(index: &dyn Look, batch: Batch, reader: NodeId, rules: &dyn Rules) -> Result<Push> {
    push(index, batch, reader, rules, false)
}

/// The same for a reader that asked for entries again: also what was superseded, as far as it is kept.
pub fn push_again(index: &dyn Look, batch: Batch, reader: NodeId, rules: &dyn Rules) -> Result<Push> {
    push(index, batch, reader, rules, true)
}

fn push(index: &dyn Look, batch: Batch, reader: NodeId, rules: &dyn Rules, again: bool) -> Result<Push> {
    let mut push = Push { batch, entries: Vec::new(), holes: Vec::new() };
    let header = push.batch.header().clone();
    for at in 0..header.entries.len() {
        let place = u16::try_from(at).expect("a batch has at most 1,024 entries");
        let id = EntryId { writer: header.writer, seq: header.first + at as u64 };
        match look_up(index, id, again)? {
            Ok(salted) if !rules.permits(reader, &salted.entry.path, Level::Read) => {
                push.holes.push(Hole { index: place, reason: HoleReason::Withheld });
            }
            Ok(salted) => push.entries.push((place, salted)),
            Err(reason) => push.holes.push(Hole { index: place, reason }),
        }
    }
    Ok(push)
}

fn look_up(index: &dyn Look, id: EntryId, again: bool) -> Result<std::result::Result<Salted, HoleReason>> {
    if let Some(salted) = index.void(id)? {
        return Ok(Ok(salted));
    }
    let Some(path) = index.entry_path(id)? else {
        return Ok(Err(match index.hole(id)? {
            Some(HoleReason::Superseded(writer, seq)) => HoleReason::Superseded(writer, seq),
            _ => HoleReason::Missing,
        }));
    };
    let record = index.path(&path)?.unwrap_or_default();
    if let Some(head) = record.head(id) {
        return Ok(Ok(head.salted.clone()));
    }
    let later = record.heads.iter().find(|head| head.version().seen(id.writer) >= id.seq);
    if (again || later.is_none())
        && let Some(kept) = index.kept(&path)?.into_iter().find(|head| head.id == id)
    {
        return Ok(Ok(kept.salted));
    }
    Ok(Err(later.map_or(HoleReason::Missing, |head| HoleReason::Superseded(head.id.writer, head.id.seq))))
}

/// Batches that a peer with these frontiers lacks, in the order in which they arrived here: whatever a batch has
/// seen comes before it. Ends early when `send` says so.
pub fn catch_up(index: &dyn Look, theirs: &[Frontier], send: &mut dyn FnMut(Batch) -> Walk) -> Result<()> {
    let has = |writer: Writer| theirs.iter().find(|f| f.writer == writer).map_or(0, |f| f.seq);
    let mut start: Option<u64> = None;
    for ours in index.frontiers()? {
        let first_lacking = has(ours.writer) + 1;
        if first_lacking <= ours.seq
            && let Some((at, _)) = index.batch_of(EntryId { writer: ours.writer, seq: first_lacking })?
        {
            start = Some(start.map_or(at, |start| start.min(at)));
        }
    }
    let Some(start) = start else { return Ok(()) };
    index.arrivals(start, &mut |_, batch| {
        let lacking = batch.header().last() > has(batch.header().writer);
        if lacking { send(batch) } else { Walk::On }
    })
}
