//! `lanyard service`: the node as a service of systemd, for the machine or for one user.
//!
//! Every command is a list of steps, told before they are done. A step that is done already is left out, so that a
//! second run changes nothing. The units are the files of `systemd/`, built into this program.
//!
//! Sources: systemd.unit(5) on where units and drop-ins are, systemd.exec(5) on paths and sandboxing.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::wire::api::{Failure, FailureKind};

use super::screen::plain;
use super::{Context, Outcome};

use self::steps::{Step, carry_out, output};

mod allow;
mod steps;
mod unit;

/// Where the units of a package are.
const PACKAGED: [&str; 2] = ["/lib/systemd/system/lanyard.service", "/usr/lib/systemd/system/lanyard.service"];
/// Where the machine's own units are.
const SYSTEM_UNIT: &str = "/etc/systemd/system/lanyard.service";
/// Drop-ins of the machine's service.
const DROP_INS: &str = "/etc/systemd/system/lanyard.service.d";
/// Where the service finds a program that was built in somebody's home directory.
const PROGRAM: &str = "/usr/local/bin/lanyard";
const SYSUSERS: &str = "/etc/sysusers.d/lanyard.conf";
const TMPFILES: &str = "/etc/tmpfiles.d/lanyard.conf";
/// What the machine's service keeps.
const STATE: &str = "/var/lib/lanyard";
const CONFIGURATION: &str = "/etc/lanyard";

/// Run lanyard as a service of systemd
#[derive(Args)]
pub(super) struct Service {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Install and start the service: it runs from now on, also after a restart of the machine
    Install {
        /// For this user, with this user's files, instead of for the machine
        #[arg(long)]
        user: bool,
    },
    /// Stop the service and take it away again; files in shared folders stay
    Uninstall {
        /// The one of this user
        #[arg(long)]
        user: bool,
        /// Also remove the node's key, index and configuration: it has to join again
        #[arg(long)]
        purge: bool,
    },
    /// Whether the service is installed, and what it does
    Status {
        /// The one of this user
        #[arg(long)]
        user: bool,
    },
    /// Let the machine's service use a directory outside its own, so that it can be shared
    Allow {
        /// The directory
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Take the permission back
        #[arg(long)]
        remove: bool,
    },
}

impl Service {
    pub(super) fn run(self, context: &Context) -> Outcome {
        match self.what {
            What::Install { user: true } => install_for_user(context),
            What::Install { user: false } => install(context),
            What::Uninstall { user: true, purge } => uninstall_for_user(context, purge),
            What::Uninstall { user: false, purge } => uninstall(context, purge),
            What::Status { user } => status(context, user),
            What::Allow { path, remove } => allow::run(context, &path, remove),
        }
    }
}

fn must_be_root(what: &str) -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::failed(format!("only root can {what} the machine's service"))
        .hint("run it with sudo; or add --user for a service with your own files"))
}

/// Fails where systemd does not run this machine. Source: sd_booted(3).
fn must_have_systemd() -> Result<(), Failure> {
    if Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    Err(Failure::failed("systemd does not run this machine")
        .hint("have your own service manager run 'lanyard up', which stays in the foreground and ends by SIGTERM"))
}

fn packaged() -> bool {
    PACKAGED.iter().any(|path| Path::new(path).exists())
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::failed("cannot find this program's own file").because(&error))
}

fn install(context: &Context) -> Outcome {
    must_have_systemd()?;
    must_be_root("install")?;
    let mut steps = Vec::new();
    if !packaged() {
        let own = this_program()?;
        // The service sees no home directory, and a program there can be replaced by its user.
        let program = if own.starts_with("/usr") { own.clone() } else { PathBuf::from(PROGRAM) };
        if own != program {
            steps.push(Step::Copy { from: own, to: program.clone(), why: "where the service finds it" });
        }
        steps.push(Step::write(SYSUSERS, unit::SYSUSERS, "the account and group 'lanyard'"));
        steps.push(Step::write(TMPFILES, unit::TMPFILES, "its directories"));
        steps.push(Step::write(SYSTEM_UNIT, &unit::with_program(unit::SYSTEM, &program), "the service"));
        steps.push(Step::run(&["systemd-sysusers", SYSUSERS], "makes the account"));
        steps.push(Step::run(&["systemd-tmpfiles", "--create", TMPFILES], "makes the directories"));
    }
    steps.extend(back_off(context, Path::new(DROP_INS)));
    steps.push(Step::run(&["systemctl", "daemon-reload"], "systemd reads the service"));
    steps.push(Step::run(&["systemctl", "enable", "lanyard.service"], "it starts with the machine"));
    steps.push(Step::run(&["systemctl", "restart", "lanyard.service"], "it starts now"));
    if !carry_out(&context.screen, steps)? {
        return context.screen.line("The service is installed and as it should be; nothing to do.");
    }
    let screen = &context.screen;
    screen.line("The service runs. Shared folders are under /var/lib/lanyard/shared; who is in the group 'lanyard' works there:")?;
    let person = std::env::var("SUDO_USER").unwrap_or_else(|_| "NAME".into());
    screen.line(format_args!("  usermod -aG lanyard {}    (and log in again)", plain(&person)))?;
    screen.line("To begin: 'lanyard join CODE', or 'lanyard share /var/lib/lanyard/shared/NAME'.")
}

fn uninstall(context: &Context, purge: bool) -> Outcome {
    must_have_systemd()?;
    must_be_root("uninstall")?;
    if packaged() {
        return Err(Failure::failed("the service belongs to a package")
            .hint("remove that: 'apt remove lanyard', or 'apt purge lanyard' for the node's key and index too")
            .into());
    }
    let mut steps = Vec::new();
    let unit = std::fs::read_to_string(SYSTEM_UNIT).unwrap_or_default();
    if !unit.is_empty() {
        steps.push(Step::run(&["systemctl", "disable", "--now", "lanyard.service"], "it ends and starts no more"));
    }
    let mut remove = vec![DROP_INS, SYSTEM_UNIT, TMPFILES, SYSUSERS];
    if unit::program(&unit).is_some_and(|program| program == Path::new(PROGRAM)) {
        remove.push(PROGRAM);
    }
    if purge {
        remove.extend([CONFIGURATION, "/var/lib/lanyard/state"]);
    }
    steps.extend(remove.into_iter().map(Step::remove));
    steps.push(Step::run(&["systemctl", "daemon-reload"], "systemd forgets the service"));
    if !carry_out(&context.screen, steps)? {
        context.screen.line("The service is not installed; nothing to do.")?;
    }
    if Path::new(STATE).exists() {
        if !purge {
            context.screen.line("The node's key and index stay in /var/lib/lanyard/state: installed again, it goes on. 'lanyard service uninstall --purge' removes them.")?;
        }
        context.screen.line("Files in shared folders stay where they are, such as in /var/lib/lanyard/shared; the account 'lanyard' stays with them.")?;
    }
    Ok(())
}

/// The drop-in by which a service that fails waits longer each time; where systemd is too old for it, that is said.
fn back_off(context: &Context, drop_ins: &Path) -> Option<Step> {
    let version = output(&["systemctl", "--version"]);
    if unit::knows_back_off(&version) {
        let path = drop_ins.join("10-back-off.conf");
        return Some(Step::write(path, unit::BACK_OFF, "a service that fails is tried less and less often"));
    }
    let version = version.split_whitespace().nth(1).unwrap_or("of this machine").to_owned();
    context.screen.aside(format_args!(
        "systemd {} cannot wait longer after each failure: a service that fails is tried every second.",
        plain(&version)
    ));
    None
}

/// Where the user's session keeps its sockets. Source: pam_systemd(8).
fn user_runtime() -> PathBuf {
    PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw()))
}

/// Fails where systemd runs nothing for this user.
fn must_have_session() -> Result<(), Failure> {
    if std::env::var_os("XDG_RUNTIME_DIR").is_some() || user_runtime().is_dir() {
        return Ok(());
    }
    Err(Failure::failed("systemd runs nothing for this user: nobody is logged in as it")
        .hint("log in as this user; or have its services run always, as root: 'loginctl enable-linger NAME'"))
}

/// The user's unit directory. Source: systemd.unit(5), "User Unit Search Path".
fn user_unit() -> Result<PathBuf, Failure> {
    let dirs = directories::BaseDirs::new().ok_or_else(|| Failure::failed("this account has no home directory"))?;
    Ok(dirs.config_dir().join("systemd/user/lanyard.service"))
}

fn install_for_user(context: &Context) -> Outcome {
    must_have_systemd()?;
    must_have_session()?;
    let (path, program) = (user_unit()?, this_program()?);
    let mut steps = vec![Step::write(&path, &unit::with_program(unit::USER, &program), "the service")];
    steps.extend(back_off(context, &path.with_extension("service.d")));
    steps.push(Step::run(&["systemctl", "--user", "daemon-reload"], "systemd reads it"));
    steps.push(Step::run(&["systemctl", "--user", "enable", "lanyard.service"], "it starts when you log in"));
    steps.push(Step::run(&["systemctl", "--user", "restart", "lanyard.service"], "it starts now"));
    if !carry_out(&context.screen, steps)? {
        return context.screen.line("Your service is installed and as it should be; nothing to do.");
    }
    context.screen.line("Your service runs while you are logged in. To have it run always: 'loginctl enable-linger'.")
}

fn uninstall_for_user(context: &Context, purge: bool) -> Outcome {
    must_have_systemd()?;
    must_have_session()?;
    let path = user_unit()?;
    let mut steps = Vec::new();
    if path.exists() {
        steps.push(Step::run(
            &["systemctl", "--user", "disable", "--now", "lanyard.service"],
            "it ends and starts no more",
        ));
    }
    steps.push(Step::remove(path.with_extension("service.d")));
    steps.push(Step::remove(path));
    steps.push(Step::run(&["systemctl", "--user", "daemon-reload"], "systemd forgets it"));
    if !carry_out(&context.screen, steps)? {
        context.screen.line("Your service is not installed; nothing to do.")?;
    }
    let kept = match purge {
        true => {
            "Remove ~/.local/share/lanyard and ~/.config/lanyard yourself if the node shall be forgotten: they are those of 'lanyard up', too."
        }
        false => "Your files, and the node's key in ~/.local/share/lanyard, stay.",
    };
    context.screen.line(kept)
}

/// What `systemctl show` says.
#[derive(Serialize)]
struct Told {
    installed: bool,
    enabled: bool,
    state: String,
    says: String,
    restarts: u64,
    /// It ended because a later lanyard wrote its home.
    needs_newer: bool,
    unit: Option<String>,
    /// Directories outside its own that it may use.
    allowed: Vec<String>,
}

fn status(context: &Context, user: bool) -> Outcome {
    must_have_systemd()?;
    if user {
        must_have_session()?;
    }
    let properties =
        "--property=LoadState,UnitFileState,ActiveState,SubState,StatusText,NRestarts,FragmentPath,ExecMainStatus";
    let mut command = vec!["systemctl"];
    command.extend(user.then_some("--user"));
    command.extend(["show", properties, "lanyard.service"]);
    let shown = output(&command);
    let of = |key: &str| {
        shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_string()
    };
    let told = Told {
        installed: of("LoadState") == "loaded",
        enabled: of("UnitFileState") == "enabled",
        state: format!("{} ({})", of("ActiveState"), of("SubState")),
        says: of("StatusText"),
        restarts: of("NRestarts").parse().unwrap_or(0),
        needs_newer: of("ActiveState") == "failed"
            && of("ExecMainStatus") == FailureKind::TooOld.exit_status().to_string(),
        unit: Some(of("FragmentPath")).filter(|path| !path.is_empty()),
        allowed: if user { Vec::new() } else { allow::allowed() },
    };
    let screen = &context.screen;
    if screen.json {
        return screen.document(&told);
    }
    if !told.installed {
        let option = if user { " --user" } else { "" };
        return screen.line(format_args!("not installed; 'lanyard service install{option}' does it"));
    }
    let when = if user { "when you log in" } else { "with the machine" };
    let enabled = format!("{} {when}", if told.enabled { "starts" } else { "does not start" });
    screen.line(format_args!("{}, {enabled}", told.state))?;
    if !told.says.is_empty() {
        screen.line(format_args!("  says     {}", plain(&told.says)))?;
    }
    let journal = if user { "journalctl --user -u lanyard" } else { "journalctl -u lanyard" };
    if told.needs_newer {
        screen.line("  needs    a newer lanyard: a later one has used this node, and nothing was changed since")?;
        screen.line(format_args!(
            "           '{journal}' and 'lanyard doctor' say which; it is not tried again by itself"
        ))?;
    }
    if let Some(unit) = &told.unit {
        screen.line(format_args!("  unit     {}", plain(unit)))?;
    }
    if told.restarts > 0 {
        screen.line(format_args!("  restarts {} ('{journal}' says why)", told.restarts))?;
    }
    for path in &told.allowed {
        screen.line(format_args!("  allowed  {}", plain(path)))?;
    }
    Ok(())
}
