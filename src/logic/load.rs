//! How many requests for contents a node answers at once, and what it tells those beyond.
//!
//! Rules:
//! 1. so many jobs read at once, for one peer at most `OF_ONE_MAX`: a slow disk is not made slower by a crowd, and
//!    one peer with many connections takes no more than its part;
//! 2. who comes beyond that waits in a line that is bounded; nobody passes those who wait;
//! 3. where the line is full, and after a bounded wait, the answer is `Busy` with a time: others may have it.

use std::collections::BTreeMap;

use crate::base::NodeId;

/// Jobs of one peer. One link is used at a time; the one before it may still be at work.
const OF_ONE_MAX: usize = 2;
/// Those who wait, for each that may read. A guess: with four rounds of waiting, asking elsewhere is quicker.
const LINE_PER_JOB: usize = 4;
/// The least time until it is worth to ask again. A guess: a job is at most 8 MiB, 100 ms of a slow disk.
const RETRY_MS: u32 = 250;

/// What becomes of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It begins; `handle_done` when it is over.
    Go,
    /// It stands in line; `handle_turn` when something has ended.
    Wait,
    /// It is not done; to be asked for again after so long.
    Shed {
        /// How long.
        retry_ms: u32,
    },
}

/// The state.
#[derive(Debug)]
pub struct Load {
    jobs_max: usize,
    jobs: BTreeMap<NodeId, usize>,
    line: usize,
}

impl Load {
    /// So many jobs at once; at least one.
    pub fn new(jobs_max: usize) -> Self {
        Self { jobs_max: jobs_max.max(1), jobs: BTreeMap::new(), line: 0 }
    }

    /// A peer asks.
    pub fn handle_ask(&mut self, peer: NodeId) -> Turn {
        if self.line == 0 && self.begin(peer) {
            return Turn::Go;
        }
        if self.line >= self.jobs_max * LINE_PER_JOB {
            return Turn::Shed { retry_ms: self.retry_ms() };
        }
        self.line += 1;
        Turn::Wait
    }

    /// One who stands in line tries. `true`: it begins, and has left the line.
    pub fn handle_turn(&mut self, peer: NodeId) -> bool {
        let begun = self.begin(peer);
        self.line -= usize::from(begun);
        begun
    }

    /// One who stands in line waits no longer. Returns when to ask again.
    pub fn handle_left(&mut self) -> u32 {
        self.line = self.line.saturating_sub(1);
        self.retry_ms()
    }

    /// A job is over.
    pub fn handle_done(&mut self, peer: NodeId) {
        if let Some(jobs) = self.jobs.get_mut(&peer) {
            *jobs -= 1;
            if *jobs == 0 {
                self.jobs.remove(&peer);
            }
        }
    }

    fn begin(&mut self, peer: NodeId) -> bool {
        let all: usize = self.jobs.values().sum();
        let own = self.jobs.get(&peer).copied().unwrap_or_default();
        let begins = all < self.jobs_max && own < OF_ONE_MAX;
        if begins {
            self.jobs.insert(peer, own + 1);
        }
        begins
    }

    /// The longer the line, the later: so those who were sent away do not come back all at once.
    fn retry_ms(&self) -> u32 {
        RETRY_MS * u32::try_from(1 + self.line / self.jobs_max).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    #[test]
    fn so_many_read_at_once_others_wait_in_line_and_beyond_it_they_are_told_when_to_come() {
        let mut load = Load::new(2);
        assert_eq!([load.handle_ask(node(1)), load.handle_ask(node(2))], [Turn::Go; 2]);
        for n in 0..8 {
            assert_eq!(load.handle_ask(node(10 + n)), Turn::Wait);
        }
        assert_eq!(load.handle_ask(node(20)), Turn::Shed { retry_ms: 5 * RETRY_MS });
        assert!(!load.handle_turn(node(10)));
        load.handle_done(node(1));
        assert!(load.handle_turn(node(10)));
        assert!(!load.handle_turn(node(11)));
        assert_eq!(load.handle_left(), 4 * RETRY_MS, "seven stood there, six do");
    }

    #[test]
    fn one_peer_takes_no_more_than_its_part() {
        let mut load = Load::new(8);
        assert_eq!([load.handle_ask(node(1)), load.handle_ask(node(1))], [Turn::Go; 2]);
        assert_eq!(load.handle_ask(node(1)), Turn::Wait);
        load.handle_done(node(1));
        assert!(load.handle_turn(node(1)));
        assert_eq!(load.handle_ask(node(2)), Turn::Go);
    }

    #[test]
    fn nobody_passes_those_who_wait() {
        let mut load = Load::new(1);
        load.handle_ask(node(1));
        assert_eq!(load.handle_ask(node(2)), Turn::Wait);
        load.handle_done(node(1));
        assert_eq!(load.handle_ask(node(1)), Turn::Wait);
        assert!(load.handle_turn(node(2)));
    }
}
