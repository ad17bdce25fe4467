//! Names of channels: as the server compares them, and as they stand in SQL.

use std::sync::Arc;

/// A name as the server has it. Shared by everybody who keeps it.
pub(super) type Name = Arc<[u8]>;

/// `NAMEDATALEN - 1` of PostgreSQL's `src/include/pg_config_manual.h`: the server cuts longer identifiers off, quoted or
/// not, and only says so in a notice.
const LONGEST: usize = 63;

/// The name under which the server knows a channel: cut off where `truncate_identifier` in PostgreSQL's
/// `src/backend/parser/scansup.c` cuts, at the last whole character of UTF-8. `None` for what can be no identifier.
pub(super) fn canonical(channel: &[u8]) -> Option<Name> {
    let mut end = channel.len().min(LONGEST);
    if channel.len() > LONGEST {
        // Back to the first byte of the character that does not fit.
        while end > 0 && channel[end] & 0xc0 == 0x80 {
            end -= 1;
        }
    }
    let name = &channel[..end];
    (!name.is_empty() && !name.contains(&0)).then(|| name.into())
}

/// A simple query message with `command` about a channel, such as `LISTEN "name"`.
pub(super) fn query(command: &str, name: &[u8]) -> Vec<u8> {
    let mut sql = Vec::with_capacity(command.len() + name.len() + 8);
    sql.extend_from_slice(command.as_bytes());
    sql.extend_from_slice(b" \"");
    for &byte in name {
        // Doubled, a quote stands for itself. No byte of a longer UTF-8 character looks like one.
        sql.extend_from_slice(if byte == b'"' { b"\"\"" } else { std::slice::from_ref(&byte) });
    }
    sql.push(b'"');
    message(&sql)
}

/// A simple query message. For short SQL: nothing here is longer than a few hundred bytes.
pub(super) fn message(sql: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(sql.len() + 6);
    message.push(b'Q');
    // 4 for the length itself and 1 for the NUL.
    message.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
    message.extend_from_slice(sql);
    message.push(0);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(channel: &str) -> usize {
        canonical(channel.as_bytes()).unwrap().len()
    }

    #[test]
    fn long_names_are_cut_between_characters_as_the_server_does() {
        assert_eq!(cut(&"a".repeat(63)), 63);
        assert_eq!(cut(&"a".repeat(64)), 63);
        assert_eq!(cut(&"a".repeat(100_000)), 63);
        assert_eq!(cut(&"ä".repeat(32)), 62);
        assert_eq!(cut(&format!("a{}", "ä".repeat(31))), 63);
        assert_eq!(cut(&"€".repeat(22)), 63);
        assert_eq!(cut(&format!("a{}", "€".repeat(22))), 61);
        assert_eq!(cut(&"🔥".repeat(16)), 60);
        assert_eq!(cut(&format!("{}🔥", "a".repeat(62))), 62);
    }

    #[test]
    fn what_can_be_no_identifier_is_none() {
        assert_eq!(canonical(b""), None);
        assert_eq!(canonical(b"a\0b"), None);
        assert_eq!(canonical(&[0x80; 100]), None);
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        let sql = query("LISTEN", b"x\"; DROP TABLE t; --");
        assert_eq!(&sql[5..], b"LISTEN \"x\"\"; DROP TABLE t; --\"\0");
        assert_eq!(&sql[..5], [b'Q', 0, 0, 0, sql.len() as u8 - 1]);
    }
}
