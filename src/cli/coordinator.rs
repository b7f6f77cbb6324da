//! `lanyard coordinator allow` and `deny`: which machines may serve the office.

use clap::{Args, Subcommand};

use crate::wire::api::{EligibleSet, Request, SetEligible};

use super::screen::plain;
use super::{Context, Outcome};

/// Say which machines may serve the office: as its coordinator, and as a relay
#[derive(Args)]
pub(super) struct Coordinator {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Declare a machine eligible
    Allow {
        /// The machine, by name or id
        #[arg(value_name = "NODE")]
        node: String,
        /// Higher is preferred
        #[arg(long, value_name = "N", default_value_t = 100)]
        priority: u16,
    },
    /// Declare that a machine is not eligible
    Deny {
        /// The machine, by name or id
        #[arg(value_name = "NODE")]
        node: String,
    },
}

impl Coordinator {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (node, priority) = match self.step {
            Step::Allow { node, priority } => (node, Some(priority)),
            Step::Deny { node } => (node, None),
        };
        let set: EligibleSet = context.client()?.ask_now(&Request::Eligible(SetEligible { node, priority }))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&set);
        }
        let (name, word) = (plain(&set.node.name), if set.statement.is_some() { "now" } else { "already" });
        match set.priority {
            Some(priority) => screen.line(format_args!("{name} is {word} eligible, with priority {priority}.")),
            None if set.statement.is_some() => screen.line(format_args!("{name} is not eligible any more.")),
            None => screen.line(format_args!("{name} was not eligible.")),
        }
    }
}
