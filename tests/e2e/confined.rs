//! A node reaches only what is shared: every thread but the one that waits for it is confined, and another directory is
//! opened by starting anew, unnoticed but for a moment.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};

/// Whether the kernel confines; says aloud if not.
fn is_confined(node: &Node<'_>) -> bool {
    let confined = node.json(&["status"])["node"]["confined"] == true;
    if !confined {
        writeln!(std::io::stderr(), "SKIPPED: confined: this kernel has no Landlock that permits renames")
            .expect("stderr");
    }
    confined
}

/// How many of a process's threads gave up the way to more rights, which comes before Landlock, and how many did not.
fn threads(pid: u32) -> (usize, usize) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the node runs").flatten();
    let status = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let (inside, outside): (Vec<String>, Vec<String>) = status.partition(|text| text.contains("NoNewPrivs:\t1"));
    (inside.len(), outside.len())
}

fn holds(path: &Path, text: &str) -> Result<(), String> {
    match fs::read_to_string(path) {
        Ok(found) if found == text => Ok(()),
        found => Err(format!("{}: {found:?}", path.display())),
    }
}

fn hang_up(node: &Node<'_>) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(node.pid()).expect("a process number")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("the node is ours");
}

#[test]
fn one_command_shares_a_directory_elsewhere_and_the_node_goes_on_as_the_same_process() {
    let Some(lab) = Lab::open("confined share") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    a.mkdir("First");
    a.up(&["First"]);
    b.up(&[]);
    if !is_confined(&a) {
        return;
    }
    let pids = (a.pid(), b.pid());
    // An invitation that somebody waits for stands, and is used once.
    let mut inviting = a.spawn(&["invite"]);
    let code = inviting.code();
    a.mkdir("Second");
    a.lanyard(&["share", a.path("Second").to_str().expect("UTF-8")]).ok();
    b.lanyard(&["join", &code, "--no-folders"]).ok();
    inviting.finish("invite").ok();
    a.lanyard(&["share", a.path("Third").to_str().expect("UTF-8")]).ok();
    let host = lab.host();
    let mut late = host.node("late");
    late.up(&[]);
    late.lanyard(&["join", &code]).exits(1);
    b.mkdir("Received");
    let path = b.path("Received/First");
    let got = b.lanyard(&["get", "First", path.to_str().expect("UTF-8")]).ok();
    assert!(got.stdout.contains("Received/First"), "{got}");

    a.mkdir("Elsewhere");
    a.lanyard(&["share", a.path("Elsewhere").to_str().expect("UTF-8")]).ok();
    // One that is not there is made, and that is said, though it was another run of the node that made it.
    let made = a.lanyard(&["share", a.path("Made").to_str().expect("UTF-8")]).ok();
    assert!(made.stdout.contains("made the directory"), "{made}");
    b.lanyard(&["get", "Elsewhere", b.path("Elsewhere").to_str().expect("UTF-8")]).ok();
    assert_eq!((a.pid(), b.pid()), pids);
    a.must_be_alive();
    b.must_be_alive();
    assert_eq!(threads(a.pid()).1, 1, "one thread is outside");

    fs::write(a.path("First/letter"), "one").expect("a file");
    fs::write(b.path("Elsewhere/plan"), "two").expect("a file");
    eventually("both folders are in step", CONVERGE_MAX, || {
        holds(&b.path("Received/First/letter"), "one").and_then(|()| holds(&a.path("Elsewhere/plan"), "two"))
    });

    // What was there a moment ago goes into a directory that was not open, too.
    let aside = b.mkdir("Aside");
    eventually("a moment ago it was there", CONVERGE_MAX, || {
        let said = b.lanyard(&["restore", "First", "--at", "1 second ago", "--to", aside.to_str().expect("UTF-8")]);
        holds(&aside.join("letter"), "one").map_err(|error| format!("{error}: {said}"))
    });
    b.must_be_alive();
    a.stop();
    b.stop();
}

#[test]
fn a_directory_that_cannot_be_shared_is_refused_with_the_reason_and_the_node_runs_on() {
    let Some(lab) = Lab::open("confined refusal") else { return };
    let host = lab.host();
    let mut node = host.node("front-desk");
    node.ordinary = true;
    node.mkdir("Shared/inside");
    node.up(&["Shared"]);
    if !is_confined(&node) {
        return;
    }
    let runs = || node.log_text().matches("runs again").count();
    let share = |path: &str| node.lanyard(&["share", node.path(path).to_str().expect("UTF-8")]);
    share("Shared/inside").exits(1).names("inside");
    share("").exits(1).names("inside it is shared already");
    share("no/such").exits(1).names("no such file");
    fs::write(node.path("letter"), "x").expect("a file");
    share("letter").exits(1).names("not a directory");
    node.mkdir("closed");
    fs::set_permissions(node.path("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).expect("a mode");
    share("closed").exits(1).names("permission denied");
    assert_eq!(runs(), 0, "{}", node.log_tail());

    // One that cannot start would be no node at all.
    node.mkdir("Other");
    fs::write(node.home().join("config.toml"), "nonsense = 1\n").expect("a file");
    share("Other").exits(1).names("nonsense");
    fs::remove_file(node.home().join("config.toml")).expect("removed");
    share("Other").ok();
    assert_eq!(runs(), 1);
    node.stop();
}

#[test]
fn a_running_node_cannot_read_a_file_outside_and_can_be_told_not_to_be_confined() {
    let Some(lab) = Lab::open("confined off") else { return };
    let host = lab.host();
    let mut node = host.node("front-desk");
    node.mkdir("Shared");
    node.up(&["Shared"]);
    if !is_confined(&node) {
        return;
    }
    let pid = node.pid();
    let (inside, outside) = threads(pid);
    assert!(inside > 3 && outside == 1, "{inside} threads are confined, {outside} are not");

    // The one path that a node follows wherever it leads: its configuration. That of another place only the thread outside
    // can read, so that the node starts anew, and then as that says.
    fs::write(node.path("elsewhere.toml"), "[node]\nlandlock = false\n").expect("a file");
    std::os::unix::fs::symlink(node.path("elsewhere.toml"), node.home().join("config.toml")).expect("a link");
    hang_up(&node);
    eventually("the node runs again, unconfined", Duration::from_secs(30), || {
        let status = node.lanyard(&["status", "--json"]);
        if status.stdout.contains("\"confined\":false") { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(node.pid(), pid);
    assert_eq!(threads(pid).0, 0, "no thread is confined");
    let said = node.lanyard(&["status"]).ok().stdout;
    assert!(said.contains("every file that its user may"), "{said}");

    // Unconfined it reads what is outside, and shares what is elsewhere at once.
    let runs = node.log_text().matches("runs again").count();
    hang_up(&node);
    eventually("the configuration was read again", Duration::from_secs(30), || {
        let log = node.log_text();
        if log.contains("the configuration was read again") { Ok(()) } else { Err(log) }
    });
    node.mkdir("Elsewhere");
    node.lanyard(&["share", node.path("Elsewhere").to_str().expect("UTF-8")]).ok();
    assert_eq!(node.log_text().matches("runs again").count(), runs);
    node.stop();
}

#[test]
fn a_folder_that_went_away_and_was_put_back_comes_back_by_itself() {
    let Some(lab) = Lab::open("confined return") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let here = a.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&[]);
    if !is_confined(&a) {
        return;
    }
    a.admit(&b, &[]);
    let there = b.home().join("Shared");
    for n in 0..20 {
        fs::write(here.join(format!("letter {n}")), format!("{n}")).expect("a file");
    }
    eventually("all has arrived", CONVERGE_MAX, || holds(&there.join("letter 19"), "19"));
    b.lanyard(&["wait", "--timeout", "60s"]).ok();

    // As a backup puts it back: another directory with the same name and content.
    let copy = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").args([from, to]).status().is_ok_and(|status| status.success()));
    };
    // In one step: who removes file by file removes files.
    fs::rename(&here, a.path("backup")).expect("moved away");
    eventually("the status says that it is away", CONVERGE_MAX, || {
        let folder = a.folder("Shared");
        if folder["why"].is_null() { Err(folder.to_string()) } else { Ok(()) }
    });
    copy(&a.path("backup"), &here);
    let pid = a.pid();
    eventually("the folder is back", CONVERGE_MAX, || {
        let folder = a.folder("Shared");
        let is_back = folder["state"] == "idle" && folder["why"].is_null() && folder["local"]["files"] == 20;
        if is_back { Ok(()) } else { Err(folder.to_string()) }
    });
    assert_eq!(a.pid(), pid);
    assert_eq!(fs::read_dir(&there).expect("readable").count(), 21, "nothing was taken for deleted");
    fs::write(there.join("answer"), "from there").expect("a file");
    fs::write(here.join("letter 3"), "edited").expect("a file");
    eventually("it is in step again", CONVERGE_MAX, || {
        holds(&here.join("answer"), "from there").and_then(|()| holds(&there.join("letter 3"), "edited"))
    });
    a.stop();
    b.stop();
}
