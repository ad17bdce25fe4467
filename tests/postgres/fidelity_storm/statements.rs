//! Prepared statements of the protocol, with SQL's words for them, and pipelines.

use super::client::Client;
use super::model::Statement;
use crate::support::messages::*;
use crate::support::raw::Reply;

/// The same in every client.
const NAMES: [&str; 4] = ["s1", "S_1", "__asyncpg_stmt_1__", "mine"];

/// Texts of statements with one parameter; some belong to a client, some are everybody's.
const KINDS: usize = 4;

impl Client<'_> {
    /// The text of a kind of statement.
    pub fn text_of(&self, kind: usize) -> String {
        match kind {
            0 => format!("SELECT 'of {}: ' || $1::text", self.number),
            1 => "SELECT who || $1::text FROM whoami".to_owned(),
            2 => "SELECT $1::text".to_owned(),
            _ => "SELECT current_setting('work_mem') || $1::text".to_owned(),
        }
    }

    /// What such a statement answers.
    pub fn answer_of(&self, kind: usize, argument: &str) -> String {
        match kind {
            0 => format!("of {}: {argument}", self.number),
            1 => format!("{}{argument}", self.model.schema()),
            2 => argument.to_owned(),
            _ => format!("{}{argument}", self.model.value(0)),
        }
    }

    /// Any kind.
    pub fn any_kind(&mut self) -> usize {
        self.dice.roll(KINDS)
    }

    /// Something with the protocol's statements.
    pub fn statements_step(&mut self) {
        let name = self.dice.pick(&NAMES);
        match self.dice.roll(14) {
            0..=2 => self.parse_named(name),
            3..=6 => self.bind_named(name),
            7 => self.describe_named(name),
            8 => self.close_named(name),
            9 => self.replace_named(name),
            10 => self.unnamed_in_two_batches(),
            11 => self.pipeline_with_an_error(name),
            12 => self.deallocate(name),
            _ => self.execute_in_sql(name),
        }
    }

    fn has(&self, name: &str) -> Option<usize> {
        self.model.statements.get(name).map(|statement| statement.kind)
    }

    fn parse_named(&mut self, name: &'static str) {
        let kind = self.any_kind();
        let sql = self.text_of(kind);
        let reply = self.batch(&format!("Parse {name}: {sql}"), &[parse(name, &sql), sync()]);
        if self.has(name).is_some() {
            return self.failed(&reply, "42P05");
        }
        assert_eq!(reply.tags(), "1Z", "{reply:?}");
        self.model.statements.insert(name, Statement { from_sql: false, kind });
    }

    /// An error, which fails the transaction.
    fn failed(&mut self, reply: &Reply, code: &str) {
        assert_eq!(reply.code(), code, "{reply:?}");
        self.model.fail();
    }

    fn bind_named(&mut self, name: &'static str) {
        let argument = self.own();
        let batch = [bind("", name, &[&argument]), execute("", 0), sync()];
        let reply = self.batch(&format!("Bind {name} with {argument}"), &batch);
        match self.has(name) {
            None => self.failed(&reply, "26000"),
            Some(kind) => assert_eq!(reply.rows(), [[self.answer_of(kind, &argument)]], "{reply:?}"),
        }
    }

    fn describe_named(&mut self, name: &'static str) {
        let reply = self.batch(&format!("Describe {name}"), &[describe(b'S', name), sync()]);
        match self.has(name) {
            None => self.failed(&reply, "26000"),
            Some(_) => {
                assert_eq!(reply.tags(), "tTZ", "{reply:?}");
                // One parameter of type text, which has the oid 25.
                let types = reply.messages.iter().find(|message| message.tag == b't');
                assert_eq!(types.unwrap().body, [0, 1, 0, 0, 0, 25], "{reply:?}");
            }
        }
    }

    fn close_named(&mut self, name: &'static str) {
        let reply = self.batch(&format!("Close {name}"), &[close(b'S', name), sync()]);
        assert_eq!(reply.tags(), "3Z", "{reply:?}");
        self.model.statements.remove(name);
    }

    /// Close, Parse with another text and use, in one batch or in three.
    fn replace_named(&mut self, name: &'static str) {
        let (kind, argument) = (self.any_kind(), self.own());
        let sql = self.text_of(kind);
        let used = [bind("", name, &[&argument]), execute("", 0), sync()].concat();
        if self.dice.chance(50) {
            let what = format!("Close, Parse and Bind {name}: {sql} with {argument}");
            let reply = self.batch(&what, &[close(b'S', name), parse(name, &sql), used]);
            assert_eq!(reply.tags(), "312DCZ", "{reply:?}");
            assert_eq!(reply.rows(), [[self.answer_of(kind, &argument)]]);
        } else {
            self.note(format!("Close; Parse; Bind {name}: {sql} with {argument}, pipelined"));
            self.raw.send(&[close(b'S', name), sync(), parse(name, &sql), sync(), used].concat());
            assert_eq!(self.reply().tags(), "3Z");
            assert_eq!(self.reply().tags(), "1Z");
            assert_eq!(self.reply().rows(), [[self.answer_of(kind, &argument)]]);
        }
        self.model.statements.insert(name, Statement { from_sql: false, kind });
    }

    fn unnamed_in_two_batches(&mut self) {
        let (kind, argument) = (self.any_kind(), self.own());
        let sql = self.text_of(kind);
        let reply = self.batch(&format!("Parse unnamed: {sql}"), &[parse("", &sql), sync()]);
        assert_eq!(reply.tags(), "1Z", "{reply:?}");
        for _ in 0..2 {
            let batch = [bind("", "", &[&argument]), execute("", 0), sync()];
            let reply = self.batch(&format!("Bind unnamed with {argument}"), &batch);
            assert_eq!(reply.rows(), [[self.answer_of(kind, &argument)]], "{reply:?}");
        }
    }

    /// An error in the second of three batches takes what is behind it in that batch, and nothing else. In a
    /// transaction, everything that follows fails.
    fn pipeline_with_an_error(&mut self, name: &'static str) {
        let (kind, argument) = (self.any_kind(), self.own());
        let sql = self.text_of(kind);
        self.note(format!("pipeline: {sql}; 1/0, Parse {name} skipped; {sql}; all with {argument}"));
        let row = [unnamed(&sql, &[&argument]), sync()].concat();
        let error = [unnamed("SELECT 1/0", &[]), close(b'S', name), parse(name, "SELECT 'never'"), sync()];
        self.raw.send(&[row.clone(), error.concat(), row].concat());
        assert_eq!(self.reply().rows(), [[self.answer_of(kind, &argument)]]);
        let reply = self.reply();
        self.failed(&reply, "22012");
        let last = self.reply();
        match self.model.failed {
            true => assert_eq!(last.code(), "25P02", "{last:?}"),
            false => assert_eq!(last.rows(), [[self.answer_of(kind, &argument)]], "{last:?}"),
        }
    }

    /// DEALLOCATE knows the protocol's statements as well.
    fn deallocate(&mut self, name: &'static str) {
        if self.dice.chance(20) {
            self.done("DEALLOCATE ALL", "DEALLOCATE ALL");
            self.model.statements.clear();
        } else if self.has(name).is_some() {
            self.done(&format!("DEALLOCATE \"{name}\""), "DEALLOCATE");
            self.model.statements.remove(name);
        } else {
            self.refused(&format!("DEALLOCATE \"{name}\""), "26000");
        }
    }

    /// So does EXECUTE.
    fn execute_in_sql(&mut self, name: &'static str) {
        let argument = self.own();
        let sql = format!("EXECUTE \"{name}\"('{argument}')");
        match self.has(name) {
            None => self.refused(&sql, "26000"),
            Some(kind) => assert_eq!(self.value(&sql), self.answer_of(kind, &argument)),
        }
    }

    /// What is said in a failed transaction.
    pub fn said_in_vain(&mut self) {
        let name = self.dice.pick(&NAMES);
        match self.dice.roll(5) {
            0 => self.close_named(name),
            1 => {
                let batch = [parse(name, "SELECT 1"), sync()];
                let reply = self.batch(&format!("Parse {name} in vain"), &batch);
                assert_eq!(reply.code(), "25P02", "{reply:?}");
            }
            2 => {
                let batch = [bind("", name, &["x"]), execute("", 0), sync()];
                let reply = self.batch(&format!("Bind {name} in vain"), &batch);
                let code = if self.has(name).is_some() { "25P02" } else { "26000" };
                assert_eq!(reply.code(), code, "{reply:?}");
            }
            3 => self.refused("SET work_mem = '9MB'", "25P02"),
            _ => self.refused("SELECT 1", "25P02"),
        }
    }
}
