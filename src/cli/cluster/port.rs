//! The TCP port of a server: which one, and whether it was the port that kept the server from starting.
//!
//! A port that is free now may be taken a moment later, so nothing is promised beforehand: the server tries, and when
//! its port was the reason that it failed, the next one is tried.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use super::error::{At, ClusterError};

/// Which TCP port of 127.0.0.1 the server listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Any that is free.
    Free,
    /// This one if it is free, else any.
    Preferred(u16),
    /// This one, or fail.
    Fixed(u16),
}

/// A port nobody listens on at this moment; the next moment may be different.
pub(super) fn free() -> Result<u16, ClusterError> {
    let found = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    Ok(found.at("bind", Path::new("127.0.0.1:0"))?.port())
}

/// Whether the server ended because of its port. The text is always English: we chose the server's locale.
pub(super) fn is_taken(port: u16, tail: &str) -> bool {
    tail.contains("Address already in use")
        || TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}
