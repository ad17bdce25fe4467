//! firepool is a PostgreSQL connection pooling proxy.
pub mod config;
