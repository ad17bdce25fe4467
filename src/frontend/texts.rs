//! The statements of a worker's clients: what they say ([`Facts`]), and those that were prepared, each kept once however
//! many clients prepared it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use crate::backend::prepared::{ServerName, StatementKey, server_name};
use crate::statement::{Cache, CacheStats, Dialect, Facts};

/// Texts whose facts are remembered by each worker, and the bytes that they may have.
const CACHED: usize = 8_192;
const CACHED_BYTES: usize = 8 << 20;

/// What stands for the settings that decide what a statement means.
pub(super) type Planning = [u8; 32];

/// A statement that a client prepared under a name.
#[derive(Debug)]
pub(super) struct Prepared {
    /// What it is on a server.
    pub(super) key: StatementKey,
    /// Its name there.
    pub(super) server_name: ServerName,
    /// The settings it was prepared under.
    pub(super) planning: Planning,
    /// What it does.
    pub(super) facts: Rc<Facts>,
    /// The text with its NUL, then the parameter types with their count: a Parse without its name.
    pub(super) definition: Box<[u8]>,
    text: usize,
    /// The types of its parameters as a server last made them out.
    inferred: RefCell<Option<Arc<[u8]>>>,
}

impl Prepared {
    /// The text.
    pub(super) fn text(&self) -> &[u8] {
        &self.definition[..self.text]
    }

    /// The parameter types with their count, as Parse has them.
    pub(super) fn types(&self) -> &[u8] {
        &self.definition[self.text + 1..]
    }

    /// A list of parameter types, kept once for all that have the same.
    pub(super) fn share_types(&self, types: &Arc<[u8]>) -> Arc<[u8]> {
        let mut inferred = self.inferred.borrow_mut();
        let kept = inferred.take().filter(|kept| kept == types).unwrap_or_else(|| Arc::clone(types));
        Arc::clone(inferred.insert(kept))
    }

    /// What it costs to keep, in bytes, roughly.
    pub(super) fn size(&self) -> usize {
        self.definition.len() + 256
    }
}

/// The statements of a worker's clients.
#[derive(Debug)]
pub(super) struct Texts {
    cache: Cache,
    /// Those of read-only routes.
    guarded: Cache,
    prepared: HashMap<StatementKey, Weak<Prepared>>,
    /// How many there may be before those that nobody has any more are thrown out.
    sweep_at: usize,
    /// The process's own, so that nobody can make up two statements with the same key.
    secret: [u8; 32],
    /// What stood for settings last: clients share it.
    last_planning: Rc<Planning>,
    too_long: Rc<Facts>,
}

impl Texts {
    /// Every worker has to be given the same secret: server connections move between them. `shaping` says that
    /// statements get shapes.
    pub(super) fn new(secret: [u8; 32], shaping: bool) -> Self {
        let cache = || {
            let cache = Cache::new(CACHED, CACHED_BYTES);
            if shaping { cache.shaping() } else { cache }
        };
        Self {
            cache: cache(),
            guarded: cache().guarding(),
            prepared: HashMap::new(),
            sweep_at: 1024,
            secret,
            last_planning: Rc::default(),
            too_long: Rc::new(Facts::too_long()),
        }
    }

    /// How the caches of what texts do fare.
    pub(super) fn stats(&self) -> [CacheStats; 2] {
        [self.cache.stats(), self.guarded.stats()]
    }

    /// What a text does that is too long to be looked at.
    pub(super) fn too_long(&self) -> Rc<Facts> {
        Rc::clone(&self.too_long)
    }

    /// The same of a text that begins like this, with its shape as far as that is seen.
    pub(super) fn longer_than(&mut self, beginning: &[u8]) -> Rc<Facts> {
        self.cache.unjudged(beginning).unwrap_or_else(|| self.too_long())
    }

    /// What a text does.
    pub(super) fn facts(&mut self, text: &[u8], dialect: Dialect) -> Rc<Facts> {
        self.cache.facts(text, dialect)
    }

    /// What a text does, and whether it may run where nothing may be written.
    pub(super) fn guarded(&mut self, text: &[u8], dialect: Dialect) -> Rc<Facts> {
        self.guarded.facts(text, dialect)
    }

    /// A statement to be prepared.
    pub(super) fn prepared(
        &mut self,
        text: &[u8],
        types: &[u8],
        planning: &Planning,
        dialect: Dialect,
    ) -> Rc<Prepared> {
        let key = self.key(text, types, planning, dialect);
        if let Some(prepared) = self.prepared.get(&key).and_then(Weak::upgrade) {
            return prepared;
        }
        let prepared = Rc::new(Prepared {
            key,
            server_name: server_name(&key),
            planning: *planning,
            facts: self.facts(text, dialect),
            definition: [text, b"\0", types].concat().into(),
            text: text.len(),
            inferred: RefCell::default(),
        });
        if self.prepared.len() >= self.sweep_at {
            self.prepared.retain(|_, prepared| prepared.strong_count() > 0);
            self.sweep_at = (self.prepared.len() * 2).max(1024);
        }
        self.prepared.insert(key, Rc::downgrade(&prepared));
        prepared
    }

    /// What stands for settings that are not to be shared: those of a client in the middle of changing them.
    pub(super) fn private_planning(&self, client: u64, change: u64) -> Planning {
        self.digest(&[b"private", &client.to_be_bytes(), &change.to_be_bytes()])
    }

    /// What stands for settings that clients may share. Those that come one after the other mostly have the same.
    pub(super) fn planning<'a>(
        &mut self,
        settings: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Rc<Planning> {
        let planning = self.planning_of(settings);
        if *self.last_planning != planning {
            self.last_planning = Rc::new(planning);
        }
        Rc::clone(&self.last_planning)
    }

    fn planning_of<'a>(&self, settings: impl Iterator<Item = (&'a str, &'a str)>) -> Planning {
        let mut context = Context::new(&SHA256);
        context.update(&self.secret);
        let mut any = false;
        for (name, value) in settings {
            any = true;
            for part in [name, value] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part.as_bytes());
            }
        }
        if any { finish(context) } else { [0; 32] }
    }

    /// A database may have another dialect without any setting of the client's: the same text is another statement there,
    /// and does something else.
    fn key(&self, text: &[u8], types: &[u8], planning: &Planning, dialect: Dialect) -> StatementKey {
        let dialect = [dialect.encoding as u8, u8::from(dialect.standard_conforming_strings)];
        let digest = self.digest(&[planning, text, types, &dialect]);
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        key
    }

    fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(&self.secret);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        finish(context)
    }
}

fn finish(context: Context) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Encoding;

    const UTF8: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };

    #[test]
    fn the_same_statement_under_the_same_settings_is_kept_once() {
        let mut texts = Texts::new([7; 32], false);
        let none = *texts.planning(std::iter::empty());
        let mut prepare =
            |text: &str, types: &[u8], planning| texts.prepared(text.as_bytes(), types, &planning, UTF8);
        let first = prepare("SELECT $1", &[0, 0], none);
        assert!(Rc::ptr_eq(&first, &prepare("SELECT $1", &[0, 0], none)));
        assert_eq!((first.text(), first.types()), (&b"SELECT $1"[..], &[0, 0][..]));
        let others = [
            prepare("SELECT $1 ", &[0, 0], none),
            prepare("SELECT $1", &[0, 1, 0, 0, 0, 23], none),
            prepare("SELECT $1", &[0, 0], [1; 32]),
        ];
        assert!(others.iter().all(|other| other.key != first.key));
    }

    #[test]
    fn what_a_text_does_in_one_dialect_says_nothing_of_another() {
        let mut texts = Texts::new([7; 32], false);
        let text = br"SELECT 'a\', 1 --'";
        let mut facts = |standard_conforming_strings| {
            let dialect = Dialect { standard_conforming_strings, ..UTF8 };
            let prepared = texts.prepared(text, &[0, 0], &[0; 32], dialect);
            (prepared.key, prepared.facts.kind, prepared)
        };
        let (standard, other) = (facts(true), facts(false));
        assert_ne!(standard.0, other.0);
        assert_ne!(standard.1, other.1);
    }

    #[test]
    fn settings_are_told_apart_whatever_their_values_hold() {
        let mut texts = Texts::new([7; 32], false);
        let a = texts.planning([("a", "bc")].into_iter());
        assert_ne!(a, texts.planning([("ab", "c")].into_iter()));
        assert_ne!(texts.private_planning(1, 1), texts.private_planning(1, 2));
        assert_ne!(a, Texts::new([8; 32], false).planning([("a", "bc")].into_iter()));
    }

    #[test]
    fn statements_that_nobody_has_any_more_are_thrown_out() {
        let mut texts = Texts::new([7; 32], false);
        for n in 0..10_000 {
            drop(texts.prepared(format!("SELECT {n}").as_bytes(), &[0, 0], &[0; 32], UTF8));
        }
        assert!(texts.prepared.len() <= 1024);
    }
}
