//! What of the main loop serves the office beyond this node's own folders: relaying, the office's name, reports.

use tracing::debug;

use super::{Event, LinkId, Running};
use crate::logic::peering::Output;
use crate::node::reasons;
use crate::node::relay::{self, Standing};
use crate::node::session::Order;
use crate::shell::net::mdns;
use crate::shell::{clock, rt};
use crate::wire::message::Purpose;

/// How often this node says how it is. A guess: a person who looks at the office waits no longer.
const REPORT_MS: u64 = 15_000;

impl Running {
    /// Says how this node is to those that collect it, if there are any; and looks at what they said to this one.
    pub(super) fn report(&mut self) {
        let collected = self.shared.mesh.policy().is_some_and(|policy| policy.candidates().next().is_some());
        self.report_ms = collected.then(|| clock::boottime_ms() + REPORT_MS);
        if collected {
            self.order(|_| Order::Report);
            let shared = self.shared.clone();
            rt::spawn(async move { rt::spawn_blocking(move || shared.look_after_office()).await });
        }
    }

    /// The members, and who of them may relay.
    pub(super) fn members_changed(&mut self, out: &mut Vec<Output>) {
        let (now, policy) = (clock::boottime_ms(), self.shared.mesh.policy());
        let members = policy.iter().flat_map(|policy| policy.members()).map(|(node, _)| node).collect();
        self.runs.handle_members(&members);
        self.peering.handle_members(now, members, out);
        let relays = policy.map(|policy| relay::relays(&policy)).unwrap_or_default();
        self.peering.handle_relays(now, relays, out);
        let linked = |node| self.peering.direct(node).is_some();
        self.relaying.rules(&Standing { shared: &self.shared, linked: &linked });
    }

    pub(super) fn relay(&mut self, event: relay::Event) {
        if let relay::Event::Called(relay, call) = event {
            // The address is that of this node's own link to the relay, never one that somebody tells.
            if let Some(addr) = self.peering.direct(relay)
                && self.relaying.comes(relay, &call, &self.shared)
            {
                let (dialler, own) = (self.dialler.clone(), self.own.clone());
                let guests = self.listener.guests();
                rt::spawn(async move {
                    match dialler.meet(addr, relay, call.meeting).await {
                        Ok(tunnel) => guests.welcome(tunnel, call.from).await,
                        Err(error) => debug!(error = %reasons(&error).join(": "), "did not come to a meeting"),
                    }
                    let _ = own.send(Event::Relay(relay::Event::Came)).await;
                });
            }
            return;
        }
        let linked = |node| self.peering.direct(node).is_some();
        let standing = Standing { shared: &self.shared, linked: &linked };
        for relay::Call { to, call } in self.relaying.handle(event, &standing) {
            let link = self.peering.link(to, Purpose::Control).and_then(|link| self.sessions.get(&LinkId(link.0)));
            if link.is_none_or(|link| link.orders.try_send(Order::Call(call)).is_err()) {
                self.relaying.call_failed(call.meeting, &standing);
            }
        }
    }

    /// The office's name follows the coordinator.
    pub(super) async fn office(&self, leads: bool) {
        let Some(mdns) = &self.mdns else { return };
        let policy = self.shared.mesh.policy().filter(|_| leads && self.shared.election.leads().is_some());
        if policy.is_none() {
            self.shared.election.published(None);
        }
        let members = self.shared.addresses();
        mdns.office(policy.map(|policy| mdns::Office { name: policy.mesh_name().to_string(), members })).await;
    }
}
