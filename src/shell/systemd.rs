//! The service manager: told when the node serves, what it does, and that it is alive.
//!
//! Sources: sd_notify(3), systemd.service(5) `Type=notify`, systemd.exec(5) `$JOURNAL_STREAM`. Without a service manager
//! nothing is sent. A word that does not arrive is no reason to end: the manager's own limits hold.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use sd_notify::NotifyState;

/// Shortest time between two status lines. A guess: nobody reads faster.
const STATUS_MS: u64 = 1_000;
/// Longest status line in bytes. A guess: a wide terminal.
const STATUS_BYTES_MAX: usize = 200;

/// Whether somebody listens.
fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty())
}

fn tell(state: &[NotifyState<'_>]) {
    if is_heard()
        && let Err(error) = sd_notify::notify(state)
    {
        tracing::warn!(%error, "the service manager cannot be told how this node is");
    }
}

/// The node serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The node ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("ending")]);
}

/// The configuration is being read again; `ready` follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The sign of life of the main loop: what it does not send while it does not turn, the manager notices.
#[derive(Debug)]
pub struct Pulse {
    is_heard: bool,
    every_ms: Option<u64>,
    beat_ms: u64,
    status_ms: u64,
    status: String,
}

impl Pulse {
    /// As the manager asked for it.
    pub fn of_process() -> Self {
        // Three in the time after which the manager acts: one may be late.
        let every_ms = sd_notify::watchdog_enabled().map(|time| (time / 3).as_millis() as u64);
        Self { is_heard: is_heard(), every_ms, beat_ms: 0, status_ms: 0, status: String::new() }
    }

    /// The longest that the loop may wait.
    pub fn wait_max(&self, now_ms: u64) -> Option<Duration> {
        self.every_ms.map(|_| Duration::from_millis(self.beat_ms.saturating_sub(now_ms)))
    }

    /// The loop has turned. `status` says what the node does, and is asked only where somebody listens.
    pub fn turned(&mut self, now_ms: u64, status: impl FnOnce() -> String) {
        if let Some(every_ms) = self.every_ms.filter(|_| self.beat_ms <= now_ms) {
            self.beat_ms = now_ms + every_ms;
            tell(&[NotifyState::Watchdog]);
        }
        if !self.is_heard || now_ms < self.status_ms {
            return;
        }
        self.status_ms = now_ms + STATUS_MS;
        let status: String = status().chars().filter(|c| !c.is_control()).take(STATUS_BYTES_MAX).collect();
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

/// Whether standard error is the journal: then fields go there as fields.
pub fn logs_to_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let stream = stream.to_string_lossy().into_owned();
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|meta| stream == format!("{}:{}", meta.dev(), meta.ino()))
}
