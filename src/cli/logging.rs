//! The node's log: to the journal with its fields where standard error leads there, else to standard error.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::node::config::LogLevel;
use crate::shell::systemd;
use crate::wire::api::Failure;

/// The running log, whose level can change.
pub(super) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    /// `LANYARD_LOG` was given: it comes before the configuration also when that is read again.
    is_asked: bool,
}

/// Starts logging; `LANYARD_LOG` comes before the configuration's level.
pub(super) fn start(level: LogLevel) -> Result<Log, Failure> {
    let asked = std::env::var("LANYARD_LOG").ok().filter(|text| !text.trim().is_empty());
    let filter = match &asked {
        Some(text) => EnvFilter::try_new(text).map_err(|error| {
            Failure::usage(format!("LANYARD_LOG has '{text}', which is no log level"))
                .because(&error)
                .hint("say error, warn, info, debug or trace")
        })?,
        None => of_level(level),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let journal = if systemd::logs_to_journal() { tracing_journald::layer().ok() } else { None };
    let to = match journal {
        Some(journal) => journal.with_field_prefix(Some("LANYARD".into())).boxed(),
        None => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours).boxed()
        }
    };
    tracing_subscriber::registry().with(filter).with(to).init();
    Ok(Log { filter: handle, is_asked: asked.is_some() })
}

/// Other crates' news is for those who ask for it.
fn of_level(level: LogLevel) -> EnvFilter {
    EnvFilter::new(format!("warn,lanyard={}", level.word()))
}

impl Log {
    /// The configuration has this level now.
    pub(super) fn set(&self, level: LogLevel) {
        if !self.is_asked {
            // It fails only where logging itself has ended.
            let _ended = self.filter.reload(of_level(level));
        }
    }
}
