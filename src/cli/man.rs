//! `lanyard man`: the manual page, with a section for every command.

use clap::Args;
use clap_mangen::Man as Page;

use crate::wire::api::Failure;

use super::screen::Stop;
use super::{Context, Outcome};

/// Print the manual page: lanyard man | man -l -
#[derive(Args)]
pub(super) struct Man {}

impl Man {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut whole = super::command();
        whole.build();
        let mut text = Vec::new();
        render(&Page::new(whole.clone()), &mut text)?;
        // One page after the other: `man` shows them as one, and a packager can cut them at `.TH`.
        for command in whole.get_subcommands() {
            let name = format!("lanyard-{}", command.get_name());
            render(&Page::new(command.clone().display_name(name)), &mut text)?;
        }
        context.screen.line(String::from_utf8_lossy(&text).trim_end())
    }
}

fn render(page: &Page, text: &mut Vec<u8>) -> Result<(), Stop> {
    Ok(page.render(text).map_err(|error| Failure::failed("cannot make the manual page").because(&error))?)
}
