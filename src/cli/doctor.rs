//! `lanyard doctor`: what is wrong with this machine, and what to do about it.

use clap::Args;

use crate::node::doctor;
use crate::wire::api::{Checkup, Failure, FailureKind, Request};

use super::screen::{count, plain};
use super::{Context, Outcome};

/// Check what the node needs of this machine and its network, and say what to do
///
/// Looks at multicast, firewall, port, clocks, limits, room on disks, permissions, admins and folders; works with and without a
/// running node. Takes some seconds.
#[derive(Args)]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let told: Option<Checkup> = match context.client().and_then(|client| client.ask_now(&Request::Doctor)) {
            Ok(checkup) => Some(checkup),
            Err(failure) if failure.kind == FailureKind::NoNode => None,
            Err(failure) => return Err(failure.into()),
        };
        let screen = &context.screen;
        if told.is_none() && !screen.json {
            screen.aside("No node is running here: its links and clocks are not looked at.");
        }
        let found = doctor::examine(context.home.as_deref(), told)?;
        if screen.json {
            screen.document(&found)?;
        } else if found.is_empty() {
            screen.line("nothing found")?;
        }
        if found.is_empty() {
            return Ok(());
        }
        if !screen.json {
            for finding in &found {
                screen.line(format_args!("{}: {}", finding.check, plain(&finding.what)))?;
                screen.line(format_args!("  do: {}", plain(&finding.remedy)))?;
            }
        }
        Err(Failure::failed(format!("{} found", count(found.len() as u64, "problem"))).into())
    }
}
