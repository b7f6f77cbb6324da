//! `lanyard expel`, `role`, `rename`, `retire`: who is in, and what things are called.

use clap::Args;

use crate::wire::api::{
    ChangeRole, ExpelNode, Expelled, Failure, RenameThing, Renamed, Request, RetireFolder, Retired, Role, RoleChanged,
    Thing,
};

use super::screen::plain;
use super::{Context, Outcome};

/// Remove a machine from the mesh: it is cut off at once
#[derive(Args)]
pub(super) struct Expel {
    /// The machine, by name or id
    #[arg(value_name = "NODE")]
    node: String,
}

impl Expel {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let expelled: Expelled = context.client()?.ask_now(&Request::Expel(ExpelNode { node: self.node }))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&expelled);
        }
        screen.line(format_args!("{} is no member any more.", plain(&expelled.node.name)))?;
        screen.line("Machines that are away learn of it at their next contact with any other. What is on its disk")?;
        screen.line("already stays there: it cannot be called back.")
    }
}

/// Make a machine an admin, or a plain member
#[derive(Args)]
pub(super) struct SetRole {
    /// The machine, by name or id
    #[arg(value_name = "NODE")]
    node: String,

    /// An admin may invite and remove machines and change every rule
    #[arg(value_name = "ROLE", value_parser = super::role())]
    role: Role,
}

impl SetRole {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let ask = ChangeRole { node: self.node, role: self.role };
        let changed: RoleChanged = context.client()?.ask_now(&Request::Role(ask))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&changed);
        }
        let (name, word) = (plain(&changed.node.name), if changed.statement.is_some() { "now" } else { "already" });
        match changed.role {
            Role::Admin => screen.line(format_args!("{name} is {word} an admin: it may change every rule.")),
            Role::Member => screen.line(format_args!("{name} is {word} a plain member.")),
        }
    }
}

/// Give a machine, the mesh or a folder another name
#[derive(Args)]
#[command(override_usage = "lanyard rename <NODE|--mesh|--folder FOLDER> <NAME>")]
pub(super) struct Rename {
    /// A machine, by name or id
    #[arg(value_name = "NODE")]
    node: Option<String>,

    /// The mesh
    #[arg(long)]
    mesh: bool,

    /// A folder; its directories keep their names
    #[arg(long, value_name = "FOLDER")]
    folder: Option<String>,

    /// The new name
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Rename {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (what, name) = self.meant()?;
        let renamed: Renamed = context.client()?.ask_now(&Request::Rename(RenameThing { what, name }))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&renamed);
        }
        screen.line(format_args!("'{}' is named '{}' now.", plain(&renamed.before), plain(&renamed.name)))
    }

    /// With `--mesh` or `--folder` the one word is the new name.
    fn meant(self) -> Result<(Thing, String), Failure> {
        let usage = |what: &str| {
            Failure::usage(what)
                .hint("lanyard rename NODE NAME, lanyard rename --mesh NAME, or lanyard rename --folder FOLDER NAME")
        };
        match (self.mesh, self.folder, self.node, self.name) {
            (true, None, Some(name), None) => Ok((Thing::Mesh, name)),
            (false, Some(folder), Some(name), None) => Ok((Thing::Folder(folder), name)),
            (false, None, Some(node), Some(name)) => Ok((Thing::Node(node), name)),
            (true, Some(_), ..) => Err(usage("either the mesh or a folder is given a name")),
            (_, _, Some(_), Some(_)) => Err(usage("only one new name is given")),
            _ => Err(usage("the new name is missing")),
        }
    }
}

/// Share a folder no more, for good; every machine keeps its files
#[derive(Args)]
pub(super) struct Retire {
    /// The folder, by name or id
    #[arg(value_name = "FOLDER")]
    folder: String,
}

impl Retire {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let ask = RetireFolder { folder: self.folder };
        let retired: Retired = context.client()?.ask_now(&Request::Retire(ask))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&retired);
        }
        screen.line(format_args!("{} is shared no more. Its files stay on every machine.", plain(&retired.folder.name)))
    }
}
