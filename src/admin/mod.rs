//! What operators and machines ask of the proxy, on a thread of its own, so that it answers while every worker is
//! busy.
//!
//! It changes nothing but the log level, and shows no literal of a statement and no secret.
//!
//! - `http`: paths, and the limits of connections and requests.
//! - `gate`: who is answered.
//! - `page`: the page for people, one document; `live` are the figures that it shows.
//! - `statements`: the statements that take the most.
//! - `level`: what is logged.
//! - `readiness`: whether the proxy is ready for clients.

pub mod gate;
pub mod http;
mod level;
mod live;
pub mod page;
mod readiness;
mod statements;
