//! Five kill -9 at seeded moments of a 1 GiB transfer: the file arrives whole, and little is sent twice.

use std::time::Duration;

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::tree::{self, Dice};

const SIZE: u64 = 1 << 30;
/// The bound for everything on the wire, both directions, protocol and all.
const WIRE_MAX: u64 = SIZE / 10 * 13;

#[test]
fn five_kills_during_a_transfer_cost_no_byte_of_the_file_and_little_of_the_wire() {
    let Some(lab) = Lab::alone("crash") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let here = a.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&[]);
    a.admit(&b, &["--into", &b.path("In").display().to_string()]);
    let there = eventually("the folder is received", CONVERGE_MAX, || {
        let path = b.folder("Shared")["path"].as_str().map(std::path::PathBuf::from);
        path.ok_or_else(|| "no path yet".to_owned())
    });
    tree::big_file(&lab.dir().join("big"), SIZE, 5);
    let wire = h2.wire_bytes();
    std::fs::rename(lab.dir().join("big"), here.join("big")).expect("a rename");

    // Moments of the transfer, not of the clock: bytes on the wire, so that they mean the same on any machine.
    let mut dice = Dice(0x6c61_6e79_6172_6421);
    let mut moments: Vec<u64> = (0..5).map(|_| dice.between(SIZE / 50, SIZE / 20 * 19)).collect();
    moments.sort_unstable();
    for moment in moments {
        eventually(&format!("{moment} bytes crossed the wire"), CONVERGE_MAX, || {
            let crossed = h2.wire_bytes() - wire;
            if crossed >= moment { Ok(()) } else { Err(format!("{crossed} bytes")) }
        });
        let victim = if dice.between(0, 3) == 0 { &mut a } else { &mut b };
        println!("crash: kill -9 of {} after {} MiB", victim.name, (h2.wire_bytes() - wire) >> 20);
        victim.kill9();
        victim.up(&[]);
    }

    eventually("the file arrived", CONVERGE_MAX * 2, || tree::same(&here, &there));
    let sent = h2.wire_bytes() - wire;
    println!("crash: {sent} bytes on the wire, {:.2} of the file", sent as f64 / SIZE as f64);
    assert!(sent <= WIRE_MAX, "{sent} bytes on the wire for {SIZE}");
    assert_eq!(tree::listing(&there).len(), 1, "nothing half-done lies beside the file");
}

#[test]
fn kills_while_thousands_of_small_files_arrive_leave_both_the_same() {
    let Some(lab) = Lab::alone("crash small") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let here = a.mkdir("Shared");
    let bytes = tree::office(&here, 3000, 8, tree::OFFICE);
    a.up(&["Shared"]);
    b.mkdir("Shared");
    b.up(&["Shared"]);
    let wire = h2.wire_bytes();
    a.admit(&b, &[]);

    let mut dice = Dice(77);
    for round in 1..=3 {
        let moment = bytes / 5 * round;
        // Local reuse may make it less than planned: a bound, then go on.
        let start = std::time::Instant::now();
        while h2.wire_bytes() - wire < moment && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let victim = if dice.between(0, 2) == 0 { &mut a } else { &mut b };
        victim.kill9();
        victim.up(&[]);
    }

    eventually("all arrived", CONVERGE_MAX * 2, || tree::same(&here, &b.path("Shared")));
    assert_eq!(tree::listing(&here).iter().filter(|item| item.kind == tree::Kind::File).count(), 3000);
}
