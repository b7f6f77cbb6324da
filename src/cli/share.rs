//! `lanyard share`: share a directory.

use std::path::PathBuf;

use clap::Args;

use crate::wire::api::{self, Level, Request, Shared};

use super::screen::plain;
use super::up::{print_founded, print_made};
use super::{Context, Outcome, absolute};

/// Share a directory with the mesh; if there is none yet, this starts one
#[derive(Args)]
pub(super) struct Share {
    /// The directory; its last component is made if it does not exist
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Name of the folder [default: the directory's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// What every member may do there
    #[arg(long, value_name = "LEVEL", default_value = "write", value_parser = super::level(&["none", "read", "write"]))]
    everyone: Level,
}

impl Share {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let ask = api::Share { path: absolute(&self.path)?, name: self.name, everyone: Some(self.everyone) };
        let shared: Shared = context.client()?.ask_now(&Request::Share(ask))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&shared);
        }
        if shared.made_directory {
            print_made(screen, &shared)?;
        }
        let path = shared.folder.path.as_ref().map(|path| plain(path.as_str())).unwrap_or_default();
        let everyone = match shared.everyone {
            Level::None => "nobody else sees it until you grant it",
            Level::Read => "every member may read it",
            Level::Write | Level::Manage => "every member may change it",
        };
        screen.line(format_args!("{path} is shared as '{}': {everyone}.", plain(&shared.folder.name)))?;
        match &shared.founded {
            Some(founded) => print_founded(screen, founded),
            None => Ok(()),
        }
    }
}
