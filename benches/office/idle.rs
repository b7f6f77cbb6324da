//! Idle: what a node costs that has nothing to do, with many files in sync.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Options;
use crate::lab::Lab;
use crate::sides::{self, Pair};
use crate::tree::{self, Sizes};

const FILES: usize = 50_000;
const SMALL: Sizes = Sizes { low: 200, high: 4000 };
const MEASURED: Duration = Duration::from_secs(120);
const ARRIVE_MAX: Duration = Duration::from_secs(600);
/// `USER_HZ`, which Linux fixes at 100 for /proc on every architecture this runs on (proc(5)).
const TICKS_A_SECOND: f64 = 100.0;

/// Brings both products to rest with 50,000 files, waits, then reads CPU time and memory of all four processes.
pub(crate) fn run(options: &Options) {
    let files = options.files.unwrap_or(FILES);
    println!("\n== at rest: {files} files in sync, {:?} after the last of them", options.settle);
    let Some(lab) = Lab::alone("bench: idle") else { return };
    let source = lab.dir().join("source");
    fs::create_dir(&source).expect("a directory");
    tree::office(&source, files, 3, SMALL);
    let hosts = [lab.host(), lab.host()];
    let others = [lab.host(), lab.host()];
    let mut pairs: Vec<(&str, Pair<'_>)> = Vec::new();
    if options.wants("lanyard") {
        pairs.push(("lanyard", sides::lanyard(&hosts, "")));
    }
    if options.wants("syncthing") {
        pairs.push(("syncthing", sides::syncthing(&lab, &others, "", 10)));
    }
    for (name, pair) in &pairs {
        let start = Instant::now();
        let status = Command::new("cp").arg("-a").arg(&source).arg(pair.here.join("in")).status();
        assert!(status.is_ok_and(|status| status.success()), "cp -a failed");
        let want = tree::listing(&source).len();
        while tree::listing(&pair.there.join("in")).len() != want {
            assert!(start.elapsed() < ARRIVE_MAX, "{name}: not all {files} files arrived in {ARRIVE_MAX:?}");
            sleep(Duration::from_millis(500));
        }
        pair.wait();
        println!("{name:>10}  in sync after {:.1} s", start.elapsed().as_secs_f64());
    }

    sleep(options.settle);
    let before: Vec<[f64; 2]> = pairs.iter().map(|(_, pair)| pair.pids().map(cpu_seconds)).collect();
    sleep(MEASURED);
    let mut worst = Vec::new();
    for ((name, pair), before) in pairs.iter().zip(before) {
        let mut most = (0.0_f64, 0.0_f64);
        for (end, (pid, before)) in ["here", "there"].into_iter().zip(pair.pids().into_iter().zip(before)) {
            let cpu = (cpu_seconds(pid) - before) / MEASURED.as_secs_f64() * 60.0;
            let (resident, peak) = (memory_mb(pid, "VmRSS:"), memory_mb(pid, "VmHWM:"));
            println!(
                "{name:>10} {end:>5}: {cpu:.3} CPU s a minute, {resident:.1} MB resident (most ever {peak:.1} MB)"
            );
            most = (most.0.max(cpu), most.1.max(resident));
        }
        worst.push((*name, most));
    }
    if let [(_, (cpu, resident)), (other, (their_cpu, their_resident))] = worst.as_slice() {
        println!(
            "ratio: lanyard uses {:.2} of {other}'s CPU and {:.2} of its memory",
            cpu / their_cpu,
            resident / their_resident
        );
    }
}

/// User and system time of all threads of a process (proc_pid_stat(5), fields 14 and 15).
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().expect("a number");
    (ticks(14) + ticks(15)) / TICKS_A_SECOND
}

/// A memory figure of a process in MB (10^6 bytes), as the issue states it.
pub(crate) fn memory_mb(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel knows the field");
    line.trim().trim_end_matches("kB").trim().parse::<f64>().expect("a number") * 1024.0 / 1e6
}
