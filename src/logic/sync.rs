//! Replication of one folder, in order of travel: index, reconcile, conflict, replica, selection, fetch, swarm, verify; and
//! back in time: history.
//!
//! Everything here is a decision over an `Index`; the shells bring what was seen and carry out what is planned.

pub mod attributes;
pub mod clash;
pub mod conflict;

pub mod fetch;
pub mod guard;
pub mod history;
pub mod ignore;
pub mod index;
pub mod local_only;
pub mod notices;
pub mod outage;
pub mod own;
pub mod push;
pub mod reconcile;
pub mod rejudge;
pub mod replica;
pub mod reuse;

pub mod scan;
pub mod selection;
pub mod swarm;
pub mod verify;
