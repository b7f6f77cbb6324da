//! `lanyard events`: follow what happens.

use clap::Args;

use crate::wire::api::{Change, Event, InvitationState, JoinStep, Stamped};

use super::screen::{bytes, count, local, plain};
use super::{Context, Outcome, folders};

/// Follow what happens on this node, until Ctrl-C; with --json one document per line
#[derive(Args)]
pub(super) struct Events {}

impl Events {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let screen = &context.screen;
        async_io::block_on(async {
            let mut events = client.follow().await?;
            while let Some(line) = events.next().await? {
                if screen.json {
                    screen.line(&line)?;
                    continue;
                }
                // What a later node adds to the events, this one cannot put in words.
                if let Ok(stamped) = serde_json::from_str::<Stamped>(&line) {
                    screen.line(format_args!("{}  {}", local(stamped.at, "%H:%M:%S"), words(&stamped.event)))?;
                }
            }
            screen.aside("the node ended.");
            Ok(())
        })
    }
}

/// An event in a sentence.
fn words(event: &Event) -> String {
    match event {
        Event::PeerConnected { name, via: Some(relay), .. } => {
            format!("{} is connected through {}", plain(name), plain(relay))
        }
        Event::PeerConnected { name, address, .. } => format!("{} is connected at {}", plain(name), plain(address)),
        Event::PeerDisconnected { name, why, .. } => format!("{} is away: {}", plain(name), plain(why)),
        Event::Admitted { name, role, .. } => format!("{} has joined, as {role}", plain(name)),
        Event::Left { name, expelled: true, .. } => format!("{} was removed from the mesh", plain(name)),
        Event::Left { name, expelled: false, .. } => format!("{} has left the mesh", plain(name)),
        Event::Invitation { state, .. } => match state {
            InvitationState::Used => "the invitation was used".into(),
            InvitationState::Expired => "the invitation is over, nobody used it".into(),
            InvitationState::Void => "the invitation is void: somebody tried a wrong code".into(),
        },
        Event::Joining { step } => match step {
            JoinStep::Searching => "joining: looking for the machine that shows the code".into(),
            JoinStep::Connecting => "joining: found it, connecting".into(),
            JoinStep::Confirming => "joining: proving the code to each other".into(),
            JoinStep::Admitted => "joining: admitted".into(),
        },
        Event::FolderOffered { folder } => {
            format!("the folder {} may be received here: 'lanyard get'", plain(folder))
        }
        Event::Folder { folder, state, need, why } => {
            let missing = match need.files {
                0 => String::new(),
                files => format!(", {} to come ({})", count(files, "file"), bytes(need.bytes)),
            };
            let why = why.as_ref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
            format!("{} is {}{missing}{why}", plain(folder), folders::state(*state))
        }
        Event::FileReceived { folder, path, change, bytes: size, by } => {
            format!(
                "{} {}/{}{} from {}",
                changed(*change),
                plain(folder),
                plain(path.as_str()),
                of(*change, *size),
                plain(by)
            )
        }
        Event::FileAnnounced { folder, path, change, bytes: size } => {
            format!("{} {}/{}{} here", changed(*change), plain(folder), plain(path.as_str()), of(*change, *size))
        }
        Event::Conflict { folder, path, copy } => format!(
            "two edits of {}/{} at once: the other one is kept as {}",
            plain(folder),
            plain(path.as_str()),
            plain(copy.as_str())
        ),
        Event::Audit { entry } => super::audit::words(entry),
        Event::Archive { doing, done, total } => match total {
            0 => format!("{}: {}", plain(doing), bytes(*done)),
            total => format!("{}: {} of {}", plain(doing), bytes(*done), bytes(*total)),
        },
        Event::Coordinator { coordinator: Some(term) } => {
            format!("{} is the coordinator now (term {})", plain(&term.name), term.term)
        }
        Event::Coordinator { coordinator: None } => "there is no coordinator now".into(),
        Event::Alert { what, hint } => {
            let hint = hint.as_ref().map(|hint| format!(" ({})", plain(hint))).unwrap_or_default();
            format!("needs attention: {}{hint}", plain(what))
        }
        Event::Missed { count: missed } => format!("... {} too fast to show ...", count(*missed, "event")),
        Event::Stopping => "the node is ending".into(),
    }
}

fn changed(change: Change) -> &'static str {
    match change {
        Change::Created => "new",
        Change::Changed => "changed",
        Change::Deleted => "deleted",
    }
}

fn of(change: Change, size: u64) -> String {
    match change {
        Change::Deleted => String::new(),
        Change::Created | Change::Changed => format!(" ({})", bytes(size)),
    }
}
