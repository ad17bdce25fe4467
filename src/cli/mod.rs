//! The subcommands and what they print.
pub mod check;
