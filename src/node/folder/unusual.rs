//! The worker's part in unusual names: notes them as it meets them, tries again what could not be read, looks for
//! names that other systems would take for one, and says all of it.

use std::collections::BTreeMap;

use super::worker::{TurnError, Worker};
use crate::base::RelPath;
use crate::logic::sync::clash::Pass;
use crate::logic::sync::notices::{Kind, NAMES_MAX, Notices, Told};
use crate::shell::clock;
use crate::shell::disk::{DiskError, scan};

/// What could not be read is tried again this often. A guess: mostly a hint comes at once; rights can change without one.
const UNREAD_MS: u64 = 60_000;
/// Names looked at for clashes in one turn. A guess: some milliseconds.
const CLASH_PAGE: usize = 2048;
/// A pass for clashes begins this long after a change: a burst is one.
const CLASH_WAIT_MS: u64 = 500;
/// A pass begins no sooner than so many times its own length after the one before: at most 1 % of the time goes into it.
const CLASH_SHARE: u64 = 100;

/// What a walk met that is no change: by kind, path and reason.
#[derive(Default)]
pub(super) struct Met(BTreeMap<Kind, BTreeMap<Vec<u8>, String>>);

impl Met {
    /// Notes a name, unless there are too many already.
    pub(super) fn note(&mut self, kind: Kind, path: &[u8], why: impl ToString) {
        let names = self.0.entry(kind).or_default();
        if names.len() <= NAMES_MAX {
            names.insert(path.to_vec(), why.to_string());
        }
    }
}

/// See the module.
pub(super) struct Unusual {
    pub(super) notices: Notices,
    told_turn: u64,
    alerts: BTreeMap<Kind, String>,
    unread_ms: u64,
    pass: Option<(Pass, u64)>,
    /// When the next pass for clashes is due.
    pass_ms: Option<u64>,
    not_before_ms: u64,
}

impl Default for Unusual {
    fn default() -> Self {
        Self {
            notices: Notices::default(),
            told_turn: 0,
            alerts: BTreeMap::new(),
            unread_ms: 0,
            pass: None,
            pass_ms: Some(0),
            not_before_ms: 0,
        }
    }
}

impl Unusual {
    /// Names may have come or gone.
    pub(super) fn names_changed(&mut self, now: u64) {
        self.pass_ms.get_or_insert((now + CLASH_WAIT_MS).max(self.not_before_ms));
    }

    /// When there is something to do without being told.
    pub(super) fn wake_ms(&self, now: u64) -> Option<u64> {
        let unread =
            (self.notices.count(Kind::Unreadable) + self.notices.count(Kind::Closed) > 0).then_some(self.unread_ms);
        let pass = if self.pass.is_some() { Some(now) } else { self.pass_ms };
        unread.into_iter().chain(pass).min()
    }
}

impl Worker {
    /// A walk over `start` and all below it met these and no others.
    pub(super) fn note_met(&mut self, start: &RelPath, met: &Met) {
        let none = BTreeMap::new();
        for kind in [Kind::Closed, Kind::Unnamable, Kind::Special] {
            self.unusual.notices.replace_below(kind, start, met.0.get(&kind).unwrap_or(&none));
        }
        // A file that could not be read and is gone, or of another kind, is met no more.
        for path in self.unusual.notices.below(Kind::Unreadable, start) {
            let there = RelPath::new(&path).ok().and_then(|path| scan::info(&self.setup.disk, &path).ok());
            if there == Some(None) {
                self.unusual.notices.remove(Kind::Unreadable, &path);
            }
        }
    }

    /// What could not be read or entered is tried again after a while.
    pub(super) fn retry_unread(&mut self, now: u64) {
        if now < self.unusual.unread_ms {
            return;
        }
        self.unusual.unread_ms = now + UNREAD_MS;
        for path in self.unusual.notices.below(Kind::Unreadable, &RelPath::root()) {
            if let Ok(path) = RelPath::new(path) {
                self.local.hint(path, true, now);
            }
        }
        for path in self.unusual.notices.below(Kind::Closed, &RelPath::root()) {
            if let Ok(path) = RelPath::new(path) {
                self.enter_again(path);
            }
        }
    }

    /// A directory that could not be entered may be open now: it is watched, then looked into.
    pub(super) fn enter_again(&mut self, dir: RelPath) {
        if !self.watch_again(&dir) {
            self.local.look_below(dir);
        }
    }

    /// A change from elsewhere that cannot be carried out now: it waits, and only it.
    pub(super) fn cannot_place(&mut self, kind: Kind, name: &RelPath, why: &str) {
        self.unusual.notices.add(kind, name.as_bytes(), why);
    }

    /// It was carried out.
    pub(super) fn was_placed(&mut self, name: &RelPath) {
        self.unusual.notices.remove(Kind::Unwritable, name.as_bytes());
        self.unusual.notices.remove(Kind::Twin, name.as_bytes());
    }

    /// Whether all that is missing here waits for a person.
    pub(super) fn all_wait(&self, needs: u64) -> bool {
        let waiting = self.unusual.notices.count(Kind::Unwritable) + self.unusual.notices.count(Kind::Twin);
        waiting > 0 && needs <= waiting as u64
    }

    /// Looks at the next names for clashes, where a pass is due.
    pub(super) fn find_clashes(&mut self, now: u64) -> Result<(), TurnError> {
        if self.unusual.pass.is_none() && self.unusual.pass_ms.is_some_and(|at| at <= now) {
            self.unusual.pass = Some((Pass::default(), 0));
            self.unusual.pass_ms = None;
        }
        let Some((pass, spent)) = self.unusual.pass.as_mut() else { return Ok(()) };
        let begun = clock::boottime_ms();
        let found = self.setup.store.read(|look| pass.step(look, CLASH_PAGE))?;
        let end = clock::boottime_ms();
        *spent += end.saturating_sub(begun);
        if let Some(found) = found {
            self.unusual.not_before_ms = end + *spent * CLASH_SHARE;
            self.unusual.pass = None;
            let notices = &mut self.unusual.notices;
            notices.replace_below(Kind::Clash, &RelPath::root(), &found.clashes);
            notices.replace_below(Kind::Foreign, &RelPath::root(), &found.foreign);
            if let Some(at) = self.unusual.pass_ms.as_mut() {
                *at = (*at).max(self.unusual.not_before_ms);
            }
        }
        Ok(())
    }

    /// Says what is new; returns what there is, for the state that is shown.
    pub(super) fn tell_unusual(&mut self, needs: u64) -> Option<Vec<Told>> {
        if needs == 0 {
            for kind in [Kind::Unwritable, Kind::Twin] {
                self.unusual.notices.replace_below(kind, &RelPath::root(), &BTreeMap::new());
            }
        }
        if self.unusual.told_turn == self.unusual.notices.turn() {
            return None;
        }
        self.unusual.told_turn = self.unusual.notices.turn();
        let told = self.unusual.notices.tell();
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_alert()) {
            let now = told
                .iter()
                .find(|told| told.kind == kind)
                .map(|told| format!("folder {}: {}", self.setup.name, told.text));
            let before = self.unusual.alerts.get(&kind).cloned();
            if now == before {
                continue;
            }
            if let Some(before) = before {
                self.setup.shared.over(&before);
                self.unusual.alerts.remove(&kind);
            }
            if let Some(now) = now {
                self.setup.shared.alert(now.clone(), Some(kind.hint().to_owned()));
                self.unusual.alerts.insert(kind, now);
            }
        }
        Some(told)
    }
}

/// What the system said, in its words and short.
pub(super) fn cause(error: &DiskError) -> String {
    let text = error.cause().to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}
