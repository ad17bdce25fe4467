//! What a statement needs around it, on a shared server connection, and what follows from it.

use std::rc::Rc;

use super::exchange::Exchange;
use super::names::Named;
use crate::relay::request::Walk;
use crate::statement::{Facts, States};
use crate::wire::tag::SessionState;
use crate::wire::turn::{Asker, Mark};

impl Exchange<'_> {
    /// Does what has to be done because a statement is about to be sent. `in_batch` says that it is part of a batch of the
    /// extended protocol.
    pub(super) fn attend(&mut self, walk: &mut Walk<'_>, facts: &Rc<Facts>, in_batch: bool) {
        let unseen = self.pool.hidden_is_old();
        if self.holdings.ignores(facts, unseen) {
            return;
        }
        if facts.effects.reads_sequence {
            self.pool.sequences_are_read();
        }
        if unseen && self.pool.looks_at_definitions() {
            self.holdings.look_at_definitions(facts);
        }
        self.prepare_for(walk, facts, in_batch);
        self.follow_up(facts);
        for executed in self.holdings.executed(&facts.effects) {
            self.follow_up(&executed);
        }
    }

    /// What has to stand in front of a statement. `in_batch` says that it is part of a batch of the extended protocol.
    fn prepare_for(&mut self, walk: &mut Walk<'_>, facts: &Facts, in_batch: bool) {
        let effects = &facts.effects;
        if effects.reads_sequence && facts.statements == 1 {
            self.sequences(walk);
        }
        let lent: Vec<_> = effects
            .prepared_names
            .iter()
            .filter_map(|name| Some((name.as_bytes(), self.holdings.named(name.as_bytes())?.clone())))
            .collect();
        if lent.is_empty() {
            return;
        }
        self.interrupt(walk);
        let asker = if in_batch { Asker::Stead } else { Asker::Proxy };
        for (name, named) in lent {
            self.lend(name, &named, asker);
        }
        if !in_batch {
            self.server.queue_sync();
        }
    }

    /// Gives a statement the client's own name on the server connection.
    pub(super) fn lend(&mut self, name: &[u8], named: &Named, asker: Asker) {
        if name.starts_with(b"fp_") {
            // It may be a shared statement's, which goes for it.
            self.server.statements.forget_all();
        }
        let name = [name, b"\0"].concat();
        self.server.close_statement(&name, asker);
        let parse: [&[u8]; 4] = [&name, named.prepared.text(), b"\0", named.types()];
        self.server.queue_own(b'P', &parse, asker, Mark::default());
        self.holdings.lookout.borrows(name);
    }

    /// A sequence's last value in this session is another client's, unless the client stays on its connection from here
    /// on: PostgreSQL's error that there is none is better than a wrong number.
    fn sequences(&mut self, walk: &mut Walk<'_>) {
        let fresh = !self.footprint.started
            && !self.footprint.returns
            && self.server.turn.is_quiet()
            && walk.is_whole();
        if fresh && !self.holdings.pins.contains(SessionState::Sequence) {
            self.interrupt(walk);
            self.server.queue_statement("DISCARD SEQUENCES", &[]);
            self.server.queue_sync();
        }
        if fresh || self.footprint.returns {
            self.holdings.stick(SessionState::Sequence);
        }
    }

    /// What follows from a statement that is being sent.
    pub(super) fn follow_up(&mut self, facts: &Rc<Facts>) {
        self.holdings.note(facts);
        let effects = &facts.effects;
        if !self.holdings.startup().is_empty() {
            self.holdings.lookout.reassign_after(&effects.resets);
        }
        if effects.suspects.contains(States::TEMP) {
            // PostgreSQL does not notice that a statement it has would find a temporary table now.
            self.server.statements.forget_all();
        }
        self.holdings.removals.sent(effects, self.server.turn.epoch());
        let ours = effects.deallocates.iter().any(|name| name.starts_with("fp_"));
        if effects.deallocates_all || ours {
            self.server.statements.forget_all();
        }
    }
}
