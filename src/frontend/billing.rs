//! The bills of requests: what a statement is counted under when it has ended. Its reply brings the bill back to `books`.

use std::rc::Rc;

use super::books::Detour;
use super::docket::Said;
use super::exchange::Exchange;
use super::judge::Message;
use crate::metrics::roster::NONE;
use crate::relay::request;
use crate::statement::{Command, Facts, States, Touched};
use crate::wire::turn::Bill;

impl Exchange<'_> {
    /// The bill of the first statement of a text, for which `received` bytes came.
    pub(super) fn bill(&mut self, facts: &Facts, received: usize) -> Bill {
        let Some(books) = &mut self.books else { return Bill::default() };
        let moved = self.holdings.lookout.planning || !self.rules.shared || facts.changes_path();
        let view = books.view(self.pool, &self.holdings.settings, moved);
        books.course.defines |= facts.defines();
        let received = u32::try_from(received).unwrap_or(u32::MAX);
        match facts.named().statement(0) {
            Some(first) => books.bill(view.as_deref(), facts, first, received),
            None => Bill { schemas: 1 << NONE, received, ..Bill::default() },
        }
    }

    /// The bill of a Query; those of its second and following statements are put behind it.
    pub(super) fn bill_query(&mut self, facts: &Rc<Facts>, message: Message<'_>) -> Bill {
        if self.books.is_none() {
            return Bill::default();
        }
        self.turn_off(facts);
        let mut bill = self.bill(facts, message.header.len);
        let executed = self.executes(facts);
        if let Some(executed) = &executed {
            bill = bill.executing(self.bill(executed, 0));
        }
        let Some(books) = &mut self.books else { return bill };
        let said = books.said(request::query_text(message.body));
        let first = executed.as_ref().unwrap_or(facts).named().statement(0);
        books.enter(&mut bill, first, said.clone());
        bill = self.traced(bill, Some(executed.as_ref().unwrap_or(facts)));
        if facts.named().len() > 1
            && let Some(books) = &mut self.books
        {
            let view = books.view(self.pool, &self.holdings.settings, true);
            let numbers = 1..facts.named().len();
            let following = numbers.filter_map(|number| {
                let statement = facts.named().statement(number)?;
                let mut bill = books.bill(view.as_deref(), facts, statement, 0);
                books.enter(&mut bill, Some(statement), said.clone());
                Some(bill)
            });
            self.server.turn.bill_next_statements(following);
        }
        bill
    }

    /// What the text executes that was prepared, where it is nothing but that.
    fn executes(&self, facts: &Facts) -> Option<Rc<Facts>> {
        let first = facts.named().statement(0)?;
        let only = facts.effects.prepared_names.len() == 1 && facts.named().len() == 1;
        if !only || first.command != Command::Unknown || !first.names_nothing() {
            return None;
        }
        let name = facts.effects.prepared_names.first()?;
        let executed = self.holdings.executed(&facts.effects).pop();
        executed.or_else(|| self.footprint.own(name.as_bytes()).cloned())
    }

    /// The bill of a Parse: what an error would be counted under.
    pub(super) fn bill_parse(&mut self, facts: &Facts, message: Message<'_>) -> Bill {
        let mut bill = self.bill(facts, 0);
        if let Some(books) = &mut self.books {
            let length = u32::try_from(message.header.len).unwrap_or(u32::MAX);
            books.account.parsed = books.account.parsed.saturating_add(length);
            if let Some((name, text, _)) = request::parse_parts(message.body)
                && books.slow.is_some()
                && name.is_empty()
            {
                let said = books.said(text);
                books.account.says(said);
            }
            // It waits with what is carried out, and not twice.
            let waited = books.account.waited.take();
            books.enter(&mut bill, facts.named().statement(0), Said::default());
            books.account.waited = waited;
        }
        self.traced(bill, Some(facts))
    }

    /// The bill of a Bind of `statement`, and of the Executes of its portal; of nothing that is known without its facts.
    pub(super) fn bill_bind(
        &mut self,
        (portal, statement): (&[u8], &[u8]),
        facts: Option<&Rc<Facts>>,
        text: Option<&[u8]>,
        length: usize,
    ) -> Bill {
        let Some(books) = &mut self.books else { return Bill::default() };
        let length = std::mem::take(&mut books.account.parsed) as usize + length;
        let (mut bill, mut executed) = (unknown(length), None);
        if let Some(facts) = facts {
            self.turn_off(facts);
            bill = self.bill(facts, length);
            executed = self.executes(facts);
            if let Some(executed) = &executed {
                bill = bill.executing(self.bill(executed, 0));
            }
        }
        if let Some(books) = &mut self.books {
            let said = match text {
                Some(text) => books.said(text),
                None if statement.is_empty() => books.account.said(),
                None => Said::default(),
            };
            let known = executed.as_ref().or(facts);
            books.enter(&mut bill, known.and_then(|facts| facts.named().statement(0)), said);
            bill = self.traced(bill, known.map(|facts| &**facts));
        }
        self.server.turn.bill_portal(portal, bill);
        bill
    }

    /// The bill of a message on a server connection of the client's own; `facts` of its text, if it has one.
    pub(super) fn bill_own(&mut self, message: Message<'_>, facts: Option<&Rc<Facts>>) -> Bill {
        if self.books.is_none() {
            return Bill::default();
        }
        let length = message.header.len;
        let (first, rest) = request::c_string(message.body).unwrap_or_default();
        match (message.header.tag, facts) {
            (b'Q', Some(facts)) => {
                if let [name] = &*facts.effects.prepared_names
                    && facts.effects.suspects.contains(States::PREPARED)
                {
                    self.footprint.owns(name.as_bytes(), Some(facts));
                }
                self.bill_query(facts, message)
            }
            (b'Q', None) => {
                let text = request::query_text(message.body);
                let facts = self.texts.borrow_mut().longer_than(text);
                let Some((books, first)) = self.books.as_mut().zip(facts.named().statement(0)) else {
                    return unknown(length);
                };
                let mut bill = books.bill(None, &facts, first, u32::try_from(length).unwrap_or(u32::MAX));
                let said = books.said(text);
                books.enter(&mut bill, Some(first), said);
                self.traced(bill, Some(&facts))
            }
            (b'P', facts) => {
                self.footprint.owns(first, facts);
                facts.map_or(Bill::default(), |facts| self.bill_parse(facts, message))
            }
            (b'B', _) => {
                let statement = request::c_string(rest).unwrap_or_default().0;
                let facts = self.footprint.own(statement).cloned();
                self.bill_bind((first, statement), facts.as_ref(), None, length)
            }
            (b'F', _) => self.bill_call(length),
            _ => Bill::default(),
        }
    }

    /// The bill of a message about a statement that nobody knows.
    pub(super) fn bill_unknown(&mut self, message: Message<'_>) -> Bill {
        match request::c_string(message.body) {
            Some((portal, _)) if message.header.tag == b'B' => {
                self.bill_bind((portal, b"?"), None, None, message.header.len)
            }
            _ => Bill::default(),
        }
    }

    /// The bill of a FunctionCall: nobody looks for the schema of its number.
    pub(super) fn bill_call(&mut self, length: usize) -> Bill {
        let Some(books) = &mut self.books else { return Bill::default() };
        let mut bill = Bill { command: Command::Call as u8, ..unknown(length) };
        books.enter(&mut bill, None, Said::default());
        self.traced(bill, None)
    }

    /// A statement may change the path: what follows it is seen from there.
    fn turn_off(&mut self, facts: &Facts) {
        if !facts.changes_path() {
            return;
        }
        let Some(books) = &mut self.books else { return };
        let account = &mut *books.account;
        let detour = facts.path().map_or(Detour::Unknown, |path| Detour::Path(path.into()));
        if facts.effects.settings == Touched::None {
            books.course.local = detour;
        } else {
            (account.detour, books.course.local) = (detour, Detour::None);
        }
        account.view = None;
    }
}

/// A statement of which only its tag will say what it is.
fn unknown(length: usize) -> Bill {
    let received = u32::try_from(length).unwrap_or(u32::MAX);
    Bill { schemas: 1 << NONE, received, ..Bill::default() }
}
