//! The commands and what they print.
//!
//! - `serve`: runs the proxy with a configuration.
//! - `dev`: runs it with a PostgreSQL of its own, which `cluster` keeps.
//! - `check`: says what is wrong with a configuration, and what it comes to; `connect` asks the servers as well.
//! - `signals`: when to stop, and when to read certificates again; `certificate` makes one for development.
//! - `log`: starts the logs.

mod certificate;
pub mod check;
pub mod cluster;
mod connect;
mod dev;
mod limits;
mod log;
mod serve;
mod signals;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// EX_USAGE and EX_CONFIG of sysexits.h, as service managers know them.
const EX_CONFIG: u8 = 78;

/// A PostgreSQL connection pooling proxy.
#[derive(Debug, Parser)]
#[command(name = "firepool", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until SIGTERM or Ctrl-C
    ///
    /// SIGTERM lets running transactions end, for at most `proxy.shutdown_timeout`; a second signal ends at once.
    Serve {
        /// The configuration, in TOML; see config/REFERENCE.md
        #[arg(long, value_name = "FILE", env = "FIREPOOL_CONFIG")]
        config: PathBuf,
    },
    /// Run PostgreSQL with FireFoundry's databases and the proxy in front of it, for development
    ///
    /// Finds an installed PostgreSQL server, keeps its data in a folder of its own, and prints the connection strings
    /// of every user. All passwords are "password"; everything listens on the loopback interface only. Ctrl-C stops
    /// both; the next start finds the data again.
    Dev(dev::Arguments),
    /// Say what is wrong with a configuration, and how many server connections it comes to
    Check {
        /// The configuration, in TOML
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Log in to every target as well, compare the pools with what each server allows, and look at what the roles of
        /// read-only routes could write
        #[arg(long)]
        connect: bool,
    },
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = |name: &str| std::env::var(name).ok();
    match arguments.command {
        Command::Serve { config } => serve::run(&config, &environment),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Check { config, connect } => {
            let (report, good) = check::report(&config, &environment);
            print(&report);
            match (good, connect) {
                (true, true) => connect::run(&config, &environment),
                (true, false) => ExitCode::SUCCESS,
                (false, _) => ExitCode::from(EX_CONFIG),
            }
        }
    }
}

/// Prints to standard output; a reader that has gone, as `head` does, is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints to standard error.
fn complain(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
}
