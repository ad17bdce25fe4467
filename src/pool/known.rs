//! What a pool knows of its clients' settings.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Pool;
use crate::backend::hidden::Hidden;
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
    /// How many statements clients have parsed under a name.
    parses: AtomicU64,
    /// What the database's own definitions may do to a session, and when that was asked, in milliseconds of the process's
    /// clock; nobody has asked yet at 0.
    hidden: Mutex<Arc<Hidden>>,
    asked: AtomicU64,
    asking: AtomicU64,
    definitions: Arc<Definitions>,
    /// How often they had changed when that was asked.
    seen: AtomicU64,
    /// Clients ask what the sequences of their session gave last.
    sequences: AtomicBool,
}

/// What clients do to the definitions of a database, whichever pool of it they use.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    /// How often they have changed since the proxy runs.
    changes: AtomicU64,
    /// Clients that are gone, and whose statements may change them at any moment.
    changing: AtomicU64,
}

/// Until it is dropped, nobody knows what definitions do.
#[derive(Debug)]
pub struct Changing(Arc<Definitions>);

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.changes.fetch_add(1, Ordering::AcqRel);
        self.0.changing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// For how long what definitions do is taken to be as it was, in milliseconds, unless a client changes some.
const HIDDEN: u64 = 300_000;

/// How long nobody else asks what definitions do once one client does, in milliseconds.
const ASKING: u64 = 10_000;

impl Known {
    pub(super) fn new(definitions: Arc<Definitions>) -> Self {
        Self { definitions, ..Self::default() }
    }

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

    /// How many statements clients have parsed under a name.
    pub fn parses(&self) -> u64 {
        self.known.parses.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub fn count_parse(&self) -> u64 {
        self.known.parses.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether clients ask what the sequences of their session gave last: what another client's gave is to be forgotten
    /// then.
    pub fn reads_sequences(&self) -> bool {
        self.known.sequences.load(Ordering::Relaxed)
    }

    /// A client asks what a sequence of its session gave last.
    pub fn sequences_are_read(&self) {
        self.known.sequences.store(true, Ordering::Relaxed);
    }

    /// What the database's own definitions may do to a session, as far as is known.
    pub fn hidden(&self) -> Arc<Hidden> {
        Arc::clone(&self.known.hidden.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When that was found out. Another value means that it may be another.
    pub fn hidden_since(&self) -> u64 {
        self.known.asked.load(Ordering::Acquire)
    }

    /// Whether it should be asked again.
    pub fn hidden_is_old(&self) -> bool {
        let asked = self.hidden_since();
        self.is_unseen() || self.clock.now().saturating_sub(asked) > HIDDEN
    }

    /// Whether the caller is to ask: one of those who find the answer old, all of those who have none.
    pub fn looks_at_definitions(&self) -> bool {
        let (now, asking) = (self.clock.now(), self.known.asking.load(Ordering::Acquire));
        self.is_unseen()
            || (now.saturating_sub(asking) > ASKING
                && self
                    .known
                    .asking
                    .compare_exchange(asking, now, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok())
    }

    /// Whether nobody has asked since they changed.
    fn is_unseen(&self) -> bool {
        self.hidden_since() == 0
            || self.known.seen.load(Ordering::Acquire) != self.definition_changes()
            || self.known.definitions.changing.load(Ordering::Acquire) > 0
    }

    /// A client has changed definitions, for every pool of the database.
    pub fn definitions_have_changed(&self) {
        self.known.definitions.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// A client is gone that may have sent what changes definitions: so it is until its server connection is at rest.
    pub fn definitions_are_changing(&self) -> Changing {
        let definitions = Arc::clone(&self.known.definitions);
        definitions.changing.fetch_add(1, Ordering::AcqRel);
        Changing(definitions)
    }

    /// How often they have changed, for [`Self::hidden_is`].
    pub fn definition_changes(&self) -> u64 {
        self.known.definitions.changes.load(Ordering::Acquire)
    }

    /// The server has said what the definitions do. `seen` is how often they had changed before it was asked.
    pub fn hidden_is(&self, hidden: Hidden, seen: u64) {
        *self.known.hidden.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(hidden);
        self.known.seen.store(seen, Ordering::Release);
        let asked = self.hidden_since();
        self.known.asked.store(self.clock.now().max(asked + 1), Ordering::Release);
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
