//! A home of a later lanyard: refused in words before anything is touched; and used again once the stamp fits.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

/// Every file below a place, with its bytes, mode and times.
fn all_of(root: &Path) -> Vec<(std::path::PathBuf, Vec<u8>, u32, i64, i64)> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry")) {
            let (path, meta) = (entry.path(), entry.metadata().expect("metadata"));
            let bytes = if meta.is_file() { fs::read(&path).expect("readable") } else { Vec::new() };
            if meta.is_dir() {
                dirs.push(path.clone());
            }
            found.push((path, bytes, meta.mode(), meta.mtime(), meta.mtime_nsec()));
        }
    }
    found.sort();
    found
}

/// Two members that share a folder with a file in it.
fn office<'lab>(h1: &'lab Host<'lab>, h2: &'lab Host<'lab>) -> (Node<'lab>, Node<'lab>) {
    let (mut a, mut b) = (h1.node("front-desk"), h2.node("workshop"));
    fs::write(a.mkdir("Shared").join("plan.txt"), "the plan").expect("a file");
    b.mkdir("Shared");
    a.up(&["Shared"]);
    b.up(&["Shared"]);
    a.admit(&b, &[]);
    eventually("it arrives", CONVERGE_MAX, || tree::same(&a.path("Shared"), &b.path("Shared")));
    (a, b)
}

#[test]
fn a_home_of_a_later_lanyard_is_refused_untouched_and_named_by_the_doctor_and_nothing_is_lost() {
    let Some(lab) = Lab::open("downgrade") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let (a, mut b) = office(&h1, &h2);
    b.stop();
    let stamp = b.home().join("state/format");
    let own = fs::read_to_string(&stamp).expect("a node that ran has left its stamp");
    assert!(own.starts_with("lanyard home 1\nlanyard "), "{own:?}");

    // What a later one leaves behind: its stamp, and a configuration with keys that are not known here.
    fs::write(&stamp, "lanyard home 2\nlanyard 0.9.0\n").expect("planted");
    fs::write(b.home().join("config.toml"), "later = true\n").expect("planted");
    let (home, folder) = (all_of(&b.home()), all_of(&b.path("Shared")));
    let refused = b.up_to_its_end(&[]).exits(6).names("lanyard 0.9.0 (format 2)").names("(format 1)");
    assert!(refused.stderr.contains("hint: install lanyard 0.9.0 or later; nothing was changed"), "{refused}");
    b.up_to_its_end(&[&b.path("Shared")]).exits(6);
    let doctor = b.lanyard(&["doctor"]).exits(1);
    assert!(doctor.stdout.contains("version: ") && doctor.stdout.contains("lanyard 0.9.0 (format 2)"), "{doctor}");
    assert!(doctor.stdout.contains("do: install lanyard 0.9.0 or later"), "{doctor}");
    assert_eq!(all_of(&b.home()), home, "every byte of the home");
    assert_eq!(all_of(&b.path("Shared")), folder, "every byte of the folder");

    // Put right, it goes on where it was, with what was saved meanwhile on both sides.
    fs::write(&stamp, own).expect("put right");
    fs::remove_file(b.home().join("config.toml")).expect("put right");
    fs::write(a.path("Shared/while away.txt"), "by the front desk").expect("a file");
    fs::write(b.path("Shared/offline.txt"), "by the workshop").expect("a file");
    b.up(&[]);
    eventually("both have both", CONVERGE_MAX, || {
        tree::same(&a.path("Shared"), &b.path("Shared"))?;
        match tree::listing(&a.path("Shared")).len() {
            3 => Ok(()),
            count => Err(format!("{count} of 3")),
        }
    });
}

#[test]
fn a_home_without_a_stamp_is_used_and_stamped_and_a_damaged_stamp_is_named() {
    let Some(lab) = Lab::open("stamp") else { return };
    let host = lab.host();
    let mut a = host.node("front-desk");
    fs::write(a.mkdir("Shared").join("plan.txt"), "the plan").expect("a file");
    a.up(&["Shared"]);
    let id = a.id();
    a.stop();
    let stamp = a.home().join("state/format");
    let own = fs::read_to_string(&stamp).expect("a stamp");
    fs::remove_file(&stamp).expect("there");
    a.up(&[]);
    assert_eq!((a.id(), fs::read_to_string(&stamp).expect("a stamp")), (id, own));
    a.stop();
    fs::write(&stamp, "x").expect("planted");
    a.up_to_its_end(&[]).exits(1).names("state/format");
    a.lanyard(&["doctor"]).exits(1);
    assert_eq!(fs::read_to_string(&stamp).expect("left alone"), "x");
}

#[test]
fn what_else_a_later_lanyard_wrote_into_a_home_is_refused_by_its_own_number_and_left_alone() {
    let Some(lab) = Lab::open("later files") else { return };
    let host = lab.host();
    let mut a = host.node("front-desk");
    fs::write(a.mkdir("Shared").join("plan.txt"), "the plan").expect("a file");
    a.up(&["Shared"]);
    a.stop();
    let (record, key, config) =
        (a.home().join("state/node.json"), a.home().join("state/key"), a.home().join("config.toml"));
    let text = fs::read_to_string(&record).expect("a record");
    fs::write(&record, text.replacen("\"version\": 1", "\"version\": 2", 1)).expect("planted");
    let before = all_of(&a.path("Shared"));
    a.up_to_its_end(&[]).exits(6).names("node.json");
    fs::write(&record, text).expect("put right");

    let secret = fs::read_to_string(&key).expect("a key");
    let head = secret.lines().next().expect("a first line");
    assert!(head.ends_with('1'), "{head}");
    fs::write(&key, secret.replacen(head, &format!("{}2", &head[..head.len() - 1]), 1)).expect("planted");
    a.up_to_its_end(&[]).exits(6).names("state/key");
    fs::write(&key, secret).expect("put right");

    fs::write(&config, "version = 2\n").expect("planted");
    a.up_to_its_end(&[]).exits(6).names("config.toml");
    fs::write(&config, "name = \"front-desk\"\nlater = true\n").expect("planted");
    a.up_to_its_end(&[]).exits(1).names("config.toml is wrong in line 2");
    fs::remove_file(&config).expect("put right");
    assert_eq!(all_of(&a.path("Shared")), before);
    a.up(&[]);
}
