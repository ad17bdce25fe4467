//! What the tests with a real PostgreSQL share: a server, proxies in front of it, and clients that hide nothing.

pub mod fixture;
pub mod messages;
pub mod raw;
pub mod run;
pub mod server;
pub mod wait;
