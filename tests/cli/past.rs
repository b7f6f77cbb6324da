//! Looking back and taking back: what each command asks of the node, and how it shows the answer.

use lanyard::wire::api::{
    ConflictCopy, ConflictSide, Conflicts, ConflictsIn, Failure, FolderRef, KeepSide, KeptVersion, Moment, NodeRef,
    NotRestored, PathText, Request, ResolveConflict, Resolved, Response, RestoreAt, Restored, UtcTime, Versions,
    VersionsBelow, VersionsOf,
};

use crate::node::{Node, answer, text};

/// 2026-03-01 09:30 UTC.
const NOON: u64 = 1_772_357_400_000;

fn path(text: &str) -> PathText {
    PathText::from_bytes(text.as_bytes())
}

fn plans() -> FolderRef {
    FolderRef { id: "cd".repeat(32), name: "plans".into() }
}

fn node(name: &str) -> NodeRef {
    NodeRef { id: format!("id-of-{name}"), name: name.into() }
}

fn version(seconds: u64, here: bool, file: Option<&str>) -> KeptVersion {
    KeptVersion {
        at: Some(UtcTime::from_ms(NOON + seconds * 1000 + 250)),
        until: Some(UtcTime::from_ms(NOON + 60_000)),
        bytes: 1550,
        by: Some(node("workshop")),
        here,
        file: file.map(path),
    }
}

fn versions() -> Versions {
    let orphan = KeptVersion { at: None, by: None, ..version(0, true, Some(".lanyard/versions/office~1-0")) };
    Versions {
        folder: plans(),
        path: path("office"),
        versions: vec![version(30, false, None), version(10, true, None), orphan],
        more: 2,
        below: vec![VersionsBelow {
            path: path("office/pl\u{1b}an"),
            count: 3,
            until: Some(UtcTime::from_ms(NOON)),
            deleted: true,
        }],
        below_more: 1,
    }
}

fn restored() -> Restored {
    Restored {
        folder: plans(),
        path: path("office"),
        at: UtcTime::from_ms(NOON),
        to: None,
        dry_run: false,
        files: 2,
        bytes: 1550,
        others: 1,
        modes: 1,
        removed: 3,
        same: 40,
        archived: 0,
        archived_at: None,
        failed: Vec::new(),
        failed_more: 0,
    }
}

#[test]
fn versions_reads_as_what_can_be_brought_back() {
    let node = answer(Response::Versions(versions()));
    insta::assert_snapshot!(text(&node, &["versions", "plans/office"]), @r"
    SAVED                BY        SIZE    REPLACED             WHERE
    2026-03-01 09:30:30  workshop  1.5 kB  2026-03-01 09:31:00  other machines, if they kept it
    2026-03-01 09:30:10  workshop  1.5 kB  2026-03-01 09:31:00  here
    -                    -         1.5 kB  2026-03-01 09:31:00  .lanyard/versions/office~1-0
    and 2 more
    BELOW plans/office         VERSIONS  LAST REPLACED
    office/pl\x1ban (deleted)  3         2026-03-01 09:30:00
    and 1 more
    ");
    let asked = Request::Versions(VersionsOf { folder: "plans".into(), path: Some(path("office")) });
    assert_eq!(node.last_asked(), asked);
    assert_eq!(node.json(&["versions", "plans/"])["versions"][0]["at"], "2026-03-01T09:30:30.250Z");
    assert_eq!(node.last_asked(), Request::Versions(VersionsOf { folder: "plans".into(), path: None }));
}

#[test]
fn versions_of_one_second_are_told_apart() {
    let mut known = versions();
    known.versions[1].at = Some(UtcTime::from_ms(NOON + 30_500));
    let node = answer(Response::Versions(known));
    let shown = text(&node, &["versions", "plans/office"]);
    assert!(shown.contains("09:30:30.250") && shown.contains("09:30:30.500"), "{shown}");
}

#[test]
fn restore_says_what_it_did() {
    let node = answer(Response::Restored(restored()));
    insta::assert_snapshot!(text(&node, &["restore", "plans/office", "--at", "10m ago"]), @r"
    plans/office is as it was at 2026-03-01 09:30:00:
      2 files brought back (1.5 kB)
      1 directory or link brought back
      1 name with the mode and time of then
      3 names removed: not there then
      40 names as it was
    ");
    let ask = RestoreAt {
        folder: "plans".into(),
        path: Some(path("office")),
        at: Moment::AgoMs(600_000),
        to: None,
        dry_run: false,
    };
    assert_eq!(node.last_asked(), Request::Restore(ask.clone()));
    node.json(&["restore", "plans/office", "--at", "10m", "--dry-run", "--to", "/srv/back"]);
    let ask = RestoreAt { to: Some(path("/srv/back")), dry_run: true, ..ask };
    assert_eq!(node.last_asked(), Request::Restore(ask));
}

#[test]
fn what_was_not_brought_back_is_named_with_status_1_and_the_rest_is_said() {
    let failed = vec![NotRestored { path: path("office/plan"), why: "nobody has it".into() }];
    let node = answer(Response::Restored(Restored { failed, failed_more: 4, ..restored() }));
    let ran = node.run(&["restore", "plans/office", "--at", "1h"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stdout.contains("2 files brought back"), "{}", ran.stdout);
    insta::assert_snapshot!(ran.stderr, @r"
    error: 5 names of plans/office could not be brought back
      caused by: office/plan: nobody has it
      caused by: and 4 more
      hint: the rest is done; try again when more machines are connected
    ");
    assert_eq!(node.run(&["--json", "restore", "plans/office", "--at", "1h"]).status, 1);
}

fn side(name: &str, this: bool) -> ConflictSide {
    ConflictSide { by: node(name), this, at: UtcTime::from_ms(NOON), bytes: 12 }
}

#[test]
fn conflicts_reads_as_who_has_the_name_and_what_lies_beside() {
    let conflict = ConflictCopy {
        folder: plans(),
        path: path("office"),
        copy: path("office (conflict x)"),
        current: Some(side("workshop", false)),
        other: side("front-desk", true),
    };
    let node = answer(Response::Conflicts(Conflicts { conflicts: vec![conflict], more: 0 }));
    insta::assert_snapshot!(text(&node, &["conflicts", "plans"]), @r"
    FILE          HAS THE NAME                      LIES BESIDE                                        AS
    plans/office  workshop, 2026-03-01 09:30, 12 B  front-desk (this machine), 2026-03-01 09:30, 12 B  plans/office (conflict x)
    'lanyard conflicts resolve FOLDER/PATH --keep current|copy|both' ends one.
    ");
    assert_eq!(node.last_asked(), Request::Conflicts(ConflictsIn { folder: Some("plans".into()) }));
    assert_eq!(node.json(&["conflicts"])[0]["other"]["this"], true);
    let none = answer(Response::Conflicts(Conflicts { conflicts: Vec::new(), more: 0 }));
    assert_eq!(text(&none, &["conflicts"]), "no conflicts\n");
}

#[test]
fn a_conflict_ends_by_what_is_kept() {
    let words = [
        ("current", KeepSide::Current, "plans/office stays; 1 copy went, and can be brought back.\n"),
        ("copy", KeepSide::Copy, "plans/office is what the copy was; what had the name is kept as a version.\n"),
        ("both", KeepSide::Both, "plans/office stays; beside it from now on: office (2).\n"),
        ("mine", KeepSide::Mine, ""),
        ("theirs", KeepSide::Theirs, ""),
    ];
    for (word, keep, said) in words {
        let node = Node::answering(move |_| match keep {
            KeepSide::Mine | KeepSide::Theirs => Err(Failure::failed("it is not clear")),
            kept => Ok(Response::Resolved(Resolved {
                folder: plans(),
                path: path("office"),
                kept,
                also: if kept == KeepSide::Both { vec![path("office (2)")] } else { Vec::new() },
                copies: 1,
            })),
        });
        let ran = node.run(&["conflicts", "resolve", "plans/office", "--keep", word]);
        assert_eq!((ran.stdout.as_str(), ran.status), (said, u8::from(said.is_empty()).into()), "{word}");
        let ask = ResolveConflict { folder: "plans".into(), path: path("office"), keep };
        assert_eq!(node.last_asked(), Request::ResolveConflict(ask));
    }
}
