//! What a login found out, which holds for as long as the client is there.

use std::sync::Arc;

use super::cancel::Registration;
use crate::backend::settings::{Parameters, Settings};
use crate::pool::{Lease, Permit, Pool};

/// What a login found out.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) pool: Arc<Pool>,
    pub(super) settings: Arc<Settings>,
    /// What it has been told.
    pub(super) parameters: Arc<Parameters>,
    /// In session mode, the server connection that the client has from its login on.
    pub(super) own: Option<Lease>,
    pub(super) cancel: Registration,
    /// Its places under the limits of clients, held and never read.
    pub(super) _permits: Vec<Permit>,
}
