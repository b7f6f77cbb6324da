//! `lanyard leave`: leave the mesh.

use clap::Args;

use crate::wire::api::{Left, Request};

use super::screen::plain;
use super::{Context, Outcome};

/// Leave the mesh; the files here stay
#[derive(Args)]
pub(super) struct Leave {}

impl Leave {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let left: Left = context.client()?.ask_now(&Request::Leave)?;
        let screen = &context.screen;
        if screen.json {
            return screen.document(&left);
        }
        let mesh = plain(&left.mesh.name);
        match (left.already, left.dissolved) {
            (true, _) => screen.line(format_args!("This machine is no member of '{mesh}' any more. Its files stay.")),
            (false, true) => {
                screen.line(format_args!("'{mesh}' is dissolved: nobody else was in it. The files here stay."))
            }
            (false, false) => screen.line(format_args!("This machine has left '{mesh}'. The files here stay.")),
        }
    }
}
