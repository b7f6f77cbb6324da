//! Evaluation: the policy that a set of statements adds up to. A pure function of the set.
//!
//! Passes, each ancestors first, so that a statement finds the verdicts on all it stands on:
//! 1. membership (`membership.rs`), with strong removal;
//! 2. everything else by causal authority: what the issuer was and could manage by its own ancestors;
//! 3. rules that a manager signed while its `manage` was lowered concurrently become *contested*: they replace
//!    nothing and only lower. So lowering somebody never widens what another has;
//! 4. the newest words about each thing make the policy.
//!
//! Page: `docs/spec/policy.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use super::membership::{Membership, Standing};
use super::rules::{Read, Shelf, Who};
use super::set::{Clock, Slot, StatementSet};
use super::state::{FolderState, GroupState, Member, Policy, Rule, Void, Wanted};
use super::timeline::Timeline;
use crate::base::{FolderId, GroupId, Level, NodeId, RelPath, Role, StatementId, Writer};
use crate::wire::statement::{Body, FolderFrontier, Named, Range, Statement, Subject};

/// Folders that one node may create, counted along its own chain.
pub const FOLDERS_MAX: u32 = 100;
/// Rules that a manager who is no admin may sign on one folder, counted along its own chain. A guess: far above
/// what people write by hand; bounds what one member can cost everyone's evaluation.
pub const RULES_MAX: u32 = 1000;

/// Statements that heads name and the set does not have. Nothing was evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} statements are not here yet", .0.len())]
pub struct MissingStatements(pub Vec<StatementId>);

/// The policy of a whole set.
pub fn evaluate(set: &StatementSet) -> Policy {
    Evaluation::run(set, None)
}

/// The policy as somebody saw it who knew `heads` and their ancestors.
pub fn policy_at(set: &StatementSet, heads: &[StatementId]) -> Result<Policy, MissingStatements> {
    let missing: Vec<StatementId> = heads.iter().filter(|id| !set.contains(id)).copied().collect();
    if !missing.is_empty() {
        return Err(MissingStatements(missing));
    }
    let mut closure = Clock::default();
    for slot in heads.iter().filter_map(|id| set.slot(id)) {
        set.close_over(&mut closure, slot);
    }
    Ok(Evaluation::run(set, Some(&closure)))
}

/// Passes 1 and 2, done: which statements have an effect, and what was said about each thing.
pub(super) struct Evaluation<S> {
    pub(super) set: S,
    pub(super) membership: Membership<S>,
    mesh_names: Timeline<String>,
    node_names: BTreeMap<NodeId, Timeline<String>>,
    pub(super) folders: BTreeMap<FolderId, Draft>,
    pub(super) groups: BTreeMap<GroupId, Timeline<(String, BTreeSet<NodeId>)>>,
    eligible: BTreeMap<NodeId, Timeline<Option<u16>>>,
    copies: BTreeMap<FolderId, Timeline<Wanted>>,
    pub(super) stopped: BTreeMap<Option<FolderId>, StatementId>,
    created_by: BTreeMap<NodeId, u32>,
    rules_by: BTreeMap<(FolderId, NodeId), u32>,
    /// Rules by managers who are no admins: to be looked at for contest.
    pub(super) delegated: Vec<(Slot, FolderId)>,
    /// By folder: ranges of entries that are kept.
    pub(super) vouches: BTreeMap<FolderId, Vec<Range>>,
    pub(super) verdicts: BTreeMap<FolderId, Vec<(Slot, Range, bool)>>,
    /// By the statement that is sealed: the seals, and whether each is an admin's.
    pub(super) seals: BTreeMap<StatementId, Vec<(Slot, bool)>>,
    pub(super) forks: BTreeMap<FolderId, Vec<(Slot, Writer, u64)>>,
    pub(super) reinstated: BTreeMap<FolderId, Vec<(Slot, Writer)>>,
    pub(super) void: BTreeMap<StatementId, Void>,
}

pub(super) struct Draft {
    pub(super) created: Slot,
    creator: NodeId,
    names: Timeline<String>,
    pub(super) retired: Vec<Slot>,
    pub(super) shelf: Shelf<Timeline<Rule>>,
    /// Rules that can lower somebody, all but grants of `manage`, by lane.
    lowering: BTreeMap<u32, Vec<Slot>>,
}

impl<S: Deref<Target = StatementSet> + Clone> Evaluation<S> {
    fn run(set: S, closure: Option<&Clock>) -> Policy {
        let evaluation = Self::prepare(set, closure);
        let contested = evaluation.contested(&|_| true);
        evaluation.finish(&contested)
    }

    /// Passes 1 and 2 over the whole set, or what is within `closure`.
    pub(super) fn prepare(set: S, closure: Option<&Clock>) -> Self {
        let mut evaluation = Self {
            membership: Membership::evaluate(set.clone(), closure),
            set: set.clone(),
            mesh_names: Timeline::default(),
            node_names: BTreeMap::new(),
            folders: BTreeMap::new(),
            groups: BTreeMap::new(),
            eligible: BTreeMap::new(),
            copies: BTreeMap::new(),
            stopped: BTreeMap::new(),
            created_by: BTreeMap::new(),
            rules_by: BTreeMap::new(),
            delegated: Vec::new(),
            vouches: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            seals: BTreeMap::new(),
            forks: BTreeMap::new(),
            reinstated: BTreeMap::new(),
            void: BTreeMap::new(),
        };
        for slot in set.ordered_slots().filter(|slot| closure.is_none_or(|closure| set.is_within(closure, *slot))) {
            let statement = set.statement(slot);
            if let Err(reason) = evaluation.take(slot, statement) {
                evaluation.void.insert(statement.id(), reason);
            }
        }
        evaluation
    }

    fn take(&mut self, slot: Slot, statement: &Statement) -> Result<(), Void> {
        let issuer = statement.head().issuer;
        if let Some(reason) = self.membership.void.get(&slot) {
            return Err(reason.clone());
        }
        match statement.body() {
            Body::Found(found) => {
                self.mesh_names.push(&self.set, slot, found.name.to_string());
                self.name_node(issuer, slot, &found.node_name);
                Ok(())
            }
            Body::Admit(admit) => {
                self.name_node(admit.node, slot, &admit.name);
                Ok(())
            }
            Body::Expel(_) | Body::SetRole(_) => Ok(()),
            Body::Rename(rename) => self.rename(slot, issuer, rename.what, &rename.name),
            Body::Group(group) => {
                self.must_be_admin(issuer, slot)?;
                let name = checked_name(&group.name)?;
                let members = group.members.iter().copied().collect();
                self.groups.entry(group.group).or_default().push(&self.set, slot, (name, members));
                Ok(())
            }
            Body::CreateFolder(create) => self.create_folder(slot, statement, &create.name),
            Body::Grant(grant) => {
                self.must_exist(grant.subject, slot)?;
                let rule = rule(statement, Some(grant.level), grant.not_after);
                self.add_rule(slot, grant.folder, grant.subject, &grant.path, rule)
            }
            Body::Revoke(revoke) => {
                let rule = rule(statement, None, None);
                self.add_rule(slot, revoke.folder, revoke.subject, &revoke.path, rule)
            }
            Body::RetireFolder(retire) => {
                self.must_manage(slot, issuer, retire.folder, &RelPath::root())?;
                self.draft(retire.folder, slot)?.retired.push(slot);
                Ok(())
            }
            Body::Eligible(eligible) => {
                self.must_be_admin(issuer, slot)?;
                self.must_exist(Subject::Node(eligible.node), slot)?;
                self.eligible.entry(eligible.node).or_default().push(&self.set, slot, eligible.priority);
                Ok(())
            }
            Body::Vouch(vouch) => {
                self.must_manage(slot, issuer, vouch.folder, &RelPath::root())?;
                self.vouches.entry(vouch.folder).or_default().extend(vouch.ranges.iter().cloned());
                Ok(())
            }
            Body::Verdict(verdict) => {
                self.must_manage(slot, issuer, verdict.folder, &RelPath::root())?;
                let said = (slot, verdict.range.clone(), verdict.release);
                self.verdicts.entry(verdict.folder).or_default().push(said);
                Ok(())
            }
            Body::Seal(seal) => self.seal(slot, issuer, seal.grant),
            // It proves itself, so it does not matter who found it.
            Body::Fork(fork) => {
                let common = self.set.proven_fork(slot).ok_or(Void::NoProof(fork.writer.node))?;
                self.forks.entry(fork.folder).or_default().push((slot, fork.writer, common));
                Ok(())
            }
            Body::Reinstate(reinstate) => {
                self.must_manage(slot, issuer, reinstate.folder, &RelPath::root())?;
                self.reinstated.entry(reinstate.folder).or_default().push((slot, reinstate.writer));
                Ok(())
            }
            Body::Copies(copies) => {
                self.must_manage(slot, issuer, copies.folder, &RelPath::root())?;
                let wanted = Wanted { nodes: copies.nodes, server: copies.server };
                self.copies.entry(copies.folder).or_default().push(&self.set, slot, wanted);
                Ok(())
            }
            // Known to the format, not to this version: the same as a kind that a later version gave.
            body @ Body::Pass(_) => self.needs_newer(slot, statement, body.kind(), true),
            Body::Unknown { kind, critical } => self.needs_newer(slot, statement, *kind, *critical),
        }
    }

    /// Admins seal anything; who manages the root of a folder seals what concerns that folder.
    fn seal(&mut self, slot: Slot, issuer: NodeId, sealed: StatementId) -> Result<(), Void> {
        let target = self.set.slot(&sealed).filter(|target| self.set.before(*target, slot));
        let target = target.filter(|target| lowers(self.set.statement(*target).body()));
        if target.is_none() || self.void.contains_key(&sealed) {
            return Err(Void::NothingToSeal(sealed));
        }
        let is_admin = self.membership.standing_at(issuer, slot)? == Standing::Admin;
        let head = self.set.statement(slot).head();
        let manages = |f: &FolderFrontier| self.manages_root(slot, issuer, f.folder);
        if !is_admin && !head.frontiers.iter().any(manages) {
            return Err(Void::NotAnAdmin(issuer));
        }
        self.seals.entry(sealed).or_default().push((slot, is_admin));
        Ok(())
    }

    /// Who may not say it cannot stop anyone with it either: only an admin, or a manager of the folder it is about.
    fn needs_newer(&mut self, slot: Slot, statement: &Statement, kind: u16, critical: bool) -> Result<(), Void> {
        let (issuer, scope) = (statement.head().issuer, statement.head().scope);
        match scope {
            Some(folder) => self.must_manage(slot, issuer, folder, &RelPath::root()).map(|_| ())?,
            None => self.must_be_admin(issuer, slot)?,
        }
        if critical {
            self.stopped.entry(scope).or_insert(statement.id());
        }
        Err(Void::NeedsNewer(kind))
    }

    fn rename(&mut self, slot: Slot, issuer: NodeId, what: Named, name: &str) -> Result<(), Void> {
        let name = checked_name(name)?;
        match what {
            Named::Mesh => {
                self.must_be_admin(issuer, slot)?;
                self.mesh_names.push(&self.set, slot, name);
            }
            Named::Node(node) => {
                if node == issuer {
                    self.membership.standing_at(issuer, slot)?;
                } else {
                    self.must_be_admin(issuer, slot)?;
                }
                self.must_exist(Subject::Node(node), slot)?;
                self.name_node(node, slot, &name);
            }
            Named::Folder(folder) => {
                self.must_manage(slot, issuer, folder, &RelPath::root())?;
                folder_name(&name)?;
                let set = self.set.clone();
                self.draft(folder, slot)?.names.push(&set, slot, name);
            }
        }
        Ok(())
    }

    fn create_folder(&mut self, slot: Slot, statement: &Statement, name: &str) -> Result<(), Void> {
        let issuer = statement.head().issuer;
        self.membership.standing_at(issuer, slot)?;
        folder_name(name)?;
        let created = self.created_by.entry(issuer).or_default();
        if *created >= FOLDERS_MAX {
            return Err(Void::TooManyFolders(issuer));
        }
        *created += 1;
        let mut draft = Draft {
            created: slot,
            creator: issuer,
            names: Timeline::default(),
            retired: Vec::new(),
            shelf: Shelf::default(),
            lowering: BTreeMap::new(),
        };
        draft.names.push(&self.set, slot, name.to_string());
        let manage = rule(statement, Some(Level::Manage), None);
        draft.shelf.entry(&RelPath::root(), Subject::Node(issuer)).push(&self.set, slot, manage);
        self.folders.insert(FolderId(statement.id().0), draft);
        Ok(())
    }

    fn add_rule(
        &mut self,
        slot: Slot,
        folder: FolderId,
        subject: Subject,
        path: &RelPath,
        mut rule: Rule,
    ) -> Result<(), Void> {
        let issuer = rule.by;
        let authority = self.must_manage(slot, issuer, folder, path)?;
        if let Authority::Delegated { until } = authority {
            let signed = self.rules_by.entry((folder, issuer)).or_default();
            *signed += 1;
            if *signed > RULES_MAX {
                return Err(Void::TooManyRules { issuer, folder });
            }
            // What is handed on lasts no longer than what its giver holds.
            if rule.level.is_some() {
                rule.not_after = match (rule.not_after, until) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            self.delegated.push((slot, folder));
        }
        let set = self.set.clone();
        let lowers = rule.level != Some(Level::Manage);
        let draft = self.draft(folder, slot)?;
        draft.shelf.note(path, subject, &rule);
        draft.shelf.entry(path, subject).push(&set, slot, rule);
        if lowers {
            draft.lowering.entry(set.lane(slot)).or_default().push(slot);
        }
        Ok(())
    }

    /// Pass 3, over the statements that `visible` shows.
    pub(super) fn contested(&self, visible: &dyn Fn(Slot) -> bool) -> BTreeSet<Slot> {
        let mut contested = BTreeSet::new();
        for (slot, folder) in self.delegated.iter().copied().filter(|(slot, _)| visible(*slot)) {
            let (Some(draft), statement) = (self.folders.get(&folder), self.set.statement(slot)) else { continue };
            // Nothing new was said meanwhile; it may still fall with what it stands on.
            let meanwhile = draft.lowering.values().any(|chain| self.set.any_concurrent(chain, slot, visible));
            if !meanwhile && contested.is_empty() {
                continue;
            }
            let path = match statement.body() {
                Body::Grant(grant) => &grant.path,
                Body::Revoke(revoke) => &revoke.path,
                _ => continue,
            };
            let view = |other: Slot, rule: &Rule| {
                self.set.before(other, slot)
                    || (rule.level != Some(Level::Manage) && visible(other) && self.set.concurrent(other, slot))
            };
            let weak = |other: Slot| contested.contains(&other) || !self.set.before(other, slot);
            let read = |words: &Timeline<Rule>, each: &mut dyn FnMut(&Rule, bool)| {
                words.in_force(&self.set, view, weak).into_iter().for_each(|(other, rule)| each(rule, weak(other)));
            };
            if self.manages(draft, slot, path, read).is_none() {
                contested.insert(slot);
            }
        }
        contested
    }

    fn must_be_admin(&self, issuer: NodeId, slot: Slot) -> Result<(), Void> {
        match self.membership.standing_at(issuer, slot)? {
            Standing::Admin => Ok(()),
            _ => Err(Void::NotAnAdmin(issuer)),
        }
    }

    /// Whether `issuer` managed the root of a folder when it signed `slot`.
    pub(super) fn manages_root(&self, slot: Slot, issuer: NodeId, folder: FolderId) -> bool {
        self.must_manage(slot, issuer, folder, &RelPath::root()).is_ok()
    }

    fn must_manage(&self, slot: Slot, issuer: NodeId, folder: FolderId, path: &RelPath) -> Result<Authority, Void> {
        let standing = self.membership.standing_at(issuer, slot)?;
        let draft = self.folders.get(&folder).filter(|draft| self.set.before(draft.created, slot));
        let draft = draft.ok_or(Void::NoSuchFolder(folder))?;
        if draft.retired.iter().any(|retired| self.set.before(*retired, slot)) {
            return Err(Void::Retired(folder));
        }
        if standing == Standing::Admin {
            return Ok(Authority::Admin);
        }
        let read = |words: &Timeline<Rule>, each: &mut dyn FnMut(&Rule, bool)| {
            words.newest_before(&self.set, slot).into_iter().for_each(|(_, rule)| each(rule, false));
        };
        match self.manages(draft, slot, path, read) {
            Some(until) => Ok(Authority::Delegated { until }),
            None => Err(Void::MayNotManage { issuer, folder, path: path.clone() }),
        }
    }

    /// Whether the issuer of `slot` may manage `path`, by the words that `read` shows; and until when.
    fn manages(
        &self,
        draft: &Draft,
        slot: Slot,
        path: &RelPath,
        read: impl Read<Timeline<Rule>>,
    ) -> Option<Option<u64>> {
        let head = self.set.statement(slot).head();
        let issuer = head.issuer;
        let in_group = |group: GroupId| {
            self.groups.get(&group).is_some_and(|versions| {
                let newest = versions.newest_before(&self.set, slot);
                !newest.is_empty() && newest.iter().all(|(_, (_, members))| members.contains(&issuer))
            })
        };
        let who = Who { node: issuer, in_group: &in_group };
        draft.shelf.manages(read, &who, path, head.time.ms)
    }

    fn must_exist(&self, subject: Subject, slot: Slot) -> Result<(), Void> {
        match subject {
            Subject::Everyone => Ok(()),
            Subject::Node(node) if self.membership.is_known_at(node, slot) => Ok(()),
            Subject::Node(node) => Err(Void::NoSuchMember(node)),
            Subject::Group(group) => {
                let versions = self.groups.get(&group).into_iter().flat_map(Timeline::iter);
                let known = versions.into_iter().any(|(other, _)| self.set.before(other, slot));
                if known { Ok(()) } else { Err(Void::NoSuchGroup(group)) }
            }
        }
    }

    fn draft(&mut self, folder: FolderId, slot: Slot) -> Result<&mut Draft, Void> {
        let set = self.set.clone();
        let draft = self.folders.get_mut(&folder).filter(|draft| set.before(draft.created, slot));
        draft.ok_or(Void::NoSuchFolder(folder))
    }

    fn name_node(&mut self, node: NodeId, slot: Slot, name: &str) {
        self.node_names.entry(node).or_default().push(&self.set, slot, name.to_string());
    }

    /// Of concurrent names the last in the set's order: names give nobody anything.
    fn last_name(&self, names: &Timeline<String>) -> String {
        names.newest(&self.set).first().map(|(_, name)| (*name).clone()).unwrap_or_default()
    }

    /// Pass 4.
    fn finish(self, contested: &BTreeSet<Slot>) -> Policy {
        let set = &*self.set;
        let mut members = BTreeMap::new();
        let mut former = BTreeMap::new();
        let mut expulsions = 0;
        for (node, facts) in self.membership.facts() {
            let name = self.node_names.get(&node).map(|names| self.last_name(names)).unwrap_or_default();
            expulsions += facts.iter().filter(|(_, fact)| fact.standing == Standing::Out).count() as u64;
            let role = match self.membership.standing(node) {
                Standing::Out => {
                    former.insert(node, name);
                    continue;
                }
                Standing::Member => Role::Member,
                Standing::Admin => Role::Admin,
            };
            let admission = facts.iter().rev().find(|(_, fact)| fact.admits);
            let Some((slot, _)) = admission else { continue };
            let statement = set.statement(slot);
            let (by, since) = (statement.head().issuer, statement.head().time);
            members.insert(node, Member { name, role, admitted: statement.id(), by, since });
        }
        let folders = self.folders.iter().map(|(id, draft)| (*id, self.folder_state(draft, contested))).collect();
        let groups = self.groups.iter().map(|(id, versions)| (*id, group_state(set, versions))).collect();
        let eligible = self.eligible.iter().filter_map(|(node, versions)| {
            // Of concurrent words the lowest counts; "not eligible" is lowest.
            let lowest = versions.newest(set).into_iter().map(|(_, priority)| *priority).min()?;
            Some((*node, lowest?))
        });
        let copies = self.copies.iter().map(|(folder, versions)| {
            // Of concurrent wishes both count: a copy too many harms nobody.
            let newest = versions.newest(set).into_iter().map(|(_, wanted)| *wanted);
            (*folder, newest.fold(Wanted::default(), Wanted::or))
        });
        Policy {
            mesh: set.mesh(),
            name: self.last_name(&self.mesh_names),
            recovery: set.recovery(),
            members,
            former,
            expulsions,
            folders,
            groups,
            eligible: eligible.collect(),
            copies: copies.collect(),
            stopped: self.stopped.clone(),
            created_by: self.created_by.clone(),
            void: self.void,
        }
    }

    fn folder_state(&self, draft: &Draft, contested: &BTreeSet<Slot>) -> FolderState {
        let mut book: Shelf<Vec<Rule>> = Shelf::default();
        for (path, subject, words) in draft.shelf.iter() {
            let in_force = words.in_force(&self.set, |_, _| true, |slot| contested.contains(&slot));
            let mut rules: Vec<Rule> = in_force
                .into_iter()
                .map(|(slot, rule)| Rule { contested: contested.contains(&slot), ..rule.clone() })
                .collect();
            rules.reverse();
            rules.iter().for_each(|rule| book.note(path, subject, rule));
            *book.entry(path, subject) = rules;
        }
        FolderState {
            name: self.last_name(&draft.names),
            creator: draft.creator,
            created: self.set.statement(draft.created).head().time,
            retired: !draft.retired.is_empty(),
            book,
        }
    }
}

/// Whether a sentence can lower somebody's level.
pub(super) fn lowers(body: &Body) -> bool {
    matches!(body, Body::Expel(_) | Body::Group(_) | Body::Grant(_) | Body::Revoke(_) | Body::RetireFolder(_))
}

/// By what right a rule was signed.
enum Authority {
    Admin,
    Delegated { until: Option<u64> },
}

fn rule(statement: &Statement, level: Option<Level>, not_after: Option<u64>) -> Rule {
    let head = statement.head();
    Rule { level, not_after, statement: statement.id(), by: head.issuer, since: head.time, contested: false }
}

fn group_state(set: &StatementSet, versions: &Timeline<(String, BTreeSet<NodeId>)>) -> GroupState {
    let newest = versions.newest(set);
    let Some((_, (name, first))) = newest.first() else { return GroupState::default() };
    let mut members = first.clone();
    let mut disputed = BTreeSet::new();
    for (_, (_, version)) in &newest {
        disputed.extend(version);
        members.retain(|node| version.contains(node));
    }
    disputed.retain(|node| !members.contains(node));
    GroupState { name: name.clone(), members, disputed }
}

/// A folder's name becomes a directory's name on every member.
pub(super) fn folder_name(name: &str) -> Result<(), Void> {
    match RelPath::root().join(name) {
        Ok(_) => checked_name(name).map(|_| ()),
        Err(_) => Err(Void::BadName(name.to_string())),
    }
}

pub(super) fn checked_name(name: &str) -> Result<String, Void> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(Void::BadName(name.to_string()));
    }
    Ok(name.to_string())
}
