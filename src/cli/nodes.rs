//! `lanyard nodes`: every member.

use clap::Args;

use crate::wire::api::{Member, Request, VersionGap};

use super::screen::{local, plain};
use super::{Context, Outcome};

/// List every member of the mesh: name, id, role, whether connected, address, last seen
#[derive(Args)]
pub(super) struct Nodes {}

impl Nodes {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let members: Vec<Member> = context.client()?.ask_now(&Request::Nodes)?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&members);
        }
        if members.is_empty() {
            return screen.line("this machine is in no mesh yet: 'share' starts one, 'join' enters one");
        }
        screen.table(&["NAME", "ID", "ROLE", "STATE", "ADDRESS", "LAST SEEN"], members.iter().map(row).collect())
    }
}

fn row(member: &Member) -> Vec<String> {
    let state = match (member.this, member.connected, &member.via) {
        (true, ..) => "this machine".into(),
        (false, true, Some(relay)) => format!("connected via {}", plain(relay)),
        (false, true, None) => "connected".into(),
        (false, false, _) => member.apart.as_ref().map_or("away", VersionGap::word).into(),
    };
    let seen = match (member.this || member.connected, member.last_seen) {
        (true, _) => "now".into(),
        (false, Some(time)) => local(time, "%Y-%m-%d %H:%M"),
        (false, None) => "never".into(),
    };
    // The first group names a node well enough to the eye; `--json` has the whole id.
    let short = member.id.split('-').next().unwrap_or_default();
    let address = member.address.as_deref().map(plain).unwrap_or_default();
    let role = match member.priority {
        Some(priority) => format!("{}, may be coordinator ({priority})", member.role),
        None => member.role.to_string(),
    };
    vec![plain(&member.name), plain(short), role, state, address, seen]
}
