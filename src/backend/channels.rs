//! What a client's server connection listens to, and how that is handed over to another: in statements of the proxy's
//! own.

use super::ServerConn;
use super::own::columns;
use super::probe::{BEGIN_PLAINLY, LIFT_LIMITS};

/// Channels that are told of at most: as many rows of an answer as are kept, less one.
const MOST: usize = 1_000;

/// The question which channels there are.
pub const ASK: &str = "SELECT pg_catalog.pg_listening_channels()";

/// Queues statements as a transaction that the client's settings cannot delay or end.
pub fn queue<'a>(conn: &mut ServerConn, statements: impl IntoIterator<Item = &'a str>) {
    let limits = [BEGIN_PLAINLY].into_iter().chain(LIFT_LIMITS);
    limits.chain(statements).for_each(|sql| conn.queue_statement(sql, &[]));
    conn.queue_sync();
}

/// Reads the answer; `None` if it is none.
pub fn read(rows: &[Vec<u8>]) -> Option<Vec<String>> {
    rows.iter()
        .map(|row| match columns(row)?.as_mut_slice() {
            [Some(name)] => Some(std::mem::take(name)),
            _ => None,
        })
        .collect()
}

/// Whether these are all, and each name is known for certain.
pub fn is_certain(names: &[String]) -> bool {
    names.len() < MOST && !names.iter().any(|name| name.contains('\u{fffd}'))
}

/// LISTEN.
pub fn listen(name: &str) -> String {
    format!("LISTEN {}", quoted(name))
}

/// NOTIFY; the payload has no quotes.
pub fn notify(name: &str, payload: &str) -> String {
    format!("NOTIFY {}, '{payload}'", quoted(name))
}

/// UNLISTEN; `None` is every channel.
pub fn unlisten(name: Option<&str>) -> String {
    name.map_or_else(|| "UNLISTEN *".to_owned(), |name| format!("UNLISTEN {}", quoted(name)))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(listen("x\"; DROP TABLE t; --"), "LISTEN \"x\"\"; DROP TABLE t; --\"");
        assert_eq!(unlisten(None), "UNLISTEN *");
    }

    #[test]
    fn names_that_are_not_known_for_certain_are_told_apart() {
        let row = |name: &[u8]| [&[0, 1], &(name.len() as u32).to_be_bytes()[..], name].concat();
        assert!(is_certain(&read(&[row(b"a"), row("ä".as_bytes())]).unwrap()));
        assert!(!is_certain(&read(&[row(b"\xe4")]).unwrap()));
        assert_eq!(read(&[vec![0, 1, 0xff, 0xff, 0xff, 0xff]]), None);
    }
}
