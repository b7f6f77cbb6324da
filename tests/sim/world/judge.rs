//! What must be true of an office at rest.

use std::collections::BTreeSet;

use lanyard::base::{ContentId, Kind, RelPath};
use lanyard::logic::sync::index::Look;

use super::{ROUNDS_MAX, World, describe, family};
use crate::disk::{Body, Tree};
use crate::node::{Node, content};
use crate::parcel::Parcel;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::user;

impl World {
    /// Names whose content is on no disk any more: who saved it threw it away before anyone had fetched it, and the
    /// deletion was lost with an index or is not said yet.
    fn unattainable(&self) -> BTreeSet<RelPath> {
        let mut names = BTreeSet::new();
        for node in &self.nodes {
            for path in node.index.needs(None, usize::MAX).expect("memory") {
                let heads = node.index.path(&path).expect("memory").unwrap_or_default().heads;
                let contents = heads.iter().filter_map(|head| head.what().content());
                if contents.into_iter().any(|id| self.nodes.iter().all(|other| other.local(id).is_none())) {
                    names.insert(family(&path));
                }
            }
        }
        names
    }

    /// Contents that a node does not show yet, for their names wait for one that is nowhere.
    fn behind(&self, node: &Node, waits: &BTreeSet<RelPath>) -> BTreeSet<ContentId> {
        let mut behind = BTreeSet::new();
        for path in node.index.needs(None, usize::MAX).expect("memory") {
            let heads = node.index.path(&path).expect("memory").unwrap_or_default().heads;
            if waits.contains(&family(&path)) {
                behind.extend(heads.iter().filter_map(|head| head.what().content()));
            }
        }
        behind
    }

    /// A conflict copy that is still there, though nothing that is nowhere is waited for.
    pub(crate) fn copy_left(&self) -> Option<RelPath> {
        let waits = self.unattainable();
        let paths = self.nodes[0].disk().paths();
        paths.into_iter().find(|path| user::is_copy(path) && !waits.contains(&family(path)))
    }

    /// Judges an office at rest.
    pub(crate) fn judge(&self) -> Result<(), String> {
        let waits = self.unattainable();
        let excused = |path: &RelPath| waits.iter().any(|name| name.starts_with(&family(path)));
        let only = |mut tree: Tree| {
            tree.retain(|path, _| !excused(path));
            tree
        };
        let first = only(self.nodes[0].disk().tree());
        for node in &self.nodes {
            let whole = node.disk().tree();
            let tree = only(whole.clone());
            let late = self.behind(node, &waits);
            self.oracle.judge(node.at, &whole, &tree, &|bytes| late.contains(&content(bytes).0))?;
            if self.oracle.readers.contains(&node.at) {
                self.judge_reader(&first, &tree)?;
                continue;
            }
            let mut needs = node.index.needs(None, usize::MAX).expect("memory");
            needs.retain(|path| !excused(path));
            if tree != first {
                return Err(format!("divergence of node 0 and {}: {}", node.at, difference(&first, &tree)));
            }
            if !needs.is_empty() {
                return Err(format!("node {} is at rest and still needs {needs:?}", node.at));
            }
        }
        Ok(())
    }

    /// A reader differs only where its own user did something.
    fn judge_reader(&self, office: &Tree, own: &Tree) -> Result<(), String> {
        let touched = &self.oracle.touched_by_readers;
        let excused = |path: &RelPath| {
            let owner = user::owner(path);
            let disputed = |t: &RelPath| owner.as_ref().is_some_and(|owner| t.starts_with(owner));
            touched.iter().any(|t| t.starts_with(path) || path.starts_with(t) || disputed(t))
        };
        // A link or directory that was deleted while its machine had no index is not known again.
        let anew = self.faults.rebuilt > 0;
        let only = |tree: &Tree| -> Tree {
            tree.iter()
                .filter(|(path, (body, ..))| !(excused(path) || anew && body.kind() != Kind::File))
                .map(|(p, v)| (p.clone(), v.clone()))
                .collect()
        };
        let (office, own) = (only(office), only(own));
        if office == own { Ok(()) } else { Err(format!("the reader differs: {}", difference(&office, &own))) }
    }

    /// All that was ever signed reaches a new node in some order, with its clock anywhere: the same files come out.
    pub(crate) fn replay(&self, rng: &mut Rng) -> Result<(), String> {
        let mut node = Node::new(self.nodes.len(), rng, Plant::Nothing);
        let mut parcels: Vec<Parcel> = self.archive.iter().map(Parcel::whole).collect();
        rng.shuffle(&mut parcels);
        for parcel in parcels {
            node.receive(parcel, &self.rules, self.now_ms, false)?;
        }
        if !node.parked.is_empty() {
            return Err(format!("{} batches stay early for ever", node.parked.len()));
        }
        for _ in 0..ROUNDS_MAX {
            let mut needs = node.index.needs(None, usize::MAX).expect("memory");
            if needs.is_empty() {
                break;
            }
            rng.shuffle(&mut needs);
            for path in needs {
                for action in node.plan(&path, self.now_ms) {
                    let wanted = action.target.content().map(|(id, _)| id);
                    let bytes = wanted.and_then(|id| self.nodes.iter().chain([&node]).find_map(|n| n.local(id)));
                    node.act(&action, bytes, self.now_ms);
                }
            }
        }
        let (tree, office) = (node.disk().tree(), self.nodes[0].disk().tree());
        if tree == office { Ok(()) } else { Err(format!("another order: {}", difference(&office, &tree))) }
    }

    /// What a node's index says, for people.
    pub(crate) fn records(&self, at: usize) -> String {
        let index = &self.nodes[at].index;
        let mut text = format!("needs {:?}", index.needs(None, usize::MAX).expect("memory"));
        for frontier in index.frontiers().expect("memory") {
            text += &format!("\n  log {}:{}", &frontier.writer.node.short()[..3], frontier.seq);
        }
        for parcel in &self.nodes[at].parked {
            text += &format!("\n  parked {parcel:?}").chars().take(80).collect::<String>();
        }
        index
            .walk(&RelPath::root(), &mut |path, record| {
                let heads: Vec<String> = record.heads.iter().map(|head| describe(&head.salted)).collect();
                let disk = record.disk.map(|disk| (disk.what, disk.version));
                let (of, copies, local) = (record.copy_of, record.copies, record.local_only);
                text += &format!("\n  record {path}: {heads:?} disk {disk:?} copy of {of:?} copies {copies:?} {local}");
                lanyard::logic::sync::index::Walk::On
            })
            .expect("memory");
        text
    }

    /// With everything at rest, one person does one thing: then exactly that is everywhere.
    pub(crate) fn one_at_a_time(&mut self, deeds: usize) -> Result<(), String> {
        for _ in 0..deeds {
            let at = self.rng.below(self.nodes.len());
            if self.oracle.readers.contains(&at) {
                continue;
            }
            self.now_ms += 5000;
            let mut waits = self.unattainable();
            let before = self.nodes[at].disk().tree();
            let Some(deed) = self.deed(at) else { continue };
            let wanted = self.nodes[at].disk().tree();
            self.fragile = true;
            let healed = self.heal();
            self.fragile = false;
            healed?;
            self.judge()?;
            let disputed: BTreeSet<RelPath> =
                before.keys().chain(wanted.keys()).filter(|path| user::is_copy(path)).map(family).collect();
            let settles = deed
                .paths
                .iter()
                .any(|path| disputed.iter().any(|owner| owner.starts_with(&family(path)) || path.starts_with(owner)));
            if settles {
                continue;
            }
            let got = self.nodes[0].disk().tree();
            waits.extend(self.unattainable());
            let unexplained = |path: &&RelPath| {
                let idle_dir = matches!(wanted.get(*path), Some((Body::Dir, ..)))
                    && !got.contains_key(*path)
                    && !got.keys().any(|p| p.starts_with(path));
                wanted.get(*path) != got.get(*path)
                    && !idle_dir
                    && !waits.iter().any(|name| name.starts_with(&family(path)))
            };
            if let Some(path) = wanted.keys().chain(got.keys()).find(unexplained) {
                return Err(format!(
                    "'{}' did not become so: {path} is {:?}, not {:?}",
                    deed.text,
                    got.get(path),
                    wanted.get(path)
                ));
            }
        }
        Ok(())
    }
}

pub(crate) fn difference(left: &Tree, right: &Tree) -> String {
    let paths: BTreeSet<&RelPath> = left.keys().chain(right.keys()).collect();
    let differing = paths.into_iter().filter(|path| left.get(*path) != right.get(*path));
    let shown: Vec<String> =
        differing.take(4).map(|path| format!("{path}: {} / {}", show(left.get(path)), show(right.get(path)))).collect();
    shown.join("; ")
}

fn show(item: Option<&(Body, u16, lanyard::base::FileTime)>) -> String {
    match item {
        None => "nothing".into(),
        Some((Body::File(bytes), mode, mtime)) => {
            format!("{} {mode:o} {}.{}", crate::large::text(bytes), mtime.secs, mtime.nanos)
        }
        Some((other, mode, _)) => format!("{other:?} {mode:o}"),
    }
}
