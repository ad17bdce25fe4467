//! Judged texts, bounded by number and by bytes, for one worker.
//!
//! A text is stored when it is seen a second time within a while: until then only its hash is remembered, so that a
//! stream of texts that never come again (literals instead of parameters) neither fills the cache nor allocates for it.
//! The key is the text's exact bytes: anything that normalised it would be a second lexer, which can be wrong. Exceptions
//! are whole numbers (`numbers`), plain strings (`strings`) and comments at its ends (`comments`), where it is certain that
//! they are, and that they make no difference.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::rc::Rc;

use foldhash::quality::RandomState;

use super::dialect::Dialect;
use super::facts::{Effects, Facts, Kind};
use super::shape::Shapes;
use super::verdict::Verdict;
use super::{comments, numbers, parse, strings};
use crate::rule::Rule;

/// Judged texts. They are in two generations: when the young one is full, the old one is forgotten and the young one
/// becomes the old one; who is found in the old one moves back into the young one.
pub struct Cache {
    young: Generation,
    old: Generation,
    max_entries: usize,
    max_bytes: usize,
    /// Keyed at random, so that nobody can tell which texts collide; who could would have them take turns.
    hasher: RandomState,
    /// Hashes of texts that were seen once, each at its own place.
    doorkeeper: Box<[u64]>,
    /// The text at hand without its numbers, and without its strings as well.
    blanks: (Vec<u8>, Vec<u8>),
    shared: Shared,
    /// Whether texts get a verdict as well.
    guarded: bool,
    /// Where statements get their shapes, if they do.
    shapes: Option<Shapes>,
    hits: u64,
    misses: u64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// How a cache fares.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CacheStats {
    /// Texts that were found.
    pub hits: u64,
    /// Texts that had to be judged.
    pub misses: u64,
    /// Texts that are held.
    pub entries: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// What a text does not have any more, because it stands for all that differ from it in that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    Numbers,
    /// And numbers, if there were any.
    Strings,
}

struct Entry {
    text: Box<[u8]>,
    without: Without,
    /// Nothing where the text is read the same in every dialect.
    dialect: Option<Dialect>,
    facts: Rc<Facts>,
}

impl Entry {
    fn is(&self, key: Key<'_>, dialect: Dialect) -> bool {
        self.without == key.without
            && *self.text == *key.text
            && self.dialect.is_none_or(|own| own == dialect)
    }
}

/// Where a text is looked for.
#[derive(Clone, Copy)]
struct Key<'t> {
    hash: u64,
    text: &'t [u8],
    without: Without,
}

/// Two texts with the same 64 bits take turns.
#[derive(Default)]
struct Generation {
    entries: HashMap<u64, Entry, BuildHasherDefault<Hashed>>,
    bytes: usize,
}

impl Generation {
    fn find(&self, key: Key<'_>, dialect: Dialect) -> Option<&Entry> {
        self.entries.get(&key.hash).filter(|entry| entry.is(key, dialect))
    }

    fn take(&mut self, key: Key<'_>, dialect: Dialect) -> Option<Entry> {
        self.find(key, dialect)?;
        let entry = self.entries.remove(&key.hash)?;
        self.bytes -= entry.text.len();
        Some(entry)
    }

    fn put(&mut self, hash: u64, entry: Entry) {
        self.bytes += entry.text.len();
        if let Some(before) = self.entries.insert(hash, entry) {
            self.bytes -= before.text.len();
        }
    }
}

impl Cache {
    /// For at most so many texts, of so many bytes in sum.
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        let places = max_entries.clamp(1 << 8, 1 << 16).next_power_of_two();
        Self {
            young: Generation::default(),
            old: Generation::default(),
            max_entries: max_entries / 2,
            max_bytes: max_bytes / 2,
            hasher: RandomState::default(),
            doorkeeper: vec![0; places].into_boxed_slice(),
            blanks: <(Vec<u8>, Vec<u8>)>::default(),
            shared: Shared::new(false),
            guarded: false,
            shapes: None,
            hits: 0,
            misses: 0,
        }
    }

    /// The same, with a verdict for each text.
    #[must_use]
    pub fn guarding(self) -> Self {
        Self { shared: Shared::new(true), guarded: true, ..self }
    }

    /// The same, with a shape for each statement.
    #[must_use]
    pub fn shaping(self) -> Self {
        Self { shapes: Some(Shapes::new()), ..self }
    }

    /// The facts of a text (without its final NUL).
    pub fn facts(&mut self, text: &[u8], dialect: Dialect) -> Rc<Facts> {
        if parse::is_too_long(text, self.guarded) {
            self.misses += 1;
            let facts = self.shared.too_long();
            let Some(shapes) = &mut self.shapes else { return facts };
            // It is SQL, most likely, and its beginning tells what it is for.
            return self.shared.of(Facts::clone(&facts).shaped(shapes.beginning(text)));
        }
        if let Some(core) = comments::core(text) {
            let facts = self.find_or_read(core.words, dialect);
            if facts.hold_for_any_comment(core.moved) {
                return facts;
            }
        }
        self.find_or_read(text, dialect)
    }

    fn find_or_read(&mut self, text: &[u8], dialect: Dialect) -> Rc<Facts> {
        let key = self.key(text, Without::Nothing);
        if let Some(facts) = self.find(key, dialect) {
            return facts;
        }
        if parse::has_many_comments(text) {
            // How long it is and what is in its strings may be why it is not read.
            return self.read(text, [Some(key), None, None], dialect);
        }
        let (mut fewer, mut fewest) = std::mem::take(&mut self.blanks);
        let numberless = numbers::blank(text, &mut fewer).then(|| self.key(&fewer, Without::Numbers));
        if let Some(facts) = numberless.and_then(|key| self.find(key, dialect)) {
            self.blanks = (fewer, fewest);
            return facts;
        }
        let left = numberless.map_or(text, |key| key.text);
        let stringless = strings::blank(left, numberless.is_some(), &mut fewest)
            .then(|| self.key(&fewest, Without::Strings));
        let known = stringless.and_then(|key| self.find(key, dialect));
        let facts = known.unwrap_or_else(|| self.read(text, [Some(key), numberless, stringless], dialect));
        self.blanks = (fewer, fewest);
        facts
    }

    fn key<'t>(&self, text: &'t [u8], without: Without) -> Key<'t> {
        Key { hash: self.hasher.hash_one(text), text, without }
    }

    fn find(&mut self, key: Key<'_>, dialect: Dialect) -> Option<Rc<Facts>> {
        if let Some(entry) = self.young.find(key, dialect) {
            self.hits += 1;
            return Some(Rc::clone(&entry.facts));
        }
        let entry = self.old.take(key, dialect)?;
        self.hits += 1;
        let facts = Rc::clone(&entry.facts);
        self.store(key.hash, entry);
        Some(facts)
    }

    /// Reads a text, of which these are the places where it may be found again: with everything, without numbers, and
    /// without strings as well.
    fn read(&mut self, text: &[u8], places: [Option<Key<'_>>; 3], dialect: Dialect) -> Rc<Facts> {
        self.misses += 1;
        let judge = if self.guarded { parse::judge_guarded } else { parse::judge };
        let facts = self.shape(judge(text, dialect), text, dialect);
        let facts = self.shared.of(facts);
        let [own, numberless, stringless] = places;
        let stringless = stringless.filter(|_| facts.hold_for_any_string());
        let numberless = numberless.filter(|_| facts.hold_for_any_number());
        if let Some(key) = stringless.or(numberless).or(own) {
            self.keep(key, &facts, parse::depends_on_dialect(text).then_some(dialect));
        }
        facts
    }

    fn keep(&mut self, key: Key<'_>, facts: &Rc<Facts>, dialect: Option<Dialect>) {
        if self.was_seen(key.hash) && key.text.len() <= self.max_bytes {
            let (text, facts) = (key.text.into(), Rc::clone(facts));
            self.store(key.hash, Entry { text, without: key.without, dialect, facts });
        }
    }

    /// The facts of a text that is too long to be looked at, of which this is the beginning, if it is to have a shape.
    pub fn unjudged(&mut self, beginning: &[u8]) -> Option<Rc<Facts>> {
        let shapes = self.shapes.as_mut()?.beginning(beginning);
        Some(Rc::new(Facts::too_long().shaped(shapes)))
    }

    fn shape(&mut self, facts: Facts, text: &[u8], dialect: Dialect) -> Facts {
        let Some(shapes) = &mut self.shapes else { return facts };
        match facts.kind {
            Kind::Unknown => facts.shaped(&[shapes.unread()]),
            _ => {
                let shapes = shapes.each(text, dialect, facts.statements as usize);
                facts.shaped(shapes)
            }
        }
    }

    /// How it fares.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits,
            misses: self.misses,
            entries: self.young.entries.len() + self.old.entries.len(),
            bytes: self.young.bytes + self.old.bytes,
        }
    }

    fn was_seen(&mut self, hash: u64) -> bool {
        // The mask fits the table, whose length is a power of two.
        let place = (hash >> 32) as usize & (self.doorkeeper.len() - 1);
        std::mem::replace(&mut self.doorkeeper[place], hash) == hash
    }

    fn store(&mut self, hash: u64, entry: Entry) {
        let full = self.young.entries.len() >= self.max_entries
            || self.young.bytes + entry.text.len() > self.max_bytes;
        if full {
            std::mem::swap(&mut self.young, &mut self.old);
            // Its table stays, for the next ones.
            self.young.entries.clear();
            self.young.bytes = 0;
        }
        if self.max_entries > 0 {
            self.old.take_any(hash);
            self.young.put(hash, entry);
        }
    }
}

impl Generation {
    /// Forgets what has that hash, so that no text is held twice.
    fn take_any(&mut self, hash: u64) {
        if let Some(before) = self.entries.remove(&hash) {
            self.bytes -= before.text.len();
        }
    }
}

/// Facts that most texts have in common, allocated once.
struct Shared {
    /// No statement, or one without any effect, by its kind.
    plain: [Rc<Facts>; Kind::COUNT],
    unknown: Rc<Facts>,
    too_long: Rc<Facts>,
    /// Those of texts that were seen last: what differs in its literals only has the same.
    recent: [Rc<Facts>; RECENT],
    next: usize,
}

const RECENT: usize = 16;

impl Shared {
    fn new(guarded: bool) -> Self {
        let of = |kind: Kind| {
            let facts = Facts::new(u32::from(kind != Kind::Empty), kind, Effects::default());
            Rc::new(if guarded { facts.guarded(Verdict::plain(kind == Kind::Empty)) } else { facts })
        };
        // In the order of `Kind`.
        let kinds = [
            Kind::Empty,
            Kind::Read,
            Kind::Transaction,
            Kind::Session,
            Kind::Other,
            Kind::Copy,
            Kind::Write,
            Kind::Ddl,
            Kind::Unknown,
        ];
        let too_long = Verdict::refused(Rule::Unread, "a text that is too long to be read");
        let too_long = if guarded { Facts::unknown().guarded(too_long) } else { Facts::unknown() };
        let plain = kinds.map(of);
        Self {
            recent: std::array::from_fn(|_| Rc::clone(&plain[0])),
            next: 0,
            plain,
            unknown: Rc::new(Facts::unknown()),
            too_long: Rc::new(too_long),
        }
    }

    fn too_long(&self) -> Rc<Facts> {
        Rc::clone(&self.too_long)
    }

    fn unknown(&self) -> Rc<Facts> {
        Rc::clone(&self.unknown)
    }

    fn of(&mut self, facts: Facts) -> Rc<Facts> {
        let plain = &self.plain[facts.kind as usize];
        if **plain == facts {
            Rc::clone(plain)
        } else if facts == *self.unknown {
            self.unknown()
        } else if let Some(same) =
            self.recent.iter().find(|recent| recent.words() == facts.words() && ***recent == facts)
        {
            Rc::clone(same)
        } else {
            let facts = Rc::new(facts);
            self.next = (self.next + 1) % RECENT;
            self.recent[self.next] = Rc::clone(&facts);
            facts
        }
    }
}

/// What is hashed is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
