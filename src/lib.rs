//! firepool is a PostgreSQL connection pooling proxy.
pub mod cli;
pub mod config;
