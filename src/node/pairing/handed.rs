//! Open invitations over a new start of the node: taken out of this run before the next one has them, so that each admits
//! one machine. They are handed over in memory, never on a disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Invitations, Open, end_in_time, lock};
use crate::base::{FolderId, Level, Role};
use crate::logic::pairing::{Invitation, InvitationState, Inviter, Secret};
use crate::node::{Shared, inbox};
use crate::shell::clock;

/// An open invitation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::node) struct Handed {
    id: String,
    number: u16,
    secret: [u8; 32],
    role: Role,
    folders: Vec<(String, Level)>,
    expires_at_ms: u64,
}

impl Invitations {
    /// Takes the open invitations out of this run. One that somebody has just used is not among them.
    pub(in crate::node) fn hand_over(&self) -> Vec<Handed> {
        let open = std::mem::take(&mut *lock(&self.open));
        let waiting = open.into_values().filter(|open| open.inviter.state() == InvitationState::Open);
        let handed: Vec<Handed> = waiting
            .map(|open| {
                let Invitation { number, secret, role, folders, expires_at_ms } = open.inviter.invitation().clone();
                let folders = folders.into_iter().map(|(folder, level)| (folder.to_hex(), level)).collect();
                // Who waits for it asks the next run.
                lock(&self.handed).push(open.id.clone());
                Handed { id: open.id, number, secret: secret.0, role, folders, expires_at_ms }
            })
            .collect();
        handed
    }

    /// Goes on with the invitations of the run before.
    pub(in crate::node) fn go_on(&self, shared: &Arc<Shared>, handed: Vec<Handed>) {
        let now = clock::wall_ms();
        for Handed { id, number, secret, role, folders, expires_at_ms } in handed {
            let folders = folders.into_iter().filter_map(|(folder, level)| Some((FolderId::from_hex(&folder)?, level)));
            let folders = folders.collect();
            if expires_at_ms <= now {
                continue;
            }
            let inviter = Inviter::open(Invitation { number, secret: Secret(secret), role, folders, expires_at_ms });
            let (alive, ended) = async_channel::bounded(1);
            let open = Open { id, inviter, streams: BTreeMap::new(), _alive: alive, ended };
            lock(&self.open).insert(number, open);
            end_in_time(shared, number, expires_at_ms);
        }
        let _ = shared.to_loop.try_send(inbox::Event::Invitations);
    }
}
