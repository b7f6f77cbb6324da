//! Which lanyard the other members run, and with whom this node has no version in common.
//!
//! Page: `docs/spec/links.md`, "Versions". What is kept of a member is what its own key has said, or, where it never came
//! to that, who was expected at the address; it decides nothing but what people are told.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{Shared, lock};
use crate::base::NodeId;
use crate::logic::versions::{Apart, Behind};
use crate::shell::net::versions::Met;
use crate::wire::api::{Behind as Told, VersionGap};
use crate::wire::versions::SOFTWARE;

/// What is known of the members' programs since this node was started. Members only, so bounded as they are.
#[derive(Default)]
pub(super) struct Programs(Mutex<BTreeMap<NodeId, Program>>);

#[derive(Clone, Default)]
struct Program {
    software: Option<String>,
    apart: Option<Apart>,
    /// The alert that is shown.
    alert: Option<String>,
}

impl Shared {
    /// A link with a member is up: it said what it runs.
    pub(super) fn talked(&self, node: NodeId, software: &str) {
        if !self.mesh.is_member(node) {
            return;
        }
        let known = Program { software: Some(software.to_owned()), ..Program::default() };
        let before = lock(&self.programs.0).insert(node, known);
        if let Some(alert) = before.and_then(|before| before.alert) {
            self.over(&alert);
        }
    }

    /// A machine speaks no version that this node speaks. Says which member that is, where it is known.
    pub(super) fn cannot_talk(&self, met: &Met) -> Option<NodeId> {
        let at = met.remote.to_string();
        let last_there = || {
            let record = self.mesh.record();
            let mut there = record.members.iter().filter(|(_, contact)| contact.addresses.contains(&at));
            let found = there.next().and_then(|(node, _)| NodeId::from_hex(node))?;
            there.next().is_none().then_some(found)
        };
        let node = met.node.or_else(last_there).filter(|node| self.mesh.is_member(*node));
        let Some(node) = node else {
            tracing::info!(address = at, "{}", met.apart.what(&at, SOFTWARE));
            return None;
        };
        let name = format!("'{}'", self.name_of(node));
        let (what, hint) = (met.apart.what(&name, SOFTWARE), met.apart.hint(&name));
        let mut programs = lock(&self.programs.0);
        let known = programs.entry(node).or_default();
        // Who says nothing this time has said it before.
        if known.apart.is_some() && met.apart.behind() == Behind::Unknown {
            return Some(node);
        }
        known.apart = Some(met.apart.clone());
        known.software = met.apart.software.clone().or(known.software.take());
        let before = known.alert.replace(what.clone());
        drop(programs);
        if before.as_ref() != Some(&what) {
            if let Some(before) = before {
                self.over(&before);
            }
            self.alert(what, Some(hint));
        }
        Some(node)
    }

    /// Who is no member any more is not told of.
    pub(super) fn forget_programs(&self) {
        let mut programs = lock(&self.programs.0);
        let gone: Vec<NodeId> = programs.keys().copied().filter(|node| !self.mesh.is_member(*node)).collect();
        let gone: Vec<Program> = gone.into_iter().filter_map(|node| programs.remove(&node)).collect();
        drop(programs);
        gone.into_iter().filter_map(|program| program.alert).for_each(|alert| self.over(&alert));
    }

    /// The program that a member said it runs; this node's own for this node.
    pub(super) fn software_of(&self, node: NodeId) -> Option<String> {
        if node == self.mesh.node() {
            return Some(SOFTWARE.to_owned());
        }
        lock(&self.programs.0).get(&node).and_then(|program| program.software.clone())
    }

    /// Why a member cannot be talked to.
    pub(super) fn gap_to(&self, node: NodeId) -> Option<VersionGap> {
        let program = lock(&self.programs.0).get(&node).cloned()?;
        let apart = program.apart?;
        Some(VersionGap {
            behind: match apart.behind() {
                Behind::This => Told::This,
                Behind::That => Told::That,
                Behind::Unknown => Told::Unknown,
            },
            why: program.alert.unwrap_or_default(),
            hint: apart.hint(&format!("'{}'", self.name_of(node))),
            ours: apart.ours,
            theirs: apart.theirs,
        })
    }
}
