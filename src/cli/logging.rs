//! The node's log: to stderr, in levels.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::node::config::LogLevel;
use crate::wire::api::Failure;

/// Starts logging; `LANYARD_LOG` comes before the configuration's level.
pub(super) fn start(level: LogLevel) -> Result<(), Failure> {
    let asked = std::env::var("LANYARD_LOG").ok().filter(|text| !text.trim().is_empty());
    let filter = match asked {
        Some(text) => EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(format!("LANYARD_LOG has '{text}', which is no log level"))
                .because(&error)
                .hint("say error, warn, info, debug or trace")
        })?,
        // Other crates' news is for those who ask for it.
        None => EnvFilter::new(format!("warn,lanyard={}", level.word())),
    };
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    Ok(())
}
