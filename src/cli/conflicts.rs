//! `lanyard conflicts`: list conflict copies, end a conflict.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use crate::wire::api::{self, ConflictCopy, ConflictSide, ConflictsIn, KeepSide, Request, ResolveConflict, Resolved};

use super::rules::moment;
use super::screen::{Screen, Stop, bytes, count, plain};
use super::{Context, Outcome};

/// List files that were changed on two sides at the same time, or end such a conflict
///
/// Both contents are kept until somebody decides: the later one has the name, the other lies beside it as 'NAME (conflict
/// ...)'. Deleting or renaming the copy by hand ends the conflict just as well.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Conflicts {
    #[command(subcommand)]
    step: Option<Step>,

    /// Only this folder
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
}

#[derive(Subcommand)]
enum Step {
    /// End a conflict; what goes can be brought back by 'lanyard restore'
    Resolve {
        /// The file, or one of its copies
        #[arg(value_name = "FOLDER/PATH")]
        at: String,

        /// What to keep: what has the name now (current), what lies beside (copy), both under ordinary names, or what this
        /// machine (mine) or the other one (theirs) saved
        #[arg(long, value_name = "WHICH", value_parser = keep())]
        keep: KeepSide,
    },
}

fn keep() -> impl TypedValueParser<Value = KeepSide> {
    PossibleValuesParser::new(["current", "copy", "both", "mine", "theirs"]).map(|word| match word.as_str() {
        "copy" => KeepSide::Copy,
        "both" => KeepSide::Both,
        "mine" => KeepSide::Mine,
        "theirs" => KeepSide::Theirs,
        _ => KeepSide::Current,
    })
}

impl Conflicts {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let screen = &context.screen;
        if let Some(Step::Resolve { at, keep }) = self.step {
            let (folder, path) = super::folder_and_path(&at);
            let path = path.unwrap_or_else(|| api::PathText::from_bytes(b""));
            let ask = Request::ResolveConflict(ResolveConflict { folder, path, keep });
            let resolved: Resolved = async_io::block_on(context.client()?.ask(&ask, None))?;
            return if screen.json { screen.document(&resolved) } else { print_resolved(screen, &resolved) };
        }
        let asked = ConflictsIn { folder: self.folder };
        let known: api::Conflicts = context.client()?.ask_now(&Request::Conflicts(asked))?;
        if screen.json { screen.document(&known.conflicts) } else { print(screen, &known) }
    }
}

fn print(screen: &Screen, known: &api::Conflicts) -> Result<(), Stop> {
    if known.conflicts.is_empty() {
        return screen.line("no conflicts");
    }
    let row = |conflict: &ConflictCopy| {
        let at = |path: &api::PathText| format!("{}/{}", plain(&conflict.folder.name), plain(path.as_str()));
        let current = conflict.current.as_ref().map_or("a directory".into(), side);
        vec![at(&conflict.path), current, side(&conflict.other), at(&conflict.copy)]
    };
    screen.table(&["FILE", "HAS THE NAME", "LIES BESIDE", "AS"], known.conflicts.iter().map(row).collect())?;
    if known.more > 0 {
        screen.line(format_args!("and {} more", known.more))?;
    }
    screen.line("'lanyard conflicts resolve FOLDER/PATH --keep current|copy|both' ends one.")
}

fn side(side: &ConflictSide) -> String {
    let by = if side.this { format!("{} (this machine)", plain(&side.by.name)) } else { plain(&side.by.name) };
    format!("{by}, {}, {}", moment(side.at), bytes(side.bytes))
}

fn print_resolved(screen: &Screen, resolved: &Resolved) -> Result<(), Stop> {
    let place = format!("{}/{}", plain(&resolved.folder.name), plain(resolved.path.as_str()));
    match resolved.kept {
        KeepSide::Copy => {
            screen.line(format_args!("{place} is what the copy was; what had the name is kept as a version."))?
        }
        KeepSide::Both => {
            let names: Vec<String> = resolved.also.iter().map(|name| plain(name.as_str())).collect();
            screen.line(format_args!("{place} stays; beside it from now on: {}.", names.join(", ")))?;
        }
        _ => {
            let copies = count(resolved.copies, "copy").replace("copys", "copies");
            screen.line(format_args!("{place} stays; {copies} went, and can be brought back."))?;
        }
    }
    Ok(())
}
