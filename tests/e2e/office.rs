//! What the machine does that may be the office's server: it holds every folder, hands on what is written while others
//! are off, knows how everybody is, and tells when a folder is on too few machines.

use std::fs;

use serde_json::Value;

use crate::lab::{Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

fn machine<'a>(health: &'a Value, name: &str) -> &'a Value {
    health["nodes"].as_array().expect("a list").iter().find(|node| node["node"]["name"] == name).expect("a member")
}

fn alerts(node: &Node<'_>) -> Vec<String> {
    let status = node.json(&["status"]);
    let alerts = status["alerts"].as_array().expect("a list").iter();
    alerts.filter_map(|alert| Some(alert["what"].as_str()?.to_string())).collect()
}

#[test]
fn with_the_author_off_a_machine_that_was_away_gets_its_files_from_the_server() {
    let Some(lab) = Lab::open("office_away") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut author, mut server, mut away) = (h1.node("author"), h2.node("server"), h3.node("away"));
    let plans = author.mkdir("Plans");
    author.up(&["Plans"]);
    server.up(&[]);
    away.up(&[]);
    author.admit(&server, &["--no-folders"]);
    author.admit(&away, &[]);
    eventually("the third machine receives", CONVERGE_MAX, || match away.folder("Plans")["state"].as_str() {
        Some("idle") => Ok(()),
        state => Err(format!("{state:?}")),
    });
    assert_eq!(server.folder("Plans")["state"], "offered", "the server was told to receive nothing by itself");
    let received = away.home().join("Plans");
    away.stop();

    author.lanyard(&["coordinator", "allow", "server"]).ok();
    fs::write(plans.join("late.txt"), "written while one was away").expect("saved");
    let copy = server.home().join("Plans");
    eventually("the server holds the folder", CONVERGE_MAX, || tree::same(&plans, &copy));
    author.lanyard(&["wait", "--timeout", "60s"]).ok();
    author.stop();

    away.up(&[]);
    eventually("it got what was written", CONVERGE_MAX, || tree::same(&copy, &received));
    assert_eq!(fs::read_to_string(received.join("late.txt")).expect("read"), "written while one was away");
}

#[test]
fn the_server_knows_how_every_machine_is_and_what_it_refused() {
    let Some(lab) = Lab::open("office_health") else { return };
    let (h1, h2, h3) = (lab.host(), lab.host(), lab.host());
    let (mut desk, mut server, mut attic) = (h1.node("desk"), h2.node("server"), h3.node("attic"));
    let plans = desk.mkdir("Plans");
    fs::write(plans.join("a"), "a").expect("saved");
    desk.up(&["Plans"]);
    server.up(&[]);
    attic.up(&[]);
    desk.admit(&server, &[]);
    desk.admit(&attic, &["--no-folders"]);
    desk.lanyard(&["health"]).exits(4).names("coordinator allow");
    desk.lanyard(&["coordinator", "allow", "server"]).ok();
    desk.lanyard(&["health"]).exits(4).names("server");

    let heard = eventually("everybody was heard", CONVERGE_MAX, || {
        let asked = server.lanyard(&["--json", "health"]);
        if asked.code != 0 {
            return Err(asked.stderr);
        }
        let health: Value = serde_json::from_str(&asked.stdout).expect("JSON");
        let all = ["desk", "server", "attic"].iter().all(|name| !machine(&health, name)["reported"].is_null());
        if all && machine(&health, "desk")["in_sync"] == true { Ok(health) } else { Err(health.to_string()) }
    });
    let desks = machine(&heard, "desk");
    assert!(desks["version"].as_str().is_some_and(|version| version.starts_with("lanyard ")), "{desks}");
    assert!(desks["disk"]["free"].as_u64() > Some(0), "{desks}");
    assert!(desks["clock_ahead_ms"].as_i64().is_some_and(|ahead| ahead.abs() < 10_000), "{desks}");
    assert_eq!(desks["folders"][0]["folder"]["name"], "Plans");
    assert_eq!(machine(&heard, "server")["server"], true);

    // Two machines hold the folder; one more is asked for.
    let said = desk.lanyard(&["copies", "Plans", "2", "--server"]).ok().stdout;
    assert!(said.contains("2 machines and the office's server"), "{said}");
    let copies = |enough: bool| {
        eventually("the copies are counted", CONVERGE_MAX, || {
            let health = server.json(&["health"]);
            let folder = &health["folders"][0];
            if folder["enough"] == enough && folder["nodes"] == 2 {
                Ok(folder.clone())
            } else {
                Err(health.to_string())
            }
        })
    };
    assert_eq!(copies(false)["held_by"].as_array().map(Vec::len), Some(2));
    attic.lanyard(&["get", "Plans", attic.mkdir("Plans").to_str().expect("UTF-8")]).ok();
    assert_eq!(copies(true)["held_by"].as_array().map(Vec::len), Some(3));
    attic.lanyard(&["copies", "Plans", "1"]).exits(4);
    desk.lanyard(&["copies", "Plans", "9"]).exits(2).names("there are 3 machines");

    // What a member refused, and what it was told, is in one place.
    let log = eventually("the logs are collected", CONVERGE_MAX, || {
        let log = server.lanyard(&["audit", "--office"]).ok().stdout;
        let all = ["[desk]", "[attic]", "[server]"].iter().all(|name| log.contains(name));
        if all { Ok(log) } else { Err(log) }
    });
    assert!(log.contains("copies on 2 machines beside the office's server of the folder Plans"), "{log}");

    attic.stop();
    let gone = eventually("it is away", CONVERGE_MAX, || {
        let health = server.json(&["health"]);
        if machine(&health, "attic")["connected"] == false { Ok(health) } else { Err(health.to_string()) }
    });
    assert!(!machine(&gone, "attic")["last_seen"].is_null());
    assert_eq!(gone["folders"][0]["enough"], true, "its disk does not forget");
}

#[test]
fn a_folder_that_the_server_may_not_read_is_said_not_to_be_backed_up_and_stays_unseen() {
    let Some(lab) = Lab::open("office_closed") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut desk, mut server) = (h1.node("desk"), h2.node("server"));
    let secret = desk.mkdir("Salaries");
    fs::write(secret.join("2026.ods"), "numbers").expect("saved");
    desk.up(&[]);
    desk.lanyard(&["share", secret.to_str().expect("UTF-8"), "--everyone", "none"]).ok();
    server.up(&[]);
    desk.admit(&server, &[]);
    desk.lanyard(&["coordinator", "allow", "server"]).ok();
    let closed = |found: bool| {
        eventually("the alert follows the rules", CONVERGE_MAX, || {
            let alerts = alerts(&desk);
            let said = alerts.iter().any(|alert| alert.contains("Salaries") && alert.contains("not backed up"));
            if said == found { Ok(()) } else { Err(format!("{alerts:?}")) }
        });
    };
    closed(true);
    let health = eventually("the other was heard", CONVERGE_MAX, || {
        let health = server.json(&["health"]);
        if machine(&health, "desk")["reported"].is_null() { Err(health.to_string()) } else { Ok(health) }
    });
    assert!(!health.to_string().contains("Salaries"), "{health}");
    assert_eq!(machine(&health, "desk")["listed"].as_array().map(Vec::len), Some(0));

    desk.lanyard(&["grant", "server", "Salaries", "read"]).ok();
    closed(false);
    let copy = server.home().join("Salaries");
    eventually("the server holds it now", CONVERGE_MAX, || tree::same(&secret, &copy));
}
