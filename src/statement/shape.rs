//! What statements have in common that differ in their literals only: their words in one spelling, without literals,
//! comments, parameters' numbers and the names of a moment. It is read from the text's tokens in one pass, so that a
//! text that never comes again costs little more than its parse, and one that is remembered costs nothing.
//!
//! A second lexer can be wrong; this one only decides under what a statement is counted. Where it is not certain what is
//! a literal, it ends, and so shows too little rather than a secret. Of a text that the grammar has refused, nobody knows
//! which quote begins a string and which ends one: its words end in front of the first.
//!
//! The spelling: lower case outside of quotes, one blank where there may be one, and
//! - `?` for a literal, NULL, TRUE, FALSE and a parameter, its sign with it;
//! - one `?` for a list of them, and one row for rows that look the same: `IN (?)`, `VALUES (?)`;
//! - `?` for what SET sets, and for names of savepoints, cursors, channels and statements of SQL.
//!
//! The grammar's own idea of what a constant is (libpg_query's `normalize`) agrees with it on the corpus of `guard`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::schemas::MOST_STATEMENTS;
use super::spelling::Speller;
use super::tokens::Strings;
use super::{Dialect, Encoding};
use crate::fnv::fnv1a;

/// The shape of a statement.
#[derive(Debug)]
pub struct Shape {
    /// The same for the same shape in every process of the same version, whatever its worker.
    pub fingerprint: u64,
    /// Its words, cut to 1000 bytes.
    pub text: Box<str>,
    /// The same for the same shape in one cache of texts, and chosen by nobody.
    pub key: u64,
    /// Where whoever counts under it has found it last.
    pub hint: AtomicU32,
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        (self.key, self.fingerprint) == (other.key, other.fingerprint)
    }
}

impl Eq for Shape {}

/// Bytes of a shape's words that are kept.
const LONGEST: usize = 1_000;

/// Bytes of a text that are looked at.
pub(super) const LOOKED_AT: usize = 16 * 1024;

/// Shapes that are remembered; with more, all are forgotten. Who has one keeps it.
const KNOWN: usize = 1_024;

/// What stands behind words that were cut.
pub(super) const MORE: &str = " ...";

/// Shapes of texts, each kept once.
pub(super) struct Shapes {
    speller: Speller,
    known: HashMap<u64, Arc<Shape>>,
    hasher: RandomState,
    unread: Arc<Shape>,
    /// Those of the last text.
    last: Vec<Arc<Shape>>,
}

impl Shapes {
    pub(super) fn new() -> Self {
        let hasher = RandomState::new();
        let unread = Arc::new(Shape::new(b"(a text that could not be read)", 0));
        Self { speller: Speller::default(), known: HashMap::new(), hasher, unread, last: Vec::new() }
    }

    /// Of all texts that nobody could read.
    pub(super) fn unread(&self) -> Arc<Shape> {
        Arc::clone(&self.unread)
    }

    /// Those of the statements of a text, which has so many: of each its own, or of all the same where they cannot be
    /// told apart.
    pub(super) fn each(&mut self, text: &[u8], dialect: Dialect, statements: usize) -> &[Arc<Shape>] {
        let strings = match dialect {
            Dialect { encoding: Encoding::Unsafe, .. } => Strings::Unknown,
            Dialect { standard_conforming_strings: true, .. } => Strings::Plain,
            Dialect { .. } => Strings::Escaping,
        };
        self.speller.read(text, strings);
        let speller = std::mem::take(&mut self.speller);
        self.last.clear();
        if speller.statements().count() == statements {
            for words in speller.statements().take(MOST_STATEMENTS) {
                let shape = self.shape(words);
                self.last.push(shape);
            }
        } else {
            let shape = self.shape(speller.words());
            self.last.push(shape);
        }
        self.speller = speller;
        &self.last
    }

    /// That of a text that is too long to be read, which begins like this.
    pub(super) fn beginning(&mut self, text: &[u8]) -> &[Arc<Shape>] {
        let mut speller = std::mem::take(&mut self.speller);
        speller.read(text, Strings::Doubtful);
        self.last.clear();
        let shape = self.shape(speller.words());
        self.last.push(shape);
        self.speller = speller;
        &self.last
    }

    fn shape(&mut self, words: &[u8]) -> Arc<Shape> {
        let key = self.hasher.hash_one(words);
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(known);
        }
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        let shape = Arc::new(Shape::new(words, key));
        self.known.insert(key, Arc::clone(&shape));
        shape
    }
}

impl Shape {
    fn new(words: &[u8], key: u64) -> Self {
        Self { fingerprint: fnv1a(words), text: shown(words, LONGEST).into(), key, hint: AtomicU32::new(0) }
    }

    /// The words of a text of which nobody knows how its strings are written, cut to so many bytes. It ends where that
    /// would matter.
    pub fn carefully(text: &[u8], longest: usize) -> String {
        let mut speller = Speller::default();
        speller.read(text, Strings::Unknown);
        shown(speller.words(), longest)
    }

    /// The same of a text that nobody could read: the words in front of the first quote, or of a password without one.
    pub fn doubtfully(text: &[u8], longest: usize) -> String {
        let mut speller = Speller::default();
        speller.read(text, Strings::Doubtful);
        shown(speller.words(), longest)
    }
}

fn shown(words: &[u8], longest: usize) -> String {
    let text = String::from_utf8_lossy(&words[..words.len().min(longest)]);
    // Those beyond ASCII are two bytes, and command terminals as well.
    let text = text.replace(char::is_control, " ");
    let cut = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    if words.len() > longest { format!("{cut}{MORE}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };

    #[test]
    fn a_shape_is_kept_once_whoever_asks() {
        let mut shapes = Shapes::new();
        let mut one = |text: &str| shapes.each(text.as_bytes(), PLAIN, 1)[0].clone();
        let first = one("SELECT a FROM t WHERE b = 1");
        for text in ["select a from t where b = 'x'", "SELECT a\nFROM t -- why\nWHERE b=$1"] {
            assert!(Arc::ptr_eq(&first, &one(text)), "{text}");
        }
        let other = one("SELECT a FROM t WHERE c = 1");
        assert!(other.key != first.key && other.fingerprint != first.fingerprint);
        assert_eq!(
            first.fingerprint,
            Shapes::new().each(b"select a from t where b=2", PLAIN, 1)[0].fingerprint
        );
    }

    #[test]
    fn statements_of_a_text_have_shapes_of_their_own_where_they_can_be_told_apart() {
        let mut shapes = Shapes::new();
        let mut texts = |text: &str, statements| -> Vec<String> {
            let shapes = shapes.each(text.as_bytes(), PLAIN, statements);
            shapes.iter().map(|shape| shape.text.to_string()).collect()
        };
        assert_eq!(texts("BEGIN;; SELECT 1; COMMIT ;", 3), ["begin", "select ?", "commit"]);
        let body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END";
        let whole = "create function f() returns int begin atomic select ?; select ?; end";
        assert_eq!(texts(body, 1), [whole]);
        assert_eq!(texts("SELECT (1; 2)", 1), ["select (?; ?)"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut shapes = Shapes::new();
        for number in 0..2_000 {
            let text = format!("SELECT a{number}, {}", "very_long_name, ".repeat(200));
            let shape = shapes.each(text.as_bytes(), PLAIN, 1)[0].clone();
            assert!(shape.text.len() <= LONGEST + MORE.len() && shape.text.ends_with(MORE));
            assert!(shapes.known.len() <= KNOWN);
        }
    }

    #[test]
    fn words_are_cut_between_characters() {
        let shape = Shape::new("é".repeat(LONGEST).as_bytes(), 1);
        assert_eq!(*shape.text, format!("{}{MORE}", "é".repeat(LONGEST / 2)));
        assert_eq!(
            &*Shape::new(&"é".repeat(LONGEST).as_bytes()[1..], 1).text.replace('é', ""),
            "\u{fffd} ..."
        );
    }

    #[test]
    fn what_the_log_shows_of_a_text_has_no_literals_whatever_its_dialect() {
        for (text, expected) in [
            (&b"INSERT INTO t VALUES (1, 'se''cret', -2.5e3)"[..], "insert into t values (?)"),
            (
                b"DELETE /* it's 'secret' */ FROM \"T 1\" -- 'x'\n WHERE a1 = $1",
                "delete from \"T 1\" where a1 = ?",
            ),
            (b"UPDATE t SET a = E'secret\\'; more secret'", "update t set a = ..."),
            (b"SELECT 'never closed secret", "select ..."),
            (b"a$b$secret$b$c\x07", "a$b$secret$b$c"),
            (b"caf\xe9 'x'", "caf\u{fffd} ?"),
        ] {
            assert_eq!(Shape::carefully(text, 300), expected);
        }
        assert!(Shape::carefully(&b"x ".repeat(10_000), 300).len() <= 300 + MORE.len());
    }

    #[test]
    fn words_of_a_text_that_is_no_sql_end_in_front_of_what_may_be_a_secret() {
        for (text, expected) in [
            ("ALTER USER bob PASSWORD 'it's secret, that's it'", "alter user bob password ..."),
            ("ALTER USER bob PASSWORD secret", "alter user bob password ..."),
            ("CREATE USER bob IDENTIFIED BY secret", "create user bob identified ..."),
            ("SELECT a\" , 'secret', \"b", "select a ..."),
            ("SELECT 1, $2, $$secret", "select ? ..."),
            (
                "INSERT INTO \"T\" (\"A\") VALUES ($1), (3, 'it's secret')",
                "insert into \"T\"(\"A\") values (?) ...",
            ),
            ("SELECT 12secret FORM t", "select ? form t"),
            ("SELEC /* secret */ 1 -- secret", "selec ?"),
        ] {
            assert_eq!(Shape::doubtfully(text.as_bytes(), 300), expected);
        }
    }

    #[test]
    fn a_shape_commands_no_terminal() {
        let shape = Shape::new("select \"a\u{9b}2J\"".as_bytes(), 1);
        assert_eq!(&*shape.text, "select \"a 2J\"");
    }
}
