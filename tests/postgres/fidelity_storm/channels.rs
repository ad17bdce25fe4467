//! LISTEN, NOTIFY, UNLISTEN, and DISCARD ALL, which ends listening as well.

use std::collections::HashSet;

use super::client::Client;
use super::model::Wish;
use crate::support::messages::*;

impl Client<'_> {
    fn own_channel(&self) -> String {
        self.storm.channel(&self.number.to_string())
    }

    fn any_channel(&mut self) -> String {
        if self.dice.chance(30) {
            return self.storm.channel("all");
        }
        let other = self.dice.roll(self.storm.clients);
        self.storm.channel(&other.to_string())
    }

    /// Something with notifications that needs no look at others.
    pub fn channels_step(&mut self) {
        match self.dice.roll(6) {
            0 => self.listen(),
            1 if self.model.in_transaction() => self.unlisten(),
            _ => self.notify(),
        }
    }

    fn listen(&mut self) {
        let channel = if self.dice.chance(60) { self.own_channel() } else { self.storm.channel("all") };
        self.done(&format!("LISTEN {channel}"), "LISTEN");
        self.model.now.wishes.push(Wish::Listen(channel));
        self.ended();
    }

    fn unlisten(&mut self) {
        let (sql, wish) = if self.dice.chance(30) {
            ("UNLISTEN *".to_owned(), Wish::UnlistenAll)
        } else {
            let channel = self.own_channel();
            (format!("UNLISTEN {channel}"), Wish::Unlisten(channel))
        };
        self.done(&sql, "UNLISTEN");
        self.model.now.wishes.push(wish);
    }

    /// Outside a transaction: with all that was told before it.
    pub fn stop_listening(&mut self) {
        let channels = self.model.channels.clone();
        let must = self.leave_board();
        if !self.model.pinned() {
            self.hear(&must);
        }
        if self.dice.chance(50) {
            self.done("UNLISTEN *", "UNLISTEN");
        } else {
            for channel in channels {
                self.done(&format!("UNLISTEN {channel}"), "UNLISTEN");
            }
        }
        self.model.channels.clear();
        self.check();
    }

    /// Waits for what has been committed up to now.
    pub fn hear_what_is_due(&mut self) {
        let due = self.storm.board.due(&self.name());
        self.hear(&due);
        self.check();
    }

    /// Takes this client off the board: what it must have been told.
    fn leave_board(&self) -> HashSet<String> {
        let name = self.name();
        self.model.channels.iter().flat_map(|channel| self.storm.board.close(channel, &name)).collect()
    }

    fn notify(&mut self) {
        let channel = self.any_channel();
        let payload = format!("{channel} {}", self.own());
        let notice = (channel.clone(), payload.clone());
        let candidates = if self.model.in_transaction() {
            self.model.now.notices.push(notice);
            Vec::new()
        } else {
            self.storm.board.issue(&[notice])
        };
        if self.dice.chance(50) {
            self.done(&format!("NOTIFY {channel}, '{payload}'"), "NOTIFY");
        } else {
            let sql = "SELECT pg_notify($1, $2)";
            let what = format!("extended {sql} with {payload}");
            let reply = self.batch(&what, &[unnamed(sql, &[&channel, &payload]), sync()]);
            assert_eq!(reply.tags(), "12TDCZ", "{reply:?}");
        }
        self.storm.board.committed(candidates);
    }

    /// DISCARD ALL, which undoes everything outside a transaction and fails inside.
    pub fn discard_all(&mut self) {
        if self.model.in_transaction() {
            return self.refused("DISCARD ALL", "25001");
        }
        let must = self.leave_board();
        if !self.model.pinned() {
            self.hear(&must);
        }
        self.done("DISCARD ALL", "DISCARD ALL");
        self.model.discard_all();
        self.check();
    }

    /// COMMIT, by whatever name.
    pub fn commit(&mut self) {
        let name = self.name();
        let failed = self.model.failed;
        let notices = if failed { Vec::new() } else { self.model.now.notices.clone() };
        let leaves = !failed && self.model.now.wishes.iter().any(|wish| !matches!(wish, Wish::Listen(_)));
        // What comes while the transaction ends may be lost, so nothing is demanded of it.
        if leaves {
            self.leave_board();
        }
        let candidates = self.storm.board.issue(&notices);
        let sql = self.dice.pick(&["COMMIT", "END"]);
        self.done(sql, if failed { "ROLLBACK" } else { "COMMIT" });
        self.storm.board.committed(candidates);
        self.model.commit();
        for channel in &self.model.channels {
            self.storm.board.open(channel, &name);
        }
    }

    /// What a statement that is a transaction of its own does at its end.
    pub fn ended(&mut self) {
        if !self.model.in_transaction() {
            self.model.settle();
            let name = self.name();
            for channel in &self.model.channels {
                self.storm.board.open(channel, &name);
            }
        }
    }
}
