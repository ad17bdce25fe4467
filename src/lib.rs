//! firepool is a PostgreSQL connection pooling proxy. In reading order:
//!
//! - [`app`]: how everything is put together, started and stopped.
//! - [`cli`]: the commands.
//! - [`config`]: what was written and what it means.
//! - [`admin`]: metrics and health over HTTP.
//! - [`frontend`]: clients, from accept to goodbye.
//! - [`pool`]: who gets which server connection when.
//! - [`notify`]: LISTEN for many clients over one server connection.
//! - [`backend`]: server connections.
//! - [`relay`]: original bytes from one side to the other.
//! - [`schemas`]: whose schemas names are in, pure.
//! - [`statement`]: what SQL does to a session, pure.
//! - [`wire`]: the protocol, pure.
//! - [`secret`]: what is known of passwords.
//! - [`hba`]: who has to prove what, as `pg_hba.conf` says it.
//! - [`log`]: where the proxy's own words go.
//! - [`spans`]: OpenTelemetry's spans of queries, on their way to a collector.
//! - On the ground floor: [`metrics`], [`scram`], [`stream`], [`tls`], [`clock`], [`error`], [`rule`],
//!   [`fnv`].

#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod backend;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod fnv;
pub mod frontend;
pub mod hba;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod pool;
pub mod relay;
pub mod rule;
pub mod schemas;
pub mod scram;
pub mod secret;
pub mod spans;
pub mod statement;
pub mod stream;
pub mod tls;
pub mod wire;
