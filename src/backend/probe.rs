//! What a session holds, asked from the server itself. A statement's text tells what may be there; only the server
//! knows what is: a temporary table may have been rolled back, a lock may not have been granted, a function may have
//! done anything.

use super::ServerConn;
use super::hidden::{ASK_NAMES, ASK_SEEDS, Hidden, Seeds};
use super::own::columns;
use crate::wire::tag::{Pins, SessionState};

/// Session state that PostgreSQL has views for, one column for each of [`STATES`]. Outside of a transaction a cursor
/// that is still there is one WITH HOLD. Operators are qualified, because a client's search_path may have others.
const ASK_STATES: &str = "SELECT \
    EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql), \
    EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
    EXISTS (SELECT FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
      AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
    EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'::pg_catalog.text \
      AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()), \
    EXISTS (SELECT FROM pg_catalog.pg_listening_channels())";

const STATES: [SessionState; 5] = [
    SessionState::PreparedStatement,
    SessionState::Cursor,
    SessionState::TempObject,
    SessionState::AdvisoryLock,
    SessionState::Listen,
];

/// Every setting that has a value of the session's own. Those that PostgreSQL does not know (`app.tenant`) are not in
/// this view.
const ASK_SESSION: &str = "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
    WHERE source OPERATOR(pg_catalog.=) 'session'::pg_catalog.text \
      AND name OPERATOR(pg_catalog.!~) '^(transaction_|is_superuser$|session_authorization$)'::pg_catalog.text";

/// Settings whose values are asked for at most. Whoever has more keeps its server connection.
pub const MAX_NAMES: usize = 100;

/// What is to be asked.
#[derive(Debug, Default, Clone)]
pub struct Question {
    /// Whether there is state of the kinds that the server can be asked about.
    pub states: bool,
    /// The values of these settings; at most [`MAX_NAMES`].
    pub names: Vec<Box<str>>,
    /// All settings that have a value of the session's own.
    pub session: bool,
    /// What the database's own definitions may do to a session.
    pub definitions: Definitions,
    /// The session's transactions may begin in a way that makes the question wait: serializable, read-only and deferrable
    /// ones wait for others to end.
    pub begins_oddly: bool,
    /// The question was cancelled before, as by a `statement_timeout` of a millisecond: it takes such limits off, until
    /// its transaction ends.
    pub limited: bool,
}

pub(super) const BEGIN_PLAINLY: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE";

/// The limits that a question takes off, after it has read them.
const LIMITS: [&str; 2] = ["statement_timeout", "lock_timeout"];
const READ_LIMITS: &str =
    "SELECT pg_catalog.current_setting('statement_timeout'), pg_catalog.current_setting('lock_timeout')";
pub(super) const LIFT_LIMITS: [&str; 2] = ["SET LOCAL statement_timeout = 0", "SET LOCAL lock_timeout = 0"];

/// What is to be asked about the database's own definitions.
#[derive(Debug, Default, Clone)]
pub enum Definitions {
    /// Nothing.
    #[default]
    Known,
    /// Which of them touch a session by themselves.
    Seeds,
    /// By which names these run.
    Names(Seeds),
}

/// The compiler of queries takes a second for a query of that size, whose work takes milliseconds.
const NO_COMPILER: &str = "SET LOCAL jit = off";

/// What the server answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The state that is there, of the kinds that were asked about.
    pub states: Option<Pins>,
    /// The values of the settings; `None` for one that does not exist.
    pub values: Vec<(Box<str>, Option<String>)>,
    /// The settings that have a value of the session's own, their names in lower case.
    pub session: Option<Vec<(String, String)>>,
    /// The definitions that touch a session by themselves.
    pub seeds: Option<Seeds>,
    /// What the database's own definitions may do to a session.
    pub hidden: Option<Hidden>,
}

impl Answer {
    /// The limits as they were before the question took them off. Whether the session has them of its own cannot be told
    /// then: they count as its own where it was asked for them by name.
    fn restore(&mut self, limits: Vec<Option<String>>) {
        for (name, limit) in LIMITS.into_iter().zip(limits) {
            let asked = self.values.iter_mut().find(|(asked, _)| **asked == *name);
            let session = self.session.iter_mut().flatten().find(|(listed, _)| listed == name);
            match (asked, session, limit) {
                (Some(asked), Some(listed), Some(limit)) => {
                    listed.1.clone_from(&limit);
                    asked.1 = Some(limit);
                }
                (Some(asked), None, limit) => asked.1 = limit,
                (None, Some(_), _) => {
                    self.session.iter_mut().for_each(|all| all.retain(|(listed, _)| listed != name))
                }
                _ => {}
            }
        }
    }
}

/// The kinds of state that the server can be asked about.
pub fn askable() -> Pins {
    let mut pins = Pins::NONE;
    STATES.into_iter().for_each(|state| pins.insert(state));
    pins
}

impl Question {
    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        !self.states && self.names.is_empty() && !self.session && !self.asks_definitions()
    }

    fn asks_definitions(&self) -> bool {
        !matches!(self.definitions, Definitions::Known)
    }

    /// Queues the question; its rows are the proxy's own.
    pub fn queue(&self, conn: &mut ServerConn) {
        if self.begins_oddly {
            conn.queue_statement(BEGIN_PLAINLY, &[]);
        }
        if self.limited {
            conn.queue_statement(READ_LIMITS, &[]);
            LIFT_LIMITS.iter().for_each(|sql| conn.queue_statement(sql, &[]));
        }
        if self.states {
            conn.queue_statement(ASK_STATES, &[]);
        }
        if !self.names.is_empty() {
            let calls: Vec<_> =
                (1..=self.names.len()).map(|n| format!("pg_catalog.current_setting(${n},true)")).collect();
            let names: Vec<_> = self.names.iter().map(|name| name.as_bytes()).collect();
            conn.queue_statement(&format!("SELECT {}", calls.join(",")), &names);
        }
        if self.session {
            conn.queue_statement(ASK_SESSION, &[]);
        }
        if self.asks_definitions() {
            conn.queue_statement(NO_COMPILER, &[]);
        }
        match &self.definitions {
            Definitions::Known => {}
            Definitions::Seeds => conn.queue_statement(&ASK_SEEDS, &[]),
            Definitions::Names(seeds) => conn.queue_statement(&ASK_NAMES, &[seeds.parameter().as_bytes()]),
        }
        conn.queue_sync();
    }

    /// Reads the answer; `None` if it is not one to this question.
    pub fn read(self, rows: &[Vec<u8>]) -> Option<Answer> {
        let mut rows = rows.iter().peekable();
        let mut answer = Answer::default();
        let limits = if self.limited { columns(rows.next()?)? } else { Vec::new() };
        if self.states {
            let row = columns(rows.next()?)?;
            let mut states = Pins::NONE;
            for (state, column) in STATES.into_iter().zip(&row) {
                if column.as_deref()? == "t" {
                    states.insert(state);
                }
            }
            answer.states = (row.len() == STATES.len()).then_some(states);
            answer.states?;
        }
        if !self.names.is_empty() {
            let values = columns(rows.next()?)?;
            if values.len() != self.names.len() {
                return None;
            }
            answer.values = self.names.into_iter().zip(values).collect();
        }
        if self.session {
            // Those of the next question have three columns.
            let two = |row: &&Vec<u8>| row.starts_with(&[0, 2]);
            let pairs =
                std::iter::from_fn(|| rows.next_if(two)).map(|row| match columns(row)?.as_mut_slice() {
                    [Some(name), Some(value)] => Some((name.to_ascii_lowercase(), std::mem::take(value))),
                    _ => None,
                });
            answer.session = Some(pairs.collect::<Option<_>>()?);
        }
        answer.restore(limits);
        let rows = rows.map(|row| &row[..]);
        match self.definitions {
            Definitions::Known => {}
            Definitions::Seeds => answer.seeds = Some(Seeds::read(rows)),
            Definitions::Names(seeds) => answer.hidden = Some(seeds.named(rows)),
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[&str]) -> Vec<u8> {
        let mut body = (columns.len() as u16).to_be_bytes().to_vec();
        for column in columns {
            body.extend((column.len() as u32).to_be_bytes());
            body.extend(column.as_bytes());
        }
        body
    }

    #[test]
    fn an_answer_is_read_as_it_was_asked_for() {
        let question = || Question {
            states: true,
            names: vec!["a".into(), "b".into()],
            session: true,
            ..Question::default()
        };
        let rows =
            [row(&["f", "t", "f", "t", "f"]), row(&["1", "2"]), row(&["a", "1"]), row(&["work_mem", "4MB"])];
        let answer = question().read(&rows).unwrap();
        let states: Vec<_> = answer.states.unwrap().iter().collect();
        assert_eq!(states, [SessionState::AdvisoryLock, SessionState::Cursor]);
        assert_eq!(answer.values[1], ("b".into(), Some("2".to_owned())));
        assert_eq!(answer.session.unwrap().len(), 2);
        let limited = Question {
            names: vec!["lock_timeout".into()],
            session: true,
            limited: true,
            ..Question::default()
        };
        let rows_of_limited = [
            row(&["1ms", "2ms"]),
            row(&["0"]),
            row(&["lock_timeout", "0"]),
            row(&["statement_timeout", "0"]),
        ];
        let answer = limited.read(&rows_of_limited).unwrap();
        assert_eq!(answer.values, [("lock_timeout".into(), Some("2ms".to_owned()))]);
        assert_eq!(answer.session, Some(vec![("lock_timeout".to_owned(), "2ms".to_owned())]));
        assert_eq!(question().read(&rows[1..]), None);
        assert_eq!(question().read(&rows[..1]), None);
        assert_eq!(question().read(&[]), None);
    }
}
