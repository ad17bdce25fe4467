//! What goes to the server in the place of a request that the client is refused: one that fails without touching
//! anything. So the server itself skips what follows, fails the client's transaction, and says what state it is in.

use super::ServerConn;
use super::own::NONE;
use crate::wire::error_fields::field;
use crate::wire::turn::{Asker, Mark};

/// A statement that fails when it is analyzed, in whatever session. It stands behind others that may run.
const FAILS: &str = "SELECT 'refused by the proxy'::pg_catalog.int4";

/// Part of the server's words about it, in whatever language.
const WORDS: &[u8] = b"refused by the proxy";

/// `invalid_text_representation`
const SQLSTATE: &[u8] = b"22P02";

/// Whether the body of an ErrorResponse is what the statement above causes, and not what came before it.
pub(super) fn is_heard(body: &[u8]) -> bool {
    let words = field(body, b'M').unwrap_or_default();
    field(body, b'C') == Some(SQLSTATE) && words.windows(WORDS.len()).any(|window| window == WORDS)
}

impl ServerConn {
    fn refuse(&mut self, error: Vec<u8>) -> Asker {
        let fresh = self.turn.is_quiet();
        Asker::Refused(self.told.refuse(error, fresh))
    }

    /// In the place of a Query: `before` is the part of its text that may run. `error` is the body of an ErrorResponse.
    pub fn refuse_query(&mut self, before: &[u8], error: Vec<u8>) {
        let asker = self.refuse(error);
        // The line break ends a comment.
        let parts: [&[u8]; 4] = [before, b"\n", FAILS.as_bytes(), b"\0"];
        self.queue_own(b'Q', &parts, asker, Mark::default());
    }

    /// In the place of a Parse, of the unnamed statement or of another.
    pub fn refuse_parse(&mut self, unnamed: bool, error: Vec<u8>) {
        let asker = self.refuse(error);
        let name: &[u8] = if unnamed { b"\0" } else { NONE };
        let mark = Mark { unnamed, ..Mark::default() };
        self.queue_own(b'P', &[name, FAILS.as_bytes(), b"\0\0\0"], asker, mark);
    }

    /// In the place of a FunctionCall, which ends with ReadyForQuery as a batch does.
    pub fn refuse_call(&mut self, error: Vec<u8>) {
        self.refuse_parse(false, error);
        self.queue_own(b'S', &[], Asker::Client, Mark::default());
    }
}

#[cfg(test)]
mod tests {
    use super::is_heard;

    #[test]
    fn only_the_failure_that_was_meant_is_replaced() {
        let body = |code: &str, words: &str| format!("SERROR\0VERROR\0C{code}\0M{words}\0\0").into_bytes();
        let words = "invalid input syntax for type integer: \"refused by the proxy\"";
        assert!(is_heard(&body("22P02", words)));
        assert!(is_heard(&body("22P02", "ungültig: \"refused by the proxy\"")));
        for (code, words) in [("25P02", words), ("22P02", "invalid input syntax"), ("57P01", "bye")] {
            assert!(!is_heard(&body(code, words)), "{code} {words}");
        }
        assert!(!is_heard(b""));
    }
}
