//! What a stranger sees who browses the network: that lanyard is there, and nothing about whose or what.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::lab::{COMMAND_MAX, Host, Lab, eventually, finish};
use crate::node::CONVERGE_MAX;

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"#;
const AVAHI: &str = "[server]\nuse-ipv4=yes\nuse-ipv6=yes\nallow-interfaces=eth0\nenable-dbus=yes\n\
[wide-area]\nenable-wide-area=no\n[publish]\npublish-hinfo=no\npublish-workstation=no\n[reflector]\n[rlimits]\n";

/// A program of the lab that ends with the value.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a private D-Bus and avahi-daemon on `host`, or says what is missing.
pub(crate) fn avahi(host: &Host<'_>) -> Result<[Daemon; 2], String> {
    if host.sh("command -v avahi-daemon && command -v avahi-browse && command -v dbus-daemon").code != 0 {
        return Err("avahi-daemon, avahi-utils and dbus are not installed".to_owned());
    }
    let dir = host.lab().dir();
    fs::write(dir.join("bus.conf"), BUS).expect("a file");
    fs::write(
        dir.join("avahi.conf"),
        AVAHI.replace("[server]", &format!("[server]\nhost-name=stranger{}", host.number())),
    )
    .expect("a file");
    // In a user namespace only id 0 exists: avahi's own chown of its directory must mean 0.
    host.sh("mkdir -p /run/dbus /run/avahi-daemon
         sed -E 's/^avahi:([^:]*):[0-9]+:[0-9]+:/avahi:\\1:0:0:/' /etc/passwd > /run/passwd
         sed -E 's/^avahi:([^:]*):[0-9]+:/avahi:\\1:0:/' /etc/group > /run/group
         mount --bind /run/passwd /etc/passwd; mount --bind /run/group /etc/group")
        .ok();
    let start = |program: &str, args: &[&str]| {
        let log = fs::File::create(dir.join(format!("{program}-{}.log", host.address()))).expect("a log");
        let mut command = host.command(program);
        command.args(args).stdout(log.try_clone().expect("a log")).stderr(log);
        Daemon(command.spawn().expect("nsenter is here"))
    };
    let (bus, conf) = (dir.join("bus.conf"), dir.join("avahi.conf"));
    let bus =
        start("dbus-daemon", &[&format!("--config-file={}", bus.display()), "--nofork", "--nopidfile", "--nosyslog"]);
    eventually("the bus is up", COMMAND_MAX, || {
        if host.sh("test -S /run/dbus/system_bus_socket").code == 0 { Ok(()) } else { Err("no socket".to_owned()) }
    });
    let conf = conf.display().to_string();
    let daemon = start("avahi-daemon", &["--no-drop-root", "--no-chroot", "--no-rlimits", "-f", &conf]);
    eventually("avahi is up", COMMAND_MAX, || {
        let log = fs::read_to_string(dir.join(format!("avahi-daemon-{}.log", host.address()))).unwrap_or_default();
        if log.contains("Server startup complete") { Ok(()) } else { Err(log) }
    });
    Ok([daemon, bus])
}

fn browse(host: &Host<'_>, service: &str) -> String {
    let mut command = host.bounded(Duration::from_secs(20), "avahi-browse");
    command.args(["-rt", service]).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    finish(command, "avahi-browse").stdout
}

#[test]
fn a_stranger_sees_the_service_and_neither_ids_nor_names_nor_folders() {
    let Some(lab) = Lab::open("browse") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let _daemons = match avahi(&h3) {
        Ok(daemons) => daemons,
        Err(reason) => {
            assert!(std::env::var("LANYARD_LAB").as_deref() != Ok("require"), "{reason}");
            return eprintln!("SKIPPED: browse: {reason}");
        }
    };
    let (mut a, mut b) = (h1.node("frontdesk7"), h2.node("workshop7"));
    a.mkdir("SecretPlans");
    a.up(&["SecretPlans"]);
    b.up(&[]);
    a.admit(&b, &[]);
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));

    let seen = eventually("both announcements are seen", CONVERGE_MAX, || {
        let seen = browse(&h3, "_lanyard._tcp");
        let found = |address: String| seen.contains(&format!("address = [{address}]"));
        if found(h1.address()) && found(h2.address()) { Ok(seen) } else { Err(seen) }
    });

    let flat: String = seen.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    let mesh = a.mesh().expect("a mesh");
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut secrets = vec![mesh, "frontdesk7".into(), "workshop7".into(), "SecretPlans".into()];
    for id in [a.id(), b.id()] {
        let bare: String = id.chars().filter(|c| c.is_alphanumeric()).collect();
        secrets.push(bare.chars().take(8).collect());
        secrets.push(id);
    }
    if hostname.trim().len() > 4 {
        secrets.push(hostname);
    }
    for secret in secrets {
        let bare: String = secret.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
        assert!(!flat.contains(&bare), "{secret:?} is told to strangers:\n{seen}");
    }

    // A clean end says goodbye: it is not listed any more.
    b.stop();
    eventually("the goodbye was heard", CONVERGE_MAX, || {
        let seen = browse(&h3, "_lanyard._tcp");
        if seen.contains(&format!("address = [{}]", h2.address())) { Err(seen) } else { Ok(()) }
    });
}

#[test]
fn the_stranger_sees_a_service_that_is_there() {
    let Some(lab) = Lab::open("browse: control") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (Ok(_one), Ok(_two)) = (avahi(&h1), avahi(&h2)) else { return };
    let mut publish = h1.bounded(Duration::from_secs(30), "avahi-publish");
    let mut publish = publish.args(["-s", "a name", "_control._tcp", "99", "hint=x"]).spawn().expect("nsenter is here");
    eventually("the control is seen", CONVERGE_MAX, || {
        let seen = browse(&h2, "_control._tcp");
        let address = format!("address = [{}]", h1.address());
        if seen.contains(&address) && seen.contains("a name") && seen.contains("hint=x") { Ok(()) } else { Err(seen) }
    });
    let _ = publish.kill();
    let _ = publish.wait();
}
