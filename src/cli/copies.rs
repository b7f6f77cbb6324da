//! `lanyard copies`: on how many machines a folder shall be.

use clap::Args;

use crate::wire::api::{AskCopies, Request, WantedCopies};

use super::screen::{count, plain};
use super::{Context, Outcome};

/// Say, or ask, on how many machines a folder shall be; the office's server tells when there are fewer
#[derive(Args)]
pub(super) struct Copies {
    /// The folder, by name or id
    #[arg(value_name = "FOLDER")]
    folder: String,

    /// On how many machines, the office's server not counted; 0: no number
    #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(0..=50))]
    nodes: Option<u8>,

    /// The office's server shall hold it as well
    #[arg(long)]
    server: bool,

    /// The office's server need not hold it
    #[arg(long, conflicts_with = "server")]
    no_server: bool,
}

impl Copies {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let server = if self.server || self.no_server { Some(self.server) } else { None };
        let ask = AskCopies { folder: self.folder, nodes: self.nodes, server };
        let wanted: WantedCopies = context.client()?.ask_now(&Request::Copies(ask))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&wanted);
        }
        let name = plain(&wanted.folder.name);
        screen.line(match (wanted.nodes, wanted.server) {
            (0, false) => format!("{name} may be on any number of machines."),
            (0, true) => format!("{name} shall be on the office's server."),
            (nodes, server) => {
                let machines = count(u64::from(nodes), "machine");
                format!("{name} shall be on {machines}{}.", if server { " and the office's server" } else { "" })
            }
        })
    }
}
