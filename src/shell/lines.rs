//! A log of lines that only grows, in a bounded number of files: `NAME.jsonl`, then `NAME.1.jsonl`, the older the higher.
//!
//! A line is written with one call and never changed. It is not flushed to the disk one by one: a crash of the process
//! loses none, a power cut may lose those of the last seconds. A line that was cut off stays, and the next one begins
//! on a line of its own.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An open log.
#[derive(Debug)]
pub struct LineLog {
    file: File,
    bytes: u64,
    files: LineFiles,
}

/// Where a log is and how large it may be.
#[derive(Clone, Debug)]
pub struct LineFiles {
    /// The directory.
    pub dir: PathBuf,
    /// The name without its ending.
    pub name: String,
    /// Bytes after which a new file begins.
    pub bytes_max: u64,
    /// Files kept, the growing one included; at least one.
    pub count_max: u32,
}

impl LineFiles {
    /// The file of this age: 0 is the growing one.
    fn path(&self, age: u32) -> PathBuf {
        match age {
            0 => self.dir.join(format!("{}.jsonl", self.name)),
            _ => self.dir.join(format!("{}.{age}.jsonl", self.name)),
        }
    }

    /// Hands out every whole line, the oldest first. A file that is not there has none.
    pub fn read(&self, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        for age in (0..self.count_max).rev() {
            let file = match File::open(self.path(age)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut reader = BufReader::new(file);
            let mut line = Vec::new();
            loop {
                line.clear();
                // A line longer than a whole file may be is not one of ours.
                let read = Read::by_ref(&mut reader).take(self.bytes_max.max(1)).read_until(b'\n', &mut line)?;
                if read == 0 {
                    break;
                }
                if let Some(text) = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok()) {
                    each(text);
                }
            }
        }
        Ok(())
    }

    /// The newest whole lines, at most `count`, the oldest of them first.
    pub fn newest(&self, count: usize) -> io::Result<Vec<String>> {
        let mut kept = VecDeque::new();
        self.read(&mut |line| {
            if kept.len() == count {
                kept.pop_front();
            }
            if count > 0 {
                kept.push_back(line.to_string());
            }
        })?;
        Ok(kept.into())
    }
}

impl LineLog {
    /// Opens or begins a log. Its file can be read by its owner alone.
    pub fn open(files: LineFiles) -> io::Result<Self> {
        let (file, bytes) = open(&files.path(0))?;
        Ok(Self { file, bytes, files })
    }

    /// Appends one line, which must hold no line end.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        debug_assert!(!line.contains('\n'), "one line");
        if self.bytes > 0 && self.bytes + line.len() as u64 >= self.files.bytes_max {
            self.turn()?;
        }
        let whole = format!("{line}\n");
        self.file.write_all(whole.as_bytes())?;
        self.bytes += whole.len() as u64;
        Ok(())
    }

    /// Begins a new file; the oldest goes.
    fn turn(&mut self) -> io::Result<()> {
        for age in (1..self.files.count_max.max(1)).rev() {
            match std::fs::rename(self.files.path(age - 1), self.files.path(age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.files.count_max <= 1 {
            self.file.set_len(0)?;
            self.bytes = 0;
            return Ok(());
        }
        (self.file, self.bytes) = open(&self.files.path(0))?;
        Ok(())
    }

    /// Where it is.
    pub fn files(&self) -> &LineFiles {
        &self.files
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut bytes = file.metadata()?.len();
    if bytes > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path, bytes_max: u64, count_max: u32) -> LineFiles {
        LineFiles { dir: dir.to_path_buf(), name: String::from("log"), bytes_max, count_max }
    }

    #[test]
    fn the_newest_lines_are_kept_within_the_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = LineLog::open(files(dir.path(), 100, 3)).expect("opens");
        for n in 0..1000 {
            log.append(&format!("line {n:04}")).expect("room");
        }
        let kept = log.files().newest(5).expect("read");
        assert_eq!(kept, ["line 0995", "line 0996", "line 0997", "line 0998", "line 0999"]);
        let all = log.files().newest(usize::MAX).expect("read");
        assert!(all.len() >= 20 && all.len() <= 30, "{}", all.len());
        assert!(all.is_sorted());
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 3);
    }

    #[test]
    fn a_line_cut_off_by_a_crash_harms_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = LineLog::open(files(dir.path(), 1000, 2)).expect("opens");
        log.append("one").expect("room");
        drop(log);
        let path = dir.path().join("log.jsonl");
        std::fs::write(&path, "one\ntw").expect("written");
        let mut log = LineLog::open(files(dir.path(), 1000, 2)).expect("opens");
        log.append("three").expect("room");
        assert_eq!(log.files().newest(9).expect("read"), ["one", "tw", "three"]);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "one\ntw\nthree\n");
    }

    #[test]
    fn a_log_of_one_file_begins_anew_when_it_is_full() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = LineLog::open(files(dir.path(), 20, 1)).expect("opens");
        ["aaaaaaaaaa", "bbbbbbbbbb", "c"].into_iter().for_each(|line| log.append(line).expect("room"));
        assert_eq!(log.files().newest(9).expect("read"), ["bbbbbbbbbb", "c"]);
    }
}
