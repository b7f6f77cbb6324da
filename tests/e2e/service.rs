//! The node under a service manager: ready when it serves, alive while its loop turns, read anew on SIGHUP.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::Lab;

/// Bound for each word. A guess: far longer than a start takes.
const WORD_MAX: Duration = Duration::from_secs(60);

/// What the manager hears.
struct Manager(UnixDatagram);

impl Manager {
    /// Hears words until one contains `wanted`; returns all of them.
    #[track_caller]
    fn hears(&self, wanted: &str) -> Vec<String> {
        let (begin, mut words) = (Instant::now(), Vec::new());
        while begin.elapsed() < WORD_MAX {
            let mut word = [0; 4096];
            let Ok(length) = self.0.recv(&mut word) else { continue };
            words.push(String::from_utf8_lossy(&word[..length]).into_owned());
            if words.last().is_some_and(|word| word.lines().any(|line| line.starts_with(wanted))) {
                return words;
            }
        }
        panic!("never heard {wanted}: {words:?}");
    }

    /// How many words of this kind come within a second.
    fn counts(&self, kind: &str) -> usize {
        let (begin, mut count) = (Instant::now(), 0);
        while begin.elapsed() < Duration::from_secs(1) {
            let mut word = [0; 4096];
            let Ok(length) = self.0.recv(&mut word) else { continue };
            count += String::from_utf8_lossy(&word[..length]).lines().filter(|line| line.starts_with(kind)).count();
        }
        count
    }
}

#[test]
fn a_service_manager_hears_what_the_node_does() {
    let Some(lab) = Lab::open("service manager") else { return };
    let host = lab.host();
    let mut node = host.node("front-desk");
    let socket = node.path("notify");
    let manager = Manager(UnixDatagram::bind(&socket).expect("a socket"));
    manager.0.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let socket = format!("NOTIFY_SOCKET={}", socket.display());
    node.under = ["env", &socket, "WATCHDOG_USEC=600000"].map(str::to_owned).to_vec();
    node.mkdir("Shared");
    node.start(&["Shared"]);

    manager.hears("READY=1");
    // Ready means that it serves, now.
    node.lanyard(&["status"]).ok();
    manager.hears("STATUS=0 of 0 machines connected, folders: 1");
    manager.hears("WATCHDOG=1");

    // A loop that stands still gives no sign of life, and one that turns again does.
    let pid = Pid::from_raw(i32::try_from(node.pid()).expect("a number")).expect("a process");
    kill_process(pid, Signal::STOP).expect("a process of ours");
    let _sent_before = manager.counts("WATCHDOG=1");
    assert_eq!(manager.counts("WATCHDOG=1"), 0);
    kill_process(pid, Signal::CONT).expect("a process of ours");
    manager.hears("WATCHDOG=1");

    // A configuration that cannot be used changes nothing, and is said.
    for (text, said) in [("[log]\nlevel = \"warn\"\n", None), ("[log]\nlevel = \"loud\"\n", Some("wrong in line 2"))] {
        fs::write(node.home().join("config.toml"), text).expect("a file");
        kill_process(pid, Signal::HUP).expect("a process of ours");
        let words = manager.hears("RELOADING=1");
        assert!(words.last().is_some_and(|word| word.contains("MONOTONIC_USEC=")), "{words:?}");
        manager.hears("READY=1");
        let alerts = node.json(&["status"])["alerts"].to_string();
        assert_eq!(said.is_some(), alerts.contains("wrong in line"), "{alerts}");
        assert!(said.is_none_or(|said| alerts.contains(said)), "{alerts}");
    }

    kill_process(pid, Signal::TERM).expect("a process of ours");
    manager.hears("STOPPING=1");
}
