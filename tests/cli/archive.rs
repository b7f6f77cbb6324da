//! The archive and the coordinator's eligibility: what each command asks of the node, and how it shows the answer.

use lanyard::wire::api::{
    AllowNode, Allowed, ArchiveAnswer, ArchiveChecked, ArchiveStatus, ArchivedFolder, AskArchive, FolderRef, NodeRef,
    PathText, Request, Response, Secret, SnapshotTaken, SnapshotsTaken, Unread, UtcTime,
};

use crate::node::answer;

fn plans() -> FolderRef {
    FolderRef { id: "cd".repeat(32), name: "plans".into() }
}

fn path(text: &str) -> PathText {
    PathText::from_bytes(text.as_bytes())
}

fn taken(missing_count: u64) -> ArchiveAnswer {
    let missing = (missing_count > 0).then(|| Unread { path: path("office/plan"), why: "permission denied".into() });
    ArchiveAnswer::Taken(SnapshotsTaken {
        snapshots: vec![SnapshotTaken {
            folder: plans(),
            id: "1c0b3a5e".repeat(8),
            at: UtcTime::from_ms(0),
            files: 2,
            bytes: 1550,
            added: 900,
            missing: missing.into_iter().collect(),
            missing_count,
        }],
        failed: Vec::new(),
        password: Some(Secret("abcd-efgh".into())),
    })
}

fn asks(answered: ArchiveAnswer, args: &[&str]) -> (crate::node::Ran, AskArchive) {
    let node = answer(Response::Archive(Box::new(answered)));
    let ran = node.run(args);
    match node.last_asked() {
        Request::Archive(ask) => (ran, ask),
        other => panic!("{args:?} asked {other:?}"),
    }
}

#[test]
fn a_snapshot_says_what_it_has_and_the_password_once() {
    let (ran, ask) = asks(taken(0), &["archive", "snapshot", "plans"]);
    assert_eq!(ask, AskArchive::Snapshot { folder: Some("plans".into()) });
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "plans: snapshot 1c0b3a5e of 2 files, 1.5 kB; the archive grew by 900 B");
    assert_eq!(lines.last(), Some(&"  abcd-efgh"));
}

#[test]
fn a_snapshot_that_is_not_whole_is_a_failure_that_names_what_is_missing() {
    let (ran, _) = asks(taken(3), &["archive", "snapshot"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stdout.contains("  office/plan: permission denied"), "{}", ran.stdout);
    assert!(ran.stderr.contains("3 names not in the snapshot as it should be"), "{}", ran.stderr);
}

#[test]
fn a_check_that_finds_something_is_a_failure_unless_it_was_repaired() {
    let checked = ArchiveChecked {
        snapshots: 4,
        bytes: 1550,
        damaged: vec![path("/mnt/archive/data/ab/abcd")],
        findings: Vec::new(),
        count: 1,
        repaired: false,
        left: Vec::new(),
        lost: false,
    };
    let (ran, ask) = asks(ArchiveAnswer::Checked(checked.clone()), &["archive", "check", "--read-data"]);
    assert_eq!((ran.status, ask), (1, AskArchive::Check { read_data: true, repair: false }));
    assert!(ran.stdout.contains("/mnt/archive/data/ab/abcd: is damaged") && ran.stderr.contains("--repair"));
    let repaired = ArchiveChecked { repaired: true, ..checked };
    let (ran, ask) = asks(ArchiveAnswer::Checked(repaired), &["archive", "check", "--repair"]);
    assert_eq!((ran.status, ask), (0, AskArchive::Check { read_data: false, repair: true }));
}

#[test]
fn the_status_says_what_there_is_and_what_is_wrong() {
    let status = ArchiveStatus {
        path: path("/mnt/archive"),
        made: true,
        enabled: true,
        eligible: false,
        every_ms: 3_600_000,
        bytes: Some(2_000_000),
        free: Some(5_000_000),
        password: None,
        doing: None,
        problem: Some("the disk of the archive in /mnt/archive is nearly full".into()),
        fit: false,
        folders: vec![ArchivedFolder {
            folder: plans(),
            snapshots: 7,
            first: Some(UtcTime::from_ms(0)),
            last: None,
            incomplete: true,
            problem: None,
        }],
    };
    let (ran, ask) = asks(ArchiveAnswer::Status(status), &["archive"]);
    assert_eq!((ran.status, ask), (0, AskArchive::Status {}));
    for wanted in [
        "Archive in /mnt/archive, 2.0 MB, 5.0 MB free",
        "'lanyard archive password --new' makes one",
        "may not be the office's server any more",
        "Needs attention: the disk of the archive",
        "not whole",
    ] {
        assert!(ran.stdout.contains(wanted), "{wanted}: {}", ran.stdout);
    }
}

#[test]
fn who_may_be_coordinator_is_asked_with_a_priority_or_none() {
    let node = NodeRef { id: "id".into(), name: "attic".into() };
    let told = |priority| Response::Allowed(Allowed { node: node.clone(), priority, statement: Some("ab".into()) });
    let may = answer(told(Some(100)));
    assert_eq!(may.run(&["coordinator", "allow", "attic"]).stdout, "attic may be coordinator, with priority 100.\n");
    assert_eq!(may.last_asked(), Request::Allow(AllowNode { node: "attic".into(), priority: Some(100) }));
    let may_not = answer(told(None));
    assert_eq!(may_not.run(&["coordinator", "deny", "attic"]).stdout, "attic may not be coordinator.\n");
    assert_eq!(may_not.last_asked(), Request::Allow(AllowNode { node: "attic".into(), priority: None }));
}
