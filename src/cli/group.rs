//! `lanyard group`: named sets of machines, to be granted to at once.

use clap::{Args, Subcommand};

use crate::wire::api::{self, ChangeGroup, GroupStep, NodeRef, Request};

use super::screen::plain;
use super::{Context, Outcome};

/// Name sets of machines, so that one rule is about all of them
#[derive(Args)]
pub(super) struct Group {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Make a group
    Create {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Its members, by name or id
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Add machines to a group
    Add {
        /// The group, by name or id
        #[arg(value_name = "NAME")]
        name: String,
        /// Machines, by name or id
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<String>,
    },
    /// Take machines out of a group
    Remove {
        /// The group, by name or id
        #[arg(value_name = "NAME")]
        name: String,
        /// Machines, by name or id
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<String>,
    },
    /// List every group with its members
    List,
}

impl Group {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (step, group, nodes) = match self.step {
            Step::Create { name, nodes } => (GroupStep::Create, name, nodes),
            Step::Add { name, nodes } => (GroupStep::Add, name, nodes),
            Step::Remove { name, nodes } => (GroupStep::Remove, name, nodes),
            Step::List => return list(context),
        };
        let ask = ChangeGroup { step, group, nodes };
        let group: api::Group = context.client()?.ask_now(&Request::Group(ask))?;
        if context.screen.json {
            return context.screen.document(&group);
        }
        context.screen.line(format_args!("group {}: {}", plain(&group.name), names(&group.members)))
    }
}

fn list(context: &Context) -> Outcome {
    let groups: Vec<api::Group> = context.client()?.ask_now(&Request::Groups)?;
    let screen = &context.screen;
    if screen.json {
        return screen.document(&groups);
    }
    if groups.is_empty() {
        return screen.line("no group yet: 'lanyard group create NAME NODE...' makes one");
    }
    screen.table(
        &["GROUP", "MEMBERS"],
        groups.iter().map(|group| vec![plain(&group.name), names(&group.members)]).collect(),
    )?;
    for group in groups.iter().filter(|group| !group.disputed.is_empty()) {
        screen.line(format_args!(
            "{}: two admins disagreed on {}; 'lanyard group add' or 'remove' decides",
            plain(&group.name),
            names(&group.disputed)
        ))?;
    }
    Ok(())
}

fn names(nodes: &[NodeRef]) -> String {
    if nodes.is_empty() {
        return "nobody".into();
    }
    nodes.iter().map(|node| plain(&node.name)).collect::<Vec<_>>().join(", ")
}
