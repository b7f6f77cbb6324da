//! `lanyard rules`: who may do what, who signed it, since when, until when.

use clap::Args;

use crate::wire::api::{self, Level, Request, Rule, RulesOf, Standings, SubjectRef, UtcTime};

use super::screen::{Screen, Stop, local, plain};
use super::{Context, Outcome};

/// List the rules in force: who may do what on which folder or path, who signed it, since when and until when
#[derive(Args)]
pub(super) struct Rules {
    /// Only the rules of this folder
    #[arg(value_name = "FOLDER")]
    folder: Option<String>,
}

impl Rules {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let asked = RulesOf { folder: self.folder };
        let rules: api::Rules = context.client()?.ask_now(&Request::Rules(asked))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&rules.rules);
        }
        if rules.standings.is_empty() {
            screen.line("no folder yet: 'lanyard share DIR' shares one")?;
        }
        for standing in &rules.standings {
            print(screen, standing, &rules.rules)?;
            screen.line("")?;
        }
        let admins: Vec<String> = rules.admins.iter().map(|admin| plain(&admin.name)).collect();
        screen.line(format_args!("Admins may change every rule: {}.", admins.join(", ")))
    }
}

/// One folder: its rules, and what they add up to.
fn print(screen: &Screen, standing: &Standings, rules: &[Rule]) -> Result<(), Stop> {
    screen.heading(&format!("Folder {}", plain(&standing.folder.name)))?;
    let rows: Vec<Vec<String>> = rules.iter().filter(|rule| rule.folder.id == standing.folder.id).map(row).collect();
    if rows.is_empty() {
        screen.line("no rule: nobody sees it")?;
    } else {
        screen.table(&["WHO", "MAY", "ON", "SIGNED BY", "SINCE", "UNTIL"], rows)?;
    }
    let mut named = Vec::new();
    for level in [Level::Manage, Level::Write, Level::Read, Level::None] {
        let members = standing.members.iter().filter(|member| member.level == level);
        let names: Vec<String> = members.map(|member| plain(&member.node.name)).collect();
        if !names.is_empty() {
            named.push(format!("{}: {}", words(level), names.join(", ")));
        }
    }
    screen.line(format_args!("On the whole folder this comes to: {}.", named.join("; ")))
}

fn row(rule: &Rule) -> Vec<String> {
    let level = rule.level.map_or("-", words);
    let level = if rule.contested { format!("at most {level} (contested)") } else { level.to_string() };
    let until = rule.until.map_or("for good".into(), moment);
    vec![subject(&rule.subject), level, on(rule), plain(&rule.by.name), moment(rule.since), until]
}

/// What a level lets do, in a word or two.
pub(super) fn words(level: Level) -> &'static str {
    match level {
        Level::None => "nothing",
        Level::Read => "read",
        Level::Write => "write",
        Level::Manage => "manage",
    }
}

/// Whom a rule is about.
pub(super) fn subject(subject: &SubjectRef) -> String {
    match subject {
        SubjectRef::Group { name, .. } => format!("group {}", plain(name)),
        other => plain(other.name()),
    }
}

/// On what a rule is, within its folder.
fn on(rule: &Rule) -> String {
    if rule.path.as_str().is_empty() { "all of it".into() } else { plain(rule.path.as_str()) }
}

/// A moment for people.
pub(super) fn moment(time: UtcTime) -> String {
    local(time, "%Y-%m-%d %H:%M")
}
