//! The rules of one folder: who may do what on which path.
//!
//! How a level is found, and the same code does it while evaluating and afterwards:
//! 1. the most specific path with a rule for the node decides; on one path, rules on the node itself come before
//!    rules on its groups, and these before rules on everyone;
//! 2. of concurrent rules on one subject and path, the lowest counts. Of several groups the highest counts,
//!    unless one says `none`;
//! 3. a grant that was withdrawn concurrently counts only as far as it lowers. So does a *contested* rule, whose
//!    issuer lost `manage` at the same time; it replaces nothing either;
//! 4. paths that differ only in letter case or Unicode form are twins: the level is the lower one of what the
//!    exact spelling has and what all spellings together have.
//!
//! Who may change rules is another question: see `Shelf::manages`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::state::{Rule, RuleInForce};
use crate::base::path::fold;
use crate::base::{GroupId, Level, NodeId, RelPath};
use crate::wire::statement::Subject;

/// Whose level is asked for.
pub(super) struct Who<'a> {
    pub(super) node: NodeId,
    pub(super) in_group: &'a dyn Fn(GroupId) -> bool,
}

/// Reads what is in force about one subject on one path: calls back with each rule, and whether it is contested.
pub(super) trait Read<V>: Fn(&V, &mut dyn FnMut(&Rule, bool)) {}

impl<V, F: Fn(&V, &mut dyn FnMut(&Rule, bool))> Read<V> for F {}

/// A level and until when the rules that it rests on last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) level: Level,
    pub(super) until: Option<u64>,
}

/// Rules by path and subject.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shelf<V> {
    /// By `RelPath::to_key`: the order of a depth-first walk, and prefixes are found without copying.
    paths: BTreeMap<Vec<u8>, Place<V>>,
    /// Folded path to the keys of its spellings.
    spellings: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Paths where a rule on the node itself was ever below `manage`: folded path to the keys of its spellings.
    limits: BTreeMap<NodeId, BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Place<V> {
    path: RelPath,
    subjects: Subjects<V>,
}

type Subjects<V> = BTreeMap<Subject, V>;

/// The rules in force of one folder.
pub(super) type Book = Shelf<Vec<Rule>>;

impl<V> Default for Shelf<V> {
    fn default() -> Self {
        Self { paths: BTreeMap::new(), spellings: BTreeMap::new(), limits: BTreeMap::new() }
    }
}

impl<V> Shelf<V> {
    /// All paths with a rule, in the order of a depth-first walk.
    pub(super) fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.paths.values().map(|place| &place.path)
    }

    pub(super) fn entry(&mut self, path: &RelPath, subject: Subject) -> &mut V
    where
        V: Default,
    {
        let asked = Asked::new(path);
        self.spellings.entry(asked.folded.clone()).or_default().insert(asked.key.clone());
        let place = self.paths.entry(asked.key);
        let place = place.or_insert_with(|| Place { path: path.clone(), subjects: BTreeMap::new() });
        place.subjects.entry(subject).or_default()
    }

    /// Notes that a rule on `path` may limit what `subject` manages.
    pub(super) fn note(&mut self, path: &RelPath, subject: Subject, rule: &Rule) {
        if let Subject::Node(node) = subject
            && rule.level.is_some_and(|level| level < Level::Manage)
        {
            let asked = Asked::new(path);
            self.limits.entry(node).or_default().entry(asked.folded).or_default().insert(asked.key);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RelPath, Subject, &V)> {
        self.paths
            .values()
            .flat_map(|place| place.subjects.iter().map(|(subject, value)| (&place.path, *subject, value)))
    }

    /// What `who` may do on `path` at `at_ms`.
    pub(super) fn held(&self, words: impl Read<V>, who: &Who<'_>, path: &RelPath, at_ms: u64) -> Held {
        if self.paths.len() == 1
            && let Some(root) = self.on(&[])
        {
            return decide(&words, std::iter::once(vec![root]), who, at_ms);
        }
        let asked = Asked::new(path);
        let exact = decide(&words, asked.prefixes().map(|(key, _)| self.on(key).into_iter().collect()), who, at_ms);
        let has_twins = asked.prefixes().any(|(key, folded)| {
            self.spellings.get(folded).is_some_and(|spellings| spellings.iter().any(|spelling| spelling != key))
        });
        if !has_twins {
            return exact;
        }
        let all = decide(&words, asked.prefixes().map(|(_, folded)| self.on_twins(folded).collect()), who, at_ms);
        Held { level: exact.level.min(all.level), until: earlier(exact.until, all.until) }
    }

    /// Whether `who` may change the rules of `path`, and until when.
    ///
    /// `manage` on a path reaches all below it. A lower rule further down that names the node itself limits it, and
    /// then also keeps it from granting above that place, since it would give away what it does not have. Lower
    /// rules on groups and everyone do not limit it: they are its to change.
    pub(super) fn manages(
        &self,
        words: impl Read<V>,
        who: &Who<'_>,
        path: &RelPath,
        at_ms: u64,
    ) -> Option<Option<u64>> {
        let me = Subject::Node(who.node);
        let asked = Asked::new(path);
        let is_limited = |said: Said| said.lowest().is_some_and(|level| level < Level::Manage);
        let limits = self.limits.get(&who.node);
        let from_here = limits
            .into_iter()
            .flat_map(|limits| limits.range::<[u8], _>((Bound::Included(asked.folded.as_slice()), Bound::Unbounded)));
        let below = from_here.take_while(|(folded, _)| folded.starts_with(&asked.folded));
        for key in below.flat_map(|(_, spellings)| spellings).filter(|key| **key != asked.key) {
            if is_limited(weigh(&words, self.on(key).into_iter().map(|on| (on, me)), at_ms)) {
                return None;
            }
        }
        let mut until = None;
        for (key, folded) in asked.prefixes() {
            // Twins can only limit: what reaches `books` gives nothing on `Books`.
            if is_limited(weigh(&words, self.on_twins(folded).map(|on| (on, me)), at_ms)) {
                return None;
            }
            let Some(on) = self.on(key) else { continue };
            let said = weigh(&words, std::iter::once((on, me)), at_ms);
            until = earlier(until, said.until);
            if said.is_firm() {
                return Some(until);
            }
            let others = on.range(..Subject::Node(NodeId([0; 32]))).map(|(subject, _)| *subject);
            for subject in others.filter(|subject| applies(subject, who)) {
                let said = weigh(&words, std::iter::once((on, subject)), at_ms);
                if said.is_firm() && said.lowest() == Some(Level::Manage) {
                    return Some(earlier(until, said.until));
                }
            }
        }
        None
    }

    fn on(&self, key: &[u8]) -> Option<&Subjects<V>> {
        self.paths.get(key).map(|place| &place.subjects)
    }

    fn on_twins(&self, folded: &[u8]) -> impl Iterator<Item = &Subjects<V>> {
        let spellings = self.spellings.get(folded).into_iter().flatten();
        spellings.filter_map(|key| self.on(key))
    }
}

/// A path as the shelf looks it up.
struct Asked {
    key: Vec<u8>,
    folded: Vec<u8>,
}

impl Asked {
    fn new(path: &RelPath) -> Self {
        Self { key: path.to_key(), folded: folded(path) }
    }

    /// The keys of the path and of all above it, most specific first, the root last.
    fn prefixes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::successors(Some((self.key.as_slice(), self.folded.as_slice())), |(key, folded)| {
            let (_, shorter) = folded.split_last()?;
            let key_end = key.iter().rposition(|b| *b == 0).unwrap_or(0);
            let folded_end = shorter.iter().rposition(|b| *b == 0).map_or(0, |at| at + 1);
            Some((&key[..key_end], &folded[..folded_end]))
        })
    }
}

impl Book {
    pub(super) fn level(&self, who: &Who<'_>, path: &RelPath, at_ms: u64) -> Level {
        self.held(read, who, path, at_ms).level
    }

    pub(super) fn managed(&self, who: &Who<'_>, path: &RelPath, at_ms: u64) -> bool {
        self.manages(read, who, path, at_ms).is_some()
    }

    pub(super) fn list(&self) -> Vec<RuleInForce> {
        let rules = self.iter().flat_map(|(path, subject, rules)| {
            rules.iter().map(move |rule| RuleInForce { subject, path: path.clone(), rule: rule.clone() })
        });
        rules.filter(|listed| listed.rule.level.is_some()).collect()
    }
}

fn read(rules: &Vec<Rule>, each: &mut dyn FnMut(&Rule, bool)) {
    for rule in rules {
        each(rule, rule.contested);
    }
}

/// What was said about some subjects on one path.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    firm: Option<Level>,
    cap: Option<Level>,
    withdrawn: bool,
    until: Option<u64>,
}

impl Said {
    fn lowest(&self) -> Option<Level> {
        match (self.firm, self.cap) {
            (Some(firm), Some(cap)) => Some(firm.min(cap)),
            (firm, cap) => firm.or(cap),
        }
    }

    /// Whether this decides, instead of only lowering what is decided elsewhere.
    fn is_firm(&self) -> bool {
        self.firm.is_some() && !self.withdrawn
    }
}

/// Walks from the most specific path to the root until something decides.
fn decide<'a, V: 'a>(
    words: &impl Read<V>,
    levels: impl Iterator<Item = Vec<&'a Subjects<V>>>,
    who: &Who<'_>,
    at_ms: u64,
) -> Held {
    let mut held = Held { level: Level::Manage, until: None };
    for maps in levels {
        if maps.is_empty() {
            continue;
        }
        let on = |subject: Subject| weigh(words, maps.iter().map(|map| (*map, subject)), at_ms);
        for said in [on(Subject::Node(who.node)), of_groups(&maps, &on, who), on(Subject::Everyone)] {
            if let Some(level) = said.lowest() {
                held = Held { level: held.level.min(level), until: earlier(held.until, said.until) };
            }
            if said.is_firm() {
                return held;
            }
        }
    }
    Held { level: Level::None, until: held.until }
}

/// Several groups together: `none` wins, else the highest; contested rules of any only lower.
fn of_groups<V>(maps: &[&Subjects<V>], on: &impl Fn(Subject) -> Said, who: &Who<'_>) -> Said {
    let subjects: BTreeSet<Subject> = maps
        .iter()
        .flat_map(|map| map.range(Subject::Group(GroupId([0; 16]))..=Subject::Group(GroupId([0xff; 16]))))
        .map(|(subject, _)| *subject)
        .filter(|subject| applies(subject, who))
        .collect();
    let mut all = Said::default();
    let mut any_firm = false;
    let mut some_withdrawn = false;
    for said in subjects.into_iter().map(on) {
        all.firm = match (all.firm, said.firm) {
            (Some(a), Some(b)) if a.min(b) == Level::None => Some(Level::None),
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        all.cap = match (all.cap, said.cap) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        any_firm |= said.is_firm();
        some_withdrawn |= said.withdrawn;
        all.until = earlier(all.until, said.until);
    }
    all.withdrawn = some_withdrawn || !any_firm;
    all
}

fn weigh<'a, V: 'a>(
    words: &impl Read<V>,
    subjects: impl Iterator<Item = (&'a Subjects<V>, Subject)>,
    at_ms: u64,
) -> Said {
    let mut said = Said::default();
    for (map, subject) in subjects {
        let Some(value) = map.get(&subject) else { continue };
        words(value, &mut |rule, contested| {
            let Some(level) = rule.level else {
                said.withdrawn = true;
                return;
            };
            if rule.not_after.is_some_and(|last| last < at_ms) {
                return;
            }
            let slot = if contested { &mut said.cap } else { &mut said.firm };
            *slot = Some(slot.map_or(level, |other| other.min(level)));
            said.until = earlier(said.until, rule.not_after);
        });
    }
    said
}

fn applies(subject: &Subject, who: &Who<'_>) -> bool {
    match subject {
        Subject::Everyone => true,
        Subject::Group(group) => (who.in_group)(*group),
        Subject::Node(node) => *node == who.node,
    }
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The form in which twins are equal, components ended by NUL. See `base::path::fold`.
fn folded(path: &RelPath) -> Vec<u8> {
    let mut key = Vec::with_capacity(path.as_bytes().len() + 1);
    for name in path.components() {
        fold(name, &mut key);
        key.push(0);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_on_other_file_systems_fold_to_one_key() {
        let path = |text: &str| RelPath::new(text).expect("valid");
        for (one, other) in [("Books", "bOOKS"), ("gr\u{fc}n", "GRU\u{308}N"), ("stra\u{df}e/x", "STRASSE/x")] {
            assert_eq!(folded(&path(one)), folded(&path(other)), "{one} {other}");
        }
        assert_ne!(folded(&path("ab/c")), folded(&path("a/bc")));
        assert!(!folded(&path("books/a")).starts_with(&folded(&path("book"))));
    }
}
