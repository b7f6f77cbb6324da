//! `lanyard completions`: what makes a shell complete this command line.

use clap::Args;
use clap_complete::Shell;

use super::{Context, Outcome};

/// Print the completions for a shell
///
/// For bash: lanyard completions bash > ~/.local/share/bash-completion/completions/lanyard
#[derive(Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "lanyard", &mut script);
        context.screen.line(String::from_utf8_lossy(&script).trim_end())
    }
}
