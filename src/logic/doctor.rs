//! What measured values mean: findings, each with its remedy. A healthy machine has none.
//!
//! Rule: nothing is said that a person cannot act on. A machine that is switched off, or an office of one, is healthy.

use crate::wire::api::{Checkup, Finding, FolderCheck, Room};

/// Clocks may differ by so much. A guess: the times of changes made by two people one after the other stay in order.
const CLOCK_MS_MAX: u64 = 30_000;
/// A disk with less of its room free is nearly full, unless that is plenty.
const FREE_PERCENT_MIN: u64 = 5;
/// See `FREE_PERCENT_MIN`: 5 GiB.
const FREE_PLENTY: u64 = 5 << 30;
/// Fewer watches serve no ordinary office. A guess: some folders with some directories each.
const WATCHES_MIN: u64 = 1_000;
/// An archive that is older is not being kept up. A guess: snapshots are taken daily at least.
const ARCHIVE_MS_MAX: u64 = 2 * 24 * 3600 * 1000;

/// What was measured on this machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Measured {
    /// What the node said, or what can be known without it.
    pub node: Checkup,
    /// Whether a node runs.
    pub runs: bool,
    /// Why this lanyard may not use the home, and what to do.
    pub format: Option<(String, String)>,
    /// Why the configuration cannot be used.
    pub configuration: Option<(String, String)>,
    /// What multicast did; none where the node does not use it.
    pub multicast: Option<Multicast>,
    /// What became of a connection to the node's own port.
    pub port: Port,
    /// The limit on watches, the least that applies.
    pub watches_max: Option<u64>,
}

/// What multicast did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Multicast {
    /// Why the question could not be sent.
    pub unsent: Option<String>,
    /// Whether it came back to this machine, as multicast does.
    pub heard_itself: bool,
    /// Addresses of other machines from which anything came.
    pub heard: Vec<String>,
    /// Addresses of connected members that are on the same network.
    pub neighbours: Vec<String>,
}

/// The node's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Port {
    /// It takes connections; or, without a node, it is free.
    #[default]
    Good,
    /// A connection from this very machine is not taken.
    Silent,
    /// Another program has it.
    Taken,
}

/// What is wrong.
pub fn findings(measured: &Measured) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some((what, hint)) = &measured.format {
        found.push(finding("version", what.clone(), hint.clone()));
    }
    for apart in &measured.node.apart {
        found.push(finding("version", apart.why.clone(), apart.hint.clone()));
    }
    if let Some((what, hint)) = &measured.configuration {
        found.push(finding("configuration", what.clone(), hint.clone()));
    }
    let port = measured.node.port;
    multicast(measured, &mut found);
    match measured.port {
        Port::Good => {}
        Port::Silent => found.push(finding(
            "firewall",
            format!("port {port} of this machine takes no connections: a firewall here drops them"),
            format!(
                "let TCP port {port} in: 'ufw allow lanyard', or 'firewall-cmd --permanent --add-service=lanyard && firewall-cmd --reload', or 'nft insert rule inet filter input tcp dport {port} accept'"
            ),
        )),
        Port::Taken => found.push(finding(
            "port",
            format!("another program has port {port}, so the node listens on another one"),
            format!("end that program ('ss -ltnp sport = :{port}' names it), or choose a port by 'port = N' in config.toml"),
        )),
    }
    clocks(measured, &mut found);
    for folder in &measured.node.folders {
        of_folder(folder, &mut found);
    }
    watches(measured, &mut found);
    rooms(measured, &mut found);
    if let ([only], true) = (&measured.node.admins[..], measured.node.members > 1) {
        found.push(finding(
            "admins",
            format!("{only} is the only admin: should that machine be lost, nobody can change the rules"),
            format!("make a second machine an admin: 'lanyard role NODE admin' on {only}"),
        ));
    }
    if let Some(age) = measured.node.archive_age_ms.filter(|age| *age > ARCHIVE_MS_MAX) {
        found.push(finding(
            "archive",
            format!("the newest snapshot of the archive is {} old", span(age)),
            "see 'lanyard status' for why none is taken: the disk of the archive may be full or away".into(),
        ));
    }
    found
}

fn finding(check: &str, what: String, remedy: String) -> Finding {
    Finding { check: check.into(), what, remedy }
}

fn multicast(measured: &Measured, found: &mut Vec<Finding>) {
    let Some(multicast) = &measured.multicast else { return };
    let open = "let UDP port 5353 in and out: 'ufw allow lanyard', or 'firewall-cmd --permanent --add-service=lanyard && firewall-cmd --reload', or 'nft insert rule inet filter input udp dport 5353 accept'";
    if let Some(why) = &multicast.unsent {
        found.push(finding("multicast", format!("multicast cannot be sent from this machine: {why}"), open.into()));
    } else if !multicast.heard_itself {
        let what =
            "multicast does not come back to this machine: a firewall here drops it, so other machines are not found";
        found.push(finding("multicast", what.into(), open.into()));
    } else if multicast.heard.is_empty() && !multicast.neighbours.is_empty() {
        found.push(finding(
            "multicast",
            format!(
                "no multicast of {} arrives here, though links do: new machines will not find each other",
                multicast.neighbours.join(", ")
            ),
            format!(
                "open UDP port 5353 on the other machines, and turn off 'client isolation' or 'IGMP snooping' in the switch or wireless access point; until then name a peer in config.toml, peers = [\"{}\"], and pair by 'lanyard join CODE --at {}'",
                multicast.neighbours[0], multicast.neighbours[0]
            ),
        ));
    }
}

/// With several peers the odd one is known; two clocks that differ are only known to differ.
fn clocks(measured: &Measured, found: &mut Vec<Finding>) {
    let told: Vec<(&str, i64)> =
        measured.node.peers.iter().filter_map(|peer| Some((peer.name.as_str(), peer.ahead_ms?))).collect();
    let off: Vec<_> = told.iter().filter(|(_, ahead)| ahead.unsigned_abs() > CLOCK_MS_MAX).collect();
    let set = "set it by the network: 'timedatectl set-ntp true'; what was saved meanwhile keeps its wrong time";
    let ahead = |ahead: i64| if ahead > 0 { "behind" } else { "ahead of" };
    match off[..] {
        [] => {}
        [(name, by)] if told.len() == 1 => found.push(finding(
            "clock",
            format!("the clock of this machine is {} {} that of {name}", span(by.unsigned_abs()), ahead(*by)),
            format!("see with 'date' which of the two is wrong, and {set}"),
        )),
        _ if off.len() * 2 > told.len() => {
            let mut by: Vec<i64> = off.iter().map(|(_, by)| *by).collect();
            by.sort_unstable();
            let by = by[by.len() / 2];
            found.push(finding(
                "clock",
                format!("the clock of this machine is {} {} those of the others", span(by.unsigned_abs()), ahead(by)),
                set.into(),
            ));
        }
        _ => {
            for (name, by) in off {
                let how = if *by > 0 { "ahead of" } else { "behind" };
                found.push(finding(
                    "clock",
                    format!("the clock of {name} is {} {how} those of the others", span(by.unsigned_abs())),
                    format!("on {name}, {set}"),
                ));
            }
        }
    }
}

fn of_folder(folder: &FolderCheck, found: &mut Vec<Finding>) {
    let (name, path) = (&folder.name, folder.path.as_str());
    if let Some(why) = &folder.marker {
        found.push(finding(
            "marker",
            format!("folder {name} stands still: {why}"),
            format!(
                "mount the disk that holds {path}, or put the directory back, with its .lanyard; if it is gone for good, 'lanyard drop {name}' and 'lanyard get {name} PATH' receive it anew"
            ),
        ));
        return;
    }
    if let Some(locked) = &folder.locked {
        found.push(finding(
            "permissions",
            format!("the node may not use {} of folder {name}", locked.as_str()),
            format!(
                "give the node's user the right to read, write and enter it: 'chown' or 'chmod u+rwx {}'",
                locked.as_str()
            ),
        ));
        return;
    }
    let is_told_elsewhere = |problem: &str| problem.contains("is full") || problem.contains("looking now and then");
    if let Some(problem) = folder.problem.as_ref().filter(|problem| !is_told_elsewhere(problem)) {
        let remedy = match problem.starts_with("cannot read") {
            true => format!("give the node's user the right to read it, or name it in {path}/.lanyardignore"),
            false => String::from("'lanyard status' shows it until it is right; the node tries again by itself"),
        };
        found.push(finding("folder", format!("folder {name}: {problem}"), remedy));
    }
}

fn watches(measured: &Measured, found: &mut Vec<Finding>) {
    let unwatched = measured.node.folders.iter().find(|folder| !folder.watched && folder.marker.is_none());
    let remedy =
        "raise it: 'echo fs.inotify.max_user_watches=524288 > /etc/sysctl.d/60-lanyard.conf && sysctl --system'";
    match (measured.watches_max, unwatched) {
        (limit, Some(folder)) => {
            let limit = limit.map_or(String::new(), |limit| format!(" (it is {limit})"));
            let what = format!(
                "changes in folder {} are seen late: the limit on inotify watches is reached{limit}",
                folder.name
            );
            found.push(finding("watches", what, remedy.into()));
        }
        (Some(limit), None) if limit < WATCHES_MIN => {
            let what = format!(
                "at most {limit} directories can be watched on this machine: the limit on inotify watches is low"
            );
            found.push(finding("watches", what, remedy.into()));
        }
        _ => {}
    }
}

fn rooms(measured: &Measured, found: &mut Vec<Finding>) {
    let mut told = Vec::new();
    let of_folders = measured.node.folders.iter().filter_map(|folder| folder.room.as_ref());
    for room in measured.node.state.iter().chain(of_folders) {
        // Two directories on one file system are one finding.
        let same = (room.free / (1 << 20), room.total);
        if is_nearly_full(room) && !told.contains(&same) {
            told.push(same);
            let percent = room.free.saturating_mul(100) / room.total.max(1);
            found.push(finding(
                "space",
                format!("the disk that holds {} is nearly full: {percent} % are free", room.path.as_str()),
                "make room on it: receiving waits when it is full; '[versions]' in config.toml says how much of what was replaced is kept".into(),
            ));
        }
    }
}

fn is_nearly_full(room: &Room) -> bool {
    room.free < FREE_PLENTY && room.free.saturating_mul(100) < room.total.saturating_mul(FREE_PERCENT_MIN)
}

fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::{Behind, PathText, PeerCheck, VersionGap};

    fn room(free: u64, total: u64) -> Room {
        Room { path: PathText::from_bytes(b"/srv"), free, total }
    }

    fn folder() -> FolderCheck {
        FolderCheck {
            name: "plans".into(),
            path: PathText::from_bytes(b"/srv/plans"),
            problem: None,
            watched: true,
            marker: None,
            locked: None,
            room: Some(room(50 << 30, 100 << 30)),
        }
    }

    fn healthy() -> Measured {
        let peer = |name: &str| PeerCheck { name: name.into(), address: "10.0.0.2:47474".into(), ahead_ms: Some(15) };
        let node = Checkup {
            port: 47474,
            members: 3,
            admins: vec!["a".into(), "b".into()],
            peers: vec![peer("b"), peer("c")],
            folders: vec![folder()],
            state: Some(room(50 << 30, 100 << 30)),
            archive_age_ms: Some(3_600_000),
            apart: Vec::new(),
        };
        let multicast = Multicast {
            unsent: None,
            heard_itself: true,
            heard: vec!["10.0.0.2".into()],
            neighbours: vec!["10.0.0.2:47474".into()],
        };
        Measured {
            node,
            runs: true,
            format: None,
            configuration: None,
            multicast: Some(multicast),
            port: Port::Good,
            watches_max: Some(65_536),
        }
    }

    fn checks(change: impl FnOnce(&mut Measured)) -> Vec<String> {
        let mut measured = healthy();
        change(&mut measured);
        findings(&measured).into_iter().map(|finding| finding.check).collect()
    }

    #[test]
    fn a_healthy_machine_has_no_findings_nor_has_an_office_of_one() {
        assert!(checks(|_| {}).is_empty());
        assert!(findings(&Measured { watches_max: Some(65_536), ..Measured::default() }).is_empty());
        assert!(checks(|m| (m.node.members, m.node.admins) = (1, vec!["a".into()])).is_empty());
        // Nobody is near whom multicast should reach.
        assert!(checks(|m| m.multicast = Some(Multicast { heard_itself: true, ..Multicast::default() })).is_empty());
    }

    #[test]
    fn each_planted_problem_is_found_alone_and_has_a_remedy() {
        type Plant = (&'static str, fn(&mut Measured));
        let planted: [Plant; 18] = [
            ("multicast", |m| m.multicast = Some(Multicast { unsent: Some("no".into()), ..Multicast::default() })),
            ("multicast", |m| m.multicast = Some(Multicast::default())),
            ("multicast", |m| m.multicast.as_mut().expect("measured").heard.clear()),
            ("firewall", |m| m.port = Port::Silent),
            ("port", |m| m.port = Port::Taken),
            ("clock", |m| m.node.peers.iter_mut().for_each(|peer| peer.ahead_ms = Some(86_400_000))),
            ("clock", |m| m.node.peers[0].ahead_ms = Some(-86_400_000)),
            ("watches", |m| m.watches_max = Some(10)),
            ("watches", |m| m.node.folders[0].watched = false),
            ("space", |m| m.node.folders[0].room = Some(room(1 << 20, 10 << 30))),
            ("space", |m| m.node.state = Some(room(0, 1 << 20))),
            ("permissions", |m| m.node.folders[0].locked = Some(PathText::from_bytes(b"/srv/plans"))),
            ("admins", |m| m.node.admins.truncate(1)),
            ("archive", |m| m.node.archive_age_ms = Some(10 * 86_400_000)),
            ("marker", |m| m.node.folders[0].marker = Some("it has no folder marker".into())),
            ("version", |m| m.format = Some(("later".into(), "install it".into()))),
            ("version", |m| {
                let gap = VersionGap {
                    behind: Behind::That,
                    why: "b runs another lanyard".into(),
                    hint: "install this one on b".into(),
                    ours: vec![2],
                    theirs: vec![1],
                };
                m.node.apart.push(gap);
            }),
            ("configuration", |m| m.configuration = Some(("wrong".into(), "correct it".into()))),
        ];
        for (check, plant) in planted {
            assert_eq!(checks(plant), [check]);
        }
        assert_eq!(checks(|m| m.node.folders[0].problem = Some("cannot read x: no".into())), ["folder"]);
    }

    #[test]
    fn of_three_clocks_the_odd_one_is_named() {
        let mut measured = healthy();
        measured.node.peers.iter_mut().for_each(|peer| peer.ahead_ms = Some(-86_400_000));
        assert!(findings(&measured)[0].what.starts_with("the clock of this machine is 24 hours ahead of those"));
        measured.node.peers[0].ahead_ms = Some(0);
        measured.node.peers[1].ahead_ms = Some(200_000_000);
        measured.node.peers.push(measured.node.peers[0].clone());
        assert!(findings(&measured)[0].what.starts_with("the clock of c is 2 days ahead of"));
    }
}
