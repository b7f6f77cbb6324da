//! kill -9 at seeded (system call, ordinal) pairs while a node receives and while it shares.
//!
//! The tracer kills the node when one of its threads enters the N-th call of a kind; N is drawn from what a life of the
//! node without a kill was seen to make, so that starting, recovering, receiving and noting are all hit. After each kill
//! the folder is looked at, the node is started again (under the next pair), and nothing is edited before both sides
//! hold exactly what was saved.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lab::{Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::office::{Book, User, Watcher, can, is_current, is_whole, nothing_is_lost, number, pair, seed};
use crate::tree::Dice;

/// The calls that change what is on a disk.
const CALLS: &str = "write,pwrite64,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,unlink,unlinkat";
/// Rounds of edits in one life of the node; a pair that is not reached by then is counted as missed.
const ROUNDS_MAX: u32 = 3;
/// Signal 9.
const KILL: i32 = 9;

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Receives,
    Shares,
}

#[test]
fn a_node_killed_at_any_system_call_while_it_receives_loses_nothing_and_shows_no_half_file() {
    kills("kill receiver", Role::Receives, number("LANYARD_KILLS", 20) / 2);
}

#[test]
fn a_node_killed_at_any_system_call_while_its_user_edits_loses_nothing_and_shows_no_half_file() {
    kills("kill sharer", Role::Shares, number("LANYARD_KILLS", 20) / 2);
}

fn traced(more: &[String]) -> Vec<String> {
    let mut under: Vec<String> = ["strace", "-D", "-f", "-q"].map(str::to_owned).into();
    under.extend(more.iter().cloned());
    under
}

fn kills(test: &str, role: Role, pairs: u64) {
    if !can(test, false, &["strace"]) {
        return;
    }
    let Some(lab) = Lab::open(test) else { return };
    let seed = seed(test) ^ if role == Role::Shares { 0x5a5a } else { 0 };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut victim) = (h1.node("front-desk"), h2.node("workshop"));
    let there = pair(&mut a, &mut victim);
    let here = a.path("Shared");
    let edited = if role == Role::Shares { there.clone() } else { here.clone() };
    let book = Book::default();
    let mut user = User::new(&book, seed, &lab.dir().join("aside"));
    let watcher = Watcher::over(&book, &there);
    let both = || is_current(&book, &here).and_then(|()| is_current(&book, &there));

    // One life without a kill tells how many calls there are to be killed at.
    victim.stop();
    let trace = lab.dir().join("trace");
    victim.under = traced(&["-o".to_owned(), trace.display().to_string(), "-e".to_owned(), format!("trace={CALLS}")]);
    victim.up(&[]);
    let mut round = 0;
    for _ in 0..ROUNDS_MAX {
        round += 1;
        user.edit(&edited, round);
        eventually("in step", CONVERGE_MAX, both);
    }
    victim.stop();
    let counts = count(&fs::read_to_string(&trace).expect("a trace"));
    println!("{test}: calls of the busiest thread in a life without a kill: {counts:?}");
    assert!(counts.len() >= 4, "a node writes, flushes, renames and unlinks: {counts:?}");
    // What is called seldom has few moments to be killed at.
    let calls: Vec<(&String, &u64)> =
        counts.iter().flat_map(|(call, most)| std::iter::repeat_n((call, most), *most.min(&12) as usize)).collect();

    let mut dice = Dice(seed);
    let (mut killed, mut reached, mut missed) = (BTreeMap::<&str, u64>::new(), 0, 0);
    while reached < pairs {
        let (call, most) = calls[dice.between(0, calls.len() as u64) as usize];
        let n = dice.between(1, most + 1);
        let inject = format!("inject={call}:signal=KILL:when={n}");
        victim.under = traced(&["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject].map(str::to_owned));
        victim.start(&[]);
        if life(&mut victim, &mut user, &edited, &mut round, &both) {
            *killed.entry(call).or_default() += 1;
            reached += 1;
        } else {
            missed += 1;
            assert!(missed <= pairs, "most pairs are reached: {reached} were, {missed} not");
            victim.kill9();
        }
        is_whole(&book, &there, None).unwrap_or_else(|fault| panic!("killed at {call} number {n}: {fault}"));
    }

    victim.under.clear();
    victim.up(&[]);
    eventually("in step at the end", CONVERGE_MAX, both);
    let looks = watcher.finish();
    let contents = nothing_is_lost(&book, &[&here, &there]);
    println!(
        "{test}: {reached} kills {killed:?} ({missed} more pairs were not reached); {round} rounds of edits, {contents} \
         contents, all found; the folder was looked at {looks} times"
    );
}

/// One life: edits whenever both sides are in step. Returns whether the tracer killed the node.
fn life(
    victim: &mut Node<'_>,
    user: &mut User,
    edited: &Path,
    round: &mut u64,
    both: &dyn Fn() -> Result<(), String>,
) -> bool {
    let mut rounds = 0;
    let mut since = Instant::now();
    loop {
        if let Some(status) = victim.ended() {
            assert!(status.signal() == Some(KILL), "the node ended by itself ({status}):\n{}", victim.log_tail());
            return true;
        }
        match both() {
            Ok(()) if rounds == ROUNDS_MAX => return false,
            Ok(()) => {
                rounds += 1;
                *round += 1;
                user.edit(edited, *round);
                since = Instant::now();
            }
            Err(reason) => {
                assert!(
                    since.elapsed() < CONVERGE_MAX,
                    "not in step again: {reason}\n{}\n{}",
                    victim.lanyard(&["status", "--json"]),
                    victim.log_tail()
                );
            }
        }
        sleep(Duration::from_millis(10));
    }
}

/// How often the busiest thread made each call.
fn count(trace: &str) -> BTreeMap<String, u64> {
    let mut of: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if call.bytes().all(|b| b.is_ascii_alphanumeric()) {
            *of.entry((thread, call)).or_default() += 1;
        }
    }
    let mut counts = BTreeMap::new();
    for ((_, call), n) in of {
        let most: &mut u64 = counts.entry(call.to_owned()).or_default();
        *most = n.max(*most);
    }
    counts
}
