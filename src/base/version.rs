//! Version vectors: which entries of which writers a state of a path has seen.
//!
//! Source: Parker et al., *Detection of Mutual Inconsistency in Distributed Systems* (1983).

use serde::{Deserialize, Serialize};

use super::NodeId;

/// One unbroken life of one node's log in one folder. A node whose log was lost or cloned starts a new incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Writer {
    /// Who signs.
    pub node: NodeId,
    /// Random number that names this life of the log.
    pub incarnation: u64,
}

/// For each writer the highest sequence number seen; sorted by writer, no zero numbers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<(Writer, u64)>")]
pub struct VersionVector(Vec<(Writer, u64)>);

/// How two versions of one path relate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Causality {
    /// The same version.
    Equal,
    /// The left one is older: the right one has seen all of it.
    Before,
    /// The left one is newer.
    After,
    /// Neither has seen the other.
    Concurrent,
}

impl TryFrom<Vec<(Writer, u64)>> for VersionVector {
    type Error = &'static str;

    fn try_from(components: Vec<(Writer, u64)>) -> Result<Self, Self::Error> {
        Self::from_sorted(components).ok_or("a version vector is sorted by writer and has no zeros")
    }
}

impl VersionVector {
    /// Takes components if they are sorted, distinct and not zero.
    pub fn from_sorted(components: Vec<(Writer, u64)>) -> Option<Self> {
        let sorted = components.windows(2).all(|pair| pair[0].0 < pair[1].0);
        (sorted && components.iter().all(|(_, n)| *n > 0)).then_some(Self(components))
    }

    /// The number seen of `writer`; 0 where none is.
    pub fn seen(&self, writer: Writer) -> u64 {
        self.0.binary_search_by_key(&writer, |(w, _)| *w).map_or(0, |at| self.0[at].1)
    }

    /// Raises the component of `writer` to at least `number`.
    pub fn advance(&mut self, writer: Writer, number: u64) {
        if number == 0 {
            return;
        }
        match self.0.binary_search_by_key(&writer, |(w, _)| *w) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(number),
            Err(at) => self.0.insert(at, (writer, number)),
        }
    }

    /// The least vector that has seen all that either has.
    pub fn join(&mut self, other: &Self) {
        for (writer, number) in &other.0 {
            self.advance(*writer, *number);
        }
    }

    /// Whether this vector has seen all that `other` has.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(writer, number)| self.seen(*writer) >= *number)
    }

    /// How this version relates to `other`.
    pub fn compare(&self, other: &Self) -> Causality {
        match (self.covers(other), other.covers(self)) {
            (true, true) => Causality::Equal,
            (false, true) => Causality::Before,
            (true, false) => Causality::After,
            (false, false) => Causality::Concurrent,
        }
    }

    /// The components, sorted by writer.
    pub fn components(&self) -> &[(Writer, u64)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(n: u8) -> Writer {
        Writer { node: NodeId([n; 32]), incarnation: 1 }
    }

    #[test]
    fn concurrent_versions_join_to_one_that_covers_both() {
        let mut a = VersionVector::default();
        a.advance(writer(1), 3);
        let mut b = VersionVector::default();
        b.advance(writer(2), 5);
        assert_eq!(a.compare(&b), Causality::Concurrent);
        let mut joined = a.clone();
        joined.join(&b);
        assert_eq!(joined.compare(&a), Causality::After);
        assert_eq!(b.compare(&joined), Causality::Before);
    }

    #[test]
    fn unsorted_doubled_or_zero_components_are_no_vector() {
        assert!(VersionVector::from_sorted(vec![(writer(2), 1), (writer(1), 1)]).is_none());
        assert!(VersionVector::from_sorted(vec![(writer(1), 1), (writer(1), 2)]).is_none());
        assert!(VersionVector::from_sorted(vec![(writer(1), 0)]).is_none());
    }
}
