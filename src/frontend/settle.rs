//! What happens when a client's transaction has ended and its server connection could go back: first it has to be known
//! what the session holds. Most of the time nothing was done that would matter, and nothing is asked.

use std::sync::Arc;

use super::session::Session;
use super::visit::Visit;
use crate::backend::probe::{Definitions, Question};
use crate::backend::settings;
use crate::config::PoolMode;
use crate::metrics::Counter;
use crate::pool::Lease;
use crate::wire::tag::{Pins, SessionState};

/// How often the server is asked before the client is pinned instead. A late cancel request of the client's can end the
/// proxy's own question.
pub(super) const ATTEMPTS: u32 = 3;

/// A question that the server is being asked.
#[derive(Debug)]
pub(super) struct Inquiry {
    question: Question,
    attempts: u32,
    /// How often definitions had changed before that.
    changes: u64,
}

/// What becomes of a server connection on which nothing is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The server is being asked something first.
    Ask,
    /// The hub has to be asked first.
    Subscribe,
    /// The client keeps it.
    Keep,
    /// It goes back.
    Done,
    /// What the client listens to cannot be handed over.
    Lost,
}

impl Session {
    /// Decides what becomes of the server connection.
    pub(super) fn settle(&mut self, lease: &mut Lease, visit: &mut Visit) -> Settled {
        if self.identity.pool.route().mode == PoolMode::Session {
            return self.settle_own(lease, visit);
        }
        let seen = &mut visit.tally.seen;
        if let Some(transfer) = self.transfer.take() {
            let (failed, rows) = (seen.own_failure.take().is_some(), std::mem::take(&mut seen.own_rows));
            let answer = if failed { None } else { Some(&*rows) };
            return self.go_on(*transfer, answer, lease).unwrap_or_else(|| self.conclude(lease, visit));
        }
        if let Some(inquiry) = self.inquiry.take() {
            let failed = seen.own_failure.take().is_some();
            let rows = std::mem::take(&mut seen.own_rows);
            if let Some(settled) = self.hear(*inquiry, (failed, &rows), lease) {
                return settled;
            }
        } else {
            (seen.own_failure, seen.own_rows) = (None, Vec::new());
            if std::mem::take(&mut seen.discarded) {
                // What was done that nobody could find out may have outlived it.
                lease.tainted |= self.holdings.pins.contains(SessionState::Opaque);
                self.holdings.discard();
            }
            let leaves = std::mem::take(&mut seen.leaves);
            if std::mem::take(&mut seen.commands) == 0 {
                // What could not be judged was refused by the server as well, most likely for its syntax.
                if self.holdings.lookout.unjudged {
                    self.holdings.lookout.forget_unjudged();
                }
            }
            if std::mem::take(&mut seen.unclear) {
                // Nobody knows what it did.
                self.holdings.stick(SessionState::Opaque);
            }
            // It may have been parsed long ago.
            if leaves.contains(SessionState::Listen) {
                self.holdings.lookout.states = true;
            }
            if self.holdings.lookout.unjudged {
                [SessionState::Setting, SessionState::Opaque, SessionState::Load]
                    .into_iter()
                    .filter(|state| leaves.contains(*state))
                    .for_each(|state| self.holdings.pin(state));
            }
            let changes = lease.parameters().changes();
            if std::mem::replace(&mut visit.changes, changes) != changes && !self.holdings.explains(lease) {
                self.holdings.is_surprised();
            }
            if visit.errors && !self.holdings.listening.is_absent() {
                self.holdings.listening.has_failed();
            }
            if !self.holdings.lookout.is_empty() {
                let question = self.holdings.question(std::mem::take(&mut visit.errors));
                if self.holdings.lookout.defines {
                    self.identity.pool.definitions_have_changed();
                }
                let changes = self.identity.pool.definition_changes();
                return self.ask(Inquiry { question, attempts: 0, changes }, lease);
            }
        }
        // The encoding is what the server reports, now that nothing is on its way.
        self.holdings.lookout.reset();
        if self.holdings.listening.has_changed() {
            self.begin_transfer(lease)
        } else {
            self.conclude(lease, visit)
        }
    }

    /// All is known.
    pub(super) fn conclude(&mut self, lease: &mut Lease, visit: &Visit) -> Settled {
        if !self.holdings.listening.is_absent() {
            self.holdings.listening.compare_encoding(lease.parameters());
        }
        if self.keeps(&visit.footprint) && !self.worker.draining.get() {
            self.identity.cancel.target.aim(lease.cancel_key());
            lease.set_exclusive(!self.holdings.pins.is_empty());
            Settled::Keep
        } else {
            Settled::Done
        }
    }

    /// The same where the server connection is the client's for its whole life.
    fn settle_own(&mut self, lease: &mut Lease, visit: &mut Visit) -> Settled {
        let assigned = self.inquiry.take().is_some();
        let reassigned = self.holdings.lookout.reassigned;
        if reassigned {
            self.holdings.lookout.reassigned = false;
        }
        let reset = std::mem::take(&mut visit.tally.seen.reset) && !reassigned && !assigned;
        if reset && let Some(sql) = settings::assignment(self.holdings.startup(), |_| true) {
            // A statement that was parsed earlier: nothing could be put behind it.
            lease.reassign(&sql);
            let inquiry = Inquiry { question: Question::default(), attempts: 0, changes: 0 };
            self.inquiry = Some(Box::new(inquiry));
            return Settled::Ask;
        }
        if self.worker.draining.get() { Settled::Done } else { Settled::Keep }
    }

    /// Asks the server, and takes back what was lent. The client's cancel requests have nothing to hit meanwhile.
    fn ask(&mut self, inquiry: Inquiry, lease: &mut Lease) -> Settled {
        self.identity.cancel.target.release();
        self.shard.add(Counter::Questions, 1);
        for name in std::mem::take(&mut self.holdings.lookout.borrowed) {
            lease.close_statement(&name, crate::wire::turn::Asker::Proxy);
        }
        inquiry.question.queue(lease);
        self.inquiry = Some(Box::new(inquiry));
        Settled::Ask
    }

    /// Takes the server's answer; `None` if all is known.
    fn hear(
        &mut self,
        inquiry: Inquiry,
        (failed, rows): (bool, &[Vec<u8>]),
        lease: &mut Lease,
    ) -> Option<Settled> {
        let Inquiry { question, attempts, changes } = inquiry;
        let again = Question { limited: true, ..question.clone() };
        let answer = if failed { None } else { question.read(rows) };
        let Some(mut answer) = answer else {
            if attempts + 1 >= ATTEMPTS {
                // What the session holds cannot be found out: it stays where it is.
                let before = self.holdings.pins;
                self.holdings.give_up();
                self.note_pins(before);
                return None;
            }
            return Some(self.ask(Inquiry { question: again, attempts: attempts + 1, changes }, lease));
        };
        if let Some(seeds) = answer.seeds.take() {
            answer.hidden = seeds.alone();
            if answer.hidden.is_none() {
                let definitions = Definitions::Names(seeds);
                let question = Question { definitions, ..self.holdings.question(true) };
                return Some(self.ask(Inquiry { question, attempts: 0, changes }, lease));
            }
        }
        if let Some(hidden) = answer.hidden.take() {
            self.identity.pool.hidden_is(hidden, changes);
            self.holdings.renew_hidden(&self.identity.pool);
            if self.holdings.suspects_hidden() {
                let question = self.holdings.question(true);
                return Some(self.ask(Inquiry { question, attempts: 0, changes }, lease));
            }
        }
        let before = self.holdings.pins;
        let sound = self.holdings.learn(answer, lease, &mut self.worker.texts.borrow_mut());
        if !sound {
            self.holdings.pins.insert(SessionState::Setting);
        }
        if self.holdings.pins.contains(SessionState::Listen) && !before.contains(SessionState::Listen) {
            // The hub can do that.
            self.holdings.pins.remove(SessionState::Listen);
            self.holdings.listening.found = true;
        }
        let settings = self.identity.pool.intern(&self.holdings.settings);
        if *lease.settings() == self.holdings.settings {
            lease.settings_are(Arc::clone(&settings));
        }
        self.holdings.settings = settings;
        self.note_pins(before);
        None
    }

    /// Counts and says what pins the client from now on.
    pub(super) fn note_pins(&mut self, before: Pins) {
        let pins = self.holdings.pins;
        let (database, user) = (self.identity.pool.database(), self.identity.pool.user());
        for reason in pins.without(before).iter() {
            self.shard.pinned(reason);
            if !self.holdings.said.contains(reason) {
                self.holdings.said.insert(reason);
                let reason = reason.as_str();
                tracing::info!(database, user, reason, "a client is pinned to its server connection");
            }
        }
        for reason in before.without(pins).iter() {
            self.shard.unpinned(reason);
        }
        let now = self.worker.shared.clock.now();
        if before.is_empty() {
            self.holdings.pinned_since = now;
        } else if pins.is_empty() {
            self.shard.add(Counter::PinnedMillis, now.saturating_sub(self.holdings.pinned_since));
        }
    }

    /// The client is unpinned for good.
    pub(super) fn end_pins(&mut self) {
        let before = std::mem::take(&mut self.holdings.pins);
        if !before.is_empty() {
            self.note_pins(before);
        }
    }
}
