//! `lanyard recover`: the paper key makes this machine an admin.

use std::io::{IsTerminal, Read};

use clap::Args;

use crate::wire::api::{Failure, RecoverMesh, Recovered, Request, Secret};

use super::screen::plain;
use super::{Context, Outcome};

/// Longest text that is read as a key: one that was typed with much around it.
const KEY_BYTES_MAX: u64 = 4096;

/// Make this machine an admin by the recovery key that was printed when the mesh began
///
/// For when every admin's machine is lost, or one was stolen. Run it on a machine that is a member, or was one: the key
/// signs, but the rules and files are on the members. The key is read from the standard input, where no other program
/// sees it. New machines are then invited as ever.
#[derive(Args)]
pub(super) struct Recover {
    /// Also remove this machine, such as one that was stolen; can be repeated
    #[arg(long, value_name = "NODE")]
    expel: Vec<String>,
}

impl Recover {
    pub(super) fn run(self, context: &Context) -> Outcome {
        // Asked before typing: without a node the key is not needed.
        let client = context.client()?;
        let ask = RecoverMesh { key: read_key(context)?, expel: self.expel };
        let recovered: Recovered = client.ask_now(&Request::Recover(ask))?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&recovered);
        }
        screen.line(format_args!("{} is an admin now.", plain(&recovered.node.name)))?;
        for node in &recovered.expelled {
            screen.line(format_args!("{} is no member any more.", plain(&node.name)))?;
        }
        screen.line(
            "Next: 'lanyard nodes' shows who is in; 'lanyard invite' adds machines, also those that were removed.",
        )?;
        screen.line("Keep the recovery key: it stays the same.")
    }
}

/// A line from a terminal; all there is from anything else, since a key may be written on several lines.
fn read_key(context: &Context) -> Result<Secret, Failure> {
    let cannot = |error: std::io::Error| Failure::failed("cannot read the recovery key").because(&error);
    let mut key = Secret(String::new());
    let input = std::io::stdin();
    if input.is_terminal() {
        context.screen.aside("Type the recovery key, 24 words, on one line:");
        input.read_line(&mut key.0).map_err(cannot)?;
    } else {
        input.lock().take(KEY_BYTES_MAX).read_to_string(&mut key.0).map_err(cannot)?;
    }
    if key.0.trim().is_empty() {
        return Err(
            Failure::usage("no recovery key was given").hint("type it, or pipe it in: 'lanyard recover < FILE'")
        );
    }
    Ok(key)
}
