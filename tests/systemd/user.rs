//! The service of one user: installed, serving, and taken away by that user alone.

use std::time::Duration;

use crate::boxes::{Done, Lab, eventually};

/// A command of `anna`, as her session has it.
fn anna(lab: &Lab, name: &str, script: &str) -> Done {
    lab.as_user(name, "anna", &format!("cd; export XDG_RUNTIME_DIR=/run/user/$(id -u); {script}"))
}

#[test]
fn a_user_installs_a_service_of_her_own_that_syncs_outlives_its_process_and_leaves_nothing() {
    let Some(mut lab) = Lab::open("user") else { return };
    for (name, number) in [("a", 11), ("b", 12)] {
        lab.boot(name, number);
        lab.sh(name, "useradd -m anna").ok();
        let before = lab.as_user(name, "anna", "cd; /built/lanyard service install --user");
        assert!(before.code == 1 && before.stderr.contains("loginctl enable-linger"), "{before:?}");
        lab.sh(name, "loginctl enable-linger anna").ok();
        eventually("her systemd runs", Duration::from_secs(60), || {
            let state = anna(&lab, name, "systemctl --user is-system-running").stdout;
            if ["running\n", "degraded\n"].contains(&state.as_str()) { Ok(()) } else { Err(state) }
        });
        assert!(anna(&lab, name, "/built/lanyard service status --user").ok().starts_with("not installed"));
        // Without the session's variable too, as under sudo or cron.
        let installed = lab.as_user(name, "anna", "cd; env -u XDG_RUNTIME_DIR /built/lanyard service install --user");
        assert!(installed.stderr.contains("write /home/anna/.config/systemd/user/lanyard.service"), "{installed:?}");
        installed.ok();
        assert!(anna(&lab, name, "/built/lanyard service install --user").ok().contains("nothing to do"));
        let status = anna(&lab, name, "/built/lanyard service status --user").ok();
        assert!(status.starts_with("active (running), starts when you log in"), "{status}");
        // `Type=notify`: active means that it serves.
        anna(&lab, name, "/built/lanyard status").ok();
    }

    anna(&lab, "a", "mkdir plans; echo by anna >plans/letter; /built/lanyard share plans").ok();
    let code = anna(&lab, "a", "/built/lanyard invite --no-wait").ok();
    let code = code.lines().last().expect("a code").trim().to_owned();
    anna(&lab, "b", &format!("/built/lanyard join {code}")).ok();
    let has = |name: &str, path: &str, content: &str| {
        eventually(&format!("{path} on {name}"), Duration::from_secs(60), || {
            let read = anna(&lab, name, &format!("cat {path}"));
            if read.stdout == content { Ok(()) } else { Err(format!("{read:?}")) }
        });
    };
    has("b", "Lanyard/plans/letter", "by anna\n");
    anna(&lab, "b", "echo and back >>Lanyard/plans/letter").ok();
    has("a", "plans/letter", "by anna\nand back\n");

    let pid = || anna(&lab, "b", "systemctl --user show -P MainPID lanyard").ok();
    let first = pid();
    anna(&lab, "b", &format!("kill -9 {first}")).ok();
    eventually("it runs again", Duration::from_secs(60), || {
        let state = anna(&lab, "b", "systemctl --user show -P ActiveState lanyard").ok();
        if state == "active\n" && pid() != first { Ok(()) } else { Err(state) }
    });
    anna(&lab, "a", "echo three >>plans/letter").ok();
    has("b", "Lanyard/plans/letter", "by anna\nand back\nthree\n");
    let again = anna(&lab, "b", "/built/lanyard service status --user").ok();
    assert!(again.contains("restarts 1 ('journalctl --user -u lanyard' says why)"), "{again}");

    let gone = anna(&lab, "b", "/built/lanyard service uninstall --user").ok();
    assert!(gone.contains("Your files, and the node's key in ~/.local/share/lanyard, stay"), "{gone}");
    assert!(anna(&lab, "b", "/built/lanyard service status --user").ok().starts_with("not installed"));
    let left = anna(&lab, "b", "find ~/.config ! -type d; pgrep -x lanyard || true; cat Lanyard/plans/letter").ok();
    assert_eq!(left, "by anna\nand back\nthree\n");
    assert!(anna(&lab, "b", "/built/lanyard service uninstall --user").ok().contains("nothing to do"));
}
