//! Which names of a folder a node wants on its disk: all of them, or some paths with all below.
//!
//! Everything that is known of the rest is kept and passed on; only its contents are not brought here. What lies here
//! anyway is kept in step like everything else.

use serde::{Deserialize, Serialize};

use super::index::{Index, Look, Result, Walk};
use crate::base::RelPath;
use crate::wire::codec::{self, List};

/// Most paths that are fetched of one folder. A guess: far above what people type.
pub const PARTS_MAX: usize = 1024;
/// Names looked at in one step when the selection grows.
const STEP: usize = 1024;
/// Note in the index: the selection that its marks follow.
const NOTE: &str = "selection";

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Selection {
    /// Sorted, none below another; `None`: everything.
    parts: Option<List<RelPath, PARTS_MAX>>,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// These paths, with all that is below them; `None` if there are too many.
    pub fn of(parts: impl IntoIterator<Item = RelPath>) -> Option<Self> {
        let mut sorted: Vec<RelPath> = parts.into_iter().collect();
        sorted.sort_by_key(RelPath::to_key);
        sorted.dedup_by(|next, part| next.starts_with(part));
        Some(Self { parts: Some(List::new(sorted)?) })
    }

    /// Whether `path` is wanted: it is selected, lies below what is, or holds it.
    pub fn covers(&self, path: &RelPath) -> bool {
        let Some(parts) = &self.parts else { return true };
        parts.iter().any(|part| path.starts_with(part) || part.starts_with(path))
    }

    /// Whether nothing has to be looked at again: the index follows this selection.
    pub fn is_followed(&self, look: &(impl Look + ?Sized)) -> Result<bool> {
        let all = codec::encode(&Self::all());
        Ok(look.note(NOTE)?.unwrap_or(all) == codec::encode(self))
    }

    /// Marks what is wanted now and is not here, one step from `from` on. Returns where the next step begins; `None`:
    /// the index follows this selection.
    pub fn follow(&self, index: &mut (impl Index + ?Sized), from: &RelPath) -> Result<Option<RelPath>> {
        let mut found = Vec::new();
        let mut seen = 0;
        let mut next = None;
        index.walk_from(&RelPath::root(), from, &mut |path, record| {
            seen += 1;
            if seen > STEP {
                next = Some(path);
                return Walk::Enough;
            }
            if record.disk.is_none() && record.is_live() && self.covers(&path) {
                found.push(path);
            }
            Walk::On
        })?;
        for path in found {
            index.put_need(&path, true)?;
        }
        if next.is_none() {
            index.put_note(NOTE, &codec::encode(self))?;
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("valid")
    }

    #[test]
    fn what_is_selected_holds_it_or_lies_below_is_covered() {
        let some = Selection::of([path("a/b"), path("a/b/c"), path("d")]).expect("few");
        assert_eq!(some, Selection::of([path("d"), path("a/b")]).expect("few"), "what lies below another adds nothing");
        for (name, covered) in
            [("a", true), ("a/b", true), ("a/b/x", true), ("a/bc", false), ("a/c", false), ("", true)]
        {
            assert_eq!(some.covers(&path(name)), covered, "{name}");
            assert!(Selection::all().covers(&path(name)));
        }
    }
}
