//! The optional coordinator: elected, replaced when it dies, yields, hands over; and nothing else waits for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::browse::avahi;
use crate::lab::{Host, Lab, eventually, finish};
use crate::node::{CONVERGE_MAX, LANYARD, Node};
use crate::tree;

/// Kills of one run: enough to see a pattern.
const KILLS: usize = 5;
/// Saves that are measured meanwhile.
const SAVES: usize = 200;

fn kills() -> usize {
    std::env::var("LANYARD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// The coordinator as a node knows it: its name, or nobody.
fn coordinator(node: &Node<'_>) -> Option<String> {
    node.json(&["status"])["coordinator"]["name"].as_str().map(str::to_owned)
}

#[track_caller]
fn all_know(nodes: &[&Node<'_>], wanted: Option<&str>) {
    eventually(&format!("all know that the coordinator is {wanted:?}"), CONVERGE_MAX, || {
        let known: Vec<Option<String>> = nodes.iter().map(|node| coordinator(node)).collect();
        if known.iter().all(|known| known.as_deref() == wanted) { Ok(()) } else { Err(format!("{known:?}")) }
    });
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()).expect("not so late")
}

/// The coordinators that a node told of, each with the moment: `None` where it told of nobody.
struct Told {
    child: Child,
    told: Arc<Mutex<Vec<(u64, Option<String>)>>>,
}

impl Told {
    fn by(node: &Node<'_>) -> Self {
        let mut command = node.host.command("setpriv");
        command.args(node.environment()).arg(LANYARD).arg("--home").arg(node.home()).args(["events", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("nsenter is here");
        let stdout = child.stdout.take().expect("piped");
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                if event["event"] == "coordinator" {
                    let at: jiff::Timestamp = event["at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
                    let name = event["coordinator"]["name"].as_str().map(str::to_owned);
                    tell.lock().expect("no panic").push((u64::try_from(at.as_millisecond()).expect("now"), name));
                }
            }
        });
        Self { child, told }
    }

    /// Returns when the stream told of this one: from then on it tells of every change.
    #[track_caller]
    fn tells_of(&self, name: &str) {
        eventually(&format!("the stream tells of {name}"), CONVERGE_MAX, || {
            let told = self.since(0);
            if told.iter().any(|(_, told)| told.as_deref() == Some(name)) { Ok(()) } else { Err(format!("{told:?}")) }
        });
    }

    fn since(&self, ms: u64) -> Vec<(u64, Option<String>)> {
        self.told.lock().expect("no panic").iter().filter(|(at, _)| *at >= ms).cloned().collect()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Saves files in one folder until told to stop, and measures when each is seen in the other; in milliseconds.
fn save_and_see(what: &str, from: &Path, to: &Path, done: &AtomicBool) -> Vec<f64> {
    let mut took = Vec::new();
    for n in 0.. {
        if n >= SAVES && done.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{what} {n}");
        let start = Instant::now();
        fs::write(from.join(&name), format!("content {n}")).expect("a file");
        while !to.join(&name).exists() {
            assert!(start.elapsed() < CONVERGE_MAX, "{name} does not arrive");
            std::thread::sleep(Duration::from_millis(1));
        }
        took.push(start.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(20));
    }
    took.sort_by(f64::total_cmp);
    took
}

/// Machines that are up, those after the first admitted by it; it alone shares a folder.
fn mesh<'lab, const N: usize>(hosts: &'lab [Host<'lab>; N]) -> [Node<'lab>; N] {
    let names = ["front-desk", "attic", "workshop"];
    let mut nodes: [Node<'lab>; N] = std::array::from_fn(|at| hosts[at].node(names[at]));
    let (first, others) = nodes.split_first_mut().expect("some machine");
    first.mkdir("Shared");
    first.up(&["Shared"]);
    for other in others {
        other.up(&[]);
        first.admit(other, &["--no-folders"]);
    }
    nodes
}

/// The front desk is preferred to the attic.
fn allow_both(admin: &Node<'_>) {
    admin.lanyard(&["coordinator", "allow", "front-desk", "--priority", "20"]).ok();
    admin.lanyard(&["coordinator", "allow", "attic", "--priority", "10"]).ok();
}

#[test]
fn a_killed_coordinator_is_replaced_while_files_are_dropped_and_all_sharing_goes_on() {
    let Some(lab) = Lab::alone("coordinator: kills") else { return };
    let (h1, h2, h3, h4) = (lab.host(), lab.host(), lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("attic"));
    let (mut c, mut d) = (h3.node("workshop"), h4.node("laptop"));
    for node in [&a, &b, &c, &d] {
        node.mkdir("Shared");
    }
    for node in [&mut a, &mut b, &mut c, &mut d] {
        node.up(&["Shared"]);
    }
    for node in [&b, &c, &d] {
        a.admit(node, &[]);
    }
    let told = Told::by(&c);
    allow_both(&a);
    eventually("the others are connected", CONVERGE_MAX, || c.sees(&[&a, &b, &d]).and_then(|()| d.sees(&[&a, &b])));
    all_know(&[&a, &b, &c, &d], Some("front-desk"));

    told.tells_of("front-desk");
    let before = save_and_see("quiet", &c.path("Shared"), &d.path("Shared"), &AtomicBool::new(true));
    let done = Arc::new(AtomicBool::new(false));
    let saves = {
        let (from, to, done) = (c.path("Shared"), d.path("Shared"), done.clone());
        std::thread::spawn(move || save_and_see("busy", &from, &to, &done))
    };
    let mut took = Vec::new();
    for round in 0..kills() {
        let name = coordinator(&c).expect("somebody is coordinator");
        let (dies, other) = if name == a.name { (&mut a, &mut b) } else { (&mut b, &mut a) };
        // Files are dropped at the coordinator when it dies.
        for n in 0..5 {
            fs::write(dies.path("Shared").join(format!("dropped {round} {n}")), "x".repeat(100_000)).expect("a file");
        }
        let killed = now_ms();
        dies.kill9();
        let next = eventually("another one serves", CONVERGE_MAX, || {
            let told = told.since(killed);
            let next = told.iter().find(|(_, name)| name.as_ref() == Some(&other.name));
            next.map(|(at, _)| *at).ok_or_else(|| format!("{told:?}"))
        });
        took.push(next - killed);
        dies.up(&[]);
        let (dies, other) = (&*dies, &*other);
        eventually("it is back", CONVERGE_MAX, || dies.sees(&[other, &c, &d]).and_then(|()| c.sees(&[dies])));
        eventually("it follows", CONVERGE_MAX, || {
            let known = coordinator(dies);
            if known.is_some() && known == coordinator(&c) { Ok(()) } else { Err(format!("{known:?}")) }
        });
    }
    done.store(true, Ordering::Relaxed);
    let saved = saves.join().expect("every save arrived");
    took.sort_unstable();
    println!(
        "coordinator: {} kills; another serves after {} ms (median), {} ms (longest), {} within 2 s; {} saves between \
         the others meanwhile: {:.1} ms (p50), {:.1} ms (p99), {:.1} ms (latest); {} before: {:.1} ms, {:.1} ms, {:.1} ms",
        took.len(),
        took[took.len() / 2],
        took[took.len() - 1],
        took.iter().filter(|ms| **ms <= 2_000).count(),
        saved.len(),
        saved[saved.len() / 2],
        saved[saved.len() * 99 / 100],
        saved[saved.len() - 1],
        before.len(),
        before[before.len() / 2],
        before[before.len() * 99 / 100],
        before[before.len() - 1],
    );
    let here = c.path("Shared");
    for node in [&a, &b, &d] {
        eventually("everything is everywhere", CONVERGE_MAX, || tree::same(&here, &node.path("Shared")));
    }
}

#[test]
fn two_coordinators_on_two_sides_of_a_cut_are_one_again_when_they_meet() {
    let Some(lab) = Lab::open("coordinator: cut") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    let [a, b, c] = mesh(&hosts);
    let told = Told::by(&b);
    allow_both(&a);
    all_know(&[&a, &b, &c], Some("front-desk"));
    eventually("all are connected", CONVERGE_MAX, || c.sees(&[&a, &b]).and_then(|()| b.sees(&[&a])));

    // Where it is cut off from one only, the third passes its word on.
    told.tells_of("front-desk");
    let cut = now_ms();
    lab.partition(&hosts[0], &hosts[1]);
    eventually("the two lost each other", CONVERGE_MAX, || match b.sees(&[&a]) {
        Ok(()) => Err("still connected".to_owned()),
        Err(_) => Ok(()),
    });
    all_know(&[&a, &b, &c], Some("front-desk"));
    assert_eq!(told.since(cut), [], "nothing changed, as the workshop passes the claims on");

    lab.partition(&hosts[0], &hosts[2]);
    all_know(&[&b, &c], Some("attic"));
    all_know(&[&a], Some("front-desk"));
    lab.heal();
    eventually("all are connected", CONVERGE_MAX, || a.sees(&[&b, &c]));
    eventually("one is left", CONVERGE_MAX, || {
        let known: Vec<Option<String>> = [&a, &b, &c].map(coordinator).into();
        let led = [&a, &b].iter().filter(|node| node.json(&["coordinator"])["this"] == true).count();
        if led == 1 && known[0].is_some() && known.iter().all(|name| *name == known[0]) {
            Ok(())
        } else {
            Err(format!("{known:?}, {led} of them"))
        }
    });
}

#[test]
fn a_coordinator_that_was_stopped_for_ten_seconds_is_none_when_it_goes_on() {
    let Some(lab) = Lab::open("coordinator: pause") else { return };
    let hosts = [lab.host(), lab.host()];
    let [a, b] = mesh(&hosts);
    let told = Told::by(&a);
    allow_both(&a);
    all_know(&[&a, &b], Some("front-desk"));
    told.tells_of("front-desk");
    let signal = |node: &Node<'_>, signal| {
        let pid = i32::try_from(node.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the node is a child of ours");
    };
    signal(&a, rustix::process::Signal::STOP);
    all_know(&[&b], Some("attic"));
    std::thread::sleep(Duration::from_secs(10));
    let resumed = now_ms();
    signal(&a, rustix::process::Signal::CONT);
    all_know(&[&a, &b], Some("attic"));
    let after = told.since(resumed);
    assert!(after.iter().all(|(_, name)| name.as_deref() != Some("front-desk")), "it never served again: {after:?}");
    assert!(coordinator(&a).as_deref() == Some("attic"));
}

#[test]
fn a_node_that_ends_hands_over_without_a_gap() {
    let Some(lab) = Lab::open("coordinator: hand-over") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    let [mut a, mut b, c] = mesh(&hosts);
    let (by_b, by_c) = (Told::by(&b), Told::by(&c));
    allow_both(&a);
    eventually("all are connected", CONVERGE_MAX, || c.sees(&[&a, &b]).and_then(|()| b.sees(&[&a])));
    all_know(&[&a, &b, &c], Some("front-desk"));

    by_b.tells_of("front-desk");
    by_c.tells_of("front-desk");
    let started = now_ms();
    a.stop();
    all_know(&[&b, &c], Some("attic"));
    for told in [&by_b, &by_c] {
        let names: Vec<Option<String>> = told.since(started).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, [Some("attic".to_owned())], "there was a coordinator all the time");
    }

    // It comes back, does not take over at once, and is handed over to by a command.
    a.up(&[]);
    eventually("it is back", CONVERGE_MAX, || a.sees(&[&b, &c]));
    all_know(&[&a, &b, &c], Some("attic"));
    a.lanyard(&["coordinator", "step-down"]).exits(1).names("not the coordinator");
    let started = now_ms();
    let done = b.json(&["coordinator", "step-down"]);
    assert_eq!(done["coordinator"]["name"], "front-desk", "{done}");
    all_know(&[&a, &b, &c], Some("front-desk"));
    let names: Vec<Option<String>> = by_c.since(started).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, [Some("front-desk".to_owned())], "without a gap");
    b.stop();
    a.lanyard(&["coordinator", "step-down"]).exits(1).names("no other machine");
}

#[test]
fn a_preferred_machine_that_is_back_takes_over_after_a_while() {
    let Some(lab) = Lab::open("coordinator: preferred") else { return };
    let hosts = [lab.host(), lab.host()];
    let [a, b] = mesh(&hosts);
    let told = Told::by(&b);
    a.lanyard(&["coordinator", "allow", "attic", "--priority", "10"]).ok();
    all_know(&[&a, &b], Some("attic"));
    told.tells_of("attic");
    let allowed = now_ms();
    a.lanyard(&["coordinator", "allow", "front-desk", "--priority", "20"]).ok();
    all_know(&[&a, &b], Some("front-desk"));
    let changes = told.since(allowed);
    assert_eq!(changes.len(), 1, "once, without a gap: {changes:?}");
    println!("coordinator: the preferred one took over after {} ms", changes[0].0 - allowed);
}

#[test]
fn without_a_machine_that_may_there_is_no_coordinator_and_admins_alone_choose() {
    let Some(lab) = Lab::open("coordinator: rules") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("attic"));
    a.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&[]);
    b.lanyard(&["coordinator"]).exits(4);
    a.admit(&b, &["--no-folders"]);
    let status = a.json(&["coordinator", "status"]);
    assert_eq!((&status["coordinator"], &status["eligible"]), (&Value::Null, &serde_json::json!([])), "{status}");
    assert!(a.lanyard(&["coordinator"]).ok().stdout.contains("coordinator allow NODE"));
    b.lanyard(&["coordinator", "allow", "attic"]).exits(4).names("front-desk");
    a.lanyard(&["coordinator", "allow", "nobody"]).exits(1).names("nobody");
    a.lanyard(&["coordinator", "allow", "attic", "--priority", "70000"]).exits(2);
    a.lanyard(&["coordinator", "step-down"]).exits(1).names("not the coordinator");
    assert_eq!((coordinator(&a), coordinator(&b)), (None, None));

    let allowed = a.json(&["coordinator", "allow", "attic"]);
    assert_eq!((&allowed["node"]["name"], &allowed["priority"]), (&"attic".into(), &100.into()), "{allowed}");
    assert_eq!(a.json(&["coordinator", "allow", "attic"])["statement"], Value::Null, "it was so already");
    all_know(&[&a, &b], Some("attic"));
    let status = b.json(&["coordinator"]);
    assert_eq!((&status["this"], &status["eligible"][0]["ready"]), (&true.into(), &true.into()), "{status}");
    let nodes = a.json(&["nodes"]);
    let priorities: Vec<&Value> = nodes.as_array().expect("a list").iter().map(|node| &node["priority"]).collect();
    assert_eq!(priorities, [&Value::Null, &100.into()], "{nodes}");
    assert!(a.lanyard(&["nodes"]).ok().stdout.contains("coordinator"), "people see it, too");

    a.lanyard(&["coordinator", "deny", "attic"]).ok();
    all_know(&[&a, &b], None);
    // The term goes on where it was.
    a.lanyard(&["coordinator", "allow", "attic"]).ok();
    all_know(&[&a, &b], Some("attic"));
    assert_eq!(a.json(&["status"])["coordinator"]["term"], 2);
    b.kill9();
    b.up(&[]);
    eventually("a restarted one goes on in a later term", CONVERGE_MAX, || {
        let term = a.json(&["status"])["coordinator"]["term"].clone();
        if term == 3 { Ok(()) } else { Err(term.to_string()) }
    });
}

/// The addresses that a stranger's resolver has for a name.
fn resolve(host: &Host<'_>, name: &str) -> Option<String> {
    let mut command = host.bounded(Duration::from_secs(20), "avahi-resolve");
    command.args(["-4", "-n", name]).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let found = finish(command, "avahi-resolve").stdout;
    found.split_whitespace().nth(1).map(str::to_owned)
}

#[track_caller]
fn resolves(host: &Host<'_>, name: &str, address: &str) -> Duration {
    let start = Instant::now();
    eventually(&format!("{name} is {address}"), CONVERGE_MAX, || {
        let found = resolve(host, name);
        if found.as_deref() == Some(address) { Ok(()) } else { Err(format!("{found:?}")) }
    });
    start.elapsed()
}

#[test]
fn the_offices_name_is_the_coordinators() {
    let Some(lab) = Lab::open("coordinator: name") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let _daemons = match avahi(&h3) {
        Ok(daemons) => daemons,
        Err(reason) => {
            assert!(std::env::var("LANYARD_LAB").as_deref() != Ok("require"), "{reason}");
            return eprintln!("SKIPPED: coordinator: name: {reason}");
        }
    };
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("attic"));
    a.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&[]);
    a.admit(&b, &["--no-folders"]);
    a.lanyard(&["rename", "--mesh", "Müller & Co"]).ok();
    allow_both(&a);
    all_know(&[&a, &b], Some("front-desk"));
    resolves(&h3, "muller-co.local", &h1.address());
    eventually("the status says it", CONVERGE_MAX, || {
        let status = a.json(&["coordinator"]);
        if status["host"] == "muller-co.local" { Ok(()) } else { Err(status.to_string()) }
    });
    let mut browse = h3.bounded(Duration::from_secs(20), "avahi-browse");
    browse.args(["-rt", "_lanyard-office._tcp"]).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let seen = finish(browse, "avahi-browse").stdout;
    // avahi shows what it cannot print in this locale as underscores.
    assert!(seen.contains("ller & Co") && seen.contains("[muller-co.local]"), "people find it: {seen}");
    assert!(seen.contains(&h1.address()), "people find it: {seen}");

    a.kill9();
    let killed = resolves(&h3, "muller-co.local", &h2.address());
    a.up(&[]);
    eventually("it is back", CONVERGE_MAX, || a.sees(&[&b]));
    let started = Instant::now();
    b.stop();
    resolves(&h3, "muller-co.local", &h1.address());
    println!("coordinator: the name moved {killed:?} after a kill, {:?} with a hand-over", started.elapsed());

    a.lanyard(&["coordinator", "deny", "front-desk"]).ok();
    eventually("nobody has the name", CONVERGE_MAX, || match resolve(&h3, "muller-co.local") {
        None => Ok(()),
        Some(found) => Err(found),
    });
}

#[test]
fn a_name_that_another_machine_has_is_left_to_it() {
    let Some(lab) = Lab::open("coordinator: taken name") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let Ok(_daemons) = avahi(&h2) else { return };
    let mut a = h1.node("front-desk");
    a.mkdir("Shared");
    a.up(&["Shared"]);
    // avahi publishes its own host under this name.
    a.lanyard(&["rename", "--mesh", &format!("stranger{}", h2.number())]).ok();
    a.lanyard(&["coordinator", "allow", "front-desk"]).ok();
    let taken = format!("stranger{}.local", h2.number());
    eventually("it has the next name", CONVERGE_MAX, || {
        let status = a.json(&["coordinator"]);
        let said = status["host_taken"].as_str().is_some_and(|why| why.contains(&taken));
        if status["host"] == format!("stranger{}-2.local", h2.number()) && said {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    resolves(&h2, &format!("stranger{}-2.local", h2.number()), &h1.address());
}
