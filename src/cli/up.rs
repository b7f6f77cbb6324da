//! `lanyard up`: the node itself, in the foreground. The one command that is the node instead of asking it.

use std::path::PathBuf;

use clap::Args;

use crate::node;
use crate::node::config::{Config, HostPort, NodeName, Options};
use crate::node::places::{Places, Surroundings};
use crate::shell::systemd;
use crate::wire::api::{Failure, Founded, Shared, Standing, Started};

use super::screen::{Screen, Stop, plain};
use super::{Context, Outcome};

/// Words of the recovery key in a line: as many as are written down at a glance.
const KEY_LINE_WORDS: usize = 6;

/// Run this machine's node, here, until it is told to end (Ctrl-C)
///
/// The first start makes the node's key. Each PATH is shared; if this machine is in no mesh yet, that founds one.
#[derive(Args)]
pub(super) struct Up {
    /// Directories to share
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Name of this node, instead of the machine's own
    #[arg(long, value_name = "NODE", value_parser = |text: &str| NodeName::new(text))]
    name: Option<NodeName>,

    /// Port for other nodes [default: 47474, else the next free one, which is remembered]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
}

impl Up {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let places = Places::of_node(context.home.as_deref(), &Surroundings::of_process());
        let places = places.map_err(|error| error.to_failure())?;
        // A later lanyard may have left a configuration that this one cannot read: the stamp names that lanyard.
        places.check_format().map_err(|error| error.to_failure())?;
        let config = Config::read(&places.config).map_err(|error| error.to_failure())?;
        let log = super::logging::start(config.log.level)?;
        let paths = self.paths.iter().map(std::path::absolute).collect::<Result<Vec<_>, _>>();
        let share = paths.map_err(|error| Failure::usage("a path is empty").because(&error))?;
        let (screen, lanyard) = (Screen::new(context.screen.json), context.lanyard());
        let options = Options {
            places,
            config,
            name: self.name.map(|name| name.as_str().to_string()),
            port: self.port,
            share,
            set_log_level: Box::new(move |level| log.set(level)),
            // A node whose start nobody reads runs all the same.
            started: Box::new(move |started| match systemd::logs_to_journal() {
                // One line of the journal instead of a screen for people.
                true => tell_journal(&started),
                false => drop(print(&screen, &lanyard, &started)),
            }),
        };
        Ok(node::run(options)?)
    }
}

fn tell_journal(started: &Started) {
    let status = &started.status;
    let (name, folders) = (plain(&status.node.name), status.folders.len());
    let mesh = status.mesh.as_ref().map_or("no mesh yet".to_string(), |mesh| plain(&mesh.name));
    tracing::info!(id = status.node.id, folders, "{name} serves; mesh: {mesh}; folders: {folders}");
}

fn print(screen: &Screen, lanyard: &str, started: &Started) -> Result<(), Stop> {
    if screen.json {
        return screen.document(started);
    }
    let status = &started.status;
    screen.heading(&format!("lanyard runs: this node is '{}'", plain(&status.node.name)))?;
    screen.line(format_args!("  id       {}", status.node.id))?;
    screen.line(format_args!("  page     {}", status.page.as_deref().unwrap_or("none")))?;
    if !status.node.listen.is_empty() {
        screen.line(format_args!("  listens  {}", status.node.listen.join(", ")))?;
    }
    screen.line(format_args!("  home     {} (its key, index and configuration)", plain(started.home.as_str())))?;
    if let Some(mesh) = &status.mesh {
        screen.line(format_args!("  mesh     {}", plain(&mesh.name)))?;
    }
    for folder in status.folders.iter() {
        if let Some(path) = &folder.path {
            screen.line(format_args!("  folder   {} in {}", plain(&folder.name), plain(path.as_str())))?;
        }
    }
    for shared in started.shared.iter().filter(|shared| shared.made_directory) {
        print_made(screen, shared)?;
    }
    if let Some(founded) = &started.founded {
        print_founded(screen, founded)?;
    }
    screen.line("")?;
    print_next(screen, lanyard, status.standing)
}

/// How to go on, by what this node is to its mesh.
fn print_next(screen: &Screen, lanyard: &str, standing: Standing) -> Result<(), Stop> {
    match standing {
        Standing::NoMesh => {
            screen.line("This machine is in no mesh yet. Either")?;
            screen.line(format_args!("  {lanyard} share DIR    to start one here by sharing a directory, or"))?;
            screen.line(format_args!("  {lanyard} join CODE    with the code that 'lanyard invite' shows elsewhere"))
        }
        Standing::Alone | Standing::Admin => {
            screen.line("To add another machine:")?;
            screen.line(format_args!("  here:   {lanyard} invite       shows a code"))?;
            screen.line("  there:  lanyard join CODE    with that code, while 'lanyard up' runs there")
        }
        Standing::Member => {
            screen.line("This machine is a member. An admin of the mesh adds machines: 'lanyard nodes' lists them.")
        }
        Standing::Expelled => screen.line(format_args!(
            "This machine was expelled from its mesh; its files stay. To join again: {lanyard} join CODE"
        )),
    }
}

/// Says which directory was made for a folder.
pub(super) fn print_made(screen: &Screen, shared: &Shared) -> Result<(), Stop> {
    match &shared.folder.path {
        Some(path) => screen.line(format_args!("made the directory {}", plain(path.as_str()))),
        None => Ok(()),
    }
}

/// Says that there is a mesh now, and shows its recovery key this once.
pub(super) fn print_founded(screen: &Screen, founded: &Founded) -> Result<(), Stop> {
    screen.line(format_args!("This starts the mesh '{}'.", plain(&founded.mesh.name)))?;
    if let Some(key) = &founded.recovery_key {
        screen
            .line("Write its recovery key on paper and keep it safe. It is shown only now, and takes the mesh back")?;
        screen.line("should every admin's machine be lost:")?;
        let words: Vec<&str> = key.split_whitespace().collect();
        for line in words.chunks(KEY_LINE_WORDS) {
            screen.line(format_args!("  {}", plain(&line.join(" "))))?;
        }
    }
    Ok(())
}

/// `HOST:PORT` of the command line.
pub(super) fn host_port(text: &str) -> Result<String, String> {
    HostPort::new(text).map(|address| address.as_str().to_string())
}

/// A node's name of the command line.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    NodeName::new(text).map(|name| name.as_str().to_string())
}
