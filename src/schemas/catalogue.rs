//! The newest snapshot of one database, and when its catalogue has to be asked again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::snapshot::{Reading, Snapshot};
use crate::metrics::roster::Roster;

/// How long after a change the catalogue is asked: what follows in the same breath is seen as well.
const SETTLE: u64 = 250;

/// How long at least lies between two questions, and between the end of one that failed and the next, in milliseconds.
const PAUSE: u64 = 1_000;
const AFTER_FAILURE: u64 = 5_000;

/// How long at least lies between two that are asked only because a name was not known. Names that do not exist are
/// nothing rare.
const AFTER_MISS: u64 = 60_000;

/// How long at least lies between an answer and a question that is asked only because a server connection was lost.
const AFTER_LOSS: u64 = 10_000;

/// When the catalogue is asked, in milliseconds of the process's clock.
#[derive(Debug, Default)]
struct Plan {
    asking: bool,
    /// When the last answer came.
    answered: Option<u64>,
    /// Not before.
    pause: u64,
    /// Since when something may be different.
    changed: Option<u64>,
}

impl Plan {
    /// Something may be different from then on.
    fn ask_from(&mut self, when: u64) {
        self.changed = Some(self.changed.map_or(when, |before| before.min(when)));
    }
}

/// When the database's server was started, as it said last, and how often that was another time than before.
#[derive(Debug, Default)]
struct Starts {
    /// Milliseconds of Unix time; 0 before it is known.
    last: AtomicU64,
    again: AtomicU64,
}

impl Starts {
    fn saw(&self, started: u64) {
        let before = self.last.swap(started, Ordering::Relaxed);
        if before != 0 && before != started {
            self.again.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is known of one database's schemas.
#[derive(Debug)]
pub struct Catalogue {
    roster: Arc<Roster>,
    snapshot: Mutex<Arc<Snapshot>>,
    /// Moves with the snapshot.
    generation: AtomicU64,
    plan: Mutex<Plan>,
    starts: Starts,
    /// How long a snapshot is good; `None` if the catalogue is never asked.
    every: Option<u64>,
}

/// How often a catalogue is asked.
pub type Refresh = Option<Duration>;

impl Catalogue {
    /// Of which nothing is known yet.
    pub fn new(roster: Arc<Roster>, every: Refresh) -> Self {
        let snapshot = Mutex::new(Arc::new(Snapshot::unasked(&roster)));
        let every = every.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        Self {
            roster,
            snapshot,
            generation: AtomicU64::new(1),
            plan: Mutex::default(),
            starts: Starts::default(),
            every,
        }
    }

    /// The schemas that statements are counted by.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another number for each snapshot.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has committed DDL.
    pub fn has_changed(&self, now: u64) {
        self.plan().ask_from(now);
    }

    /// A server connection was lost: the server may have been restarted, and it may be another one that answers now.
    pub fn has_lost(&self, now: u64) {
        let mut plan = self.plan();
        if let Some(answered) = plan.answered {
            plan.ask_from(now.max(answered.saturating_add(AFTER_LOSS)));
        }
    }

    /// When the server was started, in milliseconds of Unix time, if that is known, and how many restarts were seen.
    pub fn starts(&self) -> (Option<u64>, u64) {
        let last = self.starts.last.load(Ordering::Relaxed);
        ((last != 0).then_some(last), self.starts.again.load(Ordering::Relaxed))
    }

    /// A name was not known.
    pub fn missed(&self, now: u64) {
        let mut plan = self.plan();
        if plan.answered.is_some_and(|answered| now >= answered.saturating_add(AFTER_MISS)) {
            plan.ask_from(now);
        }
    }

    /// Whether the caller is to ask now, and to say [`Self::is`] or [`Self::failed`].
    pub fn asks(&self, now: u64) -> bool {
        let Some(every) = self.every else { return false };
        let mut plan = self.plan();
        let changed = plan.changed.is_some_and(|changed| now >= changed.saturating_add(SETTLE));
        let old = plan.answered.is_none_or(|answered| now >= answered.saturating_add(every));
        if plan.asking || now < plan.pause || !(changed || old) {
            return false;
        }
        plan.asking = true;
        plan.changed = None;
        true
    }

    /// The answer.
    pub fn is(&self, reading: Reading, now: u64) {
        if let Some(started) = reading.started {
            self.starts.saw(started);
        }
        let snapshot = Arc::new(Snapshot::new(reading, &self.roster));
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.generation.fetch_add(1, Ordering::AcqRel);
        let mut plan = self.plan();
        (plan.asking, plan.answered, plan.pause) = (false, Some(now), now.saturating_add(PAUSE));
    }

    /// There was none. What is known stays.
    pub fn failed(&self, now: u64) {
        let mut plan = self.plan();
        (plan.asking, plan.pause) = (false, now.saturating_add(AFTER_FAILURE));
        if plan.answered.is_some() {
            plan.ask_from(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(every: Refresh) -> Catalogue {
        Catalogue::new(Arc::new(Roster::new(&[], 5)), every)
    }

    #[test]
    fn a_catalogue_is_asked_at_once_then_now_and_then_and_soon_after_a_change() {
        let catalogue = catalogue(Some(Duration::from_secs(300)));
        assert!(catalogue.asks(0) && !catalogue.asks(0), "one asks");
        let before = catalogue.generation();
        catalogue.is(Reading::default(), 50);
        assert_ne!(catalogue.generation(), before);
        assert!(!catalogue.asks(2_000) && !catalogue.asks(300_049) && catalogue.asks(300_050));
        catalogue.is(Reading::default(), 300_060);
        catalogue.has_changed(300_100);
        assert!(!catalogue.asks(300_500), "not so soon after the last one");
        assert!(catalogue.asks(301_060));
        catalogue.has_changed(301_070);
        catalogue.is(Reading::default(), 301_080);
        assert!(catalogue.asks(302_080), "a change while it is asked is another reason");
    }

    #[test]
    fn a_failure_is_tried_again_and_a_name_that_is_not_there_asks_seldom() {
        let catalogue = catalogue(Some(Duration::from_secs(300)));
        assert!(catalogue.asks(0));
        catalogue.failed(10);
        assert!(!catalogue.asks(5_000) && catalogue.asks(5_010));
        catalogue.is(Reading::default(), 5_020);
        catalogue.missed(10_000);
        assert!(!catalogue.asks(20_000));
        catalogue.missed(70_000);
        assert!(catalogue.asks(70_250));
        catalogue.failed(70_260);
        assert!(catalogue.asks(75_260));
    }

    #[test]
    fn lost_connections_have_the_catalogue_asked_but_not_again_and_again() {
        let catalogue = catalogue(Some(Duration::from_secs(300)));
        assert!(catalogue.asks(0));
        catalogue.is(Reading::default(), 100);
        catalogue.has_lost(2_000);
        assert!(!catalogue.asks(10_000) && catalogue.asks(10_350));
        catalogue.is(Reading::default(), 10_400);
        catalogue.has_lost(15_000);
        catalogue.has_changed(16_000);
        assert!(catalogue.asks(16_250), "a change does not wait for it");
    }

    #[test]
    fn a_server_that_was_started_at_another_time_was_restarted() {
        let catalogue = catalogue(None);
        let said = |started| {
            let mut reading = Reading::default();
            reading.started = started;
            catalogue.is(reading, 0);
            catalogue.starts()
        };
        assert_eq!(catalogue.starts(), (None, 0));
        assert_eq!(said(None), (None, 0));
        assert_eq!(said(Some(1_700_000_000_000)), (Some(1_700_000_000_000), 0));
        assert_eq!(said(Some(1_700_000_000_000)), (Some(1_700_000_000_000), 0));
        assert_eq!(said(Some(1_700_000_000_400)), (Some(1_700_000_000_400), 1));
    }

    #[test]
    fn a_catalogue_that_is_never_asked_says_so() {
        let catalogue = catalogue(None);
        catalogue.has_changed(0);
        assert!(!catalogue.asks(1_000_000));
    }
}
