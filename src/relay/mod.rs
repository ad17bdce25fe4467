//! Original bytes from one side to the other. The relay reads whole chunks, looks at the headers of the messages in
//! them, and says how much may go on; it never builds a message and never buffers a large one. Pure: the sockets are
//! the callers'.
//!
//! - `request`: client to server.
//! - `reply`: server to client; `describe` takes down what it says of prepared statements, and `done` what became of the
//!   client's.

pub mod describe;
mod done;
pub mod reply;
#[cfg(test)]
mod reply_tests;
pub mod request;
