//! `lanyard wait`: return when everything is here and everything was told.

use std::time::Duration;

use clap::Args;

use crate::wire::api::{self, Failure, Request, Waited};

use super::client::ANSWER_TIME_MAX;
use super::screen::count;
use super::{Context, Outcome, progress, span_ms};

/// Wait until this machine has all it should have from connected machines, and has told them all it has
#[derive(Args)]
pub(super) struct Wait {
    /// Only this folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<String>,

    /// Give up after this time, with exit status 5
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::span)]
    timeout: Duration,
}

impl Wait {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let ask = Request::Wait(api::Wait { folder: self.folder.clone(), timeout_ms: span_ms(self.timeout) });
        // The node keeps the time and says what is missing; should it hang, the time is over all the same.
        let work = client.ask(&ask, Some(self.timeout + ANSWER_TIME_MAX));
        let shown = progress::receiving(&context.screen, &client, self.folder.as_deref(), work);
        let waited: Result<Waited, Failure> = async_io::block_on(shown);
        let waited = waited?;
        if context.screen.json {
            return context.screen.document(&waited);
        }
        let folders = count(waited.folders.len() as u64, "folder");
        let peers = match waited.connected {
            0 => "no other machine is connected".into(),
            peers => format!("{} connected", count(u64::from(peers), "machine")),
        };
        context.screen.line(format_args!("{folders} up to date, {peers}."))
    }
}
