//! The product's `Disk` over the model disk, and what can go wrong in a call: it fails, the disk is full or pulled, the
//! machine stops just before it, a person saves just before it.
//!
//! It ends the run at once where lanyard does what it must never do: reach out of the folder, write into a file that
//! people see, or remove one instead of keeping it as a version.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use lanyard::base::path::RESERVED;
use lanyard::base::{FileTime, Mode, RelPath};
use lanyard::shell::disk::primitives::{Disk as DiskCalls, DiskFile, Look, Make, Open, Place, Rename};

use crate::disk::{Body, By, Disk, is_own};
use crate::oracle::Oracle;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::user::{Deed, Desk, User};

/// The system's numbers of two errors. Source: Linux `errno(3)`.
const EIO: i32 = 5;
const ELOOP: i32 = 40;
const ENOSPC: i32 = 28;

/// A person who does something between two calls of lanyard.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) after: usize,
    /// What the person has open, with what they see in it: saved rather than anything else.
    pub(crate) open: Option<(RelPath, Option<Body>)>,
    pub(crate) node: usize,
    pub(crate) user: User,
    pub(crate) oracle: Oracle,
    pub(crate) rng: Rng,
    pub(crate) deeds: Vec<Deed>,
}

/// How often calls went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CallFaults {
    pub(crate) failed: u64,
    pub(crate) full: u64,
    pub(crate) torn: u64,
}

/// What goes wrong in calls.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) rng: Rng,
    pub(crate) plant: Plant,
    /// Chance that a call fails, percent.
    pub(crate) failing: usize,
    pub(crate) full: bool,
    /// The disk was pulled: no call reaches it.
    pub(crate) pulled: bool,
    /// After so many calls the machine stops.
    pub(crate) fuse: Option<usize>,
    pub(crate) dead: bool,
    pub(crate) visitor: Option<Box<Visitor>>,
    pub(crate) faults: CallFaults,
    /// Contents that lanyard put under names that people see.
    pub(crate) shown: Vec<Vec<u8>>,
    /// For a planted bug: what was last seen under a name that people see.
    seen: Option<Look>,
}

impl Calls {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            rng,
            plant: Plant::Nothing,
            failing: 0,
            full: false,
            pulled: false,
            fuse: None,
            dead: false,
            visitor: None,
            faults: CallFaults::default(),
            shown: Vec::new(),
            seen: None,
        }
    }
}

/// A handle of a model disk.
#[derive(Clone, Debug)]
pub(crate) struct Drive(Arc<Mutex<Disk>>);

impl Drive {
    pub(crate) fn new(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(disk)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Disk> {
        // One thread has it: waiting would be for ever.
        match self.0.try_lock() {
            Ok(disk) => disk,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("the model disk is in use by its own caller"),
        }
    }

    /// A call begins. Nothing here may depend on how often a name was taken already: version names hold the real time.
    fn call(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.lock();
        if let Some(mut visitor) = disk.calls.visitor.take() {
            match visitor.after {
                usize::MAX => {}
                0 => {
                    visitor.after = usize::MAX;
                    let Visitor { node, user, oracle, rng, deeds, open, .. } = &mut *visitor;
                    let mut desk = Desk { node: *node, disk: &mut disk, user, oracle, rng };
                    let saved = open.take().and_then(|(path, before)| {
                        let deed = desk.save(&path, "meanwhile saves")?;
                        // It replaces what they had before their eyes, wherever that is by now.
                        if let Some(before) = before {
                            desk.oracle.discarded(desk.node, &before);
                            desk.oracle.renewed(&before);
                        }
                        Some(deed)
                    });
                    deeds.extend(saved.or_else(|| (0..4).find_map(|_| desk.act())));
                }
                _ => visitor.after -= 1,
            }
            disk.calls.visitor = Some(visitor);
        }
        let calls = &mut disk.calls;
        match calls.fuse {
            Some(0) => calls.dead = true,
            Some(left) => calls.fuse = Some(left - 1),
            None => {}
        }
        if calls.dead || calls.pulled {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if calls.failing > 0 && calls.rng.percent(calls.failing) {
            calls.faults.failed += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(disk)
    }
}

/// The key of a place whose directories are all there. A place outside the folder ends the run.
fn resolve(disk: &Disk, place: &Place) -> io::Result<Vec<u8>> {
    let bytes = place.as_bytes();
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    for name in bytes.split(|b| *b == b'/') {
        let inside = !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
        assert!(inside, "confinement: {place} is outside the folder");
    }
    let key: Vec<u8> = bytes.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect();
    for (at, _) in key.iter().enumerate().filter(|(_, b)| **b == 0) {
        match disk.inode(&key[..at]).map(|(_, inode)| &inode.body) {
            Some(Body::Dir) => {}
            Some(Body::Link(_)) => return Err(io::Error::from_raw_os_error(ELOOP)),
            Some(Body::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
    }
    Ok(key)
}

fn existing(disk: &Disk, place: &Place) -> io::Result<(Vec<u8>, u64)> {
    let key = resolve(disk, place)?;
    let number = disk.names.get(&key).copied().ok_or(io::ErrorKind::NotFound)?;
    Ok((key, number))
}

fn full(disk: &mut Disk) -> io::Error {
    disk.calls.faults.full += 1;
    io::Error::from_raw_os_error(ENOSPC)
}

fn is_version(key: &[u8]) -> bool {
    key.starts_with(&[RESERVED, b"\0versions\0"].concat())
}

impl DiskCalls for Drive {
    fn list(&self, dir: &Place, see: &mut dyn FnMut(&[u8], io::Result<Look>)) -> io::Result<()> {
        let disk = self.call()?;
        let top = resolve(&disk, dir)?;
        match disk.inode(&top).map(|(_, inode)| &inode.body) {
            _ if top.is_empty() => {}
            Some(Body::Dir) => {}
            Some(Body::Link(_)) => return Err(io::Error::from_raw_os_error(ELOOP)),
            Some(Body::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let skip = if top.is_empty() { 0 } else { top.len() + 1 };
        let found: Vec<(Vec<u8>, Look)> = disk
            .keys(&top)
            .into_iter()
            .filter(|key| key.len() > skip && !key[skip..].contains(&0))
            .map(|key| (key[skip..].to_vec(), Look::Plain(disk.info_of(disk.names[&key]))))
            .collect();
        drop(disk);
        found.into_iter().for_each(|(name, look)| see(&name, Ok(look)));
        Ok(())
    }

    fn look(&self, at: &Place) -> io::Result<Look> {
        let mut disk = self.call()?;
        let (key, number) = existing(&disk, at)?;
        let look = Look::Plain(disk.info_of(number));
        if disk.calls.plant == Plant::SkipSwapCheck {
            match disk.calls.seen {
                Some(seen) if is_version(&key) => return Ok(seen),
                _ if !is_own(&key) => disk.calls.seen = Some(look),
                _ => {}
            }
        }
        Ok(look)
    }

    fn link_text(&self, at: &Place) -> io::Result<Vec<u8>> {
        let disk = self.call()?;
        let (_, number) = existing(&disk, at)?;
        match &disk.inodes[&number].body {
            Body::Link(text) => Ok(text.clone()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn open(&self, at: &Place, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut disk = self.call()?;
        let file = |number| Box::new(File { drive: self.clone(), number, how }) as Box<dyn DiskFile>;
        if at.as_bytes().is_empty() {
            return Ok(file(0));
        }
        let key = resolve(&disk, at)?;
        let makes = matches!(how, Open::Create | Open::Resume);
        assert!(!makes || is_own(&key), "confinement: {at} is written where people see it");
        let there = disk.inode(&key).map(|(number, inode)| (number, inode.body.kind()));
        match (there, how) {
            (Some(_), Open::Create) => Err(io::ErrorKind::AlreadyExists.into()),
            (None, Open::Create | Open::Resume) => {
                if disk.calls.full && disk.calls.rng.percent(50) {
                    return Err(full(&mut disk));
                }
                let number = disk.create(&key, Body::File(Vec::new()), 0o600, By::Lanyard);
                Ok(file(number))
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
            (Some((_, lanyard::base::Kind::Symlink)), _) => Err(io::Error::from_raw_os_error(ELOOP)),
            (Some((_, lanyard::base::Kind::Dir)), how) if how != Open::Attributes => {
                Err(io::ErrorKind::InvalidInput.into())
            }
            (Some((number, _)), _) => Ok(file(number)),
        }
    }

    fn rename(&self, from: &Place, to: &Place, how: Rename) -> io::Result<()> {
        {
            // See `call`.
            let disk = self.lock();
            if how == Rename::NoReplace
                && !disk.calls.dead
                && !disk.calls.pulled
                && existing(&disk, from).is_ok()
                && existing(&disk, to).is_ok_and(|(key, _)| is_version(&key))
            {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
        }
        let mut disk = self.call()?;
        let (from, _) = existing(&disk, from)?;
        let target = resolve(&disk, to)?;
        let taken = disk.names.contains_key(&target);
        match (how, taken) {
            (Rename::NoReplace, true) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Rename::Exchange, false) => return Err(io::ErrorKind::NotFound.into()),
            _ => {}
        }
        if disk.calls.full && disk.calls.rng.percent(5) {
            return Err(full(&mut disk));
        }
        disk.move_name(&from, &target, how == Rename::Exchange, By::Lanyard);
        Ok(())
    }

    fn make(&self, at: &Place, what: Make<'_>) -> io::Result<()> {
        let mut disk = self.call()?;
        let key = resolve(&disk, at)?;
        if disk.names.contains_key(&key) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if disk.calls.full && disk.calls.rng.percent(50) {
            return Err(full(&mut disk));
        }
        match what {
            Make::Dir(mode) => {
                disk.create(&key, Body::Dir, mode, By::Lanyard);
            }
            Make::Symlink(text, mtime) => {
                let number = disk.create(&key, Body::Link(text.to_vec()), 0, By::Lanyard);
                disk.set(number, 0, Some(mtime), By::Lanyard);
            }
        }
        Ok(())
    }

    fn remove(&self, at: &Place, dir: bool) -> io::Result<()> {
        let mut disk = self.call()?;
        let (key, number) = existing(&disk, at)?;
        match (dir, disk.inodes[&number].body.clone()) {
            (true, Body::Dir) if disk.keys(&key).len() > 1 => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            (true, Body::Dir) => {}
            (true, _) => return Err(io::ErrorKind::NotADirectory.into()),
            (false, Body::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            (false, body) => {
                let kept = is_version(&key) || disk.inodes[&number].is_somebodys();
                let lost = matches!(body, Body::File(_)) && (kept || !is_own(&key));
                assert!(!lost, "loss: {at}, which people saw, is removed instead of kept");
            }
        }
        disk.unlink(&key, By::Lanyard);
        Ok(())
    }

    fn flush_all(&self) -> io::Result<()> {
        let mut disk = self.call()?;
        if disk.calls.plant != Plant::DropFlush {
            disk.flush_all();
        }
        Ok(())
    }
}

/// An open file; 0 is the root.
struct File {
    drive: Drive,
    number: u64,
    how: Open,
}

impl DiskFile for File {
    fn look(&self) -> io::Result<Look> {
        let disk = self.drive.call()?;
        Ok(Look::Plain(disk.info_of(self.number)))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.drive.call()?;
        let Body::File(bytes) = &disk.inodes[&self.number].body else { return Err(io::ErrorKind::InvalidInput.into()) };
        let start = usize::try_from(offset).expect("small").min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.drive.call()?;
        assert!(matches!(self.how, Open::Create | Open::Resume), "it was not opened for writing");
        let seen = disk.names.iter().any(|(key, number)| *number == self.number && !is_own(key));
        assert!(!seen, "loss: lanyard writes into a file that people see");
        let Body::File(mut now) = disk.inodes[&self.number].body.clone() else { panic!("only files are written") };
        let start = usize::try_from(offset).expect("small");
        let is_full = disk.calls.full;
        let count = if is_full { disk.calls.rng.below(bytes.len()) } else { bytes.len() };
        now.resize(now.len().max(start + count), 0);
        now[start..start + count].copy_from_slice(&bytes[..count]);
        disk.write(self.number, now, By::Lanyard);
        if is_full && !bytes.is_empty() {
            disk.calls.faults.torn += 1;
            let error = full(&mut disk);
            return if disk.calls.plant == Plant::IgnoreFull { Ok(()) } else { Err(error) };
        }
        Ok(())
    }

    fn set(&self, mode: Mode, mtime: Option<FileTime>) -> io::Result<()> {
        let mut disk = self.drive.call()?;
        disk.set(self.number, mode, mtime, By::Lanyard);
        Ok(())
    }

    fn reserve(&self, _: u64) -> io::Result<()> {
        let mut disk = self.drive.call()?;
        if disk.calls.full { Err(full(&mut disk)) } else { Ok(()) }
    }

    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn start_writing(&self, _: u64, _: u64) {}

    fn written(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let disk = self.drive.call()?;
        let end = disk.info_of(self.number).bytes;
        Ok((offset < end).then_some((offset, end)))
    }

    fn flush(&self) -> io::Result<()> {
        let call = self.drive.call();
        let mut disk = match call {
            Ok(disk) => disk,
            Err(error) => {
                // What a failed flush was for is lost, and the next one does not say so.
                let mut disk = self.drive.lock();
                if let Some(inode) = disk.inodes.get_mut(&self.number) {
                    inode.dropped = true;
                }
                return Err(error);
            }
        };
        if disk.calls.plant != Plant::DropFlush {
            match self.number {
                0 => disk.flush_names(),
                number => disk.flush(number),
            }
        }
        Ok(())
    }
}
