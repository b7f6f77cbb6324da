//! A disk that is slow while everybody wants to read: some are served, the others are told when to come, all get it.

use std::fs;

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::office::can;
use crate::tree;

#[test]
fn a_crowd_at_a_slow_disk_is_served_in_turn_and_nobody_is_forgotten() {
    let test = "slow disk";
    if !can(test, false, &["strace"]) {
        return;
    }
    let Some(lab) = Lab::open(test) else { return };
    let hosts = [lab.host(), lab.host(), lab.host(), lab.host()];
    let names = ["front-desk", "workshop", "office", "attic"];
    let mut nodes: Vec<_> = hosts.iter().zip(names).map(|(host, name)| host.node(name)).collect();
    for node in &mut nodes {
        node.mkdir("Shared");
        node.up(&["Shared"]);
    }
    let (a, others) = nodes.split_first_mut().expect("four");
    for other in others.iter() {
        a.admit(other, &[]);
    }
    for other in others.iter() {
        eventually("all are connected", CONVERGE_MAX, || a.sees(&[other]).and_then(|()| other.sees(&[a])));
    }
    a.stop();
    let here = a.path("Shared");
    let large = here.join("large");
    tree::big_file(&large, 8 << 20, 7);
    fs::write(a.home().join("config.toml"), "[limits]\nreads = 1\n[log]\nlevel = \"debug\"\n").expect("a file");
    let shown = large.display().to_string();
    let slow = ["strace", "-D", "-f", "-q", "-o", "/dev/null", "-P", &shown, "-e", "trace=pread64"];
    a.under = slow.map(str::to_owned).to_vec();
    a.under.extend(["-e".to_owned(), "inject=pread64:delay_enter=250000".to_owned()]);

    a.up(&[]);

    for other in others.iter() {
        eventually("everybody has it", CONVERGE_MAX, || tree::same(&here, &other.path("Shared")));
    }
    let log = a.log_text();
    let shed = log.matches("too many read at once").count();
    println!("while one read, {shed} times somebody was told to ask others, or later");
    assert!(shed > 0, "all came at the same time to a disk that takes seconds: {log}");
}
