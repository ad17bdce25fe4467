//! PostgreSQL's wire protocol, version 3, as far as a relay has to know it. Pure: no sockets, no clock, no SQL.
//!
//! - `frame`: where a message ends, and which lengths are believable.
//! - `turn`: the one protocol state of a server connection: which replies are owed, and whether it is at rest;
//!   `owed` has its words.
//! - `tag`: what a CommandComplete tag tells.
//! - `version`: which versions are spoken, and how two peers agree on one.
//! - `error_fields`: the fields of an ErrorResponse or NoticeResponse.
//!
//! Nothing here allocates on the path of a query, and nothing here can panic on what a peer sends.

mod bills;
pub mod error_fields;
pub mod frame;
mod kind;
mod owed;
pub mod tag;
pub mod turn;
pub mod version;

#[cfg(test)]
mod turn_tests;
