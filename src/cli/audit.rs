//! `lanyard audit`: who changed what, and what was refused.

use clap::Args;

use crate::wire::api::{AUDIT_ENTRIES_MAX, AuditAfter, AuditEntry, Event, Request, Stamped, Verdict};

use super::client::Client;
use super::screen::{Screen, Stop, local, plain};
use super::{Context, Outcome};

/// Show this machine's log of who changed which rule, and of what was refused, from whom and why
#[derive(Args)]
pub(super) struct Audit {
    /// Only the newest N entries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(AUDIT_ENTRIES_MAX)))]
    last: Option<u32>,

    /// Only what was refused
    #[arg(long)]
    refused: bool,

    /// Then follow what comes, until Ctrl-C
    #[arg(long)]
    follow: bool,

    /// The newest entries of all machines, as collected by the one that may be the office's server
    #[arg(long, conflicts_with = "follow")]
    office: bool,
}

impl Audit {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let screen = &context.screen;
        async_io::block_on(async {
            // Followed first: what comes in between is in both, and told apart by its number.
            let events = if self.follow { Some(client.follow().await?) } else { None };
            let mut last = self.past(&client, screen)?;
            let Some(mut events) = events else { return Ok(()) };
            while let Some(line) = events.next().await? {
                let Ok(Stamped { event: Event::Audit { entry }, .. }) = serde_json::from_str(&line) else { continue };
                if entry.seq > last && (!self.refused || entry.verdict == Verdict::Refused) {
                    last = entry.seq;
                    print(screen, &entry)?;
                }
            }
            screen.aside("the node ended.");
            Ok(())
        })
    }

    /// Prints what is there; returns the highest number.
    fn past(&self, client: &Client, screen: &Screen) -> Result<u64, Stop> {
        let mut after = if self.last.is_some() || self.office { None } else { Some(0) };
        let limit = self.last.unwrap_or(AUDIT_ENTRIES_MAX);
        let mut highest = 0;
        loop {
            let ask = AuditAfter { after, limit, refused: self.refused, office: self.office };
            let entries: Vec<AuditEntry> = client.ask_now(&Request::Audit(ask))?;
            for entry in &entries {
                print(screen, entry)?;
                highest = highest.max(entry.seq);
            }
            if after.is_none() || entries.len() < limit as usize {
                return Ok(highest);
            }
            after = Some(highest);
        }
    }
}

fn print(screen: &Screen, entry: &AuditEntry) -> Result<(), Stop> {
    if screen.json {
        return screen.document(entry);
    }
    screen.line(format_args!("{}  {}", local(entry.at, "%Y-%m-%d %H:%M:%S"), words(entry)))
}

/// An entry in a sentence.
pub(super) fn words(entry: &AuditEntry) -> String {
    let who = match (&entry.by, &entry.address) {
        (Some(by), Some(address)) => format!("{} at {}", plain(&by.name), plain(address)),
        (Some(by), None) => plain(&by.name),
        (None, Some(address)) => format!("somebody at {}", plain(address)),
        (None, None) => "somebody".into(),
    };
    let at = entry.node.as_ref().map(|node| format!("[{}] ", plain(&node.name))).unwrap_or_default();
    let mut text = format!("{at}{who} {}", plain(&entry.text));
    let named = |name: &str| entry.text.contains(name);
    if let (Some(folder), Some(path)) = (&entry.folder, &entry.path)
        && !named(path.as_str())
    {
        text += &format!(": {}/{}", plain(&folder.name), plain(path.as_str()));
    } else if let (Some(folder), None) = (&entry.folder, &entry.path)
        && !named(&folder.name)
    {
        text += &format!(": {}", plain(&folder.name));
    }
    if let Some(from) = &entry.from {
        text += &format!(" (sent by {})", plain(&from.name));
    }
    if entry.count > 1 {
        text += &format!(", {} times", entry.count);
    }
    match (entry.verdict, &entry.why) {
        (Verdict::Refused, Some(why)) => format!("REFUSED  {text}: {}", plain(why)),
        (Verdict::Refused, None) => format!("REFUSED  {text}"),
        (Verdict::Done, _) => text,
    }
}
