//! The log of slow statements: one line for each, without literals unless they are asked for, and never so many that they
//! become a load of their own.

use std::sync::Arc;
use std::time::Duration;

use super::docket::Said;
use super::session::Session;
use crate::statement::Shape;

/// Lines that a worker may write within a window of so many milliseconds.
const LINES: u32 = 10;
const WINDOW: u64 = 1_000;

/// A statement that took long.
#[derive(Debug)]
pub(super) struct Slow {
    pub(super) shape: Option<Arc<Shape>>,
    pub(super) said: Said,
    /// The wait for a server connection.
    pub(super) waited: Duration,
    /// What the server took.
    pub(super) server: Duration,
    pub(super) rows: u64,
    /// The class of its error's SQLSTATE, if it failed.
    pub(super) failed: Option<[u8; 2]>,
}

/// What a worker may still write.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// When the window began, in milliseconds of the process's clock.
    since: u64,
    lines: u32,
    seen: u64,
    /// Those that were to be told, since the last line, and for which there was no line left.
    unsaid: u64,
}

impl Budget {
    /// Whether a slow statement is told, of which one in `sample` is: with the number of those before it that were to be
    /// told and were not.
    pub(super) fn take(&mut self, sample: u32, now: u64) -> Option<u64> {
        self.seen += 1;
        if !self.seen.is_multiple_of(u64::from(sample.max(1))) {
            return None;
        }
        if now.saturating_sub(self.since) >= WINDOW {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES {
            self.unsaid += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

impl Session {
    /// Has the log tell of the client's slow statements.
    pub(super) fn tell_slow(&self, slow: &mut Vec<Slow>) {
        let shared = &self.worker.shared;
        let sample = shared.config.log.slow_query.sample;
        for slow in slow.drain(..) {
            let told = self.worker.slow.borrow_mut().take(sample, shared.clock.now());
            if let Some(unsaid) = told {
                self.tell(&slow, unsaid);
            }
        }
    }

    /// `unsaid` others before it were not told.
    fn tell(&self, slow: &Slow, unsaid: u64) {
        let (database, user) = (self.identity.pool.database(), self.identity.pool.user());
        let application = self.holdings.settings.get("application_name").unwrap_or_default();
        let client = self.client.stream.peer();
        let millis = |time: Duration| time.as_micros() as f64 / 1_000.0;
        let (waited_ms, server_ms) = (millis(slow.waited), millis(slow.server));
        let trace = slow.said.trace.map(|trace| trace.trace_id()).unwrap_or_default();
        let fingerprint = slow.shape.as_ref().map(|shape| format!("{:016x}", shape.fingerprint));
        let fingerprint = fingerprint.unwrap_or_default();
        let failed =
            slow.failed.map(|class| String::from_utf8_lossy(&class).into_owned()).unwrap_or_default();
        let (rows, statement) = (slow.rows, slow.text());
        tracing::warn!(
            database,
            user,
            client,
            application,
            waited_ms,
            server_ms,
            rows,
            failed,
            trace,
            fingerprint,
            statement,
            unsaid,
            "a slow statement"
        );
    }
}

impl Slow {
    /// Its text, if that is to be shown, else its shape.
    fn text(&self) -> String {
        match (&self.said.text, &self.shape) {
            (Some(text), _) => {
                let text = String::from_utf8_lossy(text);
                text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
            }
            (None, Some(shape)) => shape.text.to_string(),
            (None, None) => "(a text that is not known)".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_and_those_that_were_not_written_are_counted() {
        let mut budget = Budget::default();
        let said = (0..1_000).filter_map(|_| budget.take(1, 5)).count();
        assert_eq!(said, LINES as usize);
        assert_eq!(budget.take(1, 5 + WINDOW), Some(1_000 - u64::from(LINES)));
        assert_eq!(budget.take(1, 6 + WINDOW), Some(0));
    }

    #[test]
    fn one_of_a_sample_is_told() {
        let mut budget = Budget::default();
        let said = (0..100).filter_map(|n| budget.take(4, n * WINDOW)).count();
        assert_eq!(said, 25);
        assert!(Budget::default().take(0, 0).is_some());
    }

    #[test]
    fn a_text_is_one_line_and_the_shape_stands_in_for_it() {
        let slow = |text: Option<&[u8]>| Slow {
            shape: None,
            said: Said { text: text.map(Box::from), ..Said::default() },
            waited: Duration::ZERO,
            server: Duration::ZERO,
            rows: 0,
            failed: None,
        };
        assert_eq!(slow(Some(b"SELECT\n'a\x1b[31m\xff'")).text(), "SELECT 'a [31m\u{fffd}'");
        assert_eq!(slow(None).text(), "(a text that is not known)");
    }
}
