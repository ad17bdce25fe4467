//! firepool is a PostgreSQL connection pooling proxy.
pub mod config;
pub mod error;
pub mod relay;
pub mod scram;
pub mod stream;
pub mod wire;
