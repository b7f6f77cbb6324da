//! The lock files of office suites: who opens a document on one machine is seen on the other while it is open.
//!
//! LibreOffice makes `.~lock.NAME#` beside a document that it opens and removes it when it closes it; another office suite
//! that sees it warns its user. The time from making it here to seeing it there is printed, not asserted.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::office::{number, pair};
use crate::tree;

/// How often the other side is looked at: far below what is measured.
const LOOK_EVERY: Duration = Duration::from_micros(300);
/// Bytes that take a while to cross on any machine, and cross while locks come and go.
const LARGE: u64 = 400 << 20;

#[test]
fn a_lock_file_is_seen_on_the_other_machine_and_goes_away_again() {
    let Some(lab) = Lab::alone("locks") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let there = pair(&mut a, &mut b);
    let here = a.path("Shared");
    fs::create_dir(here.join("letters")).expect("a directory");
    let count = number("LANYARD_LOCKS", 40);
    eventually("the directory is there", CONVERGE_MAX, || seen(&there.join("letters"), true));

    let mut times = Times::default();
    for n in 0..count {
        // Both machines open documents.
        let (from, to) = if n % 2 == 0 { (&here, &there) } else { (&there, &here) };
        opened_and_closed(&from.join("letters"), &to.join("letters"), n, &mut times);
    }
    times.tell("locks: nothing else to do");

    // The same while a large file crosses.
    tree::big_file(&lab.dir().join("large"), LARGE, 3);
    fs::rename(lab.dir().join("large"), here.join("large")).expect("a rename");
    let mut times = Times::default();
    let mut n = 0;
    while n < count && !there.join("large").exists() {
        opened_and_closed(&here.join("letters"), &there.join("letters"), n, &mut times);
        n += 1;
    }
    times.tell(&format!("locks: while {} MiB cross", LARGE >> 20));
    assert!(n > 0, "at least one lock travelled while the large file did");
    eventually("in step", CONVERGE_MAX, || tree::same(&here, &there));
}

#[derive(Default)]
struct Times {
    came: Vec<Duration>,
    went: Vec<Duration>,
}

impl Times {
    fn tell(&mut self, what: &str) {
        for (event, times) in [("seen", &mut self.came), ("gone", &mut self.went)] {
            times.sort_unstable();
            let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
            let ms = |part| at(part).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
            println!(
                "{what}: {event} after p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms; {} times",
                ms(50),
                ms(99),
                ms(100),
                times.len()
            );
        }
    }
}

fn opened_and_closed(from: &Path, to: &Path, n: u64, times: &mut Times) {
    let name = format!(".~lock.letter {n}.odt#");
    let text = format!(",front-desk/user,front-desk,22.11.2026 10:{:02},file:///home/user/.config;", n % 60);
    let began = Instant::now();
    let mut lock = fs::File::create_new(from.join(&name)).expect("a lock");
    lock.write_all(text.as_bytes()).expect("a lock");
    drop(lock);
    until(&to.join(&name), true);
    times.came.push(began.elapsed());
    assert_eq!(fs::read_to_string(to.join(&name)).ok(), Some(text), "the lock says who has the document open");
    let began = Instant::now();
    fs::remove_file(from.join(&name)).expect("a lock");
    until(&to.join(&name), false);
    times.went.push(began.elapsed());
}

#[track_caller]
fn until(path: &Path, there: bool) {
    let began = Instant::now();
    while path.exists() != there {
        assert!(began.elapsed() < CONVERGE_MAX, "{} is there: {}", path.display(), !there);
        sleep(LOOK_EVERY);
    }
}

fn seen(path: &Path, there: bool) -> Result<(), String> {
    if path.exists() == there { Ok(()) } else { Err(format!("{} is there: {}", path.display(), !there)) }
}
