//! `lanyard coordinator`: which machine serves the office, and which ones may.

use clap::{Args, Subcommand};

use crate::wire::api::{self, AllowNode, Allowed, EligibleNode, PRIORITY_USUAL, Request, SteppedDown};

use super::screen::{Screen, Stop, plain};
use super::{Context, Outcome};

/// Show the machine that serves as the office's server, and choose which ones may
///
/// The office needs none. Of the machines that an admin allows, the one with the highest priority that is there serves;
/// when it dies or is switched off, the next one takes over within seconds.
#[derive(Args)]
pub(super) struct Coordinator {
    #[command(subcommand)]
    step: Option<Step>,
}

#[derive(Subcommand)]
enum Step {
    /// Show who is coordinator, and who may be
    Status,
    /// Let a machine be coordinator
    Allow {
        /// The machine, by name or id
        #[arg(value_name = "NODE")]
        node: String,
        /// Of several the one with the highest number serves
        #[arg(long, value_name = "N", default_value_t = PRIORITY_USUAL)]
        priority: u16,
    },
    /// Let a machine be coordinator no more
    Deny {
        /// The machine, by name or id
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Hand over from this machine to the next one; it stays back for ten minutes
    #[command(name = "step-down")]
    HandOver,
}

impl Coordinator {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let screen = &context.screen;
        match self.step {
            None | Some(Step::Status) => {
                let status: api::Coordinator = context.client()?.ask_now(&Request::Coordinator)?;
                if screen.json { screen.document(&status) } else { print(screen, &status) }
            }
            Some(Step::Allow { node, priority }) => allow(context, node, Some(priority)),
            Some(Step::Deny { node }) => allow(context, node, None),
            Some(Step::HandOver) => {
                let done: SteppedDown = context.client()?.ask_now(&Request::StepDown)?;
                if screen.json {
                    return screen.document(&done);
                }
                match done.coordinator {
                    Some(term) => screen.line(format_args!("{} is the coordinator now.", plain(&term.name))),
                    None => screen.line("this machine is not the coordinator any more; another one takes over now."),
                }
            }
        }
    }
}

fn allow(context: &Context, node: String, priority: Option<u16>) -> Outcome {
    let screen = &context.screen;
    let done: Allowed = context.client()?.ask_now(&Request::Allow(AllowNode { node, priority }))?;
    if screen.json {
        return screen.document(&done);
    }
    let who = plain(&done.node.name);
    let already = if done.statement.is_none() { " already" } else { "" };
    match done.priority {
        Some(priority) => screen.line(format_args!("{who} may{already} be coordinator, with priority {priority}.")),
        None => screen.line(format_args!("{who} may{already} not be coordinator.")),
    }
}

fn print(screen: &Screen, status: &api::Coordinator) -> Result<(), Stop> {
    match &status.coordinator {
        Some(term) => {
            let here = if status.this { ", this machine" } else { "" };
            screen.line(format_args!("coordinator: {}{here} (term {})", plain(&term.name), term.term))?;
        }
        None if status.eligible.is_empty() => {
            return screen.line(
                "there is no coordinator, and the office needs none: 'lanyard coordinator allow NODE' chooses a machine",
            );
        }
        None => screen.line("there is no coordinator now")?,
    }
    if let Some(host) = &status.host {
        screen.line(format_args!("found as:    {}", plain(host)))?;
    }
    if let Some(why) = &status.host_taken {
        screen.line(format_args!("             {}", plain(why)))?;
    }
    if !status.fit {
        screen.line("this machine is not fit to be coordinator now; 'lanyard status' says why")?;
    }
    screen.line("")?;
    screen.table(&["MAY BE COORDINATOR", "PRIORITY", "STATE"], status.eligible.iter().map(row).collect())
}

fn row(node: &EligibleNode) -> Vec<String> {
    let state = match (node.coordinator, node.ready, node.connected) {
        (true, ..) => "coordinator",
        (_, true, _) => "ready",
        (_, false, true) => "not fit now",
        (_, false, false) => "away",
    };
    vec![plain(&node.node.name), node.priority.to_string(), state.into()]
}
