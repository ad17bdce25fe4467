//! What a client does next.

use super::client::Client;

/// For so many acts a client keeps what pins it to a server connection.
const HOLD: usize = 3;

/// Of a hundred steps of a client that holds nothing, so many begin to.
const PINNING: usize = 3;

const SAVEPOINTS: [&str; 3] = ["a", "b", "c"];

impl Client<'_> {
    /// One transaction, or one step without.
    pub fn act(&mut self) {
        if self.model.pinned() {
            self.held += 1;
            if self.held > HOLD {
                self.let_go();
            }
        }
        match self.dice.roll(20) {
            0..=9 => self.step(),
            10..=16 => self.transaction(),
            17 if self.model.pinned() => self.step(),
            17 if !self.model.channels.is_empty() && self.dice.chance(50) => self.stop_listening(),
            17 => self.hear_what_is_due(),
            18 => {
                self.channels_step();
                self.check();
            }
            _ if self.dice.chance(25) => self.discard_all(),
            _ => self.step(),
        }
    }

    /// The end of a client's life, with nothing left.
    pub fn leave(&mut self) {
        self.let_go();
        self.stop_listening();
        if self.dice.chance(50) {
            self.raw.send(&crate::support::messages::terminate());
        }
    }

    /// Something that may be said in a transaction and outside.
    fn step(&mut self) {
        let pinning = if self.model.pinned() { 40 } else { PINNING };
        if self.dice.chance(pinning) {
            self.pins_step();
        } else {
            match self.dice.roll(20) {
                0..=6 => self.settings_step(),
                7..=12 => self.statements_step(),
                13..=14 => self.channels_step(),
                _ => self.plain_step(),
            }
        }
        self.check();
    }

    fn transaction(&mut self) {
        let sql = self.dice.pick(&["BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL READ COMMITTED"]);
        self.done(sql, sql.split(" ISO").next().unwrap_or_default());
        self.model.begin();
        for _ in 0..self.dice.roll(7) {
            self.step_in_transaction();
        }
        if self.number.is_multiple_of(7) && self.dice.chance(15) {
            return self.vanish();
        }
        if self.dice.chance(60) {
            self.commit();
        } else {
            let sql = self.dice.pick(&["ROLLBACK", "ABORT"]);
            self.done(sql, "ROLLBACK");
            self.model.rollback();
        }
        self.check();
    }

    fn step_in_transaction(&mut self) {
        let savepoints = self.model.savepoints();
        if self.model.failed {
            if savepoints.is_empty() || self.dice.chance(50) {
                self.said_in_vain();
            } else {
                self.roll_back_to(&savepoints);
            }
            return self.check();
        }
        match self.dice.roll(10) {
            0 => {
                let name = self.dice.pick(&SAVEPOINTS);
                self.done(&format!("SAVEPOINT {name}"), "SAVEPOINT");
                self.model.savepoint(name);
            }
            1 if !savepoints.is_empty() => self.roll_back_to(&savepoints),
            2 if !savepoints.is_empty() => {
                let name = self.dice.pick(&savepoints);
                self.done(&format!("RELEASE {name}"), "RELEASE");
                self.model.release(name);
            }
            3 if self.dice.chance(10) => self.discard_all(),
            _ => return self.step(),
        }
        self.check();
    }

    fn roll_back_to(&mut self, savepoints: &[&'static str]) {
        let name = self.dice.pick(savepoints);
        self.done(&format!("ROLLBACK TO {name}"), "ROLLBACK");
        self.model.rollback_to(name);
    }
}
