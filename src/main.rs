//! `firepool`: flags, to a command, to an exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    firepool::cli::main()
}
