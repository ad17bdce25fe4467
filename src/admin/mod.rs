//! What operators and machines ask of the proxy, on a thread of its own, so that it answers while every worker is
//! busy.

pub mod http;
mod statements;
