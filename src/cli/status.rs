//! `lanyard status`: this node, its mesh, peers, folders, coordinator, alerts.

use clap::Args;

use crate::wire::api::{self, Peer, Request, Standing, VersionGap};

use super::screen::{local, plain};
use super::{Context, Outcome, folders};

/// Show this node, its mesh, peers, folders and alerts
#[derive(Args)]
pub(super) struct Status {}

impl Status {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let status: api::Status = context.client()?.ask_now(&Request::Status)?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&status);
        }
        screen.heading(&format!("{} (lanyard {})", plain(&status.node.name), plain(&status.node.version)))?;
        screen.line(format_args!("  id           {}", plain(&status.node.id)))?;
        screen.line(format_args!("  mesh         {}", mesh(&status)))?;
        screen.line(format_args!("  page         {}", plain(status.page.as_deref().unwrap_or("none"))))?;
        let coordinator = status.coordinator.as_ref().map_or("none".into(), |term| plain(&term.name));
        screen.line(format_args!("  coordinator  {coordinator}"))?;
        if !status.node.confined {
            screen.line("  reaches      every file that its user may (Landlock is off, or this kernel has none)")?;
        }
        if !status.peers.is_empty() {
            screen.line("")?;
            screen.table(&["PEER", "STATE", "ADDRESS"], status.peers.iter().map(row).collect())?;
        }
        if !status.folders.is_empty() {
            screen.line("")?;
            folders::print(screen, &status.folders)?;
        }
        if !status.alerts.is_empty() {
            screen.line("")?;
            screen.heading("Needs attention")?;
        }
        for alert in &status.alerts {
            screen.line(format_args!("  {}  {}", local(alert.since, "%Y-%m-%d %H:%M"), plain(&alert.what)))?;
            if let Some(hint) = &alert.hint {
                screen.line(format_args!("    hint: {}", plain(hint)))?;
            }
        }
        Ok(())
    }
}

fn mesh(status: &api::Status) -> String {
    let name = status.mesh.as_ref().map_or("its mesh".into(), |mesh| format!("'{}'", plain(&mesh.name)));
    match status.standing {
        Standing::NoMesh => "none yet: 'share' starts one, 'join' enters one".into(),
        Standing::Alone => format!("{name}, nobody else is in it yet: 'invite' adds a machine"),
        Standing::Member => format!("{name}, this machine is a member"),
        Standing::Admin => format!("{name}, this machine is an admin"),
        Standing::Expelled => format!("this machine was expelled from {name}: 'join' enters one again"),
    }
}

fn row(peer: &Peer) -> Vec<String> {
    let state = match (peer.connected, &peer.via) {
        (true, Some(relay)) => format!("connected via {}", plain(relay)),
        (true, None) => "connected".into(),
        (false, _) => peer.apart.as_ref().map_or("away", VersionGap::word).into(),
    };
    vec![plain(&peer.name), state, peer.address.as_deref().map(plain).unwrap_or_default()]
}
