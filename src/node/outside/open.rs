//! What is open to a node: its own directories, the folders, the place where folders are received, the archive, and what
//! every program reads of the system.

use std::path::{Path, PathBuf};

use super::super::config::Config;
use super::super::places::Places;
use super::super::places::to_path;
use super::super::record::{Place, Record};
use crate::shell::confine::Open;

/// What the node and its libraries read of the system. Seen by tracing a node through its tests, and by reading: names
/// are looked up by libraries that are loaded at the first look, as `/etc` says; `/proc` has the boot's number and the
/// limits on watches; how many threads are worth starting stands in `/sys`.
///
/// Directories where single files would do: a file that is replaced by another is another inode. What is in `/etc` and
/// is for root alone, a node of root can read.
const SYSTEM: [&str; 15] = [
    "/etc",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/dev/random",
    "/dev/urandom",
];
const NULL: &str = "/dev/null";

/// What the decision rests on.
pub(super) struct Known<'a> {
    pub(super) places: &'a Places,
    pub(super) config: &'a Config,
    pub(super) record: Option<&'a Record>,
    /// Directories of the command line.
    pub(super) share: &'a [PathBuf],
    /// Directories that were asked for.
    pub(super) more: Vec<PathBuf>,
    /// Where `/etc/resolv.conf` leads.
    pub(super) resolver: Option<PathBuf>,
}

/// What is open.
pub(super) fn open(known: &Known<'_>) -> Open {
    let Known { places, config, record, share, more, resolver } = known;
    let folders = record.iter().flat_map(|record| record.folders.values()).filter_map(Place::at).map(to_path);
    let remembered = record.and_then(|record| record.receive_into.as_ref()).map(to_path);
    let configured = config.receive_into.as_ref().map(|path| path.as_path().to_path_buf());
    let receive_into = remembered.or(configured).unwrap_or_else(|| places.receive_into.clone());
    let others = [&config.coordinator.folders, &config.archive.path];
    let others = others.into_iter().flatten().map(|path| path.as_path().to_path_buf());
    let above = |path: &Path| path.parent().map(Path::to_path_buf);
    let mut read: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    read.extend(above(&places.config));
    // The program that writes it replaces it: its directory, unless that is a whole tree.
    let narrow = |path: &PathBuf| above(path).filter(|dir| dir.components().count() > 2);
    read.extend(resolver.as_ref().map(|path| narrow(path).unwrap_or_else(|| path.clone())));
    Open {
        work: folders.chain([receive_into]).chain(others).chain(share.iter().cloned()).chain(more.clone()).collect(),
        sockets: [Some(places.state.clone()), above(&places.socket)].into_iter().flatten().collect(),
        read,
        write: vec![PathBuf::from(NULL)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::places::Scope;
    use crate::node::places::to_text;

    fn places() -> Places {
        Places {
            scope: Scope::User,
            config: "/home/anna/.config/lanyard/config.toml".into(),
            state: "/home/anna/.local/share/lanyard/state".into(),
            socket: "/run/user/1000/lanyard/lanyard.sock".into(),
            receive_into: "/home/anna/Lanyard".into(),
        }
    }

    fn opened(record: Option<&Record>, resolver: Option<&str>) -> Open {
        let (config, share) = (Config::default(), [PathBuf::from("/home/anna/Shared")]);
        let more = vec![PathBuf::from("/srv/asked")];
        let resolver = resolver.map(PathBuf::from);
        open(&Known { places: &places(), config: &config, record, share: &share, more, resolver })
    }

    #[test]
    fn the_folders_and_the_nodes_own_directories_are_open_and_no_home_directory() {
        let mut record = Record::new("front-desk".into());
        record.folders.insert("00".into(), Place::At(to_text(Path::new("/srv/plans"))));
        record.folders.insert("01".into(), Place::Parts { at: to_text(Path::new("/srv/part")), inside: Vec::new() });
        record.folders.insert("02".into(), Place::Dropped);
        let open = opened(Some(&record), None);
        let work = ["/srv/plans", "/srv/part", "/home/anna/Lanyard", "/home/anna/Shared", "/srv/asked"];
        assert_eq!(open.work, work.map(PathBuf::from));
        assert_eq!(
            open.sockets,
            ["/home/anna/.local/share/lanyard/state", "/run/user/1000/lanyard"].map(PathBuf::from)
        );
        let all = [&open.work, &open.sockets, &open.read, &open.write];
        for secret in ["/home/anna/.ssh/id_ed25519", "/home/anna/Documents", "/root/x", "/var/lib/x", "/tmp/x"] {
            let secret = Path::new(secret);
            assert!(all.into_iter().flatten().all(|open| !secret.starts_with(open)), "{secret:?}");
        }
    }

    #[test]
    fn where_folders_are_received_the_record_says_before_the_default() {
        let mut record = Record::new("front-desk".into());
        record.receive_into = Some(to_text(Path::new("/srv/office")));
        let open = opened(Some(&record), None);
        assert!(open.work.contains(&"/srv/office".into()));
        assert!(!open.work.contains(&"/home/anna/Lanyard".into()));
    }

    #[test]
    fn names_are_looked_up_where_the_system_says_and_that_opens_no_whole_tree() {
        let resolved = opened(None, Some("/run/systemd/resolve/stub-resolv.conf"));
        assert!(resolved.read.contains(&"/run/systemd/resolve".into()));
        let odd = opened(None, Some("/run/resolv.conf"));
        assert!(odd.read.contains(&"/run/resolv.conf".into()) && !odd.read.contains(&"/run".into()));
    }
}
