//! SET and its relatives: simple and extended, alone, in a transaction, undone in a query of several statements.

use super::client::Client;
use super::model::{ROLE, SEARCH_PATH, SETTINGS};
use crate::support::messages::*;

impl Client<'_> {
    /// Something with settings.
    pub fn settings_step(&mut self) {
        match self.dice.roll(15) {
            0..=3 => self.set(),
            4..=6 => self.set_config(),
            7 => self.set_config_in_sql(),
            8 => self.reset(),
            9 => {
                self.done("RESET ALL", "RESET");
                self.model.reset_all();
            }
            10 => self.refused("SET work_mem = 'much'", "22023"),
            11 => self.set_and_fail(),
            12 => self.set_for_a_query(),
            13 => self.set_in_a_pipeline(),
            _ => self.set_role(),
        }
    }

    /// A setting, not the role, and a value as PostgreSQL would show it.
    fn choose(&mut self) -> (usize, String) {
        let setting = self.dice.roll(ROLE);
        let number = self.dice.roll(900);
        let value = match setting {
            0 => format!("{}kB", 1025 + number),
            SEARCH_PATH => {
                let (first, second) = (self.dice.roll(4), self.dice.roll(4));
                format!("{}, {}", self.storm.schema(first), self.storm.schema(second))
            }
            2 => self.dice.pick(&["UTC", "Europe/Zurich", "America/New_York", "Asia/Tokyo"]).to_owned(),
            3 => self.dice.pick(&["ISO, MDY", "ISO, DMY", "German, DMY", "SQL, MDY"]).to_owned(),
            4 => format!("{}ms", 1_000_001 + number),
            _ => format!("{} it's \\ {}", self.own(), SETTINGS[setting]),
        };
        (setting, value)
    }

    fn set_statement(&self, setting: usize, value: &str, local: bool) -> String {
        let scope = if local { "LOCAL " } else { "" };
        match setting {
            SEARCH_PATH => format!("SET {scope}search_path TO {value}"),
            _ => format!("SET {scope}{} = {}", spelled(setting), quoted(value)),
        }
    }

    fn set(&mut self) {
        let ((setting, value), local) = (self.choose(), self.dice.chance(30));
        let sql = self.set_statement(setting, &value, local);
        self.done(&sql, "SET");
        self.model.set(setting, &value, local);
    }

    fn set_config(&mut self) {
        let ((setting, value), local) = (self.choose(), self.dice.chance(30));
        let sql = format!("SELECT set_config('{}', $1, {local})", SETTINGS[setting]);
        let what = format!("extended {sql} with {value}");
        let reply = self.batch(&what, &[unnamed(&sql, &[&value]), sync()]);
        assert_eq!(reply.rows(), [[value.clone()]], "{sql}: {reply:?}");
        self.model.set(setting, &value, local);
    }

    fn set_config_in_sql(&mut self) {
        let ((setting, value), local) = (self.choose(), self.dice.chance(30));
        let (name, quoted) = (SETTINGS[setting], quoted(&value));
        assert_eq!(self.value(&format!("SELECT set_config('{name}', {quoted}, {local})")), value);
        self.model.set(setting, &value, local);
    }

    fn reset(&mut self) {
        let setting = self.dice.roll(ROLE);
        let name = spelled(setting);
        let sql = self.dice.pick(&["RESET {}", "SET {} TO DEFAULT"]).replace("{}", name);
        let tag = sql.split(' ').next().unwrap_or_default().to_owned();
        self.done(&sql, &tag);
        self.model.reset(setting);
    }

    /// What a query of several statements has set is undone with it.
    fn set_and_fail(&mut self) {
        let (setting, value) = self.choose();
        let set = self.set_statement(setting, &value, false);
        if self.dice.chance(50) {
            self.refused(&format!("{set}; SELECT 1/0"), "22012");
        } else {
            let what = format!("extended, in one batch: {set}; SELECT 1/0");
            let reply = self.batch(&what, &[unnamed(&set, &[]), unnamed("SELECT 1/0", &[]), sync()]);
            assert_eq!(reply.code(), "22012", "{reply:?}");
            self.model.fail();
        }
    }

    /// SET LOCAL lasts for the rest of a query of several statements.
    fn set_for_a_query(&mut self) {
        let (setting, value) = self.choose();
        let set = self.set_statement(setting, &value, true);
        let sql = format!("{set}; SHOW {}", spelled(setting));
        assert_eq!(self.value(&sql), value);
        self.model.set(setting, &value, true);
    }

    /// The first batch sets, the second fails, the third finds it set.
    fn set_in_a_pipeline(&mut self) {
        if self.model.in_transaction() {
            return self.set();
        }
        let (setting, value) = self.choose();
        let name = SETTINGS[setting];
        self.note(format!("pipeline: set_config {name} to {value}; 1/0; current_setting"));
        let set = unnamed(&format!("SELECT set_config('{name}', $1, false)"), &[&value]);
        let (fail, show) = (unnamed("SELECT 1/0", &[]), unnamed("SELECT current_setting($1)", &[name]));
        self.raw.send(&[set, sync(), fail, sync(), show, sync()].concat());
        assert_eq!(self.reply().rows(), [[value.clone()]]);
        assert_eq!(self.reply().code(), "22012");
        assert_eq!(self.reply().rows(), [[value.clone()]]);
        self.model.set(setting, &value, false);
    }

    /// A temporary table belongs to the role that made it, so both never come together.
    fn set_role(&mut self) {
        if !self.model.now.temps.is_empty() {
            return self.set();
        }
        let role = match self.dice.roll(3) {
            0 => "none".to_owned(),
            1 => self.storm.granted("a"),
            _ => self.storm.granted("b"),
        };
        let local = self.dice.chance(50);
        self.done(&format!("SET {}ROLE {role}", if local { "LOCAL " } else { "" }), "SET");
        self.model.set(ROLE, &role, local);
    }
}

/// A literal.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A setting's name as SQL wants it: `user` is one of its words.
fn spelled(setting: usize) -> &'static str {
    match SETTINGS[setting] {
        "app.user" => "app.\"user\"",
        name => name,
    }
}
