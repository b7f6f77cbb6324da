//! Planted bugs: each is one a careful engineer could make, and each must be caught by some seed.

use std::collections::BTreeSet;

use lanyard::base::{ChunkHash, ContentId, RelPath, Writer};
use lanyard::logic::sync::index::{
    ChunkPlace, EntryId, Head, Index, Look, MemoryIndex, PathRecord, Result, Totals, Walk,
};
use lanyard::wire::batch::{Batch, Salted};
use lanyard::wire::content::ChunkList;
use lanyard::wire::message::HoleReason;
use lanyard::wire::statement::Frontier;

/// What is wrong with this office.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plant {
    /// Nothing.
    Nothing,
    /// The index forgets tombstones.
    ForgetTombstone,
    /// A commit does not look whether the user changed the file meanwhile.
    SkipExpected,
    /// An own change claims to have seen all that arrived, not what was on the disk.
    BaseFromHeads,
    /// A scan compares length and modification time only.
    MtimeOnly,
    /// A scan trusts a file that was changed within the clock's last step.
    TrustFreshStamp,
    /// Now and then a batch is taken as known and its entries are lost.
    DropBatch,
    /// Versions are ordered by the time of their arrival.
    ArrivalOrder,
    /// A conflict copy is announced like any new file.
    AnnounceCopies,
    /// The index says that a change is on the disk before it is.
    DoneBeforeDisk,
    /// A batch is sent before the index is durable.
    PushBeforeDurable,
    /// Saving the file that has the name settles its conflict.
    EditSettles,
    /// What a member without the right to write signs is applied.
    NoRules,
    /// A replaced file goes nowhere when a conflict copy was to be made of it.
    NoCopies,
    /// Flushes are left out: what is swapped in may not be on the disk.
    DropFlush,
    /// What a swap took out is not compared with what was expected.
    SkipSwapCheck,
    /// A write that the full disk cut short counts as done.
    IgnoreFull,
    /// A scan skips what was changed before the last scan, by the clock.
    TrustClock,
    /// What a peer sends as a content is taken without a look at its hash.
    ServeUnverified,
    /// An empty mount point is taken for a folder whose files were all deleted.
    NoMarker,
    /// What a walk could not read is taken for deleted, without another look.
    UnreadableIsGone,
    /// A node that lost its index signs before it has heard what was deleted.
    NoHistory,
    /// A node signs after a start before it has heard how far its own log reaches.
    SignBeforeAsking,
    /// What a backup brought back counts as an edit of today.
    StaleWins,
    /// What is left of a content that was on its way is believed to be what was noted of it.
    TrustPartialAfterCrash,
    /// The guard adds changes up over a far shorter time than it should.
    WindowTooShort,
    /// After a restart the guard does not know what it had let through.
    GuardForgets,
    /// What the guard lets through is remembered only with what comes after it.
    CountsLate,
    /// A release lets everybody's changes through.
    ReleaseAll,
    /// What is renamed counts as lost.
    RenameIsLoss,
    /// After a verdict the guard forgets what it held before all of it is to be done again.
    LetGoForgets,
}

impl Plant {
    /// All of them.
    pub(crate) const ALL: [Self; 30] = [
        Self::ForgetTombstone,
        Self::SkipExpected,
        Self::BaseFromHeads,
        Self::MtimeOnly,
        Self::TrustFreshStamp,
        Self::DropBatch,
        Self::ArrivalOrder,
        Self::AnnounceCopies,
        Self::DoneBeforeDisk,
        Self::PushBeforeDurable,
        Self::EditSettles,
        Self::NoRules,
        Self::NoCopies,
        Self::DropFlush,
        Self::SkipSwapCheck,
        Self::IgnoreFull,
        Self::TrustClock,
        Self::ServeUnverified,
        Self::NoMarker,
        Self::UnreadableIsGone,
        Self::NoHistory,
        Self::SignBeforeAsking,
        Self::StaleWins,
        Self::TrustPartialAfterCrash,
        Self::WindowTooShort,
        Self::GuardForgets,
        Self::CountsLate,
        Self::ReleaseAll,
        Self::RenameIsLoss,
        Self::LetGoForgets,
    ];

    /// Whether it is a bug of the guard.
    pub(crate) fn is_about_guard(self) -> bool {
        use Plant::{CountsLate, GuardForgets, LetGoForgets, ReleaseAll, RenameIsLoss, WindowTooShort};
        [WindowTooShort, GuardForgets, CountsLate, ReleaseAll, RenameIsLoss, LetGoForgets].contains(&self)
    }
}

/// An index with a bug in what it keeps.
pub(crate) struct Planted<'a> {
    pub(crate) inner: &'a mut MemoryIndex,
    pub(crate) plant: Plant,
    pub(crate) own: Writer,
    pub(crate) now_ms: u64,
}

impl Planted<'_> {
    fn spoil(&self, path: &RelPath, record: &mut PathRecord) {
        match self.plant {
            Plant::ForgetTombstone => record.heads.retain(Head::is_live),
            Plant::AnnounceCopies => record.copy_of = None,
            Plant::ArrivalOrder => {
                let before = self.inner.path(path).ok().flatten().unwrap_or_default();
                for head in &mut record.heads {
                    if head.id.writer != self.own && before.head(head.id).is_none() {
                        head.salted.entry.time.ms = self.now_ms;
                    }
                }
            }
            _ => {}
        }
    }
}

impl Look for Planted<'_> {
    fn arrival_count(&self) -> Result<u64> {
        self.inner.arrival_count()
    }

    fn totals(&self) -> Result<Totals> {
        self.inner.totals()
    }

    fn path(&self, path: &RelPath) -> Result<Option<PathRecord>> {
        self.inner.path(path)
    }
    fn walk_from(
        &self,
        top: &RelPath,
        from: &RelPath,
        visit: &mut dyn FnMut(RelPath, PathRecord) -> Walk,
    ) -> Result<()> {
        self.inner.walk_from(top, from, visit)
    }
    fn frontier(&self, writer: Writer) -> Result<Option<Frontier>> {
        self.inner.frontier(writer)
    }
    fn frontiers(&self) -> Result<Vec<Frontier>> {
        self.inner.frontiers()
    }
    fn arrivals(&self, from: u64, visit: &mut dyn FnMut(u64, Batch) -> Walk) -> Result<()> {
        self.inner.arrivals(from, visit)
    }
    fn batch_of(&self, id: EntryId) -> Result<Option<(u64, Batch)>> {
        self.inner.batch_of(id)
    }
    fn entry_path(&self, id: EntryId) -> Result<Option<RelPath>> {
        self.inner.entry_path(id)
    }
    fn void(&self, id: EntryId) -> Result<Option<Salted>> {
        self.inner.void(id)
    }
    fn kept(&self, path: &RelPath) -> Result<Vec<Head>> {
        self.inner.kept(path)
    }
    fn entries_after(&self, after: Option<EntryId>, most: usize) -> Result<Vec<(EntryId, RelPath)>> {
        self.inner.entries_after(after, most)
    }
    fn voids_after(&self, after: Option<EntryId>, most: usize) -> Result<Vec<(EntryId, Salted)>> {
        self.inner.voids_after(after, most)
    }
    fn superseded_by(&self, later: &BTreeSet<EntryId>) -> Result<Vec<EntryId>> {
        self.inner.superseded_by(later)
    }
    fn local_only(&self, after: Option<&RelPath>, most: usize) -> Result<Vec<RelPath>> {
        self.inner.local_only(after, most)
    }
    fn local_only_count(&self) -> Result<u64> {
        self.inner.local_only_count()
    }
    fn hole(&self, id: EntryId) -> Result<Option<HoleReason>> {
        self.inner.hole(id)
    }
    fn chunk_list(&self, content: ContentId) -> Result<Option<ChunkList>> {
        self.inner.chunk_list(content)
    }
    fn places_of(&self, content: ContentId, most: usize) -> Result<Vec<RelPath>> {
        if self.plant == Plant::RenameIsLoss {
            return Ok(Vec::new());
        }
        self.inner.places_of(content, most)
    }
    fn place_of_chunk(&self, chunk: ChunkHash) -> Result<Option<ChunkPlace>> {
        self.inner.place_of_chunk(chunk)
    }
    fn needs(&self, after: Option<&RelPath>, most: usize) -> Result<Vec<RelPath>> {
        self.inner.needs(after, most)
    }
    fn need_count(&self) -> Result<u64> {
        self.inner.need_count()
    }
    fn holes_to_ask(&self, most: usize) -> Result<Vec<EntryId>> {
        self.inner.holes_to_ask(most)
    }
    fn note(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.inner.note(key)
    }
}

impl Index for Planted<'_> {
    fn put_path(&mut self, path: &RelPath, record: &PathRecord) -> Result<()> {
        let mut record = record.clone();
        self.spoil(path, &mut record);
        self.inner.put_path(path, &record)
    }
    fn put_batch(&mut self, batch: &Batch) -> Result<()> {
        self.inner.put_batch(batch)
    }
    fn put_entry_path(&mut self, id: EntryId, path: &RelPath) -> Result<()> {
        self.inner.put_entry_path(id, path)
    }
    fn forget_entry(&mut self, id: EntryId) -> Result<()> {
        self.inner.forget_entry(id)
    }
    fn put_void(&mut self, id: EntryId, salted: Option<&Salted>) -> Result<()> {
        self.inner.put_void(id, salted)
    }
    fn put_kept(&mut self, path: &RelPath, head: &Head) -> Result<()> {
        self.inner.put_kept(path, head)
    }
    fn forget_kept(&mut self, path: &RelPath, id: EntryId) -> Result<()> {
        self.inner.forget_kept(path, id)
    }
    fn put_hole(&mut self, id: EntryId, reason: Option<HoleReason>) -> Result<()> {
        self.inner.put_hole(id, reason)
    }
    fn put_chunk_list(&mut self, content: ContentId, list: &ChunkList, at: &RelPath) -> Result<()> {
        self.inner.put_chunk_list(content, list, at)
    }
    fn put_need(&mut self, path: &RelPath, needed: bool) -> Result<()> {
        self.inner.put_need(path, needed)
    }
    fn put_note(&mut self, key: &str, value: &[u8]) -> Result<()> {
        self.inner.put_note(key, value)
    }
}
