//! The life of a service: killed, hung, reloaded, rebooted, upgraded, removed, purged.

use std::process::Command;
use std::time::Duration;

use crate::boxes::{Lab, eventually, finish};
use crate::office::{PLANS, has, office};

fn pid(lab: &Lab, name: &str) -> String {
    lab.sh(name, "systemctl show -P MainPID lanyard").ok().trim().to_owned()
}

/// Waits until another process than `old` serves.
#[track_caller]
fn serves_anew(lab: &Lab, name: &str, old: &str) {
    eventually("the service runs again", Duration::from_secs(60), || {
        let state = lab.sh(name, "systemctl show -P ActiveState lanyard").ok();
        let now = pid(lab, name);
        if state.trim() == "active" && now != old && now != "0" { Ok(()) } else { Err(format!("{state} {now}")) }
    });
}

#[test]
fn the_service_survives_what_happens_to_it_and_leaves_only_the_files_of_people() {
    let Some(mut lab) = Lab::open("life") else { return };
    office(&mut lab);

    let first = pid(&lab, "b");
    lab.sh("b", &format!("kill -9 {first}")).ok();
    serves_anew(&lab, "b", &first);

    // A hang: the main loop gives no sign of life.
    lab.sh(
        "b",
        "mkdir -p /run/systemd/system/lanyard.service.d
        printf '[Service]\\nWatchdogSec=3s\\n' >/run/systemd/system/lanyard.service.d/quick.conf
        systemctl daemon-reload; systemctl restart lanyard",
    )
    .ok();
    let second = pid(&lab, "b");
    lab.sh("b", &format!("kill -STOP {second}")).ok();
    serves_anew(&lab, "b", &second);
    let journal = lab.sh("b", "journalctl -u lanyard --no-pager").ok();
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    // One that turns is left alone for longer than the watchdog's time.
    let third = pid(&lab, "b");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(pid(&lab, "b"), third);
    lab.sh("b", "rm -r /run/systemd/system/lanyard.service.d; systemctl daemon-reload").ok();

    // A configuration that is read again.
    lab.sh("b", "mkdir -p /etc/lanyard; printf '[log]\\nlevel = \"debug\"\\n' >/etc/lanyard/config.toml; systemctl reload lanyard").ok();
    eventually("it was read", Duration::from_secs(10), || {
        let journal = lab.sh("b", "journalctl -u lanyard --no-pager").ok();
        if journal.contains("the configuration was read again") { Ok(()) } else { Err(journal) }
    });
    assert_eq!(pid(&lab, "b"), third);
    let status = lab.sh("b", "systemctl show -P StatusText lanyard").ok();
    assert_eq!(status.trim(), "1 of 1 machines connected, folders: 1");

    // A reboot, while the other goes on.
    lab.sh("b", "systemctl reboot --no-wall || true");
    lab.as_user("a", "anna", &format!("echo while b was away >{PLANS}/away")).ok();
    has(&lab, "b", &format!("{PLANS}/away"), "while b was away\n");
    lab.booted("b");

    // An upgrade in place.
    let next = lab.packages().join("next.deb");
    let script = format!(
        "dpkg-deb -R {0}/lanyard.deb {0}/next && sed -i 's/^Version: .*/Version: 0.1.0-9/' {0}/next/DEBIAN/control && dpkg-deb -b {0}/next {1}",
        lab.packages().display(),
        next.display()
    );
    finish(Command::new("sh").args(["-ec", &script])).ok();
    let (id, before) = (lab.sh("b", "lanyard status --json").ok(), pid(&lab, "b"));
    lab.sh("b", "dpkg -i /packages/next.deb").ok();
    serves_anew(&lab, "b", &before);
    let node = |json: &str| serde_json::from_str::<serde_json::Value>(json).expect("JSON")["node"]["id"].clone();
    assert_eq!(node(&lab.sh("b", "lanyard status --json").ok()), node(&id));
    lab.as_user("a", "anna", &format!("echo after >{PLANS}/after")).ok();
    has(&lab, "b", &format!("{PLANS}/after"), "after\n");

    // A removal keeps the node; a purge keeps the files of people only, and says so.
    lab.sh("b", "dpkg -r lanyard").ok();
    lab.sh("b", "test -s /var/lib/lanyard/state/key && ! systemctl is-active lanyard").ok();
    let said = lab.sh("b", "dpkg -P lanyard").ok();
    assert!(said.contains("the files of people stay in /var/lib/lanyard/shared"), "{said}");
    has(&lab, "b", &format!("{PLANS}/letter"), "by anna\n");
    let left = lab.sh("b", "find / -xdev -name '*lanyard*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/built*' -not -path '/packages*' -not -path '/var/log/*' -not -path '/var/cache/*' | sort").ok();
    assert_eq!(left.lines().collect::<Vec<_>>(), ["/var/lib/lanyard", &format!("{PLANS}/.lanyard")], "{left}");
}
