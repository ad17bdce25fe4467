//! Strictly read-only routes: what a client sends runs in a transaction of the proxy's own, which ends with ROLLBACK, and
//! so does the client's. What lasts without harm, such as SET, runs outside; what could do neither is refused.
//!
//! Where a batch runs is decided when its first statement is bound, and each batch waits until those before it are
//! answered: only then is it known whether the client has a transaction.

use std::borrow::Cow;
use std::rc::Rc;

use super::exchange::{End, Exchange};
use super::judge::Message;
use crate::error::{ErrorKind, Refusal};
use crate::relay::request::{self, Walk};
use crate::rule::Rule;
use crate::statement::{Breach, Conduct, Ending};
use crate::wire::turn::{Mark, Status};

/// In whose transaction a batch of the extended protocol runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Batch {
    /// Nothing that runs was bound yet.
    #[default]
    Undecided,
    /// In none: everything in it is harmless.
    Bare,
    /// In one of the proxy's.
    Owned,
    /// BEGIN was bound and is still to be executed, before anything else.
    Opening,
    /// In the client's.
    OfClient,
    /// Behind the end of one: nothing more runs in this batch.
    Ended {
        /// It was the proxy's.
        owned: bool,
        /// With COMMIT.
        commits: bool,
    },
}

/// What becomes of a message.
pub(super) enum Owned {
    /// It goes on.
    Goes,
    /// It is dealt with.
    Done,
    /// It has to wait for the answers to what was sent before.
    Waits,
}

impl Exchange<'_> {
    /// Puts what the proxy has to put around a message.
    pub(super) fn own(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Result<Owned, End> {
        match message.header.tag {
            b'Q' | b'F' if !matches!(self.client.batch, Batch::Undecided) => {
                let words = "a Query within a batch is not possible on a strictly read-only route";
                Err(End::Refused(Refusal::new(ErrorKind::ProtocolViolation, words)))
            }
            b'Q' => Ok(self.own_query(walk, message)),
            b'P' => Ok(self.own_parse(walk, message)),
            b'B' => Ok(self.own_bind(walk, message)),
            b'E' => {
                if self.client.batch == Batch::Opening {
                    self.client.batch = Batch::OfClient;
                }
                let commits = matches!(self.client.batch, Batch::Ended { commits: true, .. });
                self.pass(walk, message, Mark { commits, ..Mark::default() });
                Ok(Owned::Done)
            }
            b'S' => Ok(self.own_sync(walk, message)),
            _ => Ok(Owned::Goes),
        }
    }

    fn is_answered(&self) -> bool {
        let turn = &self.server.turn;
        turn.answered_before() == turn.epoch() && self.server.is_between_replies()
    }

    fn refuse_strictly(&mut self, walk: &mut Walk<'_>, message: Message<'_>, what: &'static str) -> Owned {
        let breach = Breach { rule: Rule::Strict, what: Cow::Borrowed(what), at: 0 };
        if message.header.tag == b'B' {
            self.refuse_bind(walk, message, &breach);
        } else {
            let text = match message.header.tag {
                b'Q' => request::query_text(message.body),
                _ => request::parse_parts(message.body).map_or(&[][..], |(_, text, _)| text),
            };
            self.refuse(walk, message, text, &breach);
        }
        Owned::Done
    }

    fn own_query(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Owned {
        if !self.is_answered() {
            return Owned::Waits;
        }
        let text = request::query_text(message.body);
        let conduct = self.facts(text).conduct();
        let idle = self.server.turn.status() == Status::Idle;
        let (owned, ends) = match conduct {
            Conduct::Refused(what) => return self.refuse_strictly(walk, message, what),
            Conduct::Bare { lasts: true } if !idle => {
                return self.refuse_strictly(walk, message, LASTS);
            }
            Conduct::Bare { .. } | Conduct::Begins => (false, None),
            Conduct::Inside => (idle, None),
            // PostgreSQL warns that there is nothing to end.
            Conduct::Ends(Ending { alone: true, .. }) if idle => (false, None),
            Conduct::Ends(ending) => (idle && !ending.begins, Some(ending)),
        };
        let words =
            if ends.is_none() && matches!(conduct, Conduct::Ends(_)) { None } else { self.in_words(text) };
        let words = words.as_deref().unwrap_or(text);
        let facts = self.facts(words);
        self.destroy_unnamed(walk);
        if self.rules.statement_mode && facts.begins_block() {
            self.refuse_block(walk, message);
            return Owned::Done;
        }
        self.arm(walk, &facts, false);
        self.attend(walk, &facts, false);
        self.interrupt(walk);
        self.client.requests.discard(walk, message.header);
        if ends.is_some() && self.server.turn.status() == Status::InTransaction {
            self.server.probe();
        }
        let bill = self.bill_query(&facts, message);
        self.server.queue_text(words, owned, ends.is_some_and(|ending| ending.commits), bill);
        if owned {
            self.server.end_owned();
        }
        self.reassign(walk);
        Owned::Done
    }

    /// [`Self::in_words`] of a Parse of the statement `name`.
    pub(super) fn words_of(&mut self, name: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        match self.facts(text).conduct() {
            Conduct::Ends(ending) if self.rules.strict && !name.is_empty() => Some(ending.stand_in().into()),
            _ => self.in_words(text),
        }
    }

    /// A name that SQL knows is not replaced, and a function could run what it stands for.
    fn own_parse(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Owned {
        let Some((name, text, _)) = request::parse_parts(message.body) else { return Owned::Goes };
        let conduct = self.facts(text).conduct();
        match conduct {
            Conduct::Refused(what) => self.refuse_strictly(walk, message, what),
            Conduct::Ends(_) if self.holdings.is_sql_name(name) => {
                self.refuse_strictly(walk, message, "COMMIT by a name that SQL has prepared")
            }
            _ => Owned::Goes,
        }
    }

    fn own_bind(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Owned {
        if self.client.batch == Batch::Undecided && !self.is_answered() {
            return Owned::Waits;
        }
        let conduct = self.conduct_of(message);
        let idle = self.server.turn.status() == Status::Idle;
        let next = match (self.client.batch, conduct) {
            (_, Conduct::Refused(what)) => return self.refuse_strictly(walk, message, what),
            (Batch::Undecided, Conduct::Begins) if idle => Batch::Opening,
            (Batch::Undecided, Conduct::Inside) if idle => Batch::Owned,
            (Batch::Undecided, Conduct::Bare { .. }) if idle => Batch::Bare,
            (Batch::Undecided, Conduct::Ends(Ending { commits, .. })) if idle => {
                Batch::Ended { owned: false, commits }
            }
            (Batch::Bare, Conduct::Bare { .. }) => Batch::Bare,
            (Batch::Bare, _) => {
                return self.refuse_strictly(walk, message, "a statement behind one outside of transactions");
            }
            (Batch::Opening | Batch::Ended { .. }, _) => {
                return self.refuse_strictly(
                    walk,
                    message,
                    "a statement that is bound behind BEGIN or COMMIT",
                );
            }
            (_, Conduct::Bare { lasts: true }) => return self.refuse_strictly(walk, message, LASTS),
            (Batch::Owned, Conduct::Begins) => {
                return self.refuse_strictly(walk, message, "BEGIN behind other statements of a batch");
            }
            (batch, Conduct::Ends(Ending { commits, .. })) => {
                Batch::Ended { owned: batch == Batch::Owned, commits }
            }
            (Batch::Undecided, _) => Batch::OfClient,
            (batch, _) => batch,
        };
        if next == Batch::Owned && self.client.batch == Batch::Undecided {
            self.interrupt(walk);
            self.server.begin_owned();
        }
        self.client.batch = next;
        if let (Conduct::Ends(ending), Some((portal, name))) = (conduct, request::bind_names(message.body))
            && !name.is_empty()
        {
            self.interrupt(walk);
            self.client.requests.discard(walk, message.header);
            self.server.bind_rollback(portal, ending.chains);
            return Owned::Done;
        }
        Owned::Goes
    }

    /// Of the statement that a Bind names: the client's, or one that SQL has prepared, which can only read.
    fn conduct_of(&self, message: Message<'_>) -> Conduct {
        match request::bind_names(message.body) {
            Some((_, b"")) if self.footprint.parsed_in(self.server.turn.epoch()) => {
                self.footprint.facts.as_ref().map_or(Conduct::Inside, |facts| facts.conduct())
            }
            Some((_, b"")) => self.remembered_facts().map_or(Conduct::Inside, |facts| facts.conduct()),
            Some((_, name)) => {
                let text = self.holdings.named(name).map(|named| Rc::clone(&named.prepared));
                text.map_or(Conduct::Inside, |prepared| self.facts(prepared.text()).conduct())
            }
            None => Conduct::Inside,
        }
    }

    fn own_sync(&mut self, walk: &mut Walk<'_>, message: Message<'_>) -> Owned {
        let owned = match std::mem::take(&mut self.client.batch) {
            Batch::Owned | Batch::Ended { owned: true, .. } => true,
            Batch::Ended { owned: false, .. } | Batch::Undecided | Batch::Bare => false,
            Batch::Opening | Batch::OfClient => false,
        };
        self.pass(walk, message, Mark { owned, ..Mark::default() });
        if owned {
            self.interrupt(walk);
            self.server.end_owned();
        }
        self.reassign(walk);
        Owned::Done
    }

    fn refuse_bind(&mut self, walk: &mut Walk<'_>, message: Message<'_>, breach: &Breach) {
        self.interrupt(walk);
        self.note_breach(breach, b"");
        self.client.requests.discard(walk, message.header);
        self.server.refuse_parse(false, super::refuse::body(breach));
    }
}

/// What is refused in a transaction of the client's.
const LASTS: &str = "a setting that lasts, or LISTEN, in a transaction";
