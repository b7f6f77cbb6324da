//! Saves: from the moment an editor closed a small file until its new content is on the other machine.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Options;
use crate::lab::Lab;
use crate::sides::{self, Pair};
use crate::tree::Dice;

const SAVES: usize = 200;
const ROUNDS: usize = 5;
/// A save that is not there by then is lost.
const SAVE_MAX: Duration = Duration::from_secs(60);
/// Looking costs a stat: fine enough for figures in milliseconds, coarse enough to leave the two cores to the nodes.
const LOOK_EVERY: Duration = Duration::from_micros(300);

/// Runs 200 saves of lanyard in five rounds with one of Syncthing's, at its defaults, after each.
pub(crate) fn run(options: &Options) {
    println!("\n== a small file is saved, default settings on both sides");
    let Some(lab) = Lab::alone("bench: saves") else { return };
    let hosts = [lab.host(), lab.host()];
    let others = [lab.host(), lab.host()];
    let ours = options.wants("lanyard").then(|| sides::lanyard(&hosts, ""));
    let theirs = options.wants("syncthing").then(|| sides::syncthing(&lab, &others, "", 10));
    let mut dice = Dice(4);
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        if let Some(pair) = &ours {
            for _ in 0..SAVES / ROUNDS {
                // People do not save in step with anybody's timers.
                sleep(Duration::from_millis(dice.between(50, 250)));
                our_times.push(save(pair, &mut dice));
            }
        }
        if let Some(pair) = &theirs {
            sleep(Duration::from_millis(dice.between(50, 250)));
            their_times.push(save(pair, &mut dice));
        }
    }
    let ours = summary("lanyard", our_times);
    let theirs = summary("syncthing", their_times);
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        println!("ratio: lanyard's median is {:.4} of syncthing's", ours / theirs);
    }
}

/// One save: in place, as a new file, or as careful editors do, written aside and renamed over.
fn save(pair: &Pair<'_>, dice: &mut Dice) -> Duration {
    let size = dice.between(500, 20_000) as usize;
    let bytes = dice.bytes(size);
    let name = match dice.between(0, 3) {
        0 => "notes.txt".to_owned(),
        1 => "letter.odt".to_owned(),
        _ => format!("new {:016x}.txt", dice.roll()),
    };
    let path = pair.here.join(&name);
    if name == "letter.odt" {
        let aside = pair.here.join(".letter.odt.part");
        fs::write(&aside, &bytes).expect("a file");
        fs::rename(&aside, &path).expect("a rename");
    } else {
        // `fs::write` returns after close(2).
        fs::write(&path, &bytes).expect("a file");
    }
    let start = Instant::now();
    while !is_there(&pair.there.join(&name), &bytes) {
        assert!(start.elapsed() < SAVE_MAX, "{name} did not arrive in {SAVE_MAX:?}");
        sleep(LOOK_EVERY);
    }
    start.elapsed()
}

fn is_there(path: &Path, bytes: &[u8]) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() == bytes.len() as u64)
        && fs::read(path).is_ok_and(|read| read == bytes)
}

/// Prints percentiles and returns the median in seconds.
fn summary(name: &str, mut times: Vec<Duration>) -> Option<f64> {
    times.sort();
    let last = times.len().checked_sub(1)?;
    // Nearest rank: the p-th percentile of 200 is the 198th for p = 99.
    let at = |p: usize| times[((last + 1) * p).div_ceil(100).saturating_sub(1)].as_secs_f64() * 1000.0;
    println!(
        "{name:>10}  {:3} saves: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        last + 1,
        at(50),
        at(90),
        at(99),
        at(100)
    );
    Some(at(50) / 1000.0)
}
