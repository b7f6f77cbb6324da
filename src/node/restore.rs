//! The command that takes back: a file, a directory or a folder as it was, in place or elsewhere.
//!
//! In place, what comes back is an ordinary change of this node: it is signed, spreads, and what it replaces is kept. What
//! cannot be had is named and left as it is; everything else is done. Where the kept versions do not reach, the archive does.

#[cfg(feature = "archive")]
mod archived;
#[cfg(not(feature = "archive"))]
#[path = "restore/unarchived.rs"]
mod archived;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::folder::{Back, Change, Content, FolderHandle, NotMade, Wanted};
use super::mesh::MeshError;
use super::outside::{self, Make, Reach};
use super::past::{Spot, spot};
use super::record::Place;
use super::{Shared, places, reasons, sharing};
use crate::base::{FolderId, Level, RelPath};
use crate::logic::policy::{self, Ask};
use crate::logic::sync::history::{self, Plan, Step, Where};
use crate::logic::sync::index::IndexError;
use crate::logic::sync::reconcile::Target;
use crate::logic::sync::replica::Rules;
use crate::shell::disk::export::Export;
use crate::shell::{clock, rt};
use crate::wire::api::{Failure, Moment, NotRestored, PAST_MAX, PathText, RestoreAt, Restored, UtcTime};
use crate::wire::batch::What;
use crate::wire::content::CHUNK_BYTES_MAX;
use crate::wire::statement::{Frontier, Range};

/// Changes made by one flush.
const BATCH_MAX: usize = 256;
/// Their contents together, while they are in memory. A guess: half of what one pass of a folder takes.
const BATCH_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// What a user changed meanwhile is planned anew so often.
const ROUNDS: usize = 3;
/// Fewer changes are not held by anyone.
const RELEASED_MIN: u64 = 20;
/// Between two rounds; longer than a change takes to be noticed.
const ROUND_MS: u64 = 500;

/// Brings a path back.
pub(super) async fn restore(shared: &Arc<Shared>, ask: RestoreAt) -> Result<Restored, Failure> {
    let spot = spot(shared, &ask.folder, ask.path.as_ref())?;
    let back = spot.handle.back();
    let at_ms = moment(ask.at, clock::wall_ms().max(back.signed_ms()))?;
    match ask.to.as_ref().map(places::to_path) {
        None => may_write(shared, &spot)?,
        Some(to) if matches!(outside::reach(shared, &to, Make::Nothing), Reach::Anew) => {
            return Err(outside::asked_again(&to));
        }
        Some(_) => {}
    }
    let (folder, handle) = (spot.folder, spot.handle.clone());
    let is_change = ask.to.is_none() && !ask.dry_run;
    let before = own_frontiers(shared, &handle);
    let job = Job {
        back,
        shared: shared.clone(),
        at_ms,
        to: ask.to.as_ref().map(places::to_path),
        dry_run: ask.dry_run,
        done: Done::default(),
        lost: BTreeMap::new(),
        spot,
    };
    let restored = rt::spawn_blocking(move || job.run()).await;
    if is_change {
        release(shared, folder, &before, &own_frontiers(shared, &handle));
    }
    restored
}

/// How far this node's logs reach.
fn own_frontiers(shared: &Shared, handle: &FolderHandle) -> Vec<Frontier> {
    let me = shared.mesh.node();
    let all = handle.back().store.read(|look| look.frontiers()).unwrap_or_default();
    all.into_iter().filter(|frontier| frontier.writer.node == me).collect()
}

/// Who asks for much to be brought back means it: where this node may say so, the others need not hold it.
fn release(shared: &Shared, folder: FolderId, before: &[Frontier], after: &[Frontier]) {
    let known = |writer| before.iter().find(|frontier| frontier.writer == writer).map_or(0, |frontier| frontier.seq);
    let ranges: Vec<Range> = after
        .iter()
        .map(|to| Range { writer: to.writer, first: known(to.writer) + 1, last: to.seq, batch: to.batch })
        .filter(|range| range.last >= range.first + RELEASED_MIN)
        .collect();
    let me = shared.mesh.node();
    let signed = shared.mesh.sign(|policy| {
        // Who may not decide leaves it to who may.
        let planned = policy::plan_verdicts(policy, me, folder, ranges.clone(), true, clock::wall_ms());
        Ok::<_, MeshError>(planned.unwrap_or_default())
    });
    if let Err(error) = signed {
        warn!(error = %reasons(&error).join(": "), "the other machines may hold what was restored");
    }
}

/// The moment that is meant, milliseconds since 1970 UTC.
fn moment(at: Moment, now: u64) -> Result<u64, Failure> {
    let (from, to) = match at {
        Moment::At(time) => (time, time),
        Moment::Within { from, to } => (from, to),
        Moment::AgoMs(span) => return Ok(now.saturating_sub(span)),
    };
    if from.as_ms() > now {
        return Err(Failure::usage(format!("{from} is in the future"))
            .why(format!("it is {} now", UtcTime::from_ms(now)))
            .hint("say when it was as you want it, such as --at '2 hours ago' or --at 2026-03-01T09:30"));
    }
    Ok(to.as_ms().min(now))
}

fn may_write(shared: &Shared, spot: &Spot) -> Result<(), Failure> {
    let ask = Ask { folder: spot.folder, path: spot.path.clone(), level: Level::Write };
    let me = shared.mesh.node();
    let cannot = || Failure::refused(format!("cannot restore {} in place", spot.shown()));
    let hint = "'--to DIR' writes it elsewhere on this machine";
    policy::permit(&spot.policy, me, &ask, clock::wall_ms()).map_err(|error| cannot().because(&error).hint(hint))?;
    if shared.mesh.rules(spot.folder).is_suspended(me) {
        let why = "this machine signed two histories: it changes nothing until an admin reinstates it";
        return Err(cannot().why(why).hint(hint));
    }
    Ok(())
}

struct Job {
    shared: Arc<Shared>,
    spot: Spot,
    at_ms: u64,
    to: Option<PathBuf>,
    dry_run: bool,
    back: Back,
    done: Done,
    /// What could not be had so far.
    lost: BTreeMap<RelPath, Lost>,
}

/// A name of which the kept versions do not have what it was.
struct Lost {
    /// What was to be done, where that is known.
    #[cfg_attr(not(feature = "archive"), allow(dead_code, reason = "only the archive looks for it"))]
    step: Option<Step>,
    /// Why it could not be.
    why: String,
}

/// What is done with what is brought back.
enum Way<'a> {
    /// Nothing.
    Dry,
    /// It goes into the folder.
    InPlace,
    /// It goes elsewhere.
    #[cfg_attr(not(feature = "archive"), allow(dead_code, reason = "only what comes from the archive goes there late"))]
    Export(&'a mut Export),
}

/// What was done so far.
#[derive(Default)]
struct Done {
    files: u64,
    bytes: u64,
    others: u64,
    modes: u64,
    removed: u64,
    /// Names that came from the archive.
    archived: u64,
    /// Names that are as the archive has them.
    archived_same: u64,
    /// The time of the oldest snapshot that anything came from.
    archived_at: Option<UtcTime>,
    failed: BTreeMap<RelPath, String>,
    /// Names that a user changed meanwhile.
    changed: BTreeSet<RelPath>,
}

impl Done {
    fn count(&mut self, target: &Target) {
        match target {
            Target::Nothing => self.removed += 1,
            Target::Meta { .. } => self.modes += 1,
            Target::Put { what: What::File { bytes, .. }, .. } => {
                self.files += 1;
                self.bytes += bytes;
            }
            Target::Put { .. } => self.others += 1,
        }
    }
}

impl Job {
    fn run(mut self) -> Result<Restored, Failure> {
        let plan = self.plan()?;
        let is_known = plan.lived || !plan.unknown.is_empty();
        let same = plan.same;
        for path in &plan.not_here {
            self.done.failed.insert(path.clone(), "it is not received on this machine".into());
        }
        for path in &plan.unknown {
            let why = "it is not known here what it was then: ask on a machine that had the folder then";
            self.lost.insert(path.clone(), Lost { step: None, why: why.into() });
        }
        if self.to.is_none() {
            self.check_each(&plan)?;
        }
        if self.dry_run {
            let steps = plan.room.iter().chain(&plan.puts).chain(&plan.removals);
            steps.for_each(|step| self.done.count(&step.target));
            self.rest(is_known, &mut Way::Dry)?;
        } else if let Some(to) = self.to.clone() {
            let (to, _) = sharing::usable(&self.shared, &to, "restore into")?;
            self.write_to(&to, plan.puts, is_known)?;
            self.to = Some(to);
        } else {
            if is_known {
                self.in_place(plan)?;
            }
            self.rest(is_known, &mut Way::InPlace)?;
        }
        Ok(self.answer(same))
    }

    /// What the kept versions do not have. Nothing at all may be known of a place, neither here nor in the archive.
    fn rest(&mut self, is_known: bool, way: &mut Way<'_>) -> Result<(), Failure> {
        let lost = std::mem::take(&mut self.lost);
        if is_known {
            self.bring_lost(lost, way);
            return Ok(());
        }
        if self.bring_all_archived(way)? {
            return Ok(());
        }
        Err(Failure::failed(format!("{} was not there at {}", self.spot.shown(), UtcTime::from_ms(self.at_ms)))
            .hint(format!("'lanyard versions {}' lists what is known of it", self.spot.shown())))
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let selection =
            self.shared.mesh.record().place(self.spot.folder).and_then(Place::selection).unwrap_or_default();
        let place = if self.to.is_some() { Where::Elsewhere } else { Where::InPlace(&selection) };
        let planned = self.back.store.read(|look| history::plan(look, &self.spot.path, self.at_ms, place));
        planned.map_err(|error: IndexError| {
            Failure::failed(format!("cannot look up what {} was", self.spot.shown())).because(&error)
        })
    }

    /// All of it may be changed here, or nothing is.
    fn check_each(&self, plan: &Plan) -> Result<(), Failure> {
        let rules = self.shared.mesh.rules(self.spot.folder);
        let me = self.shared.mesh.node();
        let mut steps = plan.room.iter().chain(&plan.puts).chain(&plan.removals);
        match steps.find(|step| !rules.permits(me, &step.path, Level::Write)) {
            None => Ok(()),
            Some(step) => {
                let place = policy::place(&self.spot.policy, self.spot.folder, &step.path);
                Err(Failure::refused(format!("cannot restore {} in place", self.spot.shown()))
                    .why(format!("this machine may not change {place}; nothing was changed"))
                    .hint("'--to DIR' writes it elsewhere on this machine"))
            }
        }
    }

    fn in_place(&mut self, mut plan: Plan) -> Result<(), Failure> {
        for round in 1.. {
            for steps in [plan.room, plan.puts, plan.removals] {
                self.batches(steps, &mut |job, batch| {
                    let brought = job.bring(batch);
                    job.change(brought);
                });
            }
            let changed = std::mem::take(&mut self.done.changed);
            if changed.is_empty() {
                break;
            }
            if round == ROUNDS {
                let why = "it was changed here meanwhile: it stays as it is now";
                self.done.failed.extend(changed.into_iter().map(|path| (path, why.to_string())));
                break;
            }
            rt::block_on(rt::sleep(Duration::from_millis(ROUND_MS)));
            plan = self.plan()?;
        }
        Ok(())
    }

    /// Hands steps over in batches that fit into memory; a large content goes alone.
    fn batches(&mut self, steps: Vec<Step>, carry_out: &mut dyn FnMut(&mut Self, Vec<Step>)) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for step in steps.into_iter() {
            if self.done.failed.contains_key(&step.path) || self.lost.contains_key(&step.path) {
                continue;
            }
            let length = step.target.content().map_or(0, |(_, length)| length);
            if batch.len() == BATCH_MAX || bytes + length > BATCH_BYTES_MAX || length > CHUNK_BYTES_MAX as u64 {
                carry_out(self, std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += length;
            batch.push(step);
        }
        carry_out(self, batch);
    }

    /// Brings the contents of a batch here; those that cannot be had are noted.
    fn bring(&mut self, steps: Vec<Step>) -> Vec<(Step, Option<Content>)> {
        let want = |step: &Step| {
            let (content, bytes) = step.target.content()?;
            Some(Wanted { path: step.path.clone(), content, bytes })
        };
        let wanted: Vec<Wanted> = steps.iter().filter_map(want).collect();
        let mut brought = self.back.bring(&wanted).into_iter();
        let mut ready = Vec::with_capacity(steps.len());
        for step in steps {
            match step.target.content().and_then(|_| brought.next()) {
                None => ready.push((step, None)),
                Some(Ok(content)) => ready.push((step, Some(content))),
                Some(Err(why)) => {
                    self.lost.insert(step.path.clone(), Lost { step: Some(step), why });
                }
            }
        }
        ready
    }

    fn fail(&mut self, path: RelPath, why: String) {
        self.done.failed.insert(path, why);
    }

    /// Changes a batch of names in the folder.
    fn change(&mut self, steps: Vec<(Step, Option<Content>)>) {
        let mut kept = Vec::new();
        let mut changes = Vec::new();
        for (step, content) in steps {
            let content = match content.map(|content| content.stage(self.back.disk())).transpose() {
                Ok(content) => content,
                Err(error) => {
                    self.fail(step.path, reasons(&error).join(": "));
                    continue;
                }
            };
            let Step { path, expected, target } = step.clone();
            changes.push(Change { path, expected, target, content });
            kept.push(step);
        }
        if changes.is_empty() {
            return;
        }
        for (step, made) in kept.into_iter().zip(self.back.make(changes)) {
            match made {
                Ok(()) => self.done.count(&step.target),
                Err(NotMade::Changed) => {
                    self.done.changed.insert(step.path);
                }
                Err(NotMade::For(why)) => self.fail(step.path, why),
            }
        }
    }

    fn write_to(&mut self, to: &std::path::Path, steps: Vec<Step>, is_known: bool) -> Result<(), Failure> {
        let cannot = || Failure::failed(format!("cannot restore into {}", to.display()));
        let mut export = Export::open(to).map_err(|error| cannot().because(&error))?;
        self.batches(steps, &mut |job, batch| {
            let brought = job.bring(batch);
            job.export(&mut export, brought);
        });
        self.rest(is_known, &mut Way::Export(&mut export))?;
        export.finish().map_err(|error| cannot().because(&error))
    }

    /// Writes a batch of names elsewhere, each under the name that it has beside what was asked for.
    fn export(&mut self, to: &mut Export, steps: Vec<(Step, Option<Content>)>) {
        let above = self.spot.path.parent().filter(|above| !above.is_root());
        let skip = above.map_or(0, |above| above.as_bytes().len() + 1);
        for (step, content) in steps {
            let Ok(name) = RelPath::new(&step.path.as_bytes()[skip..]) else {
                self.fail(step.path, "it cannot have its name there".into());
                continue;
            };
            let written = match (&step.target, content) {
                (Target::Put { mode, mtime, .. }, Some(content)) => content.export(to, &name, (*mode, *mtime)),
                (Target::Put { what: What::Symlink(text), mtime, .. }, None) => to.symlink(&name, text, *mtime),
                (Target::Put { mode, .. }, None) => to.dir(&name, *mode),
                // Nothing else is planned where nothing is.
                (Target::Nothing | Target::Meta { .. }, _) => Ok(()),
            };
            match written {
                Ok(()) => self.done.count(&step.target),
                Err(error) => self.fail(step.path, reasons(&error).join(": ")),
            }
        }
    }

    fn answer(self, same: u64) -> Restored {
        let Self { spot, at_ms, to, dry_run, done, .. } = self;
        let failed_more = done.failed.len().saturating_sub(PAST_MAX) as u64;
        let failed = done.failed.into_iter().take(PAST_MAX);
        let failed = failed.map(|(path, why)| NotRestored { path: PathText::from_bytes(path.as_bytes()), why });
        Restored {
            path: PathText::from_bytes(spot.path.as_bytes()),
            folder: spot.named,
            at: UtcTime::from_ms(at_ms),
            to: to.as_deref().map(places::to_text),
            dry_run,
            files: done.files,
            bytes: done.bytes,
            others: done.others,
            modes: done.modes,
            removed: done.removed,
            same: same + done.archived_same,
            archived: done.archived,
            archived_at: done.archived_at,
            failed: failed.collect(),
            failed_more,
        }
    }
}
