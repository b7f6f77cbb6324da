//! The walls of the house: checks over the tree's own text that no compiler makes.
//!
//! One crate gives up the walls that separate crates would give; these checks stand in for them. Imports point
//! down only, pure layers stay pure, every file says what it is for, links in the documents lead somewhere.
//! Each check is a function from text to faults, and each is fed bad text too: a check that cannot fail is none.
//!
//! An exception is a line in a table here, with its reason; one that is not needed any more is a fault itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// For each layer the layers it may import. The order is that of `docs/ARCHITECTURE.md`, bottom up.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &["base"]),
    ("wire", &["base", "wire"]),
    ("logic", &["base", "wire", "logic"]),
    ("shell", &["base", "wire", "logic", "shell"]),
    ("node", &["base", "wire", "logic", "shell", "node"]),
    ("coordinator", &["base", "wire", "logic", "shell", "coordinator"]),
    ("cli", &["cli"]),
];

/// Layers without async, clock, entropy, disk and socket.
const PURE: &[&str] = &["base", "wire", "logic"];

/// Imports against the table: (file, what it imports, why).
const UPWARD: &[(&str, &str, &str)] = &[
    ("src/cli/up.rs", "node", "`up` is the node: there is no node yet that it could ask"),
    ("src/cli/client.rs", "node", "the node's places say where its socket is, also while no node runs to be asked"),
    ("src/cli/doctor.rs", "node", "the machine is examined also while no node runs that could be asked"),
    ("src/cli/up.rs", "shell", "a start under a service manager is told to the journal instead of a screen"),
    ("src/cli/service/allow.rs", "shell", "root opens a directory to the group; the node has no right to"),
    ("src/cli/logging.rs", "node", "the level comes from the configuration, and is needed before a node runs"),
    ("src/cli/logging.rs", "shell", "where the log goes is asked of the system, before a node runs"),
];

/// Pure files that may name a hash map: (file, why its order is never seen).
const HASH_MAPS: &[(&str, &str)] = &[];

/// Files beyond `LINES_MAX`: (file, why it is not cut).
const LONG: &[(&str, &str)] = &[];

/// Longest file. Source: the house style; what is longer is read by nobody.
const LINES_MAX: usize = 800;

/// Paths that a pure layer may not name: the outside world, and what draws chance or time from it.
const OUTSIDE: &[&[&str]] = &[
    &["std", "fs"],
    &["std", "net"],
    &["std", "thread"],
    &["std", "process"],
    &["std", "env"],
    &["std", "io", "stdin"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["std", "os"],
    &["async_std"],
    &["async_io"],
    &["async_channel"],
    &["async_lock"],
    &["async_signal"],
    &["blocking"],
    &["futures_lite"],
    &["futures_rustls"],
    &["getrandom"],
    &["rand"],
    &["rustix"],
    &["notify"],
    &["redb"],
    &["mdns_sd"],
    &["hyper"],
    &["if_addrs"],
    &["jiff", "tz", "TimeZone", "system"],
    &["directories"],
];

/// Names that a pure layer may not use, from wherever they come.
const OUTSIDE_NAMES: &[&str] = &[
    "async",
    "await",
    "Instant",
    "SystemTime",
    "OsRng",
    "SysRng",
    "thread_rng",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Mutex",
    "RwLock",
    "OnceLock",
    "thread_local",
];

// ---------------------------------------------------------------------------------------------- the tree

#[test]
fn imports_point_down_only() {
    let mut used = BTreeSet::new();
    let faults = over("src", |file| imports(file, &mut used));
    let stale = UPWARD.iter().filter(|(path, to, _)| root().join(path).exists() && !used.contains(&(*path, *to)));
    none(faults.into_iter().chain(stale.map(|(path, to, _)| format!("{path}: the exception for {to} is not needed"))));
}

#[test]
fn pure_layers_touch_nothing_outside() {
    none(over("src", purity));
}

#[test]
fn the_runtime_is_named_in_one_file() {
    none(["src", "tests", "benches"].into_iter().flat_map(|dir| over(dir, runtime)));
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    none(["src", "tests", "benches"].into_iter().flat_map(|dir| over(dir, shape)));
}

#[test]
fn nothing_is_left_for_later() {
    none(["src", "tests", "benches"].into_iter().flat_map(|dir| over(dir, leftovers)));
}

#[test]
fn names_say_what_a_thing_is() {
    none(over("src", names));
}

#[test]
fn links_in_documents_lead_somewhere() {
    none(files("", &["md"]).iter().flat_map(links));
}

#[test]
fn every_domain_string_is_used_once_and_specified() {
    let specified: String = files("docs/spec", &["md"]).iter().map(|file| file.text.as_str()).collect();
    none(domains(&files("src", &["rs"]), &specified));
}

#[test]
fn the_tree_knows_no_machine_and_no_registry_host() {
    let mut all = files("", &["rs", "md", "toml", "sh", "json", "txt"]);
    all.extend([".ci/run", "tests/run", "tests/fuzz/run"].iter().filter_map(|path| Text::read(path)));
    none(all.iter().flat_map(machine_paths));
    assert!(!root().join(".cargo").exists(), "the tree chooses no registry and no build settings of its own");
}

// ------------------------------------------------------------------------------------- the checks can fail

#[test]
fn an_import_that_points_up_is_found() {
    let bad = [
        ("src/base/id.rs", "use crate::wire::codec;"),
        ("src/base/id.rs", "use super::super::wire::codec;"),
        ("src/wire.rs", "use super::logic;"),
        ("src/wire/message.rs", "fn f() { crate::logic::policy::evaluate() }"),
        ("src/wire/message.rs", "use crate::{base::NodeId, shell::{rt, clock}};"),
        ("src/logic/policy/evaluate.rs", "pub(crate) use crate::shell::clock::Clock;"),
        ("src/shell/net/dial.rs", "use crate::node::config::Config;"),
        ("src/coordinator/web.rs", "use crate::cli::json;"),
        ("src/cli/nodes.rs", "use crate::base::NodeId;"),
        ("src/cli/nodes.rs", "use crate::wire::{api::Node, codec};"),
        ("src/cli/nodes.rs", "use crate::wire;"),
        ("src/main.rs", "fn main() { lanyard::node::run() }"),
        ("src/base/id.rs", "use crate as all;"),
        ("src/base/id.rs", "use crate::*;"),
    ];
    for (path, text) in bad {
        assert!(!imports(&Text::of(path, text), &mut BTreeSet::new()).is_empty(), "{path}: {text}");
    }
    let good = [
        ("src/wire/batch.rs", "use crate::base::{NodeId, id::MeshId}; use super::codec; // crate::shell"),
        ("src/logic/policy.rs", "mod tests { use super::*; const WHERE: &str = \"crate::shell\"; }"),
        ("src/logic/sync/index.rs", "use super::super::policy::Permit; use super::super::super::base::RelPath;"),
        ("src/cli/nodes.rs", "use crate::wire::api::{Node, Nodes}; use super::client;"),
        ("src/lib.rs", "pub mod base; pub mod cli;"),
        ("src/main.rs", "fn main() { lanyard::cli::main() }"),
    ];
    for (path, text) in good {
        let faults = imports(&Text::of(path, text), &mut BTreeSet::new());
        assert!(faults.is_empty(), "{path}: {text}: {faults:?}");
    }
}

#[test]
fn an_outside_thing_in_a_pure_layer_is_found() {
    let bad = [
        "async fn f() {}",
        "fn f() { g().await }",
        "use std::fs::File;",
        "use std::{fmt, fs};",
        "fn f() { std::thread::spawn(g); }",
        "use std::time::{Duration, Instant};",
        "fn f() -> std::time::SystemTime { todo }",
        "fn f(b: &mut [u8]) { getrandom::fill(b) }",
        "use std::net::TcpStream;",
        "use std::collections::HashMap;",
        "fn f(seen: &std::collections::HashSet<u8>) {}",
        "use std::sync::Mutex;",
        "fn f() -> u64 { jiff::Timestamp::now().as_second() as u64 }",
    ];
    for text in bad {
        for layer in PURE {
            assert!(!purity(&Text::of(&format!("src/{layer}/x.rs"), text)).is_empty(), "{layer}: {text}");
        }
        assert!(purity(&Text::of("src/shell/x.rs", text)).is_empty(), "the shell may: {text}");
    }
    let good = [
        "use std::time::Duration; use core::net::SocketAddr; // no std::fs, no async",
        "fn f() -> &'static str { \"std::fs \\\" async\" } fn g<'a>(c: char, d: &'a u8) -> bool { c == '\"' }",
        "const A: &str = r#\"std::thread \" HashMap\"#; /* std::fs /* nested */ async */ fn f() {}",
        "fn f() {}\n#[cfg(test)]\nmod tests { use std::collections::HashMap; }",
    ];
    for text in good {
        let faults = purity(&Text::of("src/logic/x.rs", text));
        assert!(faults.is_empty(), "{text}: {faults:?}");
    }
}

#[test]
fn the_runtime_outside_its_file_is_found() {
    let text = "use async_std::task;";
    assert!(!runtime(&Text::of("src/shell/net.rs", text)).is_empty());
    assert!(!runtime(&Text::of("src/main.rs", "#[async_std::main] async fn main() {}")).is_empty());
    assert!(runtime(&Text::of("src/shell/rt.rs", text)).is_empty());
    assert!(runtime(&Text::of("src/shell/net.rs", "// not async_std")).is_empty());
}

#[test]
fn a_file_without_purpose_or_too_long_is_found() {
    assert!(!shape(&Text::of("src/base/x.rs", "pub fn f() {}")).is_empty());
    assert!(!shape(&Text::of("src/base/x.rs", "//!\npub fn f() {}")).is_empty());
    let long = format!("//! What it is for.\n{}", "\n".repeat(LINES_MAX));
    assert!(!shape(&Text::of("src/base/x.rs", &long)).is_empty());
    assert!(shape(&Text::of("src/base/x.rs", "//! What it is for.\n")).is_empty());
}

#[test]
fn a_stub_or_an_ignored_test_is_found() {
    for text in ["fn f() { todo!() }", "fn f() { unimplemented!(\"x\") }", "fn f() { dbg!(1); }", "#[ignore] fn f() {}"]
    {
        assert!(!leftovers(&Text::of("src/base/x.rs", text)).is_empty(), "{text}");
    }
    assert!(leftovers(&Text::of("src/base/x.rs", "// todo!()\nfn ignore(dbg: u8) {}")).is_empty());
}

#[test]
fn a_name_that_says_nothing_is_found() {
    for text in ["fn get_path() {}", "pub struct LinkManager;", "trait PathHelper {}"] {
        assert!(!names(&Text::of("src/base/x.rs", text)).is_empty(), "{text}");
    }
    assert!(!names(&Text::of("src/shell/utils.rs", "//! Things.")).is_empty());
    assert!(names(&Text::of("src/cli/get.rs", "fn get() {} fn get_mut() {} fn budget_ms() {}")).is_empty());
}

#[test]
fn a_dead_link_is_found() {
    assert!(!links(&Text::of("docs/x.md", "[a](no-such-page.md)")).is_empty());
    assert!(!links(&Text::of("README.md", "<img src=\"docs/no-such.svg\">")).is_empty());
    assert!(!links(&Text::of("README.md", "[a](/etc/passwd)")).is_empty());
    assert!(!links(&Text::of("README.md", "[a](Cargo.toml#no) [b](#no-such-heading)")).is_empty());
    let good = "# Some *heading*, here\n[a](Cargo.toml) [b](https://example.org/x) [c](#some-heading-here) `[d](x)`\n```\n[e](x)\n```";
    let faults = links(&Text::of("README.md", good));
    assert!(faults.is_empty(), "{faults:?}");
    assert!(!pages(&Text::of("src/wire/x.rs", "//! Page: `docs/spec/no-such.md`.")).is_empty());
}

#[test]
fn a_domain_string_that_is_shared_or_unspecified_is_found() {
    let hash = |path: &str| Text::of(path, concat!("hash(\"lanyard", " 1 batch hash\")"));
    let specified = concat!("`lanyard", " 1 batch hash`");
    assert!(domains(&[hash("src/wire/a.rs")], specified).is_empty());
    assert!(!domains(&[hash("src/wire/a.rs"), hash("src/wire/b.rs")], specified).is_empty());
    assert!(!domains(&[hash("src/wire/a.rs")], "").is_empty());
}

#[test]
fn a_machine_path_or_a_registry_host_is_found() {
    for text in [
        concat!("see ", "/wo", "rk/main"),
        concat!("cd ", "/ro", "ot/x"),
        concat!("'/t", "mp/lab'"),
        concat!("https://reg", "istry.example/x"),
        concat!("http://py", "pi.example:8080/simple"),
    ] {
        assert!(!machine_paths(&Text::of("docs/x.md", text)).is_empty(), "{text}");
    }
    for text in ["homework/main", "/srv/share", "https://example.org/index.html", "a registry over https"] {
        assert!(machine_paths(&Text::of("docs/x.md", text)).is_empty(), "{text}");
    }
}

// --------------------------------------------------------------------------------------------- the checks

fn imports(file: &Text, used: &mut BTreeSet<(&'static str, &'static str)>) -> Vec<String> {
    let module = module_of(&file.path);
    let main = file.path == "src/main.rs";
    let from = if main { "main" } else { module.first().map_or("lib", String::as_str) };
    let mut faults = Vec::new();
    for (line, path) in paths(&file.code) {
        let Some(target) = resolve(&module, &path, main) else { continue };
        let Some(to) = target.first() else { continue };
        let layer = LAYERS.iter().find(|(name, _)| name == to);
        let all = to == "*" && path.first().is_some_and(|p| p == "crate");
        let exception = UPWARD.iter().find(|(path, layer, _)| *path == file.path && layer == to);
        let api = to == "wire" && target.get(1).is_some_and(|m| m == "api");
        let allowed = match (from, layer) {
            _ if all => false,
            (_, None) => true,
            ("main", _) => to == "cli",
            ("lib", _) => true,
            ("cli", _) if api => true,
            _ => LAYERS.iter().any(|(name, below)| *name == from && below.contains(&to.as_str())),
        };
        if allowed {
            continue;
        }
        match exception {
            Some((path, layer, _)) => {
                used.insert((path, layer));
            }
            None => faults.push(format!("{}:{line}: {from} may not import {}", file.path, target.join("::"))),
        }
    }
    if file.code.contains("crate as ") {
        faults.push(format!("{}: the crate gets no second name", file.path));
    }
    faults
}

/// The path from the crate's root that `path`, written in `module`, means; `None` where it is not of this crate.
fn resolve(module: &[String], path: &[String], main: bool) -> Option<Vec<String>> {
    match path.first()?.as_str() {
        "crate" if !main => Some(path[1..].to_vec()),
        "lanyard" if main => Some(path[1..].to_vec()),
        "super" => {
            let ups = path.iter().take_while(|p| *p == "super").count();
            let above = module.len().checked_sub(ups)?;
            Some(module[..above].iter().chain(&path[ups..]).cloned().collect())
        }
        _ => None,
    }
}

fn purity(file: &Text) -> Vec<String> {
    let module = module_of(&file.path);
    if !module.first().is_some_and(|layer| PURE.contains(&layer.as_str())) {
        return Vec::new();
    }
    // Tests come last in a file; they may use what they like to check with.
    let code = file.code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut faults = Vec::new();
    for (line, path) in paths(code) {
        let at = format!("{}:{line}", file.path);
        let begins = |with: &&[&str]| path.len() >= with.len() && path.iter().zip(*with).all(|(a, b)| a == b);
        if let Some(outside) = OUTSIDE.iter().find(|with| begins(with)) {
            faults.push(format!("{at}: {} is outside; core::net has addresses as values", outside.join("::")));
        }
        if path.len() > 1 && path.last().is_some_and(|name| name == "now") {
            faults.push(format!("{at}: {} reads a clock", path.join("::")));
        }
        for name in &path {
            if OUTSIDE_NAMES.contains(&name.as_str()) {
                faults.push(format!("{at}: a pure layer has no `{name}`"));
            }
            let hash = name == "HashMap" || name == "HashSet";
            if hash && !HASH_MAPS.iter().any(|(path, _)| *path == file.path) {
                faults
                    .push(format!("{at}: a {name} has no order; use a BTree one, or say why its order is never seen"));
            }
        }
    }
    faults
}

fn runtime(file: &Text) -> Vec<String> {
    if file.path == "src/shell/rt.rs" {
        return Vec::new();
    }
    let hits = paths(&file.code).into_iter().filter(|(_, path)| path.iter().any(|p| p == "async_std"));
    hits.map(|(line, _)| format!("{}:{line}: async_std belongs in src/shell/rt.rs", file.path)).collect()
}

fn shape(file: &Text) -> Vec<String> {
    let mut faults = Vec::new();
    let purpose = file.text.lines().next().and_then(|first| first.strip_prefix("//! "));
    if purpose.is_none_or(str::is_empty) {
        faults.push(format!("{}: opens with no `//!` line that says what it is for", file.path));
    }
    let lines = file.text.lines().count();
    if lines > LINES_MAX && !LONG.iter().any(|(path, _)| *path == file.path) {
        faults.push(format!("{}: {lines} lines are more than {LINES_MAX}", file.path));
    }
    faults
}

fn leftovers(file: &Text) -> Vec<String> {
    let tokens = tokens(&file.code);
    let mut faults = Vec::new();
    for trio in tokens.windows(3) {
        let [(line, a), (_, b), (_, c)] = trio else { continue };
        if matches!(a.as_str(), "todo" | "unimplemented" | "dbg") && b == "!" && matches!(c.as_str(), "(" | "[" | "{") {
            faults.push(format!("{}:{line}: `{a}!` is left", file.path));
        }
        if a == "#" && b == "[" && c == "ignore" {
            faults.push(format!("{}:{line}: a test is ignored", file.path));
        }
    }
    faults
}

fn names(file: &Text) -> Vec<String> {
    let mut faults = Vec::new();
    let stem = file.path.rsplit('/').next().unwrap_or_default();
    if matches!(stem, "util.rs" | "utils.rs" | "helper.rs" | "helpers.rs" | "misc.rs" | "common.rs") {
        faults.push(format!("{}: the file's name says nothing", file.path));
    }
    for pair in tokens(&file.code).windows(2) {
        let [(line, keyword), (_, name)] = pair else { continue };
        let empty = match keyword.as_str() {
            "fn" => name.starts_with("get_") && name != "get_mut",
            "struct" | "enum" | "trait" | "type" => name.ends_with("Manager") || name.ends_with("Helper"),
            _ => false,
        };
        if empty {
            faults.push(format!("{}:{line}: the name {name} says nothing", file.path));
        }
    }
    faults
}

fn links(file: &Text) -> Vec<String> {
    let text = without_code(&file.text);
    let dir = root().join(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
    let mut targets: Vec<&str> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    targets.extend(text.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next()));
    let mut faults = Vec::new();
    for target in targets {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (page, anchor) = target.split_once('#').map_or((target, None), |(page, anchor)| (page, Some(anchor)));
        let path = dir.join(page);
        if page.starts_with('/') || (!page.is_empty() && !path.exists()) {
            faults.push(format!("{}: {target} leads nowhere", file.path));
            continue;
        }
        let Some(anchor) = anchor else { continue };
        let other = if page.is_empty() { file.text.clone() } else { fs::read_to_string(&path).unwrap_or_default() };
        let headings = other.lines().filter(|line| line.starts_with('#')).map(slug);
        if !headings.into_iter().any(|slug| slug == anchor) {
            faults.push(format!("{}: {target} names no heading", file.path));
        }
    }
    faults
}

/// Domain strings keep a hash or signature for one thing from standing for another: each has one use.
fn domains(sources: &[Text], specified: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for file in sources {
        for rest in file.text.split("\"lanyard 1 ").skip(1) {
            let name = rest.split(['"', '\\']).next().unwrap_or_default();
            if !seen.insert(name) {
                faults.push(format!("{}: the domain string 'lanyard 1 {name}' is used twice", file.path));
            }
            if !specified.contains(&format!("`lanyard 1 {name}`"))
                && !specified.contains(&format!("\"lanyard 1 {name}\""))
            {
                faults.push(format!("{}: no page of docs/spec names 'lanyard 1 {name}'", file.path));
            }
        }
    }
    faults
}

/// Pages of the specification that a source file names.
fn pages(file: &Text) -> Vec<String> {
    let named = file.text.split('`').filter(|word| word.starts_with("docs/") && word.ends_with(".md"));
    let dead = named.filter(|page| !root().join(page).exists());
    dead.map(|page| format!("{}: there is no page {page}", file.path)).collect()
}

fn machine_paths(file: &Text) -> Vec<String> {
    const PATHS: &[&str] =
        &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/t", "mp/wt"), concat!("/t", "mp/lab")];
    // In two parts, so that this file does not find itself.
    const HOSTS: &[&str] = &[
        concat!("reg", "istry."),
        concat!("ind", "ex.crates"),
        concat!("stat", "ic.crates"),
        concat!("mir", "ror."),
        concat!("pro", "xy."),
        concat!("py", "pi."),
        concat!("de", "b.debian"),
    ];
    let mut faults = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let own = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '}' || c == '"');
        if PATHS.iter().any(|path| line.match_indices(path).any(|(at, _)| own(at))) {
            faults.push(format!("{}:{}: names a path of one machine", file.path, number + 1));
        }
        let hosts = line.split("://").skip(1).map(|rest| rest.split(['/', ' ', '"', ')']).next().unwrap_or_default());
        let registry = |host: &str| HOSTS.iter().any(|part| host.contains(part));
        if hosts.into_iter().any(registry) {
            faults.push(format!("{}:{}: names the host of a registry", file.path, number + 1));
        }
    }
    faults
}

// ----------------------------------------------------------------------------------------------- reading

/// One file: its path from the root, its text, and the text with comments, strings and characters blanked.
struct Text {
    path: String,
    text: String,
    code: String,
}

impl Text {
    fn of(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
        Self { path: path.into(), text: text.into(), code }
    }

    fn read(path: &str) -> Option<Self> {
        fs::read_to_string(root().join(path)).ok().map(|text| Self::of(path, &text))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn none(faults: impl IntoIterator<Item = String>) {
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn over(dir: &str, mut check: impl FnMut(&Text) -> Vec<String>) -> Vec<String> {
    files(dir, &["rs"]).iter().flat_map(&mut check).collect()
}

/// All files of the tree below `dir` with one of these endings, in order, without what a build makes.
fn files(dir: &str, endings: &[&str]) -> Vec<Text> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        let Ok(list) = fs::read_dir(&dir) else { continue };
        for entry in list.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                let built = name.starts_with("target") || name == ".git" || name == "corpus" || name == "artifacts";
                if !built {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|end| endings.iter().any(|e| end == *e)) {
                found.push(path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found.iter().filter_map(|path| Text::read(path)).collect()
}

/// The module that a file below `src` holds, from the crate's root.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("src/").and_then(|p| p.strip_suffix(".rs")).unwrap_or_default();
    if matches!(inner, "lib" | "main") { Vec::new() } else { inner.split('/').map(str::to_string).collect() }
}

/// The code with comments, strings and characters blanked; lines stay where they are.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    let is = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    while at < chars.len() {
        let end = if is(at, "//") {
            (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())
        } else if is(at, "/*") {
            let mut depth = 0;
            let mut i = at;
            loop {
                if is(i, "/*") {
                    depth += 1;
                    i += 2;
                } else if is(i, "*/") {
                    depth -= 1;
                    i += 2;
                } else {
                    i += 1;
                }
                if depth == 0 || i >= chars.len() {
                    break i.min(chars.len());
                }
            }
        } else if chars[at] == 'r' && (is(at + 1, "\"") || is(at + 1, "#\"") || is(at + 1, "##\"")) {
            let hashes = (at + 1..).take_while(|i| chars.get(*i) == Some(&'#')).count();
            let close = format!("\"{}", "#".repeat(hashes));
            (at + 2 + hashes..chars.len()).find(|i| is(*i, &close)).map_or(chars.len(), |i| i + close.len())
        } else if chars[at] == '"' {
            let mut i = at + 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            (i + 1).min(chars.len())
        } else if is(at, "'\\") {
            (at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(chars.len(), |i| i + 1)
        } else if chars[at] == '\'' && chars.get(at + 2) == Some(&'\'') {
            at + 3
        } else {
            code.push(chars[at]);
            at += 1;
            continue;
        };
        code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Words, `::` and single signs, each with its line.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let length = if word(first) {
                rest.find(|c| !word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((number + 1, rest[..length].to_string()));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Every path in the code with its line; `a::{b, c::d}` counts as `a::b` and `a::c::d`.
fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = if is_word(&tokens[at].1) { path(&tokens, at, &[], &mut found) } else { at + 1 };
    }
    found
}

fn path(tokens: &[(usize, String)], at: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let sign = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
    let line = tokens[at].0;
    let mut path: Vec<String> = prefix.to_vec();
    path.push(tokens[at].1.clone());
    let mut at = at + 1;
    while sign(at) == "::" {
        at += 1;
        if is_word(sign(at)) || sign(at) == "*" {
            path.push(sign(at).to_string());
            at += 1;
        } else if sign(at) == "{" {
            at += 1;
            while at < tokens.len() && sign(at) != "}" {
                at = if is_word(sign(at)) || sign(at) == "*" { self::path(tokens, at, &path, found) } else { at + 1 };
            }
            return at + 1;
        } else {
            break;
        }
    }
    found.push((line, path));
    at
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// A document without its code blocks and code spans.
fn without_code(text: &str) -> String {
    let mut fenced = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            out.extend(line.split('`').step_by(2));
            out.push('\n');
        }
    }
    out
}

/// The anchor that a heading gets.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
