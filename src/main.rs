//! The program `lanyard`: the node and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    lanyard::cli::run()
}
