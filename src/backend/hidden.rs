//! What a database's own functions, triggers and views may do to a session. No statement's text tells: `SELECT
//! set_tenant('a')` may set anything, and an INSERT may fire a trigger that does. So their definitions are looked at, as a
//! whole and now and then, and the server is asked after every statement that uses a name behind which one of them is.
//!
//! PostgreSQL lists the settings of a session but for those that it does not know (`app.tenant`): their names are taken
//! from the definitions, and where they are not there either, the client is pinned.

use std::sync::LazyLock;

use super::own::columns;
use crate::statement::{Facts, Kind, Words};

/// The question, with its operators qualified: a client's search_path may have others of the same name.
pub static ASK_HIDDEN: LazyLock<String> = LazyLock::new(|| {
    let lines =
        include_str!("hidden.sql").lines().map(|line| line.split("-- ").next().unwrap_or(line).trim());
    let mut sql = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    for operator in ["=", "<>", ">=", ">", "~"] {
        sql = sql.replace(&format!(" {operator} "), &format!(" OPERATOR(pg_catalog.{operator}) "));
    }
    sql
});

/// Names of settings that are taken from definitions. Databases with more have their clients pinned.
const MAX_NAMES: usize = 50;

/// Definitions that are read, one less than the question's LIMIT. A database with more may do anything.
const MAX_DEFINITIONS: usize = 1_000;

/// What a database's own definitions may do to a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Hashes of the names behind which something touches a session, ascending.
    touching: Vec<u32>,
    /// Those of them behind which it does what cannot be found out afterwards.
    untold: Vec<u32>,
    /// Any statement may touch it, whatever its names.
    everywhere: bool,
    /// Any statement may do what cannot be found out afterwards.
    untold_everywhere: bool,
    /// Settings of the application's own that are named in definitions.
    pub names: Vec<Box<str>>,
}

/// What a statement may do by what it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// Nothing that its text does not tell.
    Nothing,
    /// Something, which the server can be asked about.
    Session,
    /// Something that cannot be found out afterwards.
    Untold,
}

impl Hidden {
    /// Reads the rows of [`ASK_HIDDEN`]. What cannot be read may do anything.
    pub fn read<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut hidden = Self::default();
        for (count, row) in rows.enumerate() {
            let columns = columns(row).unwrap_or_default();
            let (3, true) = (columns.len(), count < MAX_DEFINITIONS) else {
                return Self { everywhere: true, untold_everywhere: true, ..Self::default() };
            };
            let text = |n: usize| columns.get(n).and_then(Option::as_deref).unwrap_or_default();
            hidden.add(text(0), text(1), text(2) != "f");
        }
        if hidden.names.len() > MAX_NAMES {
            hidden.names.clear();
            hidden.untold = hidden.touching.clone();
            hidden.untold_everywhere = hidden.everywhere;
        }
        for hashes in [&mut hidden.touching, &mut hidden.untold] {
            hashes.sort_unstable();
            hashes.dedup();
        }
        hidden
    }

    /// A definition, the names through which it runs, and whether it runs without any.
    fn add(&mut self, source: &str, names: &str, everywhere: bool) {
        let found = look(source);
        if !found.any {
            return;
        }
        self.everywhere |= everywhere;
        self.untold_everywhere |= everywhere && found.untold;
        let hashes = names.split('\n').map(Words::hash);
        if found.untold {
            self.untold.extend(hashes.clone());
        }
        self.touching.extend(hashes);
        for name in found.names {
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
    }

    /// Whether something touches a session in a way that cannot be found out afterwards.
    pub fn has_untold(&self) -> bool {
        self.untold_everywhere || !self.untold.is_empty()
    }

    /// What a statement may do by what it runs.
    pub fn touch(&self, facts: &Facts) -> Touch {
        if self.touching.is_empty() && !self.everywhere {
            return Touch::Nothing;
        }
        let runs = match facts.kind {
            Kind::Empty | Kind::Transaction | Kind::Session => return self.touch_by(facts.words()),
            // Its names are not all known.
            Kind::Ddl | Kind::Other | Kind::Unknown => true,
            Kind::Read | Kind::Write | Kind::Copy => self.everywhere,
        };
        let all = if !runs {
            Touch::Nothing
        } else if self.untold_everywhere {
            Touch::Untold
        } else {
            Touch::Session
        };
        all.max(self.touch_by(facts.words()))
    }

    fn touch_by(&self, words: &Words) -> Touch {
        if words.meet(&self.untold) {
            Touch::Untold
        } else if words.meet(&self.touching) {
            Touch::Session
        } else {
            Touch::Nothing
        }
    }
}

/// What the source of one function may do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    any: bool,
    untold: bool,
    names: Vec<Box<str>>,
}

/// Reads words, whatever the language. Too much is found rather than too little.
fn look(source: &str) -> Found {
    let source = source.to_ascii_lowercase();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    let (bytes, mut at) = (source.as_bytes(), 0);
    let (mut found, mut in_update) = (Found::default(), false);
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|&&byte| is_word(byte)).count();
        if length == 0 {
            in_update &= bytes[at] != b';';
            at += 1;
            continue;
        }
        let word = &source[at..at + length];
        at += length;
        match word.rsplit('.').next().unwrap_or(word) {
            "update" => in_update = true,
            "set_config" => found.sets_config(&source[at..]),
            "set" if !in_update => found.sets(&source[at..]),
            "setseed" | "load" | "dblink_connect" | "dblink_connect_u" => {
                (found.any, found.untold) = (true, true)
            }
            "temp" | "temporary" | "pg_temp" | "listen" | "prepare" | "deallocate" | "discard" => {
                found.any = true
            }
            "execute" | "spi_exec_query" | "spi_query" => found.any |= runs_a_variable(&source[at..]),
            word => found.any |= word.contains("advisory_lock") && !word.contains("xact"),
        }
    }
    found
}

impl Found {
    fn sets_config(&mut self, rest: &str) {
        self.any = true;
        let name = rest.trim_start().strip_prefix('(').and_then(|rest| rest.trim_start().strip_prefix('\''));
        match name.and_then(|rest| rest.split_once('\'')) {
            Some((name, _)) => self.name(name),
            None => self.untold = true,
        }
    }

    fn sets(&mut self, rest: &str) {
        let mut words = rest.split_ascii_whitespace();
        let mut name = words.next().unwrap_or_default();
        if name == "session" {
            name = words.next().unwrap_or_default();
        }
        if name == "local" {
            return;
        }
        self.any = true;
        let name = name.split(['=', ';', '\'']).next().unwrap_or_default();
        if name == "session_authorization" || name == "authorization" {
            self.untold = true;
        }
        self.name(name);
    }

    /// Those without a dot the server lists by itself.
    fn name(&mut self, name: &str) {
        let plain =
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$'));
        match (name.contains('.'), plain) {
            (true, true) => self.names.push(name.into()),
            (_, false) => self.untold = true,
            _ => {}
        }
    }
}

/// Whether EXECUTE runs what no word here shows. (What it names may be a trigger's function, or a privilege.)
fn runs_a_variable(rest: &str) -> bool {
    let rest = rest.trim_start().trim_start_matches('(').trim_start();
    let rest = rest
        .strip_prefix("format")
        .map_or(rest, |rest| rest.trim_start().trim_start_matches('(').trim_start());
    !["'", "e'", "\"", "$", "function", "procedure", "on "].iter().any(|start| rest.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Dialect, judge};

    #[test]
    fn a_functions_source_tells_which_settings_it_touches() {
        for (source, names, untold) in [
            ("begin perform set_config('app.tenant', t, false); end", &["app.tenant"][..], false),
            (
                "BEGIN PERFORM pg_catalog.set_config ( 'App.User' , u, false); SET app.x = 1; END",
                &["app.user", "app.x"],
                false,
            ),
            ("begin perform set_config(name, value, false); end", &[], true),
            ("begin execute format('set %I = %L', n, v); end", &[], true),
            ("select setseed(0.5)", &[], true),
            ("begin set session timezone to 'UTC'; set role nobody; end", &[], false),
            ("create temp table t (n int)", &[], false),
            ("select pg_try_advisory_lock_shared(1)", &[], false),
        ] {
            let found = look(source);
            assert!(found.any, "{source}");
            assert_eq!(found.names.iter().map(|name| &**name).collect::<Vec<_>>(), names, "{source}");
            assert_eq!(found.untold, untold, "{source}");
        }
    }

    #[test]
    fn what_touches_no_session_is_let_alone() {
        for source in [
            "begin update t set n = n + 1 where id = new.id; return new; end",
            "insert into t values (1) on conflict (n) do update set n = excluded.n",
            "begin set local work_mem = '1GB'; perform pg_advisory_xact_lock(1); end",
            "select settings, offset_set from templates",
            "",
        ] {
            assert_eq!(look(source), Found::default(), "{source}");
        }
    }

    #[test]
    fn execute_of_a_variable_may_do_anything_that_can_be_asked_about() {
        for (source, any) in [
            ("begin execute query; end", true),
            ("begin execute 'insert into ' || t; end", false),
            ("execute format('create table %i ()', n)", false),
            ("create trigger x after insert on t execute function f()", false),
            ("grant execute on function f to x", false),
            ("plpy.execute(query)", true),
            ("begin execute format('set %I = 1', n); end", true),
        ] {
            assert_eq!(look(source).any, any, "{source}");
        }
    }

    fn row(columns: [&str; 3]) -> Vec<u8> {
        let mut body = 3_u16.to_be_bytes().to_vec();
        for column in columns {
            body.extend((column.len() as u32).to_be_bytes());
            body.extend(column.as_bytes());
        }
        body
    }

    fn touch(hidden: &Hidden, sql: &str) -> Touch {
        hidden.touch(&judge(sql.as_bytes(), Dialect::default()))
    }

    #[test]
    fn definitions_that_cannot_be_read_may_do_anything() {
        let hidden = Hidden::read([&b"\0\x01"[..]].into_iter());
        assert_eq!(touch(&hidden, "SELECT 1"), Touch::Untold);
        assert_eq!(Hidden::read(std::iter::empty()), Hidden::default());
        let rows = vec![row(["set_config('a.b', x, false)", "f", "f"]); MAX_DEFINITIONS + 1];
        assert_eq!(touch(&Hidden::read(rows.iter().map(|row| &row[..])), "SELECT 1"), Touch::Untold);
    }

    #[test]
    fn a_statement_touches_the_session_by_the_names_that_it_uses() {
        let rows = [
            row(["perform set_config('app.tenant', t, false)", "set_tenant\norders", "f"]),
            row(["select setseed(0.5)", "shuffle", "f"]),
            row(["update t set x = 1", "harmless", "f"]),
        ];
        let hidden = Hidden::read(rows.iter().map(|row| &row[..]));
        for (sql, expected) in [
            ("SELECT 1", Touch::Nothing),
            ("SELECT * FROM customers", Touch::Nothing),
            ("SELECT harmless()", Touch::Nothing),
            ("SELECT * FROM wm.orders", Touch::Session),
            ("SELECT a, (SELECT wm.set_tenant('x')) FROM customers", Touch::Session),
            ("SELECT c.set_tenant FROM customers c", Touch::Session),
            ("SELECT (c).set_tenant FROM customers c", Touch::Session),
            ("INSERT INTO orders VALUES (1)", Touch::Session),
            ("COPY orders FROM STDIN", Touch::Session),
            ("TRUNCATE customers, orders", Touch::Session),
            ("WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x", Touch::Session),
            ("DECLARE c CURSOR FOR SELECT * FROM orders", Touch::Session),
            ("EXPLAIN ANALYZE SELECT * FROM orders", Touch::Session),
            ("SELECT 'x'::shuffle", Touch::Untold),
            ("MERGE INTO customers USING orders ON true WHEN MATCHED THEN DELETE", Touch::Session),
            ("VACUUM customers", Touch::Session),
            ("CREATE TABLE t (n int)", Touch::Session),
            ("BEGIN", Touch::Nothing),
            ("SET x.y = 1", Touch::Nothing),
        ] {
            assert_eq!(touch(&hidden, sql), expected, "{sql}");
        }
    }

    #[test]
    fn the_question_depends_on_no_search_path() {
        for word in ASK_HIDDEN.split(' ') {
            assert!(!["=", "<>", ">=", ">", "~", "||", "--"].contains(&word), "{}", *ASK_HIDDEN);
        }
    }
}
