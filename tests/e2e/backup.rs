//! A machine whose state was put back from a backup: it asks before it signs, and goes on by itself. Where nobody could
//! tell it, it signs a second history without meaning to, and nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::tree;

fn is(path: &Path, wanted: Option<&str>) -> Result<(), String> {
    let found = fs::read_to_string(path).ok();
    if found.as_deref() == wanted { Ok(()) } else { Err(format!("{} is {found:?}, not {wanted:?}", path.display())) }
}

/// Copies the home of a node that does not run, or puts a copy back.
fn copy(node: &Node<'_>, from: &Path, to: &Path) {
    let (from, to) = (from.display(), to.display());
    node.host.sh(&format!("rm -rf '{to}'; cp -a '{from}' '{to}'")).ok();
}

struct Office<'lab> {
    nodes: [Node<'lab>; 3],
    roots: [PathBuf; 3],
}

/// Three machines that share a folder and are in step.
fn office<'lab>(hosts: &'lab [Host<'lab>; 3]) -> Office<'lab> {
    let mut nodes = [hosts[0].node("front-desk"), hosts[1].node("laptop"), hosts[2].node("workshop")];
    let roots = [0, 1, 2].map(|at| nodes[at].mkdir("Shared"));
    for (name, text) in [("plan", "first plan"), ("old", "an old letter"), ("kept", "as it was")] {
        fs::write(roots[0].join(name), text).expect("a file");
    }
    nodes.iter_mut().for_each(|node| node.up(&["Shared"]));
    nodes[0].admit(&nodes[1], &[]);
    nodes[0].admit(&nodes[2], &[]);
    fs::write(roots[1].join("early"), "before the backup").expect("a file");
    let office = Office { nodes, roots };
    office.meet();
    office
}

impl Office<'_> {
    fn meet(&self) {
        eventually("all are in step", CONVERGE_MAX, || {
            tree::same(&self.roots[0], &self.roots[1])?;
            tree::same(&self.roots[0], &self.roots[2])
        });
        for node in &self.nodes {
            node.lanyard(&["wait", "--timeout", "60s"]).ok();
        }
    }

    /// Stops the laptop and copies its home.
    fn back_up(&mut self, lab: &Lab) -> PathBuf {
        self.nodes[1].stop();
        let backup = lab.dir().join("backup");
        copy(&self.nodes[1], &self.nodes[1].home(), &backup);
        backup
    }

    fn nobody_forked(&self) {
        for node in &self.nodes {
            let said = node.lanyard(&["folders"]).ok().stdout;
            let is_sound = !said.contains("two histories") && !said.contains("only here") && !said.contains("wait");
            assert!(is_sound, "{}: {said}", node.name);
        }
    }
}

#[test]
fn a_machine_whose_state_is_put_back_signs_nothing_before_it_has_met_another_and_goes_on_by_itself() {
    let Some(lab) = Lab::open("backup") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    let mut office = office(&hosts);
    let [here, mine, there] = office.roots.clone();

    let backup = office.back_up(&lab);
    office.nodes[1].up(&[]);
    fs::write(mine.join("plan"), "the laptop's plan").expect("a file");
    fs::write(mine.join("new"), "after the backup").expect("a file");
    fs::remove_file(mine.join("old")).expect("removed");
    office.meet();
    office.nodes[1].stop();
    // While it is away somebody goes on from what it wrote.
    fs::write(here.join("plan"), "the front desk's plan").expect("a file");
    copy(&office.nodes[1], &backup, &office.nodes[1].home());

    // Nobody can tell it how far it had come.
    lab.partition(&hosts[0], &hosts[1]);
    lab.partition(&hosts[1], &hosts[2]);
    office.nodes[1].up(&[]);
    for number in 0..3 {
        fs::write(mine.join(format!("more {number}")), "more").expect("a file");
        office.nodes[1].lanyard(&["wait", "--timeout", "60s"]).ok();
    }
    eventually("it says that changes wait", CONVERGE_MAX, || {
        let said = office.nodes[1].lanyard(&["folders"]).ok().stdout;
        let told = said.contains("made here wait until another machine is reached");
        if told { Ok(()) } else { Err(said) }
    });
    assert!(office.nodes[1].folder("Shared")["waiting"].as_u64() >= Some(3), "{}", office.nodes[1].folder("Shared"));
    lab.heal();

    office.meet();
    for root in [&here, &mine, &there] {
        is(&root.join("plan"), Some("the front desk's plan")).expect("what it wrote before is no edit of today");
        is(&root.join("new"), Some("after the backup")).expect("its own work after the backup");
        is(&root.join("more 2"), Some("more")).expect("its work while it was alone");
        is(&root.join("old"), None).expect("what was removed stays away");
        assert_eq!(tree::snapshot(root).len(), 7, "no conflict copy: {:?}", tree::snapshot(root));
    }
    office.nobody_forked();
    fs::write(mine.join("later"), "saved after it").expect("a file");
    eventually("it goes on", CONVERGE_MAX, || is(&there.join("later"), Some("saved after it")));
}

#[test]
fn a_machine_that_is_put_back_with_its_folders_takes_nothing_back_from_the_others() {
    let Some(lab) = Lab::open("backup-all") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    let mut office = office(&hosts);
    let [here, mine, there] = office.roots.clone();

    // The backup of its state is the older one: that of its folder has more.
    office.nodes[1].stop();
    let (backup, files) = (lab.dir().join("backup"), lab.dir().join("files"));
    copy(&office.nodes[1], &office.nodes[1].home(), &backup);
    office.nodes[1].up(&[]);
    fs::write(mine.join("plan"), "the laptop's plan").expect("a file");
    fs::write(mine.join("short"), "gone soon").expect("a file");
    office.meet();
    office.nodes[1].stop();
    copy(&office.nodes[1], &mine, &files);
    office.nodes[1].up(&[]);
    fs::write(mine.join("plan"), "the laptop's second plan").expect("a file");
    fs::write(mine.join("new"), "after the backup").expect("a file");
    fs::remove_file(mine.join("old")).expect("removed");
    fs::remove_file(mine.join("short")).expect("removed");
    office.meet();
    office.nodes[1].stop();
    fs::write(here.join("kept"), "changed meanwhile").expect("a file");
    copy(&office.nodes[1], &backup, &office.nodes[1].home());
    copy(&office.nodes[1], &files, &mine);
    fs::write(mine.join("mine"), "right after the restoration").expect("a file");
    office.nodes[1].up(&[]);

    eventually("its work spreads", CONVERGE_MAX, || is(&there.join("mine"), Some("right after the restoration")));
    office.meet();
    for root in [&here, &mine, &there] {
        is(&root.join("plan"), Some("the laptop's second plan")).expect("the newer plan");
        is(&root.join("new"), Some("after the backup")).expect("its own work after the backup");
        is(&root.join("kept"), Some("changed meanwhile")).expect("what others changed meanwhile");
        is(&root.join("old"), None).expect("what was removed stays away");
        is(&root.join("short"), None).expect("what was removed stays away");
        assert_eq!(tree::snapshot(root).len(), 5, "no conflict copy: {:?}", tree::snapshot(root));
    }
    office.nobody_forked();
}

#[test]
fn a_second_history_that_nobody_could_prevent_loses_nothing_and_once_reinstated_the_machine_goes_on() {
    let Some(lab) = Lab::open("fork") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    let mut office = office(&hosts);
    let [here, mine, there] = office.roots.clone();

    let backup = office.back_up(&lab);
    lab.partition(&hosts[0], &hosts[2]);
    lab.partition(&hosts[1], &hosts[2]);
    // What was sent over a connection that still stands would arrive once the cut is healed.
    eventually("the cut is noticed on both sides", CONVERGE_MAX, || {
        let connected = [office.nodes[0].connected(), office.nodes[2].connected()];
        if connected.iter().all(Vec::is_empty) { Ok(()) } else { Err(format!("{connected:?}")) }
    });
    office.nodes[1].up(&[]);
    fs::write(mine.join("plan"), "the laptop's plan").expect("a file");
    fs::write(mine.join("new"), "after the backup").expect("a file");
    eventually("it reaches one", CONVERGE_MAX, || tree::same(&mine, &here));
    office.nodes[1].stop();
    office.nodes[0].stop();
    copy(&office.nodes[1], &backup, &office.nodes[1].home());

    // The only machine that it meets knows as little.
    lab.heal();
    office.nodes[1].up(&[]);
    fs::write(mine.join("new"), "after the restoration").expect("a file");
    eventually("it is told to go on", CONVERGE_MAX, || is(&there.join("new"), Some("after the restoration")));
    for number in 0..3 {
        fs::write(mine.join(format!("more {number}")), "more").expect("a file");
        office.nodes[1].lanyard(&["wait", "--timeout", "60s"]).ok();
    }
    office.nodes[0].up(&[]);

    for node in &office.nodes {
        eventually("the fork is known", CONVERGE_MAX, || {
            let said = node.lanyard(&["folders"]).stdout;
            if said.contains("laptop signed two histories") { Ok(()) } else { Err(format!("{}: {said}", node.name)) }
        });
    }
    for root in [&here, &there] {
        eventually("what both histories share stands", CONVERGE_MAX, || {
            is(&root.join("plan"), Some("first plan"))?;
            is(&root.join("early"), Some("before the backup"))?;
            is(&root.join("new"), None)
        });
    }
    for node in &office.nodes {
        node.lanyard(&["wait", "--timeout", "60s"]).ok();
    }
    tree::same(&here, &there).expect("the others hold the same");
    for (name, wanted) in [("plan", "the laptop's plan"), ("new", "after the restoration"), ("more 2", "more")] {
        is(&mine.join(name), Some(wanted)).expect("its own disk keeps its own work");
    }
    let kept = hosts[0].sh(&format!("grep -rl 'after the backup' '{}'", here.join(".lanyard/versions").display()));
    assert!(!kept.stdout.is_empty(), "what was undone is kept in the versions: {kept}");

    // Until it is let go on, what it saves stays with it.
    let [a, b, c] = &office.nodes;
    fs::write(mine.join("waits"), "saved meanwhile").expect("a file");
    b.lanyard(&["wait", "--timeout", "60s"]).ok();
    a.lanyard(&["wait", "--timeout", "60s"]).ok();
    assert!(!here.join("waits").exists(), "it is not spread yet");
    let noted = b.lanyard(&["audit", "--refused"]).stdout;
    assert!(noted.contains("until an admin reinstates it"), "{noted}");
    c.lanyard(&["reinstate", "laptop", "Shared"]).exits(4).names("front-desk");
    let done = a.json(&["reinstate", "laptop", "Shared"]);
    assert_eq!(done["folders"][0]["name"], "Shared", "{done}");
    a.lanyard(&["reinstate", "laptop", "Shared"]).exits(1).names("laptop");
    eventually("its own node knows", CONVERGE_MAX, || is(&here.join("waits"), Some("saved meanwhile")));
    fs::write(mine.join("later"), "saved after it").expect("a file");
    office.meet();
    for (name, wanted) in [
        ("plan", "the laptop's plan"),
        ("new", "after the restoration"),
        ("later", "saved after it"),
        ("more 2", "more"),
    ] {
        is(&there.join(name), Some(wanted)).expect("its work is everywhere");
    }
    office.nobody_forked();
}

#[test]
fn a_machine_that_is_put_back_hears_of_its_own_rules_before_it_signs_another() {
    let Some(lab) = Lab::open("backup-rules") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    let mut office = office(&hosts);

    office.nodes[0].stop();
    let backup = lab.dir().join("backup");
    copy(&office.nodes[0], &office.nodes[0].home(), &backup);
    office.nodes[0].up(&[]);
    office.nodes[0].lanyard(&["group", "create", "travellers", "laptop"]).ok();
    eventually("the group is known", CONVERGE_MAX, || {
        let said = office.nodes[2].lanyard(&["group", "list"]).stdout;
        if said.contains("travellers") { Ok(()) } else { Err(said) }
    });
    office.nodes[0].stop();
    copy(&office.nodes[0], &backup, &office.nodes[0].home());
    office.nodes[0].up(&[]);
    // It would be unknown, had the node not asked first.
    office.nodes[0].lanyard(&["grant", "travellers", "Shared", "read"]).ok();
    for node in &office.nodes {
        eventually("the rule stands", CONVERGE_MAX, || {
            let said = node.lanyard(&["rules", "Shared"]).ok().stdout;
            if said.contains("travellers") { Ok(()) } else { Err(said) }
        });
    }

    // Alone it may sign all the same.
    office.nodes[0].stop();
    lab.partition(&hosts[0], &hosts[1]);
    lab.partition(&hosts[0], &hosts[2]);
    office.nodes[0].up(&[]);
    office.nodes[0].lanyard(&["group", "create", "visitors"]).ok();
}

#[test]
fn a_copy_of_a_machine_is_named_to_the_others_and_what_both_save_is_kept() {
    let Some(lab) = Lab::open("clone") else { return };
    let hosts = [lab.host(), lab.host(), lab.host()];
    let fourth = lab.host();
    let mut office = office(&hosts);

    office.nodes[1].stop();
    // The copy sees its own disk where the machine that it is a copy of sees the other one.
    let (place, copied) = (lab.dir().join("laptop"), lab.dir().join("copied"));
    copy(&office.nodes[1], &place, &copied);
    fourth.sh(&format!("mount --bind '{}' '{}'", copied.display(), place.display())).ok();
    let mut double = fourth.node_at("double", &place);
    office.nodes[1].up(&[]);
    double.up(&[]);
    eventually("the copy is named", CONVERGE_MAX, || {
        let said = office.nodes[0].lanyard(&["status"]).ok().stdout;
        let named = said.contains("two machines are 'laptop' at once") && said.contains("delete its lanyard home");
        if named { Ok(()) } else { Err(said) }
    });
    fs::write(office.roots[1].join("of the first"), "saved on the first").expect("a file");
    fs::write(double.seen("Shared/of the second"), "saved on the second").expect("a file");
    let (here, there) = (&office.roots[0], &office.roots[2]);
    double.stop();
    eventually("the first one's work spreads", CONVERGE_MAX, || {
        is(&there.join("of the first"), Some("saved on the first"))?;
        is(&here.join("of the first"), Some("saved on the first"))
    });
    let kept = fs::read_to_string(double.seen("Shared/of the second")).expect("it is still there");
    assert_eq!(kept, "saved on the second");
}
