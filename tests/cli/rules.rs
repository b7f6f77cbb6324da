//! The commands about access rules: what each asks of the node, and how it shows the answer.

use lanyard::wire::api::{
    AuditEntry, Deed, Expelled, FolderRef, Group, GroupStep, Kept, KeptIn, Late, LateChange, LateReason, Level,
    MemberLevel, NodeRef, PathText, Recovered, Reinstated, Renamed, Request, Response, Retired, Reverted, Role,
    RoleChanged, Rule, Ruled, Rules, Standings, SubjectRef, Thing, Until, UtcTime, Verdict,
};

use crate::node::{answer, finish, text};

/// 2026-03-01 09:30 UTC.
const NOON: u64 = 1_772_357_400_000;
const DAY: u64 = 24 * 3_600_000;

fn node(name: &str) -> NodeRef {
    NodeRef { id: format!("id-of-{name}"), name: name.into() }
}

fn plans() -> FolderRef {
    FolderRef { id: "cd".repeat(32), name: "plans".into() }
}

fn of_node(name: &str) -> SubjectRef {
    SubjectRef::Node { id: format!("id-of-{name}"), name: name.into() }
}

fn rule(subject: SubjectRef, level: Level, path: &str) -> Rule {
    Rule {
        folder: plans(),
        path: PathText::from_bytes(path.as_bytes()),
        subject,
        level: Some(level),
        by: node("front-desk"),
        since: UtcTime::from_ms(NOON),
        until: None,
        contested: false,
        statement: "ab".repeat(32),
    }
}

fn rules() -> Rules {
    let accounting = SubjectRef::Group { id: "01".repeat(16), name: "accounting".into() };
    Rules {
        rules: vec![
            rule(SubjectRef::Everyone, Level::Read, ""),
            rule(of_node("front-desk"), Level::Manage, ""),
            rule(accounting, Level::Write, "2026/books"),
            rule(SubjectRef::Everyone, Level::None, "2026/salary"),
            Rule {
                until: Some(UtcTime::from_ms(NOON + 30 * DAY)),
                ..rule(of_node("workshop"), Level::Write, "drawings")
            },
            Rule { contested: true, ..rule(of_node("attic\u{1b}[2J"), Level::Read, "x") },
        ],
        standings: vec![Standings {
            folder: plans(),
            members: [("attic", Level::Read), ("front-desk", Level::Manage), ("workshop", Level::Read)]
                .map(|(name, level)| MemberLevel { node: node(name), level })
                .to_vec(),
        }],
        admins: vec![node("front-desk")],
    }
}

#[test]
fn rules_reads_as_who_may_do_what() {
    let node = answer(Response::Rules(rules()));
    insta::assert_snapshot!(text(&node, &["rules", "plans"]), @r"
    Folder plans
    WHO               MAY                       ON           SIGNED BY   SINCE             UNTIL
    everyone          read                      all of it    front-desk  2026-03-01 09:30  for good
    front-desk        manage                    all of it    front-desk  2026-03-01 09:30  for good
    group accounting  write                     2026/books   front-desk  2026-03-01 09:30  for good
    everyone          nothing                   2026/salary  front-desk  2026-03-01 09:30  for good
    workshop          write                     drawings     front-desk  2026-03-01 09:30  2026-03-31 09:30
    attic\u{1b}[2J    at most read (contested)  x            front-desk  2026-03-01 09:30  for good
    On the whole folder this comes to: manage: front-desk; read: attic, workshop.

    Admins may change every rule: front-desk.
    ");
    let Request::Rules(asked) = node.last_asked() else { panic!("no rules were asked for") };
    assert_eq!(asked.folder.as_deref(), Some("plans"));
}

#[test]
fn rules_as_json_is_an_array_of_rules() {
    let json = answer(Response::Rules(rules())).json(&["rules"]);
    assert_eq!(json.as_array().map(Vec::len), Some(6));
    let expected = serde_json::json!({
        "folder": {"id": "cd".repeat(32), "name": "plans"}, "path": "drawings",
        "subject": {"kind": "node", "id": "id-of-workshop", "name": "workshop"}, "level": "write",
        "by": {"id": "id-of-front-desk", "name": "front-desk"}, "since": "2026-03-01T09:30:00.000Z",
        "until": "2026-03-31T09:30:00.000Z", "contested": false, "statement": "ab".repeat(32),
    });
    assert_eq!(json[4], expected);
    assert_eq!(json[0]["subject"], serde_json::json!({"kind": "everyone"}));
    assert!(json[0]["until"].is_null());
}

#[test]
fn grant_asks_with_its_end_and_says_what_it_comes_to() {
    let granted = Ruled {
        rule: Rule { until: Some(UtcTime::from_ms(NOON)), ..rule(of_node("workshop"), Level::Read, "drawings") },
        comes_to: Some(Level::None),
        lowers_read: true,
        lowers_own: Some(Level::None),
    };
    let node = answer(Response::Ruled(granted));
    let args = ["grant", "workshop", "plans:drawings", "read", "--until", "30d"];
    assert_eq!(
        text(&node, &args),
        "workshop may read plans/drawings until 2026-03-01 09:30.\n\
         All rules together, workshop now has 'none' on plans/drawings.\n\
         This machine is meant too: it has 'none' there now. A rule that names it gives it more.\n\
         What is on their disks already stays there: it cannot be called back.\n"
    );
    let Request::Grant(asked) = node.last_asked() else { panic!("no grant was asked for") };
    assert_eq!((asked.subject.as_str(), asked.at.as_str(), asked.level), ("workshop", "plans:drawings", Level::Read));
    assert_eq!(asked.until, Some(Until::AfterMs(30 * DAY)));
    text(&node, &["grant", "workshop", "plans:drawings", "read", "--until", "2026-03-01"]);
    let Request::Grant(asked) = node.last_asked() else { panic!("no grant was asked for") };
    assert_eq!(asked.until.map(|until| format!("{until:?}").contains("1772409599999")), Some(true), "the day's end");
    assert_eq!(node.json(&args)["rule"]["level"], "read");
}

#[test]
fn revoke_names_the_rule_that_is_gone() {
    let revoked = Ruled {
        rule: Rule { level: None, ..rule(SubjectRef::Everyone, Level::None, "") },
        comes_to: None,
        lowers_read: false,
        lowers_own: None,
    };
    let node = answer(Response::Ruled(revoked));
    assert_eq!(text(&node, &["revoke", "everyone", "plans"]), "the rule for everyone on plans is withdrawn.\n");
    assert!(node.json(&["revoke", "everyone", "plans"])["rule"]["level"].is_null());
}

#[test]
fn groups_are_made_changed_and_listed() {
    let group = Group {
        id: "01".repeat(16),
        name: "accounting".into(),
        members: vec![node("attic"), node("workshop")],
        disputed: vec![node("front-desk")],
    };
    let shown = answer(Response::Group(group.clone()));
    let said = text(&shown, &["group", "create", "accounting", "attic", "workshop"]);
    assert_eq!(said, "group accounting: attic, workshop\n");
    let Request::Group(asked) = shown.last_asked() else { panic!("no group was asked for") };
    assert_eq!((asked.step, asked.group.as_str()), (GroupStep::Create, "accounting"));
    assert_eq!(asked.nodes, ["attic", "workshop"]);
    text(&shown, &["group", "remove", "accounting", "attic"]);
    let Request::Group(asked) = shown.last_asked() else { panic!("no group was asked for") };
    assert_eq!(asked.step, GroupStep::Remove);
    let listed = answer(Response::Groups(vec![group]));
    insta::assert_snapshot!(text(&listed, &["group", "list"]), @r"
    GROUP       MEMBERS
    accounting  attic, workshop
    accounting: two admins disagreed on front-desk; 'lanyard group add' or 'remove' decides
    ");
    assert_eq!(listed.json(&["group", "list"])[0]["members"][0]["name"], "attic");
    let none = text(&answer(Response::Groups(Vec::new())), &["group", "list"]);
    assert!(none.starts_with("no group yet"), "{none}");
}

#[test]
fn members_are_removed_and_made_admins() {
    let expelled = answer(Response::Expelled(Expelled { node: node("workshop"), statement: "ab".into() }));
    let said = text(&expelled, &["expel", "workshop"]);
    assert!(said.starts_with("workshop is no member any more.\n") && said.contains("cannot be called back"), "{said}");
    for (statement, word) in [(Some("ab".into()), "now"), (None, "already")] {
        let changed = RoleChanged { node: node("workshop"), role: Role::Admin, statement };
        let said = text(&answer(Response::RoleChanged(changed)), &["role", "workshop", "admin"]);
        assert_eq!(said, format!("workshop is {word} an admin: it may change every rule.\n"));
    }
    let retired = answer(Response::Retired(Retired { folder: plans(), statement: "ab".into() }));
    assert_eq!(text(&retired, &["retire", "plans"]), "plans is shared no more. Its files stay on every machine.\n");
}

#[test]
fn rename_says_of_what_by_its_options() {
    let renamed = Renamed { before: "a".into(), name: "b".into(), statement: "ab".into() };
    let node = answer(Response::Renamed(renamed));
    let cases: [(&[&str], Thing); 3] = [
        (&["rename", "workshop", "b"], Thing::Node("workshop".into())),
        (&["rename", "--mesh", "b"], Thing::Mesh),
        (&["rename", "--folder", "plans", "b"], Thing::Folder("plans".into())),
    ];
    for (args, what) in cases {
        assert_eq!(text(&node, args), "'a' is named 'b' now.\n");
        let Request::Rename(asked) = node.last_asked() else { panic!("no name was asked for") };
        assert_eq!((asked.what, asked.name.as_str()), (what, "b"));
    }
}

#[test]
fn revert_lists_what_came_back() {
    let paths: Vec<PathText> = (0..25).map(|n| PathText::from_bytes(format!("f{n}").as_bytes())).collect();
    let node = answer(Response::Reverted(Reverted { folder: plans(), paths, count: 25 }));
    let said = text(&node, &["revert", "plans/2026"]);
    assert!(said.starts_with("25 changes in plans taken back; the contents are kept in .lanyard/versions"), "{said}");
    assert!(said.ends_with("  f19\n  and 5 more\n"), "{said}");
    let Request::Revert(asked) = node.last_asked() else { panic!("nothing was asked back") };
    assert_eq!((asked.folder.as_str(), asked.path), ("plans", Some(PathText::from_bytes(b"2026"))));
}

#[test]
fn recover_reads_the_key_from_its_input_and_shows_it_nowhere() {
    use std::io::Write;
    use std::process::Stdio;

    let recovered = Recovered { node: node("workshop"), expelled: vec![node("front-desk")] };
    let node = answer(Response::Recovered(recovered));
    let mut command = node.command(&["recover", "--expel", "front-desk"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("it runs");
    child.stdin.take().expect("a pipe").write_all(b"abcdefgh ijklmnop\nqrstuvwx\n").expect("written");
    let ran = finish(child.wait_with_output().expect("it ends"));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("workshop is an admin now.\nfront-desk is no member any more.\n"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("abcdefgh"));
    let Request::Recover(asked) = node.last_asked() else { panic!("no recovery was asked for") };
    assert_eq!((asked.key.0.as_str(), asked.expel.len()), ("abcdefgh ijklmnop\nqrstuvwx\n", 1));
    let ran = node.run(&["recover"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.starts_with("error: no recovery key was given"), "{}", ran.stderr);
}

fn entry(seq: u64, verdict: Verdict, deed: Deed, text: &str) -> AuditEntry {
    AuditEntry {
        seq,
        at: UtcTime::from_ms(NOON),
        verdict,
        deed,
        text: text.into(),
        why: None,
        by: Some(node("workshop")),
        from: None,
        address: None,
        folder: None,
        path: None,
        statement: None,
        signed_at: None,
        mesh: None,
        count: 1,
        node: None,
    }
}

#[test]
fn audit_tells_what_changed_and_what_was_refused() {
    let asked = AuditEntry {
        why: Some("workshop has 'none' on plans/salary.ods, this needs 'read'".into()),
        folder: Some(plans()),
        path: Some(PathText::from_bytes(b"salary.ods")),
        ..entry(2, Verdict::Refused, Deed::Read, "asked for a content")
    };
    let wrote = AuditEntry {
        why: Some("workshop may not write there".into()),
        from: Some(node("attic")),
        folder: Some(plans()),
        path: Some(PathText::from_bytes(b"x")),
        ..entry(3, Verdict::Refused, Deed::Write, "changed plans/x")
    };
    let knocked = AuditEntry {
        by: None,
        address: Some("10.0.0.9".into()),
        count: 4711,
        ..entry(4, Verdict::Refused, Deed::Connect, "more of the same")
    };
    let done = entry(1, Verdict::Done, Deed::Statement, "granted 'read' on plans to everyone");
    let node = answer(Response::Audit(vec![done, asked, wrote, knocked]));
    insta::assert_snapshot!(text(&node, &["audit"]), @r"
    2026-03-01 09:30:00  workshop granted 'read' on plans to everyone
    2026-03-01 09:30:00  REFUSED  workshop asked for a content: plans/salary.ods: workshop has 'none' on plans/salary.ods, this needs 'read'
    2026-03-01 09:30:00  REFUSED  workshop changed plans/x (sent by attic): workshop may not write there
    2026-03-01 09:30:00  REFUSED  somebody at 10.0.0.9 more of the same, 4711 times
    ");
    let ran = node.run(&["audit", "--json", "--last", "4", "--refused"]);
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        (&lines[1]["verdict"], &lines[1]["deed"], &lines[1]["seq"]),
        (&"refused".into(), &"read".into(), &2.into())
    );
    let Request::Audit(asked) = node.last_asked() else { panic!("no log was asked for") };
    assert_eq!((asked.after, asked.limit, asked.refused), (None, 4, true));
}

fn late_plan() -> LateChange {
    LateChange {
        folder: plans(),
        path: PathText::from_bytes(b"2026/plan"),
        deleted: false,
        node: node("laptop"),
        at: UtcTime::from_ms(NOON),
        reason: LateReason::Frozen,
        why: "front-desk removed laptop, before it had this change".into(),
    }
}

#[test]
fn late_lists_who_changed_what_when_and_why_it_does_not_count() {
    let gone = LateChange { path: PathText::from_bytes(b"x\x1b"), deleted: true, ..late_plan() };
    let late = Late { changes: vec![late_plan(), gone], more: 7 };
    let node = answer(Response::Late(late));
    insta::assert_snapshot!(text(&node, &["late", "plans/2026"]), @r"
    CHANGE OF              BY      WHEN              WHY IT DOES NOT COUNT
    plans/2026/plan        laptop  2026-03-01 09:30  front-desk removed laptop, before it had this change
    plans/x\x1b (deleted)  laptop  2026-03-01 09:30  front-desk removed laptop, before it had this change
    and 7 more
    'lanyard late keep NODE FOLDER/PATH' keeps changes that are wanted after all.
    ");
    let Request::Late(asked) = node.last_asked() else { panic!("nothing was asked") };
    assert_eq!((asked.folder.as_deref(), asked.path), (Some("plans"), Some(PathText::from_bytes(b"2026"))));
    let json = node.json(&["late"]);
    assert_eq!(json.as_array().map(Vec::len), Some(2));
    assert_eq!((&json[0]["reason"], &json[0]["node"]["name"]), (&"frozen".into(), &"laptop".into()));

    let nothing = answer(Response::Late(Late { changes: Vec::new(), more: 0 }));
    assert_eq!(text(&nothing, &["late"]), "every change that is known here counts\n");
    let forked = LateChange { reason: LateReason::Forked, ..late_plan() };
    let forked = answer(Response::Late(Late { changes: vec![forked], more: 0 }));
    assert!(!text(&forked, &["late"]).contains("late keep"), "what cannot be kept is not offered");
}

#[test]
fn late_keep_and_reinstate_say_where() {
    let paths = vec![PathText::from_bytes(b"2026/plan")];
    let kept = Kept {
        node: node("laptop"),
        folders: vec![KeptIn { folder: plans(), paths, count: 2 }],
        statements: vec!["ab".repeat(32)],
    };
    let keeps = answer(Response::Kept(kept));
    assert_eq!(
        text(&keeps, &["late", "keep", "laptop", "plans/2026/"]),
        "2 changes of laptop in plans kept:\n  2026/plan\n"
    );
    let Request::KeepLate(asked) = keeps.last_asked() else { panic!("nothing was asked") };
    assert_eq!((asked.node.as_str(), asked.folder.as_deref()), ("laptop", Some("plans")));
    let done = Reinstated { node: node("laptop"), folders: vec![plans()], statements: vec!["ab".repeat(32)] };
    let goes_on = answer(Response::Reinstated(done));
    assert_eq!(text(&goes_on, &["reinstate", "laptop"]), "laptop goes on in plans.\n");
    let Request::Reinstate(asked) = goes_on.last_asked() else { panic!("nothing was asked") };
    assert_eq!((asked.node.as_str(), asked.folder), ("laptop", None));
}
