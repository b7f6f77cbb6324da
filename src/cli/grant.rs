//! `lanyard grant` and `lanyard revoke`: sign a rule, withdraw one.

use clap::Args;

use crate::wire::api::{GrantRule, Level, Request, RevokeRule, Rule, Ruled, Until, UtcTime};

use super::rules::{moment, subject};
use super::screen::{Screen, Stop, plain};
use super::{Context, Outcome};

/// Say what a machine, a group or everyone may do in a folder, or below a path in it
///
/// The most specific path decides; on one path a rule about a machine comes before one about its groups, and that before
/// one about everyone. Every machine checks every rule by itself.
#[derive(Args)]
pub(super) struct Grant {
    /// Whom it is about: a machine by name or id, a group, or 'everyone'
    #[arg(value_name = "NODE|everyone|GROUP")]
    subject: String,

    /// Where: a folder, or a path in it
    #[arg(value_name = "FOLDER[:SUBPATH]")]
    at: String,

    /// What they may do there; each level includes those before it
    #[arg(value_name = "LEVEL", value_parser = super::level(&["none", "read", "write", "manage"]))]
    level: Level,

    /// Until when: a day (2026-12-31, to its end), a time (2026-12-31T17:00), or how long from now (12h, 30d, 2w)
    #[arg(long, value_name = "WHEN", value_parser = until)]
    until: Option<Until>,
}

impl Grant {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let ask = GrantRule { subject: self.subject, at: self.at, level: self.level, until: self.until };
        let ruled: Ruled = context.client()?.ask_now(&Request::Grant(ask))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&ruled);
        }
        let until = ruled.rule.until.map(|until| format!(" until {}", moment(until))).unwrap_or_default();
        let (who, place) = (subject(&ruled.rule.subject), place(&ruled.rule));
        match self.level {
            Level::None => screen.line(format_args!("{who} may not see {place}{until}."))?,
            Level::Read => screen.line(format_args!("{who} may read {place}{until}."))?,
            Level::Write => screen.line(format_args!("{who} may change {place}{until}."))?,
            Level::Manage => {
                screen.line(format_args!("{who} may change {place}, and say who else may{until}."))?;
            }
        }
        conclude(screen, &ruled, Some(self.level))
    }
}

/// Withdraw a rule: what is less specific, if anything, decides again
#[derive(Args)]
pub(super) struct Revoke {
    /// Whom the rule is about, as in 'grant'
    #[arg(value_name = "NODE|everyone|GROUP")]
    subject: String,

    /// Where the rule is, as in 'grant'
    #[arg(value_name = "FOLDER[:SUBPATH]")]
    at: String,
}

impl Revoke {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let ask = RevokeRule { subject: self.subject, at: self.at };
        let ruled: Ruled = context.client()?.ask_now(&Request::Revoke(ask))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&ruled);
        }
        let (who, place) = (subject(&ruled.rule.subject), place(&ruled.rule));
        screen.line(format_args!("the rule for {who} on {place} is withdrawn."))?;
        conclude(screen, &ruled, None)
    }
}

/// What it comes to, where other rules have their say, and what cannot be undone.
fn conclude(screen: &Screen, ruled: &Ruled, granted: Option<Level>) -> Result<(), Stop> {
    if let Some(level) = ruled.comes_to.filter(|level| Some(*level) != granted) {
        let who = subject(&ruled.rule.subject);
        screen.line(format_args!("All rules together, {who} now has '{level}' on {}.", place(&ruled.rule)))?;
    }
    if let Some(level) = ruled.lowers_own {
        screen.line(format_args!(
            "This machine is meant too: it has '{level}' there now. A rule that names it gives it more."
        ))?;
    }
    if ruled.lowers_read {
        screen.line("What is on their disks already stays there: it cannot be called back.")?;
    }
    Ok(())
}

fn place(rule: &Rule) -> String {
    match rule.path.as_str() {
        "" => plain(&rule.folder.name),
        path => format!("{}/{}", plain(&rule.folder.name), plain(path)),
    }
}

/// When a rule ends, as people say it.
fn until(text: &str) -> Result<Until, String> {
    let text = text.trim();
    let end_of = |time: jiff::Zoned| {
        let ms = u64::try_from(time.timestamp().as_millisecond()).unwrap_or(0);
        Ok(Until::At(UtcTime::from_ms(ms)))
    };
    let beyond = |error: jiff::Error| error.to_string();
    let unclear = "say a day (2026-12-31), a time (2026-12-31T17:00) or how long (12h, 30d, 2w)";
    if text.contains('[') {
        // A named zone would be read and then ignored.
        return Err(format!("{unclear}; with another zone than this machine's: 2026-12-31T17:00:00+01:00"));
    }
    // With its own zone: 2026-12-31T17:00:00Z.
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return end_of(stamp.to_zoned(jiff::tz::TimeZone::UTC));
    }
    let is_date = text.len() == 10;
    if let (true, Ok(day)) = (is_date, text.parse::<jiff::civil::Date>()) {
        return end_of(day.at(23, 59, 59, 999_000_000).to_zoned(jiff::tz::TimeZone::system()).map_err(beyond)?);
    }
    if let (false, Ok(time)) = (is_date, text.parse::<jiff::civil::DateTime>()) {
        return end_of(time.to_zoned(jiff::tz::TimeZone::system()).map_err(beyond)?);
    }
    let span = text.parse::<jiff::Span>().map_err(|_| unclear.to_string())?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err("months and years differ in length: say the day, such as 2026-12-31, or days, such as 30d".into());
    }
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(beyond)?;
    match u64::try_from(length.as_millis()) {
        Ok(ms) if ms > 0 => Ok(Until::AfterMs(ms)),
        _ => Err("that is in the past: the time is counted from now on".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_with_its_last_millisecond_and_a_span_counts_days_of_24_hours() {
        let at = |text: &str| match until(text) {
            Ok(Until::At(time)) => time.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(at("2026-12-31T17:00:00Z"), "2026-12-31T17:00:00.000Z");
        assert_eq!(at("2026-12-31T17:00:00+01:00"), "2026-12-31T16:00:00.000Z");
        assert!(at("2026-12-31").ends_with(":59:59.999Z"), "{}", at("2026-12-31"));
        assert!(at("2026-12-31 17:00").contains(":00:00.000Z"), "{}", at("2026-12-31 17:00"));
        assert_eq!(until("30d"), Ok(Until::AfterMs(30 * 24 * 3_600_000)));
        assert_eq!(until("2w"), Ok(Until::AfterMs(14 * 24 * 3_600_000)));
        assert_eq!(until("1h 30m"), Ok(Until::AfterMs(5_400_000)));
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_one_looks_like() {
        for bad in [
            "",
            "soon",
            "30",
            "2026-13-01",
            "2026-02-30",
            "31.12.2026",
            "-5d",
            "0s",
            "1mo",
            "1y",
            "tomorrow",
            "2026-12-31T17:00[Asia/Tokyo]",
        ] {
            assert!(until(bad).is_err(), "{bad}");
        }
    }
}
