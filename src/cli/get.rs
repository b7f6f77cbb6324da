//! `lanyard get`: receive a folder, or one path of it.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::wire::api::{self, Failure, Got, PathText, Request, Waited};

use super::screen::plain;
use super::{Context, Outcome, absolute, progress, span_ms};

/// How long progress is shown before the rest is left to the node alone.
const WATCH_MAX: Duration = Duration::from_secs(12 * 3600);

/// Receive a folder at PATH; with FOLDER/INSIDE, fetch just that path of it
///
/// PATH may hold files already: equal ones are taken over, others merge, nothing is deleted. Receiving goes on in
/// the background; on a terminal its progress is shown, and Ctrl-C only stops showing it.
#[derive(Args)]
pub(super) struct Get {
    /// Name of the folder, or of the folder and a path inside it
    #[arg(value_name = "FOLDER[/INSIDE]")]
    folder: PathBuf,

    /// Where to receive it [default: a directory of that name beside the other received folders]
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
}

impl Get {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        // A folder's name is one component: what follows the first slash is inside.
        let bytes = self.folder.as_os_str().as_bytes();
        let end = bytes.iter().position(|b| *b == b'/').unwrap_or(bytes.len());
        let inside = bytes.get(end + 1..).filter(|inside| !inside.is_empty());
        let name = String::from_utf8(bytes[..end].to_vec());
        let name = name.map_err(|_| Failure::usage("a folder's name is UTF-8, this one is not"))?;
        let ask = Request::Get(api::Get {
            folder: name.clone(),
            inside: inside.map(PathText::from_bytes),
            path: self.path.as_deref().map(absolute).transpose()?,
        });
        let screen = &context.screen;
        // A path inside is answered when it is here, however long it is; a folder when receiving has started.
        let work = client.ask(&ask, None);
        let got: Got = async_io::block_on(progress::receiving(screen, &client, Some(&name), work))?;
        if screen.json {
            return screen.document(&got);
        }
        let path = plain(got.path.as_str());
        if got.made_directory {
            screen.line(format_args!("made the directory {path}"))?;
        }
        if inside.is_some() {
            return screen.line(format_args!("{path} is here."));
        }
        screen.line(format_args!("'{}' is received at {path}.", plain(&got.folder.name)))?;
        if screen.is_watched() {
            let ask = Request::Wait(api::Wait { folder: Some(name.clone()), timeout_ms: span_ms(WATCH_MAX) });
            let rest = client.ask::<Waited>(&ask, Some(WATCH_MAX));
            // What was asked for is done: receiving has started, and goes on whatever becomes of watching it.
            if async_io::block_on(progress::receiving(screen, &client, Some(&name), rest)).is_ok() {
                screen.line("All of it is here.")?;
            }
        }
        Ok(())
    }
}
