//! What a node is given at its start beside its configuration: its record, and the signals that it is sent.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_channel::Sender;
use async_signal::{Signal, Signals};
use futures_lite::StreamExt;
use tracing::warn;

use super::Event;
use crate::node::mesh::record_path;
use crate::node::record::Record;
use crate::shell::rt;
use crate::wire::api::{Failure, FailureKind};

/// What this node remembers, and whether this is its first start.
pub(super) fn read_record(
    state: &Path,
    asked: Option<&str>,
    configured: Option<&str>,
) -> Result<(Record, bool), Failure> {
    let known = Record::read(&record_path(state)).map_err(|error| {
        let kind = if error.is_future() { FailureKind::TooOld } else { FailureKind::Failed };
        Failure::new(kind, "cannot read this node's record")
            .because(&error)
            .hint("if it is damaged, restore it from a backup; without it this node has to join its mesh again")
    })?;
    let first_start = known.is_none();
    let mut record = known.unwrap_or_else(|| {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let short = host.split('.').next().filter(|name| !name.is_empty()).unwrap_or("node").to_string();
        Record::new(configured.map_or(short, str::to_owned))
    });
    if let Some(name) = asked {
        record.name = name.to_string();
    }
    Ok((record, first_start))
}

/// Stops the node and has it read its configuration again, as it is told by signals.
pub(super) fn watch_signals(to: Sender<Event>, told_to_end: Arc<AtomicBool>) {
    let signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup]);
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            warn!(%error, "signals are not noticed: this node can be stopped over its API only");
            return;
        }
    };
    rt::spawn(async move {
        while let Some(signal) = signals.next().await {
            let event = if matches!(signal, Ok(Signal::Hup)) { Event::Reload } else { Event::Stop };
            told_to_end.fetch_or(matches!(event, Event::Stop), Ordering::Relaxed);
            if to.send(event).await.is_err() {
                return;
            }
        }
    });
}
