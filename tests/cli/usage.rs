//! What needs no node: usage, help, completions, the manual, the places of a start.

use std::fs;
use std::process::Stdio;

use crate::node::{Node, below, finish, lanyard, run};

const COMMANDS: &[&str] = &[
    "up",
    "status",
    "nodes",
    "invite",
    "join",
    "leave",
    "share",
    "folders",
    "get",
    "drop",
    "grant",
    "revoke",
    "rules",
    "group",
    "expel",
    "role",
    "rename",
    "retire",
    "recover",
    "coordinator",
    "archive",
    "conflicts",
    "versions",
    "restore",
    "revert",
    "late",
    "reinstate",
    "audit",
    "wait",
    "events",
    "demo",
    "completions",
    "man",
];

#[test]
fn help_names_every_command_and_goes_to_stdout() {
    let ran = run(&["--help"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    for command in COMMANDS.iter().copied() {
        assert!(ran.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}");
        let help = run(&[command, "--help"]);
        assert_eq!(help.status, 0, "{command}");
        assert!(help.stdout.contains("Usage: lanyard "), "{command}");
    }
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(run(&["--version"]).stdout, format!("lanyard {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_asked_wrongly_ends_with_status_2_and_says_so_on_stderr() {
    let cases: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["grant", "everyone", "plans"],
        &["grant", "everyone", "plans", "all"],
        &["grant", "everyone", "plans", "read", "--until", "soon"],
        &["grant", "everyone", "plans", "read", "--until", "1y"],
        &["revoke", "everyone"],
        &["rules", "plans", "books"],
        &["group"],
        &["group", "add", "books"],
        &["expel"],
        &["role", "workshop", "boss"],
        &["rename", "workshop"],
        &["rename", "--mesh", "a", "b"],
        &["rename", "--mesh", "--folder", "a", "b"],
        &["retire"],
        &["revert"],
        &["versions"],
        &["restore", "plans"],
        &["restore", "plans", "--at", "yesterday"],
        &["restore", "plans", "--at", "1y"],
        &["restore", "plans", "--at", "1h", "--to", ""],
        &["archive", "password"],
        &["archive", "burn"],
        &["coordinator", "allow"],
        &["conflicts", "resolve", "plans/x"],
        &["conflicts", "resolve", "plans/x", "--keep", "all"],
        &["conflicts", "plans", "resolve"],
        &["late", "keep"],
        &["late", "plans", "keep"],
        &["reinstate"],
        &["audit", "--last", "0"],
        &["status", "now"],
        &["status", "--yaml"],
        &["--home", "", "status"],
        &["invite", "--expires", "10"],
        &["invite", "--expires", "0s"],
        &["invite", "--expires", "9999h"],
        &["invite", "--role", "boss"],
        &["invite", "--folder", "plans"],
        &["invite", "--folder", "plans=all"],
        &["invite", "--folder", "=read"],
        &["join"],
        &["join", "4-a-b", "--at", "workshop"],
        &["join", "4-a-b", "--name", ""],
        &["join", "4-a-b", "--into", "x", "--no-folders"],
        &["share"],
        &["share", "x", "--everyone", "manage"],
        &["get"],
        &["drop"],
        &["wait", "--timeout", "soon"],
        &["up", "--port", "70000"],
        &["up", "--name", "a\nb"],
        &["completions", "cobol"],
    ];
    for args in cases.iter().copied() {
        let ran = run(args);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{args:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn without_a_node_every_command_ends_with_status_3_and_says_how_to_start_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, home) = below(dir.path(), "no node");
    let cases: &[&[&str]] = &[
        &["status"],
        &["nodes"],
        &["invite"],
        &["join", "4-harvest-violin"],
        &["leave"],
        &["share", "."],
        &["folders"],
        &["get", "plans"],
        &["drop", "plans"],
        &["wait"],
        &["events"],
        &["grant", "everyone", "plans", "read"],
        &["revoke", "everyone", "plans"],
        &["rules"],
        &["group", "list"],
        &["expel", "attic"],
        &["role", "attic", "admin"],
        &["retire", "plans"],
        &["recover"],
        &["revert", "plans"],
        &["versions", "plans/x"],
        &["restore", "plans/x", "--at", "1h"],
        &["archive"],
        &["archive", "snapshot"],
        &["archive", "password", "--new"],
        &["coordinator", "allow", "attic"],
        &["conflicts"],
        &["conflicts", "resolve", "plans/x", "--keep", "both"],
        &["late"],
        &["late", "keep", "attic"],
        &["reinstate", "attic"],
        &["audit"],
    ];
    for args in cases.iter().copied() {
        let ran = run(&[&["--home", &home], args].concat());
        assert_eq!((ran.status, ran.stdout.as_str()), (3, ""), "{args:?}");
        let expected = format!(
            "error: no node is running here\n  caused by: nothing answers on {home}/lanyard.sock\n  \
             hint: start one with 'lanyard --home '{home}' up'\n"
        );
        assert_eq!(ran.stderr, expected, "{args:?}");
    }
}

#[test]
fn without_home_the_users_node_is_looked_for_before_the_machines() {
    let ran = run(&["status"]);
    assert_eq!(ran.status, 3);
    let places: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("nothing answers on")).collect();
    assert!(places.last().expect("looked").ends_with("/run/lanyard/lanyard.sock"), "{places:?}");
    assert!(places.iter().any(|line| line.contains("/.local/share/lanyard/run/")), "{places:?}");
    assert!(ran.stderr.ends_with("hint: start one with 'lanyard up'\n"));
}

#[test]
fn the_home_of_the_environment_is_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = lanyard(dir.path()).env("LANYARD_HOME", dir.path()).arg("status").output().expect("it runs");
    let ran = finish(output);
    assert!(ran.stderr.contains(dir.path().to_str().expect("UTF-8")), "{}", ran.stderr);
    let empty = finish(lanyard(dir.path()).env("LANYARD_HOME", "").arg("status").output().expect("it runs"));
    assert_eq!(empty.status, 3);
    assert!(empty.stderr.contains("/run/lanyard/"), "{}", empty.stderr);
}

#[test]
fn completions_know_the_commands_and_their_words() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{shell}");
        assert!(ran.stdout.contains("invite"), "{shell}");
    }
    assert!(run(&["completions", "bash"]).stdout.contains("none read write"));
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let ran = run(&["man"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains(".TH lanyard 1"));
    for command in COMMANDS {
        assert!(ran.stdout.contains(&format!(".TH lanyard-{command} 1")), "{command}");
    }
    // Help that clap adds to itself is no command of ours.
    assert!(!ran.stdout.contains(".TH lanyard-help"));
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_program_quietly() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = lanyard(dir.path());
    let child = command.arg("man").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("it runs");
    drop(child.stdout.take());
    let ran = finish(child.wait_with_output().expect("it ends"));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_wrong_configuration_stops_the_start_with_file_line_and_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("config.toml"), "name = \"front-desk\"\nprot = 47474\n").expect("written");
    let home = dir.path().to_str().expect("UTF-8");
    let ran = run(&["--home", home, "up"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    let first = ran.stderr.lines().next().expect("an error");
    assert!(first.starts_with("error: the configuration ") && first.ends_with("is wrong in line 2: prot = 47474"));
    assert!(ran.stderr.contains("caused by: unknown field 'prot'"), "{}", ran.stderr);
}

#[test]
fn a_log_level_that_is_none_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = lanyard(dir.path());
    let ran = finish(command.env("LANYARD_LOG", "lanyard=loud").arg("up").output().expect("it runs"));
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.starts_with("error: LANYARD_LOG has 'lanyard=loud'"), "{}", ran.stderr);
}

#[test]
fn a_socket_that_an_ended_node_left_is_no_node() {
    let mut node = Node::answering(|_| unreachable!("nothing is asked"));
    let socket = node.places.socket.clone();
    node.end();
    assert!(!socket.exists(), "a clean end removes the socket");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
    assert!(socket.exists(), "an unclean end leaves it");
    assert_eq!(node.run(&["status"]).status, 3);
}
