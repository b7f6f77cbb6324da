//! `lanyard invite`: open an invitation, show its code, wait for its use.

use std::time::Duration;

use clap::Args;

use crate::wire::api::{
    self, Failure, Invitation, InvitationOutcome, InvitationState, InviteFolder, InviteOutcome, Request, Role,
};

use super::client::ANSWER_TIME_MAX;
use super::progress::Activity;
use super::screen::{Screen, Stop, local, plain};
use super::up::print_founded;
use super::{Context, Outcome, span_ms};

/// Invite another machine: shows a code to type there, then waits until it was used
///
/// The code works once. It is the last line of the standard output, alone.
#[derive(Args)]
pub(super) struct Invite {
    /// What the new machine may become: an admin may invite and remove machines too
    #[arg(long, value_name = "ROLE", default_value = "member", value_parser = super::role())]
    role: Role,

    /// How long the code is good for
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = super::span)]
    expires: Duration,

    /// What the new machine may do in a folder, beyond what everyone may; can be repeated
    #[arg(long = "folder", value_name = "NAME=LEVEL", value_parser = folder)]
    folders: Vec<InviteFolder>,

    /// Return at once instead of waiting until the code was used
    #[arg(long)]
    no_wait: bool,

    /// Print a ticket, a long text for a file, instead of a code to speak: for machines that nobody sits at
    #[arg(long)]
    ticket: bool,
}

impl Invite {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let ask = api::Invite {
            role: self.role,
            expires_ms: span_ms(self.expires),
            folders: self.folders,
            ticket: self.ticket,
        };
        let invitation: Invitation = client.ask_now(&Request::Invite(ask))?;
        print(&context.screen, &invitation)?;
        if self.no_wait {
            return Ok(());
        }
        let waits = "waiting for the new machine (Ctrl-C stops waiting, the code stays good) ...";
        let activity = Activity::start(&context.screen, waits);
        let ask = Request::InviteOutcome(InviteOutcome { id: invitation.id });
        // The node answers when the time is over; should it not, this does not wait for ever either.
        let patience = self.expires + ANSWER_TIME_MAX;
        let outcome: InvitationOutcome = async_io::block_on(client.ask(&ask, Some(patience)))?;
        drop(activity);
        conclude(&context.screen, &outcome)
    }
}

fn print(screen: &Screen, invitation: &Invitation) -> Result<(), Stop> {
    if screen.json {
        return screen.document(invitation);
    }
    if let Some(founded) = &invitation.founded {
        print_founded(screen, founded)?;
        screen.line("")?;
    }
    let mesh = plain(&invitation.mesh.name);
    match invitation.role {
        Role::Member => screen.line(format_args!("The new machine becomes a member of '{mesh}'."))?,
        Role::Admin => screen.line(format_args!(
            "The new machine becomes an admin of '{mesh}': it may invite and remove machines and change every rule."
        ))?,
    }
    for folder in &invitation.folders {
        screen.line(format_args!("  folder {}: {}", plain(&folder.name), folder.level))?;
    }
    let until = local(invitation.expires_at, "%Y-%m-%d %H:%M");
    if let Some(ticket) = &invitation.ticket {
        screen.line(format_args!(
            "Store this ticket in a file on the new machine and run 'lanyard join FILE' there until {until}. It works once."
        ))?;
        return screen.line(plain(ticket));
    }
    screen
        .line(format_args!("On the new machine, type 'lanyard join' and this code. It works once, until {until}:"))?;
    screen.line(plain(invitation.code.as_deref().unwrap_or_default()))
}

fn conclude(screen: &Screen, outcome: &InvitationOutcome) -> Outcome {
    let again = "run 'lanyard invite' again for a new code";
    match outcome.state {
        InvitationState::Used => {
            let name =
                outcome.node.as_ref().map_or("the new machine".into(), |node| format!("'{}'", plain(&node.name)));
            screen.aside(format_args!("{name} has joined."));
            Ok(())
        }
        InvitationState::Expired => {
            Err(Failure::timed_out("nobody used the invitation in its time").hint(again).into())
        }
        InvitationState::Void => Err(Failure::failed("the invitation is void: somebody tried a wrong code")
            .hint(format!("make sure the code is typed as shown; {again}"))
            .into()),
    }
}

fn folder(text: &str) -> Result<InviteFolder, String> {
    let (name, level) = text.rsplit_once('=').ok_or("say NAME=LEVEL, such as plans=read")?;
    let level = level.parse::<api::Level>().map_err(|error| error.to_string())?;
    if name.is_empty() {
        return Err("the folder's name is missing before the '='".into());
    }
    Ok(InviteFolder { folder: name.into(), level })
}
