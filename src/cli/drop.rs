//! `lanyard drop`: stop receiving a folder here.

use clap::Args;

use crate::wire::api::{self, Dropped, Request};

use super::screen::plain;
use super::{Context, Outcome};

/// Stop receiving a folder on this machine; its files stay where they are
#[derive(Args)]
pub(super) struct Drop {
    /// Name of the folder
    #[arg(value_name = "FOLDER")]
    folder: String,
}

impl Drop {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let ask = Request::Drop(api::DropFolder { folder: self.folder });
        let dropped: Dropped = context.client()?.ask_now(&ask)?;
        if context.screen.json {
            return context.screen.document(&dropped);
        }
        let (name, path) = (plain(&dropped.name), plain(dropped.path.as_str()));
        context.screen.line(format_args!("'{name}' is not received here any more. Its files stay in {path}."))
    }
}
