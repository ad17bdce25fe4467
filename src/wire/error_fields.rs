//! The fields of an ErrorResponse or NoticeResponse body. Every field is optional: servers have been seen that send no
//! SQLSTATE, and a hostile one sends what it likes.

/// The value of field `code` (`b'S'` severity, `b'C'` SQLSTATE, `b'M'` message, ...) in a message body.
pub fn field(mut body: &[u8], code: u8) -> Option<&[u8]> {
    loop {
        let (&this, rest) = body.split_first()?;
        if this == 0 {
            return None;
        }
        let end = rest.iter().position(|&byte| byte == 0)?;
        if this == code {
            return Some(&rest[..end]);
        }
        body = &rest[end + 1..];
    }
}

/// The field as text, anything that is not UTF-8 replaced.
pub fn text(body: &[u8], code: u8) -> Option<String> {
    field(body, code).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Whether the severity says that the server ends the connection. Reads the field `V`, which is never translated;
/// servers before 9.6 have only `S`.
pub fn is_fatal(body: &[u8]) -> bool {
    matches!(field(body, b'V').or_else(|| field(body, b'S')), Some(b"FATAL" | b"PANIC"))
}

/// An error about a text in which the position, counted in characters from 1, is that of a text without its first
/// `prefix` bytes, which are ASCII.
pub fn moved(body: &[u8], prefix: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for part in body.split_inclusive(|&byte| byte == 0) {
        let position = match part.split_first() {
            Some((b'P', rest)) => std::str::from_utf8(rest.strip_suffix(&[0]).unwrap_or(rest)).ok(),
            _ => None,
        };
        match position.and_then(|position| position.parse::<u32>().ok()?.checked_sub(prefix.into())) {
            Some(position) => out.extend_from_slice(format!("P{position}\0").as_bytes()),
            None => out.extend_from_slice(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_moves_with_the_text_and_nothing_else_does() {
        let body = b"SERROR\0P24\0MP24\0p24\0\0";
        assert_eq!(moved(body, 16), b"SERROR\0P8\0MP24\0p24\0\0");
        for kept in [&b"P9\0\0"[..], b"P\0\0", b"Px\0\0", b"P99999999999999\0\0", b"P20", b""] {
            assert_eq!(moved(kept, 21), kept);
        }
    }

    #[test]
    fn fields_are_found_whatever_is_missing_or_torn() {
        let body = b"SFEHLER\0VERROR\0C42P01\0Mno such table\0\0";
        assert_eq!(field(body, b'C'), Some(&b"42P01"[..]));
        assert_eq!(text(body, b'M').as_deref(), Some("no such table"));
        assert!(!is_fatal(body));
        assert!(is_fatal(b"VFATAL\0\0"));
        assert!(is_fatal(b"SFATAL\0\0"));
        for end in 0..body.len() {
            let _ = field(&body[..end], b'X');
        }
        assert_eq!(field(b"", b'C'), None);
        assert_eq!(field(b"C", b'C'), None);
        assert_eq!(field(b"C42", b'C'), None);
    }
}
