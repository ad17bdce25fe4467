//! Client to server, message by message: what has to be put in front of a request, behind it, or in its place, so that it
//! means on a shared server connection what it would mean on one of the client's own.
//!
//! - A statement that the client prepared under a name has another name on the server. A Bind or Describe of what the
//!   server does not have, or has in another form than the client, waits behind another Parse.
//! - SQL that names such a statement (EXECUTE, DEALLOCATE) finds it under the client's name, which it is lent for as long
//!   as the server connection is the client's.
//! - What leads back to the server's defaults is followed by the client's own.
//! - Everything else is passed on byte by byte, and what it may have done to the session is noted.

use std::rc::Rc;

use super::carry::Brought;
use super::exchange::{End, Exchange};
use super::guard::Guarded;
use super::names::Named;
use super::strict::Owned;
use crate::backend::settings;
use crate::error::{ErrorKind, Refusal};
use crate::relay::request::{self, Judging, Step, Stop, Walk};
use crate::statement::{Dialect, Encoding, Facts, Kind, Touched};
use crate::wire::frame::{HEADER, Header};
use crate::wire::tag::SessionState;
use crate::wire::turn::{Asker, Local, Mark};

/// The longest Parse of an unnamed statement that is remembered for another server connection, in bytes.
const REMEMBERED: usize = 8 * 1024;

/// A message that is being judged.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) header: Header,
    /// As much of its body as is there.
    pub(super) body: &'a [u8],
}

impl Message<'_> {
    pub(super) fn is_whole(&self) -> bool {
        HEADER + self.body.len() == self.header.len
    }
}

impl Exchange<'_> {
    /// Walks to the next reason to stop.
    pub(super) fn walk(&mut self, walk: &mut Walk<'_>) -> Result<Stop, End> {
        loop {
            let judging = match self.rules.judging() {
                Judging::State if self.holdings.lookout.reassign != Touched::None => Judging::StateAndSync,
                judging => judging,
            };
            let (header, taken) = match self.client.requests.next(&mut self.server.turn, walk, judging) {
                Step::Stop(stop) => return Ok(stop),
                Step::Message { header, taken } => (header, taken),
            };
            let message = Message { header, body: &walk.rest()[HEADER..taken] };
            if self.server.turn.is_skipping() && header.tag != b'S' {
                if self.rules.traced {
                    self.trace_skipped();
                }
                self.pass(walk, message, Mark::default());
                continue;
            }
            if self.rules.traced {
                self.trace(message);
            }
            if self.rules.guarded && matches!(self.guard(walk, message), Guarded::Done) {
                continue;
            }
            if self.rules.strict {
                match self.own(walk, message)? {
                    Owned::Goes => {}
                    Owned::Done => continue,
                    Owned::Waits => return Ok(Stop::Answers),
                }
            }
            if !self.rules.shared {
                self.watch_resets(walk, message);
                continue;
            }
            let stop = match header.tag {
                b'Q' => self.on_query(walk, message),
                b'P' => self.on_parse(walk, message)?,
                b'B' => self.on_bind(walk, message)?,
                b'D' | b'C' => self.on_statement(walk, message)?,
                b'F' => self.on_call(walk, message),
                _ => self.on_sync(walk, message),
            };
            if let Some(stop) = stop {
                return Ok(stop);
            }
        }
    }

    /// Passes a message on as it is.
    pub(super) fn pass(&mut self, walk: &mut Walk<'_>, message: Message<'_>, mark: Mark) {
        let target = message.body.first().copied().unwrap_or(0);
        self.server.turn.mark_request(message.header.tag, target, Asker::Client, mark);
        self.client.requests.pass(walk, message.header);
    }

    /// Sends what stands before the message first, because something of the proxy's own comes between.
    pub(super) fn interrupt(&mut self, walk: &mut Walk<'_>) {
        let run = walk.take_run();
        self.server.queue(run);
    }

    /// What a text does, on a read-only route with a verdict.
    pub(super) fn facts(&self, text: &[u8]) -> Rc<Facts> {
        if let Some((place, length, facts)) = &self.judged
            && (*place, *length) == (text.as_ptr(), text.len())
        {
            return Rc::clone(facts);
        }
        if self.rules.guarded {
            return self.texts.borrow_mut().guarded(text, self.guarded_dialect(text));
        }
        self.texts.borrow_mut().facts(text, self.dialect())
    }

    pub(super) fn dialect(&self) -> Dialect {
        if self.holdings.lookout.dialect {
            return Dialect { encoding: Encoding::Unsafe, standard_conforming_strings: false };
        }
        self.server.dialect()
    }

    fn on_query(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Option<Stop> {
        let facts = if message.is_whole() {
            self.facts(request::query_text(message.body))
        } else {
            self.texts.borrow_mut().longer_than(request::query_text(message.body))
        };
        self.destroy_unnamed(walk);
        if self.rules.statement_mode && facts.begins_block() {
            self.refuse_block(walk, message);
            return None;
        }
        // Its own batch comes first: what is noted now belongs to that of the query.
        self.arm(walk, &facts, false);
        self.attend(walk, &facts, false);
        // Behind what comes first: its statements are those of the next batch.
        let bill = self.bill_query(&facts, message);
        self.pass(walk, message, Mark { unread: is_unread(&facts), bill, ..Mark::default() });
        self.reassign(walk);
        None
    }

    /// A Query destroys the unnamed statement.
    pub(super) fn destroy_unnamed(&mut self, walk: &mut Walk<'_>) {
        self.footprint.destroy_unnamed();
        self.footprint.facts = None;
        self.client.unnamed = None;
        walk.forget();
    }

    /// On a server connection of the client's own all is as it should be, but that the server does not know the client's
    /// startup settings for the defaults that RESET leads back to.
    fn watch_resets(&mut self, walk: &mut Walk<'_>, message: Message<'_>) {
        let text = match message.header.tag {
            b'Q' => Some(request::query_text(message.body)),
            b'P' => request::parse_parts(message.body).map(|(_, text, _)| text),
            _ => None,
        };
        let text = text.filter(|_| message.is_whole());
        let facts = text.map(|text| self.texts.borrow_mut().facts(text, self.server.dialect()));
        if let Some(facts) = &facts {
            self.holdings.lookout.reassign_after(&facts.effects.resets);
            self.holdings.lookout.reassigned |= facts.effects.resets != Touched::None;
        }
        let bill = self.bill_own(message, facts.as_ref());
        let words = text.filter(|_| message.header.tag == b'P').and_then(|text| self.in_words(text));
        match words {
            Some(words) => self.unnamed_in_words(walk, message, &words, bill),
            None => self.pass(walk, message, Mark { bill, ..Mark::default() }),
        }
        if matches!(message.header.tag, b'Q' | b'S') {
            self.reassign(walk);
        }
    }

    /// Puts the client's startup settings behind the message that was passed last, if it led back to the server's.
    pub(super) fn reassign(&mut self, walk: &mut Walk<'_>) {
        if self.holdings.lookout.reassign == Touched::None {
            return;
        }
        let reset = std::mem::take(&mut self.holdings.lookout.reassign);
        let chosen = |name: &str| match &reset {
            Touched::None => false,
            Touched::Names(names) => names.iter().any(|reset| **reset == *name),
            Touched::Any => true,
        };
        if let Some(sql) = settings::assignment(self.holdings.startup(), chosen) {
            self.interrupt(walk);
            self.server.reassign(&sql);
        }
    }

    fn on_sync(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Option<Stop> {
        self.pass(walk, message, Mark::default());
        self.reassign(walk);
        None
    }

    fn on_call(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Option<Stop> {
        self.holdings.note_call(message.body.first_chunk().map_or(0, |oid| u32::from_be_bytes(*oid)));
        if self.pool.hidden_is_old() || self.holdings.lookout.hidden {
            // Whichever it is: what definitions do has to be known first.
            self.holdings.lookout.hidden = true;
            self.holdings.lookout.remember(&self.texts.borrow().too_long());
        }
        let bill = self.bill_call(message.header.len);
        self.pass(walk, message, Mark { bill, ..Mark::default() });
        None
    }

    fn on_parse(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Result<Option<Stop>, End> {
        let Some((name, text, types)) = request::parse_parts(message.body).filter(|_| message.is_whole())
        else {
            return self.on_odd_parse(walk, message);
        };
        if self.rules.statement_mode && self.facts(text).begins_block() {
            self.refuse_block(walk, message);
            return Ok(None);
        }
        let words = self.words_of(name, text);
        let text = words.as_deref().unwrap_or(text);
        if name.is_empty() {
            let facts = self.facts(text);
            self.client.unnamed = None;
            walk.forget();
            if message.header.len <= REMEMBERED {
                walk.keep(message.header.len);
            }
            let bill = self.bill_parse(&facts, message);
            self.attend(walk, &facts, true);
            self.footprint.facts = Some(facts);
            self.footprint.parsed(self.server.turn.epoch());
            match &words {
                Some(words) => self.unnamed_in_words(walk, message, words, bill),
                None => self.pass(walk, message, Mark { unnamed: true, bill, ..Mark::default() }),
            }
            return Ok(None);
        }
        if self.holdings.is_open(name, self.server.turn.epoch()) {
            return Ok(Some(Stop::Verdict));
        }
        if self.holdings.is_sql_name(name) {
            // PostgreSQL says that the name is taken (42P05), if it is. Otherwise it is the client's, where it is.
            self.holdings.stick(SessionState::PreparedStatement);
            self.pass(walk, message, Mark::default());
            return Ok(None);
        }
        if let Some(taken) = self.holdings.named(name) {
            // PostgreSQL says that the name is taken (42P05), if it is.
            let taken = taken.clone();
            self.interrupt(walk);
            self.lend(name, &taken, Asker::Stead);
            self.pass(walk, message, Mark::default());
            return Ok(None);
        }
        let prepared = {
            let mut texts = self.texts.borrow_mut();
            let planning = self.holdings.planning(&texts);
            texts.prepared(text, types, &planning, self.dialect())
        };
        let epoch = self.server.turn.epoch();
        let named = Named::new(prepared, self.pool.count_parse());
        self.holdings.names.get().give(name, named.clone(), epoch).map_err(|_| End::Refused(too_many()))?;
        self.interrupt(walk);
        self.client.requests.replace(walk, message.header, message.header.len);
        let bill = self.bill_parse(&named.prepared.facts, message);
        self.parse_named(name, &named, bill);
        Ok(None)
    }

    /// A Parse that is malformed, or too long to be looked at as a whole.
    fn on_odd_parse(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Result<Option<Stop>, End> {
        let Some((name, _)) = request::c_string(message.body) else {
            return Err(End::Refused(Refusal::new(
                ErrorKind::ProtocolViolation,
                "a statement's name is too long",
            )));
        };
        let text = message.body.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        let facts = self.texts.borrow_mut().longer_than(text);
        self.follow_up(&facts);
        let unnamed = name.is_empty();
        if unnamed {
            self.client.unnamed = None;
            self.footprint.facts = Some(Rc::clone(&facts));
            walk.forget();
            self.footprint.parsed(self.server.turn.epoch());
        } else {
            // It cannot be carried to another server connection.
            self.holdings.names.get().forget(name);
            self.holdings.stick(SessionState::PreparedStatement);
        }
        self.pass(walk, message, Mark { unnamed, ..Mark::default() });
        Ok(None)
    }

    /// What comes of a request that names a statement where that is not one of the client's, or it is not known yet; `None`
    /// where it is: something of the proxy's own takes the request's place, and what stands before it is on its way.
    fn unless_named(
        &mut self,
        walk: &mut Walk<'_>,
        message: Message<'_>,
        name: &[u8],
    ) -> Option<Option<Stop>> {
        if self.holdings.is_open(name, self.server.turn.epoch()) {
            return Some(Some(Stop::Verdict));
        }
        if self.holdings.named(name).is_none() {
            let bill = self.bill_unknown(message);
            self.pass(walk, message, Mark { bill, ..Mark::default() });
            return Some(None);
        }
        self.interrupt(walk);
        None
    }

    fn on_bind(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Result<Option<Stop>, End> {
        let Some((portal, name)) = request::bind_names(message.body) else {
            if message.is_whole() {
                // Malformed: the server refuses it.
                self.bill_bind((b"", b"?"), None, None, message.header.len);
                self.pass(walk, message, Mark::default());
                return Ok(None);
            }
            let words = "the names in a message are too long";
            return Err(End::Refused(Refusal::new(ErrorKind::ProtocolViolation, words)));
        };
        if name.is_empty() {
            return self.on_unnamed(walk, message);
        }
        if let Some(stop) = self.unless_named(walk, message, name) {
            return Ok(stop);
        }
        match self.bring(name) {
            Some(Brought::There(prepared)) => {
                let bill = self.bill_bind(
                    (portal, name),
                    Some(&prepared.facts),
                    Some(prepared.text()),
                    message.header.len,
                );
                self.attend(walk, &prepared.facts, true);
                self.arm(walk, &prepared.facts, true);
                let mark = Mark { unread: is_unread(&prepared.facts), bill, ..Mark::default() };
                self.bind_to(walk, message, (portal, name), (&prepared.server_name, mark));
            }
            Some(Brought::Awaited) => return Ok(Some(Stop::Description)),
            Some(Brought::Changed) => self.refuse_changed(walk, message),
            None => {}
        }
        Ok(None)
    }

    /// Describe and Close.
    fn on_statement(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Result<Option<Stop>, End> {
        let Some((b'S', rest)) = message.body.split_first() else {
            self.pass(walk, message, Mark::default());
            return Ok(None);
        };
        let name = request::c_string(rest).map_or(rest, |(name, _)| name);
        let describe = message.header.tag == b'D';
        if name.is_empty() && describe {
            return self.on_unnamed(walk, message);
        }
        if let Some(stop) = self.unless_named(walk, message, name) {
            return Ok(stop);
        }
        if describe {
            match self.bring(name) {
                Some(Brought::There(prepared)) => {
                    self.client.requests.replace(walk, message.header, message.header.len);
                    let parts: [&[u8]; 2] = [b"S", &prepared.server_name];
                    self.server.queue_own(b'D', &parts, Asker::Client, Mark::default());
                }
                Some(Brought::Awaited) => return Ok(Some(Stop::Description)),
                Some(Brought::Changed) => self.refuse_changed(walk, message),
                None => {}
            }
            return Ok(None);
        }
        self.client.requests.replace(walk, message.header, message.header.len);
        self.holdings.names.get().take(name, self.server.turn.epoch());
        let lent = [name, b"\0"].concat();
        if self.holdings.lookout.borrowed.iter().any(|borrowed| **borrowed == *lent) {
            self.server.close_statement(&lent, Asker::Stead);
        }
        self.server.turn.answer_locally(Local::Closed);
        Ok(None)
    }
}

/// Whether nobody could read the text, though it is not too long for that.
pub(super) fn is_unread(facts: &Facts) -> bool {
    facts.kind == Kind::Unknown && !facts.is_too_long()
}

fn too_many() -> Refusal {
    Refusal::new(ErrorKind::TooManyStatements, "too many prepared statements")
        .detail("Close those that are not needed any more, or use DEALLOCATE.")
}
