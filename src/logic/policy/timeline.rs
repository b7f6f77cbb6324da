//! What was said about one thing, ancestors first: finds the newest words among those that a reader can see.

use super::set::{Slot, StatementSet};

/// Values by statement, in the order of the set.
#[derive(Clone, Debug)]
pub(super) struct Timeline<T> {
    items: Vec<Item<T>>,
}

#[derive(Clone, Debug)]
struct Item<T> {
    slot: Slot,
    /// Every earlier item is an ancestor of this one, so a search that meets it may stop.
    dominates: bool,
    value: T,
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

impl<T> Timeline<T> {
    /// Adds a value; statements must come in the order of the set.
    pub(super) fn push(&mut self, set: &StatementSet, slot: Slot, value: T) {
        let mut dominates = true;
        for item in self.items.iter().rev() {
            if !set.before(item.slot, slot) {
                dominates = false;
                break;
            }
            if item.dominates {
                break;
            }
        }
        self.items.push(Item { slot, dominates, value });
    }

    /// The visible values that no other visible one has as an ancestor.
    pub(super) fn newest(&self, set: &StatementSet, visible: impl Fn(Slot, &T) -> bool) -> Vec<(Slot, &T)> {
        self.in_force(set, visible, |_| false)
    }

    /// The visible values that no other visible and firm one has as an ancestor; what is weak replaces nothing.
    pub(super) fn in_force(
        &self,
        set: &StatementSet,
        visible: impl Fn(Slot, &T) -> bool,
        weak: impl Fn(Slot) -> bool,
    ) -> Vec<(Slot, &T)> {
        let mut found: Vec<(Slot, &T)> = Vec::new();
        let mut firm: Vec<Slot> = Vec::new();
        for item in self.items.iter().rev() {
            if !visible(item.slot, &item.value) || firm.iter().any(|newer| set.before(item.slot, *newer)) {
                continue;
            }
            found.push((item.slot, &item.value));
            if weak(item.slot) {
                continue;
            }
            firm.push(item.slot);
            if item.dominates {
                break;
            }
        }
        found
    }

    /// All values, ancestors first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (Slot, &T)> {
        self.items.iter().map(|item| (item.slot, &item.value))
    }
}
