//! This node, its mesh and its folders as the API shows them.

use super::record::Place;
use super::standing::{folder_name, mesh_ref, standing};
use super::{Shared, election, late, lock, office};
use crate::base::{FolderId, NodeId, RelPath, StatementId};
use crate::logic::policy::Policy;
use crate::logic::sync::notices::{Kind, Told};
use crate::shell::clock;
use crate::wire::api::{
    Alert, Amount, Event, Folder, FolderState, Member, Notice, NoticeKind, PathText, Peer, Status, ThisNode, UtcTime,
};
use crate::wire::statement::Body;

/// Names listed of one notice. A guess: a page full.
const NOTICE_PATHS_MAX: usize = 50;

/// This node, its mesh, peers, folders.
pub(super) fn status(shared: &Shared) -> Status {
    let me = shared.mesh.node();
    let policy = shared.mesh.policy();
    let peers = nodes(shared).into_iter().filter(|member| !member.this);
    let addresses = crate::shell::net::interfaces::Selection::default().addresses().unwrap_or_default();
    Status {
        node: ThisNode {
            id: me.to_text(),
            name: own_name(shared),
            version: env!("CARGO_PKG_VERSION").to_string(),
            confined: shared.outside.is_confined(),
            listen: addresses.into_iter().map(|ip| std::net::SocketAddr::new(ip, shared.port).to_string()).collect(),
        },
        mesh: policy.as_ref().filter(|policy| policy.is_member(me)).map(|policy| mesh_ref(policy)),
        standing: standing(shared),
        page: None,
        peers: peers
            .map(|member| Peer {
                id: member.id,
                name: member.name,
                connected: member.connected,
                address: member.address,
                via: member.via,
                apart: member.apart,
            })
            .collect(),
        folders: folders(shared),
        coordinator: election::known(shared),
        alerts: alerts(shared, policy.as_deref()),
    }
}

/// What this node does, in one line for the service manager.
pub(super) fn in_a_line(shared: &Shared) -> String {
    let Some(policy) = shared.mesh.policy() else { return String::from("in no mesh yet: share a directory, or join") };
    let others = policy.members().filter(|(node, _)| *node != shared.mesh.node()).count();
    let connected = lock(&shared.connected).len();
    let running: Vec<_> = shared.folders().into_values().map(|handle| handle.status()).collect();
    let need: u64 = running.iter().map(|status| status.need.files).sum();
    let stuck = running.iter().filter(|status| status.problem.is_some()).count();
    let mut line = format!("{connected} of {others} machines connected, folders: {}", running.len());
    if need > 0 {
        line.push_str(&format!(", receiving {need} files"));
    }
    if stuck > 0 {
        line.push_str(&format!(", with a problem: {stuck}"));
    }
    line
}

/// What needs a person: what happened, and what is so all the time.
pub(super) fn alerts(shared: &Shared, policy: Option<&Policy>) -> Vec<Alert> {
    let mut alerts = lock(&shared.alerts).clone();
    let me = shared.mesh.node();
    alerts.extend(policy.into_iter().flat_map(|policy| office::not_held(shared, policy)));
    alerts.extend(policy.into_iter().flat_map(|policy| policy.stopped().map(|scope| stopped(shared, scope))));
    let Some(policy) = policy.filter(|policy| policy.is_member(me) && policy.members().count() > 1) else {
        return alerts;
    };
    if let [only] = policy.admins()[..] {
        let since = policy.member(only).map_or(0, |member| member.since.ms);
        let name = shared.name_of(only);
        let hint = match only == me {
            true => "make a second machine an admin: 'lanyard role NODE admin'; keep the printed recovery key safe",
            false => {
                "ask for a second admin: 'lanyard role NODE admin' there; the printed recovery key helps if it is lost"
            }
        };
        alerts.push(Alert {
            since: UtcTime::from_ms(since),
            what: format!("there is only one admin, {name}: should that machine be lost, nobody can change the rules"),
            hint: Some(hint.into()),
        });
    }
    alerts
}

/// A rule of a later lanyard has stopped a folder, or all of them.
fn stopped(shared: &Shared, scope: Option<FolderId>) -> Alert {
    let what = scope.map_or("every folder".to_string(), |folder| format!("'{}'", folder_name(shared, folder)));
    Alert {
        since: UtcTime::from_ms(0),
        what: format!(
            "a rule for {what} was signed by a later lanyard: nothing is sent or taken there until this machine has one that knows it"
        ),
        hint: Some("install the newest lanyard of the office on this machine; files and rules stay as they are".into()),
    }
}

fn own_name(shared: &Shared) -> String {
    let policy = shared.mesh.policy();
    let named = policy.and_then(|policy| policy.name(shared.mesh.node()).map(str::to_owned));
    named.unwrap_or_else(|| shared.mesh.record().name)
}

/// Every member, this node first, then by name.
pub(super) fn nodes(shared: &Shared) -> Vec<Member> {
    let Some(policy) = shared.mesh.policy() else { return Vec::new() };
    let record = shared.mesh.record();
    let me = shared.mesh.node();
    let one = |(node, member): (NodeId, &crate::logic::policy::Member)| {
        let way = shared.way_to(node);
        let via = way.as_ref().and_then(|way| way.via).map(|relay| shared.name_of(relay));
        let address = way.map(|way| way.address);
        let contact = record.members.get(&node.to_hex());
        let last_seen = match &address {
            Some(_) => Some(clock::wall_ms()),
            None => contact.and_then(|contact| contact.last_seen_ms),
        };
        Member {
            id: node.to_text(),
            name: member.name.clone(),
            role: member.role,
            priority: policy.eligible(node),
            this: node == me,
            connected: node == me || address.is_some(),
            address,
            via,
            version: shared.software_of(node),
            apart: shared.gap_to(node),
            last_seen: last_seen.filter(|_| node != me).map(UtcTime::from_ms),
        }
    };
    let mut members: Vec<Member> = policy.members().map(one).collect();
    members.sort_by(|a, b| (!a.this, &a.name, &a.id).cmp(&(!b.this, &b.name, &b.id)));
    members
}

/// Every folder that this node may see, by name.
pub(super) fn folders(shared: &Shared) -> Vec<Folder> {
    let Some(policy) = shared.mesh.policy() else { return Vec::new() };
    let visible = policy.visible_folders(shared.mesh.node(), clock::wall_ms());
    let mut folders: Vec<Folder> = visible.into_iter().filter_map(|id| folder(shared, id)).collect();
    folders.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    folders
}

/// One folder as the API shows it.
pub(super) fn folder(shared: &Shared, id: FolderId) -> Option<Folder> {
    let policy = shared.mesh.policy()?;
    let state = policy.folder(id)?;
    let record = shared.mesh.record();
    let place = record.place(id).and_then(Place::at).cloned();
    let running = shared.folder(id).map(|handle| handle.status());
    let nothing = Amount { files: 0, bytes: 0 };
    let (state_word, why) = match &running {
        Some(status) => (status.state.word(), status.problem.clone()),
        None if place.is_some() => (FolderState::Error, Some(String::from("it is not running; see the alerts"))),
        None => (FolderState::Offered, None),
    };
    let (late, forked) = late::noted(shared, &policy, id);
    Some(Folder {
        id: id.to_hex(),
        name: state.name.clone(),
        path: place,
        level: policy.level(shared.mesh.node(), id, &RelPath::root(), clock::wall_ms()),
        state: state_word,
        why,
        local: running.as_ref().map_or(nothing, |s| Amount { files: s.local.files, bytes: s.local.bytes }),
        need: running.as_ref().map_or(nothing, |s| Amount { files: s.need.files, bytes: s.need.bytes }),
        local_only: running.as_ref().map_or(0, |s| s.local_only),
        waiting: running.as_ref().map_or(0, |s| s.waiting),
        late,
        forked,
        parts: record.place(id).map(|place| place.inside().to_vec()).unwrap_or_default(),
        notices: running.map(|status| status.notices.iter().map(notice).collect()).unwrap_or_default(),
    })
}

/// What is unusual about names, as the API shows it.
fn notice(told: &Told) -> Notice {
    Notice {
        kind: match told.kind {
            Kind::Unreadable => NoticeKind::Unreadable,
            Kind::Closed => NoticeKind::Closed,
            Kind::Unwritable => NoticeKind::Unwritable,
            Kind::Twin => NoticeKind::Twin,
            Kind::Unnamable => NoticeKind::Unnamable,
            Kind::Special => NoticeKind::Special,
            Kind::Clash => NoticeKind::Clash,
            Kind::Foreign => NoticeKind::Foreign,
            Kind::Attributes => NoticeKind::Attributes,
            Kind::Owner => NoticeKind::Owner,
        },
        what: told.text.clone(),
        count: told.count,
        paths: told.paths.iter().take(NOTICE_PATHS_MAX).map(|path| PathText::from_bytes(path)).collect(),
        hint: told.kind.hint().to_owned(),
    }
}

/// Tells who became or is no longer a member.
pub(super) fn tell_members(shared: &Shared, taken: &[StatementId]) {
    let Some(policy) = shared.mesh.policy() else { return };
    for statement in taken.iter().filter_map(|id| shared.mesh.statement(*id)) {
        match statement.body() {
            Body::Admit(admit) if policy.is_member(admit.node) => {
                shared.tell(Event::Admitted {
                    id: admit.node.to_text(),
                    name: admit.name.to_string(),
                    role: admit.role,
                });
            }
            Body::Expel(expel) if policy.was_expelled(expel.node) => {
                let expelled = statement.head().issuer != expel.node;
                let (id, name) = (expel.node.to_text(), shared.name_of(expel.node));
                shared.tell(Event::Left { id, name, expelled });
            }
            _ => {}
        }
    }
}
