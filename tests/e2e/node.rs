//! A node of the product, driven as scripts and people drive it: by its command line alone (CLI.md).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{COMMAND_MAX, Host, Outcome, eventually, finish};

/// The binary under test, as cargo built it.
pub(crate) const LANYARD: &str = env!("CARGO_BIN_EXE_lanyard");
/// A node that is not up by then never will be (a guess: seen is well under a second).
const START_MAX: Duration = Duration::from_secs(30);
/// What converges at all on two busy cores does so by then (a guess; tests do not assert on speed).
pub(crate) const CONVERGE_MAX: Duration = Duration::from_secs(90);

/// One installation of lanyard: a home, a user's home directory, and the process while it runs.
pub(crate) struct Node<'lab> {
    pub(crate) host: &'lab Host<'lab>,
    pub(crate) name: String,
    dir: PathBuf,
    /// Where its home and its user's home are, as it sees them: `dir`, or a disk that only its host has.
    place: PathBuf,
    child: Option<Child>,
    /// What the node is started by, where it is not started by itself: a tracer, another clock.
    pub(crate) under: Vec<String>,
    /// Runs without root's right to read what its mode forbids, as an ordinary user does.
    pub(crate) ordinary: bool,
}

impl<'lab> Host<'lab> {
    /// A fresh node on this host. Several may stand on one host; names are unique in a lab.
    pub(crate) fn node(&'lab self, name: &str) -> Node<'lab> {
        let dir = self.lab().dir().join(name);
        fs::create_dir_all(dir.join("user")).expect("a fresh home");
        let (place, under) = (dir.clone(), Vec::new());
        Node { host: self, name: name.to_owned(), dir, place, child: None, under, ordinary: false }
    }

    /// A fresh node whose homes lie at `place`, a directory that this host alone may see (a disk mounted there).
    pub(crate) fn node_at(&'lab self, name: &str, place: &Path) -> Node<'lab> {
        let mut node = self.node(name);
        node.place = place.to_path_buf();
        fs::create_dir_all(node.seen("")).expect("a fresh home");
        node
    }
}

impl Node<'_> {
    /// What `--home` is given.
    pub(crate) fn home(&self) -> PathBuf {
        self.place.join("h")
    }

    /// A path in the user's home directory: `~/PATH`.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.place.join("user").join(path)
    }

    /// The same path, from outside its host.
    pub(crate) fn seen(&self, path: &str) -> PathBuf {
        self.outside(self.path(path))
    }

    fn outside(&self, path: PathBuf) -> PathBuf {
        if self.place == self.dir { path } else { self.host.seen(&path) }
    }

    /// Makes a directory in the user's home directory.
    pub(crate) fn mkdir(&self, path: &str) -> PathBuf {
        fs::create_dir_all(self.path(path)).expect("a directory");
        self.path(path)
    }

    /// Starts the node without waiting; PATHs are relative to the user's home directory.
    pub(crate) fn start(&mut self, paths: &[&str]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mut command = self.host.command("setpriv");
        command.args(self.environment()).args(&self.under).arg(LANYARD).arg("--home").arg(self.home()).arg("up");
        command.args(paths.iter().map(|path| self.path(path)));
        if !self.outside(self.home()).exists() {
            command.args(["--name", &self.name]);
        }
        let log = fs::File::options().create(true).append(true).open(self.log()).expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.child = Some(command.spawn().expect("nsenter is here"));
    }

    /// Starts the node and returns when it answers.
    #[track_caller]
    pub(crate) fn up(&mut self, paths: &[&str]) {
        self.start(paths);
        self.wait_until_up();
    }

    /// Returns when a started node answers; panics if it ended instead.
    #[track_caller]
    pub(crate) fn wait_until_up(&mut self) {
        eventually(&format!("{} is up", self.name), START_MAX, || {
            let child = self.child.as_mut().expect("the node was started");
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                panic!("{} ended with {status} instead of running:\n{}", self.name, self.log_tail());
            }
            let status = self.lanyard(&["status", "--json"]);
            if status.code == 0 { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Runs `up` where it is expected to end by itself.
    pub(crate) fn up_to_its_end(&self, paths: &[&Path]) -> Outcome {
        let mut args: Vec<&str> = vec!["up"];
        args.extend(paths.iter().map(|path| path.to_str().expect("the lab's own paths are UTF-8")));
        self.lanyard_within(Duration::from_secs(20), &args)
    }

    /// Runs one command of the command line to its end.
    pub(crate) fn lanyard(&self, args: &[&str]) -> Outcome {
        self.lanyard_within(COMMAND_MAX, args)
    }

    /// As [`Node::lanyard`] with its own bound.
    pub(crate) fn lanyard_within(&self, bound: Duration, args: &[&str]) -> Outcome {
        let mut command = self.host.bounded(bound, "setpriv");
        command.args(self.environment()).arg(LANYARD).arg("--home").arg(self.home()).args(args);
        finish(command, &format!("[{}] lanyard {}", self.name, args.join(" ")))
    }

    /// Runs a command with `--json` and returns its document.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.lanyard(&[args, &["--json"]].concat()).json()
    }

    /// Starts a command and leaves it running in the background; it ends with the value.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.host.bounded(COMMAND_MAX, "setpriv");
        command.args(self.environment()).arg(LANYARD).arg("--home").arg(self.home()).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(command.spawn().expect("nsenter is here")))
    }

    /// The code of a fresh invitation.
    #[track_caller]
    pub(crate) fn invite(&self, args: &[&str]) -> String {
        let document = self.json(&[&["invite", "--no-wait"], args].concat());
        document["code"].as_str().unwrap_or_else(|| panic!("no code in {document}")).to_owned()
    }

    /// Admits `joiner` to this node's mesh.
    #[track_caller]
    pub(crate) fn admit(&self, joiner: &Node<'_>, join: &[&str]) {
        let code = self.invite(&[]);
        joiner.lanyard(&[&["join", &code], join].concat()).ok();
    }

    /// The node id as text.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        let status = self.json(&["status"]);
        status["node"]["id"].as_str().unwrap_or_else(|| panic!("no node id in {status}")).to_owned()
    }

    /// The mesh id, or `None` where there is no mesh.
    #[track_caller]
    pub(crate) fn mesh(&self) -> Option<String> {
        self.json(&["status"])["mesh"]["id"].as_str().map(str::to_owned)
    }

    /// The folder of that name in `status` (letter case does not matter), or null.
    #[track_caller]
    pub(crate) fn folder(&self, name: &str) -> Value {
        let status = self.json(&["status"]);
        let folders = status["folders"].as_array().unwrap_or_else(|| panic!("no folders in {status}"));
        let named = |folder: &&Value| folder["name"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(name));
        folders.iter().find(named).cloned().unwrap_or(Value::Null)
    }

    /// The names of the members that this node is connected to, sorted.
    pub(crate) fn connected(&self) -> Vec<String> {
        let outcome = self.lanyard(&["nodes", "--json"]);
        let Ok(document) = serde_json::from_str::<Value>(&outcome.stdout) else { return Vec::new() };
        let nodes = document.as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> = nodes
            .iter()
            .filter(|node| node["connected"] == true && node["this"] != true)
            .filter_map(|node| node["name"].as_str())
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// Whether this node lists all of `others` as connected.
    pub(crate) fn sees(&self, others: &[&Node<'_>]) -> Result<(), String> {
        let connected = self.connected();
        let missing: Vec<&str> =
            others.iter().map(|node| node.name.as_str()).filter(|name| !connected.iter().any(|c| c == name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{} sees {connected:?}, not {missing:?}", self.name)) }
    }

    /// Ends the node as a user or systemd does, by SIGTERM, and demands that it ends cleanly.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the node is a child of ours");
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("the node is a child of ours") {
                break status;
            }
            if start.elapsed() > START_MAX {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} did not end within {START_MAX:?} of SIGTERM:\n{}", self.name, self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{} ended with {status} on SIGTERM:\n{}", self.name, self.log_tail());
    }

    /// Ends the node as a power cut does.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// How a started node ended, once it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("the node is a child of ours")?;
        self.child = None;
        Some(status)
    }

    /// The process id of the running node.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// Panics if the process has ended.
    #[track_caller]
    pub(crate) fn must_be_alive(&mut self) {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        assert!(ended.is_none() && self.child.is_some(), "{} ended: {ended:?}\n{}", self.name, self.log_tail());
    }

    /// Resident memory of the running node, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the node runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has VmRSS");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// Everything the node printed since its first start.
    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(crate) fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Arguments of `setpriv` up to the program's own: the user's places lie in this node's directory, and nothing of the
    /// caller's environment points elsewhere.
    pub(crate) fn environment(&self) -> Vec<String> {
        let user = self.path("");
        let mut args: Vec<String> = Vec::new();
        if self.ordinary {
            args.extend(["--bounding-set", "-dac_override,-dac_read_search"].map(str::to_owned));
        }
        args.push("env".to_owned());
        for name in ["LANYARD_HOME", "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET"]
        {
            args.extend(["-u".to_owned(), name.to_owned()]);
        }
        for (name, below) in [
            ("HOME", ""),
            ("XDG_CONFIG_HOME", ".config"),
            ("XDG_DATA_HOME", ".local/share"),
            ("XDG_STATE_HOME", ".local/state"),
            ("XDG_CACHE_HOME", ".cache"),
            ("XDG_RUNTIME_DIR", ".run"),
        ] {
            args.push(format!("{name}={}", user.join(below).display()));
        }
        args.push("NO_COLOR=1".to_owned());
        args
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the last the node {} said:\n{}", self.name, self.log_tail());
        }
    }
}

/// A command that runs in the background.
pub(crate) struct Running(Option<Child>);

impl Running {
    /// Reads its stdout up to the first line that is a pairing code: a number and two words.
    #[track_caller]
    pub(crate) fn code(&mut self) -> String {
        let child = self.0.as_mut().expect("not finished");
        let stdout = child.stdout.as_mut().expect("stdout is piped");
        let (mut line, mut byte) = (Vec::new(), [0]);
        // Ends with the process, which is bounded by COMMAND_MAX.
        while stdout.read(&mut byte).is_ok_and(|count| count == 1) {
            if byte[0] != b'\n' {
                line.push(byte[0]);
                continue;
            }
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            let number = text.split('-').next().unwrap_or_default();
            if text.split('-').count() == 3 && number.parse::<u32>().is_ok() && !text.contains(' ') {
                return text;
            }
            line.clear();
        }
        panic!("it ended without showing a code");
    }

    /// Waits for its end (bounded by [`COMMAND_MAX`]).
    pub(crate) fn finish(mut self, what: &str) -> Outcome {
        let child = self.0.take().expect("finished once");
        let output = child.wait_with_output().expect("a child of ours");
        Outcome {
            what: what.to_owned(),
            code: output.status.code().unwrap_or(137),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
