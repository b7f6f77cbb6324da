//! `lanyard archive`: the snapshots that this machine keeps as the office's server.

use clap::{Args, Subcommand};

use crate::wire::api::{
    ArchiveChecked, ArchivePassword, ArchivePruned, ArchiveStatus, AskArchive, Failure, Request, SnapshotTaken,
    SnapshotsTaken,
};

use super::screen::{Screen, Stop, bytes, count, local, plain};
use super::{Context, Outcome, progress};

/// Names shown. A guess: a screenful.
const SHOWN_MAX: usize = 20;
const TIME: &str = "%Y-%m-%d %H:%M";

/// Snapshots of the folders, kept on a machine that may be the office's server
///
/// 'lanyard coordinator allow NODE' makes a machine keep an archive of every folder that it receives: hourly snapshots, thinned
/// with age. 'lanyard restore' brings back from it what is kept nowhere else. It is a repository of restic's format.
#[derive(Args)]
pub(super) struct Archive {
    #[command(subcommand)]
    step: Option<Step>,
}

#[derive(Subcommand)]
enum Step {
    /// Show where it is, what it has, and what is wrong with it
    Status,
    /// Take a snapshot now
    Snapshot {
        /// Only of this folder
        #[arg(value_name = "FOLDER")]
        folder: Option<String>,
    },
    /// Check that everything is there
    Check {
        /// Read every byte: only that finds what a disk has damaged
        #[arg(long)]
        read_data: bool,
        /// Repair what is damaged, from the folders as they are now; reads every byte, too
        #[arg(long)]
        repair: bool,
    },
    /// Forget the snapshots that the configuration does not keep, and free their room; it is done every day by itself
    Prune,
    /// Make a password that opens the archive with restic
    Password {
        /// Make a new one; the one before opens the archive no more
        #[arg(long, required = true)]
        new: bool,
    },
}

impl Archive {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let screen = &context.screen;
        match self.step.unwrap_or(Step::Status) {
            Step::Status => {
                let status: ArchiveStatus = context.client()?.ask_now(&Request::Archive(AskArchive::Status {}))?;
                if screen.json { screen.document(&status) } else { print_status(screen, &status) }
            }
            Step::Snapshot { folder } => {
                let taken: SnapshotsTaken = ask(context, AskArchive::Snapshot { folder })?;
                if screen.json {
                    screen.document(&taken)?
                } else {
                    print_taken(screen, &taken)?
                }
                whole(&taken)
            }
            Step::Check { read_data, repair } => {
                let checked: ArchiveChecked = ask(context, AskArchive::Check { read_data, repair })?;
                if screen.json {
                    screen.document(&checked)?
                } else {
                    print_checked(screen, &checked, read_data || repair)?
                }
                sound(&checked)
            }
            Step::Prune => {
                let pruned: ArchivePruned = ask(context, AskArchive::Prune {})?;
                if screen.json {
                    return screen.document(&pruned);
                }
                let (forgotten, kept) = (count(pruned.forgotten, "snapshot"), count(pruned.kept, "snapshot"));
                screen.line(format_args!("{forgotten} forgotten, {kept} kept, {} freed", bytes(pruned.freed)))
            }
            Step::Password { .. } => {
                let made: ArchivePassword = ask(context, AskArchive::Password {})?;
                if screen.json {
                    return screen.document(&made);
                }
                print_password(screen, &made.password.0, Some(made.path.as_str()))
            }
        }
    }
}

fn ask<T: serde::de::DeserializeOwned>(context: &Context, ask: AskArchive) -> Result<T, Failure> {
    let client = context.client()?;
    async_io::block_on(async {
        let request = Request::Archive(ask);
        // It takes as long as it takes.
        progress::archiving(&context.screen, &client, client.ask(&request, None)).await
    })
}

fn print_status(screen: &Screen, status: &ArchiveStatus) -> Outcome {
    let place = plain(status.path.as_str());
    match (status.made, status.enabled, status.eligible) {
        (false, _, false) => screen.line("This machine keeps no archive: 'lanyard coordinator allow NODE' lets it.")?,
        (false, false, _) => screen.line("This machine keeps no archive: [archive] enabled is false.")?,
        (false, true, true) => {
            screen.line(format_args!("The archive will be made in {place} with the first snapshot."))?
        }
        (true, ..) => {
            let size = status.bytes.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
            let free = status.free.map(|free| format!(", {} free", bytes(free))).unwrap_or_default();
            screen.line(format_args!("Archive in {place}{size}{free}"))?;
            match status.password {
                Some(at) => screen.line(format_args!("A recovery password was printed {}.", local(at, TIME)))?,
                None => screen.line("No recovery password was printed: 'lanyard archive password --new' makes one.")?,
            }
            if !status.eligible {
                screen.line("No more snapshots are taken: this machine may not be the office's server any more.")?;
            } else if !status.enabled {
                screen.line("No more snapshots are taken: [archive] enabled is false.")?;
            }
        }
    }
    if let Some(doing) = &status.doing {
        screen.line(format_args!("Now: {}", plain(doing)))?;
    }
    if let Some(problem) = &status.problem {
        screen.line(format_args!("Needs attention: {}", plain(problem)))?;
    }
    if !status.made || status.folders.is_empty() {
        return Ok(());
    }
    let rows = status.folders.iter().map(|folder| {
        let time = |time: Option<_>| time.map_or_else(|| "never".to_owned(), |time| local(time, TIME));
        let note = match (&folder.problem, folder.incomplete) {
            (Some(problem), _) => plain(problem),
            (None, true) => "not whole".into(),
            (None, false) => String::new(),
        };
        vec![plain(&folder.folder.name), folder.snapshots.to_string(), time(folder.first), time(folder.last), note]
    });
    screen.table(&["FOLDER", "SNAPSHOTS", "FIRST", "LAST", ""], rows.collect())
}

fn print_taken(screen: &Screen, taken: &SnapshotsTaken) -> Outcome {
    for one in &taken.snapshots {
        let (name, files) = (plain(&one.folder.name), count(one.files, "file"));
        screen.line(format_args!(
            "{name}: snapshot {} of {files}, {}; the archive grew by {}",
            one.id.get(..8).unwrap_or(&one.id),
            bytes(one.bytes),
            bytes(one.added)
        ))?;
        for missing in one.missing.iter().take(SHOWN_MAX) {
            let place = if missing.path.as_str().is_empty() { "the folder" } else { missing.path.as_str() };
            screen.line(format_args!("  {}: {}", plain(place), plain(&missing.why)))?;
        }
    }
    match &taken.password {
        Some(password) => print_password(screen, &password.0, None),
        None => Ok(()),
    }
}

fn print_password(screen: &Screen, password: &str, path: Option<&str>) -> Outcome {
    screen.line(
        "The recovery password of the archive, for use with restic. It is not shown again: write it down, and keep",
    )?;
    screen.line("it away from this machine.")?;
    screen.line(format_args!("  {password}"))?;
    match path {
        Some(path) => screen.line(format_args!("  restic -r {} snapshots", super::screen::shell_word(path))),
        None => Ok(()),
    }
}

fn print_checked(screen: &Screen, checked: &ArchiveChecked, read: bool) -> Result<(), Stop> {
    let what = if read { format!(", read {}", bytes(checked.bytes)) } else { String::new() };
    let end = if checked.count == 0 { ": all as it should be" } else { "" };
    screen.line(format_args!("checked {}{what}{end}", count(checked.snapshots, "snapshot")))?;
    for path in checked.damaged.iter().take(SHOWN_MAX) {
        screen.line(format_args!("  {}: is damaged", plain(path.as_str())))?;
    }
    for finding in checked.findings.iter().take(SHOWN_MAX) {
        screen.line(format_args!("  {}", plain(finding)))?;
    }
    if checked.repaired {
        screen.line("repaired: what was damaged lies in 'damaged' in the archive's directory, and can be deleted")?;
    }
    if checked.lost {
        screen.line(
            "some of it is lost: older snapshots lack it, and say so; the newest has everything that is there now",
        )?;
    }
    Ok(())
}

fn whole(taken: &SnapshotsTaken) -> Outcome {
    let missing: u64 = taken.snapshots.iter().map(|one: &SnapshotTaken| one.missing_count).sum();
    if let Some(first) = taken.failed.first() {
        let failure = Failure::failed(format!("no snapshot of folder {} could be taken", first.folder.name));
        return Err(Failure { why: first.why.clone(), ..failure }.into());
    }
    match missing {
        0 => Ok(()),
        number => Err(Failure::failed(format!("{} not in the snapshot as it should be", count(number, "name")))
            .hint("what is listed could not be read, or changed all the time; the snapshot has the rest, and is marked")
            .into()),
    }
}

fn sound(checked: &ArchiveChecked) -> Outcome {
    if checked.count == 0 || checked.repaired {
        return Ok(());
    }
    let mut failure = Failure::failed(match checked.left.is_empty() {
        true => format!("{} wrong with the archive", count(checked.count, "thing")),
        false => "the archive is not whole after the repair".into(),
    });
    failure.why = checked.left.iter().take(SHOWN_MAX).cloned().collect();
    Err(failure.hint("'lanyard archive check --repair' repairs it from the folders as they are now; replace a disk that damages files").into())
}
