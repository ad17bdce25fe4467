//! What everybody does: rows, errors, COPY, sequences.

use super::client::Client;
use crate::support::messages::*;

impl Client<'_> {
    /// Something that leaves no state in the session.
    pub fn plain_step(&mut self) {
        match self.dice.roll(9) {
            0..=2 => self.own_row(),
            3 => self.refused("SELECT 1/0", "22012"),
            4 => self.unnamed_error(),
            5 => self.copy_in(),
            6 => self.copy_out(),
            7 => self.insert(),
            _ => self.sequence(),
        }
    }

    fn own_row(&mut self) {
        let own = self.own();
        if self.dice.chance(50) {
            assert_eq!(self.value(&format!("SELECT '{own}'")), own);
        } else {
            let what = format!("extended SELECT of {own}");
            let reply = self.batch(&what, &[unnamed("SELECT $1::text", &[&own]), sync()]);
            assert_eq!(reply.rows(), [[own]], "{reply:?}");
        }
    }

    fn unnamed_error(&mut self) {
        let reply = self.batch("extended SELECT of nothing", &[unnamed("SELECT nothing", &[]), sync()]);
        assert_eq!(reply.code(), "42703", "{reply:?}");
        self.model.fail();
    }

    fn table(&self) -> String {
        format!("{}.copied", self.storm.schema(0))
    }

    fn copy_in(&mut self) {
        let (table, name) = (self.table(), self.name());
        let fails = self.dice.chance(25);
        let end = if fails { copy_fail("no more") } else { copy_done() };
        self.note(format!("COPY {table} FROM STDIN, {}", if fails { "failing" } else { "two rows" }));
        let rows = format!("{name}\t1\n{name}\t2\n");
        let head = query(&format!("COPY {table} FROM STDIN"));
        self.raw.send(&[head, copy_data(rows.as_bytes()), end].concat());
        let reply = self.reply();
        if fails {
            assert_eq!(reply.code(), "57014", "{reply:?}");
            return self.model.fail();
        }
        assert_eq!(reply.commands(), ["COPY 2"], "{reply:?}");
        self.model.now.rows += 2;
        self.count_rows();
    }

    fn copy_out(&mut self) {
        let own = self.own();
        let reply = self.query(&format!("COPY (SELECT '{own}', 7) TO STDOUT"));
        let rows: Vec<_> = reply.messages.iter().filter(|message| message.tag == b'd').collect();
        assert_eq!(rows.len(), 1, "{reply:?}");
        assert_eq!(rows[0].body, format!("{own}\t7\n").as_bytes());
    }

    fn insert(&mut self) {
        let (table, name) = (self.table(), self.name());
        let sql = format!("INSERT INTO {table} VALUES ($1, 3)");
        let reply = self.batch(&format!("extended {sql}"), &[unnamed(&sql, &[&name]), sync()]);
        assert_eq!(reply.commands(), ["INSERT 0 1"], "{reply:?}");
        self.model.now.rows += 1;
        self.count_rows();
    }

    fn count_rows(&mut self) {
        let (table, name) = (self.table(), self.name());
        let count = self.value(&format!("SELECT count(*) FROM {table} WHERE who = '{name}'"));
        assert_eq!(count, self.model.now.rows.to_string(), "rows of {name}");
    }

    /// The current value of a sequence belongs to a server process: it is asked for in the transaction of the next one.
    fn sequence(&mut self) {
        let sequence = format!("{}.numbers", self.storm.schema(0));
        let both = format!("SELECT currval('{sequence}') || ' ' || lastval()");
        let next = format!("SELECT nextval('{sequence}')");
        let reply = if self.model.in_transaction() {
            let next = self.value(&next);
            assert_eq!(self.value(&both), format!("{next} {next}"));
            return;
        } else {
            self.query(&format!("BEGIN; {next}; {both}; COMMIT"))
        };
        let rows = reply.rows();
        assert_eq!(rows.len(), 2, "{reply:?}");
        assert_eq!(rows[1][0], format!("{0} {0}", rows[0][0]));
    }
}
