//! The texts of units: those of `systemd/`, and what is made of them.

use std::path::{Path, PathBuf};

/// The machine's service.
pub(super) const SYSTEM: &str = include_str!("../../../systemd/lanyard.service");
/// A user's service.
pub(super) const USER: &str = include_str!("../../../systemd/user/lanyard.service");
/// The service's account.
pub(super) const SYSUSERS: &str = include_str!("../../../systemd/sysusers.conf");
/// The service's directories.
pub(super) const TMPFILES: &str = include_str!("../../../systemd/tmpfiles.conf");
/// Waiting longer after each failure; systemd knows that from version 254 on, and says of earlier ones that it does not.
pub(super) const BACK_OFF: &str = include_str!("../../../systemd/back-off.conf");

/// Where the units look for the program.
const PROGRAM: &str = "/usr/bin/lanyard";
/// First version that knows `RestartSteps`. Source: systemd.service(5).
const BACK_OFF_SINCE: u32 = 254;

/// The unit, running `program`.
pub(super) fn with_program(unit: &str, program: &Path) -> String {
    let program = quoted(&program.to_string_lossy());
    unit.replace(&format!("ExecStart={PROGRAM}"), &format!("ExecStart={program}"))
}

/// The program that a unit runs.
pub(super) fn program(unit: &str) -> Option<PathBuf> {
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
    Some(PathBuf::from(line.strip_suffix(" up")?.trim_matches('"')))
}

/// Whether this systemd knows how to wait longer after each failure; `version` is what `systemctl --version` prints.
pub(super) fn knows_back_off(version: &str) -> bool {
    let number = version.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    number.is_some_and(|number: u32| number >= BACK_OFF_SINCE)
}

/// A word of a unit file, in quotes where it needs them. Source: systemd.syntax(7), "Quoting"; systemd.unit(5),
/// "Specifiers".
pub(super) fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if escaped.contains([' ', '\t', '"', '\'', ';']) || escaped.len() != word.len() {
        format!("\"{escaped}\"")
    } else {
        escaped
    }
}

/// The drop-in that lets the service use a directory. A directory that is away, as on a disk that is not mounted, does
/// not keep the service from starting.
pub(super) fn allowing(path: &str, group: Option<&str>) -> String {
    let mut text = format!("# lets lanyard use {path}\n[Service]\n");
    if is_hidden(path) {
        // All home directories are out of its sight, but for this one.
        let bound = path.replace('\\', "\\\\").replace(':', "\\:");
        text.push_str(&format!("ProtectHome=tmpfs\nBindPaths={}\n", quoted(&format!("-{bound}"))));
    } else {
        text.push_str(&format!("ReadWritePaths={}\n", quoted(&format!("-{path}"))));
    }
    if let Some(group) = group {
        text.push_str(&format!("SupplementaryGroups={group}\n"));
    }
    text
}

/// Whether `ProtectHome=` takes the path out of the service's sight.
fn is_hidden(path: &str) -> bool {
    ["/home/", "/root/", "/run/user/"].iter().any(|top| path.starts_with(top))
}

/// The directory that a drop-in allows.
pub(super) fn allowed_by(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("# lets lanyard use ")).map(str::to_string)
}

/// A file name for the drop-in of a path.
pub(super) fn drop_in_name(path: &str) -> String {
    let name: String =
        path.trim_matches('/').chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let sum =
        path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("allow-{}-{:08x}.conf", &name[..name.len().min(60)], sum >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_one_that_is_installed() {
        let unit = with_program(SYSTEM, Path::new("/usr/local/bin/lanyard"));
        assert_eq!(program(&unit).as_deref(), Some(Path::new("/usr/local/bin/lanyard")));
        let odd = with_program(USER, Path::new("/home/a b/50%/lanyard"));
        assert!(odd.contains("ExecStart=\"/home/a b/50%%/lanyard\" up\n"), "{odd}");
        assert!(program(SYSTEM).is_some() && program(USER).is_some());
    }

    #[test]
    fn an_allowed_directory_is_written_as_systemd_reads_it() {
        let plain = allowing("/srv/plans", None);
        assert!(plain.ends_with("[Service]\nReadWritePaths=-/srv/plans\n"), "{plain}");
        let odd = allowing("/srv/50% of \"it\"", Some("office"));
        assert!(odd.contains("ReadWritePaths=\"-/srv/50%% of \\\"it\\\"\"\nSupplementaryGroups=office\n"), "{odd}");
        let home = allowing("/home/anna/share", None);
        assert!(home.contains("ProtectHome=tmpfs\nBindPaths=-/home/anna/share\n"), "{home}");
        assert_eq!(allowed_by(&odd).as_deref(), Some("/srv/50% of \"it\""));
    }

    #[test]
    fn two_paths_have_two_drop_ins() {
        assert_ne!(drop_in_name("/srv/a b"), drop_in_name("/srv/a-b"));
        assert!(drop_in_name("/srv/ä").is_ascii());
    }

    #[test]
    fn the_version_of_systemd_is_read() {
        assert!(!knows_back_off("systemd 252 (252.38-1~deb12u1)\n+PAM"));
        assert!(knows_back_off("systemd 257 (257.9-1)\n"));
        assert!(!knows_back_off(""));
    }
}
