//! A client's prepared statements on the server connection of the moment, which may never have seen them, or may have
//! parsed them when their tables were others.
//!
//! PostgreSQL makes out the types of a statement's parameters once, and runs it only for as long as its result has the
//! columns that it had then. A statement that is parsed again on another server connection is held to both: it is parsed
//! with the types that the client was told, and described again before it is used. Where it would not be what the client
//! was told, the request fails with PostgreSQL's own words, in its place between the others.
//!
//! Of an unnamed statement is known only what the client asked for: a Describe with each would be too dear. Who did not
//! have it described was told nothing that could be wrong.

use std::rc::Rc;

use super::exchange::{End, Exchange};
use super::judge::{Message, is_unread};
use super::names::Named;
use super::refuse;
use super::texts::Prepared;
use crate::backend::prepared::{Found, server_name};
use crate::error::ErrorKind;
use crate::relay::describe::Description;
use crate::relay::request::{self, Stop, Walk};
use crate::statement::Facts;
use crate::wire::frame::HEADER;
use crate::wire::turn::{Asker, Bill, Mark};

/// The unnamed statement's Parse, as the client sent it.
#[derive(Debug)]
pub(super) struct Remembered {
    parse: Box<[u8]>,
    /// A server has taken it: it may have been refused, or skipped behind an error.
    pub(super) known: bool,
    /// What the client was told of it, if it asked.
    told: Option<Description>,
    /// The server connection of the moment says otherwise.
    changed: bool,
}

impl Remembered {
    /// A Parse that is being sent.
    pub(super) fn new(parse: &[u8]) -> Self {
        Self { parse: parse.into(), known: false, told: None, changed: false }
    }

    /// The server has parsed it: what was told before was told of another.
    pub(super) fn is_parsed(&mut self) {
        (self.told, self.changed) = (None, false);
    }

    /// What a server says of it, whoever asked.
    pub(super) fn is_described(&mut self, asker: Asker, description: Description) {
        if asker == Asker::Client {
            self.told = Some(description);
        } else {
            self.changed = self.told.as_ref().is_some_and(|told| told.shape != description.shape);
        }
    }
}

/// How a request finds a statement on the server connection.
pub(super) enum Brought {
    /// As it should be.
    There(Rc<Prepared>),
    /// The server has to say first what it is.
    Awaited,
    /// It is not what the client was told any more.
    Changed,
}

impl Exchange<'_> {
    /// Sends the Parse of a shared statement, and the Describe that says what it is. Closing it first makes sure that a
    /// server that has it all the same, against what is known, does not mind.
    fn parse_shared(&mut self, named: &Named, generation: u64, (asker, bill): (Asker, Bill)) {
        while let Some(surplus) = self.server.statements.surplus() {
            self.tally.prepared.evictions += 1;
            self.server.close_statement(&server_name(&surplus), Asker::Stead);
        }
        let prepared = &named.prepared;
        let name = &prepared.server_name;
        self.server.close_statement(name, Asker::Stead);
        let epoch = self.server.turn.epoch();
        self.server.statements.sent(&prepared.key, epoch, (generation, named.generation));
        let parse: [&[u8]; 4] = [name, prepared.text(), b"\0", named.types()];
        self.server.queue_own(b'P', &parse, asker, Mark { bill, ..Mark::default() });
        let mark = Mark { shared: true, naming: asker == Asker::Client, ..Mark::default() };
        self.server.queue_own(b'D', &[b"S", name], Asker::Stead, mark);
    }

    /// Sends the client's Parse of a shared statement. Also where the server has it: what a client parses it gets as
    /// definitions are now.
    pub(super) fn parse_named(&mut self, name: &[u8], named: &Named, bill: Bill) {
        self.server.told.alias(&named.prepared.key, name);
        self.parse_shared(named, named.generation, (Asker::Client, bill));
    }

    /// The client's statement as it is under the settings of the moment, on the server connection of the moment; `None` if
    /// it has none of that name.
    pub(super) fn bring(&mut self, name: &[u8]) -> Option<Brought> {
        let named = self.holdings.named(name)?;
        let (wanted, mut prepared) = (named.wanted(), Rc::clone(&named.prepared));
        let planning = self.holdings.planning(&self.texts.borrow());
        if prepared.planning != planning {
            let dialect = self.dialect();
            let renewed =
                self.texts.borrow_mut().prepared(prepared.text(), prepared.types(), &planning, dialect);
            self.holdings.names.get().renew(name, Rc::clone(&renewed));
            prepared = renewed;
        }
        let epoch = self.server.turn.epoch();
        self.footprint.uses(&prepared.key);
        self.server.told.alias(&prepared.key, name);
        match self.server.statements.find(&prepared.key, epoch, wanted) {
            Found::Ready => {
                let missed = self.tally.prepared.missed.take();
                self.tally.prepared.hits += u32::from(missed != Some(prepared.key));
                Some(Brought::There(prepared))
            }
            Found::Soon if self.awaits_description() => {
                self.server.queue_flush();
                Some(Brought::Awaited)
            }
            Found::Different if self.footprint.was_parsed_again(&prepared.key, epoch) => {
                Some(Brought::Changed)
            }
            Found::Different => {
                self.separate(name);
                self.parse_again(name)
            }
            Found::Missing | Found::Soon => self.parse_again(name),
        }
    }

    /// Whether the server is still to say, or about to have said, what a statement is.
    pub(super) fn awaits_description(&self) -> bool {
        self.server.turn.owes_description() || !self.server.is_between_replies()
    }

    /// Others mean another statement by the same text: their parameters have other types than those that the server had
    /// made out for this client. It gets one of its own, so that they do not replace each other's time and again.
    fn separate(&mut self, name: &[u8]) {
        let Some(named) = self.holdings.named(name).cloned() else { return };
        let (dialect, prepared) = (self.dialect(), &named.prepared);
        let own =
            self.texts.borrow_mut().prepared(prepared.text(), named.types(), &prepared.planning, dialect);
        self.holdings.names.get().renew(name, own);
    }

    /// Parses a statement of the client's on a server connection that does not have it, with the types that its parameters
    /// had when the client parsed it.
    fn parse_again(&mut self, name: &[u8]) -> Option<Brought> {
        let named = self.holdings.named(name)?.clone();
        let epoch = self.server.turn.epoch();
        let prepared = Rc::clone(&named.prepared);
        self.footprint.uses(&prepared.key);
        self.server.told.alias(&prepared.key, name);
        if self.server.statements.find(&prepared.key, epoch, named.wanted()) == Found::Ready {
            self.tally.prepared.hits += 1;
            return Some(Brought::There(prepared));
        }
        self.tally.prepared.misses += 1;
        self.parse_shared(&named, self.pool.parses(), (Asker::Stead, Bill::default()));
        if named.wanted().shape.is_none_or(|shape| !shape.has_rows()) {
            return Some(Brought::There(prepared));
        }
        self.footprint.parses_again(&prepared.key, epoch);
        self.tally.prepared.missed = Some(prepared.key);
        self.server.queue_flush();
        Some(Brought::Awaited)
    }

    /// A Bind or Describe of the unnamed statement, which on a shared server connection may be another client's.
    pub(super) fn on_unnamed(
        &mut self,
        walk: &mut Walk<'_>,
        message: Message<'_>,
    ) -> Result<Option<Stop>, End> {
        let epoch = self.server.turn.epoch();
        if !self.footprint.owns_unnamed(epoch) || (self.rules.strict && !self.footprint.parsed_in(epoch)) {
            if self.server.turn.owes_unnamed_parse() {
                // The answer to a Parse that is on its way decides.
                return Ok(Some(Stop::Verdict));
            }
            self.interrupt(walk);
            let Some(awaited) = self.parse_unnamed_again() else {
                // Without whoever's statement is there, PostgreSQL says that there is none.
                self.server.close_statement(b"\0", Asker::Stead);
                self.bill_bind((b"", b"?"), None, None, message.header.len);
                self.pass(walk, message, Mark::default());
                return Ok(None);
            };
            if awaited {
                return Ok(Some(Stop::Description));
            }
        }
        if self.client.unnamed.as_ref().is_some_and(|remembered| remembered.changed) {
            self.refuse_changed(walk, message);
            return Ok(None);
        }
        let mut mark = Mark { unnamed: true, ..Mark::default() };
        if message.header.tag == b'B' {
            // It may have been parsed in an earlier batch, after which the session was looked at.
            let facts = self.footprint.facts.clone();
            let portal = request::c_string(message.body).map_or(&b""[..], |(portal, _)| portal);
            mark.bill = self.bill_bind((portal, b""), facts.as_ref(), None, message.header.len);
            if let Some(facts) = facts {
                mark.unread = is_unread(&facts);
                self.attend(walk, &facts, true);
                self.arm(walk, &facts, true);
            }
            if !self.rules.strict {
                // As most drivers do: it will not be bound again.
                walk.forget();
                self.client.unnamed.take_if(|remembered| !remembered.known);
            }
        }
        self.pass(walk, message, mark);
        Ok(None)
    }

    /// Sends the unnamed statement's Parse once more, and returns whether the server has to say first what it is; `None` if
    /// the client has none.
    fn parse_unnamed_again(&mut self) -> Option<bool> {
        let mut remembered = self.client.unnamed.take_if(|remembered| remembered.known)?;
        remembered.changed = false;
        let waits = self.send_unnamed(&remembered);
        self.client.unnamed = Some(remembered);
        waits
    }

    /// What the unnamed statement does that is parsed once more where it is bound in another batch.
    pub(super) fn remembered_facts(&self) -> Option<Rc<Facts>> {
        let remembered = self.client.unnamed.as_ref().filter(|remembered| remembered.known)?;
        let (_, text, _) = request::parse_parts(remembered.parse.get(HEADER..)?)?;
        Some(self.facts(text))
    }

    fn send_unnamed(&mut self, remembered: &Remembered) -> Option<bool> {
        let (_, text, types) = request::parse_parts(remembered.parse.get(HEADER..)?)?;
        let facts = self.facts(text);
        let told = remembered.told.as_ref();
        let types = told.and_then(|told| told.types.as_deref()).unwrap_or(types);
        self.server.queue_own(b'P', &[b"\0", text, b"\0", types], Asker::Stead, Mark::default());
        let waits = told.is_some_and(|told| told.shape.has_rows()) && !facts.result_varies();
        self.footprint.facts = Some(facts);
        self.footprint.parsed(self.server.turn.epoch());
        if waits {
            let mark = Mark { unnamed: true, ..Mark::default() };
            self.server.queue_own(b'D', &[b"S\0"], Asker::Stead, mark);
            self.server.queue_flush();
        }
        Some(waits)
    }

    /// Sends a Bind with the server's name of its statement.
    pub(super) fn bind_to(
        &mut self,
        walk: &mut Walk<'_>,
        message: Message<'_>,
        (portal, name): (&[u8], &[u8]),
        (statement, mark): (&[u8], Mark),
    ) {
        let replaced = portal.len() + name.len() + 2;
        let length = message.header.len - HEADER - replaced + portal.len() + 1 + statement.len();
        self.server.turn.mark_request(b'B', 0, Asker::Client, mark);
        self.server.queue_head(b'B', length, &[portal, b"\0", statement]);
        self.client.requests.replace(walk, message.header, HEADER + replaced);
    }

    /// The client is told that the result of a statement would not be what it knows, in answer to a Bind or Describe.
    pub(super) fn refuse_changed(&mut self, walk: &mut Walk<'_>, message: Message<'_>) {
        let kind = ErrorKind::ResultChanged;
        self.interrupt(walk);
        self.tally.refusals.push(kind);
        self.client.requests.discard(walk, message.header);
        self.server.refuse_parse(false, refuse::words(kind));
    }

    /// The client is told, in answer to a Query or Parse that is here as a whole, that it may not begin a transaction block.
    /// Nothing was done, and it stays.
    pub(super) fn refuse_block(&mut self, walk: &mut Walk<'_>, message: Message<'_>) {
        let kind = ErrorKind::TransactionInStatementMode;
        self.interrupt(walk);
        self.tally.refusals.push(kind);
        self.client.requests.discard(walk, message.header);
        let unnamed = message.header.tag == b'Q' || message.body.first() == Some(&0);
        if unnamed {
            // As a request that the server refuses would, it takes the unnamed statement's place.
            self.client.unnamed = None;
            walk.forget();
        }
        match message.header.tag {
            b'Q' => self.server.refuse_query(b"", refuse::words(kind)),
            _ => self.server.refuse_parse(unnamed, refuse::words(kind)),
        }
    }
}
