//! A real disk on which something else happens just before a chosen call: a person saving a file at the worst moment.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use lanyard::shell::disk::Folder;
use lanyard::shell::disk::primitives::{Disk, DiskFile, Look, Make, Open, Place, Rename};
use lanyard::shell::disk::real::RealDisk;

/// Which calls there were, and what happens before which.
type Hook = Box<dyn FnMut(&Call<'_>) -> io::Result<()> + Send>;

/// A call that changes the tree or makes it durable.
#[derive(Debug)]
pub enum Call<'a> {
    Rename(&'a Place, Rename),
    Remove,
    FlushAll,
    Flush,
    Set(&'a Place),
}

/// The disk.
pub struct Hooked {
    real: RealDisk,
    hook: Arc<Mutex<Hook>>,
}

/// A folder at `root` whose calls pass `hook` first; an error from it is the call's.
pub fn folder(root: &Path, hook: impl FnMut(&Call<'_>) -> io::Result<()> + Send + 'static) -> Folder {
    let disk = Hooked { real: RealDisk::open(root).expect("opens"), hook: Arc::new(Mutex::new(Box::new(hook))) };
    Folder::over(root, Arc::new(disk))
}

impl Hooked {
    fn tell(&self, call: &Call<'_>) -> io::Result<()> {
        (self.hook.lock().expect("not poisoned"))(call)
    }
}

impl Disk for Hooked {
    fn list(&self, dir: &Place, see: &mut dyn FnMut(&[u8], io::Result<Look>)) -> io::Result<()> {
        self.real.list(dir, see)
    }
    fn look(&self, at: &Place) -> io::Result<Look> {
        self.real.look(at)
    }
    fn link_text(&self, at: &Place) -> io::Result<Vec<u8>> {
        self.real.link_text(at)
    }
    fn open(&self, at: &Place, how: Open) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(HookedFile { file: self.real.open(at, how)?, at: at.clone(), hook: self.hook.clone() }))
    }
    fn rename(&self, from: &Place, to: &Place, how: Rename) -> io::Result<()> {
        self.tell(&Call::Rename(from, how))?;
        self.real.rename(from, to, how)
    }
    fn make(&self, at: &Place, what: Make<'_>) -> io::Result<()> {
        self.real.make(at, what)
    }
    fn remove(&self, at: &Place, dir: bool) -> io::Result<()> {
        self.tell(&Call::Remove)?;
        self.real.remove(at, dir)
    }
    fn flush_all(&self) -> io::Result<()> {
        self.tell(&Call::FlushAll)?;
        self.real.flush_all()
    }
}

struct HookedFile {
    file: Box<dyn DiskFile>,
    at: Place,
    hook: Arc<Mutex<Hook>>,
}

impl DiskFile for HookedFile {
    fn look(&self) -> io::Result<Look> {
        self.file.look()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }
    fn set(&self, mode: lanyard::base::Mode, mtime: Option<lanyard::base::FileTime>) -> io::Result<()> {
        (self.hook.lock().expect("not poisoned"))(&Call::Set(&self.at))?;
        self.file.set(mode, mtime)
    }
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.file.reserve(bytes)
    }
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.file.punch(offset, bytes)
    }
    fn start_writing(&self, offset: u64, bytes: u64) {
        self.file.start_writing(offset, bytes);
    }
    fn written(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        self.file.written(offset)
    }
    fn flush(&self) -> io::Result<()> {
        (self.hook.lock().expect("not poisoned"))(&Call::Flush)?;
        self.file.flush()
    }
}
