//! A large file for many: the source sends it about once, its receivers give each other the rest.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

/// About 240 chunks.
const FILE_BYTES: u64 = 60 * 1024 * 1024;

/// The host's cable carries so many megabits a second out, so that it is what everybody waits for.
fn narrow(host: &Host<'_>, rate: u32) {
    host.sh(&format!("tc qdisc add dev eth0 root tbf rate {rate}mbit burst 128kb latency 200ms")).ok();
}

/// One source and three that receive its folder, all linked with each other.
fn office<'a>(hosts: &'a [Host<'_>; 4]) -> [Node<'a>; 4] {
    let mut nodes = [
        hosts[0].node("source"),
        hosts[1].node("front-desk"),
        hosts[2].node("workshop"),
        hosts[3].node("meeting-room"),
    ];
    nodes[0].mkdir("Shared");
    nodes[0].up(&["Shared"]);
    for at in 1..4 {
        nodes[at].up(&[]);
        let into = nodes[at].path("In").display().to_string();
        nodes[0].admit(&nodes[at], &["--into", &into]);
    }
    for at in 0..4 {
        let others: Vec<&Node<'_>> = (0..4).filter(|other| *other != at).map(|other| &nodes[other]).collect();
        eventually("all see each other", CONVERGE_MAX, || nodes[at].sees(&others));
    }
    nodes
}

/// A file as it is on a receiver's disk now, if it is there under its name.
fn is_there(node: &Node<'_>, name: &str, like: &Path) -> Result<(), String> {
    let path = node.path("In/Shared").join(name);
    let same =
        fs::metadata(&path).is_ok_and(|meta| meta.len() == FILE_BYTES) && fs::read(&path).ok() == fs::read(like).ok();
    if same { Ok(()) } else { Err(format!("{name} is not on {} yet", node.name)) }
}

#[test]
fn three_receivers_of_a_large_file_cost_its_source_less_than_two_copies() {
    let Some(lab) = Lab::alone("swarm") else { return };
    let hosts = [lab.host(), lab.host(), lab.host(), lab.host()];
    let nodes = office(&hosts);
    narrow(&hosts[0], 50);
    let original = nodes[0].path("original");
    tree::big_file(&original, FILE_BYTES, 7);
    let before = hosts[0].sent_bytes();

    fs::copy(&original, nodes[0].path("Shared/plans.iso")).expect("a file");
    for node in &nodes[1..] {
        eventually("the file is there", CONVERGE_MAX, || is_there(node, "plans.iso", &original));
    }

    let sent = hosts[0].sent_bytes() - before;
    println!("swarm: the source sent {sent} bytes for three copies of {FILE_BYTES}");
    assert!(sent < 2 * FILE_BYTES, "{sent} bytes for three copies of {FILE_BYTES}");
}

#[test]
fn a_file_whose_source_died_is_put_together_from_the_pieces_that_its_receivers_have() {
    let Some(lab) = Lab::alone("swarm without a source") else { return };
    let hosts = [lab.host(), lab.host(), lab.host(), lab.host()];
    let mut nodes = office(&hosts);
    narrow(&hosts[0], 100);
    // What they give each other takes longer than what the source gives.
    hosts[1..].iter().for_each(|host| narrow(host, 16));
    let original = nodes[0].path("original");
    tree::big_file(&original, FILE_BYTES, 9);
    fs::copy(&original, nodes[0].path("Shared/plans.iso")).expect("a file");

    // Until each piece is with one of them at least; none need have all.
    let whole = || union_of_partials(&nodes[1..], &original);
    let out = eventually("every piece is with somebody", CONVERGE_MAX, whole);
    nodes[0].kill9();
    let unfinished = nodes[1..].iter().filter(|node| is_there(node, "plans.iso", &original).is_err()).count();
    println!("swarm: the source died when {unfinished} of 3 had not the whole; samples {out:?}");
    assert!(unfinished > 0, "the source outlived the transfer: {out:?}");

    for node in &nodes[1..] {
        eventually("the file is there", CONVERGE_MAX, || is_there(node, "plans.iso", &original));
    }
}

/// For each receiver how many samples of the file it has; an error while one is with nobody. Every chunk has samples.
fn union_of_partials(nodes: &[Node<'_>], original: &Path) -> Result<Vec<usize>, String> {
    const STEP: u64 = 32 * 1024;
    let sample = |file: &File, at: u64| {
        let mut bytes = [0; 16];
        file.read_exact_at(&mut bytes, at).is_ok().then_some(bytes)
    };
    let original = File::open(original).map_err(|error| error.to_string())?;
    let places: Vec<u64> = (0..FILE_BYTES / STEP).map(|at| at * STEP).chain([FILE_BYTES - 16]).collect();
    let mut with_anybody = vec![false; places.len()];
    let mut counts = Vec::new();
    for node in nodes {
        let own = node.path("In/Shared/.lanyard/tmp");
        let mut parts = fs::read_dir(own).into_iter().flatten().flatten().map(|entry| entry.path());
        let part = parts.find(|path| path.extension().is_some_and(|ending| ending == "part"));
        let Ok(file) = File::open(part.unwrap_or_else(|| node.path("In/Shared/plans.iso"))) else { continue };
        let has: Vec<bool> = places.iter().map(|at| sample(&file, *at) == sample(&original, *at)).collect();
        counts.push(has.iter().filter(|has| **has).count());
        with_anybody.iter_mut().zip(has).for_each(|(any, has)| *any |= has);
    }
    let lacking = with_anybody.iter().filter(|there| !**there).count();
    if lacking == 0 { Ok(counts) } else { Err(format!("{lacking} places are with nobody; {counts:?}")) }
}
