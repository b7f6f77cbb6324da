//! The archive: what a snapshot costs in processor time and memory, of a folder that is new, unchanged, and changed a little.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::Options;
use crate::idle::{cpu_seconds, memory_mb};
use crate::lab::{Lab, finish};
use crate::node::Node;
use crate::tree::{self, Sizes};

const FILES: usize = 50_000;
const SMALL: Sizes = Sizes { low: 200, high: 4000 };
/// A file that is larger than all that may be in memory.
const BIG: u64 = 1 << 30;
/// Promised in the issue: an unchanged folder of 50,000 files, and the peak of memory.
const PROMISED: (f64, f64) = (5.0, 200.0);

/// One node with 50,000 files and a large one; restic beside it on the same folder, where it is installed.
pub(crate) fn run(options: &Options) {
    let files = options.files.unwrap_or(FILES);
    println!("\n== archive: {files} files, and one of 1 GiB");
    let Some(lab) = Lab::alone("bench: archive") else { return };
    let host = lab.host();
    let mut node = host.node("server");
    let root = node.mkdir("Shared");
    tree::office(&root, files, 3, SMALL);
    node.up(&["Shared"]);
    let lanyard = |args: &[&str]| node.lanyard_within(std::time::Duration::from_secs(900), args).ok();
    lanyard(&["wait", "--timeout", "600s"]);
    lanyard(&["coordinator", "allow", "server"]);
    let password = measured(&node, "first");
    measured(&node, "unchanged");
    for number in 0..100 {
        fs::write(root.join(format!("new {number}")), format!("new {number}")).expect("written");
    }
    measured(&node, "100 new files");
    tree::big_file(&root.join("film"), BIG, 7);
    lanyard(&["wait", "--timeout", "600s"]);
    measured(&node, "1 GiB more");
    let start = (Instant::now(), cpu_seconds(node.pid()));
    reset_peak(node.pid());
    lanyard(&["archive", "check", "--read-data"]);
    tell(&node, "check of all", start);
    if Path::new("/usr/bin/restic").exists() {
        let repository = lab.dir().join("restic");
        for run in ["first, all of it", "unchanged"] {
            let script = format!(
                "export RESTIC_PASSWORD=x; test -d {0} || restic -r {0} init -q; time -p restic --no-cache -r {0} backup -q {1}",
                repository.display(),
                root.display()
            );
            let mut command = host.bounded(std::time::Duration::from_secs(900), "bash");
            command.args(["-c", &script]);
            let told = finish(command, "restic backup").ok().stderr.replace('\n', " ");
            println!("    restic  {run}: {told}");
        }
    }
    drop(password);
}

fn measured(node: &Node<'_>, what: &str) -> Value {
    node.lanyard(&["wait", "--timeout", "60s"]).ok();
    reset_peak(node.pid());
    let start = (Instant::now(), cpu_seconds(node.pid()));
    let taken =
        node.lanyard_within(std::time::Duration::from_secs(900), &["archive", "snapshot", "--json"]).ok().json();
    tell(node, what, start);
    taken
}

fn tell(node: &Node<'_>, what: &str, (start, cpu): (Instant, f64)) {
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds(node.pid()) - cpu);
    let (resident, peak) = (memory_mb(node.pid(), "VmRSS:"), memory_mb(node.pid(), "VmHWM:"));
    println!("   lanyard  {what}: {wall:.1} s, {cpu:.1} CPU s, {peak:.0} MB at most, {resident:.0} MB after");
    let (most_cpu, most_mb) = PROMISED;
    if peak > most_mb || what == "unchanged" && cpu > most_cpu {
        println!("            that is more than promised: {most_cpu} CPU s unchanged, {most_mb} MB");
    }
}

/// The peak of memory begins anew (proc_pid_clear_refs(5)).
fn reset_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the process is ours");
}
