//! The ways in which programs save, alternately on two machines: whoever saves what he sees makes no conflict.
//!
//! Each user saves the moment the other's document is under its name with its last bytes, which is before the node has
//! noted that it put it there.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::office::pair;
use crate::tree::{self, Dice};

/// How a program saves `bytes` as `name` in a directory.
type Save = fn(&Path, &str, &[u8]);

const PATTERNS: [(&str, Save); 7] = [
    ("temporary file and rename", |dir, name, bytes| {
        let temporary = dir.join(format!(".{name}.swp"));
        fs::write(&temporary, bytes).expect("a file");
        fs::rename(temporary, dir.join(name)).expect("a rename");
    }),
    ("truncate and write at once", |dir, name, bytes| fs::write(dir.join(name), bytes).expect("a file")),
    ("truncate and write in pieces", |dir, name, bytes| {
        let mut file = fs::File::create(dir.join(name)).expect("a file");
        for piece in bytes.chunks(bytes.len() / 3 + 1) {
            sleep(Duration::from_millis(15));
            file.write_all(piece).expect("a file");
        }
    }),
    ("rename to backup, then write", |dir, name, bytes| {
        let backup = dir.join(format!("{name}~"));
        let _ = fs::rename(dir.join(name), &backup);
        fs::write(dir.join(name), bytes).expect("a file");
        let _ = fs::remove_file(backup);
    }),
    ("backup is kept", |dir, name, bytes| {
        let _ = fs::copy(dir.join(name), dir.join(format!("{name}.bak")));
        fs::write(dir.join(name), bytes).expect("a file");
    }),
    ("LibreOffice", |dir, name, bytes| {
        let lock = dir.join(format!(".~lock.{name}#"));
        fs::write(&lock, ",user,host,;").expect("a file");
        let temporary = dir.join("lu4711abc.tmp");
        fs::write(&temporary, bytes).expect("a file");
        sleep(Duration::from_millis(5));
        fs::rename(temporary, dir.join(name)).expect("a rename");
        fs::remove_file(lock).expect("a lock");
    }),
    ("Microsoft Office", |dir, name, bytes| {
        let owner = dir.join(format!("~${name}"));
        fs::write(&owner, "user").expect("a file");
        let (new, old) = (dir.join("~WRD0000.tmp"), dir.join("~WRL0001.tmp"));
        fs::write(&new, bytes).expect("a file");
        let _ = fs::rename(dir.join(name), &old);
        fs::rename(new, dir.join(name)).expect("a rename");
        let _ = fs::remove_file(old);
        fs::remove_file(owner).expect("a file");
    }),
];

/// Saves on each machine by each pattern.
const ROUNDS: u64 = 4;

#[test]
fn programs_that_save_by_turns_on_two_machines_make_no_conflict() {
    let Some(lab) = Lab::open("saving") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let there = pair(&mut a, &mut b);
    let here = a.path("Shared");
    let mut dice = Dice(11);
    for (what, save) in PATTERNS {
        for round in 0..ROUNDS * 2 {
            let (from, to) = if round % 2 == 0 { (&here, &there) } else { (&there, &here) };
            let length = dice.between(1, 120 << 10) as usize;
            let bytes = dice.bytes(length);
            let name = format!("{what}.odt");
            save(from, &name, &bytes);
            let since = Instant::now();
            while fs::read(to.join(&name)).ok().as_deref() != Some(&bytes) {
                assert!(since.elapsed() < CONVERGE_MAX, "{what}: save {round} did not arrive: {:?}", names(to));
                sleep(Duration::from_millis(1));
            }
            // By turns: the backup beside it has arrived, too.
            eventually("the other machine has all of it", CONVERGE_MAX, || tree::same(from, to));
        }
    }
    eventually("in step", CONVERGE_MAX, || tree::same(&here, &there));
    let documents = PATTERNS.len() + 1;
    assert_eq!(names(&here).len(), documents, "no conflict copy, nothing temporary: {:?}", names(&here));
}

#[test]
fn a_program_that_saves_again_and_again_while_the_other_machine_receives_makes_no_conflict() {
    let Some(lab) = Lab::open("saving fast") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let there = pair(&mut a, &mut b);
    let here = a.path("Shared");
    let mut dice = Dice(12);
    for (what, save) in PATTERNS {
        for _ in 0..10 {
            let length = dice.between(1, 60 << 10) as usize;
            let bytes = dice.bytes(length);
            save(&here, &format!("{what}.odt"), &bytes);
            sleep(Duration::from_millis(dice.between(0, 40)));
        }
    }
    eventually("in step", CONVERGE_MAX, || tree::same(&here, &there));
    let documents = PATTERNS.len() + 1;
    assert_eq!(names(&here).len(), documents, "no conflict copy, nothing temporary: {:?}", names(&here));
}

fn names(root: &Path) -> Vec<String> {
    tree::listing(root).iter().map(|item| item.path.escape_ascii().to_string()).collect()
}
