//! The office benchmark: two machines, each in its own network namespace, beside Debian's Syncthing and rsync.
//!
//! `cargo bench --bench office -- [saves] [drop] [big] [idle] [rules] [archive] [--runs N] [--files N] [--settle SECONDS] [--only NAMES] [--moved]`
//!
//! Rules:
//! 1. what is compared runs interleaved in one call, on the same disk and the same two namespaces' worth of network, each
//!    run with fresh nodes; what was written before is flushed before the clock starts;
//! 2. the clock is the reader's: a file counts when its content is on the other machine under its name, compared;
//! 3. figures hold for the machine that printed them; ratios are what is read.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[allow(dead_code, reason = "the tests use more of the lab than the benchmark does")]
#[path = "../tests/e2e/lab.rs"]
mod lab;
#[allow(dead_code, reason = "the tests use more of the driver than the benchmark does")]
#[path = "../tests/e2e/node.rs"]
mod node;
#[allow(dead_code, reason = "the tests use more of the trees than the benchmark does")]
#[path = "../tests/e2e/tree.rs"]
mod tree;

#[path = "office/archive.rs"]
mod archive;
#[path = "office/contest.rs"]
mod contest;
#[path = "office/idle.rs"]
mod idle;
#[path = "office/rules.rs"]
mod rules;
#[path = "office/saves.rs"]
mod saves;
#[path = "office/sides.rs"]
mod sides;

use std::time::Duration;

/// What the command line asked for.
pub(crate) struct Options {
    pub(crate) runs: usize,
    pub(crate) files: Option<usize>,
    pub(crate) settle: Duration,
    /// The office files are moved in at once instead of copied in, so that the copying is not part of the time.
    pub(crate) moved: bool,
    /// Only the sides of these names run, separated by commas.
    pub(crate) only: Option<String>,
}

impl Options {
    /// Whether that side is asked for and installed.
    pub(crate) fn wants(&self, side: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only.split(',').any(|name| name == side)) && sides::installed(side)
    }
}

fn main() {
    let mut options = Options { runs: 2, files: None, settle: Duration::from_secs(300), moved: false, only: None };
    let mut asked = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = |name: &str| -> u64 {
            let value = args.next().and_then(|value| value.parse().ok());
            value.unwrap_or_else(|| panic!("{name} wants a number"))
        };
        match arg.as_str() {
            "--bench" => {}
            "--runs" => options.runs = number("--runs") as usize,
            "--files" => options.files = Some(number("--files") as usize),
            "--settle" => options.settle = Duration::from_secs(number("--settle")),
            "--moved" => options.moved = true,
            "--only" => options.only = args.next(),
            "saves" | "drop" | "big" | "idle" | "rules" | "archive" => asked.push(arg),
            other => panic!(
                "unknown benchmark or option {other:?}: saves, drop, big, idle, rules, archive, --runs, --files, --settle, --only, --moved"
            ),
        }
    }
    let wants = |name: &str| asked.is_empty() || asked.iter().any(|other| other == name);
    if wants("saves") {
        saves::run(&options);
    }
    if wants("drop") {
        contest::run(&options, contest::Load::Office(options.files.unwrap_or(20_000)));
    }
    if wants("big") {
        contest::run(&options, contest::Load::Big(2 << 30));
    }
    if wants("rules") {
        rules::run();
    }
    if wants("archive") {
        archive::run(&options);
    }
    if wants("idle") {
        idle::run(&options);
    }
}
