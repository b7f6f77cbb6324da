//! `lanyard join`: become a member of the mesh that shows a code.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::wire::api::{self, Failure, Joined, Request};

use super::screen::{Screen, Stop, plain};
use super::{Context, Outcome, absolute, progress};

/// Longest ticket file that is read; the request it travels in is bounded too.
const TICKET_BYTES_MAX: u64 = 32 * 1024;

/// Join the mesh that shows CODE; returns once this machine is admitted
///
/// Folders open to this machine, now and later, are received under one directory.
#[derive(Args)]
pub(super) struct Join {
    /// The code that 'lanyard invite' shows, or the path of a file with a ticket
    #[arg(value_name = "CODE")]
    code: String,

    /// Name of this machine in the mesh
    #[arg(long, value_name = "NODE", value_parser = super::up::node_name)]
    name: Option<String>,

    /// Address of the inviting machine, where it is not found by itself
    #[arg(long, value_name = "HOST:PORT", value_parser = super::up::host_port)]
    at: Option<String>,

    /// Directory under which folders are received [default: Lanyard in the home directory]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,

    /// Receive no folders yet: they are only offered, 'lanyard get' receives one
    #[arg(long, conflicts_with = "into")]
    no_folders: bool,
}

impl Join {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let ticket = ticket(&self.code)?;
        let ask = Request::Join(api::Join {
            code: ticket.is_none().then(|| self.code.trim().to_string()),
            ticket,
            name: self.name,
            at: self.at,
            into: self.into.as_deref().map(absolute).transpose()?,
            no_folders: self.no_folders,
        });
        let work = client.ask(&ask, None);
        let joined: Joined = async_io::block_on(progress::joining(&context.screen, &client, work))?;
        if context.screen.json {
            return context.screen.document(&joined);
        }
        print(&context.screen, &joined)
    }
}

/// The ticket in the file of that name; `None` where there is no such file.
fn ticket(code: &str) -> Result<Option<String>, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot read the ticket {code}")).because(&error);
    let path = Path::new(code);
    if path.is_dir() {
        return Err(Failure::usage(format!("{code} is a directory, neither a code nor a ticket")));
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !code.contains('/') => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(TICKET_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > TICKET_BYTES_MAX {
        return Err(Failure::failed(format!("{code} is too long to be a ticket")));
    }
    Ok(Some(text.trim().to_string()))
}

fn print(screen: &Screen, joined: &Joined) -> Result<(), Stop> {
    screen.line(format_args!(
        "This machine is now {} of '{}', admitted by '{}'.",
        match joined.role {
            api::Role::Member => "a member",
            api::Role::Admin => "an admin",
        },
        plain(&joined.mesh.name),
        plain(&joined.by.name)
    ))?;
    if let Some(own) = &joined.dissolved {
        screen.line(format_args!("Its own mesh '{}', where it was alone, is dissolved.", plain(&own.name)))?;
    }
    for merged in &joined.merged {
        let (path, name) = (plain(merged.path.as_str()), plain(&merged.name));
        match merged.into_existing {
            true => screen.line(format_args!("{path} merges into the folder '{name}'; nothing is deleted."))?,
            false => screen.line(format_args!("{path} is now the folder '{name}' of this mesh."))?,
        }
    }
    if joined.folders.is_empty() {
        return screen.line("No folder is open to this machine yet.");
    }
    let rows = joined.folders.iter().map(|folder| {
        let place = match &folder.path {
            Some(path) => plain(path.as_str()),
            None => "offered: 'lanyard get' receives it".into(),
        };
        vec![plain(&folder.name), folder.level.to_string(), place]
    });
    screen.table(&["FOLDER", "LEVEL", "WHERE"], rows.collect())
}
