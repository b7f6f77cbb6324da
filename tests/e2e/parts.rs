//! `get FOLDER/INSIDE`: only that is brought here, it stays in step, and more can be asked for later.

use std::fs;
use std::path::Path;

use crate::lab::{Lab, eventually};
use crate::node::CONVERGE_MAX;
use crate::tree;

fn holds(path: &Path, content: &str) -> Result<(), String> {
    match fs::read_to_string(path) {
        Ok(found) if found == content => Ok(()),
        other => Err(format!("{} is {other:?}", path.display())),
    }
}

#[test]
fn a_path_inside_a_folder_is_fetched_alone_and_the_rest_later() {
    let Some(lab) = Lab::open("parts") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("laptop"));
    let here = a.mkdir("Shared");
    for dir in ["accounts/2025", "accounts/2026", "photos"] {
        fs::create_dir_all(here.join(dir)).expect("a directory");
        fs::write(here.join(dir).join("file"), dir).expect("a file");
    }
    fs::write(here.join("notes"), "notes").expect("a file");
    a.up(&["Shared"]);
    b.up(&[]);
    a.admit(&b, &["--no-folders"]);

    let missing = b.lanyard(&["get", "Shared/acounts", b.path("S").to_str().expect("UTF-8")]);
    assert_eq!(missing.code, 1, "{missing}");
    assert!(missing.stderr.contains("there is no acounts in folder Shared"), "{missing}");
    let outside = b.lanyard(&["get", "Shared/../x"]);
    assert_eq!(outside.code, 2, "{outside}");

    let there = b.path("S");
    let got = b.json(&["get", "Shared/accounts/2026", there.to_str().expect("UTF-8")]);
    assert_eq!(got["path"].as_str(), there.join("accounts/2026").to_str(), "{got}");
    holds(&there.join("accounts/2026/file"), "accounts/2026").expect("it is here when the command returns");
    b.lanyard(&["wait"]).ok();
    assert!(!there.join("photos").exists() && !there.join("notes").exists(), "only what was asked for is here");
    assert!(!there.join("accounts/2025").exists());
    assert!(b.lanyard(&["folders"]).stdout.contains("only accounts/2026 of it"), "people see that it is a part");

    // What was fetched stays in step both ways; what was not is neither fetched when it changes nor taken for deleted.
    fs::write(here.join("accounts/2026/file"), "edited").expect("a file");
    fs::write(here.join("photos/file"), "edited too").expect("a file");
    eventually("the edit arrived", CONVERGE_MAX, || holds(&there.join("accounts/2026/file"), "edited"));
    fs::write(there.join("accounts/2026/mine"), "mine").expect("a file");
    eventually("an edit goes back", CONVERGE_MAX, || holds(&here.join("accounts/2026/mine"), "mine"));
    b.stop();
    b.up(&[]);
    b.lanyard(&["wait"]).ok();
    a.lanyard(&["wait"]).ok();
    assert!(!there.join("photos").exists(), "a restart brings no more");
    holds(&here.join("photos/file"), "edited too").expect("and deletes nothing elsewhere");
    holds(&here.join("notes"), "notes").expect("and deletes nothing elsewhere");

    b.lanyard(&["get", "Shared/notes"]).ok();
    holds(&there.join("notes"), "notes").expect("a further part");
    assert!(!there.join("photos").exists());
    b.lanyard(&["get", "Shared"]).ok();
    eventually("all of it", CONVERGE_MAX, || tree::same(&here, &there));
}
