//! What a text of SQL does to the session that runs it, found with PostgreSQL's own grammar.
//!
//! The room promises [`judge`]: bytes and a [`Dialect`] to [`Facts`], whatever the bytes; and [`Cache`], which makes it
//! cheap. It never guesses: a text that it cannot read as the server will read it (too long, nested too deep, an
//! encoding whose bytes may look like ASCII, a syntax of another version) is [`Kind::Unknown`], and its facts are the
//! most careful ones. It never looks at names in a catalogue, so a function of the database's own is only known to be
//! unknown.
//!
//! Facts are what *may* be there afterwards, not what is: a statement can fail, a condition can be false. So they decide
//! whom to ask, what to watch, and when to be careful. Nothing else looks into SQL.
//!
//! - `dialect`: what must be known of a session before its text can be read.
//! - `facts`: the answers.
//! - `parse`: the only door to libpg_query, and what is refused in front of it.
//! - `walk`: over the whole tree, without recursion.
//! - `effects`: what one statement or call leaves behind; `settings`: of SET and `set_config`; `functions`: tables of names.
//! - `body`: what a function's source may do; `words`: the names that a text uses.
//! - `verdict`: whether a text may run where nothing may be written, with rules for each kind of statement.
//! - `commands`, `schemas`, `objects`: what the statements are called, and whose relations, functions and types they name.
//! - `cache`: judged texts, bounded; `numbers`: which of them differ in numbers only; `strings`, `comments`: in those.
//! - `shape`: what statements have in common that differ in their literals only; `spelling` makes its words of `tokens`.
//! - `traceparent`: the trace that a comment says a statement belongs to.

mod body;
mod cache;
mod commands;
mod comments;
mod dialect;
mod effects;
mod facts;
mod functions;
mod numbers;
mod objects;
mod parse;
mod schemas;
mod settings;
mod shape;
mod spelling;
mod strings;
mod tokens;
mod traceparent;
mod verdict;
mod walk;
mod words;

#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod comments_tests;
#[cfg(test)]
mod schemas_tests;
#[cfg(test)]
mod sharing_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;

pub use body::{Body, Touch};
pub use cache::{Cache, CacheStats};
pub use commands::Command;
pub use dialect::{Dialect, Encoding};
pub use facts::{Effects, Facts, Kind, Listening, Pin, States, StatesIter, Touched};
pub use parse::{STACK, judge, judge_guarded};
pub use schemas::{MOST_STATEMENTS, Name, Named, Schemas, Sort, Statement};
pub use shape::Shape;
pub use traceparent::Traceparent;
pub use verdict::{Breach, Conduct, Ending, Value, Verdict, is_harmless_call, setting};
pub use words::Words;
