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

use unicode_normalization::UnicodeNormalization;

use super::state::{Rule, RuleInForce};
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
    paths: BTreeMap<RelPath, BTreeMap<Subject, V>>,
    /// Folded path to its spellings.
    spellings: BTreeMap<Vec<u8>, BTreeSet<RelPath>>,
    /// Paths with a rule on the node itself, by their folded form.
    named: BTreeMap<NodeId, BTreeSet<(Vec<u8>, RelPath)>>,
}

/// The rules in force of one folder.
pub(super) type Book = Shelf<Vec<Rule>>;

impl<V> Default for Shelf<V> {
    fn default() -> Self {
        Self { paths: BTreeMap::new(), spellings: BTreeMap::new(), named: BTreeMap::new() }
    }
}

impl<V> Shelf<V> {
    /// All paths with a rule, in the order of a depth-first walk.
    pub(super) fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.paths.keys()
    }

    pub(super) fn entry(&mut self, path: &RelPath, subject: Subject) -> &mut V
    where
        V: Default,
    {
        self.spellings.entry(folded(path)).or_default().insert(path.clone());
        if let Subject::Node(node) = subject {
            self.named.entry(node).or_default().insert((folded(path), path.clone()));
        }
        self.paths.entry(path.clone()).or_default().entry(subject).or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RelPath, Subject, &V)> {
        self.paths
            .iter()
            .flat_map(|(path, subjects)| subjects.iter().map(move |(subject, value)| (path, *subject, value)))
    }

    /// What `who` may do on `path` at `at_ms`.
    pub(super) fn held(&self, words: impl Read<V>, who: &Who<'_>, path: &RelPath, at_ms: u64) -> Held {
        let prefixes = prefixes(path);
        let exact = prefixes.iter().map(|prefix| self.paths.get(prefix).into_iter().collect::<Vec<_>>());
        let held = decide(&words, exact, who, at_ms);
        if self.paths.len() == 1 && self.paths.contains_key(&RelPath::root()) {
            return held;
        }
        let spelled: Vec<Vec<_>> = prefixes.iter().map(|prefix| self.spelled(prefix)).collect();
        if spelled
            .iter()
            .zip(&prefixes)
            .all(|(maps, prefix)| maps.len() == usize::from(self.paths.contains_key(prefix)))
        {
            return held;
        }
        let twins = decide(&words, spelled.into_iter(), who, at_ms);
        Held { level: held.level.min(twins.level), until: earlier(held.until, twins.until) }
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
        let spoken = |subjects: &[(&BTreeMap<Subject, V>, Subject)]| weigh(&words, subjects.iter().copied(), at_ms);
        let key = folded(path);
        let named = self.named.get(&who.node).into_iter();
        let from_here = named.flat_map(|named| named.range((key.clone(), RelPath::root())..));
        for (_, below) in from_here.take_while(|(other, _)| other.starts_with(&key)) {
            if below != path
                && let Some(map) = self.paths.get(below)
            {
                let said = spoken(&[(map, me)]);
                if said.lowest().is_some_and(|level| level < Level::Manage) {
                    return None;
                }
            }
        }
        let mut until = None;
        for prefix in prefixes(path) {
            // Twins can only limit: what reaches `books` gives nothing on `Books`.
            let twins: Vec<_> = self.spelled(&prefix).into_iter().map(|map| (map, me)).collect();
            if spoken(&twins).lowest().is_some_and(|level| level < Level::Manage) {
                return None;
            }
            let exact: Vec<_> = self.paths.get(&prefix).into_iter().map(|map| (map, me)).collect();
            let said = spoken(&exact);
            until = earlier(until, said.until);
            if said.is_firm() {
                return Some(until);
            }
            let Some(map) = self.paths.get(&prefix) else { continue };
            for subject in map.keys().filter(|subject| applies(subject, who) && **subject != me) {
                let said = spoken(&[(map, *subject)]);
                if said.is_firm() && said.lowest() == Some(Level::Manage) {
                    return Some(earlier(until, said.until));
                }
            }
        }
        None
    }

    fn spelled(&self, prefix: &RelPath) -> Vec<&BTreeMap<Subject, V>> {
        let spellings = self.spellings.get(&folded(prefix));
        spellings.into_iter().flatten().filter_map(|spelling| self.paths.get(spelling)).collect()
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
    levels: impl Iterator<Item = Vec<&'a BTreeMap<Subject, V>>>,
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
fn of_groups<V>(maps: &[&BTreeMap<Subject, V>], on: &impl Fn(Subject) -> Said, who: &Who<'_>) -> Said {
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
    subjects: impl Iterator<Item = (&'a BTreeMap<Subject, V>, Subject)>,
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

/// The path and all above it, most specific first, the root last.
fn prefixes(path: &RelPath) -> Vec<RelPath> {
    let mut prefixes = vec![path.clone()];
    prefixes.extend(path.ancestors());
    if !path.is_root() {
        prefixes.push(RelPath::root());
    }
    prefixes
}

/// The form in which twins are equal: components in NFC and without letter case, each ended by NUL.
///
/// Case goes up and down again, so that letters without a single lower-case partner (`ß`, `ẞ`, `SS`) fold alike.
fn folded(path: &RelPath) -> Vec<u8> {
    let mut key = Vec::with_capacity(path.as_bytes().len() + 1);
    for name in path.components() {
        match std::str::from_utf8(name) {
            Ok(name) if name.is_ascii() => key.extend(name.bytes().map(|b| b.to_ascii_lowercase())),
            Ok(name) => {
                let upper: String = name.nfc().flat_map(char::to_uppercase).collect();
                let lower: String = upper.chars().flat_map(char::to_lowercase).nfc().collect();
                key.extend_from_slice(lower.as_bytes());
            }
            Err(_) => key.extend(name.iter().map(u8::to_ascii_lowercase)),
        }
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
