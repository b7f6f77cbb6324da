//! The times of the election, in one place: the checker and the simulation run the same machine with other ones.

/// How long things take. All in milliseconds of a clock that goes on while the machine sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Timing {
    /// A coordinator says so this often.
    pub beat_ms: u64,
    /// It may act this long after it last said so; then it has stepped down, whether or not it noticed.
    pub lease_ms: u64,
    /// Others think it gone when they have heard nothing new for so long. Longer than the lease.
    pub expire_ms: u64,
    /// Or for so long after their own link to it broke: others pass its claims on within one beat, if it lives.
    pub lost_ms: u64,
    /// A member says that it hears the coordinator itself, so that nobody passes claims on to it, until it missed some.
    pub missed_ms: u64,
    /// With nothing new to say, neighbours are told the same again this often.
    pub refresh_ms: u64,
    /// A node that has just started, or slept, listens this long before it stands.
    pub start_ms: u64,
    /// Each candidate waits this much longer than the one that is preferred to it.
    pub stagger_ms: u64,
    /// A better candidate has heard the coordinator without a break for so long before it takes its place.
    pub stable_ms: u64,
    /// A coordinator that hands over waits this long for its successor.
    pub hand_ms: u64,
    /// Who was told to step down is preferred to nobody for so long.
    pub hold_ms: u64,
    /// A coordinator without company counts as settled once it had some for so long.
    pub settle_ms: u64,
}

impl Timing {
    /// The times of the product. From the demand that a dead coordinator is replaced within 2 s, everything else is a
    /// guess that the simulation and `tests/e2e/coordinator.rs` bear out: four lost beats are no accident on a LAN, a
    /// lease of four beats ends before the fifth is missed, a claim is durable and heard within one stagger, discovery
    /// finds a member within 3 s of the start, and half a minute of hearing is no cable that comes loose again.
    pub const OFFICE: Self = Self {
        beat_ms: 250,
        lease_ms: 1_000,
        expire_ms: 1_250,
        lost_ms: 500,
        missed_ms: 600,
        refresh_ms: 1_000,
        start_ms: 3_000,
        stagger_ms: 150,
        stable_ms: 30_000,
        hand_ms: 1_000,
        hold_ms: 600_000,
        settle_ms: 2_000,
    };
}
