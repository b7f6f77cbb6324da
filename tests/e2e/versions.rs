//! Looking back and taking back: what was edited or deleted comes back, from this disk or from another machine's.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::lab::{Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree::{self, Dice};

/// Two machines that share a folder; the first one's files are what `fill` made.
fn pair<'lab>(
    lab: &Lab,
    (mut a, mut b): (Node<'lab>, Node<'lab>),
    fill: impl FnOnce(&Path),
) -> (Node<'lab>, Node<'lab>) {
    let _ = lab;
    let (here, there) = (a.mkdir("Shared"), b.mkdir("Shared"));
    fill(&here);
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("the tree arrived", CONVERGE_MAX, || {
        let files = tree::listing(&there).len();
        if files == 0 { Err("nothing yet".into()) } else { tree::same(&here, &there) }
    });
    (a, b)
}

/// Waits until both have told and placed everything.
fn settle(nodes: [&Node<'_>; 2]) {
    for node in nodes {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }
    let [x, y] = nodes.map(|node| node.path("Shared"));
    eventually("both are the same", CONVERGE_MAX, || tree::same(&x, &y));
}

/// A moment that lies after everything so far and before everything later, to the millisecond.
fn now() -> String {
    let ms = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let at = ms();
    while ms() < at + 10 {
        std::thread::yield_now();
    }
    let stamp = jiff::Timestamp::from_millisecond(i64::try_from(at + 5).expect("this century")).expect("a time");
    format!("{stamp:.3}")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn versions(node: &Node<'_>, at: &str) -> Vec<Value> {
    node.json(&["versions", at])["versions"].as_array().expect("a list").clone()
}

#[test]
fn an_edited_file_comes_back_on_the_machine_that_edited_it() {
    let Some(lab) = Lab::open("restore-edit") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let big = Dice(1).bytes(5 << 20);
    let (a, b) = pair(&lab, (h1.node("front-desk"), h2.node("workshop")), |root| {
        fs::write(root.join("plan.txt"), "first").expect("a file");
        fs::write(root.join("big.bin"), &big).expect("a file");
    });
    let (here, there) = (a.path("Shared"), b.path("Shared"));
    settle([&a, &b]);
    // Written over in place: the old contents lie nowhere on this machine any more.
    fs::write(here.join("plan.txt"), "second").expect("a file");
    fs::write(here.join("big.bin"), Dice(2).bytes(3 << 20)).expect("a file");
    settle([&a, &b]);

    let known = versions(&a, "Shared/plan.txt");
    assert_eq!(
        (known.len(), &known[0]["here"], &known[0]["bytes"]),
        (1, &Value::Bool(false), &Value::from(5)),
        "{known:?}"
    );
    assert_eq!(known[0]["by"]["name"], "front-desk");
    assert_eq!(versions(&b, "Shared/plan.txt")[0]["here"], true, "it kept what it replaced");
    for name in ["plan.txt", "big.bin"] {
        let at = versions(&a, &format!("Shared/{name}"))[0]["at"].as_str().expect("a time").to_owned();
        let done = a.json(&["restore", &format!("Shared/{name}"), "--at", &at]);
        assert_eq!((&done["files"], &done["failed"]), (&Value::from(1), &Value::Array(vec![])), "{done}");
    }
    assert_eq!(text(&here.join("plan.txt")), "first");
    assert!(fs::read(here.join("big.bin")).expect("a file") == big);
    settle([&a, &b]);
    assert_eq!(text(&there.join("plan.txt")), "first");
    assert!(fs::read(there.join("big.bin")).expect("a file") == big);

    // What it replaced was kept here, and comes back though nobody else can be asked.
    lab.partition(&h1, &h2);
    let known = versions(&a, "Shared/plan.txt");
    assert_eq!(
        (known.len(), &known[0]["here"], &known[0]["bytes"]),
        (1, &Value::Bool(true), &Value::from(6)),
        "{known:?}"
    );
    let said = a.lanyard(&["restore", "Shared/plan.txt", "--at", known[0]["at"].as_str().expect("a time")]).ok();
    assert!(said.stdout.contains("1 file brought back"), "{said}");
    assert_eq!(text(&here.join("plan.txt")), "second");
    lab.heal();
    settle([&a, &b]);
    assert_eq!(text(&there.join("plan.txt")), "second");
}

#[test]
fn a_deleted_directory_and_a_whole_folder_come_back_as_they_were() {
    let Some(lab) = Lab::open("restore-dir") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = pair(&lab, (h1.node("front-desk"), h2.node("workshop")), |root| {
        tree::office(&root.join("office"), 60, 3, tree::OFFICE);
        tree::garnish(&root.join("office"));
        fs::write(root.join("list"), "one").expect("a file");
        fs::create_dir(root.join("becomes a file")).expect("a directory");
        fs::write(root.join("becomes a file/in it"), "in it").expect("a file");
        fs::write(root.join("becomes a directory"), "a file").expect("a file");
    });
    let (here, there) = (a.path("Shared"), b.path("Shared"));
    settle([&a, &b]);
    let before = tree::snapshot(&here);
    let then = now();

    fs::remove_dir_all(here.join("office")).expect("deleted");
    fs::write(here.join("list"), "one and two").expect("a file");
    fs::write(here.join("made later"), "not there then").expect("a file");
    fs::remove_dir_all(here.join("becomes a file")).expect("deleted");
    fs::write(here.join("becomes a file"), "is one").expect("a file");
    fs::remove_file(here.join("becomes a directory")).expect("deleted");
    fs::create_dir(here.join("becomes a directory")).expect("a directory");
    fs::write(here.join("becomes a directory/in it"), "in it").expect("a file");
    settle([&a, &b]);
    let after = now();

    // Elsewhere: nothing in the folder changes.
    let elsewhere = a.path("restored");
    let now_there = tree::snapshot(&here);
    let done = a.json(&["restore", "Shared", "--at", &then, "--to", elsewhere.to_str().expect("UTF-8")]);
    assert_eq!(done["failed"], Value::Array(vec![]), "{done}");
    assert_eq!(tree::diff(&tree::snapshot(&elsewhere), &before), Vec::<String>::new());
    assert_eq!(tree::diff(&tree::snapshot(&here), &now_there), Vec::<String>::new());
    // What is there is not replaced, and said.
    fs::write(elsewhere.join("list"), "mine").expect("a file");
    a.lanyard(&["restore", "Shared/list", "--at", &then, "--to", elsewhere.to_str().expect("UTF-8")])
        .exits(1)
        .names("list");
    assert_eq!(text(&elsewhere.join("list")), "mine");

    // A directory on the machine that deleted it: what it held lies with the other one.
    let planned = a.json(&["restore", "Shared/office", "--at", &then, "--dry-run"]);
    assert!(!here.join("office").exists() && planned["dry_run"] == true);
    let done = a.json(&["restore", "Shared/office", "--at", &then]);
    assert_eq!((&done["files"], &done["failed"]), (&planned["files"], &Value::Array(vec![])), "{done}");
    assert_eq!(
        tree::diff(&tree::snapshot(&here.join("office")), &tree::snapshot(&elsewhere.join("office"))),
        Vec::<String>::new()
    );
    settle([&a, &b]);

    // The whole folder, on the other machine, then forth again.
    let done = b.json(&["restore", "Shared", "--at", &then]);
    assert_eq!(done["failed"], Value::Array(vec![]), "{done}");
    assert_eq!(tree::diff(&tree::snapshot(&there), &before), Vec::<String>::new(), "{done}");
    settle([&a, &b]);
    let done = a.json(&["restore", "Shared", "--at", &after]);
    assert_eq!(done["failed"], Value::Array(vec![]), "{done}");
    assert_eq!(tree::diff(&tree::snapshot(&here), &now_there), Vec::<String>::new(), "{done}");
    settle([&a, &b]);
    let again = a.json(&["restore", "Shared", "--at", &after]);
    assert_eq!((&again["files"], &again["removed"], &again["modes"]), (&0.into(), &0.into(), &0.into()), "{again}");
}

#[test]
fn what_cannot_be_brought_back_is_named_and_the_rest_is_done() {
    let Some(lab) = Lab::open("restore-lost") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = pair(&lab, (h1.node("front-desk"), h2.node("workshop")), |root| {
        fs::write(root.join("kept"), "kept").expect("a file");
        fs::write(root.join("lost"), "lost").expect("a file");
    });
    let here = a.path("Shared");
    settle([&a, &b]);
    let then = now();
    fs::write(here.join("lost"), "written over").expect("a file");
    fs::remove_file(here.join("kept")).expect("deleted");
    settle([&a, &b]);

    let files = fs::read_dir(b.path("Shared/.lanyard/versions")).expect("versions").flatten();
    let lost: Vec<_> = files.filter(|file| file.file_name().to_string_lossy().starts_with("lost~")).collect();
    assert_eq!(lost.len(), 1);
    fs::remove_file(lost[0].path()).expect("deleted");
    let said = a.lanyard(&["restore", "Shared", "--at", &then]).exits(1).names("lost");
    assert!(said.stderr.contains("neither here nor on a machine that is connected"), "{said}");
    assert_eq!((text(&here.join("kept")), text(&here.join("lost"))), ("kept".into(), "written over".into()));
    let said = a.lanyard(&["restore", "Shared/lost", "--at", &then, "--json"]).exits(1);
    let document: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(document["failed"][0]["path"], "lost", "{said}");
}

#[test]
fn a_machine_that_was_away_does_not_take_an_older_version_for_the_one_it_missed() {
    let Some(lab) = Lab::open("restore-away") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, mut b) = pair(&lab, (h1.node("front-desk"), h2.node("laptop")), |root| {
        fs::write(root.join("plan"), "first").expect("a file");
    });
    settle([&a, &b]);
    let at_first = now();
    b.stop();
    let save = |text: &str, known: usize| {
        fs::write(a.path("Shared/plan"), text).expect("a file");
        eventually("it was seen", CONVERGE_MAX, || {
            let found = versions(&a, "Shared/plan").len();
            if found == known { Ok(()) } else { Err(format!("{found}")) }
        });
    };
    save("second", 1);
    let at_second = now();
    save("third", 2);
    b.up(&[]);
    settle([&a, &b]);

    let said = b.lanyard(&["restore", "Shared/plan", "--at", &at_second]).exits(1).names("plan");
    assert!(said.stderr.contains("not known here what it was then"), "{said}");
    assert_eq!(text(&b.path("Shared/plan")), "third");
    b.lanyard(&["restore", "Shared/plan", "--at", &at_first]).ok();
    assert_eq!(text(&b.path("Shared/plan")), "first");
}

#[test]
fn bad_input_and_missing_rights_change_nothing_and_say_so() {
    let Some(lab) = Lab::open("restore-bad") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = pair(&lab, (h1.node("front-desk"), h2.node("workshop")), |root| {
        fs::write(root.join("plan"), "first").expect("a file");
    });
    let (here, there) = (a.path("Shared"), b.path("Shared"));
    settle([&a, &b]);
    let then = now();
    fs::write(here.join("plan"), "second").expect("a file");
    settle([&a, &b]);

    a.lanyard(&["versions", "Nowhere/plan"]).exits(1).names("Nowhere");
    a.lanyard(&["versions", "Shared/none"]).exits(1).names("none");
    for escaping in ["Shared/../plan", "Shared/a/../../b", "Shared/.lanyard/marker"] {
        a.lanyard(&["versions", escaping]).exits(1);
        a.lanyard(&["restore", escaping, "--at", &then]).exits(1);
        a.lanyard(&["conflicts", "resolve", escaping, "--keep", "copy"]).exits(1);
    }
    a.lanyard(&["restore", "Nowhere", "--at", &then]).exits(1).names("Nowhere");
    a.lanyard(&["restore", "Shared/none", "--at", &then]).exits(1).names("none");
    a.lanyard(&["restore", "Shared", "--at", "2001-01-01"]).exits(1).names("was not there");
    a.lanyard(&["restore", "Shared", "--at", "2999-01-01"]).exits(2).names("future");
    a.lanyard(&["restore", "Shared", "--at", "yesterday"]).exits(2);
    a.lanyard(&["restore", "Shared", "--at", &then, "--to", here.to_str().expect("UTF-8")]).exits(1).names("Shared");
    let inside = here.join("inside");
    a.lanyard(&["restore", "Shared", "--at", &then, "--to", inside.to_str().expect("UTF-8")]).exits(1).names("inside");
    let no_parent = a.path("no/parent");
    a.lanyard(&["restore", "Shared", "--at", &then, "--to", no_parent.to_str().expect("UTF-8")])
        .exits(1)
        .names("parent");
    a.lanyard(&["conflicts", "Nowhere"]).exits(1).names("Nowhere");
    a.lanyard(&["conflicts", "resolve", "Shared/plan", "--keep", "copy"]).exits(1).names("plan");
    assert_eq!(a.json(&["conflicts"]), Value::Array(vec![]));
    assert_eq!(text(&here.join("plan")), "second");

    // Who may only read takes a copy out, and changes nothing in the folder.
    a.lanyard(&["grant", "everyone", "Shared", "read"]).ok();
    eventually("the rule arrived", CONVERGE_MAX, || {
        let level = b.folder("Shared")["level"].clone();
        if level == "read" { Ok(()) } else { Err(format!("{level}")) }
    });
    b.lanyard(&["restore", "Shared/plan", "--at", &then]).exits(4).names("plan");
    assert_eq!(text(&there.join("plan")), "second");
    let out = b.path("out");
    b.lanyard(&["restore", "Shared/plan", "--at", &then, "--to", out.to_str().expect("UTF-8")]).ok();
    assert_eq!((text(&out.join("plan")), text(&there.join("plan"))), ("first".into(), "second".into()));
}

#[test]
fn who_may_not_read_a_path_any_more_gets_no_earlier_content_of_it_either() {
    let Some(lab) = Lab::open("restore-secret") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, b) = pair(&lab, (h1.node("front-desk"), h2.node("workshop")), |root| {
        fs::create_dir(root.join("pay")).expect("a directory");
        fs::write(root.join("pay/list"), "first").expect("a file");
    });
    settle([&a, &b]);
    let then = now();
    // Written over in place: only the front desk keeps what it was.
    fs::write(b.path("Shared/pay/list"), "second").expect("a file");
    settle([&a, &b]);
    assert_eq!(versions(&a, "Shared/pay/list")[0]["here"], true);

    a.lanyard(&["grant", "front-desk", "Shared:pay", "manage"]).ok();
    a.lanyard(&["grant", "everyone", "Shared:pay", "none"]).ok();
    eventually("the rule arrived", CONVERGE_MAX, || {
        let rules = b.json(&["rules", "Shared"]).to_string();
        if rules.contains("\"none\"") { Ok(()) } else { Err(rules) }
    });
    let (hidden, shown) = (b.path("hidden"), b.path("shown"));
    let restore =
        |to: &Path| b.lanyard(&["restore", "Shared/pay/list", "--at", &then, "--to", to.to_str().expect("UTF-8")]);
    restore(&hidden).exits(1).names("pay/list");
    assert!(!hidden.join("list").exists());
    assert!(a.lanyard(&["audit", "--refused"]).ok().stdout.contains("asked for a content"));

    a.lanyard(&["revoke", "everyone", "Shared:pay"]).ok();
    eventually("it may read again", CONVERGE_MAX, || {
        let said = restore(&shown);
        if said.code == 0 { Ok(()) } else { Err(said.to_string()) }
    });
    assert_eq!(text(&shown.join("list")), "first");
}

/// Makes a conflict on each of these files and returns when both machines show both contents of all.
fn quarrel(
    lab: &Lab,
    (h1, a): (&crate::lab::Host<'_>, &Node<'_>),
    (h2, b): (&crate::lab::Host<'_>, &Node<'_>),
    names: &[&str],
) {
    lab.partition(h1, h2);
    for name in names {
        fs::write(a.path("Shared").join(name), "front desk").expect("a file");
    }
    now();
    for name in names {
        fs::write(b.path("Shared").join(name), "workshop, later").expect("a file");
    }
    for node in [a, b] {
        eventually("the edits were scanned", CONVERGE_MAX, || {
            let fresh = |name: &&str| versions(node, &format!("Shared/{name}")).len() == 1;
            if names.iter().all(fresh) { Ok(()) } else { Err("not all".into()) }
        });
    }
    lab.heal();
    eventually("both know all conflicts", CONVERGE_MAX, || {
        let counts = [a, b].map(|node| {
            let copies = tree::listing(&node.path("Shared"));
            let copies =
                copies.iter().filter(|item| String::from_utf8_lossy(&item.path).contains("(conflict ")).count();
            (node.json(&["conflicts", "Shared"]).as_array().map_or(0, Vec::len), copies)
        });
        if counts == [(names.len(), names.len()); 2] { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    settle([a, b]);
}

#[test]
fn conflicts_are_listed_and_end_alike_on_all_machines_whatever_is_kept() {
    let Some(lab) = Lab::open("resolve") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let names = ["current.txt", "copy.txt", "both.txt", "mine.txt", "theirs.txt", "at once.txt"];
    let (a, b) = pair(&lab, (h1.node("front-desk"), h2.node("workshop")), |root| {
        for name in names {
            fs::write(root.join(name), "first").expect("a file");
        }
    });
    let (here, there) = (a.path("Shared"), b.path("Shared"));
    settle([&a, &b]);
    quarrel(&lab, (&h1, &a), (&h2, &b), &names);

    let listed = a.json(&["conflicts"]);
    let one = listed.as_array().expect("a list").iter().find(|one| one["path"] == "copy.txt").expect("listed").clone();
    assert_eq!(
        (&one["current"]["by"]["name"], &one["other"]["by"]["name"]),
        (&"workshop".into(), &"front-desk".into())
    );
    assert_eq!((&one["current"]["this"], &one["other"]["this"]), (&false.into(), &true.into()));
    let copy = one["copy"].as_str().expect("a name").to_owned();
    assert_eq!(text(&here.join(&copy)), "front desk");
    assert!(a.lanyard(&["conflicts"]).ok().stdout.contains("(this machine)"));

    a.lanyard(&["conflicts", "resolve", "Shared/current.txt", "--keep", "current"]).ok();
    b.lanyard(&["conflicts", "resolve", &format!("Shared/{copy}"), "--keep", "copy"]).ok();
    let both = a.json(&["conflicts", "resolve", "Shared/both.txt", "--keep", "both"]);
    assert_eq!(both["also"][0], "both (2).txt", "{both}");
    a.lanyard(&["conflicts", "resolve", "Shared/mine.txt", "--keep", "mine"]).ok();
    a.lanyard(&["conflicts", "resolve", "Shared/theirs.txt", "--keep", "theirs"]).ok();
    a.lanyard(&["conflicts", "resolve", "Shared/mine.txt", "--keep", "mine"]).exits(1).names("mine.txt");
    settle([&a, &b]);
    for root in [&here, &there] {
        let found = ["current.txt", "copy.txt", "both.txt", "both (2).txt", "mine.txt", "theirs.txt"]
            .map(|name| text(&root.join(name)));
        let (desk, shop) = ("front desk", "workshop, later");
        assert_eq!(found, [shop, desk, shop, desk, desk, shop]);
    }
    for node in [&a, &b] {
        assert_eq!(node.json(&["conflicts"]).as_array().map(Vec::len), Some(1));
    }

    // Both decide at once, and differently: nothing is lost, and both end with the same.
    lab.partition(&h1, &h2);
    a.lanyard(&["conflicts", "resolve", "Shared/at once.txt", "--keep", "current"]).ok();
    b.lanyard(&["conflicts", "resolve", "Shared/at once.txt", "--keep", "both"]).ok();
    lab.heal();
    settle([&a, &b]);
    for node in [&a, &b] {
        assert_eq!(node.json(&["conflicts"]), Value::Array(vec![]));
    }
    assert_eq!(text(&here.join("at once.txt")), "workshop, later");
    assert_eq!(text(&here.join("at once (2).txt")), "front desk");

    // What went can be brought back.
    let before = versions(&a, "Shared/current.txt");
    let lost = before.iter().find(|version| version["by"]["name"] == "front-desk" && version["bytes"] == 10);
    let at = lost.unwrap_or_else(|| panic!("{before:?}"))["at"].as_str().expect("a time").to_owned();
    a.lanyard(&["restore", "Shared/current.txt", "--at", &at]).ok();
    settle([&a, &b]);
    assert_eq!(text(&there.join("current.txt")), "front desk");
}

#[test]
fn what_is_kept_grows_old_thin_and_not_too_large() {
    let Some(lab) = Lab::open("retention") else { return };
    let host = lab.host();
    let mut a = host.node("front-desk");
    let here = a.mkdir("Shared");
    fs::write(here.join("plan"), "first").expect("a file");
    a.up(&["Shared"]);
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    a.stop();
    let config = "[versions]\nkeep = \"20d\"\n[versions.folder.Shared]\nkeep = \"40d\"\nmax_gib = 1\n";
    fs::write(a.home().join("config.toml"), config).expect("a file");
    // Three days and an hour that has just begun, so that both fall into it.
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let (minute, hour, day) = (60_000, 3_600_000, 24 * 3_600_000);
    let three_days = (ms - 3 * day) / hour * hour;
    let dir = here.join(".lanyard/versions/dir");
    fs::create_dir_all(&dir).expect("a directory");
    let keep = |name: &str, taken_ms: i64| {
        let stamp = jiff::Timestamp::from_millisecond(taken_ms).expect("a time").strftime("%Y%m%dT%H%M%S%3fZ");
        let file = dir.join(format!("{name}~{stamp}-0"));
        fs::write(&file, name).expect("a file");
        file
    };
    let kept = [
        keep("young", ms - 39 * day),
        keep("often", three_days + minute),
        keep("often", ms - 3 * hour),
        keep("often", ms - 3 * hour + minute),
    ];
    let large = keep("large", ms - 39 * day - 2 * hour);
    let gone = [keep("old", ms - 41 * day), keep("often", three_days + 2 * minute), large.clone()];
    let two_gib = 2 << 30;
    fs::File::options().write(true).open(&large).and_then(|file| file.set_len(two_gib)).expect("a sparse file");

    a.up(&[]);

    eventually("what is one too many is gone", CONVERGE_MAX, || {
        let left: Vec<_> = gone.iter().filter(|file| file.exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert!(kept.iter().all(|file| file.exists()), "{:?}", tree::listing(&here.join(".lanyard")));
    let listed = versions(&a, "Shared/dir/often");
    assert_eq!((listed.len(), &listed[0]["at"], &listed[0]["here"]), (3, &Value::Null, &true.into()), "{listed:?}");
}
