//! `lanyard versions`: what can be brought back of a path.

use std::collections::BTreeSet;

use clap::Args;

use crate::wire::api::{self, KeptVersion, Request, UtcTime, VersionsBelow, VersionsOf};

use super::screen::{Screen, Stop, bytes, local, plain};
use super::{Context, Outcome};

/// List what can be brought back of a file: earlier versions, newest first; of a directory, the names below it
///
/// 'lanyard restore FOLDER/PATH --at SAVED' brings one back. What is not on this machine is asked of the others, who keep
/// what they replaced.
#[derive(Args)]
pub(super) struct Versions {
    /// The file or directory
    #[arg(value_name = "FOLDER/PATH")]
    at: String,
}

impl Versions {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (folder, path) = super::folder_and_path(&self.at);
        let known: api::Versions = context.client()?.ask_now(&Request::Versions(VersionsOf { folder, path }))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&known);
        }
        print(screen, &known)
    }
}

fn print(screen: &Screen, known: &api::Versions) -> Result<(), Stop> {
    let place = match known.path.as_str() {
        "" => plain(&known.folder.name),
        path => format!("{}/{}", plain(&known.folder.name), plain(path)),
    };
    if known.versions.is_empty() && known.below.is_empty() {
        return screen.line(format_args!("nothing but what is there now is known of {place}"));
    }
    if !known.versions.is_empty() {
        let form = form(&known.versions);
        let rows = known.versions.iter().map(|version| row(version, form)).collect();
        screen.table(&["SAVED", "BY", "SIZE", "REPLACED", "WHERE"], rows)?;
        more(screen, known.more)?;
    }
    if !known.below.is_empty() {
        let row = |below: &VersionsBelow| {
            let path = plain(below.path.as_str());
            let path = if below.deleted { format!("{path} (deleted)") } else { path };
            vec![path, below.count.to_string(), below.until.map_or("-".into(), |until| local(until, SECONDS))]
        };
        let title = format!("BELOW {place}");
        screen.table(&[&title, "VERSIONS", "LAST REPLACED"], known.below.iter().map(row).collect())?;
        more(screen, known.below_more)?;
    }
    Ok(())
}

fn more(screen: &Screen, number: u64) -> Result<(), Stop> {
    match number {
        0 => Ok(()),
        number => screen.line(format_args!("and {number} more")),
    }
}

const SECONDS: &str = "%Y-%m-%d %H:%M:%S";

/// Seconds tell versions apart, mostly; `--at` takes what is listed.
fn form(versions: &[KeptVersion]) -> &'static str {
    let times = versions.iter().filter_map(|version| version.at).map(|at| at.as_ms() / 1000);
    let apart: BTreeSet<u64> = times.clone().collect();
    if apart.len() == times.count() { SECONDS } else { "%Y-%m-%d %H:%M:%S%.3f" }
}

fn row(version: &KeptVersion, form: &str) -> Vec<String> {
    let time = |at: Option<UtcTime>| at.map_or("-".to_string(), |at| local(at, form));
    let place = match (&version.file, version.here) {
        (Some(file), _) => plain(file.as_str()),
        (None, true) => "here".into(),
        (None, false) => "other machines, if they kept it".into(),
    };
    let by = version.by.as_ref().map_or("-".into(), |by| plain(&by.name));
    vec![time(version.at), by, bytes(version.bytes), time(version.until), place]
}
