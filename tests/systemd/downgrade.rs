//! A machine that a later lanyard has used: the package does not replace that one, and a service that finds such a home
//! ends, says what it needs, and is not tried again.

use std::time::Duration;

use crate::boxes::{Lab, eventually};

const STAMP: &str = "/var/lib/lanyard/state/format";
const SHOWN: &str = "systemctl show --property=ActiveState,ExecMainStatus,NRestarts lanyard";
const ENDED: [&str; 3] = ["ActiveState=failed\n", "ExecMainStatus=6\n", "NRestarts=0\n"];

#[test]
fn a_downgrade_is_refused_in_words_does_not_spin_and_loses_nothing() {
    let Some(mut lab) = Lab::open("down") else { return };
    lab.boot("a", 11);
    lab.sh(
        "a",
        "dpkg -i /packages/lanyard.deb; mkdir -p /var/lib/lanyard/shared; lanyard share /var/lib/lanyard/shared/plans",
    )
    .ok();
    lab.sh("a", "echo ours >/var/lib/lanyard/shared/plans/letter; lanyard wait --timeout 30s; systemctl stop lanyard")
        .ok();
    let own = lab.sh("a", &format!("cat {STAMP}")).ok();
    assert!(own.starts_with("lanyard home 1\n"), "{own}");
    lab.sh("a", &format!("printf 'lanyard home 99\\nlanyard 9.0.0\\n' >{STAMP}")).ok();
    let sums = "cd /var/lib/lanyard; find . -type f | sort | xargs -d '\\n' sha256sum; find . | sort | xargs -d '\\n' stat -c '%n %Y %a %U'";
    let before = lab.sh("a", sums).ok();

    // The program of the package meets the home of a later one.
    let started = lab.sh("a", "systemctl start lanyard");
    assert_ne!(started.code, 0);
    eventually("it failed", Duration::from_secs(10), || {
        let state = lab.sh("a", SHOWN).ok();
        if ENDED.iter().all(|property| state.contains(property)) { Ok(()) } else { Err(state) }
    });
    // Longer than a restart after a failure would take.
    std::thread::sleep(Duration::from_secs(4));
    let state = lab.sh("a", SHOWN).ok();
    assert!(ENDED.iter().all(|property| state.contains(property)), "{state}");
    let journal = lab.sh("a", "journalctl -u lanyard --no-pager").ok();
    assert_eq!(journal.matches("was written by lanyard 9.0.0 (format 99)").count(), 1, "{journal}");
    let status = lab.sh("a", "lanyard service status").ok();
    assert!(status.starts_with("failed (failed)") && status.contains("needs    a newer lanyard"), "{status}");
    let doctor = lab.sh("a", "lanyard doctor");
    assert!(doctor.code == 1 && doctor.stdout.contains("do: install lanyard 9.0.0 or later"), "{doctor:?}");

    // Its package is not put in place of a later one.
    let refused = lab.sh("a", "dpkg -i /packages/lanyard.deb");
    assert_ne!(refused.code, 0);
    for words in ["written by lanyard 9.0.0 (format 99)", "reads up to format 1", "nothing was changed"] {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    assert_eq!(lab.sh("a", "dpkg-query -W -f '${db:Status-Status}' lanyard").ok(), "installed");
    assert_eq!(lab.sh("a", sums).ok(), before, "every byte, time and owner");

    // The later one is put back: here, the stamp.
    lab.sh("a", &format!("printf '%s' '{own}' >{STAMP}; systemctl start lanyard; lanyard wait --timeout 30s")).ok();
    assert_eq!(lab.sh("a", "cat /var/lib/lanyard/shared/plans/letter").ok(), "ours\n");
    assert!(lab.sh("a", "lanyard service status").ok().starts_with("active (running)"));
    lab.sh("a", "dpkg -i /packages/lanyard.deb").ok();
}
