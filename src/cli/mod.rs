//! The commands of the `firepool` program and what they print.
pub mod cluster;
