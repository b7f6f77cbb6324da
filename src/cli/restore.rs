//! `lanyard restore`: bring a file, a directory or a folder back to what it was.

use std::path::PathBuf;

use clap::Args;

use crate::wire::api::{Failure, Moment, Request, RestoreAt, Restored, UtcTime};

use super::screen::{Screen, Stop, bytes, count, local, plain};
use super::{Context, Outcome};

/// Names that are listed. A guess: a screenful.
const LISTED_MAX: usize = 20;

/// Bring a file, a directory or a whole folder back to what it was at a moment
///
/// In place it is a change like any other: it spreads, and what it replaces or removes can be brought back in turn. What
/// did not exist then is removed. What is kept nowhere any more comes from this machine's archive, if it has one. What cannot be brought back is named, and the exit status is 1.
#[derive(Args)]
pub(super) struct Restore {
    /// The folder, or a path in it with all below
    #[arg(value_name = "FOLDER[/PATH]")]
    at: String,

    /// As it was then: a time ('2026-03-01 09:30:15', with a zone 2026-03-01T09:30:15Z), a day (2026-03-01, at its end), or
    /// how long ago (10m, 2h, 3d)
    #[arg(long = "at", value_name = "WHEN", value_parser = when)]
    when: Moment,

    /// Write it to this directory instead; the folder stays as it is, and nothing in DIR is replaced
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,

    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Restore {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (folder, path) = super::folder_and_path(&self.at);
        let to = self.to.as_deref().map(super::absolute).transpose()?;
        let ask = RestoreAt { folder, path, at: self.when, to, dry_run: self.dry_run };
        let client = context.client()?;
        // Contents may come from other machines: it takes as long as it takes.
        let restored: Restored = async_io::block_on(client.ask(&Request::Restore(ask), None))?;
        let screen = &context.screen;
        if screen.json {
            screen.document(&restored)?;
        } else {
            print(screen, &restored)?;
        }
        match restored.failed.len() as u64 + restored.failed_more {
            0 => Ok(()),
            number => Err(Stop::Failure(failure(&restored, number))),
        }
    }
}

fn print(screen: &Screen, restored: &Restored) -> Result<(), Stop> {
    let place = place(restored);
    let at = local(restored.at, "%Y-%m-%d %H:%M:%S");
    let does = if restored.dry_run { "would become" } else { "is" };
    match &restored.to {
        Some(to) => screen.line(format_args!("{} as {place} was at {at}:", plain(to.as_str())))?,
        None => screen.line(format_args!("{place} {does} as it was at {at}:"))?,
    }
    let mut lines = vec![format!("{} brought back ({})", count(restored.files, "file"), bytes(restored.bytes))];
    for (number, noun, what) in [
        (restored.others, "directory or link", "brought back"),
        (restored.modes, "name", "with the mode and time of then"),
        (restored.removed, "name", "removed: not there then"),
        (restored.same, "name", "as it was"),
    ] {
        if number > 0 {
            let noun = if noun == "name" || number == 1 {
                count(number, noun)
            } else {
                format!("{number} directories and links")
            };
            lines.push(format!("{noun} {what}"));
        }
    }
    if let (number @ 1.., Some(at)) = (restored.archived, restored.archived_at) {
        let at = local(at, "%Y-%m-%d %H:%M:%S");
        lines.push(format!("{} of these from the archive, the oldest as it was at {at}", count(number, "name")));
    }
    lines.iter().try_for_each(|line| screen.line(format_args!("  {line}")))
}

fn place(restored: &Restored) -> String {
    match restored.path.as_str() {
        "" => plain(&restored.folder.name),
        path => format!("{}/{}", plain(&restored.folder.name), plain(path)),
    }
}

fn failure(restored: &Restored, number: u64) -> Failure {
    let listed = restored.failed.iter().take(LISTED_MAX);
    let mut why: Vec<String> = listed.map(|failed| format!("{}: {}", failed.path.as_str(), failed.why)).collect();
    if number > why.len() as u64 {
        why.push(format!("and {} more", number - why.len() as u64));
    }
    let what = format!("{} of {} could not be brought back", count(number, "name"), place(restored));
    Failure { why, ..Failure::failed(what) }.hint("the rest is done; try again when more machines are connected")
}

/// When something was, as people say it.
fn when(text: &str) -> Result<Moment, String> {
    let text = text.trim();
    let unclear = "say a time (2026-03-01T09:30), a day (2026-03-01) or how long ago (10m, 2h, 3d)";
    let utc = |stamp: jiff::Timestamp| UtcTime::from_ms(u64::try_from(stamp.as_millisecond()).unwrap_or(0));
    if text.contains('[') {
        // A named zone would be read and then ignored.
        return Err(format!("{unclear}; with another zone than this machine's: 2026-03-01T09:30:00+01:00"));
    }
    // What is said without fractions means all of that second, minute or day: up to its end.
    let length_ms = |minutes_only: bool| if minutes_only { 60_000 } else { 1_000 };
    let within =
        |from: UtcTime, length_ms: u64| Moment::Within { from, to: UtcTime::from_ms(from.as_ms() + length_ms - 1) };
    let clock = text.get(11..).unwrap_or_default();
    let (is_exact, is_minute) =
        (clock.contains('.'), clock.split(['+', '-', 'Z']).next().unwrap_or_default().len() == 5);
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        let from = utc(stamp);
        return Ok(if is_exact { Moment::At(from) } else { within(from, length_ms(is_minute)) });
    }
    let zoned = |time: jiff::civil::DateTime| {
        time.to_zoned(jiff::tz::TimeZone::system())
            .map(|zoned| utc(zoned.timestamp()))
            .map_err(|error| error.to_string())
    };
    if text.len() == 10
        && let Ok(day) = text.parse::<jiff::civil::Date>()
    {
        let from = zoned(day.at(0, 0, 0, 0))?;
        return Ok(Moment::Within { from, to: zoned(day.at(23, 59, 59, 999_000_000))? });
    }
    if text.len() != 10
        && let Ok(time) = text.parse::<jiff::civil::DateTime>()
    {
        let from = zoned(time)?;
        return Ok(if is_exact { Moment::At(from) } else { within(from, length_ms(is_minute)) });
    }
    let span = text.parse::<jiff::Span>().map_err(|_| unclear.to_string())?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err("months and years differ in length: say the day, such as 2026-03-01, or days, such as 30d".into());
    }
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    u64::try_from(length.unsigned_abs().as_millis()).map(Moment::AgoMs).map_err(|_| unclear.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_without_fractions_means_all_of_that_time() {
        let span = |text: &str| match when(text) {
            Ok(Moment::Within { from, to }) => (from.to_string(), to.as_ms() - from.as_ms()),
            other => (format!("{other:?}"), 0),
        };
        assert_eq!(span("2026-03-01T09:30:15Z"), ("2026-03-01T09:30:15.000Z".into(), 999));
        assert_eq!(span("2026-03-01T09:30Z"), ("2026-03-01T09:30:00.000Z".into(), 59_999));
        assert_eq!(span("2026-03-01T09:30:15+01:00"), ("2026-03-01T08:30:15.000Z".into(), 999));
        assert_eq!(span("2026-03-01 09:30:15").1, 999);
        assert_eq!(span("2026-03-01 09:30").1, 59_999);
        assert!(span("2026-03-01").1 >= 22 * 3_600_000);
        let exact = UtcTime::from_ms(1_772_357_400_005);
        assert_eq!(when("2026-03-01T09:30:00.005Z"), Ok(Moment::At(exact)));
    }

    #[test]
    fn how_long_ago_is_said_with_and_without_the_word() {
        for text in ["10m", "10m ago", "10 minutes ago", "600s"] {
            assert_eq!(when(text), Ok(Moment::AgoMs(600_000)), "{text}");
        }
        assert_eq!(when("2w"), Ok(Moment::AgoMs(14 * 24 * 3_600_000)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "yesterday", "30", "2026-13-01", "01.03.2026", "1y", "2mo ago", "2026-03-01T09:30[Asia/Tokyo]"]
        {
            assert!(when(bad).is_err(), "{bad}");
        }
    }
}
