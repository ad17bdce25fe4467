//! How often the same is said. Each kind of line has a bucket of its own: a place in the code, and there the value of
//! `kind`, so that neither a storm of failed logins hides another refusal nor anything hides an error. What a bucket keeps
//! back is counted, and every ten seconds one line for each says how many there were.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::fmt::{self, Write as _};
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// A full bucket is spent at once, and filled again in this time.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// Kinds that are told apart. There are some fifty places with a few kinds each; those of a library at level trace are
/// more. What finds no place shares one bucket with its level.
const KINDS: usize = 1024;

/// Bytes that are kept of a kind and of what it says.
const SAID: usize = 160;

/// The buckets.
#[derive(Debug)]
pub(super) struct Limiter {
    start: Instant,
    repeats: AtomicU32,
    suppressed: AtomicU64,
    kinds: Mutex<HashMap<Key, Bucket>>,
}

/// A place in the code and the hash of the kind there; or a level, for what finds no place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Kind(tracing::callsite::Identifier, u64),
    Rest(Level),
}

#[derive(Debug)]
struct Bucket {
    /// Lines that may still come.
    left: f64,
    /// As of then.
    at: Duration,
    /// What was kept back since the last report.
    suppressed: u64,
    /// The first of it.
    said: Option<Said>,
}

/// What lines were about that were kept back.
#[derive(Debug, Clone)]
struct Said {
    level: Level,
    target: &'static str,
    kind: String,
    message: String,
}

impl Bucket {
    fn full(repeats: u32, now: Duration) -> Self {
        Self { left: f64::from(repeats), at: now, suppressed: 0, said: None }
    }

    /// Whether another line may come.
    fn take(&mut self, repeats: u32, now: Duration) -> bool {
        let most = f64::from(repeats);
        let gained = now.saturating_sub(self.at).as_secs_f64() / PERIOD.as_secs_f64() * most;
        self.left = (self.left + gained).min(most);
        self.at = now;
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }

    /// Nothing is lost if it is forgotten.
    fn is_idle(&self, now: Duration) -> bool {
        self.suppressed == 0 && now.saturating_sub(self.at) >= PERIOD
    }
}

impl Limiter {
    pub(super) fn new(repeats: u32) -> Self {
        Self {
            start: Instant::now(),
            repeats: AtomicU32::new(repeats),
            suppressed: AtomicU64::new(0),
            kinds: Mutex::default(),
        }
    }

    pub(super) fn set_repeats(&self, repeats: u32) {
        self.repeats.store(repeats, Ordering::Relaxed);
    }

    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }

    /// Whether the line may be written.
    fn admits(&self, event: &Event<'_>, now: Duration) -> bool {
        let (repeats, metadata) = (self.repeats.load(Ordering::Relaxed), event.metadata());
        if repeats == 0 || metadata.target() == module_path!() {
            return true;
        }
        let mut kind = Kind::default();
        event.record(&mut kind);
        let key = Key::Kind(metadata.callsite(), kind.0);
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = find(&mut kinds, key, *metadata.level(), Bucket::full(repeats, now));
        if bucket.take(repeats, now) {
            return true;
        }
        bucket.suppressed += 1;
        if bucket.said.is_none() {
            bucket.said = Some(Said::of(event, metadata));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn take_kept_back(&self, now: Duration) -> Vec<(Said, u64)> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept: Vec<_> = kinds
            .values_mut()
            .filter_map(|bucket| Some((bucket.said.take()?, std::mem::take(&mut bucket.suppressed))))
            .collect();
        kinds.retain(|_, bucket| !bucket.is_idle(now));
        kept.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        kept
    }

    /// Says what was kept back since the last time. Its own lines have no limit: there are at most as many as buckets.
    pub(super) fn report(&self) {
        for (Said { level, target, kind, message }, suppressed) in self.take_kept_back(self.start.elapsed()) {
            // The level of a line is part of its place in the code.
            macro_rules! tell {
                ($level:ident) => {
                    tracing::$level!(
                        suppressed,
                        of = target,
                        kind,
                        said = message,
                        "too many lines of one kind"
                    )
                };
            }
            match level {
                Level::ERROR => tell!(error),
                Level::WARN => tell!(warn),
                Level::INFO => tell!(info),
                Level::DEBUG => tell!(debug),
                Level::TRACE => tell!(trace),
            }
        }
    }
}

/// Says that whoever reads the lines was too slow.
pub(super) fn tell_of_dropped(dropped: u64) {
    tracing::warn!(dropped, "lines were lost: whoever reads them is too slow, or was away");
}

fn find(kinds: &mut HashMap<Key, Bucket>, key: Key, level: Level, full: Bucket) -> &mut Bucket {
    if kinds.len() >= KINDS && !kinds.contains_key(&key) {
        kinds.retain(|_, bucket| !bucket.is_idle(full.at));
    }
    let known = kinds.len();
    let key = match key {
        Key::Kind(..) if known >= KINDS && !kinds.contains_key(&key) => Key::Rest(level),
        key => key,
    };
    match kinds.entry(key) {
        Entry::Occupied(bucket) => bucket.into_mut(),
        Entry::Vacant(place) => place.insert(full),
    }
}

/// The hash of the field `kind`.
#[derive(Default)]
struct Kind(u64);

impl Visit for Kind {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "kind" {
            let mut hasher = DefaultHasher::new();
            value.hash(&mut hasher);
            self.0 = hasher.finish();
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Said {
    fn of(event: &Event<'_>, metadata: &'static Metadata<'static>) -> Self {
        let (level, target) = (*metadata.level(), metadata.target());
        let mut said = Self { level, target, kind: String::new(), message: String::new() };
        event.record(&mut said);
        said
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(Short(&mut self.message), "{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => drop(write!(Short(&mut self.message), "{value}")),
            "kind" => drop(write!(Short(&mut self.kind), "{value}")),
            _ => {}
        }
    }
}

/// Takes no more than [`SAID`] bytes.
struct Short<'a>(&'a mut String);

impl fmt::Write for Short<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.len() + character.len_utf8() > SAID {
                return Err(fmt::Error);
            }
            self.0.push(character);
        }
        Ok(())
    }
}

/// Keeps back what there is too much of.
pub(super) struct Storms(pub(super) Arc<Limiter>);

impl<S: Subscriber> Layer<S> for Storms {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.admits(event, self.0.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn a_bucket_is_spent_at_once_and_filled_again_in_ten_seconds() {
        let mut bucket = Bucket::full(5, Duration::ZERO);
        let mut taken =
            |second: u64| (0..100).filter(|_| bucket.take(5, Duration::from_secs(second))).count();
        assert_eq!([taken(0), taken(0), taken(2), taken(3), taken(13), taken(1000)], [5, 0, 1, 0, 5, 5]);
    }

    /// What comes through, of what `say` says.
    fn through(limiter: &Arc<Limiter>, say: impl FnOnce()) -> Vec<String> {
        struct Heard(Arc<Mutex<Vec<String>>>);
        impl<S: Subscriber> Layer<S> for Heard {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                let mut said = Said::of(event, event.metadata());
                let mut count = Count::default();
                event.record(&mut count);
                if let Some(suppressed) = count.0 {
                    said.message = format!("{suppressed} {}", said.kind);
                }
                self.0.lock().unwrap().push(format!("{} {}", said.level, said.message));
            }
        }
        #[derive(Default)]
        struct Count(Option<u64>);
        impl Visit for Count {
            fn record_u64(&mut self, field: &Field, value: u64) {
                if field.name() == "suppressed" {
                    self.0 = Some(value);
                }
            }
            fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
        }
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let registry = tracing_subscriber::registry().with(Storms(Arc::clone(limiter)));
        tracing::subscriber::with_default(registry.with(Heard(Arc::clone(&heard))), say);
        let heard = heard.lock().unwrap();
        heard.clone()
    }

    #[test]
    fn a_storm_of_one_kind_hides_no_other_kind_and_no_error_and_is_told_in_the_end() {
        let limiter = Arc::new(Limiter::new(3));
        let heard = through(&limiter, || {
            for number in 0..1000 {
                let kind = if number == 500 { "rare" } else { "usual" };
                tracing::info!(kind, "refused");
            }
            tracing::error!("it burns");
            limiter.report();
            limiter.report();
        });
        let expected = [
            "INFO refused",
            "INFO refused",
            "INFO refused",
            "INFO refused",
            "ERROR it burns",
            "INFO 996 usual",
        ];
        assert_eq!(heard, expected);
        assert_eq!(limiter.suppressed(), 996);
    }

    #[test]
    fn without_a_limit_everything_is_said() {
        let limiter = Arc::new(Limiter::new(0));
        assert_eq!(through(&limiter, || (0..1000).for_each(|_| tracing::warn!("again"))).len(), 1000);
        limiter.set_repeats(2);
        assert_eq!(through(&limiter, || (0..1000).for_each(|_| tracing::warn!("again"))).len(), 2);
    }

    #[test]
    fn memory_is_bounded_and_what_finds_no_place_is_still_said_and_counted() {
        let limiter = Arc::new(Limiter::new(1));
        let heard = through(&limiter, || {
            for number in 0..3 * KINDS {
                tracing::warn!(kind = format!("kind {number}").as_str(), "refused");
            }
            tracing::error!("it burns");
        });
        assert_eq!(heard.len(), KINDS + 2);
        assert!(limiter.kinds.lock().unwrap().len() <= KINDS + 5);
        assert_eq!(limiter.suppressed(), 2 * KINDS as u64 - 1);
    }

    #[test]
    fn what_is_quiet_is_forgotten() {
        let limiter = Arc::new(Limiter::new(1));
        through(&limiter, || (0..2).for_each(|_| tracing::warn!("again")));
        assert_eq!(limiter.take_kept_back(limiter.start.elapsed()).len(), 1);
        assert_eq!(limiter.kinds.lock().unwrap().len(), 1);
        assert!(limiter.take_kept_back(limiter.start.elapsed() + PERIOD).is_empty());
        assert!(limiter.kinds.lock().unwrap().is_empty());
    }
}
