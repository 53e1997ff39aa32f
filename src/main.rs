//! The `sps` command: parse, run, exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    sps::cli::run()
}
