//! Steps of installing: told first, then done; what is so already is no step.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::wire::api::Failure;

use super::super::screen::{Screen, Stop, plain, shell_word};

/// One change of the machine.
pub(super) enum Step {
    /// A file gets this text.
    Write { path: PathBuf, text: String, why: &'static str },
    /// A program is copied.
    Copy { from: PathBuf, to: PathBuf, why: &'static str },
    /// A file or directory goes, with what is in it.
    Remove { path: PathBuf },
    /// A command is run.
    Run { command: Vec<String>, why: &'static str },
}

impl Step {
    pub(super) fn write(path: impl Into<PathBuf>, text: &str, why: &'static str) -> Self {
        Self::Write { path: path.into(), text: text.into(), why }
    }

    pub(super) fn remove(path: impl Into<PathBuf>) -> Self {
        Self::Remove { path: path.into() }
    }

    pub(super) fn run(command: &[&str], why: &'static str) -> Self {
        Self::Run { command: command.iter().map(|word| (*word).to_string()).collect(), why }
    }

    /// Whether it changes nothing. A command follows the files before it.
    fn is_done(&self) -> bool {
        match self {
            Self::Write { path, text, .. } => fs::read_to_string(path).is_ok_and(|found| found == *text),
            Self::Copy { from, to, .. } => same_bytes(from, to),
            Self::Remove { path } => fs::symlink_metadata(path).is_err(),
            Self::Run { .. } => false,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Write { path, why, .. } => format!("write {}: {why}", shown(path)),
            Self::Copy { from, to, why } => format!("copy {} to {}: {why}", shown(from), shown(to)),
            Self::Remove { path } => format!("remove {}", shown(path)),
            Self::Run { command, why } => format!("run '{}': {why}", command.join(" ")),
        }
    }

    fn carry_out(&self) -> Result<(), Failure> {
        let cannot = |error: io::Error| Failure::failed(format!("cannot {}", self.told())).because(&error);
        match self {
            Self::Write { path, text, .. } => replace(path, text.as_bytes(), 0o644).map_err(cannot),
            Self::Copy { from, to, .. } => {
                let bytes = fs::read(from).map_err(cannot)?;
                replace(to, &bytes, 0o755).map_err(cannot)
            }
            Self::Remove { path } => {
                let is_dir = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
                let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
                removed.map_err(cannot)
            }
            Self::Run { command, .. } => run(command),
        }
    }
}

/// Tells the steps and does them; `false` where everything is so already. Commands are run where a file changed, or
/// where `must_run` cannot be told from files: a service that does not run.
pub(super) fn carry_out(screen: &Screen, steps: Vec<Step>) -> Result<bool, Stop> {
    let changes = steps.iter().any(|step| !matches!(step, Step::Run { .. }) && !step.is_done());
    let starts =
        steps.iter().any(|step| matches!(step, Step::Run { command, .. } if command.iter().any(|w| w == "restart")));
    let is_user =
        steps.iter().any(|step| matches!(step, Step::Run { command, .. } if command.iter().any(|w| w == "--user")));
    let down = starts && !is_running(is_user);
    if !changes && !down {
        return Ok(false);
    }
    let steps: Vec<Step> = steps.into_iter().filter(|step| !step.is_done()).collect();
    screen.aside("This will:");
    for step in &steps {
        screen.aside(format_args!("  {}", plain(&step.told())));
    }
    for step in &steps {
        step.carry_out()?;
    }
    Ok(true)
}

fn is_running(user: bool) -> bool {
    let mut asked = vec!["systemctl"];
    asked.extend(user.then_some("--user"));
    asked.extend(["show", "--property=ActiveState,UnitFileState", "lanyard.service"]);
    let shown = output(&asked);
    shown.contains("ActiveState=active") && shown.contains("UnitFileState=enabled")
}

/// A command for systemd. That of a user is found where the session has it, also by a command that `sudo` or `cron` runs
/// and that has no `XDG_RUNTIME_DIR`. Source: pam_systemd(8).
fn command<W: AsRef<str>>(words: &[W]) -> Command {
    let mut command = Command::new(words[0].as_ref());
    command.args(words[1..].iter().map(AsRef::as_ref)).stdin(Stdio::null());
    if words.iter().any(|word| word.as_ref() == "--user") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", super::user_runtime());
    }
    command
}

/// What a command prints; empty where it cannot be run.
pub(super) fn output(words: &[&str]) -> String {
    let run = command(words).stderr(Stdio::null()).output();
    run.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn run(words: &[String]) -> Result<(), Failure> {
    let line = words.join(" ");
    let cannot = || Failure::failed(format!("'{line}' failed"));
    let done = command(words).stdout(Stdio::null()).output();
    let done = done.map_err(|error| cannot().because(&error))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let why = said.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect::<Vec<_>>().join("; ");
    let journal = if words.iter().any(|word| word == "--user") {
        "journalctl --user -u lanyard"
    } else {
        "journalctl -u lanyard"
    };
    Err(cannot()
        .why(why)
        .hint(format!("'{journal}' may say more; what was done up to here stays, and the command can be run again")))
}

/// Written aside and renamed: the file is the old or the new one. A running program can be replaced only so.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    fs::write(&aside, bytes)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(mode))?;
    fs::rename(&aside, path)
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map(|found| found.len()).ok();
    let alike = length(a).is_some() && length(a) == length(b);
    alike && matches!((fs::read(a), fs::read(b)), (Ok(a), Ok(b)) if a == b)
}

fn shown(path: &Path) -> String {
    shell_word(&path.to_string_lossy())
}
