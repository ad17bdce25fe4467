//! Where the proxy's own words go: standard error, as text for people or as JSON for machines.
//!
//! What it promises: whoever logs never waits, because lines go through a bounded queue to a thread of their own
//! (`sink`); a storm of equal lines becomes a few lines and a number (`limit`); and what a client chose, such as its
//! name, is on one line and cannot command a terminal (`text`). It holds the filter, which can be changed at any time.

mod limit;
mod sink;
mod text;

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use limit::{Limiter, Storms};
use sink::Sink;

pub use sink::Flush;

/// Longer directives are a mistake, or an attack.
pub const LONGEST_FILTER: usize = 4096;

/// How to log.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// What is logged, as a `tracing` filter.
    pub filter: &'a str,
    /// One JSON object a line instead of text for people.
    pub json: bool,
    /// Lines of one kind within ten seconds; 0 is no limit.
    pub repeats: u32,
}

/// A filter that cannot be used, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFilter(String);

/// The logs of this process, to be looked at and changed while it runs. The default are those of somebody else: nothing
/// can be changed, and nothing is counted.
#[derive(Clone, Default)]
pub struct Logs(Option<Arc<Own>>);

struct Own {
    filter: reload::Handle<EnvFilter, Registry>,
    directives: Mutex<String>,
    limiter: Arc<Limiter>,
    sink: Sink,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("filter", &self.filter()).finish_non_exhaustive()
    }
}

impl Logs {
    /// Starts logging. What was not written yet is written when the second value is dropped.
    ///
    /// # Errors
    /// The filter cannot be used, there is no thread, or the process logs already: then everything stays as it was.
    pub fn start(options: Options<'_>) -> Result<(Self, Flush), io::Error> {
        let filter = parse(options.filter).map_err(io::Error::other)?;
        let (filter, handle) = reload::Layer::new(filter);
        let limiter = Arc::new(Limiter::new(options.repeats));
        let (sink, flush) = Sink::start(io::stderr(), Arc::clone(&limiter))?;
        let lines = tracing_subscriber::fmt::layer().with_writer(sink.clone());
        let storms = Storms(Arc::clone(&limiter));
        let registry = tracing_subscriber::registry().with(filter).with(storms);
        let started = if options.json {
            registry.with(lines.json().flatten_event(true)).try_init()
        } else {
            let lines = lines.with_ansi(io::stderr().is_terminal()).fmt_fields(text::fields());
            registry.with(lines).try_init()
        };
        started.map_err(io::Error::other)?;
        let directives = Mutex::new(options.filter.to_owned());
        Ok((Self(Some(Arc::new(Own { filter: handle, directives, limiter, sink }))), flush))
    }

    /// What is logged; `None` where that is not known here.
    pub fn filter(&self) -> Option<String> {
        let own = self.0.as_ref()?;
        Some(own.directives.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Logs something else from now on.
    ///
    /// # Errors
    /// Says what is wrong with the filter; everything stays as it was.
    pub fn set_filter(&self, directives: &str) -> Result<(), BadFilter> {
        let filter = parse(directives)?;
        let own = self.0.as_ref().ok_or_else(|| BadFilter("the logs are not this proxy's".to_owned()))?;
        let mut known = own.directives.lock().unwrap_or_else(PoisonError::into_inner);
        own.filter.reload(filter).map_err(|error| BadFilter(error.to_string()))?;
        directives.clone_into(&mut known);
        Ok(())
    }

    /// Lines of one kind within ten seconds from now on; 0 is no limit.
    pub fn set_repeats(&self, repeats: u32) {
        if let Some(own) = &self.0 {
            own.limiter.set_repeats(repeats);
        }
    }

    /// Lines that were not written because there were too many of their kind.
    pub fn suppressed(&self) -> u64 {
        self.0.as_ref().map_or(0, |own| own.limiter.suppressed())
    }

    /// Lines that were not written because whoever reads them was too slow, or has gone.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |own| own.sink.dropped())
    }
}

/// Whether a filter can be used.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(directives: &str) -> Result<(), BadFilter> {
    parse(directives).map(drop)
}

/// Reads a filter, without regular expressions: it may come from afar.
fn parse(directives: &str) -> Result<EnvFilter, BadFilter> {
    if directives.len() > LONGEST_FILTER {
        return Err(BadFilter(format!("a filter has at most {LONGEST_FILTER} bytes")));
    }
    if directives.trim().is_empty() {
        return Err(BadFilter("a filter must not be empty: \"off\" logs nothing".to_owned()));
    }
    // `inof` would be taken for a module, all of whose words are logged, and nobody else's.
    let words = directives.split(',').map(str::trim);
    let lonely = |word: &&str| !word.contains(['=', '[', ']', '{', '}']) && !word.contains("::");
    for word in words.filter(lonely) {
        if !word.is_empty() && word != env!("CARGO_PKG_NAME") && !is_level(word) {
            return Err(BadFilter(format!(
                "`{}` is no level: off, error, warn, info, debug or trace, or of a module: firepool::pool=debug",
                word.escape_debug()
            )));
        }
    }
    EnvFilter::builder().with_regex(false).parse(directives).map_err(|error| BadFilter(error.to_string()))
}

fn is_level(word: &str) -> bool {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    levels.iter().any(|level| word.eq_ignore_ascii_case(level))
        || matches!(word, "0" | "1" | "2" | "3" | "4" | "5")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_of_modules() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,firepool::pool=debug",
            "firepool=trace",
            "firepool::pool",
            "3",
            "info,",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_filter_that_would_log_nothing_by_mistake_is_refused_with_words() {
        for bad in ["", " ", "inof", "info,debgu", "firepool=loud", "in\nfo", &"x".repeat(5000)] {
            let said = parse(bad).unwrap_err().to_string();
            assert!(!said.is_empty() && !said.contains('\n'), "{bad}: {said}");
        }
        assert!(parse("inof").unwrap_err().to_string().contains("`inof`"));
    }

    #[test]
    fn logs_of_somebody_else_cannot_be_changed() {
        let logs = Logs::default();
        assert!(logs.set_filter("debug").is_err());
        assert_eq!((logs.filter(), logs.dropped(), logs.suppressed()), (None, 0, 0));
    }
}
