//! Texts that differ in plain strings only have one place in the cache, so that they are read once: `WHERE name = 'a'`.
//!
//! It is drawn as narrowly as with [`numbers`](super::numbers), of which it makes its text. What stands for a string is the
//! grammar's token `SCONST` whatever is in it, where it has no prefix, continues no other string, and is not the escape
//! character of a name with `U&`. A text with comments, backslashes, dollar signs or letters beyond ASCII is left alone as
//! a whole; between quotation marks, a dollar sign means nothing. Whether the facts are the same, their owner has to say: see
//! [`Facts::hold_for_any_string`](super::Facts::hold_for_any_string).

/// Bytes of a text that is looked at.
const LONGEST: usize = 16 * 1024;

/// What stands for a string. It may be in no text outside of quotation marks.
const STRING: u8 = 1;

/// Puts the text into `blank` without its strings. `false` where it has none, or where it is not certain what they are.
/// `marked` says that NUL stands for numbers.
pub(super) fn blank(text: &[u8], marked: bool, blank: &mut Vec<u8>) -> bool {
    blank.clear();
    if text.len() > LONGEST {
        return false;
    }
    let (mut done, mut at, mut before) = (0, 0, b' ');
    // Behind a string and blanks: another one would be its continuation.
    let mut continues = false;
    while let Some(&byte) = text.get(at) {
        let mut next = at + 1;
        match byte {
            b'\'' | b'"' => {
                let Some(length) = quoted(&text[at..]) else { return false };
                if before == b'&' {
                    return false;
                }
                next = at + length;
                if byte == b'\'' && !continues && may_stand_before(before) {
                    blank.extend_from_slice(&text[done..at]);
                    blank.push(STRING);
                    done = next;
                }
                continues = true;
            }
            b'-' | b'/' if text.get(next) == Some(&if byte == b'-' { b'-' } else { b'*' }) => return false,
            b' ' | b'\t' | b'\n' | b'\r' => {}
            0 if marked => continues = false,
            b'$' | b'\\' => return false,
            _ if byte.is_ascii_graphic() => continues = false,
            _ => return false,
        }
        (before, at) = (byte, next);
    }
    blank.extend_from_slice(&text[done..]);
    done > 0
}

/// Whether a quotation mark behind this begins a string without a prefix.
fn may_stand_before(before: u8) -> bool {
    matches!(before, b' ' | b'\t' | b'\n' | b'\r' | b'(' | b'[' | b',' | b'=' | b'<' | b'>' | b'|' | b'~')
}

/// How long a string or name is with its quotation marks, which are doubled within it; nothing where it has no end, or a
/// byte that may mean more than itself.
fn quoted(text: &[u8]) -> Option<usize> {
    let mark = *text.first()?;
    let mut at = 1;
    loop {
        match *text.get(at)? {
            byte if byte == mark && text.get(at + 1) == Some(&mark) => at += 2,
            byte if byte == mark => return Some(at + 1),
            0 | b'\\' | 0x80.. => return None,
            // Names stay as they are, and what stands for a string must be in none.
            STRING if mark == b'"' => return None,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let any = blank(text.as_bytes(), false, &mut bytes);
        any.then(|| String::from_utf8(bytes).unwrap().replace('\u{1}', "?"))
    }

    #[test]
    fn plain_strings_are_left_out() {
        for (text, expected) in [
            ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = ?"),
            (
                "SELECT a FROM t WHERE b='it''s' AND c IN ('', '$1 -- /* \"');",
                "SELECT a FROM t WHERE b=? AND c IN (?, ?);",
            ),
            ("SELECT 'x'::text, \"it's\", 'a'||'b'", "SELECT ?::text, \"it's\", ?||?"),
            ("INSERT INTO t VALUES (1,'x'),(2,'y')", "INSERT INTO t VALUES (1,?),(2,?)"),
            ("SELECT date '2020-01-01'", "SELECT date ?"),
        ] {
            assert_eq!(blanked(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_may_be_something_else_stays() {
        for (text, expected) in [
            ("SELECT E'x', 'y'", "SELECT E'x', ?"),
            ("SELECT b'1', X'1F', n'a', 'y'", "SELECT b'1', X'1F', n'a', ?"),
            ("SELECT 'x' \n 'y', 'z'", "SELECT ? \n 'y', ?"),
            ("SELECT E'x'\n'y', 'z'", "SELECT E'x'\n'y', ?"),
            ("SELECT 1'x', 'y'", "SELECT 1'x', ?"),
            ("SELECT \"a\"'x', 'y'", "SELECT \"a\"'x', ?"),
        ] {
            assert_eq!(blanked(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_could_hide_anything_is_left_alone() {
        let long = format!("SELECT {}'a'", " ".repeat(LONGEST));
        for text in [
            "",
            "SELECT a",
            "SELECT \"a\"",
            "SELECT 'a' -- b",
            "SELECT 'a' /* b */",
            "SELECT 'a', $1",
            "SELECT 'a', $$b$$",
            r"SELECT '\', 'b'",
            "SELECT 'ä', 'b'",
            "SELECT ä, 'b'",
            "SELECT 'a', 'b",
            "SELECT 'a', \"b",
            "SELECT U&'!0061' UESCAPE '!'",
            "SELECT U&\"!0061\" UESCAPE '!'",
            "SELECT 'a'\0",
            "SELECT 'a', '\0'",
            "SELECT 'a', \u{1}",
            "SELECT 'a', \"\u{1}\"",
            &long,
        ] {
            assert_eq!(blanked(text), None, "{text}");
        }
    }
}
