//! A lab of real machines, as far as the kernel is concerned: one network namespace a host, a bridge between them.
//!
//! Rules:
//! 1. all traffic stays inside namespaces that the lab made; nothing outside is changed, nothing needs root (as root it
//!    works too, without the user namespace);
//! 2. only processes that the lab started are ended, each by its own handle. They end with the lab, on a panic (`Drop`)
//!    and when the test process itself dies: a holder reads a pipe that closes, everything else has a parent-death signal;
//! 3. every loop and every command is bounded.
//!
//! Where the kernel does not permit namespaces, [`Lab::open`] says so aloud and the test is skipped, unless
//! `LANYARD_LAB=require` turns that into a failure.
//!
//! Source: `unshare(1)`, `nsenter(1)`, `setpriv(1)`, `ip-link(8)`, `nft(8)`.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often something that is waited for is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// No command of the lab or of the product may take longer, unless it is given its own bound.
pub(crate) const COMMAND_MAX: Duration = Duration::from_secs(120);

/// Tests that move much data or measure something run alone, the others beside each other.
static TURN: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "held for its Drop only")]
enum Turn {
    Alone(RwLockWriteGuard<'static, ()>),
    Shared(RwLockReadGuard<'static, ()>),
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was run, for messages.
    pub(crate) what: String,
    /// The exit status; 137 where the bound was hit or the process was killed.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The same outcome, or a panic with everything it said if it did not exit with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// The same outcome, or a panic if it did not exit with `code`.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert!(self.code == code, "expected exit {code}: {self}");
        self
    }

    /// Demands that stderr names `object`, the thing the error is about (letter case does not matter).
    #[track_caller]
    pub(crate) fn names(self, object: &str) -> Self {
        assert!(
            self.stderr.to_lowercase().contains(&object.to_lowercase()),
            "expected the error to name {object:?}: {self}"
        );
        self
    }

    /// Stdout as one JSON document.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let outcome = self.ok();
        match serde_json::from_str(&outcome.stdout) {
            Ok(value) => value,
            Err(error) => panic!("expected one JSON document ({error}): {outcome}"),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { what, code, stdout, stderr } = self;
        write!(f, "`{what}` exited with {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// A process that keeps a namespace alive: it reads a pipe which closes when this side goes.
struct Holder(Child);

impl Holder {
    /// Starts `command`, whose script must print `ready` and then `exec cat`.
    fn start(mut command: Command) -> Result<Holder, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout was asked for");
        // The script's commands are short and local; the pipe closes if it fails.
        let read = BufReader::new(stdout).read_line(&mut line);
        if read.is_ok() && line.trim() == "ready" {
            return Ok(Holder(child));
        }
        let _ = child.kill();
        let said = child.wait_with_output().map(|o| String::from_utf8_lossy(&o.stderr).into_owned());
        Err(format!("{command:?}: {}", said.unwrap_or_default().trim()))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Hosts on one switch. Dropped after its hosts, it leaves nothing behind.
pub(crate) struct Lab {
    switch: Holder,
    root: bool,
    hosts: Cell<u8>,
    dir: tempfile::TempDir,
    _turn: Turn,
}

impl Lab {
    /// A lab for a test that is light enough to run beside others; `None` (and a reason on stderr) where not permitted.
    pub(crate) fn open(test: &str) -> Option<Lab> {
        Lab::new(test, Turn::Shared(TURN.read().unwrap_or_else(|poisoned| poisoned.into_inner())))
    }

    /// A lab for a test that wants the machine for itself.
    pub(crate) fn alone(test: &str) -> Option<Lab> {
        Lab::new(test, Turn::Alone(TURN.write().unwrap_or_else(|poisoned| poisoned.into_inner())))
    }

    fn new(test: &str, turn: Turn) -> Option<Lab> {
        let root = rustix::process::geteuid().is_root();
        let script = "set -e; ip link set lo up
            ip link add br0 type bridge mcast_snooping 0 forward_delay 0; ip link set br0 up
            echo ready; exec cat";
        let mut command = Command::new("unshare");
        command.args(if root { ["-nm"].as_slice() } else { ["-Urnm"].as_slice() }).args(["sh", "-c", script]);
        match Holder::start(command) {
            Ok(switch) => {
                let base = std::env::var_os("LANYARD_LAB_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
                // Short, because a Unix socket's path has at most 107 bytes.
                let dir = tempfile::Builder::new().prefix("lab-").tempdir_in(base).expect("a temporary directory");
                Some(Lab { switch, root, hosts: Cell::new(0), dir, _turn: turn })
            }
            Err(reason) => {
                assert!(
                    std::env::var("LANYARD_LAB").as_deref() != Ok("require"),
                    "network namespaces are required but not permitted here: {reason}"
                );
                eprintln!("SKIPPED: {test}: network namespaces are not permitted here: {reason}");
                None
            }
        }
    }

    /// Where this lab's homes and trees live; one file system.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Adds a host with its own network, mounts and empty `/run`; the first is 10.9.0.2, the next 10.9.0.3.
    pub(crate) fn host(&self) -> Host<'_> {
        let number = self.hosts.get() + 2;
        self.hosts.set(self.hosts.get() + 1);
        // An empty resolv.conf: an unreachable name server would cost seconds a look-up.
        let script = "set -e; mount -t tmpfs tmpfs /run
            resolv=$(readlink -m /etc/resolv.conf); : > /run/empty
            case $resolv in /run/*) mkdir -p \"$(dirname \"$resolv\")\"; : > \"$resolv\";; esac
            [ ! -e \"$resolv\" ] || mount --bind /run/empty \"$resolv\"
            ip link set lo up; echo ready; exec cat";
        let mut command = self.enter(self.switch.pid(), &["unshare", "-nm", "sh", "-c", script]);
        command.stderr(Stdio::piped());
        let holder = Holder::start(command).unwrap_or_else(|reason| panic!("no host: {reason}"));
        let host = Host { lab: self, holder, number, address: Cell::new([10, 9, 0, number]) };
        self.switch(&format!(
            "ip link add v{number} type veth peer name eth0 netns {}; ip link set v{number} master br0 up",
            host.holder.pid()
        ));
        host.sh(&format!(
            "ip addr add 10.9.0.{number}/24 dev eth0; ip link set eth0 up; ip route add 224.0.0.0/4 dev eth0"
        ))
        .ok();
        host
    }

    /// Runs a script on the switch, that is in the namespace of the bridge.
    #[track_caller]
    pub(crate) fn switch(&self, script: &str) -> Outcome {
        finish(self.enter(self.switch.pid(), &["sh", "-e", "-c", script]), script).ok()
    }

    /// Lets no frame pass between two hosts, as if the cable between them was cut; both reach everyone else.
    pub(crate) fn partition(&self, a: &Host<'_>, b: &Host<'_>) {
        let (a, b) = (a.number, b.number);
        self.switch(&format!(
            "nft add table bridge cut; nft add chain bridge cut f '{{ type filter hook forward priority 0; }}'
             nft add rule bridge cut f iifname v{a} oifname v{b} drop
             nft add rule bridge cut f iifname v{b} oifname v{a} drop"
        ));
    }

    /// Undoes every [`Lab::partition`].
    pub(crate) fn heal(&self) {
        self.switch("nft delete table bridge cut");
    }

    /// A command inside the namespaces of `pid`; the process that is started becomes the command itself (no fork).
    fn enter(&self, pid: u32, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("-t").arg(pid.to_string());
        if !self.root {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.args(["-n", "-m", "--", "setpriv", "--pdeathsig", "KILL", "--"]).args(args);
        command.stdin(Stdio::null());
        command
    }
}

/// One machine of the lab.
pub(crate) struct Host<'lab> {
    lab: &'lab Lab,
    holder: Holder,
    number: u8,
    address: Cell<[u8; 4]>,
}

impl<'lab> Host<'lab> {
    /// The lab it stands in.
    pub(crate) fn lab(&self) -> &'lab Lab {
        self.lab
    }

    /// Its number in the lab, from 2.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Its IPv4 address now.
    pub(crate) fn address(&self) -> String {
        self.address.get().map(|byte| byte.to_string()).join(".")
    }

    /// A path of this host as this process sees it, with what is mounted on that host alone.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.holder.pid())).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A command on this host that is not bounded: for what runs until it is ended. The child's id is the program's.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.lab.enter(self.holder.pid(), &[program])
    }

    /// A command on this host that is killed after `bound`.
    pub(crate) fn bounded(&self, bound: Duration, program: &str) -> Command {
        let seconds = bound.as_secs_f64().to_string();
        // The second setpriv: `timeout` killed by its parent's death must take the program with it.
        self.lab.enter(
            self.holder.pid(),
            &["timeout", "-s", "KILL", &seconds, "setpriv", "--pdeathsig", "KILL", "--", program],
        )
    }

    /// Runs a shell script on this host.
    pub(crate) fn sh(&self, script: &str) -> Outcome {
        let mut command = self.bounded(COMMAND_MAX, "sh");
        command.args(["-e", "-c", script]);
        finish(command, script)
    }

    /// Takes every address away (IPv6 too) and gives new ones, as a DHCP server does that lost its memory.
    pub(crate) fn set_address(&self, last: u8) {
        self.address.set([10, 9, 0, last]);
        self.sh(&format!(
            "ip addr flush dev eth0; ip addr add 10.9.0.{last}/24 dev eth0
             ip -6 addr add fe80::{last}/64 dev eth0 nodad || true
             ip route replace 224.0.0.0/4 dev eth0"
        ))
        .ok();
    }

    /// Drops mDNS in both directions, as many office networks do.
    pub(crate) fn block_multicast(&self) {
        self.sh("nft add table inet mute
             nft add chain inet mute i '{ type filter hook input priority 0; }'
             nft add chain inet mute o '{ type filter hook output priority 0; }'
             nft add rule inet mute i udp dport 5353 drop; nft add rule inet mute o udp dport 5353 drop")
            .ok();
    }

    /// Bytes that went out of and came into this host's network card since it was made.
    pub(crate) fn wire_bytes(&self) -> u64 {
        let [received, sent] = self.counted_bytes();
        received + sent
    }

    /// Bytes that went out of this host's network card since it was made.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.counted_bytes()[1]
    }

    fn counted_bytes(&self) -> [u64; 2] {
        let text = fs::read_to_string(format!("/proc/{}/net/dev", self.holder.pid())).expect("the host is alive");
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("the host has eth0");
        let fields: Vec<u64> = line.split_whitespace().map(|field| field.parse().expect("a counter")).collect();
        [fields[0], fields[8]]
    }
}

/// Runs `command` to its end and keeps what it said.
pub(crate) fn finish(mut command: Command, what: &str) -> Outcome {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    Outcome {
        what: what.to_owned(),
        code: output.status.code().unwrap_or(137),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Looks until `probe` has an answer; panics with the last reason after `bound`.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        let looked = Instant::now();
        match probe() {
            Ok(answer) => return answer,
            Err(reason) if start.elapsed() > bound => panic!("not within {bound:?}: {what}: {reason}"),
            // Looking at a large tree must not take the cores from those who fill it.
            Err(_) if looked.elapsed() > LOOK_EVERY * 2 => sleep(looked.elapsed() * 3),
            Err(_) => sleep(LOOK_EVERY),
        }
    }
}
