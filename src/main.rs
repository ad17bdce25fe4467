//! `firepool`: flags to configuration to a running proxy to an exit code.

fn main() {}
