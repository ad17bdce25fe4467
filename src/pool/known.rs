//! What a pool knows of its clients' settings.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Pool;
use crate::backend::settings::{Parameters, Settings};

/// Startup settings whose ParameterStatus values are remembered, so that a login needs no server connection. More
/// different startup packets than this are served as well, only slower.
const WELCOMES: usize = 64;

/// Different settings of clients that are kept once each.
const INTERNED: usize = 256;

/// What a pool knows of its clients' settings.
#[derive(Debug, Default)]
pub(super) struct Known {
    welcomes: Mutex<Vec<(Arc<Settings>, Arc<Parameters>)>>,
    interned: Mutex<Vec<Weak<Settings>>>,
    /// How often clients have changed definitions.
    generation: AtomicU64,
}

impl Known {
    /// The server's configuration was reloaded: what was remembered is not true any more.
    pub(super) fn forget_welcomes(&self) {
        self.welcomes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A fresh connection that reports another version means another server: nothing remembered is true any more.
    pub(super) fn check_welcomes(&self, fresh: &Parameters) {
        let mut welcomes = self.welcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let version = "server_version";
        welcomes.retain(|(_, known)| known.get(version) == fresh.get(version));
    }
}

impl Pool {
    /// What a login with these settings is told, if another client has already had the same. The returned settings
    /// are the pool's own copy, which makes comparing them cheap.
    pub fn welcome(&self, settings: &Settings) -> Option<(Arc<Settings>, Arc<Parameters>)> {
        let welcomes = self.known.welcomes.lock().unwrap_or_else(PoisonError::into_inner);
        welcomes.iter().find(|(known, _)| **known == *settings).cloned()
    }

    /// Remembers what a login with these settings is told.
    pub fn remember_welcome(&self, settings: Arc<Settings>, parameters: Arc<Parameters>) {
        let mut welcomes = self.known.welcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if welcomes.len() >= WELCOMES {
            welcomes.remove(0);
        }
        welcomes.retain(|(known, _)| *known != settings);
        welcomes.push((settings, parameters));
    }

    /// How often clients have changed definitions: of tables, views, functions.
    pub fn generation(&self) -> u64 {
        self.known.generation.load(Ordering::Relaxed)
    }

    /// A client may change definitions.
    pub fn definitions_change(&self) {
        self.known.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The pool's own copy of a client's settings, so that comparing those of its clients costs next to nothing.
    pub fn intern(&self, settings: &Arc<Settings>) -> Arc<Settings> {
        let mut known = self.known.interned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.iter().filter_map(Weak::upgrade).find(|known| known == settings) {
            return same;
        }
        known.retain(|known| known.strong_count() > 0);
        if known.len() < INTERNED {
            known.push(Arc::downgrade(settings));
        }
        Arc::clone(settings)
    }
}
