//! Texts that differ in whole numbers only have one place in the cache, so that they are read once.
//!
//! The rule that the cache's key is the text's exact bytes has this one exception, and it is drawn so narrowly that no
//! second lexer is needed: a number counts only where nothing near it could make it anything else, and a text with
//! comments, backslashes, dollar signs or letters beyond ASCII is left alone as a whole.
//!
//! What stands for the number is the grammar's token `ICONST` whatever its digits are, so that the tree is the same but for
//! the value. Whether the facts are, their owner has to say: see [`Facts::hold_for_any_number`](super::Facts::hold_for_any_number).

/// Bytes of a text that is looked at.
const LONGEST: usize = 16 * 1024;

/// Digits of a number that is always an `ICONST`: what does not fit 32 bits is an `FCONST`, which grammar may refuse.
const MOST_DIGITS: usize = 9;

/// What stands for a number. No text that can be sent has it.
const NUMBER: u8 = 0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Other,
    Digit,
    Quote,
    /// Begins a comment if it is followed by this.
    Comment(u8),
    /// What a text may not have.
    Never,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        if byte >= 0x80 {
            classes[byte] = Class::Never;
        }
        byte += 1;
    }
    let mut digit = b'0';
    while digit <= b'9' {
        classes[digit as usize] = Class::Digit;
        digit += 1;
    }
    classes[NUMBER as usize] = Class::Never;
    classes[b'\\' as usize] = Class::Never;
    classes[b'$' as usize] = Class::Never;
    classes[b'\'' as usize] = Class::Quote;
    classes[b'"' as usize] = Class::Quote;
    classes[b'-' as usize] = Class::Comment(b'-');
    classes[b'/' as usize] = Class::Comment(b'*');
    classes
};

/// Puts the text into `blank` without its numbers. `false` where it has none, or where it is not certain what they are.
pub(super) fn blank(text: &[u8], blank: &mut Vec<u8>) -> bool {
    blank.clear();
    if text.len() > LONGEST {
        return false;
    }
    let (mut quote, mut done, mut at) = (None, 0, 0);
    while let Some(&byte) = text.get(at) {
        let mut next = at + 1;
        match CLASSES[usize::from(byte)] {
            Class::Other => {}
            Class::Never => return false,
            Class::Quote => match quote {
                None => quote = Some(byte),
                Some(open) if open == byte => quote = None,
                Some(_) => {}
            },
            _ if quote.is_some() => {}
            Class::Comment(second) => {
                if text.get(next) == Some(&second) {
                    return false;
                }
            }
            Class::Digit => {
                next += text[next..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                if next - at <= MOST_DIGITS && stands_alone(&text[..at], &text[next..]) {
                    blank.extend_from_slice(&text[done..at]);
                    blank.push(NUMBER);
                    done = next;
                }
            }
        }
        at = next;
    }
    blank.extend_from_slice(&text[done..]);
    done > 0 && quote.is_none()
}

/// Whether digits between these are a number for certain, and the whole of it.
fn stands_alone(before: &[u8], behind: &[u8]) -> bool {
    const BOTH: &[u8] = b" \t\n\r,=<>+-*/%";
    let apart = |byte: u8, bracket: [u8; 2]| BOTH.contains(&byte) || bracket.contains(&byte);
    before.last().is_some_and(|byte| apart(*byte, *b"(["))
        && behind.first().is_none_or(|byte| *byte == b';' || apart(*byte, *b")]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> Option<String> {
        let mut bytes = Vec::new();
        blank(text.as_bytes(), &mut bytes).then(|| String::from_utf8(bytes).unwrap().replace('\0', "?"))
    }

    #[test]
    fn whole_numbers_are_left_out() {
        for (text, expected) in [
            ("SELECT abalance FROM a WHERE aid = 17;", "SELECT abalance FROM a WHERE aid = ?;"),
            ("SELECT 1", "SELECT ?"),
            ("SELECT a[12], (3)", "SELECT a[?], (?)"),
            ("UPDATE t SET a=a+-5 WHERE b IN (1,2,\t3)", "UPDATE t SET a=a+-? WHERE b IN (?,?,\t?)"),
            ("SELECT '7', \"8 9\", 10 LIMIT 3", "SELECT '7', \"8 9\", ? LIMIT ?"),
            ("SELECT 'it''s 5', 5", "SELECT 'it''s 5', ?"),
            ("SELECT '--' , 5", "SELECT '--' , ?"),
            ("SELECT 6/2 - 1", "SELECT ?/? - ?"),
        ] {
            assert_eq!(blanked(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_may_be_something_else_stays() {
        for (text, expected) in [
            ("SELECT t1, 5", "SELECT t1, ?"),
            ("SELECT 1.5, 5", "SELECT 1.5, ?"),
            ("SELECT .5, 5.", "-"),
            ("SELECT 1e5, 0x1F, 1_000, 5", "SELECT 1e5, 0x1F, 1_000, ?"),
            ("SELECT 1::text, 5", "SELECT 1::text, ?"),
            ("SELECT 9999999999, 5", "SELECT 9999999999, ?"),
            ("SELECT 'a'1, 5", "SELECT 'a'1, ?"),
            ("SELECT 5a, 5", "SELECT 5a, ?"),
            ("SELECT 5'a', 5", "SELECT 5'a', ?"),
        ] {
            assert_eq!(blanked(text).as_deref().unwrap_or("-"), expected, "{text}");
        }
    }

    #[test]
    fn what_could_hide_anything_is_left_alone() {
        let long = format!("SELECT {}1", " ".repeat(LONGEST));
        for text in [
            "",
            "SELECT a",
            "SELECT 1 -- 2",
            "SELECT 1 /* 2 */",
            "SELECT 1--",
            "SELECT $1, 5",
            "SELECT $$ 1 $$",
            r"SELECT E'\'', 1",
            "SELECT 'ä', 1",
            "SELECT '1, 2",
            "SELECT 1\0",
            "1",
            &long,
        ] {
            assert_eq!(blanked(text), None, "{text}");
        }
    }
}
