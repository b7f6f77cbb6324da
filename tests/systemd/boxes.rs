//! Boxes: machines with a real systemd, made by `boxes.sh`. They end with the test, each by its own cgroup.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// One lab at a time: the machine is shared.
static TURN: Mutex<()> = Mutex::new(());

/// What the boxes need on this machine.
const NEEDED: [&str; 6] = ["systemd-nspawn", "mmdebstrap", "zstd", "ip", "nsenter", "dpkg-deb"];

/// A finished command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// What it printed; a panic with everything if it failed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }
}

/// A network with boxes.
pub(crate) struct Lab {
    name: String,
    dir: PathBuf,
    packages: PathBuf,
    up: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

/// Says aloud why a test does nothing.
pub(crate) fn skipped(why: &str) {
    assert!(std::env::var("LANYARD_BOXES").as_deref() != Ok("require"), "boxes are required: {why}");
    let _closed = writeln!(std::io::stderr(), "SKIPPED: the service in a booted systemd: {why}");
}

/// The package under test.
pub(crate) fn package() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("debian");
    let found = fs::read_dir(target).ok()?.flatten().map(|entry| entry.path());
    found.filter(|path| path.extension().is_some_and(|ext| ext == "deb")).max()
}

fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".into());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let is_there = |name: &str| path.split(':').any(|dir| Path::new(dir).join(name).exists());
    NEEDED.iter().find(|name| !is_there(name)).map(|name| format!("{name} is not installed"))
}

impl Lab {
    /// A lab, or `None` and the reason aloud where there can be none.
    pub(crate) fn open(test: &str) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = missing() {
            skipped(&why);
            return None;
        }
        let Some(package) = package() else {
            skipped("there is no package: debian/build dev builds it");
            return None;
        };
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boxes");
        fs::create_dir_all(&dir).expect("a directory");
        let packages = dir.join(format!("packages-{}", std::process::id()));
        fs::create_dir_all(&packages).expect("a directory");
        fs::copy(&package, packages.join("lanyard.deb")).expect("the package");
        let lab = Lab { name: format!("ly{}{test}", std::process::id()), dir, packages, up: Vec::new(), _turn: turn };
        let made = lab.run(Duration::from_secs(300), &["root"]);
        if made.code != 0 {
            skipped(&format!("the root of the boxes cannot be made: {}", made.stderr.trim()));
            return None;
        }
        lab.run(Duration::from_secs(10), &["net-up"]).ok();
        Some(lab)
    }

    fn run(&self, bound: Duration, args: &[&str]) -> Done {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/boxes.sh");
        let mut command = Command::new("timeout");
        command.args(["-k", "5", &bound.as_secs().to_string()]).arg(script).arg(&self.dir).arg(&self.name).args(args);
        finish(&mut command)
    }

    /// Where packages lie for the boxes, as `/packages` in them.
    pub(crate) fn packages(&self) -> &Path {
        &self.packages
    }

    /// Boots a box.
    pub(crate) fn boot(&mut self, name: &str, number: u8) {
        self.up.push(name.into());
        let program = Path::new(env!("CARGO_BIN_EXE_lanyard"));
        let bin = program.parent().expect("it lies in a directory");
        let (packages, bin) = (format!("{}:/packages", self.packages.display()), format!("{}:/built", bin.display()));
        self.run(Duration::from_secs(20), &["up", name, &format!("10.77.0.{number}"), &packages, &bin]).ok();
        self.booted(name);
    }

    /// Waits until a box is up.
    #[track_caller]
    pub(crate) fn booted(&self, name: &str) {
        eventually(&format!("{name} is up"), Duration::from_secs(60), || {
            let state = self.run(Duration::from_secs(5), &["sh", name, "systemctl", "is-system-running"]);
            let state = state.stdout.trim().to_owned();
            if ["running", "degraded"].contains(&state.as_str()) { Ok(()) } else { Err(state) }
        });
    }

    /// Runs a shell script in a box, as root.
    pub(crate) fn sh(&self, name: &str, script: &str) -> Done {
        self.run(Duration::from_secs(90), &["sh", name, "sh", "-ec", script])
    }

    /// Runs a shell script in a box as one of its users, with the umask that Debian gives.
    pub(crate) fn as_user(&self, name: &str, user: &str, script: &str) -> Done {
        let script = format!("umask 022; {script}");
        self.run(Duration::from_secs(60), &["sh", name, "runuser", "-u", user, "--", "sh", "-ec", &script])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in std::mem::take(&mut self.up) {
            if std::thread::panicking() {
                let log = self.sh(&name, "journalctl -b -u lanyard --no-pager | tail -n 40");
                let _closed = writeln!(std::io::stderr(), "--- journal of {name}\n{}", log.stdout);
            }
            let _ = self.run(Duration::from_secs(20), &["kill", &name]);
        }
        let _ = self.run(Duration::from_secs(10), &["net-down"]);
        let _ = fs::remove_dir_all(&self.packages);
    }
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Done {
    // Files, not pipes: what the script leaves running would hold those open.
    let file = || tempfile::tempfile().expect("a temporary file");
    let (out, err) = (file(), file());
    let as_stdio = |file: &fs::File| Stdio::from(file.try_clone().expect("a handle"));
    let status = command.stdin(Stdio::null()).stdout(as_stdio(&out)).stderr(as_stdio(&err)).status();
    let read = |mut file: fs::File| {
        use std::io::{Read, Seek};
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a temporary file");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let code = status.expect("the command is here").code().unwrap_or(137);
    Done { code, stdout: read(out), stderr: read(err) }
}

/// Looks until `probe` has an answer; panics with the last reason after `bound`.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(answer) => return answer,
            Err(reason) if start.elapsed() > bound => panic!("not within {bound:?}: {what}: {reason}"),
            Err(_) => sleep(Duration::from_millis(100)),
        }
    }
}
