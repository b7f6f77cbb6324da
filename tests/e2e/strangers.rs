//! Who is not let in gets nothing, and who sends garbage harms nothing.

use std::fs;
use std::time::Duration;

use crate::lab::{COMMAND_MAX, Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::tree;

/// Text that must never cross the wire in clear, nor reach anyone without a grant.
const CANARY: &str = "canary-7f3a91";

#[test]
fn a_member_without_a_grant_sees_and_gets_nothing() {
    let Some(lab) = Lab::open("no grant") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let (open, closed) = (a.mkdir("Open"), a.mkdir("Closed"));
    fs::write(open.join("hello.txt"), "hello").expect("a file");
    fs::write(closed.join(format!("{CANARY}.txt")), CANARY.repeat(1000)).expect("a file");
    a.up(&["Open"]);
    a.lanyard(&["share", &closed.display().to_string(), "--everyone", "none"]).ok();
    b.up(&[]);

    a.admit(&b, &["--into", &b.path("In").display().to_string()]);
    eventually("the open folder arrives", CONVERGE_MAX, || {
        let there = b.path("In/Open/hello.txt");
        if fs::read_to_string(&there).is_ok_and(|text| text == "hello") { Ok(()) } else { Err("not there".to_owned()) }
    });
    b.lanyard(&["wait", "--timeout", "60s"]).ok();

    let told = format!("{}{}", b.json(&["folders"]), b.json(&["status"]));
    assert!(!told.contains("Closed") && !told.contains("closed"), "the folder is named to it: {told}");
    b.lanyard(&["get", "Closed", &b.path("Closed").display().to_string()]).exits(4);
    assert!(!b.path("Closed").join(format!("{CANARY}.txt")).exists());
    // Nowhere below its home, its index and staging included.
    let found = b.host.sh(&format!("grep -rlaF {CANARY} '{}' '{}'", b.home().display(), b.path("").display()));
    assert_eq!(found.stdout, "", "what it may not read lies on its disk");
    // The other side sees its own folder as ever.
    assert!(!a.folder("Closed").is_null());
}

#[test]
fn an_unpaired_node_gets_nothing_and_is_not_listed() {
    let Some(lab) = Lab::open("unpaired") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("stranger"));
    let shared = a.mkdir("Shared");
    fs::write(shared.join(format!("{CANARY}.txt")), CANARY).expect("a file");
    a.up(&["Shared"]);
    fs::create_dir_all(b.home()).expect("a home");
    fs::write(b.home().join("config.toml"), format!("peers = [\"{}:47474\"]\n", h1.address())).expect("a file");
    b.mkdir("Shared");
    b.up(&["Shared"]);

    // Long enough for several rounds of discovery and of dialling the configured address.
    let wire = h1.wire_bytes();
    eventually("it tried", CONVERGE_MAX, || {
        if h1.wire_bytes() - wire > 500 { Ok(()) } else { Err("nothing was sent".to_owned()) }
    });
    std::thread::sleep(Duration::from_secs(3));

    assert!(a.connected().is_empty() && b.connected().is_empty());
    assert_eq!(a.json(&["nodes"]).as_array().map(Vec::len), Some(1), "{}", a.json(&["nodes"]));
    assert!(tree::listing(&b.path("Shared")).is_empty());
    let mesh = a.mesh().expect("a mesh");
    let found = b.host.sh(&format!("grep -rlaF -e {CANARY} -e '{mesh}' '{}'", b.home().display()));
    assert_eq!(found.stdout, "", "a stranger learned something");
    b.lanyard(&["join", "4-harvest-violin", "--at", &format!("{}:47474", h1.address())]).exits(1);
    eventually("the log names who knocked", CONVERGE_MAX, || {
        let noted = a.lanyard(&["audit", "--refused", "--json"]).ok().stdout;
        let knocked = format!("\"address\":\"{}\"", h2.address());
        let is_told = noted.contains("\"deed\":\"connect\"") && noted.contains(&knocked);
        if is_told { Ok(()) } else { Err(noted) }
    });
}

#[test]
fn garbage_on_the_port_harms_nothing() {
    let Some(lab) = Lab::open("garbage") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    a.mkdir("Shared");
    b.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("both list each other", CONVERGE_MAX, || a.sees(&[&b]).and_then(|()| b.sees(&[&a])));
    let calm = a.resident_kib();

    let to = format!("/dev/tcp/{}/47474", h1.address());
    let sends = [
        // Noise; an endless stream of it; nothing at all on many connections; a TLS record that promises 16 KiB; HTTP.
        format!("head -c 4096 /dev/urandom > {to}"),
        format!("timeout 3 head -c 200000000 /dev/zero > {to}"),
        format!("for i in $(seq 100); do eval \"exec $((i + 10))<>{to}\" || true; done; sleep 1"),
        format!("printf '\\x16\\x03\\x01\\x40\\x00\\x01\\xff\\xff\\xff' > {to}; sleep 1"),
        format!("printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' > {to}"),
        format!("printf '\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff' > {to}; sleep 1"),
    ];
    for send in &sends {
        let mut bash = h3.bounded(COMMAND_MAX, "bash");
        bash.args(["-c", send]);
        // The node may close at any moment: the sender's exit code means nothing.
        let _ = crate::lab::finish(bash, send);
        a.must_be_alive();
    }

    let now = a.resident_kib();
    assert!(now < calm + (32 << 10), "{calm} KiB resident before, {now} KiB after");
    let noted = a.lanyard(&["audit", "--refused", "--json"]).ok().stdout;
    let lines = noted.lines().filter(|line| line.contains(&h3.address().to_string())).count();
    assert!((1..100).contains(&lines), "a flood is some lines and a count, not {lines} lines");
    fs::write(a.path("Shared/still.txt"), "working").expect("a file");
    eventually("members still talk", CONVERGE_MAX, || tree::same(&a.path("Shared"), &b.path("Shared")));
}

#[test]
fn contents_and_names_do_not_cross_the_wire_in_clear() {
    let Some(lab) = Lab::open("in clear") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    if h1.sh("command -v tcpdump").code != 0 {
        return eprintln!("SKIPPED: in clear: tcpdump is not installed");
    }
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    let here = a.mkdir("Shared");
    b.mkdir("Shared");
    fs::write(here.join(format!("{CANARY}.txt")), CANARY.repeat(1000)).expect("a file");
    let capture = lab.dir().join("wire.pcap");
    let mut dump = h1.bounded(COMMAND_MAX, "tcpdump");
    dump.args(["-i", "eth0", "-U", "-w", &capture.display().to_string()]);
    dump.stderr(std::process::Stdio::null());
    let mut dump = dump.spawn().expect("nsenter is here");
    eventually("the capture runs", CONVERGE_MAX, || if capture.exists() { Ok(()) } else { Err(String::new()) });
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("the file arrived", CONVERGE_MAX, || tree::same(&here, &b.path("Shared")));
    let _ = dump.kill();
    let _ = dump.wait();

    let bytes = fs::read(&capture).expect("a capture");
    assert!(bytes.len() > 10_000, "the capture saw the transfer");
    assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
}
