//! The office as a machine that may be its coordinator sees it: what each member last said of itself, and whether each
//! folder is on as many machines as was asked for.
//!
//! Rules:
//! 1. a member is believed of itself alone; what it said stays until it says something else or is a member no more;
//! 2. a machine counts as a copy while it says that it holds what is held here, also when it is away: its disk does
//!    not forget;
//! 3. too few copies is an alert once it has lasted for `PATIENCE_MS`: a save takes a moment to reach the others.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{FolderId, NodeId};
use crate::logic::policy::Wanted;
use crate::wire::codec;
use crate::wire::report::Report;
use crate::wire::statement::Frontier;

/// How long a folder may have too few copies before anybody is told. A guess: a large file takes minutes.
pub const PATIENCE_MS: u64 = 10 * 60_000;

/// A hash of how far the logs of a folder reach. Source of the derivation string: `docs/spec/reports.md`.
pub fn reach(mut frontiers: Vec<Frontier>) -> [u8; 32] {
    frontiers.sort();
    let mut hasher = blake3::Hasher::new_derive_key("lanyard 1 reach of a folder");
    hasher.update(&codec::encode(&frontiers));
    *hasher.finalize().as_bytes()
}

/// What members said.
#[derive(Debug, Default)]
pub struct Office {
    reports: BTreeMap<NodeId, Heard>,
    /// Since when each folder lacks copies, and whether it was told.
    lacking: BTreeMap<FolderId, (u64, bool)>,
}

/// What a member said, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    /// The report.
    pub report: Report,
    /// When it came, by the monotone clock of this node.
    pub at_ms: u64,
    /// How far its clock was ahead of this node's when it came, in milliseconds.
    pub skew_ms: i64,
}

/// Where a folder is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Copies {
    /// What was asked for.
    pub wanted: Wanted,
    /// Machines that hold all of it, those that may be coordinator not counted.
    pub nodes: BTreeSet<NodeId>,
    /// Machines that hold all of it and may be coordinator.
    pub servers: BTreeSet<NodeId>,
}

impl Copies {
    /// Whether there are as many as was asked for. A server that is not needed as such counts as a machine.
    pub fn are_enough(&self) -> bool {
        let needed = usize::from(self.wanted.server);
        self.servers.len() >= needed && self.nodes.len() + self.servers.len() - needed >= usize::from(self.wanted.nodes)
    }
}

/// What is to be said of a folder's copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// There are too few, and have been for a while.
    TooFew(FolderId, Copies),
    /// There are enough again.
    Enough(FolderId),
}

impl Office {
    /// A member said how it is. `now_ms` is monotone, `wall_ms` this node's clock.
    pub fn handle_report(&mut self, now_ms: u64, wall_ms: u64, from: NodeId, report: Report) {
        let ahead = i128::from(report.clock_ms) - i128::from(wall_ms);
        let skew_ms = i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX });
        self.reports.insert(from, Heard { report, at_ms: now_ms, skew_ms });
    }

    /// These are the members.
    pub fn handle_members(&mut self, members: &BTreeSet<NodeId>) {
        self.reports.retain(|node, _| members.contains(node));
    }

    /// What a member last said.
    pub fn heard(&self, node: NodeId) -> Option<&Heard> {
        self.reports.get(&node)
    }

    /// Where a folder is that holds `holds` here. `is_server`: who may be coordinator.
    pub fn copies(
        &self,
        folder: FolderId,
        wanted: Wanted,
        (own, holds): (NodeId, [u8; 32]),
        is_server: &dyn Fn(NodeId) -> bool,
    ) -> Copies {
        let says =
            |heard: &Heard| heard.report.folders.iter().any(|one| one.folder == folder && one.holds == Some(holds));
        let others = self.reports.iter().filter(|(node, heard)| **node != own && says(heard)).map(|(node, _)| *node);
        let (servers, nodes) = others.chain([own]).partition(|node| is_server(*node));
        Copies { wanted, nodes, servers }
    }

    /// Looks at every folder of which the number of copies is known now; of others nothing is said.
    pub fn handle_copies(&mut self, now_ms: u64, folders: Vec<(FolderId, Copies)>, out: &mut Vec<Output>) {
        for (folder, copies) in folders {
            if copies.are_enough() {
                if let Some((_, true)) = self.lacking.remove(&folder) {
                    out.push(Output::Enough(folder));
                }
                continue;
            }
            let (since, told) = self.lacking.entry(folder).or_insert((now_ms, false));
            if !*told && now_ms.saturating_sub(*since) >= PATIENCE_MS {
                *told = true;
                out.push(Output::TooFew(folder, copies));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::{List, Text};
    use crate::wire::report::{Doing, FolderReport, Room};

    const FOLDER: FolderId = FolderId([7; 32]);

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn report(holds: Option<[u8; 32]>, clock_ms: u64) -> Report {
        let one = FolderReport {
            folder: FOLDER,
            doing: Doing::Idle,
            need_files: 0,
            need_bytes: 0,
            disk: Room::default(),
            holds,
        };
        Report {
            version: Text::truncated("lanyard"),
            clock_ms,
            disk: Room::default(),
            folders: List::truncated(vec![one]),
            alerts: 0,
            listed: List::truncated(Vec::new()),
            audit: 0,
        }
    }

    fn copies(office: &Office, wanted: Wanted) -> Copies {
        office.copies(FOLDER, wanted, (node(1), [1; 32]), &|n| n == node(1) || n == node(2))
    }

    #[test]
    fn a_machine_is_a_copy_while_it_holds_what_is_held_here() {
        let mut office = Office::default();
        office.handle_report(0, 0, node(3), report(Some([1; 32]), 0));
        office.handle_report(0, 0, node(4), report(Some([2; 32]), 0));
        office.handle_report(0, 0, node(5), report(None, 0));
        let found = copies(&office, Wanted { nodes: 1, server: true });
        assert_eq!((found.nodes.clone(), found.servers.clone()), ([node(3)].into(), [node(1)].into()));
        assert!(found.are_enough());
        assert!(!copies(&office, Wanted { nodes: 2, server: true }).are_enough());
        assert!(copies(&office, Wanted { nodes: 2, server: false }).are_enough(), "the server is a machine, too");
        office.handle_members(&[node(1), node(4)].into());
        assert!(copies(&office, Wanted { nodes: 1, server: true }).nodes.is_empty(), "no member any more");
    }

    #[test]
    fn too_few_copies_are_told_once_after_a_while_and_taken_back() {
        let mut office = Office::default();
        let mut out = Vec::new();
        let wanted = Wanted { nodes: 1, server: true };
        let few = copies(&office, wanted);
        office.handle_copies(0, vec![(FOLDER, few.clone())], &mut out);
        office.handle_copies(PATIENCE_MS - 1, vec![(FOLDER, few.clone())], &mut out);
        assert!(out.is_empty());
        office.handle_copies(PATIENCE_MS, vec![(FOLDER, few.clone())], &mut out);
        office.handle_copies(PATIENCE_MS + 1, vec![(FOLDER, few.clone())], &mut out);
        assert_eq!(std::mem::take(&mut out), [Output::TooFew(FOLDER, few)]);
        office.handle_report(1, 1, node(3), report(Some([1; 32]), 1));
        let enough = copies(&office, wanted);
        office.handle_copies(PATIENCE_MS + 2, vec![(FOLDER, enough.clone())], &mut out);
        office.handle_copies(PATIENCE_MS + 3, vec![(FOLDER, enough)], &mut out);
        assert_eq!(out, [Output::Enough(FOLDER)]);
    }

    #[test]
    fn a_clock_however_wrong_is_a_number() {
        let mut office = Office::default();
        for (theirs, ours, ahead) in [(5, 3, 2), (3, 5, -2), (u64::MAX, 0, i64::MAX), (0, u64::MAX, i64::MIN)] {
            office.handle_report(0, ours, node(2), report(None, theirs));
            assert_eq!(office.heard(node(2)).map(|heard| heard.skew_ms), Some(ahead));
        }
    }
}
