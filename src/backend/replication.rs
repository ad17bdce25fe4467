//! Server connections that replicate. Their bytes are not looked at: a client has one for itself, from its login to its
//! end, and they never come to a pool.

use std::sync::Arc;

use super::cancel::CancelKey;
use crate::stream::Stream;

/// A replication connection to a server, logged in.
#[derive(Debug)]
pub struct Walsender {
    /// The socket, which belongs to the current runtime.
    pub stream: Stream,
    /// What a cancel request for it needs.
    pub key: Arc<CancelKey>,
    /// The messages between AuthenticationOk and ReadyForQuery but for BackendKeyData: the client's, whose startup
    /// parameters they answer.
    pub greeting: Vec<u8>,
    /// What has come behind ReadyForQuery.
    pub unread: Vec<u8>,
}
