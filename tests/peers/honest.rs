//! What PostgreSQL would answer, message by message: named statements are there or not, an error skips what follows up to
//! Sync, and the proxy's own questions are answered as by a session that holds nothing.

use std::collections::HashMap;

use super::bytes::{complete, description, error, message, ready, row};
use super::server::BEGIN;

/// The statement that the proxy uses for its own requests.
pub const OWN: &[u8] = b"fp_own";

/// What a session holds that holds nothing: a letter for each kind of state that the proxy asks about.
pub const NOTHING: &str = "fffff";

/// A statement whose execution fails.
pub const FAILS: &str = "SELECT 1/0";

/// A statement that is refused when it is parsed.
pub const WRONG: &str = "SELECT wrong";

/// A session of an honest server. A query yields its own text.
pub struct Honest {
    /// What is said of the result of a statement.
    pub columns: Vec<u8>,
    status: u8,
    skips: bool,
    /// The texts of statements and of portals, by their names.
    statements: HashMap<Vec<u8>, Vec<u8>>,
    portals: HashMap<Vec<u8>, Vec<u8>>,
}

impl Default for Honest {
    fn default() -> Self {
        let (statements, portals) = Default::default();
        Self { columns: description(), status: b'I', skips: false, statements, portals }
    }
}

/// The strings with which a body begins.
pub fn strings(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&byte| byte == 0)
}

impl Honest {
    /// The answer to one message; nothing to Flush and COPY data.
    pub fn reply(&mut self, tag: u8, body: &[u8]) -> Vec<u8> {
        if self.skips && tag != b'S' {
            return Vec::new();
        }
        let reply = match tag {
            b'Q' => Ok(self.query(body.strip_suffix(b"\0").unwrap())),
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute(strings(body).next().unwrap()),
            b'C' => {
                let named = if body[0] == b'S' { &mut self.statements } else { &mut self.portals };
                named.remove(strings(&body[1..]).next().unwrap());
                Ok(message(b'3', b""))
            }
            b'S' => {
                self.skips = false;
                Ok(ready(self.status))
            }
            b'H' | b'd' => Ok(Vec::new()),
            other => panic!("an unexpected message {:?}", char::from(other)),
        };
        reply.unwrap_or_else(|(sqlstate, text)| {
            self.skips = true;
            error("ERROR", sqlstate, text)
        })
    }

    /// Whether everything up to the next Sync is skipped.
    pub fn is_skipping(&self) -> bool {
        self.skips
    }

    fn query(&mut self, sql: &[u8]) -> Vec<u8> {
        self.statements.remove(&b""[..]);
        if sql.ends_with(MEANT_TO_FAIL) {
            return [error("ERROR", FAILED.0, FAILED.1), ready(self.status)].concat();
        }
        self.status = after(sql, self.status);
        [result(sql, true), ready(self.status)].concat()
    }

    fn parse(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let [name, text] = [0, 1].map(|place| strings(body).nth(place).unwrap().to_vec());
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(("42P05", "prepared statement already exists"));
        }
        if text == WRONG.as_bytes() {
            return Err(("42703", "column does not exist"));
        }
        if text == MEANT_TO_FAIL {
            return Err(FAILED);
        }
        self.statements.insert(name, text);
        Ok(message(b'1', b""))
    }

    fn bind(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let [portal, name] = [0, 1].map(|place| strings(body).nth(place).unwrap());
        let text = self.statements.get(name).ok_or(MISSING)?;
        self.portals.insert(portal.to_vec(), text.clone());
        Ok(message(b'2', b""))
    }

    fn describe(&mut self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        if body[0] == b'P' {
            return Ok(description());
        }
        let name = strings(&body[1..]).next().unwrap();
        self.statements.get(name).ok_or(MISSING)?;
        Ok([message(b't', b"\0\0"), self.columns.clone()].concat())
    }

    fn execute(&mut self, portal: &[u8]) -> Result<Vec<u8>, Refused> {
        let text = self.portals.get(portal).ok_or(("34000", "portal does not exist"))?;
        if text == FAILS.as_bytes() {
            return Err(("22012", "division by zero"));
        }
        self.status = after(text, self.status);
        Ok(own_result(text, NOTHING).unwrap_or_else(|| result(text, false)))
    }
}

type Refused = (&'static str, &'static str);

/// What the proxy sends in the place of what it refuses, and what PostgreSQL says of that.
const MEANT_TO_FAIL: &[u8] = b"SELECT 'refused by the proxy'::pg_catalog.int4";
const FAILED: Refused = ("22P02", "invalid input syntax for type integer: \"refused by the proxy\"");

const MISSING: Refused = ("26000", "prepared statement does not exist");

/// The result of a statement of the proxy's own, where the session holds `held`; `None` if it is not one.
pub fn own_result(text: &[u8], held: &str) -> Option<Vec<u8>> {
    if text.starts_with(b"SET ") {
        return Some(complete("SET"));
    }
    if text.starts_with(b"SELECT pg_catalog.current_setting(") {
        // Only the role is asked for, which is none.
        return Some([row(b"none"), complete("SELECT 1")].concat());
    }
    let has = |word: &str| text.windows(word.len()).any(|place| place == word.as_bytes());
    if has("seed AS MATERIALIZED") {
        // No definition touches a session.
        return Some(complete("SELECT 0"));
    }
    if has("pg_catalog.pg_prepared_statements") {
        let columns = held.bytes().flat_map(|letter| [0, 0, 0, 1, letter]);
        let body: Vec<u8> = (held.len() as u16).to_be_bytes().into_iter().chain(columns).collect();
        return Some([message(b'D', &body), complete("SELECT 1")].concat());
    }
    has("FROM pg_catalog.pg_settings").then(|| complete("SELECT 0"))
}

fn after(sql: &[u8], status: u8) -> u8 {
    match sql {
        sql if sql == BEGIN.as_bytes() => b'T',
        b"COMMIT" | b"ROLLBACK" => b'I',
        _ => status,
    }
}

fn result(sql: &[u8], described: bool) -> Vec<u8> {
    match sql {
        b"BEGIN" | b"COMMIT" | b"ROLLBACK" => complete(std::str::from_utf8(sql).unwrap()),
        b"DISCARD ALL" => complete("DISCARD ALL"),
        _ => {
            let description = if described { description() } else { Vec::new() };
            [description, row(sql), complete("SELECT 1")].concat()
        }
    }
}
