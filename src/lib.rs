//! firepool is a PostgreSQL connection pooling proxy.
pub mod backend;
pub mod clock;
pub mod config;
pub mod error;
pub mod frontend;
pub mod metrics;
pub mod pool;
pub mod relay;
pub mod scram;
pub mod stream;
pub mod wire;
