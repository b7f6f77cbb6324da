//! What people and scripts see: text, tables, JSON, failures.
//!
//! Rule: names and paths come from other machines; before one reaches a terminal, what could steer the terminal or
//! change the reading order is made visible.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use owo_colors::OwoColorize;
use serde::Serialize;

use crate::wire::api::{Failure, UtcTime};

/// Why a command ends early.
pub(super) enum Stop {
    /// It failed.
    Failure(Failure),
    /// Nobody reads stdout any more: `lanyard events | head`.
    Deaf,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<io::Error> for Stop {
    /// An error of writing to stdout.
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::Deaf;
        }
        Self::Failure(Failure::failed("cannot write to the standard output").because(&error))
    }
}

/// Standard output.
pub(super) struct Screen {
    /// Whether `--json` was given.
    pub(super) json: bool,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether somebody watches: progress is shown then.
    pub(super) fn is_watched(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// One line of text. It is out when this returns.
    pub(super) fn line(&self, text: impl std::fmt::Display) -> Result<(), Stop> {
        let mut out = anstream::stdout();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    /// One line for the person only, not for what reads stdout.
    pub(super) fn aside(&self, text: impl std::fmt::Display) {
        let mut err = anstream::stderr();
        // Without stderr there is no person.
        let _closed = writeln!(err, "{text}");
    }

    /// A heading.
    pub(super) fn heading(&self, text: &str) -> Result<(), Stop> {
        self.line(format_args!("{}", text.bold()))
    }

    /// One JSON document on one line.
    pub(super) fn document<T: Serialize>(&self, value: &T) -> Result<(), Stop> {
        self.line(serde_json::to_string(value).expect("answers have only text keys"))
    }

    /// Columns under a heading each, two blanks apart.
    pub(super) fn table(&self, head: &[&str], rows: Vec<Vec<String>>) -> Result<(), Stop> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(head.iter().map(|name| (*name).to_string()).collect::<Vec<_>>());
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for (at, line) in table.lines().enumerate() {
            let line = line.trim_end();
            match at {
                0 => self.line(format_args!("{}", line.dimmed()))?,
                _ => self.line(line)?,
            }
        }
        Ok(())
    }
}

/// A failure on stderr: what failed, why, what to do.
pub(super) fn print_failure(failure: &Failure) {
    let mut text = format!("{} {}\n", "error:".red().bold(), plain(&failure.what));
    for why in &failure.why {
        let _never = writeln!(text, "  caused by: {}", plain(why));
    }
    if let Some(hint) = &failure.hint {
        let _never = writeln!(text, "  {} {}", "hint:".bold(), plain(hint));
    }
    let mut err = anstream::stderr();
    let _closed = err.write_all(text.as_bytes());
}

/// Text from elsewhere, safe for a terminal and on one line.
pub(super) fn plain(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            // What changes the reading order, so that a name reads as another. Source: Unicode TR 36, 2.10.
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    safe
}

/// A word that a shell reads as it is.
pub(super) fn shell_word(word: &str) -> String {
    let word = plain(word);
    let bare = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':' | '@' | '%');
    if !word.is_empty() && word.chars().all(bare) {
        return word;
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Bytes for people: `0 B`, `1.5 MB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut tenths = count / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    if tenths < 1000 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{} {}", tenths / 10, UNITS[unit])
    }
}

/// A number and its noun: `1 file`, `2 files`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A moment in the time zone of the reader; `form` as in strftime.
pub(super) fn local(time: UtcTime, form: &str) -> String {
    let stamp = jiff::Timestamp::from_millisecond(i64::try_from(time.as_ms()).unwrap_or(i64::MAX));
    match stamp {
        Ok(stamp) => stamp.to_zoned(jiff::tz::TimeZone::system()).strftime(form).to_string(),
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\u{a}c");
        assert_eq!(plain("fdp\u{202e}exe"), "fdp\\u{202e}exe");
        assert_eq!(plain("grün 日本"), "grün 日本");
    }

    #[test]
    fn bytes_are_told_with_two_to_three_digits() {
        let told = [0, 999, 1000, 1550, 123_456, 999_999, 1_000_000, 2_147_483_648, u64::MAX].map(bytes);
        let meant = ["0 B", "999 B", "1.0 kB", "1.5 kB", "123 kB", "999 kB", "1.0 MB", "2.1 GB", "18446 PB"];
        assert_eq!(told, meant.map(String::from));
    }

    #[test]
    fn a_word_survives_the_shell() {
        assert_eq!(shell_word("/srv/share"), "/srv/share");
        assert_eq!(shell_word("my files"), "'my files'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
    }
}
