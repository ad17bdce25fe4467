//! What a login found out, which holds for as long as the client is there.

use std::sync::Arc;

use super::cancel::Registration;
use crate::pool::{Lease, Permit, Pool};

/// What a login found out.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) pool: Arc<Pool>,
    /// In session mode, the server connection that the client has from its login on.
    pub(super) own: Option<Box<Lease>>,
    pub(super) cancel: Registration,
    /// Its places under the limits of clients, held and never read.
    pub(super) _permits: Box<[Permit]>,
}
