//! `lanyard folders`: every folder this node may see.

use clap::Args;

use crate::wire::api::{Folder, FolderState, Request};

use super::screen::{Screen, Stop, bytes, count, plain};
use super::{Context, Outcome};

/// List every folder that this machine may see, with its state
#[derive(Args)]
pub(super) struct Folders {}

impl Folders {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let folders: Vec<Folder> = context.client()?.ask_now(&Request::Folders)?;
        if context.screen.json {
            return context.screen.document(&folders);
        }
        if folders.is_empty() {
            return context.screen.line("no folder yet: 'lanyard share DIR' shares one");
        }
        print(&context.screen, &folders)
    }
}

/// Folders as a table, and what is the matter with those that stopped.
pub(super) fn print(screen: &Screen, folders: &[Folder]) -> Result<(), Stop> {
    screen.table(&["FOLDER", "LEVEL", "STATE", "HERE", "MISSING", "WHERE"], folders.iter().map(row).collect())?;
    for folder in folders {
        if let Some(why) = &folder.why {
            screen.line(format_args!("{}: {}", plain(&folder.name), plain(why)))?;
        }
        if !folder.parts.is_empty() {
            let parts: Vec<String> = folder.parts.iter().map(|part| plain(part.as_str())).collect();
            screen.line(format_args!("{}: only {} of it is received here", plain(&folder.name), parts.join(", ")))?;
        }
        if folder.local_only > 0 {
            let changes = count(folder.local_only, "change");
            screen
                .line(format_args!("{}: {changes} only here, this machine may not write there", plain(&folder.name)))?;
        }
        if folder.waiting > 0 {
            let (name, changes) = (plain(&folder.name), count(folder.waiting, "change"));
            let wait = if folder.waiting == 1 { "waits" } else { "wait" };
            screen.line(format_args!("{name}: {changes} made here {wait} until another machine is reached"))?;
        }
        for notice in &folder.notices {
            screen.line(format_args!("{}: {}", plain(&folder.name), plain(&notice.what)))?;
        }
        for late in &folder.late {
            let (name, changes) = (plain(&folder.name), count(late.count, "change"));
            let who = plain(&late.node.name);
            screen.line(format_args!("{name}: {changes} of {who} came too late: 'lanyard late' lists them"))?;
        }
        for node in &folder.forked {
            let (name, who) = (plain(&folder.name), plain(&node.name));
            screen.line(format_args!("{name}: {who} signed two histories, as after a restored backup;"))?;
            screen.line(format_args!("  what it changes stays there until an admin runs 'lanyard reinstate {who}'"))?;
        }
    }
    Ok(())
}

/// The word for a state.
pub(super) fn state(state: FolderState) -> &'static str {
    match state {
        FolderState::Offered => "offered",
        FolderState::Idle => "idle",
        FolderState::Scanning => "scanning",
        FolderState::Syncing => "syncing",
        FolderState::Held => "held",
        FolderState::Error => "error",
    }
}

fn row(folder: &Folder) -> Vec<String> {
    let amount = |amount: crate::wire::api::Amount| match amount.files {
        0 => "-".to_string(),
        files => format!("{}, {}", count(files, "file"), bytes(amount.bytes)),
    };
    let place = folder.path.as_ref().map_or("-".into(), |path| plain(path.as_str()));
    let (level, state) = (folder.level.to_string(), state(folder.state).to_string());
    vec![plain(&folder.name), level, state, amount(folder.local), amount(folder.need), place]
}
