//! The first journey: two machines, three commands, people of a group who work in one folder.

use std::time::{Duration, Instant};

use crate::boxes::{Lab, eventually};

/// A folder of the office where the service keeps them.
pub(crate) const PLANS: &str = "/var/lib/lanyard/shared/plans";

/// Installs on two boxes, pairs them, and shares `plans`; anna works on `a`, ben on `b`, both in the group.
pub(crate) fn office(lab: &mut Lab) {
    lab.boot("a", 11);
    lab.boot("b", 12);
    lab.sh("a", "dpkg -i /packages/lanyard.deb; useradd -m -G lanyard anna; useradd -m eve").ok();
    lab.sh("a", &format!("lanyard share {PLANS}")).ok();
    let code = lab.sh("a", "lanyard invite --no-wait").ok();
    let code = code.lines().last().expect("a code").trim().to_owned();
    lab.as_user("a", "anna", &format!("echo by anna >{PLANS}/letter")).ok();
    // From here on the second machine's owner counts: install, join, and look.
    let began = Instant::now();
    lab.sh("b", "dpkg -i /packages/lanyard.deb").ok();
    let joined = lab.sh("b", &format!("lanyard join {code}")).ok();
    assert!(joined.contains(PLANS), "it says where the files are: {joined}");
    has(lab, "b", &format!("{PLANS}/letter"), "by anna\n");
    let took = began.elapsed();
    println!("from 'dpkg -i' on a second machine to the first file: {:.1} s", took.as_secs_f64());
    println!("  on the first:  lanyard invite");
    println!("  on the second: dpkg -i lanyard.deb; lanyard join CODE");
    lab.sh("b", "useradd -m -G lanyard ben").ok();
}

/// Waits until a file has this content.
#[track_caller]
pub(crate) fn has(lab: &Lab, name: &str, path: &str, content: &str) {
    eventually(&format!("{path} on {name}"), Duration::from_secs(60), || {
        let read = lab.sh(name, &format!("cat {path}"));
        if read.stdout == content { Ok(()) } else { Err(format!("{read:?}")) }
    });
}

#[test]
fn what_one_of_the_group_drops_on_a_machine_another_edits_on_the_other() {
    let Some(mut lab) = Lab::open("office") else { return };
    office(&mut lab);
    assert_eq!(lab.sh("a", "systemctl show -P ActiveState lanyard").ok().trim(), "active");

    // Below a directory that anna makes, with the umask that everybody has.
    lab.as_user("a", "anna", &format!("mkdir {PLANS}/2026; echo one >{PLANS}/2026/plan")).ok();
    has(&lab, "b", &format!("{PLANS}/2026/plan"), "one\n");
    lab.as_user(
        "b",
        "ben",
        &format!("echo two >>{PLANS}/2026/plan; mkdir {PLANS}/2026/more; echo x >{PLANS}/2026/more/y"),
    )
    .ok();
    has(&lab, "a", &format!("{PLANS}/2026/plan"), "one\ntwo\n");
    lab.as_user("a", "anna", &format!("echo three >>{PLANS}/2026/plan; rm -r {PLANS}/2026/more")).ok();
    has(&lab, "b", &format!("{PLANS}/2026/plan"), "one\ntwo\nthree\n");

    // What belongs to anna gets a mode and time that only its owner may set.
    lab.as_user("a", "anna", &format!("echo run >{PLANS}/tool")).ok();
    has(&lab, "b", &format!("{PLANS}/tool"), "run\n");
    lab.sh("b", &format!("touch -d 2020-01-01T00:00Z {PLANS}/tool; chmod 770 {PLANS}/tool")).ok();
    eventually("the mode of tool", Duration::from_secs(30), || {
        let seen = lab.sh("a", &format!("stat -c '%a %Y' {PLANS}/tool")).ok();
        if seen.trim() == "770 1577836800" { Ok(()) } else { Err(seen) }
    });
    lab.as_user("a", "anna", &format!("echo again >>{PLANS}/tool")).ok();

    // Who is not in the group neither reads nor asks.
    assert_ne!(lab.as_user("a", "eve", &format!("cat {PLANS}/letter")).code, 0);
    assert_eq!(lab.as_user("a", "eve", "lanyard status").code, 1);
    assert_eq!(lab.as_user("a", "anna", "lanyard status").code, 0);

    // The second admin makes the office healthy; the check-up has nothing to say then.
    let before = lab.sh("a", "lanyard doctor");
    assert!(before.code == 1 && before.stdout.contains("only admin"), "{before:?}");
    lab.sh("a", "lanyard role b admin").ok();
    for name in ["a", "b"] {
        eventually("a healthy machine", Duration::from_secs(20), || {
            let said = lab.sh(name, "lanyard doctor");
            if said.stdout == "nothing found\n" { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }
    let journal = lab.sh("a", "journalctl -u lanyard -o verbose --no-pager").ok();
    assert!(journal.contains("LANYARD_PEER=b") && journal.contains("MESSAGE=b is connected"), "{journal}");
    assert_eq!(
        lab.sh("a", "lanyard service status").ok().lines().next(),
        Some("active (running), starts with the machine")
    );
}
