//! The worker of one folder: takes events, looks at the disk, brings the disk to what the index says.
//!
//! One turn: take what came in, look at what changed, read and sign it, take batches, plan, place, push. Each part
//! does a bounded piece, so that a folder of any size never keeps a small change waiting long.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_channel::{Receiver, Sender};
use futures_lite::future;
use tracing::warn;

use super::apply::Apply;
use super::fetcher::{Arrived, Order};
use super::local::Local;
use super::parked::Parked;
use super::peers::{self, Peers};
use super::rules::NOTE_COMPLETE;
use super::unusual::{self, Unusual};
use super::{FolderEvent, Said, Setup, State, Status, lock};
use crate::base::time::HlcClock;
use crate::base::{ContentId, Hlc, NodeId, RelPath, Writer};
use crate::logic::sync::guard::{Guard, losses};
use crate::logic::sync::ignore::Ignored;
use crate::logic::sync::index::{Index, IndexError, Look, Totals};
use crate::logic::sync::notices::Kind;
use crate::logic::sync::outage::{self, Outage};
use crate::logic::sync::own::{Asking, Waiting};
use crate::logic::sync::replica;
use crate::logic::sync::selection::Selection;
use crate::node::mesh::FolderRules;
use crate::shell::disk::versions::Shelf;
use crate::shell::disk::watch::{Hint, Watch, WatchError};
use crate::shell::disk::{DiskError, chunk};
use crate::shell::net::link::LinkSender;
use crate::shell::store::Store;
use crate::shell::users::Users;
use crate::shell::{clock, entropy, rt};
use crate::wire::api::{Amount, Event};
use crate::wire::batch::What;
use crate::wire::codec::List;
use crate::wire::message::{BatchPush, EntryWant, Frontiers, Message, Subscribe};
use crate::wire::statement::{Fork, Frontier};

/// A folder that cannot be watched as a whole is looked at this often. A guess: 50,000 files take a third of a second.
const UNWATCHED_SCAN_MS: u64 = 20_000;
/// Events taken in one turn.
const EVENTS_PER_TURN_MAX: usize = 64;
/// Names whose bytes are added up for `status`.
const COUNTED_MAX: usize = 64;
/// After a failure of index or disk, this long until the next try.
const TROUBLE_MS: u64 = 1_000;

/// Note in the index: this node's incarnation in this folder.
pub(super) const NOTE_INCARNATION: &str = "incarnation";
/// Note in the index: the last hybrid time given out, milliseconds.
pub(super) const NOTE_TIME: &str = "time";

/// Note in the index: the start of the machine in which this node runs; empty once it ended as it should.
const NOTE_BOOT: &str = "boot";

/// Why a turn could not be finished. Nothing of the interrupted step is in the index.
#[derive(Debug, thiserror::Error)]
pub(super) enum TurnError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

pub(super) struct Worker {
    pub(super) setup: Setup,
    pub(super) writer: Writer,
    pub(super) complete: bool,
    /// Whether everything on the disk was looked at since the start.
    pub(super) looked: bool,
    /// The machine went down under the node, and what it announced since this time may not have reached its disk.
    pub(super) outage: Option<Outage>,
    /// Nothing is signed before peers have said how far the logs reach; `None`: they did.
    pub(super) asking: Option<Asking>,
    /// Part of the own log was forgotten, and the disk was not looked at since.
    pub(super) forgot: bool,
    /// Until when what peers passed over is awaited: see `forgot`.
    pub(super) recall_ms: Option<u64>,
    /// The arrival number of the first batch that came since the start.
    pub(super) first_arrival: u64,
    /// What was found and is not signed yet.
    pub(super) waiting: Waiting,
    pub(super) clock: HlcClock,
    pub(super) rules: FolderRules,
    pub(super) local: Local,
    pub(super) apply: Apply,
    pub(super) peers: Peers,
    pub(super) parked: Parked,
    /// Contents that came along with pushes of this turn, by whose entry they came with: they are for no other's.
    pub(super) inline: BTreeMap<(ContentId, NodeId), Vec<u8>>,
    /// Complete contents that wait to be placed.
    pub(super) ready: Vec<Arrived>,
    pub(super) unsent: VecDeque<Order>,
    /// What was kept of what other changes replaced.
    pub(super) shelf: Shelf,
    /// Proofs of forks found in this turn.
    pub(super) forks: Vec<Fork>,
    pub(super) waiters: Vec<Sender<()>>,
    pub(super) report_due: bool,
    pub(super) applied_due: bool,
    /// Removals wait for this time.
    pub(super) removals_ms: Option<u64>,
    /// Since when they wait.
    pub(super) removals_since_ms: Option<u64>,
    /// What is not shared.
    pub(super) ignored: Ignored,
    /// What is unusual about names.
    pub(super) unusual: Unusual,
    /// Names of users and groups.
    pub(super) users: Users,
    /// The disk is full: nothing is placed before this time.
    pub(super) pause_until_ms: Option<u64>,
    /// When a batch was last taken.
    pub(super) took_ms: u64,
    /// What holds bursts of changes.
    pub(super) guard: Guard,
    pub(super) next_scan_ms: u64,
    watch: Option<Watch>,
    /// When versions last grew older.
    pub(super) aged_ms: u64,
    /// Whether it was said that not everything is watched.
    unwatched_told: bool,
    pub(super) hints: Receiver<Hint>,
    pub(super) events: Receiver<FolderEvent>,
    pub(super) own_events: Sender<FolderEvent>,
    pub(super) orders: Sender<Order>,
    pub(super) status: Arc<Mutex<Status>>,
}

impl Worker {
    pub(super) fn new(
        setup: Setup,
        events: Receiver<FolderEvent>,
        own_events: Sender<FolderEvent>,
        orders: Sender<Order>,
        status: Arc<Mutex<Status>>,
    ) -> Result<Self, IndexError> {
        let first_arrival = setup.store.read(|look| look.arrival_count())?;
        let (incarnation, is_new, complete, time, outage) = setup.store.write(true, |index| {
            let (incarnation, is_new) = match index.note(NOTE_INCARNATION)?.and_then(|n| n.try_into().ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), false),
                None => {
                    let fresh = entropy::u64();
                    index.put_note(NOTE_INCARNATION, &fresh.to_be_bytes())?;
                    (fresh, true)
                }
            };
            let time = index.note(NOTE_TIME)?.and_then(|n| n.try_into().ok()).map_or(0, u64::from_be_bytes);
            if setup.begins {
                index.put_note(NOTE_COMPLETE, &[1])?;
            }
            let boot = index.note(NOTE_BOOT)?.filter(|boot| !boot.is_empty());
            let outage = boot.is_some_and(|boot| clock::boot_id().is_some_and(|now| now.as_bytes() != boot));
            Ok::<_, IndexError>((incarnation, is_new, index.note(NOTE_COMPLETE)?.is_some(), time, outage))
        })?;
        let rules = setup.shared.mesh.rules(setup.folder);
        let (hinted, hints) = async_channel::bounded(4096);
        let watch = match Watch::start(&setup.root, hinted) {
            Ok(watch) => Some(watch),
            Err(error) => {
                report_watch(&setup, &error);
                None
            }
        };
        let writer = Writer { node: setup.shared.mesh.node(), incarnation };
        let begins = setup.begins;
        let mut local = Local::default();
        local.look_below(RelPath::root());
        let limits = setup.shared.config.guard.limits();
        let guard = setup.store.read(|look| losses::recall(look, limits))?;
        let mut apply = Apply::default();
        apply.select(follow(&setup.store, setup.selection.clone())?);
        Ok(Self {
            next_scan_ms: clock::boottime_ms() + if watch.is_some() { setup.scan_ms } else { UNWATCHED_SCAN_MS },
            setup,
            writer,
            complete,
            looked: false,
            outage: outage.then(|| Outage {
                since_ms: time.saturating_sub(outage::UNFLUSHED_MS_MAX),
                until_ms: clock::wall_ms(),
            }),
            asking: (!begins).then(|| Asking::new(is_new)),
            forgot: false,
            recall_ms: None,
            first_arrival,
            waiting: Waiting::default(),
            clock: HlcClock::starting_after(Hlc { ms: time, count: 0 }),
            rules,
            local,
            apply,
            peers: Peers::default(),
            parked: Parked::default(),
            inline: BTreeMap::new(),
            ready: Vec::new(),
            unsent: VecDeque::new(),
            shelf: Shelf::default(),
            forks: Vec::new(),
            waiters: Vec::new(),
            report_due: false,
            applied_due: true,
            removals_ms: None,
            removals_since_ms: None,
            ignored: Ignored::default(),
            unusual: Unusual::default(),
            users: Users::default(),
            pause_until_ms: None,
            took_ms: 0,
            guard,
            aged_ms: clock::boottime_ms(),
            unwatched_told: watch.is_none(),
            watch,
            hints,
            events,
            own_events,
            orders,
            status,
        })
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        // The rules may have changed while the node was off.
        let ready = (self.renew_rules())
            .and_then(|()| self.renew_ignored())
            .and_then(|()| self.follow_attributes())
            .and_then(|()| self.read_again());
        if let Err(error) = ready {
            self.trouble(&error);
        }
        loop {
            let (events, hints) = self.wait();
            for hint in hints {
                match hint {
                    Hint::Changed { path, settled } => self.local.hint(path, settled, clock::boottime_ms()),
                    Hint::Rescan(path) => self.local.look_below(path),
                }
            }
            let mut pushes = Vec::new();
            for event in events {
                match event {
                    FolderEvent::Stop => return self.end(),
                    FolderEvent::Said(link, _) if !self.peers.is_used(&link) => {}
                    FolderEvent::Said(link, Said::Push(push)) => pushes.push((link.peer(), push)),
                    other => {
                        if let Err(error) = self.handle(other) {
                            self.trouble(&error);
                        }
                    }
                }
            }
            match self.turn(pushes) {
                Ok(()) => {}
                Err(error) => self.trouble(&error),
            }
        }
    }

    /// What was announced is on the disk when the node has ended; a power cut after that takes nothing back.
    fn end(self) {
        let noted = self.setup.disk.flush().map_err(TurnError::from).and_then(|()| {
            let note = |index: &mut dyn Index| index.put_note(NOTE_BOOT, &[]);
            if self.looked { self.setup.store.write(true, note).map_err(TurnError::from) } else { Ok(()) }
        });
        if let Err(error) = noted {
            warn!(folder = %self.setup.name, %error, "what was saved last may not be on the disk");
        }
    }

    fn wait(&mut self) -> (Vec<FolderEvent>, Vec<Hint>) {
        enum Came {
            Event(Option<FolderEvent>),
            Hint(Hint),
            Nothing,
        }
        let now = clock::boottime_ms();
        let wake = self.wake_ms(now);
        let first = if wake.is_some_and(|at| at <= now) {
            Came::Nothing
        } else {
            let event = async { Came::Event(self.events.recv().await.ok()) };
            let hint = async {
                match self.hints.recv().await {
                    Ok(hint) => Came::Hint(hint),
                    // Without a watch there are no hints; looks come by the clock.
                    Err(_) => future::pending().await,
                }
            };
            let timer = async {
                match wake {
                    Some(at) => rt::sleep(std::time::Duration::from_millis(at - now)).await,
                    None => future::pending().await,
                }
                Came::Nothing
            };
            rt::block_on(future::or(event, future::or(hint, timer)))
        };
        let (mut events, mut hints) = (Vec::new(), Vec::new());
        match first {
            Came::Event(None) => events.push(FolderEvent::Stop),
            Came::Event(Some(event)) => events.push(event),
            Came::Hint(hint) => hints.push(hint),
            Came::Nothing => {}
        }
        while events.len() < EVENTS_PER_TURN_MAX
            && let Ok(event) = self.events.try_recv()
        {
            events.push(event);
        }
        while hints.len() < 4096
            && let Ok(hint) = self.hints.try_recv()
        {
            hints.push(hint);
        }
        (events, hints)
    }

    fn wake_ms(&self, now: u64) -> Option<u64> {
        let local = if self.complete { self.local.wake_ms() } else { None };
        let unsent = (!self.unsent.is_empty()).then_some(now + 2);
        let ready = (self.looked && !self.ready.is_empty()).then_some(0);
        let report = self.report_due.then_some(now + 2);
        let scan = self.complete.then_some(self.next_scan_ms);
        let (plan, ready) = match self.pause_until_ms.filter(|_| self.looked) {
            Some(until) => (Some(until), None),
            None => (if self.looked { self.apply.wake_ms() } else { None }, ready),
        };
        let asking = self.asking.as_ref().and_then(|asking| asking.wake_ms(now));
        let unusual = if self.looked { self.unusual.wake_ms(now) } else { None };
        [local, plan, unusual, self.peers.wake_ms(now), self.parked.wake_ms(), unsent, ready, report, scan, asking]
            .into_iter()
            .chain([self.recall_ms.filter(|at| *at > now)])
            .chain([self.removals_ms.filter(|_| self.pause_until_ms.is_none())])
            .flatten()
            .min()
    }

    fn handle(&mut self, event: FolderEvent) -> Result<(), TurnError> {
        match event {
            FolderEvent::PeerUp(link, turn) => {
                if !self.peers.up(link.clone(), turn) {
                    return Ok(());
                }
                if let Some(asking) = &mut self.asking {
                    asking.handle_up(link.peer(), clock::boottime_ms());
                }
                let frontiers = self.setup.store.read(|look| look.frontiers())?;
                // A queue that is full at its start belongs to a link that is going down.
                let _ = link.try_send(Message::Subscribe(Subscribe { folder: self.setup.folder, receives: true }));
                let _ = link.try_send(Message::Frontiers(self.say(frontiers)));
                self.ask_holes(&link)?;
            }
            FolderEvent::PeerDown(link) => {
                self.peers.down(&link);
                if let Some(asking) = self.asking.as_mut().filter(|_| self.peers.get_mut(link.peer()).is_none()) {
                    asking.handle_down(link.peer());
                }
            }
            FolderEvent::Said(link, Said::Begin) => self.peers.begun(link.peer()),
            FolderEvent::Said(link, Said::Frontiers(said)) => {
                let from = link.peer();
                let Self { setup, peers, .. } = self;
                if setup.store.read(|look| peers.reported(from, &said, look, clock::boottime_ms()))? {
                    // What this node said when the link came up may have come before the peer had the folder.
                    let frontiers = self.setup.store.read(|look| look.frontiers())?;
                    let _ = link.try_send(Message::Frontiers(self.say(frontiers)));
                }
                self.ask_other_histories(from, &said)?;
                if let Some(asking) = &mut self.asking {
                    asking.handle_word(from, said.complete, &said.frontiers);
                }
            }
            FolderEvent::Said(link, Said::Applied(said)) => {
                if let Some(peer) = self.peers.get_mut(link.peer()) {
                    peer.applied = said.frontiers.into_vec();
                }
            }
            FolderEvent::Said(link, Said::Want(want)) => {
                let (folder, rules) = (self.setup.folder, self.setup.shared.mesh.rules(self.setup.folder));
                self.setup
                    .store
                    .read(|look| peers::answer_wants(look, &link, folder, &rules, want.writer, &want.numbers))?;
            }
            FolderEvent::Arrived(arrived) => {
                self.ready.extend(arrived);
            }
            FolderEvent::Unavailable(content, error) => {
                let now = clock::boottime_ms();
                let full = error.as_ref().filter(|error| matches!(error, DiskError::Full { .. }));
                if let Some(error) = full {
                    self.pause(error, now);
                }
                for (name, _) in self.apply.release(content) {
                    if full.is_some() {
                        continue;
                    }
                    if let Some(error) = &error {
                        self.cannot_place(Kind::Unwritable, &name, &unusual::cause(error));
                    }
                    self.apply.failed(name, now);
                }
            }
            FolderEvent::Read(path, info, read) => {
                self.local.reading.remove(&path);
                self.sign_read(path, info, read)?;
            }
            FolderEvent::Rules => self.renew_rules()?,
            FolderEvent::Select(selection) => {
                let selection = follow(&self.setup.store, selection)?;
                self.apply.select(selection);
            }
            FolderEvent::Revert(path, done) => {
                let names = self.take_back(&path)?;
                // Who waits no more needs no answer.
                let _ = done.try_send(names);
            }
            FolderEvent::Make(changes, done) => {
                let results = self.make(changes)?;
                // Who waits no more needs no answer.
                let _ = done.try_send(results);
            }
            FolderEvent::Damaged(damaged) => self.note_damaged(damaged)?,
            FolderEvent::LookAgain => self.local.look_below(RelPath::root()),
            FolderEvent::Wait(done) => {
                self.local.look_below(RelPath::root());
                self.waiters.push(done);
            }
            FolderEvent::Said(_, Said::Push(_)) | FolderEvent::Stop => {}
        }
        Ok(())
    }

    fn turn(&mut self, pushes: Vec<(NodeId, Box<BatchPush>)>) -> Result<(), TurnError> {
        let now = clock::boottime_ms();
        self.mind_watch(now);
        if self.complete && now >= self.next_scan_ms {
            self.next_scan_ms = now + self.scan_interval();
            let wall = clock::wall_ms();
            self.prune();
            self.let_go(wall)?;
            self.seal();
            self.local.look_below(RelPath::root());
        }
        self.rules.refresh();
        self.take(pushes)?;
        self.sign_forks();
        self.find_history(now)?;
        if self.complete {
            self.look(now)?;
        }
        // What is here already is taken over before anything is fetched.
        if !self.looked {
            if !self.complete || self.asking.is_some() || !self.local.is_idle() {
                return self.finish_turn();
            }
            // From now on a file that equals a deleted one was put back by a user.
            let boot = clock::boot_id().unwrap_or_default();
            self.setup.store.write(true, |index| {
                index.put_note(replica::SCANNED_NOTE, &[1])?;
                index.put_note(NOTE_BOOT, boot.as_bytes())
            })?;
            (self.looked, self.outage, self.forgot) = (true, None, false);
            self.waiting = Waiting::default();
            self.prune();
        }
        self.retry_unread(now);
        self.find_clashes(now)?;
        if self.is_paused(now) {
            return self.finish_turn();
        }
        let tried_again = self.pause_until_ms.is_some();
        if tried_again {
            self.apply.touch();
        }
        self.place_ready()?;
        let later = self.removals_ms.is_some_and(|at| at <= clock::boottime_ms());
        if self.apply.is_due(clock::boottime_ms()) || later {
            self.plan()?;
        }
        if tried_again && !self.is_paused(clock::boottime_ms()) {
            // A content that is still being fetched says by itself when there is no room.
            self.pause_until_ms = None;
        }
        self.finish_turn()
    }

    /// How long until the next look at everything: what is not watched is found by looking.
    fn scan_interval(&self) -> u64 {
        if self.is_watched() { self.setup.scan_ms } else { self.setup.scan_ms.min(UNWATCHED_SCAN_MS) }
    }

    /// Watches a directory that could not be watched; returns whether a look into it follows.
    pub(super) fn watch_again(&self, dir: &RelPath) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.again(dir.clone()))
    }

    fn is_watched(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| !watch.is_partial())
    }

    /// Watches may run out while the node runs: said once, and looked at more often from then on.
    fn mind_watch(&mut self, now: u64) {
        if self.unwatched_told || self.is_watched() {
            return;
        }
        self.unwatched_told = true;
        self.next_scan_ms = self.next_scan_ms.min(now + UNWATCHED_SCAN_MS);
        report_watch(&self.setup, &WatchError::Limit(self.setup.root.display().to_string()));
    }

    fn finish_turn(&mut self) -> Result<(), TurnError> {
        self.send_orders();
        self.pump()?;
        self.report()?;
        self.answer_waiters()?;
        self.show()
    }

    fn send_orders(&mut self) {
        while let Some(order) = self.unsent.pop_front() {
            match self.orders.try_send(order) {
                Ok(()) => {}
                Err(async_channel::TrySendError::Full(order)) => {
                    self.unsent.push_front(order);
                    return;
                }
                Err(async_channel::TrySendError::Closed(_)) => return,
            }
        }
    }

    fn pump(&mut self) -> Result<(), TurnError> {
        let now = clock::boottime_ms();
        let Self { setup, peers, writer, .. } = self;
        // Who lost the right to read since is sent nothing more.
        let rules = setup.shared.mesh.rules(setup.folder);
        let disk = setup.disk.clone();
        let store = setup.store.clone();
        let read = |path: &RelPath| {
            let disk_state = store.read::<_, IndexError>(|look| look.path(path)).ok()??.disk?;
            chunk::read_small(&disk, path, &disk_state.info).ok()
        };
        setup.store.read(|look| peers.pump(look, *writer, setup.folder, &rules, &read, now))?;
        Ok(())
    }

    /// Tells all peers how far the logs reach, and, once the disk has caught up, that it has.
    fn report(&mut self) -> Result<(), TurnError> {
        let settled = self.apply.is_idle() && self.ready.is_empty() && !self.holds_any();
        let news = self.report_due || (self.applied_due && settled);
        if !news {
            return Ok(());
        }
        let frontiers = self.setup.store.read(|look| look.frontiers())?;
        let said = self.say(frontiers);
        let links: Vec<LinkSender> = self.peers.iter().map(|(_, peer)| peer.link.clone()).collect();
        let mut all = true;
        for link in &links {
            if self.report_due {
                all &= link.try_send(Message::Frontiers(said.clone())).is_ok() || link.is_closed();
            }
            if self.applied_due && settled {
                all &= link.try_send(Message::Applied(said.clone())).is_ok() || link.is_closed();
            }
        }
        if all {
            self.applied_due = self.applied_due && !settled;
            self.report_due = false;
        }
        Ok(())
    }

    pub(super) fn say(&self, frontiers: Vec<Frontier>) -> Frontiers {
        Frontiers { folder: self.setup.folder, complete: self.complete, frontiers: List::truncated(frontiers) }
    }

    /// Asks a peer for entries that others withheld or did not have.
    pub(super) fn ask_holes(&self, link: &LinkSender) -> Result<(), TurnError> {
        let holes = self.setup.store.read(|look| look.holes_to_ask(1024))?;
        let mut of: BTreeMap<Writer, Vec<u64>> = BTreeMap::new();
        holes.into_iter().for_each(|id| of.entry(id.writer).or_default().push(id.seq));
        for (writer, numbers) in of {
            let want = EntryWant { folder: self.setup.folder, writer, numbers: List::truncated(numbers) };
            // A queue that is full now is asked again when the rules change or the link comes up again.
            let _ = link.try_send(Message::EntryWant(want));
        }
        Ok(())
    }

    // ---- waiting, state -------------------------------------------------------------------------------

    fn answer_waiters(&mut self) -> Result<(), TurnError> {
        if self.waiters.is_empty() {
            return Ok(());
        }
        let quiet = self.looked
            && self.local.is_idle()
            && self.apply.is_idle()
            && self.ready.is_empty()
            && self.unsent.is_empty()
            && self.parked.is_empty()
            && !self.report_due;
        let (needs, ours) =
            self.setup.store.read(|look| Ok::<_, IndexError>((look.need_count()?, look.frontiers()?)))?;
        let in_step = quiet && needs == 0 && self.peers.in_step(&ours, &|log| self.rules.common(log));
        if in_step || (self.is_cut_off() && self.local.is_idle()) {
            for waiter in self.waiters.drain(..) {
                // Who waits no more needs no answer.
                let _ = waiter.try_send(());
            }
        }
        Ok(())
    }

    pub(super) fn problem(&mut self, text: String) {
        let news = lock(&self.status).problem.replace(text.clone()) != Some(text.clone());
        if news {
            self.setup.shared.alert(self.alert_text(&text), None);
        }
    }

    fn alert_text(&self, problem: &str) -> String {
        format!("folder {}: {problem}", self.setup.name)
    }

    fn trouble(&mut self, error: &TurnError) {
        let chain = crate::node::reasons(error).join(": ");
        warn!(folder = %self.setup.name, error = %chain, "a folder cannot go on for now; it tries again");
        self.problem(chain);
        lock(&self.status).state = State::Error;
        // Not at once again: what is wrong is usually a full or failing disk.
        rt::block_on(rt::sleep(std::time::Duration::from_millis(TROUBLE_MS)));
    }

    fn show(&mut self) -> Result<(), TurnError> {
        let (local, need, local_only) = self
            .setup
            .store
            .read(|look| Ok::<_, IndexError>((look.totals()?, needed(look)?, look.local_only_count()?)))?;
        let state = if self.pause_until_ms.is_some() || (self.all_wait(need.files) && self.ready.is_empty()) {
            State::Held
        } else if need.files > 0 || !self.ready.is_empty() {
            State::Syncing
        } else if !self.local.is_idle() || !self.complete {
            State::Scanning
        } else if self.holds_any() {
            State::Held
        } else {
            State::Idle
        };
        let told = self.tell_unusual(need.files);
        let mut status = lock(&self.status);
        let changed = status.state != state;
        if state == State::Idle
            && status.state != State::Idle
            && let Some(text) = status.problem.take()
        {
            self.setup.shared.over(&self.alert_text(&text));
        }
        let bursts = self.guard.bursts().map(|(node, burst)| (node, burst.clone())).collect();
        let problem = status.problem.take();
        let waiting = if self.looked { 0 } else { self.waiting.count() };
        let notices = told.unwrap_or_else(|| std::mem::take(&mut status.notices));
        *status =
            Status { state, local, need, local_only, waiting, bursts, watched: self.is_watched(), problem, notices };
        drop(status);
        if changed {
            self.setup.shared.tell(Event::Folder {
                folder: self.setup.name.clone(),
                state: state.word(),
                need: Amount { files: need.files, bytes: need.bytes },
                why: None,
            });
        }
        Ok(())
    }
}

/// Marks what a selection wants beyond the one before.
fn follow(store: &Store, selection: Selection) -> Result<Selection, IndexError> {
    if !store.read(|look| selection.is_followed(look))? {
        let mut from = Some(RelPath::root());
        while let Some(at) = from {
            from = store.write(false, |index| selection.follow(index, &at))?;
        }
    }
    Ok(selection)
}

fn report_watch(setup: &Setup, error: &WatchError) {
    let what = format!("changes in folder {} are found by looking now and then, not at once: {error}", setup.name);
    setup.shared.alert(what, None);
}

/// How much differs from what it should be. Bytes are counted for the first names only: it is for people.
fn needed(look: &dyn Look) -> Result<Totals, IndexError> {
    let files = look.need_count()?;
    let mut bytes = 0;
    for path in look.needs(None, COUNTED_MAX)? {
        let record = look.path(&path)?.unwrap_or_default();
        let largest = record.heads.iter().filter_map(|head| match head.what() {
            What::File { bytes, .. } => Some(*bytes),
            _ => None,
        });
        bytes += largest.max().unwrap_or(0);
    }
    Ok(Totals { files, bytes })
}
