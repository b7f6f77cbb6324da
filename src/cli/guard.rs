//! `lanyard guard`: what the mass-change guard holds; letting it happen, or bringing back what was before.

use clap::{Args, Subcommand};

use crate::wire::api::{DecideHeld, Decided, HeldBurst, Request};

use super::rules::moment;
use super::screen::{Screen, Stop, count, plain};
use super::{Context, Outcome};

/// Names shown of each burst. A guess: enough to see what it is.
const SHOWN_MAX: usize = 5;

/// List bursts of deletions and replacements that are held; release or reject them
///
/// When one machine deletes or replaces much in a short time, as ransomware does or a slip of the hand, the other
/// machines let the first changes happen and hold the rest until somebody decides.
#[derive(Args)]
pub(super) struct Guard {
    #[command(subcommand)]
    step: Option<Step>,
}

#[derive(Subcommand)]
enum Step {
    /// Let the held changes of a machine happen, everywhere
    Release(Which),
    /// Bring back what was before the changes of a machine, everywhere; what it wrote is kept in '.lanyard/versions'
    Reject(Which),
}

#[derive(Args)]
struct Which {
    /// Whose changes, by name or id
    #[arg(value_name = "NODE")]
    node: String,
    /// Only in this folder
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
}

impl Guard {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let screen = &context.screen;
        let (which, release) = match self.step {
            None => {
                let held: Vec<HeldBurst> = context.client()?.ask_now(&Request::Guard)?;
                return if screen.json { screen.document(&held) } else { print(screen, &held) };
            }
            Some(Step::Release(which)) => (which, true),
            Some(Step::Reject(which)) => (which, false),
        };
        let ask = DecideHeld { node: which.node, folder: which.folder, release };
        let done: Decided = context.client()?.ask_now(&Request::Decide(ask))?;
        if screen.json {
            return screen.document(&done);
        }
        let folders: Vec<String> = done.folders.iter().map(|folder| plain(&folder.name)).collect();
        let (changes, who) = (count(done.changes, "change"), plain(&done.node.name));
        let becomes = if done.release { "released: they happen now" } else { "rejected: what was before comes back" };
        screen.line(format_args!("{changes} of {who} in {} {becomes}.", folders.join(", ")))
    }
}

fn print(screen: &Screen, held: &[HeldBurst]) -> Result<(), Stop> {
    if held.is_empty() {
        return screen.line("nothing is held");
    }
    for burst in held {
        let what: Vec<String> = [(burst.deletions, "deletion"), (burst.replacements, "replacement")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| count(n, what))
            .collect();
        let what = if what.is_empty() { String::from("changes") } else { what.join(" and ") };
        let (who, folder) = (plain(&burst.node.name), plain(&burst.folder.name));
        screen.line(format_args!("{what} by {who} in {folder}, since {}:", moment(burst.from)))?;
        for path in burst.paths.iter().take(SHOWN_MAX) {
            screen.line(format_args!("  {}", plain(path.as_str())))?;
        }
        let more = (burst.deletions + burst.replacements).saturating_sub(SHOWN_MAX as u64);
        if more > 0 {
            screen.line(format_args!("  and {more} more"))?;
        }
    }
    screen.line("'lanyard guard release NODE' lets it happen; 'lanyard guard reject NODE' brings back what was before.")
}
