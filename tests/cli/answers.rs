//! What each command asks of the node, and how it shows the answer: to people and as JSON.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use lanyard::wire::api::{
    Alert, Amount, Change, Coordinator, Dropped, EligibleNode, Event, Failure, Folder, FolderBrief, FolderState,
    Founded, Got, Invitation, InvitationOutcome, InvitationState, Joined, LateCount, Left, Level, Member, Merged,
    MeshRef, NodeRef, PathText, Peer, Request, Response, Role, Shared, Standing, Status, Term, ThisNode, UtcTime,
    Waited,
};

use crate::node::{Node, answer, finish, text};

const ID: &str = "aaaaaaaa-bbbbbbbb-cccccccc-dddddddd-eeeeeeee-ffffffff-gggggggg";
/// 2026-03-01 09:30 UTC.
const NOON: u64 = 1_772_357_400_000;

fn path(text: &str) -> PathText {
    PathText::from_bytes(text.as_bytes())
}

fn mesh() -> MeshRef {
    MeshRef { id: "ab".repeat(32), name: "front-desk".into() }
}

fn folder() -> Folder {
    Folder {
        id: "cd".repeat(32),
        name: "plans".into(),
        path: Some(path("/srv/plans")),
        level: Level::Write,
        state: FolderState::Syncing,
        why: None,
        local: Amount { files: 1204, bytes: 52_300_000 },
        need: Amount { files: 1, bytes: 1550 },
        local_only: 0,
        waiting: 0,
        late: Vec::new(),
        forked: Vec::new(),
        parts: Vec::new(),
        notices: Vec::new(),
    }
}

fn status() -> Status {
    Status {
        node: ThisNode {
            id: ID.into(),
            name: "front-desk".into(),
            version: "0.1.0".into(),
            listen: Vec::new(),
            confined: true,
        },
        mesh: Some(mesh()),
        standing: Standing::Admin,
        page: None,
        peers: vec![Peer {
            id: ID.into(),
            name: "workshop".into(),
            connected: true,
            address: Some("10.0.0.2:47474".into()),
            via: None,
            apart: None,
        }],
        folders: vec![folder()],
        coordinator: Some(Term { id: ID.into(), name: "workshop".into(), term: 3 }),
        alerts: vec![Alert {
            since: UtcTime::from_ms(NOON),
            what: "the disk of /srv/plans is full".into(),
            hint: Some("free 40 MB".into()),
        }],
    }
}

#[test]
fn status_has_at_least_the_shape_of_the_contract() {
    let node = answer(Response::Status(status()));
    let json = node.json(&["status"]);
    let this = serde_json::json!({"id": ID, "name": "front-desk", "version": "0.1.0", "listen": [], "confined": true});
    assert_eq!(json["node"], this);
    assert_eq!(json["mesh"]["name"], "front-desk");
    assert!(json["page"].is_null());
    assert_eq!(
        json["peers"][0],
        serde_json::json!({"id": ID, "name": "workshop", "connected": true, "address": "10.0.0.2:47474", "via": null, "apart": null})
    );
    let folder = &json["folders"][0];
    assert_eq!((&folder["level"], &folder["state"]), (&"write".into(), &"syncing".into()));
    assert_eq!(folder["local"], serde_json::json!({"files": 1204, "bytes": 52_300_000}));
    assert_eq!(folder["need"], serde_json::json!({"files": 1, "bytes": 1550}));
    assert_eq!(json["coordinator"], serde_json::json!({"id": ID, "name": "workshop", "term": 3}));
}

#[test]
fn what_is_not_there_is_null_in_status() {
    let bare = Status {
        mesh: None,
        standing: Standing::NoMesh,
        coordinator: None,
        peers: Vec::new(),
        folders: Vec::new(),
        alerts: Vec::new(),
        ..status()
    };
    let node = answer(Response::Status(bare));
    let json = node.json(&["status"]);
    for name in ["mesh", "page", "coordinator"] {
        assert!(json.as_object().expect("an object")[name].is_null(), "{name}");
    }
    assert!(text(&node, &["status"]).contains("mesh         none yet: 'share' starts one, 'join' enters one"));
}

#[test]
fn status_reads_as_a_page() {
    let expected = format!(
        "front-desk (lanyard 0.1.0)
  id           {ID}
  mesh         'front-desk', this machine is an admin
  page         none
  coordinator  workshop

PEER      STATE      ADDRESS
workshop  connected  10.0.0.2:47474

FOLDER  LEVEL  STATE    HERE                 MISSING         WHERE
plans   write  syncing  1204 files, 52.3 MB  1 file, 1.5 kB  /srv/plans

Needs attention
  2026-03-01 09:30  the disk of /srv/plans is full
    hint: free 40 MB
"
    );
    assert_eq!(text(&answer(Response::Status(status())), &["status"]), expected);
}

#[test]
fn names_of_others_cannot_steer_the_terminal() {
    let mut status = status();
    status.peers[0].name = "work\u{1b}[2Jshop\u{202e}".into();
    let shown = text(&answer(Response::Status(status)), &["status"]);
    assert!(shown.contains("work\\u{1b}[2Jshop\\u{202e}"), "{shown}");
}

#[test]
fn the_coordinator_and_who_may_be_it_are_shown() {
    let one = |name: &str, priority, coordinator, connected, ready| EligibleNode {
        node: NodeRef { id: ID.into(), name: name.into() },
        priority,
        coordinator,
        connected,
        ready,
    };
    let status = Coordinator {
        coordinator: Some(Term { id: ID.into(), name: "attic".into(), term: 7 }),
        this: true,
        host: Some("office-2.local".into()),
        host_taken: Some("office.local is the name of another machine (10.0.0.9)".into()),
        fit: true,
        eligible: vec![
            one("attic", 200, true, true, true),
            one("front-desk", 100, false, true, true),
            one("workshop", 50, false, true, false),
            one("laptop", 10, false, false, false),
        ],
    };
    let node = answer(Response::Coordinator(status));
    let expected = "\
coordinator: attic, this machine (term 7)
found as:    office-2.local
             office.local is the name of another machine (10.0.0.9)

MAY BE COORDINATOR  PRIORITY  STATE
attic               200       coordinator
front-desk          100       ready
workshop            50        not fit now
laptop              10        away
";
    assert_eq!(text(&node, &["coordinator"]), expected);
    assert_eq!(text(&node, &["coordinator", "status"]), expected);
    assert_eq!(node.json(&["coordinator"])["coordinator"]["term"], 7);
    let none =
        Coordinator { coordinator: None, this: false, host: None, host_taken: None, fit: true, eligible: Vec::new() };
    assert!(text(&answer(Response::Coordinator(none)), &["coordinator"]).contains("coordinator allow NODE"));
}

#[test]
fn nodes_lists_this_machine_the_connected_and_the_away() {
    let member = |name: &str, this, connected, last_seen| Member {
        id: ID.into(),
        name: name.into(),
        role: Role::Member,
        this,
        connected,
        address: (!this).then(|| "10.0.0.2:47474".into()),
        via: (name == "annex").then(|| "work\u{202e}shop".into()),
        version: None,
        apart: None,
        priority: None,
        last_seen,
    };
    let node = answer(Response::Nodes(vec![
        member("front-desk", true, true, None),
        member("workshop", false, true, Some(UtcTime::from_ms(NOON))),
        member("office", false, false, Some(UtcTime::from_ms(NOON))),
        member("attic", false, false, None),
        member("annex", false, true, Some(UtcTime::from_ms(NOON))),
    ]));
    let expected = "\
NAME        ID        ROLE    STATE                           ADDRESS         LAST SEEN
front-desk  aaaaaaaa  member  this machine                                    now
workshop    aaaaaaaa  member  connected                       10.0.0.2:47474  now
office      aaaaaaaa  member  away                            10.0.0.2:47474  2026-03-01 09:30
attic       aaaaaaaa  member  away                            10.0.0.2:47474  never
annex       aaaaaaaa  member  connected via work\\u{202e}shop  10.0.0.2:47474  now
";
    assert_eq!(text(&node, &["nodes"]), expected);
    let json = node.json(&["nodes"]);
    assert_eq!(json[2]["id"], ID);
    assert_eq!(json[2]["last_seen"], "2026-03-01T09:30:00.000Z");
    assert!(json[3]["last_seen"].is_null());
    assert_eq!(text(&answer(Response::Nodes(Vec::new())), &["nodes"]).lines().count(), 1);
}

fn invitation(ticket: bool) -> Invitation {
    Invitation {
        id: "7".into(),
        code: (!ticket).then(|| "4-harvest-violin".into()),
        ticket: ticket.then(|| "lanyard-ticket-abc".into()),
        expires_at: UtcTime::from_ms(NOON),
        role: Role::Member,
        folders: vec![FolderBrief { name: "plans".into(), level: Level::Read, path: None }],
        mesh: mesh(),
        founded: None,
    }
}

fn inviting(state: InvitationState) -> Node {
    Node::answering(move |request| {
        Ok(match request {
            Request::Invite(ask) => Response::Invitation(invitation(ask.ticket)),
            _ => Response::InvitationOutcome(InvitationOutcome {
                state,
                node: Some(NodeRef { id: ID.into(), name: "workshop".into() }),
            }),
        })
    })
}

#[test]
fn invite_prints_the_code_alone_on_the_last_line_of_stdout() {
    let node = inviting(InvitationState::Used);
    let shown = text(&node, &["invite", "--no-wait", "--folder", "plans=read", "--expires", "5m"]);
    assert_eq!(shown.lines().last(), Some("4-harvest-violin"));
    assert!(shown.contains("2026-03-01 09:30"), "{shown}");
    let Request::Invite(asked) = node.last_asked() else { panic!("no invitation was asked for") };
    assert_eq!((asked.role, asked.expires_ms, asked.ticket), (Role::Member, 300_000, false));
    assert_eq!((asked.folders[0].folder.as_str(), asked.folders[0].level), ("plans", Level::Read));
    let json = node.json(&["invite", "--no-wait"]);
    assert_eq!((&json["code"], &json["expires_at"]), (&"4-harvest-violin".into(), &"2026-03-01T09:30:00.000Z".into()));
    let ticket = text(&node, &["invite", "--no-wait", "--ticket"]);
    assert_eq!(ticket.lines().last(), Some("lanyard-ticket-abc"));
}

#[test]
fn invite_waits_for_its_use_and_says_how_it_ended() {
    let ran = inviting(InvitationState::Used).run(&["invite"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, "'workshop' has joined.\n"));
    assert_eq!(ran.stdout.lines().last(), Some("4-harvest-violin"));
    let ran = inviting(InvitationState::Expired).run(&["invite"]);
    assert_eq!(ran.status, 5);
    assert!(ran.stderr.starts_with("error: nobody used the invitation in its time"), "{}", ran.stderr);
    let ran = inviting(InvitationState::Void).run(&["invite"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("somebody tried a wrong code"), "{}", ran.stderr);
}

fn joined() -> Joined {
    Joined {
        mesh: mesh(),
        by: NodeRef { id: ID.into(), name: "front-desk".into() },
        role: Role::Member,
        folders: vec![
            FolderBrief { name: "plans".into(), level: Level::Write, path: Some(path("/home/x/Lanyard/plans")) },
            FolderBrief { name: "books".into(), level: Level::Read, path: None },
        ],
        dissolved: Some(MeshRef { id: "ef".repeat(32), name: "workshop".into() }),
        merged: vec![Merged { name: "plans".into(), path: path("/home/x/Shared"), into_existing: true }],
    }
}

#[test]
fn join_says_where_it_led_and_what_became_of_the_own_mesh() {
    let node = answer(Response::Joined(joined()));
    let expected = "\
This machine is now a member of 'front-desk', admitted by 'front-desk'.
Its own mesh 'workshop', where it was alone, is dissolved.
/home/x/Shared merges into the folder 'plans'; nothing is deleted.
FOLDER  LEVEL  WHERE
plans   write  /home/x/Lanyard/plans
books   read   offered: 'lanyard get' receives it
";
    let args = ["join", "4-harvest-violin", "--name", "workshop", "--at", "10.0.0.2:47474", "--into", "/srv/office"];
    assert_eq!(text(&node, &args), expected);
    let Request::Join(asked) = node.last_asked() else { panic!("no join was asked for") };
    assert_eq!((asked.code.as_deref(), asked.ticket), (Some("4-harvest-violin"), None));
    assert_eq!((asked.name.as_deref(), asked.at.as_deref()), (Some("workshop"), Some("10.0.0.2:47474")));
    assert_eq!(asked.into, Some(path("/srv/office")));
    assert_eq!(node.json(&["join", "4-harvest-violin", "--no-folders"])["mesh"]["name"], "front-desk");
}

#[test]
fn join_takes_a_ticket_from_a_file() {
    let node = answer(Response::Joined(joined()));
    let file = node.dir.path().join("ticket");
    std::fs::write(&file, "lanyard-ticket-abc\n").expect("written");
    text(&node, &["join", file.to_str().expect("UTF-8")]);
    let Request::Join(asked) = node.last_asked() else { panic!("no join was asked for") };
    assert_eq!((asked.code, asked.ticket.as_deref()), (None, Some("lanyard-ticket-abc")));
    for (name, bytes) in [("no-ticket", None), ("long", Some(vec![b'x'; 40_000])), ("noise", Some(vec![0xff; 10]))] {
        let file = node.dir.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&file, bytes).expect("written");
        }
        let ran = node.run(&["join", file.to_str().expect("UTF-8")]);
        assert_eq!(ran.status, 1, "{name}");
        assert!(ran.stderr.contains(name), "{}", ran.stderr);
    }
}

#[test]
fn leave_says_what_became_of_the_mesh() {
    let said = |dissolved, already| {
        let node = answer(Response::Left(Left { mesh: mesh(), dissolved, already }));
        assert_eq!(node.json(&["leave"])["dissolved"], dissolved);
        text(&node, &["leave"])
    };
    assert_eq!(said(false, false), "This machine has left 'front-desk'. The files here stay.\n");
    assert_eq!(said(true, false), "'front-desk' is dissolved: nobody else was in it. The files here stay.\n");
    assert!(said(false, true).contains("no member of 'front-desk' any more"));
}

#[test]
fn share_shows_a_new_meshs_recovery_key_once_and_sends_a_full_path() {
    let founded = Founded { mesh: mesh(), recovery_key: Some("abcd-efgh".into()) };
    let shared = Shared { folder: folder(), made_directory: true, everyone: Level::Read, founded: Some(founded) };
    let node = answer(Response::Shared(shared));
    let shown = text(&node, &["share", "plans", "--everyone", "read", "--name", "Plans"]);
    assert!(
        shown.starts_with("made the directory /srv/plans\n/srv/plans is shared as 'plans': every member may read it.")
    );
    assert!(shown.contains("This starts the mesh 'front-desk'."), "{shown}");
    assert_eq!(shown.lines().last(), Some("  abcd-efgh"));
    let Request::Share(asked) = node.last_asked() else { panic!("no share was asked for") };
    assert_eq!((asked.name.as_deref(), asked.everyone), (Some("Plans"), Some(Level::Read)));
    let here = std::env::current_dir().expect("it is there").join("plans");
    assert_eq!(asked.path.as_str(), here.to_str().expect("UTF-8"));
    assert_eq!(node.json(&["share", "plans"])["folder"]["name"], "plans");
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_utf_8_reaches_the_node_byte_for_byte() {
    use std::os::unix::ffi::OsStrExt;

    let shared = Shared { folder: folder(), made_directory: false, everyone: Level::Write, founded: None };
    let node = answer(Response::Shared(shared));
    let mut command = node.command(&["share"]);
    let ran = finish(command.arg(std::ffi::OsStr::from_bytes(b"/srv/caf\xe9\\")).output().expect("it runs"));
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let Request::Share(asked) = node.last_asked() else { panic!("no share was asked for") };
    assert_eq!(asked.path.to_bytes(), b"/srv/caf\xe9\\");
}

#[test]
fn folders_shows_what_stopped_and_what_stays_local() {
    let stopped = Folder {
        name: "books".into(),
        state: FolderState::Error,
        why: Some("the disk is not mounted: /srv/books has no marker".into()),
        local_only: 2,
        waiting: 1,
        late: vec![LateCount { node: NodeRef { id: ID.into(), name: "laptop".into() }, count: 3 }],
        forked: vec![NodeRef { id: ID.into(), name: "attic\u{1b}".into() }],
        path: None,
        local: Amount::default(),
        need: Amount::default(),
        ..folder()
    };
    let node = answer(Response::Folders(vec![folder(), stopped]));
    let expected = "\
FOLDER  LEVEL  STATE    HERE                 MISSING         WHERE
plans   write  syncing  1204 files, 52.3 MB  1 file, 1.5 kB  /srv/plans
books   write  error    -                    -               -
books: the disk is not mounted: /srv/books has no marker
books: 2 changes only here, this machine may not write there
books: 1 change made here waits until another machine is reached
books: 3 changes of laptop came too late: 'lanyard late' lists them
books: attic\\u{1b} signed two histories, as after a restored backup;
  what it changes stays there until an admin runs 'lanyard reinstate attic\\u{1b}'
";
    assert_eq!(text(&node, &["folders"]), expected);
    assert_eq!(node.json(&["folders"])[1]["state"], "error");
}

#[test]
fn get_asks_for_a_folder_or_for_one_path_of_it() {
    let got = Got { folder: folder(), path: path("/srv/plans"), made_directory: true };
    let node = answer(Response::Got(got));
    let expected = "made the directory /srv/plans\n'plans' is received at /srv/plans.\n";
    assert_eq!(text(&node, &["get", "plans", "/srv/plans"]), expected);
    let Request::Get(asked) = node.last_asked() else { panic!("no get was asked for") };
    assert_eq!((asked.folder.as_str(), asked.inside, asked.path), ("plans", None, Some(path("/srv/plans"))));
    text(&node, &["get", "plans/2026/office.pdf"]);
    let Request::Get(asked) = node.last_asked() else { panic!("no get was asked for") };
    assert_eq!((asked.folder.as_str(), asked.inside), ("plans", Some(path("2026/office.pdf"))));
    assert_eq!(node.json(&["get", "plans/"])["path"], "/srv/plans");
}

#[test]
fn drop_says_where_the_files_stay() {
    let node = answer(Response::Dropped(Dropped { name: "plans".into(), path: path("/srv/plans") }));
    assert_eq!(
        text(&node, &["drop", "plans"]),
        "'plans' is not received here any more. Its files stay in /srv/plans.\n"
    );
    assert_eq!(node.json(&["drop", "plans"])["path"], "/srv/plans");
}

#[test]
fn wait_asks_with_its_time_and_ends_with_status_5_when_it_is_over() {
    let node = answer(Response::Waited(Waited { folders: vec![folder()], connected: 2 }));
    assert_eq!(
        text(&node, &["wait", "--folder", "plans", "--timeout", "2s"]),
        "1 folder up to date, 2 machines connected.\n"
    );
    let Request::Wait(asked) = node.last_asked() else { panic!("no wait was asked for") };
    assert_eq!((asked.folder.as_deref(), asked.timeout_ms), (Some("plans"), 2000));
    assert_eq!(node.json(&["wait"])["connected"], 2);
    let late = Node::answering(|_| Err(Failure::timed_out("plans still lacks 3 files")));
    assert_eq!(late.run(&["wait"]).status, 5);
}

#[test]
fn events_are_told_as_they_happen() {
    let node = answer(Response::Nodes(Vec::new()));
    let at = UtcTime::from_ms(NOON);
    let received = Event::FileReceived {
        folder: "plans".into(),
        path: PathText::from_bytes(b"caf\xe9.pdf"),
        change: Change::Created,
        bytes: 1550,
        by: "workshop".into(),
    };
    let cases: [(&[&str], &str, &str); 2] = [
        (
            &["events"],
            "09:30:00  new plans/caf\\xe9.pdf (1.5 kB) from workshop",
            "09:30:00  ... 1 event too fast to show ...",
        ),
        (
            &["events", "--json"],
            "{\"at\":\"2026-03-01T09:30:00.000Z\",\"event\":\"file_received\",\"folder\":\"plans\",\
             \"path\":\"caf\\\\xe9.pdf\",\"change\":\"created\",\"bytes\":1550,\"by\":\"workshop\"}",
            "{\"at\":\"2026-03-01T09:30:00.000Z\",\"event\":\"missed\",\"count\":1}",
        ),
    ];
    for (args, first, second) in cases {
        let mut child = node.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        while !node.events.is_followed() {
            std::thread::yield_now();
        }
        node.events.tell(at, received.clone());
        node.events.tell(at, Event::Missed { count: 1 });
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next().expect("a line").expect("UTF-8"), first);
        assert_eq!(lines.next().expect("a line").expect("UTF-8"), second);
        // Nobody reads any more: the next event ends the program, quietly. Not always the very next: a program that another
        // test is just starting holds a copy of the pipe for a moment.
        drop(lines);
        while child.try_wait().expect("a child").is_none() {
            node.events.tell(at, received.clone());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let ran = finish(child.wait_with_output().expect("it ends"));
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        while node.events.is_followed() {
            node.events.tell(at, Event::Stopping);
        }
    }
}
