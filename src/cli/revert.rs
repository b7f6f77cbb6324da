//! `lanyard revert`: take back changes that are only on this machine.

use clap::Args;

use crate::wire::api::{PathText, Request, RevertChanges, Reverted};

use super::screen::{count, plain};
use super::{Context, Outcome};

/// Names that are listed. A guess: a screenful.
const LISTED_MAX: usize = 20;

/// Take back changes that stayed on this machine because it may not write there
///
/// The version that the others have comes back. What was changed here is kept in '.lanyard/versions' of the folder.
#[derive(Args)]
pub(super) struct Revert {
    /// The folder, or a path in it with all below
    #[arg(value_name = "FOLDER[/PATH]")]
    at: String,
}

impl Revert {
    pub(super) fn run(self, context: &Context) -> Outcome {
        // A folder's name has no slash.
        let (folder, path) = match self.at.split_once('/') {
            Some((folder, path)) => (folder.to_string(), Some(PathText::from_bytes(path.as_bytes()))),
            None => (self.at, None),
        };
        let reverted: Reverted = context.client()?.ask_now(&Request::Revert(RevertChanges { folder, path }))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&reverted);
        }
        let name = plain(&reverted.folder.name);
        let changes = count(reverted.count, "change");
        screen
            .line(format_args!("{changes} in {name} taken back; the contents are kept in .lanyard/versions there:"))?;
        for path in reverted.paths.iter().take(LISTED_MAX) {
            screen.line(format_args!("  {}", plain(path.as_str())))?;
        }
        if reverted.count > LISTED_MAX as u64 {
            screen.line(format_args!("  and {} more", reverted.count - LISTED_MAX as u64))?;
        }
        Ok(())
    }
}
