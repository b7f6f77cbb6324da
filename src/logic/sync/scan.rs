//! Merge-join of a walk over the disk with the index: what differs is a candidate, what is missing is gone.
//!
//! Both sides come in depth-first order, so a folder of any size needs one record of memory at a time.

use super::index::{Look, PathRecord, Result, Walk};
use crate::base::{FileInfo, Kind, RelPath};
use crate::wire::batch::What;

/// How many index records are read ahead at once. A guess: enough that one look-up serves many, small enough to forget.
const PAGE: usize = 512;

/// What a walk found out about one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Candidate {
    /// It is not as the index has it; its content must be read to know more.
    Differs(RelPath, FileInfo),
    /// It was on the disk and is no more.
    Gone(RelPath),
}

/// One walk over a folder, or a part of it.
pub struct Join<'a, I: Look + ?Sized> {
    index: &'a I,
    start: RelPath,
    page: std::collections::VecDeque<(RelPath, PathRecord)>,
    exhausted: bool,
}

impl<'a, I: Look + ?Sized> Join<'a, I> {
    /// Begins at `start`: the root, or a path that is walked with all below it.
    pub fn new(index: &'a I, start: RelPath) -> Result<Self> {
        let mut join = Self { index, start: start.clone(), page: std::collections::VecDeque::new(), exhausted: false };
        join.load(&start, true)?;
        Ok(join)
    }

    /// The walk saw `path`. Paths come in ascending order.
    pub fn saw(&mut self, path: &RelPath, info: &FileInfo, out: &mut Vec<Candidate>) -> Result<()> {
        self.skip_to(path, out)?;
        let known = match self.page.front() {
            Some((next, _)) if next == path => self.take()?,
            _ => None,
        };
        if !known.is_some_and(|(_, record)| is_as_known(&record, info)) {
            out.push(Candidate::Differs(path.clone(), *info));
        }
        Ok(())
    }

    /// The walk could not look below `path`: nothing there counts as gone.
    pub fn unreadable(&mut self, path: &RelPath, out: &mut Vec<Candidate>) -> Result<()> {
        self.skip_to(path, out)?;
        while self.page.front().is_some_and(|(next, _)| next.starts_with(path)) {
            self.take()?;
        }
        Ok(())
    }

    /// The walk is over: what was not seen is gone.
    pub fn finish(mut self, out: &mut Vec<Candidate>) -> Result<()> {
        while let Some((path, record)) = self.take()? {
            gone(path, &record, out);
        }
        Ok(())
    }

    fn skip_to(&mut self, path: &RelPath, out: &mut Vec<Candidate>) -> Result<()> {
        while self.page.front().is_some_and(|(next, _)| next < path) {
            if let Some((missed, record)) = self.take()? {
                gone(missed, &record, out);
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<(RelPath, PathRecord)>> {
        let taken = self.page.pop_front();
        if let (Some((last, _)), true, false) = (&taken, self.page.is_empty(), self.exhausted) {
            let after = last.clone();
            self.load(&after, false)?;
        }
        Ok(taken)
    }

    /// Reads the next records from `from` on, with or without `from` itself.
    fn load(&mut self, from: &RelPath, with_it: bool) -> Result<()> {
        let page = &mut self.page;
        self.index.walk_from(&self.start, from, &mut |path, record| {
            if with_it || path != *from {
                page.push_back((path, record));
            }
            if page.len() < PAGE { Walk::On } else { Walk::Enough }
        })?;
        self.exhausted = self.page.len() < PAGE;
        Ok(())
    }
}

fn gone(path: RelPath, record: &PathRecord, out: &mut Vec<Candidate>) {
    if record.disk.is_some() {
        out.push(Candidate::Gone(path));
    }
}

/// Whether the disk still has what the index says. Directories change their time with every name in them.
pub fn is_as_known(record: &PathRecord, info: &FileInfo) -> bool {
    record.disk.as_ref().is_some_and(|disk| {
        !disk.recheck
            && match (&disk.what, info.kind) {
                (What::Dir, Kind::Dir) => disk.info.mode == info.mode,
                _ => disk.info == *info,
            }
    })
}
