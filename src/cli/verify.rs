//! `lanyard verify`: everything is read again; what the disk has damaged is repaired from the other machines.

use clap::Args;

use crate::wire::api::{Failure, REPAIR_MS_MAX, Request, Verified, VerifyFolders};

use super::screen::{bytes, count, plain};
use super::{Context, Outcome};

/// Names shown. A guess: a screenful.
const SHOWN_MAX: usize = 20;

/// Read every file again, and repair from the other machines what the disk has damaged
///
/// A disk can lose bits without saying so. A file that nobody has changed must have the content that it was written with;
/// one that has not is replaced, and kept in '.lanyard/versions'.
#[derive(Args)]
pub(super) struct Verify {
    /// Only this folder
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let screen = &context.screen;
        let ask = Request::Verify(VerifyFolders { folder: self.folder, repair_ms: REPAIR_MS_MAX });
        let found: Vec<Verified> = async_io::block_on(context.client()?.ask(&ask, None))?;
        let bad: usize = found.iter().map(|folder| folder.damaged.len() + folder.unreadable.len()).sum();
        if screen.json {
            screen.document(&found)?;
        } else {
            for folder in &found {
                let (name, files) = (plain(&folder.folder.name), count(folder.read.files, "file"));
                let sound = if folder.repaired.is_empty() && folder.damaged.is_empty() && folder.unreadable.is_empty() {
                    ", all as they should be"
                } else {
                    ""
                };
                screen.line(format_args!("{name}: read {files}, {}{sound}", bytes(folder.read.bytes)))?;
                for path in folder.repaired.iter().take(SHOWN_MAX) {
                    screen.line(format_args!("  {}: was damaged, is whole again", plain(path.as_str())))?;
                }
                for path in folder.damaged.iter().take(SHOWN_MAX) {
                    screen.line(format_args!("  {}: is damaged", plain(path.as_str())))?;
                }
                for unread in folder.unreadable.iter().take(SHOWN_MAX) {
                    screen.line(format_args!(
                        "  {}: cannot be read: {}",
                        plain(unread.path.as_str()),
                        plain(&unread.why)
                    ))?;
                }
            }
        }
        if bad == 0 {
            return Ok(());
        }
        Err(Failure::failed(format!("{} damaged or cannot be read", count(bad as u64, "file")))
            .hint("what is damaged is repaired by itself once a machine is connected that has it; replace a disk that damages files")
            .into())
    }
}
