//! Members that seem to run twice.
//!
//! A node draws a number at each start and says it on every link. A restart brings a new one, and the old one never
//! again; so one that comes back after another shows that both are alive: a machine and its copy, with one key.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::NodeId;

/// The newest runs of each member.
#[derive(Debug, Default)]
pub struct Runs {
    of: BTreeMap<NodeId, Newest>,
}

#[derive(Debug)]
struct Newest {
    now: (u64, IpAddr),
    before: Option<(u64, IpAddr)>,
    told: bool,
}

impl Runs {
    /// From now on only these are watched.
    pub fn handle_members(&mut self, members: &BTreeSet<NodeId>) {
        self.of.retain(|node, _| members.contains(node));
    }

    /// A link of a member came up. Returns where two machines are that use its key, once.
    pub fn handle_link_up(&mut self, node: NodeId, run: u64, at: IpAddr) -> Option<[IpAddr; 2]> {
        let new = Newest { now: (run, at), before: None, told: false };
        let newest = self.of.entry(node).or_insert(new);
        if newest.now.0 == run {
            newest.now.1 = at;
            return None;
        }
        let other = newest.now;
        let is_back = newest.before.is_some_and(|(before, _)| before == run);
        (newest.before, newest.now) = (Some(other), (run, at));
        (is_back && !std::mem::replace(&mut newest.told, true)).then_some([at, other.1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn at(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn a_machine_that_starts_again_is_one_machine() {
        let mut runs = Runs::default();
        for run in [7, 7, 8, 8, 9] {
            assert_eq!(runs.handle_link_up(NODE, run, at(1)), None);
        }
    }

    #[test]
    fn a_run_that_comes_back_after_another_shows_a_copy_and_is_told_once() {
        let mut runs = Runs::default();
        assert_eq!(runs.handle_link_up(NODE, 7, at(1)), None);
        assert_eq!(runs.handle_link_up(NODE, 8, at(2)), None);
        assert_eq!(runs.handle_link_up(NodeId([2; 32]), 7, at(3)), None);
        assert_eq!(runs.handle_link_up(NODE, 7, at(1)), Some([at(1), at(2)]));
        assert_eq!(runs.handle_link_up(NODE, 8, at(2)), None);
    }
}
