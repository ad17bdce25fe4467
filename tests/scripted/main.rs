//! The proxy between scripted peers: no PostgreSQL, and every byte under the test's control.
//!
//! - `chunks`: however the bytes are cut, both sides get the same.
//! - `torn`: a server that dies in the middle of a reply.
//! - `unasked`: a server that speaks when nobody asked it.
//! - `logins`: a server that misbehaves during the login.
//! - `desync`: what one client leaves behind must not reach another.
//! - `versions`: every version of the protocol on either side, and cancel keys of every length.
//! - `replication`: clients that have a server connection for themselves.
//! - `startup`: clients that misbehave before and during their login.
//! - `requests`: clients that misbehave after it.
//! - `terse`: errors of a server that leave out what every reader may want.
//! - `statements`: prepared statements that have other names on the server.
//! - `listening`: the connection that listens for many, and a server that says on it what it likes.
//! - `crowds`: clients that never finish their login, and those that try passwords.
//! - `floods`: clients that send without end, and many of them; memory stays bounded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests panic like tests"
)]

#[path = "../peers/mod.rs"]
mod peers;

mod chunks;
mod crowds;
mod desync;
mod floods;
mod listening;
mod logins;
mod replication;
mod requests;
mod startup;
mod statements;
mod terse;
mod torn;
mod unasked;
mod versions;
