//! The command line: one file per command, each a request to a running node and its answer in words.
//!
//! Page: `CLI.md` of the design, kept by `tests/cli`. Rules: commands know only the shapes of the local API, two of
//! them more than that: `client` asks `node::places` where the socket is, and `up` is the node; stdout has what was
//! asked for (with `--json` one document, one per line for streams), everything else goes to stderr; a reader that
//! closes the pipe ends a command without noise.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory, Parser, Subcommand};

use crate::wire::api::{Failure, Level, PathText, Role};

use self::client::Client;
use self::screen::{Screen, Stop};

mod archive;
mod audit;
mod client;
mod completions;
mod conflicts;
mod coordinator;
mod copies;
mod demo;
mod doctor;
mod drop;
mod events;
mod folders;
mod get;
mod grant;
mod group;
mod guard;
mod health;
mod invite;
mod join;
mod late;
mod leave;
mod logging;
mod man;
mod members;
mod nodes;
mod progress;
mod recover;
mod restore;
mod revert;
mod rules;
mod screen;
mod service;
mod share;
mod status;
mod up;
mod verify;
mod versions;
mod wait;

/// Machines of a small office as one mesh: they find each other, pair by a short code and share folders.
///
/// Start with 'lanyard up ~/Shared' on one machine. It says what to do on the next one.
#[derive(Parser)]
#[command(name = "lanyard", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    /// Everything of the node (configuration, key, index, socket) is under DIR, so that several run on one machine
    /// [env: LANYARD_HOME]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,

    /// Print JSON instead of text for people
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(up::Up),
    Status(status::Status),
    Nodes(nodes::Nodes),
    Invite(invite::Invite),
    Join(join::Join),
    Leave(leave::Leave),
    Share(share::Share),
    Folders(folders::Folders),
    Get(get::Get),
    Drop(drop::Drop),
    Grant(grant::Grant),
    Revoke(grant::Revoke),
    Rules(rules::Rules),
    Group(group::Group),
    Copies(copies::Copies),
    Expel(members::Expel),
    Coordinator(coordinator::Coordinator),
    Role(members::SetRole),
    Rename(members::Rename),
    Retire(members::Retire),
    Recover(recover::Recover),
    Conflicts(conflicts::Conflicts),
    Versions(versions::Versions),
    Restore(restore::Restore),
    Revert(revert::Revert),
    Late(late::Late),
    Reinstate(late::Reinstate),
    Guard(guard::Guard),
    Verify(verify::Verify),
    Archive(archive::Archive),
    Audit(audit::Audit),
    Health(health::Health),
    Wait(wait::Wait),
    Events(events::Events),
    Doctor(doctor::Doctor),
    Service(service::Service),
    Demo(demo::Demo),
    Completions(completions::Completions),
    Man(man::Man),
}

/// What every command is given.
struct Context {
    home: Option<PathBuf>,
    screen: Screen,
}

type Outcome = Result<(), Stop>;

/// Reads the command line, does what it says, and says how it went by the exit status.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with status 0, the rest to stderr with status 2.
            let _closed = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // An empty variable is an unset one; an empty `--home` is a mistake in a script, which clap refuses.
    let around = std::env::var_os("LANYARD_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = cli.home.or(around);
    let context = &mut Context { home, screen: Screen::new(cli.json) };
    let outcome = match cli.command {
        Command::Up(command) => command.run(context),
        Command::Status(command) => command.run(context),
        Command::Nodes(command) => command.run(context),
        Command::Invite(command) => command.run(context),
        Command::Join(command) => command.run(context),
        Command::Leave(command) => command.run(context),
        Command::Share(command) => command.run(context),
        Command::Folders(command) => command.run(context),
        Command::Get(command) => command.run(context),
        Command::Drop(command) => command.run(context),
        Command::Grant(command) => command.run(context),
        Command::Revoke(command) => command.run(context),
        Command::Rules(command) => command.run(context),
        Command::Group(command) => command.run(context),
        Command::Copies(command) => command.run(context),
        Command::Expel(command) => command.run(context),
        Command::Coordinator(command) => command.run(context),
        Command::Role(command) => command.run(context),
        Command::Rename(command) => command.run(context),
        Command::Retire(command) => command.run(context),
        Command::Recover(command) => command.run(context),
        Command::Conflicts(command) => command.run(context),
        Command::Versions(command) => command.run(context),
        Command::Restore(command) => command.run(context),
        Command::Revert(command) => command.run(context),
        Command::Late(command) => command.run(context),
        Command::Reinstate(command) => command.run(context),
        Command::Guard(command) => command.run(context),
        Command::Verify(command) => command.run(context),
        Command::Health(command) => command.run(context),
        Command::Archive(command) => command.run(context),
        Command::Audit(command) => command.run(context),
        Command::Wait(command) => command.run(context),
        Command::Events(command) => command.run(context),
        Command::Doctor(command) => command.run(context),
        Command::Service(command) => command.run(context),
        Command::Demo(command) => command.run(context),
        Command::Completions(command) => command.run(context),
        Command::Man(command) => command.run(context),
    };
    match outcome {
        Ok(()) | Err(Stop::Deaf) => ExitCode::SUCCESS,
        Err(Stop::Failure(failure)) => {
            screen::print_failure(&failure);
            ExitCode::from(failure.kind.exit_status())
        }
    }
}

impl Context {
    /// The node that runs here.
    fn client(&self) -> Result<Client, Failure> {
        Client::find(self.home.as_deref())
    }

    /// `lanyard`, with the `--home` that leads to the same node.
    fn lanyard(&self) -> String {
        lanyard(self.home.as_deref())
    }
}

/// How this node's commands begin.
fn lanyard(home: Option<&Path>) -> String {
    match home {
        Some(home) => format!("lanyard --home {}", screen::shell_word(&home.to_string_lossy())),
        None => "lanyard".into(),
    }
}

/// The whole command line, for completions and manual pages.
fn command() -> clap::Command {
    Cli::command()
}

/// A path as the node needs it: it was started elsewhere.
fn absolute(path: &Path) -> Result<PathText, Failure> {
    let full = std::path::absolute(path)
        .map_err(|error| Failure::usage("a path is empty, or the current directory is gone").because(&error))?;
    Ok(PathText::from_bytes(std::os::unix::ffi::OsStrExt::as_bytes(full.as_os_str())))
}

/// A level by its word; `known` are those that fit here.
fn level(known: &'static [&'static str]) -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(known).map(|word| word.parse().expect("only levels are possible"))
}

/// A role by its word.
fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(["member", "admin"]).map(|word| word.parse().expect("only roles are possible"))
}

/// A time span such as `90s`, `10m` or `1h 30m`; at least a millisecond, at most 30 days.
fn span(text: &str) -> Result<Duration, String> {
    const SPAN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    match parsed {
        Some(span) if span >= Duration::from_millis(1) && span <= SPAN_MAX => Ok(span),
        Some(_) => Err("the time is at least 1ms and at most 30 days (720h)".into()),
        None => Err("say a time with its unit, such as 90s, 10m or 2h".into()),
    }
}

/// A folder and a path in it. A folder's name has no slash.
fn folder_and_path(at: &str) -> (String, Option<PathText>) {
    match at.split_once('/') {
        None | Some((_, "")) => (at.trim_end_matches('/').to_string(), None),
        Some((folder, path)) => (folder.to_string(), Some(PathText::from_bytes(path.as_bytes()))),
    }
}

fn span_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_span_has_a_unit_and_an_end() {
        assert_eq!(span("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(span("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "10", "soon", "-5s", "0s", "31 days", "721h"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
