//! The package and its units by the tools that judge them.

use std::process::Command;

use crate::boxes::{Lab, finish, package, skipped};

/// Highest exposure that `systemd-analyze security` may name, in tenths.
const EXPOSURE_MAX: &str = "15";

#[test]
fn the_units_are_understood_and_well_confined() {
    let Some(mut lab) = Lab::open("units") else { return };
    lab.boot("a", 11);
    lab.sh("a", "dpkg -i /packages/lanyard.deb").ok();
    for unit in ["/lib/systemd/system/lanyard.service", "--user /usr/lib/systemd/user/lanyard.service"] {
        // It exits with 0 for what it does not understand.
        let said = lab.sh("a", &format!("XDG_RUNTIME_DIR=/run systemd-analyze verify --man=no {unit}"));
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{unit}");
    }
    let score = lab.sh("a", &format!("systemd-analyze security --threshold={EXPOSURE_MAX} lanyard.service"));
    let overall = score.stdout.lines().find(|line| line.contains("Overall")).unwrap_or_default().to_owned();
    println!("{}", overall.trim());
    score.ok();
    let bad = lab.sh("a", &format!("systemd-analyze security --threshold={EXPOSURE_MAX} dbus.service"));
    assert_ne!(bad.code, 0, "the threshold can be missed");
}

#[test]
fn lintian_finds_no_errors() {
    let Some(package) = package() else { return skipped("there is no package: debian/build dev builds it") };
    if Command::new("lintian").arg("--version").output().is_err() {
        return skipped("lintian is not installed");
    }
    let said = finish(Command::new("lintian").args(["--fail-on", "error", "--allow-root"]).arg(&package));
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
}
