//! What went wrong in a run, counted.

use std::fmt;

/// How often which thing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) steps: u64,
    /// Of healing; nothing goes wrong in them.
    pub(crate) rounds: u64,
    pub(crate) deeds: u64,
    pub(crate) between: u64,
    pub(crate) lost: u64,
    pub(crate) delayed: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) cuts: u64,
    pub(crate) deaths: u64,
    pub(crate) power_cuts: u64,
    pub(crate) forgotten: u64,
    pub(crate) failed: u64,
    pub(crate) full: u64,
    pub(crate) torn: u64,
    pub(crate) pulled: u64,
    pub(crate) rebuilt: u64,
    pub(crate) put_back: u64,
    pub(crate) asked: u64,
    pub(crate) lies: u64,
    pub(crate) surprises: u64,
    pub(crate) clock_jumps: u64,
    pub(crate) copies: u64,
    pub(crate) chunks: u64,
    pub(crate) unfinished: u64,
    pub(crate) masses: u64,
    pub(crate) held: u64,
    pub(crate) verdicts: u64,
    pub(crate) opposite: u64,
}

impl Faults {
    fn rows(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("steps", self.steps),
            ("edits by people", self.deeds),
            ("edits between two calls of lanyard", self.between),
            ("messages lost", self.lost),
            ("messages delayed", self.delayed),
            ("messages doubled", self.doubled),
            ("messages reordered", self.reordered),
            ("links cut", self.cuts),
            ("deaths of a process or machine", self.deaths),
            ("of these, power cuts", self.power_cuts),
            ("unflushed changes forgotten", self.forgotten),
            ("disk calls that failed", self.failed),
            ("disk calls on a full disk", self.full),
            ("writes torn", self.torn),
            ("disks pulled", self.pulled),
            ("indexes lost and rebuilt", self.rebuilt),
            ("states put back from a backup", self.put_back),
            ("starts that heard how far their log reaches", self.asked),
            ("lies of a member", self.lies),
            ("commits that met an edit", self.surprises),
            ("clock jumps", self.clock_jumps),
            ("conflict copies", self.copies),
            ("chunks of larger contents fetched", self.chunks),
            ("fetches that ended before the last chunk", self.unfinished),
            ("changes of many files", self.masses),
            ("changes that the guard held", self.held),
            ("verdicts on what was held", self.verdicts),
            ("opposite verdicts at once", self.opposite),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.deeds += other.deeds;
        self.between += other.between;
        self.lost += other.lost;
        self.delayed += other.delayed;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.cuts += other.cuts;
        self.deaths += other.deaths;
        self.power_cuts += other.power_cuts;
        self.forgotten += other.forgotten;
        self.failed += other.failed;
        self.full += other.full;
        self.torn += other.torn;
        self.pulled += other.pulled;
        self.rebuilt += other.rebuilt;
        self.put_back += other.put_back;
        self.asked += other.asked;
        self.lies += other.lies;
        self.surprises += other.surprises;
        self.clock_jumps += other.clock_jumps;
        self.copies += other.copies;
        self.chunks += other.chunks;
        self.unfinished += other.unfinished;
        self.masses += other.masses;
        self.held += other.held;
        self.verdicts += other.verdicts;
        self.opposite += other.opposite;
    }

    /// The first kind that never happened.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        self.rows().into_iter().find(|(_, count)| *count == 0).map(|(name, _)| name)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().iter().try_for_each(|(name, count)| writeln!(f, "  {count:>9}  {name}"))
    }
}
