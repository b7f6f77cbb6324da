//! `lanyard demo`: three nodes on this machine are paired, a file dropped on one arrives on the others.
//!
//! It does what a person would do, by the same commands. Rules: everything is bounded in time; whatever happens
//! (failure, Ctrl-C), the three nodes are ended by their ids and their directory is removed.

use std::cell::Cell;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_io::Timer;
use async_process::{Child, Command};
use async_signal::{Signal, Signals};
use clap::Args;
use futures_lite::io::{AsyncBufReadExt, BufReader};
use futures_lite::{AsyncReadExt, StreamExt, future};
use rustix::process::{Pid, Signal as Kill, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::api::{Failure, Invitation, Joined, Started};

use super::progress::Activity;
use super::screen::{self, Screen, plain};
use super::{Context, Outcome};

/// The whole demo. A guess: some seconds are enough; a slow machine needs a few times as many.
const DEMO_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a node may take to end before it is killed.
const END_TIME_MAX: Duration = Duration::from_secs(3);
/// How often the directories are looked at for the file.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Most that is read of what a command prints.
const OUTPUT_BYTES_MAX: u64 = 1024 * 1024;
/// Most lines shown of each node's log after a failure. A guess: some seconds at level debug.
const LOG_LINES_MAX: usize = 300;
/// Names tried for its directory.
const DIRECTORIES_MAX: u32 = 1_000;
/// The nodes: the first invites the others.
const NAMES: [&str; 3] = ["front-desk", "workshop", "office"];
/// The name every node's folder has.
const FOLDER: &str = "Shared";
/// Three nodes on one machine meet on its loopback interface, also when it has no network.
const CONFIG: &str = "[discovery]\nloopback = true\n";

/// Show it: three nodes on this machine find each other, pair, and a dropped file arrives; cleans up
#[derive(Args)]
pub(super) struct Demo {}

/// What `--json` shows; times in milliseconds.
#[derive(Serialize)]
struct Shown {
    nodes: [&'static str; 3],
    started_ms: f64,
    joined: Vec<Timed>,
    arrived: Vec<Timed>,
    returned: Vec<Timed>,
}

#[derive(Serialize)]
struct Timed {
    node: &'static str,
    ms: f64,
}

/// The directory and the nodes in it. Dropping it ends and removes them.
struct Stage {
    program: PathBuf,
    dir: PathBuf,
    nodes: Vec<Child>,
}

impl Demo {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let signals = Signals::new([Signal::Int, Signal::Term, Signal::Hup]);
        let mut signals = signals.map_err(|error| Failure::failed("cannot watch for Ctrl-C").because(&error))?;
        let mut stage = Stage::build()?;
        let step = Cell::new("starting the nodes");
        let interrupted = async {
            signals.next().await;
            Err(Failure::failed("the demo was interrupted").into())
        };
        let late = async {
            Timer::after(DEMO_TIME_MAX).await;
            let what = format!("the demo did not end within {} s", DEMO_TIME_MAX.as_secs());
            Err(Failure::timed_out(what)
                .why(format!("it was still {}", step.get()))
                .hint("run it again with LANYARD_LOG=debug to see the nodes' logs")
                .into())
        };
        let played = play(&mut stage, &context.screen, &step);
        let played = async_io::block_on(future::or(future::or(interrupted, late), played));
        if played.is_err() && std::env::var_os("LANYARD_LOG").is_some() {
            stage.tell_logs(&context.screen);
        }
        drop(stage);
        played?;
        if !context.screen.json {
            context
                .screen
                .line("The three nodes are ended and their files removed. Now for real: lanyard up ~/Shared")?;
        }
        Ok(())
    }
}

/// Plays it; `step` says at every moment what it is at.
async fn play(stage: &mut Stage, screen: &Screen, step: &Cell<&'static str>) -> Outcome {
    let say = |text: String| if screen.json { Ok(()) } else { screen.line(text) };
    say(format!("Three nodes on this machine, each with its own home under {}", plain(&stage.dir.to_string_lossy())))?;
    let begin = Stopwatch::start();
    let activity = Activity::start(screen, "starting ...");
    for name in NAMES {
        stage.start(name)?;
    }
    for at in 0..NAMES.len() {
        stage.started(at).await?;
    }
    drop(activity);
    let started_ms = begin.ms();
    say(format!("  {} run, each sharing a folder '{FOLDER}'  ({started_ms:.0} ms)", NAMES.join(", ")))?;

    step.set("pairing the nodes");
    let mut joined = Vec::new();
    for node in &NAMES[1..] {
        let activity = Activity::start(screen, "pairing ...");
        let begin = Stopwatch::start();
        let invitation: Invitation = stage.ask(NAMES[0], &["invite", "--no-wait"]).await?;
        let code = invitation.code.unwrap_or_default();
        let answer: Joined = stage.ask(node, &["join", &code]).await?;
        let ms = begin.ms();
        drop(activity);
        say(format!("  {node} joined '{}' with the code {}  ({ms:.0} ms)", plain(&answer.mesh.name), plain(&code)))?;
        joined.push(Timed { node, ms });
    }

    step.set("waiting for hello.txt to arrive everywhere");
    let arrived = stage.pass_on(NAMES[0], "hello.txt").await?;
    tell(&say, NAMES[0], "hello.txt", &arrived)?;
    step.set("waiting for answer.txt to arrive everywhere");
    let returned = stage.pass_on(NAMES[2], "answer.txt").await?;
    tell(&say, NAMES[2], "answer.txt", &returned)?;
    if screen.json {
        screen.document(&Shown { nodes: NAMES, started_ms, joined, arrived, returned })?;
    }
    Ok(())
}

fn tell(say: &impl Fn(String) -> Outcome, from: &str, file: &str, arrived: &[Timed]) -> Outcome {
    let times: Vec<String> = arrived.iter().map(|timed| format!("{} after {:.1} ms", timed.node, timed.ms)).collect();
    say(format!("  {file}, dropped on {from}, is on {}", times.join(", ")))
}

/// A directory of this demo alone. One of its name that is there already is somebody else's, or left by one that was
/// killed: in containers, process numbers come again soon.
fn new_directory() -> io::Result<PathBuf> {
    let mut taken = 0;
    loop {
        let dir = std::env::temp_dir().join(format!("lanyard-demo-{}-{taken}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && taken < DIRECTORIES_MAX => taken += 1,
            Err(error) => return Err(error),
        }
    }
}

impl Stage {
    fn build() -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::failed("cannot make a directory for the demo").because(&error);
        let program = std::env::current_exe().map_err(failed)?;
        let dir = new_directory().map_err(failed)?;
        let stage = Self { program, dir, nodes: Vec::new() };
        for name in NAMES {
            let home = stage.home(name);
            DirBuilder::new().mode(0o700).create(&home).map_err(failed)?;
            fs::write(home.join("config.toml"), CONFIG).map_err(failed)?;
        }
        Ok(stage)
    }

    fn home(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.home(name).join("log")
    }

    fn file(&self, name: &str, file: &str) -> PathBuf {
        self.home(name).join(FOLDER).join(file)
    }

    /// Runs `up`.
    fn start(&mut self, name: &str) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::failed(format!("cannot start the node {name}")).because(&error);
        let log = File::create(self.log(name)).map_err(failed)?;
        let mut command = self.command(name);
        command.args(["up", "--name", name, "--port", "0"]).arg(self.home(name).join(FOLDER)).stderr(log);
        let node = command.spawn().map_err(failed)?;
        self.nodes.push(node);
        Ok(())
    }

    /// Shows the end of every node's log, before it goes with the directory.
    fn tell_logs(&self, screen: &Screen) {
        for name in NAMES {
            let log = fs::read_to_string(self.log(name)).unwrap_or_default();
            let skipped = log.lines().count().saturating_sub(LOG_LINES_MAX);
            screen.aside(format_args!("the log of {name}:"));
            log.lines().skip(skipped).for_each(|line| screen.aside(format_args!("  {}", plain(line))));
        }
    }

    /// Waits until the node says that it runs.
    async fn started(&mut self, at: usize) -> Result<(), Failure> {
        let stdout = self.nodes[at].stdout.take().expect("it is a pipe");
        let mut line = String::new();
        let read = BufReader::new(stdout.take(OUTPUT_BYTES_MAX)).read_line(&mut line).await;
        if read.is_ok() && serde_json::from_str::<Started>(&line).is_ok() {
            return Ok(());
        }
        let name = NAMES[at];
        let log = fs::read_to_string(self.log(name)).unwrap_or_default();
        let failure = Failure::failed(format!("the node {name} did not start"));
        // The last lines of a log say why a program ended.
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        Err(last.into_iter().rev().fold(failure, |failure, line| failure.why(line.trim())))
    }

    /// Runs a command of one node and reads what it prints.
    async fn ask<T: DeserializeOwned>(&self, name: &str, args: &[&str]) -> Result<T, Failure> {
        let what = || format!("'lanyard {}' failed on {name}", args.join(" "));
        let mut command = self.command(name);
        command.args(args).stderr(Stdio::piped());
        let output = command.output().await;
        let output = output.map_err(|error| Failure::failed(what()).because(&error))?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).map_err(|error| Failure::failed(what()).because(&error));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.lines().take(8).fold(Failure::failed(what()), |failure, line| failure.why(line.trim())))
    }

    /// Writes a file into one node's folder and waits until it is in the others'.
    async fn pass_on(&self, from: &'static str, file: &str) -> Result<Vec<Timed>, Failure> {
        let text = format!("Dropped on {from}.\n");
        let begin = Stopwatch::start();
        let path = self.file(from, file);
        let failed = |error: io::Error| Failure::failed(format!("cannot write {}", path.display())).because(&error);
        fs::write(&path, &text).map_err(failed)?;
        let mut waiting: Vec<&'static str> = NAMES.into_iter().filter(|name| *name != from).collect();
        let mut arrived = Vec::new();
        while !waiting.is_empty() {
            let here = |name: &&'static str| fs::read_to_string(self.file(name, file)).is_ok_and(|found| found == text);
            let (came, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(here);
            arrived.extend(came.into_iter().map(|node| Timed { node, ms: begin.ms() }));
            waiting = rest;
            Timer::after(LOOK_EVERY).await;
        }
        Ok(arrived)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = std::process::Command::new(&self.program);
        // Ctrl-C goes to the demo alone, which ends its nodes itself.
        command.arg("--home").arg(self.home(name)).arg("--json").process_group(0);
        let mut command = Command::from(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // Asked first: the number of a node that ended may be another process's by now.
            let runs = matches!(node.try_status(), Ok(None));
            if let Some(pid) = i32::try_from(node.id()).ok().filter(|_| runs).and_then(Pid::from_raw) {
                let _ended = kill_process(pid, Kill::TERM);
            }
        }
        for mut node in self.nodes.drain(..) {
            let ended = async { node.status().await.is_ok() };
            let late = async {
                Timer::after(END_TIME_MAX).await;
                false
            };
            if !async_io::block_on(future::or(ended, late)) {
                let _ended = node.kill();
            }
        }
        if let Err(error) = remove(&self.dir) {
            let left = format!("cannot remove {}", self.dir.display());
            screen::print_failure(&Failure::failed(left).because(&error).hint("remove it by hand"));
        }
    }
}

/// Removes the demo's directory; a killed node may have been writing a moment ago, so twice at most.
fn remove(dir: &Path) -> io::Result<()> {
    fs::remove_dir_all(dir).or_else(|_| fs::remove_dir_all(dir))
}

/// Takes the time for a person to read; nothing is decided by it.
struct Stopwatch(Instant);

#[allow(clippy::disallowed_methods, reason = "shown to a person; nothing is decided by it")]
impl Stopwatch {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn ms(&self) -> f64 {
        self.0.elapsed().as_secs_f64() * 1000.0
    }
}
