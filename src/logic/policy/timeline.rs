//! What was said about one thing, ancestors first: finds the newest words among those that a reader can see.

use super::set::{Slot, StatementSet};

/// Values by statement, in the order of the set.
#[derive(Clone, Debug)]
pub(super) struct Timeline<T> {
    items: Vec<Item<T>>,
    /// Places in `items` by lane: in a lane each is an ancestor of the next.
    lanes: Vec<(u32, Vec<u32>)>,
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
        Self { items: Vec::new(), lanes: Vec::new() }
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
        let place = u32::try_from(self.items.len()).expect("slots are u32");
        let lane = set.lane(slot);
        match self.lanes.iter_mut().find(|(other, _)| *other == lane) {
            Some((_, places)) => places.push(place),
            None => self.lanes.push((lane, vec![place])),
        }
        self.items.push(Item { slot, dominates, value });
    }

    /// The values that no other has as an ancestor, last in the set's order first.
    pub(super) fn newest(&self, set: &StatementSet) -> Vec<(Slot, &T)> {
        self.maximal(set, |places| places.len())
    }

    /// The same among the ancestors of `at`.
    pub(super) fn newest_before(&self, set: &StatementSet, at: Slot) -> Vec<(Slot, &T)> {
        self.maximal(set, |places| places.partition_point(|place| set.before(self.items[*place as usize].slot, at)))
    }

    /// The values that `visible` shows and that no other visible and firm one has as an ancestor; what is weak
    /// replaces nothing.
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

    /// The last item of each lane's first `visible` ones, less those that are ancestors of another.
    fn maximal(&self, set: &StatementSet, visible: impl Fn(&[u32]) -> usize) -> Vec<(Slot, &T)> {
        let tips = self.lanes.iter().filter_map(|(_, places)| places[..visible(places)].last().copied());
        let mut tips: Vec<u32> = tips.collect();
        if tips.len() > 1 {
            tips.sort_unstable_by(|a, b| b.cmp(a));
            let slots: Vec<Slot> = tips.iter().map(|place| self.items[*place as usize].slot).collect();
            tips.retain(|place| {
                let slot = self.items[*place as usize].slot;
                !slots.iter().any(|newer| set.before(slot, *newer))
            });
        }
        tips.into_iter().map(|place| &self.items[place as usize]).map(|item| (item.slot, &item.value)).collect()
    }
}
