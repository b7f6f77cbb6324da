//! Installed from a plain program, without a package; and a directory elsewhere.

use std::time::Duration;

use crate::boxes::{Lab, eventually};

#[test]
fn a_plain_program_installs_itself_opens_a_directory_and_takes_itself_away() {
    let Some(mut lab) = Lab::open("plain") else { return };
    lab.boot("a", 11);
    lab.sh("a", "useradd -m anna; groupadd office; mkdir -m 2775 /srv/office; chgrp office /srv/office; mkdir /srv/plain '/home/anna/my share'").ok();
    let refused = lab.as_user("a", "anna", "/built/lanyard service install");
    assert!(refused.code == 1 && refused.stderr.contains("--user"), "{refused:?}");
    assert_eq!(lab.sh("a", "/built/lanyard service status").ok(), "not installed; 'lanyard service install' does it\n");

    let installed = lab.sh("a", "/built/lanyard service install");
    assert!(installed.stderr.contains("write /etc/systemd/system/lanyard.service"), "{installed:?}");
    installed.ok();
    let again = lab.sh("a", "lanyard service install").ok();
    assert!(again.contains("nothing to do"), "{again}");
    assert!(lab.sh("a", "lanyard service status").ok().starts_with("active (running), starts with the machine"));
    lab.sh("a", "lanyard status").ok();

    for path in ["/srv/plain", "/srv/office", "/home/anna/my share"] {
        let shut = lab.sh("a", &format!("lanyard share '{path}'"));
        assert!(shut.code == 1 && shut.stderr.contains("lanyard service allow"), "{shut:?}");
        lab.sh("a", &format!("lanyard service allow '{path}'")).ok();
        lab.sh("a", &format!("lanyard share '{path}'")).ok();
    }
    eventually("all three folders are at rest", Duration::from_secs(60), || {
        let folders = lab.sh("a", "lanyard folders").ok();
        if folders.matches(" idle ").count() == 3 { Ok(()) } else { Err(folders) }
    });
    assert_eq!(lab.sh("a", "stat -c '%G %a' /srv/plain /srv/office").ok(), "lanyard 2775\noffice 2775\n");
    let listed = lab.sh("a", "lanyard service status --json").ok();
    assert!(listed.contains("[\"/home/anna/my share\",\"/srv/office\",\"/srv/plain\"]"), "{listed}");
    lab.sh("a", "lanyard service allow --remove /srv/plain").ok();
    assert!(!lab.sh("a", "lanyard service status").ok().contains("/srv/plain"));

    lab.sh("a", "echo mine >/srv/office/letter; echo ours >/var/lib/lanyard/shared/letter").ok();
    let gone = lab.sh("a", "/built/lanyard service uninstall --purge").ok();
    assert!(gone.contains("Files in shared folders stay"), "{gone}");
    assert_eq!(lab.sh("a", "cat /srv/office/letter /var/lib/lanyard/shared/letter").ok(), "mine\nours\n");
    let left = lab.sh("a", "find /etc /usr/local /run/systemd /var/lib/lanyard -name '*lanyard*' -o -name state -path '*lanyard*' | grep -v shared").stdout;
    assert_eq!(left, "/var/lib/lanyard\n");
    assert!(lab.sh("a", "/built/lanyard service uninstall").ok().contains("nothing to do"));
}
