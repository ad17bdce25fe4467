//! The fields of a line for people. Control characters that came from a client are shown and not carried out: a name
//! with a newline does not begin a line of its own, and one with an escape does not paint the terminal.

use std::fmt::{self, Debug, Write};

use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// Bytes of one value that are shown. A startup packet of PostgreSQL may have 10 kB (`MAX_STARTUP_PACKET_LENGTH`).
const LONGEST: usize = 2048;

/// `message key=value key=value`.
pub(super) fn fields() -> impl for<'w> FormatFields<'w> {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
        match (field.name(), writer.has_ansi_escapes()) {
            ("message", _) => {}
            (name, true) => write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m")?,
            (name, false) => write!(writer, "{name}=")?,
        }
        let mut visible = Visible { inner: &mut *writer, left: LONGEST };
        let written = write!(visible, "{value:?}");
        let ended = visible.left == 0;
        // Enough is enough.
        if written.is_err() && ended { writer.write_str("...") } else { written }
    })
    .delimited(" ")
}

/// Lets through what moves no cursor.
struct Visible<W> {
    inner: W,
    left: usize,
}

impl<W: Write> Write for Visible<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let Some(left) = self.left.checked_sub(character.len_utf8()) else {
                self.left = 0;
                return Err(fmt::Error);
            };
            self.left = left;
            if is_harmful(character) {
                write!(self.inner, "{}", character.escape_default())?;
            } else {
                self.inner.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Controls, line and paragraph separators, and what turns the direction of a line around (UAX #9).
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, left: usize) -> (String, bool) {
        let mut out = String::new();
        let whole = Visible { inner: &mut out, left }.write_str(text).is_ok();
        (out, whole)
    }

    #[test]
    fn nothing_moves_the_cursor() {
        let (out, whole) = shown("a\nb\rc\u{1b}[2Jd\u{7}\u{9b}\u{2028}\u{202e}é", 100);
        assert_eq!(out, "a\\nb\\rc\\u{1b}[2Jd\\u{7}\\u{9b}\\u{2028}\\u{202e}é");
        assert!(whole);
    }

    #[test]
    fn a_line_stays_one_whatever_its_message_and_fields_are() {
        use std::fs::{self, File};
        use tracing_subscriber::layer::SubscriberExt as _;
        let path = std::env::temp_dir().join(format!("firepool-text-{}", std::process::id()));
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).without_time();
        let lines = lines.with_writer(File::create(&path).unwrap()).fmt_fields(fields());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let evil = "x\ny\u{1b}[0m";
            tracing::info!(shown = %evil, quoted = evil, debugged = ?evil, "said {evil}");
            tracing::info!(long = %"z".repeat(10_000), more = 1, "short");
        });
        let written = fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
        let escaped = r"x\ny\u{1b}[0m";
        let first = format!("said {escaped} shown={escaped} quoted=\"{escaped}\" debugged=\"{escaped}\"");
        let second = format!("short long={}... more=1", "z".repeat(LONGEST));
        let ends: Vec<_> = written.lines().map(|line| line.split_once("tests: ").unwrap().1).collect();
        assert_eq!(ends, [first, second]);
    }

    #[test]
    fn a_value_ends_somewhere() {
        let (out, whole) = shown(&"é".repeat(1000), 9);
        assert_eq!((out.as_str(), whole), ("éééé", false));
    }
}
