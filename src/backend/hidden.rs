//! What a database's own functions, triggers and views may do to a session. No statement's text tells: `SELECT
//! set_tenant('a')` may set anything, and an INSERT may fire a trigger that does. So their definitions are looked at, as a
//! whole and now and then, and the server is asked after every statement that uses a name behind which one of them is.
//!
//! PostgreSQL lists the settings of a session but for those that it does not know (`app.tenant`): their names are taken
//! from the definitions, and where they are not there either, the client is pinned.

use std::sync::LazyLock;

use super::own::columns;
use crate::statement::{Body, Facts, Kind, Touch, Words};

/// Asks for the definitions that may touch a session by themselves: [`Seeds`].
pub static ASK_SEEDS: LazyLock<String> = LazyLock::new(|| qualified(include_str!("hidden_seeds.sql")));

/// Asks by which names they run: [`Hidden`]. Its parameter is [`Seeds::parameter`].
pub static ASK_NAMES: LazyLock<String> = LazyLock::new(|| qualified(include_str!("hidden_names.sql")));

/// Without comments, and with its operators qualified: a client's search_path may have others of the same name.
fn qualified(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("-- ").next().unwrap_or(line).trim());
    let mut sql = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    for operator in ["=", "<>", ">=", ">", "~", "~*"] {
        sql = sql.replace(&format!(" {operator} "), &format!(" OPERATOR(pg_catalog.{operator}) "));
    }
    sql
}

/// Names of settings that are taken from definitions. Databases with more have their clients pinned.
const MAX_NAMES: usize = 50;

/// Definitions that are read, one less than the question's LIMIT. A database with more may do anything.
const MAX_SEEDS: usize = 1_000;

/// Definitions that touch a session by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seeds {
    /// Their objects, each as a class and an oid.
    objects: Vec<(Touch, String, String)>,
    /// Settings of the application's own that are named in them.
    names: Vec<Box<str>>,
    /// They are too many, or cannot be read.
    unreadable: bool,
}

impl Seeds {
    /// Reads the rows of [`ASK_SEEDS`].
    pub fn read<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut seeds = Self::default();
        for (count, row) in rows.enumerate() {
            let columns = columns(row).unwrap_or_default();
            let ([Some(class), Some(oid), source], true) = (columns.as_slice(), count < MAX_SEEDS) else {
                return Self { unreadable: true, ..Self::default() };
            };
            let body = Body::read(source.as_deref().unwrap_or_default());
            let touch = body.touch();
            if touch != Touch::Nothing {
                seeds.objects.push((touch, class.clone(), oid.clone()));
            }
            for name in body.names {
                if !seeds.names.contains(&name) {
                    seeds.names.push(name);
                }
            }
        }
        if seeds.names.len() > MAX_NAMES {
            seeds.names.clear();
            seeds.objects.iter_mut().for_each(|(touch, ..)| *touch = Touch::Untold);
        }
        seeds
    }

    /// What is known without asking for names, because there are none.
    pub fn alone(&self) -> Option<Hidden> {
        if self.unreadable {
            return Some(Hidden { most: Touch::Untold, everywhere: Touch::Untold, ..Hidden::default() });
        }
        self.objects.is_empty().then(Hidden::default)
    }

    /// For [`ASK_NAMES`].
    pub fn parameter(&self) -> String {
        let objects = self.objects.iter();
        let objects: Vec<_> =
            objects.map(|(touch, class, oid)| format!("{}:{class}:{oid}", *touch as u8)).collect();
        objects.join(" ")
    }

    /// Reads the rows of [`ASK_NAMES`].
    pub fn named<'a>(self, rows: impl Iterator<Item = &'a [u8]>) -> Hidden {
        let most = self.objects.iter().map(|(touch, ..)| *touch).max().unwrap_or_default();
        let mut hidden = Hidden { most, names: self.names, ..Hidden::default() };
        for row in rows {
            let columns = columns(row).unwrap_or_default();
            let [Some(grade), Some(names), Some(everywhere), Some(ddl)] = columns.as_slice() else {
                hidden.everywhere = most;
                continue;
            };
            let grades = Touch::GRADES.into_iter().zip(&mut hidden.words);
            for (touch, words) in grades.filter(|(touch, _)| (*touch as u8).to_string() == *grade) {
                *words = names.split('\n').filter(|name| !name.is_empty()).map(Words::hash).collect();
                words.sort_unstable();
                if everywhere != "f" {
                    hidden.everywhere = hidden.everywhere.max(touch);
                }
                if ddl != "f" {
                    hidden.ddl = hidden.ddl.max(touch);
                }
            }
        }
        hidden
    }
}

/// What a database's own definitions may do to a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Hashes of the names behind which something touches a session, ascending, for each of [`Touch::GRADES`].
    words: [Vec<u32>; 3],
    /// What any statement may do, whatever its names.
    everywhere: Touch,
    /// What DDL may do, whatever its names.
    ddl: Touch,
    /// The most that any of them does.
    most: Touch,
    /// Settings of the application's own that are named in definitions.
    pub names: Vec<Box<str>>,
}

impl Hidden {
    /// The most that any definition does.
    pub fn most(&self) -> Touch {
        self.most
    }

    /// What a statement may do by what it runs.
    pub fn touch(&self, facts: &Facts) -> Touch {
        if self.most == Touch::Nothing {
            return Touch::Nothing;
        }
        let unnamed = match facts.kind {
            Kind::Empty | Kind::Transaction | Kind::Session => Touch::Nothing,
            Kind::Unknown => self.most,
            Kind::Ddl => self.ddl.max(self.everywhere),
            Kind::Read | Kind::Write | Kind::Copy | Kind::Other => self.everywhere,
        };
        let grades = Touch::GRADES.into_iter().zip(&self.words);
        let named = grades.filter(|(_, words)| facts.words().meet(words)).map(|(touch, _)| touch);
        named.fold(unnamed, Touch::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Dialect, judge};

    fn row<const N: usize>(columns: [&str; N]) -> Vec<u8> {
        let mut body = (N as u16).to_be_bytes().to_vec();
        for column in columns {
            body.extend((column.len() as u32).to_be_bytes());
            body.extend(column.as_bytes());
        }
        body
    }

    fn touch(hidden: &Hidden, sql: &str) -> Touch {
        hidden.touch(&judge(sql.as_bytes(), Dialect::default()))
    }

    fn hidden(seeds: &[[&str; 3]], names: &[[&str; 4]]) -> Hidden {
        let (seeds, names) = (rows(seeds), rows(names));
        Seeds::read(seeds.iter().map(|row| &row[..])).named(names.iter().map(|row| &row[..]))
    }

    fn rows<const N: usize>(rows: &[[&str; N]]) -> Vec<Vec<u8>> {
        rows.iter().map(|columns| row(*columns)).collect()
    }

    #[test]
    fn definitions_that_cannot_be_read_may_do_anything() {
        let unreadable = Seeds::read([&b"\0\x01"[..]].into_iter()).alone().unwrap();
        assert_eq!(touch(&unreadable, "SELECT 1"), Touch::Untold);
        assert_eq!(Seeds::read(std::iter::empty()).alone(), Some(Hidden::default()));
        let many = rows(&vec![["1255", "1", "set_config('a.b', x, false)"]; MAX_SEEDS + 1]);
        let many = Seeds::read(many.iter().map(|row| &row[..])).alone().unwrap();
        assert_eq!(touch(&many, "SELECT 1"), Touch::Untold);
        let torn = Seeds::read(rows(&[["1255", "1", "set x = 1"]]).iter().map(|row| &row[..]));
        assert_eq!(touch(&torn.named([&b""[..]].into_iter()), "SELECT 1"), Touch::Session);
    }

    #[test]
    fn definitions_that_touch_nothing_are_not_asked_about() {
        let seeds = rows(&[["1255", "17000", "update t set x = 1"], ["1255", "17001", "execute q"]]);
        let seeds = Seeds::read(seeds.iter().map(|row| &row[..]));
        assert_eq!((seeds.alone(), seeds.parameter()), (None, "2:1255:17001".to_owned()));
    }

    #[test]
    fn a_statement_touches_the_session_by_the_names_that_it_uses() {
        let hidden = hidden(
            &[
                ["1255", "1", "perform set_config('app.tenant', t, false)"],
                ["1255", "2", "execute format('%s', query)"],
                ["1255", "3", "update t set x = 1"],
            ],
            &[["1", "set_tenant\norders", "f", "f"], ["2", "does", "f", "t"]],
        );
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
            ("SELECT 'x'::does, set_tenant('x')", Touch::Dynamic),
            ("MERGE INTO customers USING orders ON true WHEN MATCHED THEN DELETE", Touch::Session),
            ("VACUUM customers", Touch::Nothing),
            ("CALL set_tenant('x')", Touch::Session),
            ("DO 'BEGIN PERFORM set_tenant(1); END'", Touch::Session),
            ("CREATE TABLE t (n int)", Touch::Dynamic),
            ("BEGIN", Touch::Nothing),
            ("SET x.y = 1", Touch::Nothing),
        ] {
            assert_eq!(touch(&hidden, sql), expected, "{sql}");
        }
        assert_eq!(hidden.names, ["app.tenant".into()]);
    }

    #[test]
    fn what_runs_without_a_name_may_run_in_any_statement() {
        let hidden = hidden(&[["1255", "1", "select setseed(0.5)"]], &[["3", "", "t", "f"]]);
        assert_eq!(touch(&hidden, "SELECT 1"), Touch::Untold);
    }

    #[test]
    fn the_questions_depend_on_no_search_path() {
        for word in ASK_SEEDS.split(' ').chain(ASK_NAMES.split(' ')) {
            assert!(!["=", "<>", ">=", ">", "<", "~", "~*", "||", "--"].contains(&word), "{word}");
        }
    }
}
