//! `lanyard late` and `lanyard reinstate`: work that came too late is listed and kept; a machine goes on after two
//! histories.

use clap::{Args, Subcommand};

use crate::wire::api::{
    KeepLate, Kept, Late as Listed, LateChange, LateIn, PathText, ReinstateNode, Reinstated, Request,
};

use super::rules::moment;
use super::screen::{Screen, Stop, count, plain};
use super::{Context, Outcome};

/// Names that are listed. A guess: a screenful.
const LISTED_MAX: usize = 20;

/// List changes that do not count, such as what a machine did before it heard that it may not; keep some after all
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Late {
    #[command(subcommand)]
    step: Option<Step>,

    /// Only this folder, or a path in it with all below
    #[arg(value_name = "FOLDER[/PATH]")]
    at: Option<String>,
}

#[derive(Subcommand)]
enum Step {
    /// Keep changes of a machine that came too late: they count from now on, everywhere
    Keep {
        /// Whose, by name or id; it may be no member any more
        #[arg(value_name = "NODE")]
        node: String,
        /// Only in this folder, or at a path in it with all below
        #[arg(value_name = "FOLDER[/PATH]")]
        at: Option<String>,
    },
}

impl Late {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let screen = &context.screen;
        if let Some(Step::Keep { node, at }) = self.step {
            let (folder, path) = place(at);
            let kept: Kept = context.client()?.ask_now(&Request::KeepLate(KeepLate { node, folder, path }))?;
            return if screen.json { screen.document(&kept) } else { print_kept(screen, &kept) };
        }
        let (folder, path) = place(self.at);
        let late: Listed = context.client()?.ask_now(&Request::Late(LateIn { folder, path }))?;
        if screen.json { screen.document(&late.changes) } else { print(screen, &late) }
    }
}

/// A folder's name has no slash.
fn place(at: Option<String>) -> (Option<String>, Option<PathText>) {
    match at.as_deref().map(|at| at.split_once('/').unwrap_or((at, ""))) {
        Some((folder, "")) => (Some(folder.to_string()), None),
        Some((folder, path)) => (Some(folder.to_string()), Some(PathText::from_bytes(path.as_bytes()))),
        None => (None, None),
    }
}

fn print(screen: &Screen, late: &Listed) -> Result<(), Stop> {
    if late.changes.is_empty() {
        return screen.line("every change that is known here counts");
    }
    let row = |change: &LateChange| {
        let what = format!("{}/{}", plain(&change.folder.name), plain(change.path.as_str()));
        let what = if change.deleted { format!("{what} (deleted)") } else { what };
        vec![what, plain(&change.node.name), moment(change.at), plain(&change.why)]
    };
    screen.table(&["CHANGE OF", "BY", "WHEN", "WHY IT DOES NOT COUNT"], late.changes.iter().map(row).collect())?;
    if late.more > 0 {
        screen.line(format_args!("and {} more", late.more))?;
    }
    if late.changes.iter().any(|change| change.reason.can_be_kept()) {
        screen.line("'lanyard late keep NODE FOLDER/PATH' keeps changes that are wanted after all.")?;
    }
    Ok(())
}

fn print_kept(screen: &Screen, kept: &Kept) -> Result<(), Stop> {
    for part in &kept.folders {
        let changes = count(part.count, "change");
        let (who, name) = (plain(&kept.node.name), plain(&part.folder.name));
        screen.line(format_args!("{changes} of {who} in {name} kept:"))?;
        for path in part.paths.iter().take(LISTED_MAX) {
            screen.line(format_args!("  {}", plain(path.as_str())))?;
        }
        if part.paths.len() > LISTED_MAX {
            screen.line("  and more")?;
        }
    }
    Ok(())
}

/// Let a machine go on that signed two histories, as after a restored backup
///
/// Its changes since then stay on it until this is signed. What it had told others before and they let go of is kept in
/// their '.lanyard/versions'.
#[derive(Args)]
pub(super) struct Reinstate {
    /// The machine, by name or id
    #[arg(value_name = "NODE")]
    node: String,

    /// Only in this folder
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
}

impl Reinstate {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let ask = ReinstateNode { node: self.node, folder: self.folder };
        let done: Reinstated = context.client()?.ask_now(&Request::Reinstate(ask))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&done);
        }
        let names: Vec<String> = done.folders.iter().map(|folder| plain(&folder.name)).collect();
        screen.line(format_args!("{} goes on in {}.", plain(&done.node.name), names.join(", ")))
    }
}
