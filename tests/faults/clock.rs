//! Clocks that jump while a node runs, by days and by years, forwards and backwards: work goes on, the last edit counts.

use std::fs;
use std::path::Path;

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::office::{Book, User, can, is_current, nothing_is_lost, pair};

/// Where Debian and Ubuntu put the library.
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];
/// What the second node's clock is off by, in turn.
const JUMPS: [&str; 5] = ["+3d", "-3d", "-400d", "+400d", "+0"];

#[test]
fn clocks_that_jump_stop_nothing_and_make_no_conflict() {
    if !can("clock", false, &["faketime"]) {
        return;
    }
    let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists()).expect("faketime comes with its library");
    let Some(lab) = Lab::open("clock") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let offset = lab.dir().join("offset");
    let jump = |by: &str| {
        fs::write(lab.dir().join("next"), by).expect("a file");
        fs::rename(lab.dir().join("next"), &offset).expect("a rename");
    };
    jump("+0");
    b.under = [
        "env".to_owned(),
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
        "NO_FAKE_STAT=1".to_owned(),
    ]
    .into();
    let there = pair(&mut a, &mut b);
    let here = a.path("Shared");
    let book = Book::default();
    let mut user = User::new(&book, 5, &lab.dir().join("aside"));
    let both = || is_current(&book, &here).and_then(|()| is_current(&book, &there));
    let mut round = 0;
    for by in JUMPS {
        round += 1;
        user.edit(&here, round);
        // In the middle of what the edits cause.
        jump(by);
        eventually(&format!("in step after a jump to {by}"), CONVERGE_MAX, both);
        for restarted in [false, true] {
            if restarted {
                b.stop();
                b.up(&[]);
            }
            let when = format!("with a clock at {by}{}", if restarted { " and a restart" } else { "" });
            for root in [&there, &here] {
                // One document by turns: whoever saves last has seen the other's.
                user.save_some(root, "minutes.odt", 5000 + round);
                eventually(&format!("the minutes are in step {when}"), CONVERGE_MAX, both);
                user.remove(root, "minutes.odt");
                eventually(&format!("the removal is in step {when}"), CONVERGE_MAX, both);
                round += 1;
                user.edit(root, round);
                eventually(&format!("in step {when}"), CONVERGE_MAX, both);
            }
        }
        // While this node tries to reach the other again and again, its clock is set back.
        a.kill9();
        eventually("the other is missed", CONVERGE_MAX, || {
            if b.connected().is_empty() { Ok(()) } else { Err("still connected".to_owned()) }
        });
        jump("-500d");
        a.up(&[]);
        round += 1;
        user.edit(&there, round);
        eventually("in step after the clock was set back while nobody was there", CONVERGE_MAX, both);
        jump(by);
    }
    let contents = nothing_is_lost(&book, &[&here, &there]);
    println!("clock: {} jumps, {round} rounds of edits, {contents} contents, all found", JUMPS.len());
}
