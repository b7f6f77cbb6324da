//! `lanyard coordinator`: which machines may serve the office.

use clap::{Args, Subcommand};

use crate::wire::api::{AllowNode, Allowed, PRIORITY_USUAL, Request};

use super::screen::plain;
use super::{Context, Outcome};

/// Choose which machines may serve as the office's server
#[derive(Args)]
pub(super) struct Coordinator {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
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
}

impl Coordinator {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self.step {
            Step::Allow { node, priority } => allow(context, node, Some(priority)),
            Step::Deny { node } => allow(context, node, None),
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
