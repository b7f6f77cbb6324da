//! The node's configuration: `config.toml`, every key optional.
//!
//! Page: `docs/CONFIGURATION.md`, which names each key with its default; the two change together. Rules: a key that
//! this version does not know is refused with its line, for a mistyped key would silently do nothing; a file made
//! for a later version is refused as a whole; the file is only ever read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use crate::base::path::escape;
use crate::logic::sync::attributes::Looks;
use crate::logic::sync::guard;
use crate::shell::net::interfaces::Selection;
use crate::wire::api::{Failure, FailureKind, Started};

pub use self::archive::Archive;
pub use self::versions::Versions;
use super::places::Places;

mod archive;
mod versions;

/// The version of the file that this program reads. Absent means 1.
const VERSION: i64 = 1;
/// Longest file that is read. A guess: 1,000 configured peers fit.
const CONFIG_BYTES_MAX: u64 = 256 * 1024;
/// Most configured peers. Source: DESIGN, "2 to 50 machines", with room for several addresses each.
const PEERS_MAX: usize = 200;
/// Longest name of a node in bytes, as `wire::statement::Name` has it.
const NAME_BYTES_MAX: usize = crate::wire::statement::NAME_MAX;

/// How a node is run: the places, what the configuration says, and what the command line says above it.
pub struct Options {
    /// Where everything is.
    pub places: Places,
    /// What the file says.
    pub config: Config,
    /// `--name`: the node's name, above `config.name`.
    pub name: Option<String>,
    /// `--port`: the port, above `config.port`. 0 means any free one.
    pub port: Option<u16>,
    /// Absolute paths of the directories to share, founding a mesh if there is none.
    pub share: Vec<PathBuf>,
    /// Called when a configuration that was read again has another level for the log.
    pub set_log_level: Box<dyn Fn(LogLevel) + Send + Sync>,
    /// Called once, when the node answers on its socket and the directories are shared.
    pub started: Box<dyn FnOnce(Started) + Send>,
}

/// The file. `Config::default()` is an empty one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Version of the file's form.
    version: Option<i64>,
    /// The node's name before a mesh gives it one; the machine's own name where none is given.
    pub name: Option<NodeName>,
    /// The port for peers; 47474, else the next free one, remembered, where none is given.
    pub port: Option<u16>,
    /// `HOST:PORT` of nodes that are not found by themselves.
    pub peers: Vec<HostPort>,
    /// Directory under which folders are received; see `Places::receive_into` for the default.
    pub receive_into: Option<AbsolutePath>,
    /// `[node]`.
    pub node: Node,
    /// `[log]`.
    pub log: Log,
    /// `[scan]`.
    pub scan: Scan,
    /// `[discovery]`.
    pub discovery: Discovery,
    /// `[interfaces]`.
    pub interfaces: Interfaces,
    /// `[limits]`.
    pub limits: Limits,
    /// `[relay]`.
    pub relay: Relay,
    /// `[audit]`.
    pub audit: Audit,
    /// `[guard]`.
    pub guard: Guard,
    /// `[versions]`.
    pub versions: Versions,
    /// `[coordinator]`.
    pub coordinator: Coordinator,
    /// `[archive]`.
    pub archive: Archive,
    /// `[folder.NAME]`: what is otherwise for single folders, by name or id.
    pub folder: BTreeMap<String, OfFolder>,
}

/// What is otherwise for one folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfFolder {
    /// Whether extended attributes of files are carried, those whose names begin with `user.`.
    pub attributes: bool,
    /// Whether owner and group of files are carried, by name.
    pub ownership: bool,
}

/// How the process is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Reach only what is shared and the node's own directories, where the kernel has Landlock.
    pub landlock: bool,
}

/// What is written to stderr.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Least important level that is written.
    pub level: LogLevel,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what may need a person.
    Warn,
    /// Also what happens to members and folders.
    #[default]
    Info,
    /// Also what happens to files and links.
    Debug,
    /// Everything.
    Trace,
}

/// How folders are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scan {
    /// Seconds between two full scans of a folder, 60 to 604,800; changes are seen at once in between.
    #[serde(deserialize_with = "scan_interval")]
    pub interval_s: u64,
}

/// How other nodes are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Discovery {
    /// Announce and browse by multicast DNS.
    pub mdns: bool,
    /// Also on the loopback interface: only for several nodes on one machine.
    pub loopback: bool,
}

/// Which network interfaces are used.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interfaces {
    /// Names that are not announced on; a final `*` stands for any ending.
    pub ignore: Vec<String>,
}

/// What the node may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory for the index's cache in MiB, 1 to 4,096.
    #[serde(deserialize_with = "cache_mib")]
    pub index_cache_mib: u64,
    /// Requests for contents that are answered at once, 1 to 256; beyond, others are to be asked, or later.
    #[serde(deserialize_with = "reads")]
    pub reads: u64,
}

/// What this node relays between members that cannot reach each other, if an admin declared it eligible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// Pairs of members at once, 0 to 1,000; 0: it relays nothing.
    #[serde(deserialize_with = "relay_pairs")]
    pub pairs: u64,
    /// Connections for contents at once, 0 to 1,000.
    #[serde(deserialize_with = "relay_pairs")]
    pub bulk: u64,
    /// MiB of contents a second, all pairs together, 0 to 10,000; 0: no bound.
    #[serde(deserialize_with = "relay_mib")]
    pub bulk_mib_s: u64,
}

/// How much the audit log keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// MiB after which a new file begins, 1 to 1,024.
    #[serde(deserialize_with = "file_mib")]
    pub file_mib: u64,
    /// Files kept, 2 to 100.
    #[serde(deserialize_with = "files")]
    pub files: u32,
}

/// What a node does that may be the office's server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coordinator {
    /// Where it receives folders of which it holds a copy; as other folders where nothing is said.
    pub folders: Option<AbsolutePath>,
}

/// When a burst of another node's deletions and replacements is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Changes of one node within the window that are let through, 0 to 10,000; 0 turns the guard off.
    #[serde(deserialize_with = "guard_changes")]
    pub changes: u32,
    /// The window in seconds, 1 to 86,400.
    #[serde(deserialize_with = "guard_window")]
    pub window_s: u64,
}

impl Default for Guard {
    fn default() -> Self {
        // A guess: nobody deletes or saves a hundred files by hand in ten minutes, and a program that encrypts them needs
        // seconds.
        Self { changes: 100, window_s: 600 }
    }
}

impl Guard {
    /// As the guard takes them.
    pub(super) fn limits(self) -> guard::Limits {
        guard::Limits { limit: self.changes * guard::CHANGE, window_ms: self.window_s * 1000 }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { landlock: true }
    }
}

impl Default for Audit {
    fn default() -> Self {
        // Some 80,000 lines in all. A guess: an office that changes a hundred rules a day keeps two years.
        Self { file_mib: 8, files: 4 }
    }
}

impl Default for Scan {
    fn default() -> Self {
        // Changes come by inotify; the scan finds what it lost. Syncthing's default is the same hour.
        Self { interval_s: 3600 }
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Self { mdns: true, loopback: false }
    }
}

impl Default for Interfaces {
    fn default() -> Self {
        // Bridges of containers and virtual machines: their addresses mean something on this machine only.
        let bridges = ["docker*", "br-*", "veth*", "virbr*", "cni*", "podman*", "lxcbr*", "lxdbr*"];
        Self { ignore: bridges.map(String::from).to_vec() }
    }
}

impl Default for Relay {
    fn default() -> Self {
        // A guess: a machine behind a firewall of its own needs a pair with everybody else of a large office. A pair
        // costs some 100 KiB, and up to 1 MiB while contents move.
        Self { pairs: 64, bulk: 16, bulk_mib_s: 0 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        // Fits a Raspberry Pi, and the budget of 80 MB resident with 50,000 files.
        // A guess: a disk is busy with far fewer, and each is up to 8 MiB of memory.
        Self { index_cache_mib: 16, reads: 16 }
    }
}

impl LogLevel {
    /// The level's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Interfaces {
    /// Whether an interface is left out.
    pub fn ignores(&self, name: &str) -> bool {
        self.ignore.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    }
}

/// A name that a node can have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeName(String);

/// `HOST:PORT`, where HOST is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort(String);

/// A path that does not depend on where the node was started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AbsolutePath(PathBuf);

impl NodeName {
    /// The name, if a node can have it.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(format!("a node's name has 1 to {NAME_BYTES_MAX} bytes and no control characters"));
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HostPort {
    /// The address, if it has that form. Nothing is looked up.
    pub fn new(text: &str) -> Result<Self, String> {
        let good = text.rsplit_once(':').is_some_and(|(host, port)| {
            let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            let host_fits = match bare {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => !host.is_empty() && host.len() <= 253 && !host.contains([':', '[', ']', '/', ' ']),
            };
            host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if good { Ok(Self(text.into())) } else { Err(format!("'{text}' is not HOST:PORT, such as 10.0.0.2:47474")) }
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AbsolutePath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::from(String::deserialize(deserializer)?);
        if path.is_absolute() { Ok(Self(path)) } else { Err(de::Error::custom("the path must start with /")) }
    }
}

fn scan_interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 60, 7 * 24 * 3600)
}

fn cache_mib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 1, 4096)
}

fn reads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 1, 256)
}

fn relay_pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 0, 1000)
}

fn relay_mib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 0, 10_000)
}

fn file_mib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 1, 1024)
}

fn files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 2, 100).map(|files| files as u32)
}

fn guard_changes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 0, 10_000).map(|changes| changes as u32)
}

fn guard_window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 1, 86_400)
}

fn within<'de, D: Deserializer<'de>>(deserializer: D, low: u64, high: u64) -> Result<u64, D::Error> {
    let value = u64::deserialize(deserializer)?;
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(de::Error::custom(format!("{value} is not between {low} and {high}")))
}

/// Why the configuration cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", shown(path))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too long or no text.
    #[error("the configuration {} is no text of at most {CONFIG_BYTES_MAX} bytes", shown(path))]
    NoText {
        /// Which file.
        path: PathBuf,
    },
    /// The file was made for a later version.
    #[error("the configuration {} has version {found}, this lanyard reads up to {VERSION}", shown(path))]
    Future {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// A line is wrong.
    #[error("the configuration {} is wrong in line {line}: {text}", shown(path))]
    Line {
        /// Which file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Config {
    /// Which of the machine's network interfaces are used.
    pub(super) fn selection(&self) -> Selection {
        let ignored = self.interfaces.ignore.iter().map(|name| name.trim_end_matches('*').to_string()).collect();
        Selection { loopback: self.discovery.loopback, ignored }
    }

    /// Which attributes of files a folder carries on this machine.
    pub fn looks(&self, name: &str, id: &str) -> Looks {
        let own = self.folder.get(id).or_else(|| self.folder.get(name)).copied().unwrap_or_default();
        Looks { xattrs: own.attributes, owner: own.ownership }
    }

    /// Reads the file; one that does not exist is an empty one.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.into(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut bytes = Vec::new();
        file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        match String::from_utf8(bytes) {
            Ok(text) if text.len() as u64 <= CONFIG_BYTES_MAX => Self::parse(path, &text),
            _ => Err(ConfigError::NoText { path: path.into() }),
        }
    }

    /// Whether more differs from what the node was started with than what may change while it runs.
    pub fn needs_restart(&self, started: &Self) -> bool {
        let alike =
            |config: &Self| Self { log: Log::default(), peers: Vec::new(), receive_into: None, ..config.clone() };
        alike(self) != alike(started)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |error: toml::de::Error| at_line(path, text, &error);
        let table: toml::Table = toml::from_str(text).map_err(wrong)?;
        // Before anything else: what else a later version changed, this one cannot know.
        if let Some(found) = table.get("version").and_then(toml::Value::as_integer).filter(|v| *v > VERSION) {
            return Err(ConfigError::Future { path: path.into(), found });
        }
        let config: Self = toml::from_str(text).map_err(wrong)?;
        if config.version.is_some_and(|version| version < 1) || config.peers.len() > PEERS_MAX {
            let why = format!("version is 1, and peers has at most {PEERS_MAX} addresses");
            return Err(ConfigError::Line { path: path.into(), line: 1, text: first_line(text, 1), why });
        }
        Ok(config)
    }
}

impl ConfigError {
    /// The failure that people read.
    pub fn to_failure(&self) -> Failure {
        let kind = if matches!(self, Self::Future { .. }) { FailureKind::TooOld } else { FailureKind::Failed };
        let failure = Failure::new(kind, self.to_string());
        match self {
            Self::Unreadable { source, .. } => {
                failure.because(source).hint("check the file's permissions, or move it away to start with the defaults")
            }
            Self::NoText { .. } => failure.hint("move the file away to start with the defaults"),
            Self::Future { .. } => failure.hint("update lanyard on this machine, or move the file away"),
            Self::Line { why, .. } => {
                failure.why(why.clone()).hint("docs/CONFIGURATION.md lists every key; correct the line and start again")
            }
        }
    }
}

fn at_line(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count() + 1;
    let why = error.message().lines().collect::<Vec<_>>().join(", ").replace('`', "'");
    ConfigError::Line { path: path.into(), line, text: first_line(text, line), why }
}

fn first_line(text: &str, line: usize) -> String {
    text.lines().nth(line - 1).unwrap_or("").trim().chars().filter(|c| !c.is_control()).take(80).collect()
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/etc/lanyard/config.toml"), text)
    }

    #[test]
    fn a_missing_file_is_the_defaults_that_the_page_names() {
        let config = Config::read(Path::new("/nowhere/config.toml")).expect("defaults");
        assert_eq!(config, Config::default());
        let page = include_str!("../../docs/CONFIGURATION.md");
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let uncommented = example.replace("#: ", "");
        assert_eq!(parse(example).expect("the page's defaults"), Config { version: Some(1), ..Config::default() });
        let full = parse(&uncommented).expect("the page's examples");
        assert_eq!(full.peers.len(), 2);
        assert!(full.name.is_some() && full.port.is_some() && full.receive_into.is_some());
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number_and_reason() {
        let cases = [
            ("name = \"a\"\nprot = 47474\n", 2, "unknown field 'prot'"),
            ("port = 100000\n", 1, "100000"),
            ("[scan]\ninterval_s = 1\n", 2, "between 60 and 604800"),
            ("peers = [\"10.0.0.2\"]\n", 1, "HOST:PORT"),
            ("receive_into = \"docs\"\n", 1, "must start with /"),
            ("name = \"\"\n", 1, "1 to"),
            ("port = \n", 1, ""),
            ("[limits]\nindex_cache_mib = 0\n", 2, "between 1 and 4096"),
            ("[limits]\nreads = 0\n", 2, "between 1 and 256"),
            ("[relay]\npairs = 1001\n", 2, "between 0 and 1000"),
            ("[relay]\nbulk_mib_s = 10001\n", 2, "between 0 and 10000"),
            ("version = \"1\"\n", 1, "invalid type"),
            ("[versions]\nkeep = \"soon\"\n", 2, "such as 30d"),
            ("[folder.plans]\nxattrs = true\n", 2, "unknown field 'xattrs'"),
            ("[versions]\nkeep = \"1h\"\n", 2, "between 1 and 3650 days"),
            ("[versions]\nmax_percent = 0\n", 2, "between 1 and 90"),
            ("[versions]\nmax_gib = 0\n", 2, "between 1 and"),
            ("[archive]\nevery = \"1s\"\n", 2, "between 1m and 720h"),
            ("[archive]\npath = \"backup\"\n", 2, "must start with /"),
            ("[versions.folder.plans]\nkept = \"1d\"\n", 2, "unknown field 'kept'"),
        ];
        for (text, line, why) in cases {
            let error = parse(text).expect_err(text);
            let failure = error.to_failure();
            assert!(failure.what.contains(&format!("in line {line}:")), "{failure:?}");
            assert!(failure.what.contains("/etc/lanyard/config.toml"), "{failure:?}");
            assert!(failure.why[0].contains(why), "{failure:?}");
        }
    }

    #[test]
    fn a_file_of_a_later_version_is_refused_as_a_whole() {
        let error = parse("version = 2\nnew_thing = true\n").expect_err("future");
        assert!(matches!(error, ConfigError::Future { found: 2, .. }), "{error}");
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["10.0.0.2:47474", "workshop.example:1", "[fe80::1]:47474", "workshop:47474"] {
            assert!(HostPort::new(good).is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.2", ":47474", "a:0", "a:70000", "::1:47474", "[x]:1", "a b:1", "http://a:1"] {
            assert!(HostPort::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn container_bridges_are_left_out() {
        let interfaces = Interfaces::default();
        assert!(interfaces.ignores("docker0") && interfaces.ignores("br-1a2b"));
        assert!(!interfaces.ignores("eth0") && !interfaces.ignores("br0"));
    }
}
