//! Disks that fill up, turn read-only, fail or are taken away: receiving pauses, the status says why, and once it is put
//! right the folder goes on where it was.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use crate::lab::{Host, Lab, eventually};
use crate::node::{CONVERGE_MAX, Node};
use crate::office::{Book, User, Watcher, can, is_current, nothing_is_lost, pair_at, skip};

/// Long enough for a node to spread what it wrongly takes for deleted (a guess: it takes a tenth of a second).
const SPREADS: Duration = Duration::from_secs(2);

/// A file system on an image of its own, mounted on one host only.
pub(crate) struct Mounted<'lab> {
    host: &'lab Host<'lab>,
    pub(crate) image: PathBuf,
    /// Where, as the host sees it.
    pub(crate) at: PathBuf,
}

impl<'lab> Mounted<'lab> {
    /// Makes and mounts it; says aloud why not where that is not possible.
    pub(crate) fn make(test: &str, host: &'lab Host<'lab>, system: &str, mib: u64) -> Option<Mounted<'lab>> {
        let dir = host.lab().dir();
        let (image, at) = (dir.join("image"), dir.join("disk"));
        std::fs::create_dir_all(&at).expect("a directory");
        let force = if system == "ext4" { "-F" } else { "-f" };
        let made = host.sh(&format!("truncate -s {mib}M {0}; mkfs.{system} -q {force} {0}", image.display()));
        let disk = Mounted { host, image, at };
        let mounted = disk.host.sh(&disk.mount_script());
        if made.code == 0 && mounted.code == 0 {
            return Some(disk);
        }
        skip(&format!("{test}: {system} cannot be mounted here: {}{}", made.stderr.trim(), mounted.stderr.trim()));
        None
    }

    fn mount_script(&self) -> String {
        format!("mount -o loop {} {}", self.image.display(), self.at.display())
    }

    #[track_caller]
    pub(crate) fn mount(&self) {
        self.host.sh(&self.mount_script()).ok();
    }

    /// Unmounts it once nobody uses it any more.
    #[track_caller]
    pub(crate) fn unmount(&self) {
        eventually("the disk is unmounted", Duration::from_secs(20), || {
            let outcome = self.host.sh(&format!("umount {}", self.at.display()));
            if outcome.code == 0 { Ok(()) } else { Err(outcome.stderr) }
        });
    }
}

/// An office whose second node has the folder, but not its home, on a disk of its own.
struct Office<'lab> {
    a: Node<'lab>,
    b: Node<'lab>,
    disk: Mounted<'lab>,
    here: PathBuf,
    /// Of the second node, as it sees it and from outside.
    there: PathBuf,
    seen: PathBuf,
    book: Book,
    user: User,
    round: u64,
}

impl<'lab> Office<'lab> {
    fn open(test: &str, hosts: [&'lab Host<'lab>; 2], system: &str, mib: u64) -> Option<Office<'lab>> {
        let disk = Mounted::make(test, hosts[1], system, mib)?;
        let (mut a, mut b) = (hosts[0].node("front-desk"), hosts[1].node("workshop"));
        let there = pair_at(&mut a, &mut b, &disk.at);
        let (here, seen, book) = (a.path("Shared"), hosts[1].seen(&there), Book::default());
        let user = User::new(&book, 9, &hosts[0].lab().dir().join("aside"));
        let mut office = Office { a, b, disk, here, there, seen, book, user, round: 0 };
        for _ in 0..3 {
            office.edit();
            office.in_step("at first");
        }
        Some(office)
    }

    fn edit(&mut self) {
        self.round += 1;
        self.user.edit(&self.here, self.round);
    }

    #[track_caller]
    fn in_step(&self, when: &str) {
        eventually(&format!("in step {when}"), CONVERGE_MAX, || {
            is_current(&self.book, &self.here).and_then(|()| is_current(&self.book, &self.seen))
        });
    }

    /// The status says in words that this folder has this trouble.
    #[track_caller]
    fn says(&self, words: &[&str]) {
        let said = eventually(&format!("the status says {words:?}"), CONVERGE_MAX, || {
            let said = self.b.lanyard(&["status"]).ok().stdout;
            let lower = said.to_lowercase();
            let tells =
                lower.lines().any(|line| line.contains("shared") && words.iter().any(|word| line.contains(word)));
            if tells { Ok(said) } else { Err(said) }
        });
        let line = said.lines().find(|line| words.iter().any(|word| line.to_lowercase().contains(word)));
        println!("status: {}", line.unwrap_or_default().trim());
    }

    #[track_caller]
    fn is_well(&self) {
        eventually("the status has no complaint left", CONVERGE_MAX, || {
            let folder = self.b.folder("Shared");
            if folder["state"] == "idle" && folder["why"].is_null() { Ok(()) } else { Err(folder.to_string()) }
        });
    }

    fn end(&mut self) {
        self.b.must_be_alive();
        self.a.must_be_alive();
        self.is_well();
        let contents = nothing_is_lost(&self.book, &[&self.here, &self.seen]);
        println!("{} rounds of edits, {contents} contents, all found", self.round);
    }
}

#[test]
fn a_full_disk_pauses_receiving_says_so_and_goes_on_by_itself_when_there_is_room() {
    if !can("full disk", true, &["mkfs.ext4"]) {
        return;
    }
    let Some(lab) = Lab::open("full disk") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let Some(mut office) = Office::open("full disk", [&h1, &h2], "ext4", 48) else { return };
    let watcher = Watcher::over(&office.book, &office.seen);
    let ballast = office.disk.at.join("ballast");
    // Everything but about a megabyte, and that goes with the first files.
    h2.sh(&format!("cat /dev/zero > {0} 2>/dev/null || truncate -s -1M {0}", ballast.display())).ok();

    for n in 0..6 {
        office.user.save_some(&office.here, &format!("scans/{n}.pdf"), 700 << 10);
    }
    office.user.save_some(&office.here, "large.pdf", 3 << 20);
    office.edit();
    office.says(&["full"]);
    h2.sh(&format!("rm {}", ballast.display())).ok();

    office.in_step("when there is room again");
    watcher.finish();
    office.end();
}

#[test]
fn a_disk_that_turned_read_only_is_said_and_the_folder_goes_on_when_it_can_be_written_again() {
    if !can("read-only disk", true, &["mkfs.ext4"]) {
        return;
    }
    let Some(lab) = Lab::open("read-only disk") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let Some(mut office) = Office::open("read-only disk", [&h1, &h2], "ext4", 48) else { return };
    h2.sh(&format!("mount -o remount,ro {}", office.disk.at.display())).ok();

    office.edit();
    office.says(&["read-only"]);
    h2.sh(&format!("mount -o remount,rw {}", office.disk.at.display())).ok();

    office.in_step("when it can be written again");
    office.end();
}

#[test]
fn a_disk_that_fails_or_is_pulled_deletes_nothing_elsewhere_and_comes_back_after_a_restart() {
    if !can("pulled disk", true, &["mkfs.xfs", "xfs_io"]) {
        return;
    }
    let Some(lab) = Lab::open("pulled disk") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let Some(mut office) = Office::open("pulled disk", [&h1, &h2], "xfs", 320) else { return };

    // The disk fails under the node.
    h2.sh(&format!("xfs_io -x -c shutdown {}", office.disk.at.display())).ok();
    office.edit();
    office.says(&["input/output", "i/o error"]);
    office.keeps_all();
    office.b.stop();
    office.disk.unmount();
    office.disk.mount();
    office.b.up(&[]);
    office.in_step("with the disk back");

    // The disk is taken away under the node: an empty directory is left.
    h2.sh(&format!("umount -l {}", office.disk.at.display())).ok();
    assert!(!h2.seen(&office.there).exists(), "the disk is away");
    office.edit();
    office.says(&["marker", "mounted", "replaced"]);
    office.keeps_all();
    office.b.stop();
    office.disk.mount();
    office.b.up(&[]);
    office.in_step("with the disk back again");

    // Where the node starts anew for it, nobody has to.
    if office.b.json(&["status"])["node"]["confined"] == true {
        h2.sh(&format!("umount -l {}", office.disk.at.display())).ok();
        office.edit();
        office.says(&["marker", "mounted", "replaced"]);
        office.keeps_all();
        office.disk.mount();
        office.in_step("with the disk mounted again under the node");
    }
    office.end();
}

#[test]
fn a_disk_that_loses_bits_in_silence_is_found_out_and_repaired_from_the_others() {
    if !can("silent damage", true, &["mkfs.ext4"]) {
        return;
    }
    let Some(lab) = Lab::open("silent damage") else { return };
    let (h1, h2) = (lab.host(), lab.host());
    let Some(mut office) = Office::open("silent damage", [&h1, &h2], "ext4", 48) else { return };
    let letter = b"a line that is nowhere else on this disk\n".repeat(5_000);
    office.user.save(&office.here, "letter", &letter);
    office.in_step("with the letter");
    office.b.lanyard(&["wait", "--timeout", "60s"]).ok();
    let said = office.b.lanyard(&["verify"]).ok().stdout;
    assert!(said.contains("all as they should be"), "{said}");

    // One bit of the letter flips below the file system.
    office.b.stop();
    office.disk.unmount();
    let mut image = std::fs::read(&office.disk.image).expect("the image");
    let at = image.windows(20).position(|bytes| letter.starts_with(bytes)).expect("the letter is on the disk");
    image[at + 7] ^= 4;
    std::fs::write(&office.disk.image, image).expect("the image");
    office.disk.mount();
    office.b.up(&[]);
    assert_ne!(std::fs::read(office.seen.join("letter")).expect("a file"), letter);

    let said = office.b.lanyard(&["verify"]).ok().stdout;
    assert!(said.contains("letter: was damaged, is whole again"), "{said}");
    assert_eq!(std::fs::read(office.seen.join("letter")).expect("a file"), letter);
    office.b.lanyard(&["verify", "Nowhere"]).exits(1).names("Nowhere");
    office.in_step("after the repair");
    office.end();
}

impl Office<'_> {
    /// Nothing is taken for deleted because a disk is away.
    #[track_caller]
    fn keeps_all(&self) {
        sleep(SPREADS);
        is_current(&self.book, &self.here).expect("the other side is as its user left it");
    }
}
