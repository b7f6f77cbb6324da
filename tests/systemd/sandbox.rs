//! A probe in the service's own sandbox: what it must not do fails there, and would work outside.

use std::time::Duration;

use crate::boxes::{Lab, eventually, skipped};

/// Each line: a name, and a command that must fail inside and must succeed outside, as the service's user.
const FORBIDDEN: [(&str, &str); 8] = [
    ("write outside", "echo x >/opt/open/x"),
    ("write to its own program", "test -w /opt/open"),
    ("look into home directories", "ls /home/anna"),
    ("trace processes", "perl -e 'exit(syscall(101, 0, 0, 0, 0) == 0 ? 0 : 1)'"),
    ("memory to write and execute", "perl -e 'exit(syscall(9, 0, 4096, 7, 34, -1, 0) == -1 ? 1 : 0)'"),
    ("a namespace of its own", "unshare -U true"),
    ("a personality", "perl -e 'exit(syscall(135, 0x0040000) == -1 ? 1 : 0)'"),
    ("other processes", "test -e /proc/1/comm"),
];

#[test]
fn the_sandbox_denies_what_the_service_does_not_need() {
    let Some(mut lab) = Lab::open("sandbox") else { return };
    lab.boot("a", 11);
    lab.sh("a", "dpkg -i /packages/lanyard.deb; useradd -m anna; chmod 755 /home/anna; mkdir -m 777 /opt/open").ok();
    // The service's own unit, with a probe in the place of the program.
    let probe = |script: &str| {
        let unit = "sed -e 's|^ExecStart=.*|ExecStart=/opt/probe|' -e 's/^Type=.*/Type=oneshot/' -e '/^Restart/d' -e '/^Watchdog/d' \
            /lib/systemd/system/lanyard.service >/run/systemd/system/probe.service";
        let script = script.replace('\'', "'\\''");
        lab.sh("a", &format!("printf '#!/bin/sh\\n%s\\n' '{script}' >/opt/probe; chmod 755 /opt/probe; {unit}; systemctl daemon-reload")).ok();
        lab.sh("a", "systemctl start probe").code == 0
    };
    assert!(probe("echo x >/var/lib/lanyard/shared/probe && exit 0; exit 1"), "its own directories it may use");
    for (what, script) in FORBIDDEN {
        let outside = lab.as_user("a", "lanyard", script);
        assert_eq!(outside.code, 0, "outside: {what}: {outside:?}");
        assert!(!probe(script), "the sandbox permits: {what}");
    }
    closes_to_itself_what_is_not_shared(&lab);
    // Without the right to it this fails everywhere, but for different reasons: 1 is EPERM, 97 EAFNOSUPPORT.
    let packets = "perl -e 'socket(S, 17, 3, 0); exit($!{EAFNOSUPPORT} ? 0 : 1)'";
    assert_eq!(lab.as_user("a", "lanyard", packets).code, 1);
    assert!(probe(packets), "the sandbox permits packet sockets");
}

/// Another of the service's own directories is opened by one command, and systemd sees the same process.
fn closes_to_itself_what_is_not_shared(lab: &Lab) {
    lab.sh("a", "systemctl restart lanyard").ok();
    if !lab.sh("a", "lanyard status --json").ok().contains("\"confined\":true") {
        return skipped("this kernel has no Landlock that permits renames");
    }
    let main = || lab.sh("a", "systemctl show -P MainPID -P NRestarts -P ActiveState lanyard").ok();
    let before = main();
    lab.sh(
        "a",
        "install -d -o lanyard -g lanyard -m 2770 /var/lib/lanyard/other; lanyard share /var/lib/lanyard/other",
    )
    .ok();
    eventually("the service serves again", Duration::from_secs(30), || {
        if main() == before { Ok(()) } else { Err(format!("{before} {}", main())) }
    });
    assert!(lab.sh("a", "lanyard folders").ok().contains("/var/lib/lanyard/other"));
    let log = lab.sh("a", "journalctl -u lanyard -o cat --no-pager").ok();
    assert!(log.contains("runs again"), "{log}");
}
