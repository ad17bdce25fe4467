//! Where the tokens of a text end, as far as `spelling` has to know: those of PostgreSQL's `src/backend/parser/scan.l`.

/// How backslashes in strings without a prefix are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Strings {
    /// As themselves.
    Plain,
    /// As in strings with an `E` in front.
    Escaping,
    /// Nobody knows: the words end where one stands in a string of any kind.
    Unknown,
    /// Nobody knows either where strings begin, because the text is no SQL: the words end in front of anything that
    /// could be in quotes.
    Doubtful,
}

impl Strings {
    /// Of bit strings and of those with escapes of Unicode, in which a backslash ends nothing.
    pub(super) fn without_escapes(self) -> Self {
        if self == Self::Escaping { Self::Plain } else { self }
    }
}

pub(super) fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

pub(super) fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// `op_chars` of scan.l.
pub(super) fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

/// Whether it ends a line, and so a comment of one.
pub(super) fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

pub(super) fn length(text: &[u8], is: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !is(*byte)).unwrap_or(text.len())
}

/// Behind the closing quote of a string. One that goes on behind the end of a line is read as it began.
pub(super) fn string(text: &[u8], strings: Strings) -> Option<usize> {
    if strings == Strings::Doubtful {
        return None;
    }
    let mut at = 1;
    loop {
        match (text.get(at)?, strings) {
            (b'\'', _) if text.get(at + 1) == Some(&b'\'') => at += 2,
            (b'\'', _) => match continuation(&text[at + 1..]) {
                Some(taken) => at += 1 + taken,
                None => return Some(at + 1),
            },
            (b'\\', Strings::Escaping) => at += 2,
            (b'\\', Strings::Unknown) => return None,
            _ => at += 1,
        }
    }
}

/// Behind the quote with which a string goes on whose quote was closed in front of `text`: `quotecontinue` of scan.l.
fn continuation(text: &[u8]) -> Option<usize> {
    let (mut lines, mut at) = (false, 0);
    loop {
        match text.get(at)? {
            b' ' | b'\t' | 0x0b | 0x0c => at += 1,
            b'\n' | b'\r' => (lines, at) = (true, at + 1),
            b'-' if text.get(at + 1) == Some(&b'-') => at += length(&text[at..], |byte| !ends_line(byte)),
            b'\'' if lines => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Behind the closing quote of a name.
pub(super) fn quoted(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text.get(at..)?.iter().position(|byte| *byte == b'"')? + 1;
        if text.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

/// Behind the end of a comment, which may have others in it.
pub(super) fn comment(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_u32, 0);
    loop {
        match text.get(at..at + 2)? {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
}

/// Words behind which a parenthesis is not that of a function or of a table's columns, and a sign is a number's.
pub(super) fn is_keyword(word: &[u8]) -> bool {
    matches!(
        word,
        b"in"
            | b"values"
            | b"and"
            | b"or"
            | b"not"
            | b"from"
            | b"as"
            | b"on"
            | b"using"
            | b"where"
            | b"select"
            | b"by"
            | b"when"
            | b"then"
            | b"else"
            | b"over"
            | b"union"
            | b"except"
            | b"intersect"
            | b"all"
            | b"join"
            | b"lateral"
            | b"case"
            | b"between"
            | b"limit"
            | b"offset"
            | b"return"
            | b"returning"
            | b"like"
            | b"ilike"
            | b"is"
            | b"with"
            | b"materialized"
            | b"distinct"
            | b"having"
            | b"set"
            | b"default"
            | b"check"
            | b"exists"
            | b"filter"
            | b"interval"
    )
}

/// Words of statements about savepoints, cursors, channels and prepared statements that are no names.
pub(super) fn is_of_session(word: &[u8]) -> bool {
    matches!(
        word,
        b"savepoint"
            | b"to"
            | b"work"
            | b"transaction"
            | b"and"
            | b"no"
            | b"chain"
            | b"prepared"
            | b"prepare"
            | b"all"
            | b"next"
            | b"prior"
            | b"first"
            | b"last"
            | b"absolute"
            | b"relative"
            | b"forward"
            | b"backward"
            | b"from"
            | b"in"
    )
}
