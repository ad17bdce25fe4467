//! Read-only routes: what a client sends is looked at before it goes to the server, and what could write, leave the mode
//! or do what the mode does not cover is refused. See `statement/verdict` for the rules.
//!
//! In the place of what is refused goes something that fails, so that the server itself skips what follows, fails the
//! transaction, and says in what state it is. Of a text with several statements, those before the refused one run, as
//! they would on PostgreSQL.

use std::borrow::Cow;
use std::rc::Rc;

use super::audit::Line;
use super::carry::Remembered;
use super::exchange::Exchange;
use super::judge::Message;
use super::refuse;
use super::session::Session;
use crate::backend::READ_ONLY;
use crate::backend::settings::Settings;
use crate::error::{ErrorKind, Refusal};
use crate::relay::request::{self, Walk};
use crate::rule::Rule;
use crate::statement::{self, Breach, Dialect, Encoding, Value};
use crate::wire::turn::{Asker, Bill, Mark};

/// Something that a client was refused, until it is counted and logged.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) rule: Rule,
    pub(super) what: String,
    /// As much of the text as was there.
    pub(super) text: Box<[u8]>,
}

impl Refused {
    fn new(breach: &Breach, text: &[u8]) -> Self {
        // The parser's words quote the text, and may quote a secret that somebody has forgotten to quote.
        let what = if breach.rule == Rule::Syntax { "a text with a syntax error" } else { &breach.what };
        Self { rule: breach.rule, what: what.to_owned(), text: text.into() }
    }
}

/// What becomes of a message.
pub(super) enum Guarded {
    /// It goes on.
    Goes,
    /// It is dealt with.
    Done,
}

impl Session {
    /// Counts what the client was refused, and has the log tell of it.
    pub(super) fn note_refusals(&mut self, refused: &mut Vec<Refused>) {
        let (database, user) = (self.identity.pool.database(), self.identity.pool.user());
        for Refused { rule, what, text } in refused.drain(..) {
            self.shard.refused(rule);
            let now = self.worker.shared.clock.now();
            let line = self.worker.audit.borrow_mut().note((database, user, rule), &text, now);
            let rule = rule.as_str();
            if let Some(Line { shape, unsaid }) = line {
                let application = self.holdings.settings.get("application_name").unwrap_or_default();
                let client = self.client.stream.peer();
                tracing::warn!(
                    database,
                    user,
                    client,
                    application,
                    rule,
                    what,
                    shape,
                    unsaid,
                    "a statement was refused on a read-only route"
                );
            }
        }
    }
}

impl Exchange<'_> {
    /// Looks at a message of a client of a read-only route.
    pub(super) fn guard(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Guarded {
        self.judged = None;
        let text = match message.header.tag {
            b'Q' => request::query_text(message.body),
            b'P' => match request::parse_parts(message.body) {
                Some((_, text, _)) => text,
                // Malformed.
                None => message.body,
            },
            b'F' if is_harmless(message.body) => return Guarded::Goes,
            b'F' => {
                let breach =
                    Breach { rule: Rule::FunctionCall, what: "a function call message".into(), at: 0 };
                self.refuse(walk, message, b"", &breach);
                return Guarded::Done;
            }
            _ => return Guarded::Goes,
        };
        if !message.is_whole() {
            let breach =
                Breach { rule: Rule::Unread, what: "a text that is too long to be read".into(), at: 0 };
            self.refuse(walk, message, text, &breach);
            return Guarded::Done;
        }
        let facts = self.facts(text);
        self.judged = Some((text.as_ptr(), text.len(), Rc::clone(&facts)));
        let Some(verdict) = facts.verdict() else { return Guarded::Goes };
        let route = self.pool.route();
        if let Some(breach) = verdict.breach(route.allow_notify, route.functions.as_deref()) {
            let before = verdict.reword(text, breach.at);
            let before = before.map_or(Cow::Borrowed(&text[..breach.at.min(text.len())]), Cow::Owned);
            let breach = breach.into_owned();
            if self.rules.strict {
                self.refuse(walk, message, text, &breach);
                return Guarded::Done;
            }
            self.refuse_behind(walk, message, (&before, text), &breach);
            return Guarded::Done;
        }
        match verdict.reword(text, text.len()) {
            Some(words) if message.header.tag == b'Q' && !self.rules.strict => {
                self.query_in_words(walk, message, &words);
                Guarded::Done
            }
            _ => Guarded::Goes,
        }
    }

    /// The text of a Parse in the words in which it is to be sent; `None` if they are its own.
    pub(super) fn in_words(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        if !self.rules.guarded {
            return None;
        }
        let facts = self.facts(text);
        let verdict = facts.verdict()?;
        if self.rules.strict { verdict.reword_strictly(text) } else { verdict.reword(text, text.len()) }
    }

    /// How a text is read on a read-only route, whose clients can only choose between encodings in which the ends of
    /// strings and names are where they are in any other.
    pub(super) fn guarded_dialect(&self, text: &[u8]) -> Dialect {
        let utf8 = !self.holdings.lookout.dialect && std::str::from_utf8(text).is_ok();
        let of_server = self.server.dialect();
        let encoding = match of_server.encoding {
            Encoding::Utf8 if !utf8 => Encoding::AsciiSafe,
            encoding => encoding,
        };
        Dialect { encoding, ..of_server }
    }

    pub(super) fn refuse(&mut self, walk: &mut Walk<'_>, message: Message<'_>, text: &[u8], breach: &Breach) {
        self.refuse_behind(walk, message, (b"", text), breach);
    }

    pub(super) fn note_breach(&mut self, breach: &Breach, text: &[u8]) {
        self.tally.refused.push(Refused::new(breach, text));
    }

    /// Refuses a message, of whose text `before` may run.
    fn refuse_behind(
        &mut self,
        walk: &mut Walk<'_>,
        message: Message<'_>,
        (before, text): (&[u8], &[u8]),
        breach: &Breach,
    ) {
        let error = refuse::body(breach);
        self.note_breach(breach, text);
        match message.header.tag {
            b'Q' => {
                self.destroy_unnamed(walk);
                if !before.is_empty() {
                    let facts = self.facts(before);
                    self.arm(walk, &facts, false);
                    self.attend(walk, &facts, false);
                }
                self.interrupt(walk);
                self.client.requests.discard(walk, message.header);
                self.server.refuse_query(before, error);
                self.reassign(walk);
            }
            b'P' => {
                let unnamed = message.body.first() == Some(&0);
                if unnamed {
                    self.client.unnamed = None;
                    walk.forget();
                    self.footprint.facts = None;
                    self.footprint.parsed(self.server.turn.epoch());
                }
                self.interrupt(walk);
                self.client.requests.discard(walk, message.header);
                self.server.refuse_parse(unnamed, error);
            }
            _ => {
                self.interrupt(walk);
                self.client.requests.discard(walk, message.header);
                self.server.refuse_call(error);
            }
        }
    }

    /// Sends other words in the place of a Query.
    fn query_in_words(&mut self, walk: &mut Walk<'_>, message: Message<'_>, words: &[u8]) {
        let facts = self.facts(words);
        self.destroy_unnamed(walk);
        if self.rules.statement_mode && facts.begins_block() {
            return self.refuse_block(walk, message);
        }
        self.arm(walk, &facts, false);
        self.attend(walk, &facts, false);
        let bill = self.bill_query(&facts, message);
        self.interrupt(walk);
        self.client.requests.discard(walk, message.header);
        self.server.queue_own(b'Q', &[words, b"\0"], Asker::Client, Mark { bill, ..Mark::default() });
        self.reassign(walk);
    }

    /// Sends other words in the place of a Parse of the unnamed statement.
    pub(super) fn unnamed_in_words(
        &mut self,
        walk: &mut Walk<'_>,
        message: Message<'_>,
        words: &[u8],
        bill: Bill,
    ) {
        let Some((name, _, types)) = request::parse_parts(message.body) else { return };
        let parse = [name, b"\0", words, b"\0", types].concat();
        self.interrupt(walk);
        self.client.requests.discard(walk, message.header);
        self.server.queue_own(
            b'P',
            &[&parse],
            Asker::Client,
            Mark { unnamed: name.is_empty(), bill, ..Mark::default() },
        );
        let head = [&b"P"[..], &(parse.len() as u32 + 4).to_be_bytes()].concat();
        if name.is_empty() && self.rules.shared {
            self.client.unnamed = Some(Box::new(Remembered::new(&[head, parse].concat())));
        }
    }
}

/// Whether a FunctionCall only reads. Its body has the function's number, the formats of the arguments with their count,
/// and the arguments with theirs, each with its length.
fn is_harmless(body: &[u8]) -> bool {
    let Some((function, rest)) = body.split_first_chunk::<4>() else { return false };
    statement::is_harmless_call(u32::from_be_bytes(*function), second_argument(rest))
}

/// The second argument, if both are four bytes in binary.
fn second_argument(rest: &[u8]) -> Option<u32> {
    // One format for all, or one for each.
    let arguments = rest.strip_prefix(&[0, 1, 0, 1]).or_else(|| rest.strip_prefix(&[0, 2, 0, 1, 0, 1]))?;
    let first = arguments.strip_prefix(&[0, 2, 0, 0, 0, 4])?;
    let second = first.get(4..)?.strip_prefix(&[0, 0, 0, 4])?;
    second.first_chunk().map(|mode| u32::from_be_bytes(*mode))
}

/// The settings of a startup packet on a read-only route, without those that only affirm the mode.
///
/// # Errors
/// 25006 for one that leaves it, or that is not known to be harmless.
pub(super) fn startup(mut settings: Settings) -> Result<Settings, Refusal> {
    let broken = settings.iter().find_map(|(name, value)| {
        statement::setting(name, Value::Text(value)).map(|rule| (rule, name.to_owned()))
    });
    if let Some((rule, name)) = broken {
        let message = format!("cannot set \"{name}\" at the start of a session on a read-only route");
        return Err(Refusal::new(ErrorKind::ReadOnlyRoute, message).detail(refuse::rule(rule)));
    }
    for name in [READ_ONLY, "transaction_read_only"] {
        settings.remove(name);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_no_words_of_a_text_that_the_parser_has_quoted() {
        let dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };
        for text in
            ["ALTER USER bob PASSWORD hunter2", "SELECT 1 'hunter2'", "SELECT hunter2 hunter2 hunter2"]
        {
            let facts = statement::judge_guarded(text.as_bytes(), dialect);
            let breach = facts.verdict().unwrap().breach(false, None).unwrap();
            assert!(breach.what.contains("hunter2"), "the client is told: {}", breach.what);
            assert!(!Refused::new(&breach, b"").what.contains("hunter2"));
        }
    }

    fn call(function: u32, formats: &[u8], arguments: &[&[u8]]) -> Vec<u8> {
        let mut body =
            [&function.to_be_bytes()[..], formats, &(arguments.len() as u16).to_be_bytes()].concat();
        for argument in arguments {
            body.extend((argument.len() as u32).to_be_bytes());
            body.extend(*argument);
        }
        body.extend([0, 1]);
        body
    }

    #[test]
    fn a_call_that_opens_a_large_object_is_read_as_the_server_reads_it() {
        let object = 16_400_u32.to_be_bytes();
        let (reads, writes) = (0x0004_0000_u32.to_be_bytes(), 0x0002_0000_u32.to_be_bytes());
        for formats in [&[0, 1, 0, 1][..], &[0, 2, 0, 1, 0, 1]] {
            assert!(is_harmless(&call(952, formats, &[&object, &reads])));
            assert!(!is_harmless(&call(952, formats, &[&object, &writes])));
        }
        assert!(!is_harmless(&call(952, &[0, 0], &[b"16400", b"262144"])), "as text");
        assert!(!is_harmless(&call(952, &[0, 1, 0, 1], &[&object])));
        assert!(is_harmless(&call(954, &[0, 1, 0, 1], &[&object, &object])));
        let whole = call(952, &[0, 1, 0, 1], &[&object, &reads]);
        assert!(!(0..18).any(|end| is_harmless(&whole[..end])));
    }

    #[test]
    fn a_startup_packet_may_affirm_the_mode_and_not_leave_it() {
        let judged = |pairs: &[(&str, &str)]| {
            let mut settings = Settings::default();
            pairs.iter().for_each(|(name, value)| settings.set(name, value).unwrap());
            startup(settings).map(|settings| settings.names().map(str::to_owned).collect::<Vec<_>>())
        };
        let kept = judged(&[("DateStyle", "ISO"), ("Default_Transaction_Read_Only", "on"), ("app.x", "1")]);
        assert_eq!(kept.unwrap(), ["app.x", "datestyle"]);
        for pair in [
            ("DEFAULT_TRANSACTION_READ_ONLY", "off"),
            ("transaction_read_only", "0"),
            ("client_encoding", "SJIS"),
            ("standard_conforming_strings", "off"),
            ("session_authorization", "postgres"),
            ("role", "postgres"),
            ("zero_damaged_pages", "on"),
        ] {
            assert_eq!(judged(&[pair]).unwrap_err().sqlstate(), "25006", "{pair:?}");
        }
    }
}
