//! The trace that a statement belongs to, as sqlcommenter writes it into a comment at the end of the text or in front of
//! it: `/*action='list',traceparent='00-<trace>-<span>-<flags>'*/`. The value is that of W3C's Trace Context, level 1.
//!
//! Only the comment at either end counts: what looks like one inside of a literal is the client's data. A text without
//! one costs a look at its first and last bytes.

/// Who caused a statement: the value of a `traceparent`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Traceparent {
    /// The trace; never all zero.
    pub trace: [u8; 16],
    /// The span within it that sent the statement; never all zero.
    pub parent: [u8; 8],
    /// The flags; the lowest bit says that whoever sent it records the trace.
    pub flags: u8,
}

/// Bytes of a comment that are looked at.
const LONGEST: usize = 4096;

/// The key, with what begins its value.
const KEY: &[u8] = b"traceparent='";

impl Traceparent {
    /// That of a text (without its final NUL), if it has one.
    pub fn of(text: &[u8]) -> Option<Self> {
        let behind = behind(text).and_then(Self::in_comment);
        behind.or_else(|| Self::in_comment(before(text)?))
    }

    /// Whether whoever sent it records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The trace in 32 digits.
    pub fn trace_id(&self) -> String {
        self.trace.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From what stands between the ends of a comment.
    fn in_comment(comment: &[u8]) -> Option<Self> {
        let at = comment.windows(KEY.len()).position(|words| words == KEY)?;
        let first = comment[..at].trim_ascii_end();
        if !first.is_empty() && !first.ends_with(b",") {
            return None;
        }
        let value = &comment[at + KEY.len()..];
        Self::read(&value[..value.iter().position(|byte| *byte == b'\'')?])
    }

    /// From the value itself. Versions to come may put more behind it, and none is `ff`.
    fn read(value: &[u8]) -> Option<Self> {
        let mut fields = value.split(|byte| *byte == b'-');
        let [version]: [u8; 1] = digits(fields.next()?)?;
        let (trace, parent) = (digits(fields.next()?)?, digits(fields.next()?)?);
        let [flags]: [u8; 1] = digits(fields.next()?)?;
        let more = fields.next().is_some();
        let right = version != 0xff && (version != 0 || !more) && trace != [0; 16] && parent != [0; 8];
        right.then_some(Self { trace, parent, flags })
    }
}

/// Bytes from exactly so many digits. Only lower case is right.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// The comment at the end, without its ends. A semicolon may follow it.
fn behind(text: &[u8]) -> Option<&[u8]> {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b';';
    let end = text.iter().rposition(|byte| !blank(byte))? + 1;
    let text = text[..end].strip_suffix(b"*/")?;
    let from = text.len().saturating_sub(LONGEST);
    let at = text[from..].windows(2).rposition(|pair| pair == b"/*")?;
    Some(&text[from + at + 2..])
}

/// The comment in front, without its ends.
fn before(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii_start().strip_prefix(b"/*")?;
    let text = &text[..text.len().min(LONGEST)];
    Some(&text[..text.windows(2).position(|pair| pair == b"*/")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(text: &str) -> Option<String> {
        Traceparent::of(text.as_bytes()).map(|found| found.trace_id())
    }

    #[test]
    fn the_comment_at_either_end_tells_the_trace() {
        for text in [
            format!("SELECT 1 /*traceparent='{VALUE}'*/"),
            format!("SELECT 1 /*action='a%2Cb',traceparent='{VALUE}',tracestate='x%3Dy'*/ ;\n"),
            format!("/* db='x', traceparent='{VALUE}' */ SELECT 1"),
            format!("SELECT 1 /* first */ /*traceparent='{VALUE}'*/"),
            format!("/*traceparent='{VALUE}'*/ SELECT 1 /* last */"),
        ] {
            let found = Traceparent::of(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(found.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736", "{text}");
            assert_eq!(found.parent, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
            assert!(found.is_sampled());
        }
        let later = format!("SELECT 1 /*traceparent='01{}-what-is-to-come'*/", &VALUE[2..]);
        assert!(of(&later).is_some());
        let unsampled = format!("/*traceparent='{}00'*/", &VALUE[..53]);
        assert!(!Traceparent::of(unsampled.as_bytes()).unwrap().is_sampled());
    }

    #[test]
    fn data_and_broken_values_tell_nothing() {
        let comment = format!("/*traceparent='{VALUE}'*/");
        for text in [
            String::new(),
            "SELECT 1".into(),
            "/*".into(),
            "*/".into(),
            "/*/".into(),
            format!("SELECT '{comment}'"),
            format!("SELECT '{comment}' AS a"),
            format!("SELECT 1 {comment} + 1"),
            format!("SELECT 1 /*no_traceparent='{VALUE}'*/"),
            format!("SELECT 1 /*traceparent={VALUE}*/"),
            format!("SELECT 1 /*traceparent='{VALUE}*/"),
            format!("SELECT 1 /*traceparent='{}'*/", VALUE.to_uppercase()),
            format!("SELECT 1 /*traceparent='{VALUE}-more'*/"),
            format!("SELECT 1 /*traceparent='ff{}'*/", &VALUE[2..]),
            format!("SELECT 1 /*traceparent='00-{}{}'*/", "0".repeat(32), &VALUE[35..]),
            format!("SELECT 1 /*traceparent='{}-{}-01'*/", &VALUE[..35], "0".repeat(16)),
            format!("SELECT 1 /*traceparent='{}'*/", &VALUE[..54]),
            format!("SELECT 1 /*traceparent='{VALUE}',x='{}'*/", "x".repeat(LONGEST)),
        ] {
            assert_eq!(of(&text), None, "{text}");
        }
    }

    #[test]
    fn whatever_the_bytes_it_comes_to_an_end() {
        let whole = format!("/*a*/ SELECT 1 /*traceparent='{VALUE}'*/;");
        for from in 0..whole.len() {
            for to in from..whole.len() {
                let _ = Traceparent::of(&whole.as_bytes()[from..to]);
            }
        }
        let _ = Traceparent::of(&[b'/', b'*'].repeat(1 << 20));
    }
}
