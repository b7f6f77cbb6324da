//! A drop: many office files at once, or one big file, until all of it is on the other machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Options;
use crate::lab::{COMMAND_MAX, Lab, finish};
use crate::sides;
use crate::tree::{self, OFFICE};

/// What is dropped.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// So many files of 1-100 KiB in nested directories, copied in with `cp -a`; the clock starts with the copying
    /// (with `--moved`: moved in, as the big file).
    Office(usize),
    /// One file of so many random bytes, made on the same file system and moved in; the clock starts with the move.
    Big(u64),
}

/// Nothing takes longer, else the run has failed.
const DROP_MAX: Duration = Duration::from_secs(600);

/// Runs the sides interleaved and prints times and ratios.
pub(crate) fn run(options: &Options, load: Load) {
    let Some(lab) = Lab::alone("bench: drop") else { return };
    let what = match load {
        Load::Office(files) => format!(
            "{files} office files of 1-100 KiB {} at once",
            if options.moved { "moved in" } else { "copied in" }
        ),
        Load::Big(size) => format!("one file of {} MiB", size >> 20),
    };
    println!("\n== {what}");
    let source = lab.dir().join("source");
    fs::create_dir(&source).expect("a directory");
    let bytes = match load {
        Load::Office(files) => tree::office(&source, files, 2, OFFICE),
        Load::Big(size) => {
            tree::big_file(&source.join("big.bin"), size, 2);
            size
        }
    };
    let names = ["lanyard", "syncthing", "rsync"].into_iter().filter(|name| options.wants(name)).collect::<Vec<_>>();
    let mut times: Vec<(&str, Vec<f64>)> = names.iter().map(|name| (*name, Vec::new())).collect();
    let copied = matches!(load, Load::Office(_)) && !options.moved;
    for round in 0..options.runs {
        for (name, taken) in &mut times {
            // Fresh hosts for every run: nobody inherits the other's connections.
            let hosts = [lab.host(), lab.host()];
            let tag = format!("-{name}-{round}");
            let seconds = match *name {
                "lanyard" => dropped(&sides::lanyard(&hosts, &tag), &source, copied),
                "syncthing" => dropped(&sides::syncthing(&lab, &hosts, &tag, 1), &source, copied),
                _ => rsync(&lab, &hosts, &source),
            };
            println!("{name:>10}  {seconds:6.2} s  {:6.0} MiB/s", bytes as f64 / seconds / f64::from(1 << 20));
            taken.push(seconds);
            clear(lab.dir(), &source);
        }
    }
    if let Load::Office(_) = load {
        let to = lab.dir().join("copy");
        rustix::fs::sync();
        let start = Instant::now();
        copy_in(&source, &to);
        println!(
            "{:>10}  {:6.2} s  (the same files copied on one machine, for scale)",
            "cp -a",
            start.elapsed().as_secs_f64()
        );
    }
    let best: Vec<(&str, f64)> =
        times.iter().map(|(name, taken)| (*name, taken.iter().copied().fold(f64::INFINITY, f64::min))).collect();
    for (name, seconds) in &best {
        println!("best of {}: {name:>10} {seconds:6.2} s", options.runs);
    }
    if let Some((_, ours)) = best.iter().find(|(name, _)| *name == "lanyard") {
        for (name, theirs) in best.iter().filter(|(name, _)| *name != "lanyard") {
            println!("ratio: lanyard takes {:.2} of {name}'s time", ours / theirs);
        }
    }
}

/// Seconds from the drop until everything is there, by count and bytes; then compares contents, off the clock.
fn dropped(pair: &sides::Pair<'_>, source: &Path, copied: bool) -> f64 {
    let into = pair.here.join("dropped");
    let there = pair.there.join("dropped");
    let aside = pair.here.with_extension("aside");
    if !copied {
        copy_in(source, &aside);
    }
    let want = amount(source);
    rustix::fs::sync();
    let start = Instant::now();
    if copied {
        copy_in(source, &into);
    } else {
        fs::rename(&aside, &into).expect("a rename");
    }
    // Looking at 20,000 files costs some 20 ms of a core that the nodes could use.
    let look_every = Duration::from_millis(if want.0 > 100 { 100 } else { 5 });
    while amount(&there) != want {
        assert!(
            start.elapsed() < DROP_MAX,
            "only {:?} of {want:?} (files, bytes) arrived in {DROP_MAX:?}",
            amount(&there)
        );
        sleep(look_every);
    }
    let seconds = start.elapsed().as_secs_f64();
    pair.wait();
    let lines = tree::diff(&tree::snapshot(source), &tree::snapshot(&there));
    assert!(lines.is_empty(), "what arrived is not what was dropped: {lines:#?}");
    seconds
}

/// Seconds that `rsync -a` to a daemon takes; the files lie ready, nothing watches.
fn rsync(lab: &Lab, hosts: &[crate::lab::Host<'_>; 2], source: &Path) -> f64 {
    let there = lab.dir().join("rsync-there");
    fs::create_dir_all(&there).expect("a directory");
    let _daemon = sides::rsync_daemon(&hosts[1], &there, &lab.dir().join("rsyncd.conf"));
    let mut command = hosts[0].bounded(COMMAND_MAX, "rsync");
    command.arg("-a").arg(format!("{}/", source.display())).arg(format!("rsync://{}/in/", hosts[1].address()));
    rustix::fs::sync();
    let start = Instant::now();
    finish(command, "rsync").ok();
    let seconds = start.elapsed().as_secs_f64();
    let lines = tree::diff(&tree::snapshot(source), &tree::snapshot(&there));
    assert!(lines.is_empty(), "{lines:#?}");
    seconds
}

fn copy_in(source: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(source).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "cp -a failed");
}

/// Files and bytes below `dir` that carry their final names.
fn amount(dir: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            // Both products' unfinished files are hidden.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(_) => {
                    files += 1;
                    bytes += entry.metadata().map_or(0, |meta| meta.len());
                }
                Err(_) => {}
            }
        }
    }
    (files, bytes)
}

/// Removes what a run left, so that the next finds the same room and cache.
fn clear(dir: &Path, source: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path() == source {
            continue;
        }
        if entry.path().is_dir() {
            let _ = fs::remove_dir_all(entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
}
