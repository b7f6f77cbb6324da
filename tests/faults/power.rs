//! Power cuts: the node's home and folder lie on a disk of their own, which is copied as it is at one moment; the copy is
//! what a machine finds after a power cut. What was flushed is there, what was not is not.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::disk::Mounted;
use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::office::{Book, User, can, is_current, is_whole, nothing_is_lost, number, pair_at, seed};
use crate::tree::Dice;

/// Tries to copy a disk without it being written meanwhile.
const COPIES_MAX: u32 = 20;

#[test]
fn a_power_cut_on_ext4_loses_nothing() {
    power_cuts("ext4", 64);
}

#[test]
fn a_power_cut_on_xfs_loses_nothing() {
    power_cuts("xfs", 320);
}

#[test]
fn a_power_cut_on_btrfs_loses_nothing() {
    power_cuts("btrfs", 256);
}

fn power_cuts(system: &str, mib: u64) {
    let test = format!("power cut on {system}");
    if !can(&test, true, &[&format!("mkfs.{system}")]) {
        return;
    }
    let Some(lab) = Lab::open(&test) else { return };
    let seed = seed(&test);
    let (h1, h2) = (lab.host(), lab.host());
    let Some(disk) = Mounted::make(&test, &h2, system, mib) else { return };
    let (mut a, mut b) = (h1.node("front-desk"), h2.node_at("workshop", &disk.at));
    let into = b.path("In");
    let there = h2.seen(&pair_at(&mut a, &mut b, &into));
    let here = a.path("Shared");
    let book = Book::default();
    let mut user = User::new(&book, seed, &lab.dir().join("aside"));
    let mut own = User::new(&book, seed + 1, &h2.seen(&disk.at.join("aside")));
    let both = || is_current(&book, &here).and_then(|()| is_current(&book, &there));
    let mut dice = Dice(seed);
    let (cuts, mut round) = (number("LANYARD_CUTS", 3), 0);
    for cut in 0..cuts {
        round += 1;
        user.edit(&here, round);
        eventually("in step", CONVERGE_MAX, both);
        // What its user saved a moment ago is known to the other side before this machine's system flushed it.
        own.save_some(&there, &format!("own/{cut}.odt"), 30_000);
        own.save_some(&there, "own/always.odt", 20_000 + cut);
        eventually("in step", CONVERGE_MAX, both);
        round += 1;
        user.edit(&here, round);
        sleep(Duration::from_millis(dice.between(0, 120)));

        let pid = Pid::from_raw(i32::try_from(b.pid()).expect("a process id")).expect("a process id");
        kill_process(pid, Signal::STOP).expect("a process of ours");
        let copy = lab.dir().join("copy");
        let tries = (1..=COPIES_MAX).find(|_| {
            let copied =
                h2.sh(&format!("cp --sparse=always {0} {1} && cmp -s {0} {1}", disk.image.display(), copy.display()));
            copied.code == 0
        });
        assert!(tries.is_some(), "the disk is never at rest");
        b.kill9();
        disk.unmount();
        fs::rename(&copy, &disk.image).expect("the copy takes the disk's place");
        disk.mount();
        // The machine starts anew, and the kernel says so.
        h2.sh(&format!(
            "echo 4711c0de-0000-4000-8000-{cut:012} > {0}; mount --bind {0} /proc/sys/kernel/random/boot_id",
            lab.dir().join("boot").display()
        ))
        .ok();
        // Its own user's program did not flush what it saved.
        is_whole(&book, &there, Some("own/")).expect("whole files after a power cut");
        b.up(&[]);
        eventually(&format!("in step after power cut {cut}"), CONVERGE_MAX, both);
    }
    let contents = nothing_is_lost(&book, &[&here, &there]);
    println!("{test}: {cuts} cuts, {round} rounds of edits, {contents} contents, all found");
}
