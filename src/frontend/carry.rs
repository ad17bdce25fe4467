//! A client's prepared statements on the server connection of the moment, which may never have seen them.

use std::rc::Rc;

use super::exchange::{End, Exchange};
use super::judge::{Message, is_unread};
use super::names::Named;
use super::texts::Prepared;
use crate::relay::request::{self, Stop, Walk};
use crate::wire::frame::HEADER;
use crate::wire::turn::{Asker, Mark};

impl Exchange<'_> {
    /// Sends the Parse of a shared statement. Closing it first makes sure that a server that has it all the same, against
    /// what is known, does not mind.
    pub(super) fn parse_shared(&mut self, prepared: &Prepared, asker: Asker, mark: Mark) {
        while let Some(surplus) = self.server.statements.surplus() {
            self.server.close_statement(&crate::backend::prepared::server_name(&surplus), Asker::Stead);
        }
        self.server.close_statement(&prepared.server_name, Asker::Stead);
        let epoch = self.server.turn.epoch();
        self.server.statements.sent(&prepared.key, epoch, self.pool.parses());
        self.server.queue_own(b'P', &[&prepared.server_name, &prepared.definition], asker, mark);
    }

    /// The client's statement as it is under the settings of the moment, on the server connection of the moment.
    pub(super) fn ensure(&mut self, name: &[u8]) -> Option<Rc<Prepared>> {
        let Named { mut prepared, generation } = self.holdings.named(name)?.clone();
        let planning = self.holdings.planning(&self.texts.borrow());
        if prepared.planning != planning {
            let dialect = self.dialect();
            let renewed =
                self.texts.borrow_mut().prepared(prepared.text(), prepared.types(), &planning, dialect);
            self.holdings.names.renew(name, Rc::clone(&renewed));
            prepared = renewed;
        }
        let epoch = self.server.turn.epoch();
        self.footprint.uses(&prepared.key);
        self.server.told.alias(&prepared.key, name);
        if !self.server.statements.has(&prepared.key, epoch, generation) {
            self.parse_shared(&prepared, Asker::Stead, Mark { shared: true, ..Mark::default() });
        }
        Some(prepared)
    }

    /// A Bind or Describe of the unnamed statement, which on a shared server connection may be another client's.
    pub(super) fn on_unnamed(
        &mut self,
        walk: &mut Walk<'_>,
        message: Message<'_>,
    ) -> Result<Option<Stop>, End> {
        if !self.footprint.owns_unnamed(self.server.turn.epoch()) {
            if self.server.turn.owes_unnamed_parse() {
                // The answer to a Parse that is on its way decides.
                return Ok(Some(Stop::Verdict));
            }
            self.interrupt(walk);
            let known = self.client.unnamed.as_ref().filter(|remembered| remembered.known);
            let Some(remembered) = known else {
                // Without whoever's statement is there, PostgreSQL says that there is none.
                self.server.close_statement(b"\0", Asker::Stead);
                self.pass(walk, message, Mark::default());
                return Ok(None);
            };
            let parse = remembered.parse.clone();
            let facts = request::parse_parts(&parse[HEADER..])
                .map(|(_, text, _)| self.texts.borrow_mut().facts(text, self.dialect()));
            self.footprint.facts = facts;
            self.server.turn.mark_request(b'P', 0, Asker::Stead, Mark::default());
            self.server.queue(&parse);
            self.footprint.parsed(self.server.turn.epoch());
        }
        let mut mark = Mark { unnamed: message.header.tag == b'B', ..Mark::default() };
        if mark.unnamed {
            // It may have been parsed in an earlier batch, after which the session was looked at.
            if let Some(facts) = self.footprint.facts.clone() {
                mark.unread = is_unread(&facts);
                self.attend(walk, &facts, true);
                self.arm(walk, &facts, true);
            }
            // As most drivers do: it will not be bound again.
            walk.forget();
            self.client.unnamed.take_if(|remembered| !remembered.known);
        }
        self.pass(walk, message, mark);
        Ok(None)
    }
}
