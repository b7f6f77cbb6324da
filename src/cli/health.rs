//! `lanyard health`: how every machine of the office is, as the one that may be its server knows it.

use clap::Args;

use crate::wire::api::{FolderCopies, Health as Answer, NodeHealth, Request, VersionGap};

use super::screen::{bytes, count, local, plain};
use super::{Context, Outcome};

/// Clocks further apart than this are shown: rules with an end, and conflicts, go by them.
const SKEW_MS: u64 = 10_000;

/// Show how every machine is and where every folder is; on a machine that may be the office's server
#[derive(Args)]
pub(super) struct Health {}

impl Health {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let health: Answer = context.client()?.ask_now(&Request::Health)?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&health);
        }
        let head = ["MACHINE", "STATE", "IN SYNC", "DISK FREE", "ALERTS", "VERSION"];
        screen.table(&head, health.nodes.iter().map(row).collect())?;
        for node in &health.nodes {
            let name = plain(&node.node.name);
            if let Some(ahead) = node.clock_ahead_ms.filter(|ahead| ahead.unsigned_abs() > SKEW_MS) {
                let (seconds, word) = (ahead.unsigned_abs() / 1000, if ahead > 0 { "ahead" } else { "behind" });
                screen.line(format_args!("{name}: its clock is {} {word}", count(seconds, "second")))?;
            }
            for folder in node.folders.iter().filter(|folder| folder.need_files > 0) {
                let missing = format!("{}, {}", count(folder.need_files, "file"), bytes(folder.need_bytes));
                screen.line(format_args!("{name}: {} still needs {missing}", plain(&folder.folder.name)))?;
            }
            for alert in &node.listed {
                screen.line(format_args!("{name}: {}", plain(&alert.what)))?;
                if let Some(hint) = &alert.hint {
                    screen.line(format_args!("  {}", plain(hint)))?;
                }
            }
        }
        if health.folders.is_empty() {
            return Ok(());
        }
        screen.line("")?;
        screen.table(&["FOLDER", "WANTED", "HELD BY"], health.folders.iter().map(copies).collect())
    }
}

fn row(node: &NodeHealth) -> Vec<String> {
    let state = match (node.this, node.connected, node.last_seen) {
        (true, ..) => String::from("this machine"),
        (false, true, _) => String::from("connected"),
        (false, false, _) if node.apart.is_some() => node.apart.as_ref().map_or("away", VersionGap::word).into(),
        (false, false, Some(seen)) => format!("away since {}", local(seen, "%Y-%m-%d %H:%M")),
        (false, false, None) => String::from("never seen"),
    };
    let sync = match node.in_sync {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not heard",
    };
    let disk = node.disk.map_or("-".into(), |disk| format!("{} of {}", bytes(disk.free), bytes(disk.total)));
    let version = node.version.as_deref().map_or("-".into(), plain);
    let mut name = plain(&node.node.name);
    if node.server {
        name += " (server)";
    }
    vec![name, state, sync.into(), disk, node.alerts.to_string(), version]
}

fn copies(folder: &FolderCopies) -> Vec<String> {
    let wanted = match (folder.nodes, folder.server) {
        (0, false) => String::from("-"),
        (0, true) => String::from("server"),
        (nodes, false) => nodes.to_string(),
        (nodes, true) => format!("{nodes} + server"),
    };
    let held = match &folder.held_by {
        None => String::from("not all of it is here yet"),
        Some(nodes) => nodes.iter().map(|node| plain(&node.name)).collect::<Vec<_>>().join(", "),
    };
    let few = if folder.enough == Some(false) { "  TOO FEW" } else { "" };
    vec![plain(&folder.folder.name), wanted, format!("{held}{few}")]
}
