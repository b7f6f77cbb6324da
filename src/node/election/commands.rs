//! Commands about the coordinator: who it is, who may be it, stepping down.

use std::sync::Arc;
use std::time::Duration;

use super::{Input, term_of};
use crate::base::NodeId;
use crate::logic::election::{CannotStepDown, Timing};
use crate::logic::policy::{find_node, plan_eligible};
use crate::node::rules::unclear;
use crate::node::{Shared, lock, rules, standing};
use crate::shell::rt;
use crate::wire::api::{AllowNode, Allowed, Coordinator, EligibleNode, Failure, SteppedDown};

/// Who is coordinator, and who may be.
pub(in crate::node) fn coordinator(shared: &Shared) -> Result<Coordinator, Failure> {
    let policy = standing::must_have_mesh(shared)?;
    let own = shared.mesh.node();
    let known = shared.election.coordinator();
    let view = lock(&shared.election.view).clone();
    let mut all: Vec<(NodeId, u16)> = policy.candidates().collect();
    all.sort_by_key(|(node, priority)| (u16::MAX - priority, *node));
    let one = |(node, priority): (NodeId, u16)| {
        let is_coordinator = known.is_some_and(|hears| hears.node == node);
        EligibleNode {
            node: shared.node_ref(Some(&policy), node),
            priority,
            coordinator: is_coordinator,
            connected: node == own || shared.way_to(node).is_some(),
            ready: is_coordinator || view.candidates.contains(&node) || node == own && view.fit,
        }
    };
    let (host, host_taken) = view.host.map_or((None, None), |(host, taken)| (Some(host), taken));
    Ok(Coordinator {
        coordinator: term_of(shared, known),
        this: known.is_some_and(|hears| hears.node == own),
        host,
        host_taken,
        fit: view.fit,
        eligible: all.into_iter().map(one).collect(),
    })
}

/// Lets a node be coordinator, or no longer.
pub(in crate::node) async fn allow(shared: &Arc<Shared>, ask: AllowNode) -> Result<Allowed, Failure> {
    let _one = shared.changing.lock().await;
    let policy = standing::must_have_mesh(shared)?;
    let node = find_node(&policy, &ask.node).map_err(unclear)?;
    let named = shared.node_ref(Some(&policy), node);
    if policy.eligible(node) == ask.priority {
        return Ok(Allowed { node: named, priority: ask.priority, statement: None });
    }
    let may = if ask.priority.is_some() { "let" } else { "keep" };
    let from = if ask.priority.is_some() { "be" } else { "from being" };
    let what = || format!("cannot {may} {} {from} coordinator", named.name);
    let id = rules::sign(shared, what, |policy, me| plan_eligible(policy, me, node, ask.priority))?;
    Ok(Allowed { node: named.clone(), priority: ask.priority, statement: Some(id.to_hex()) })
}

/// Hands over to another node.
pub(in crate::node) async fn step_down(shared: &Arc<Shared>) -> Result<SteppedDown, Failure> {
    standing::must_have_mesh(shared)?;
    let own = shared.mesh.node();
    let (reply, replied) = async_channel::bounded(1);
    shared.election.tell(Input::StepDown(reply));
    let failed = || Failure::failed("this machine cannot step down");
    let next = replied.recv().await.map_err(|error| failed().because(&error))?;
    if let Err(error) = next {
        let failure = failed().because(&error);
        return Err(match error {
            CannotStepDown::NotCoordinator => {
                failure.hint("run it on the coordinator; 'lanyard coordinator' says which machine that is")
            }
            CannotStepDown::NoOther => failure.hint(
                "let another one be coordinator first: 'lanyard coordinator allow NODE'; or end this one: 'lanyard coordinator deny'",
            ),
        });
    }
    let other = async {
        loop {
            let changed = shared.election.changed();
            let known = shared.election.coordinator();
            if known.is_some_and(|hears| hears.node != own) {
                return known;
            }
            changed.await;
        }
    };
    let most = Duration::from_millis(2 * Timing::OFFICE.hand_ms + Timing::OFFICE.expire_ms);
    let known = rt::timeout(most, other).await.ok().flatten();
    Ok(SteppedDown { coordinator: term_of(shared, known) })
}
