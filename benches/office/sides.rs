//! The sides of the contest: a pair of lanyard nodes, a pair of Syncthings, an rsync daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::lab::{COMMAND_MAX, Host, Lab, eventually, finish};
use crate::node::Node;

/// Whether a program is there; says aloud where it is not.
pub(crate) fn installed(side: &str) -> bool {
    if side == "lanyard" {
        return true;
    }
    let found = Command::new(side).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: {side} is not installed");
    }
    found
}

/// A program that is ended with the value.
pub(crate) struct Daemon(Child);

impl Daemon {
    fn start(mut command: Command, log: &Path) -> Daemon {
        let log = fs::File::create(log).expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        Daemon(command.spawn().expect("nsenter is here"))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two machines that keep a directory the same, up and connected.
pub(crate) struct Pair<'lab> {
    pub(crate) here: PathBuf,
    pub(crate) there: PathBuf,
    runs: Runs<'lab>,
}

enum Runs<'lab> {
    Lanyard(Box<[Node<'lab>; 2]>),
    Syncthing([Daemon; 2]),
}

impl Pair<'_> {
    /// The process ids of both ends.
    pub(crate) fn pids(&self) -> [u32; 2] {
        match &self.runs {
            Runs::Lanyard(nodes) => [nodes[0].pid(), nodes[1].pid()],
            Runs::Syncthing(daemons) => [daemons[0].pid(), daemons[1].pid()],
        }
    }

    /// Returns when both ends say that nothing is left to do, where they can say it.
    pub(crate) fn wait(&self) {
        if let Runs::Lanyard(nodes) = &self.runs {
            for node in nodes.iter() {
                node.lanyard(&["wait", "--timeout", "100s"]).ok();
            }
        }
    }

    /// A first file travels: the pair is connected, its watchers run, its code is in memory.
    fn warm(self) -> Self {
        fs::write(self.here.join("warm"), "up").expect("a file");
        eventually("the first file travels", COMMAND_MAX, || {
            if fs::read(self.there.join("warm")).is_ok_and(|bytes| bytes == b"up") {
                Ok(())
            } else {
                Err(String::new())
            }
        });
        self
    }
}

/// Two nodes at default settings, paired by code.
pub(crate) fn lanyard<'lab>(hosts: &'lab [Host<'lab>; 2], tag: &str) -> Pair<'lab> {
    let [mut a, mut b] = [hosts[0].node(&format!("here{tag}")), hosts[1].node(&format!("there{tag}"))];
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    for node in [&a, &b] {
        // The trees of earlier rounds are deleted as a whole.
        std::fs::create_dir_all(node.home()).expect("a home");
        let config = format!("name = \"{}\"\n[guard]\nchanges = 0\n", node.name);
        std::fs::write(node.home().join("config.toml"), config).expect("a configuration");
    }
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    Pair { here, there, runs: Runs::Lanyard(Box::new([a, b])) }.warm()
}

/// Two Syncthings at default settings but for what would leave the namespaces (discovery servers, relays, reports), with
/// each other's address configured and the watcher delay given.
pub(crate) fn syncthing<'lab>(lab: &'lab Lab, hosts: &'lab [Host<'lab>; 2], tag: &str, delay_s: u32) -> Pair<'lab> {
    let names = ["here", "there"];
    let homes = names.map(|name| lab.dir().join(format!("st-{name}{tag}")));
    let dirs = names.map(|name| lab.dir().join(format!("st-{name}{tag}-shared")));
    let mut ids = Vec::new();
    for (home, dir) in homes.iter().zip(&dirs) {
        fs::create_dir_all(dir).expect("a directory");
        let mut generate = hosts[0].bounded(COMMAND_MAX, "syncthing");
        generate.args(["generate", "--no-default-folder"]).arg(format!("--home={}", home.display())).env("HOME", home);
        finish(generate, "syncthing generate").ok();
        let config = fs::read_to_string(home.join("config.xml")).expect("a configuration");
        let id = config.split("<device id=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a device id");
        ids.push(id.to_owned());
    }
    let devices: String = (0..2)
        .map(|i| {
            let (id, name, address) = (&ids[i], names[i], hosts[i].address());
            format!("<device id=\"{id}\" name=\"{name}\"><address>tcp://{address}:22000</address></device>\n")
        })
        .collect();
    let daemons = [0, 1].map(|i| {
        let (path, address) = (dirs[i].display(), hosts[i].address());
        let folder = format!(
            "<folder id=\"office\" path=\"{path}\" type=\"sendreceive\" rescanIntervalS=\"3600\" fsWatcherEnabled=\"true\" \
             fsWatcherDelayS=\"{delay_s}\"><device id=\"{}\"/><device id=\"{}\"/></folder>\n",
            ids[0], ids[1]
        );
        let options = format!(
            "<options><listenAddress>tcp://{address}:22000</listenAddress>\
             <globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>\
             <relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser>\
             <urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH>\
             <crashReportingEnabled>false</crashReportingEnabled></options>\n"
        );
        let gui = "<gui enabled=\"false\"/>\n";
        let config = format!("<configuration version=\"36\">\n{folder}{devices}{gui}{options}</configuration>\n");
        fs::write(homes[i].join("config.xml"), config).expect("a configuration");
        let mut serve = hosts[i].command("syncthing");
        serve.args(["serve", "--no-browser", "--no-restart"]).arg(format!("--home={}", homes[i].display()));
        // STMONITORED: without the supervising parent, so that the process started is the one measured.
        serve.env("HOME", &homes[i]).env("STNOUPGRADE", "1").env("STMONITORED", "yes");
        Daemon::start(serve, &homes[i].join("log"))
    });
    let [here, there] = dirs;
    Pair { here, there, runs: Runs::Syncthing(daemons) }.warm()
}

/// An rsync daemon on the second host whose module `in` is `there`.
pub(crate) fn rsync_daemon(host: &Host<'_>, there: &Path, conf: &Path) -> Daemon {
    let there = there.display();
    let text = format!("use chroot = no\nuid = 0\ngid = 0\n[in]\npath = {there}\nread only = no\n");
    fs::write(conf, text).expect("a configuration");
    let mut daemon = host.command("rsync");
    daemon.args(["--daemon", "--no-detach"]).arg(format!("--config={}", conf.display()));
    let daemon = Daemon::start(daemon, &conf.with_extension("log"));
    eventually("the rsync daemon listens", COMMAND_MAX, || {
        let mut list = host.bounded(Duration::from_secs(5), "rsync");
        list.arg("rsync://127.0.0.1/in/");
        let outcome = finish(list, "rsync");
        if outcome.code == 0 { Ok(()) } else { Err(outcome.to_string()) }
    });
    daemon
}
