//! `firepool`: flags, to a command, to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    firepool::cli::main()
}
