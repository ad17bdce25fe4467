//! What belongs to one server process: temporary tables, session locks, cursors WITH HOLD, SQL's PREPARE. Clients hold
//! it for a few transactions only, and wait for nobody meanwhile.

use super::client::Client;
use super::model::{ROLE, Statement, Temp};
use crate::support::messages::*;

const TEMPS: [&str; 2] = ["mine", "other"];
const CURSORS: [&str; 2] = ["c1", "c2"];
const PREPARED: [&str; 2] = ["q1", "q2"];

impl Client<'_> {
    /// Something that pins.
    pub fn pins_step(&mut self) {
        match self.dice.roll(4) {
            0 => self.temp_step(),
            1 => self.lock_step(),
            2 => self.cursor_step(),
            _ => self.prepare_step(),
        }
    }

    fn temp_step(&mut self) {
        let name = self.dice.pick(&TEMPS);
        let role = &self.model.now.settings[ROLE];
        if role.session != "none" || role.local.is_some() {
            return self.lock_step();
        }
        let content = self.own();
        if self.model.now.temps.contains_key(name) {
            match self.dice.roll(3) {
                0 => {
                    self.done(&format!("DROP TABLE pg_temp.{name}"), "DROP TABLE");
                    self.model.now.temps.remove(name);
                }
                1 => self.refused(&format!("CREATE TEMP TABLE {name} (n int)"), "42P07"),
                _ => {
                    self.done(&format!("UPDATE {name} SET content = '{content}'"), "UPDATE 1");
                    let temp = self.model.now.temps.get_mut(name).expect("it is there");
                    temp.content = content;
                }
            }
            return;
        }
        let on_commit_drop = self.dice.chance(30);
        let end = if on_commit_drop { " ON COMMIT DROP" } else { "" };
        let created = format!("CREATE TEMP TABLE {name}{end} AS SELECT '{content}'::text AS content");
        self.done(&created, "SELECT 1");
        if !on_commit_drop || self.model.in_transaction() {
            self.model.now.temps.insert(name, Temp { content, on_commit_drop });
        }
    }

    fn lock_step(&mut self) {
        let which = self.dice.roll(3) as u32;
        let key = self.own_key(which);
        let arguments = format!("({}, {key})", self.storm.number);
        match self.dice.roll(6) {
            0 | 1 => {
                self.value(&format!("SELECT pg_advisory_lock{arguments}"));
                *self.model.locks.entry(key).or_default() += 1;
            }
            2 => {
                let sql = format!("SELECT pg_try_advisory_lock{arguments}");
                let reply = self.batch(&format!("extended {sql}"), &[unnamed(&sql, &[]), sync()]);
                assert_eq!(reply.rows(), [["t"]], "{reply:?}");
                *self.model.locks.entry(key).or_default() += 1;
            }
            3 => {
                self.value(&format!("SELECT pg_advisory_xact_lock{arguments}"));
                if self.model.in_transaction() {
                    self.model.now.transaction_locks.insert(key);
                }
            }
            4 => {
                let held = self.model.locks.get(&key).copied().unwrap_or(0);
                let answer = if held > 0 { "t" } else { "f" };
                assert_eq!(self.value(&format!("SELECT pg_advisory_unlock{arguments}")), answer);
                match held {
                    0 => {}
                    1 => drop(self.model.locks.remove(&key)),
                    _ => *self.model.locks.entry(key).or_default() -= 1,
                }
            }
            _ => {
                self.value("SELECT pg_advisory_unlock_all()");
                self.model.locks.clear();
            }
        }
    }

    fn cursor_step(&mut self) {
        let name = self.dice.pick(&CURSORS);
        let content = self.own();
        let declared = format!(
            "DECLARE {name} CURSOR WITH HOLD FOR SELECT '{content} ' || g FROM generate_series(1, 5) g"
        );
        let Some(cursor) = self.model.cursors.get_mut(name) else {
            if self.dice.chance(20) {
                return self.refused(&format!("FETCH {name}"), "34000");
            }
            self.done(&declared, "DECLARE CURSOR");
            return self.model.declare(name, content);
        };
        let (position, content) = (cursor.fetched + 1, cursor.content.clone());
        match self.dice.roll(6) {
            0 => self.refused(&declared, "42P03"),
            1 => {
                self.done(&format!("CLOSE {name}"), "CLOSE CURSOR");
                self.model.cursors.remove(name);
            }
            _ => {
                cursor.fetched = position.min(5);
                let rows = self.query(&format!("FETCH {name}")).rows();
                let expected =
                    if position > 5 { vec![] } else { vec![vec![format!("{content} {position}")]] };
                assert_eq!(rows, expected, "row {position} of {name}");
            }
        }
    }

    fn prepare_step(&mut self) {
        let name = self.dice.pick(&PREPARED);
        let kind = self.any_kind();
        let prepare = format!("PREPARE {name} (text) AS {}", self.text_of(kind));
        let argument = self.own();
        let execute = format!("EXECUTE {name}('{argument}')");
        let Some(known) = self.model.statements.get(name).map(|statement| statement.kind) else {
            if self.dice.chance(20) {
                return self.refused(&execute, "26000");
            }
            self.done(&prepare, "PREPARE");
            self.model.statements.insert(name, Statement { from_sql: true, kind });
            return;
        };
        match self.dice.roll(6) {
            0 => self.refused(&prepare, "42P05"),
            1 => {
                self.done(&format!("DEALLOCATE {name}"), "DEALLOCATE");
                self.model.statements.remove(name);
            }
            _ => assert_eq!(self.value(&execute), self.answer_of(known, &argument)),
        }
    }

    /// Drops everything that pins, outside a transaction.
    pub fn let_go(&mut self) {
        self.held = 0;
        if self.dice.chance(30) {
            return self.discard_all();
        }
        for name in std::mem::take(&mut self.model.now.temps).into_keys() {
            self.done(&format!("DROP TABLE pg_temp.{name}"), "DROP TABLE");
        }
        if !self.model.locks.is_empty() {
            self.unlock();
        }
        if !self.model.cursors.is_empty() {
            self.model.cursors.clear();
            self.done("CLOSE ALL", "CLOSE CURSOR ALL");
        }
        let sql = |statement: &Statement| statement.from_sql;
        let prepared: Vec<_> =
            PREPARED.into_iter().filter(|name| self.model.statements.get(name).is_some_and(sql)).collect();
        for name in prepared {
            self.done(&format!("DEALLOCATE {name}"), "DEALLOCATE");
            self.model.statements.remove(name);
        }
        self.check();
    }

    fn unlock(&mut self) {
        let locks = std::mem::take(&mut self.model.locks);
        if self.dice.chance(50) {
            self.value("SELECT pg_advisory_unlock_all()");
            return;
        }
        for (key, held) in locks {
            for _ in 0..held {
                let sql = format!("SELECT pg_advisory_unlock({}, {key})", self.storm.number);
                assert_eq!(self.value(&sql), "t");
            }
        }
    }
}
