//! Whether a text may run where nothing may be written: an allow-list over the parse tree. What is not known to be
//! harmless is refused.
//!
//! It is the second lock. The first is the server's own read-only mode, which covers writes to tables, also those of
//! functions; this one keeps a client from leaving that mode, and from what the mode does not cover.
//!
//! - `statements`: kinds of statements, and what may be in them.
//! - `conduct`: how a text is carried out where its transaction will be rolled back.
//! - `calls`: functions, by name. `settings`: SET, RESET and `set_config`, by name and value.

mod calls;
mod conduct;
mod settings;
mod statements;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use pg_raw_parse::{Node, nodes};

use super::effects::Letters;
use crate::rule::Rule;
pub use calls::is_harmless_call;
pub use conduct::{Conduct, Ending};
pub use settings::{Value, setting};

/// Names of functions that are kept; who calls more in one text calls what is not listed.
const MOST_CALLS: usize = 64;

/// Bytes of what the parser says of an error, or of a name, that are kept.
const LONGEST: usize = 200;

/// Why a text is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    /// Which rule it breaks.
    pub rule: Rule,
    /// What it cannot execute; of [`Rule::Syntax`], the parser's own words.
    pub what: Cow<'static, str>,
    /// Where the statement begins in the text, in bytes: what stands before it may run. 0 if that is not known.
    pub at: usize,
}

/// A statement that is to be sent in other words.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Edit {
    place: Range<usize>,
    words: String,
}

/// What is known of a text once it has been inspected.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The first statement that is refused whatever a route allows.
    breach: Option<Breach>,
    /// The first that is refused where a route does not allow to notify.
    notifies: Option<Breach>,
    /// Functions that are none of PostgreSQL's own, each as the text calls it, and where its statement begins.
    calls: Vec<(Box<str>, usize)>,
    /// There are more of them.
    calls_more: bool,
    edits: Vec<Edit>,
    /// With another number in it, the text might be refused.
    by_number: bool,
    strict: conduct::Strict,
}

impl Verdict {
    /// Of a text that is refused as a whole.
    pub fn refused(rule: Rule, what: impl Into<Cow<'static, str>>) -> Self {
        let what = match what.into() {
            Cow::Owned(long) => Cow::Owned(long.chars().take(LONGEST).collect()),
            short => short,
        };
        Self { breach: Some(Breach { rule, what, at: 0 }), ..Self::default() }
    }

    /// Of a text without effects: one that has no statement, or one that runs in a transaction.
    pub(super) fn plain(is_empty: bool) -> Self {
        let conduct = (!is_empty).then_some(Conduct::Inside);
        Self { strict: conduct::Strict { conduct, ..conduct::Strict::default() }, ..Self::default() }
    }

    /// Whether every route may send the text as it is.
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::plain(false)
    }

    /// Whether it is the same with another comment behind the text. The proxy's own words are told by theirs, and what is
    /// to be sent in other words may reach to the end.
    pub(super) fn holds_for_any_end(&self) -> bool {
        let conduct::Strict { conduct, names, end } = &self.strict;
        *conduct == Some(Conduct::Inside) && self.edits.is_empty() && names.is_empty() && end.is_none()
    }

    /// The first statement that a route refuses which allows so much. `functions` are the only ones of the database's
    /// own that may be called.
    pub fn breach(&self, allow_notify: bool, functions: Option<&[String]>) -> Option<Cow<'_, Breach>> {
        let is_listed = |call: &str| functions.is_none_or(|listed| listed.iter().any(|name| name == call));
        let unlisted = self.calls.iter().find(|(call, _)| !is_listed(call));
        let unlisted = unlisted.map(|(call, at)| (format!("{call}()"), *at));
        let more = (self.calls_more && functions.is_some()).then(|| ("so many functions".to_owned(), 0));
        let unlisted = unlisted
            .or(more)
            .map(|(what, at)| Cow::Owned(Breach { rule: Rule::Unlisted, what: what.into(), at }));
        let notifies = self.notifies.as_ref().filter(|_| !allow_notify);
        let fixed = self.breach.iter().chain(notifies).map(Cow::Borrowed);
        fixed.chain(unlisted).min_by_key(|breach| breach.at)
    }

    /// The text up to `end`, in the words in which it is to be sent; `None` if they are its own.
    pub fn reword(&self, text: &[u8], end: usize) -> Option<Vec<u8>> {
        apply(self.edits.iter().filter(|edit| edit.place.end <= end), text, end)
    }

    /// How it is carried out where transactions are the proxy's own.
    pub fn conduct(&self) -> Conduct {
        if self.breach.is_some() {
            return Conduct::Refused("what is refused anyway");
        }
        self.strict.conduct.unwrap_or(Conduct::Bare { lasts: false })
    }

    /// [`Self::reword`] of the whole text where transactions are the proxy's own: PostgreSQL's own functions are called
    /// by their whole names, and COMMIT becomes ROLLBACK.
    pub fn reword_strictly(&self, text: &[u8]) -> Option<Vec<u8>> {
        let strict = &self.strict;
        let mut edits: Vec<_> = self.edits.iter().chain(&strict.names).chain(&strict.end).collect();
        edits.sort_by_key(|edit| edit.place.start);
        apply(edits.into_iter(), text, text.len())
    }
}

/// The text up to `end` with other words in it; `None` if there are none.
fn apply<'e>(edits: impl Iterator<Item = &'e Edit>, text: &[u8], end: usize) -> Option<Vec<u8>> {
    let mut words = Vec::new();
    let mut done = 0;
    for Edit { place, words: instead } in edits {
        words.extend_from_slice(text.get(done..place.start)?);
        words.extend_from_slice(instead.as_bytes());
        done = place.end;
    }
    if done == 0 {
        return None;
    }
    words.extend_from_slice(text.get(done..end)?);
    Some(words)
}

/// Inspects the statements of a text.
pub(super) fn inspect<'t>(
    text: &'t str,
    statements: impl Iterator<Item = &'t nodes::RawStmt>,
    letters: Letters,
) -> Verdict {
    let mut inspector = Inspector { text, ..Inspector::default() };
    for raw in statements {
        let start = usize::try_from(raw.stmt_location).unwrap_or(0).min(text.len());
        let length = usize::try_from(raw.stmt_len).unwrap_or(0);
        let end = if length == 0 { text.len() } else { text.len().min(start + length) };
        // With letters that stand in for others, places are not those of the client's text.
        inspector.place = if letters == Letters::StandIns { None } else { Some(start..end) };
        inspector.sets_session = false;
        inspector.statement(raw.stmt(), true);
        inspector.drain();
        inspector.conducts(raw.stmt());
    }
    inspector.verdict
}

/// Walks over statements and gathers what is to be said of them.
#[derive(Default)]
struct Inspector<'t> {
    text: &'t str,
    verdict: Verdict,
    /// Where the statement stands, if that is known.
    place: Option<Range<usize>>,
    /// It calls `set_config` for longer than its transaction.
    sets_session: bool,
    /// What is still to be looked at, and whether it runs, or is only explained. In a list and not on the stack, because
    /// a sum of ten thousand numbers is a tree ten thousand levels deep.
    open: Vec<(Node<'t>, bool)>,
}

impl<'t> Inspector<'t> {
    fn at(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.start)
    }

    /// The first breach stays.
    fn refuse(&mut self, rule: Rule, what: impl Into<Cow<'static, str>>) {
        let at = self.at();
        self.verdict.breach.get_or_insert_with(|| Breach { rule, what: what.into(), at });
    }

    fn notifies(&mut self, what: &'static str) {
        let at = self.at();
        self.verdict.notifies.get_or_insert_with(|| Breach { rule: Rule::Notify, what: what.into(), at });
    }

    /// A function is called that is none of PostgreSQL's own.
    fn calls(&mut self, name: String) {
        if self.verdict.calls.iter().any(|(known, _)| **known == *name) {
        } else if self.verdict.calls.len() < MOST_CALLS {
            let at = self.at();
            self.verdict.calls.push((name.into(), at));
        } else {
            self.verdict.calls_more = true;
        }
    }

    /// The statement is to be sent in these words.
    fn say(&mut self, words: String) {
        match self.place.clone() {
            Some(place) => self.verdict.edits.push(Edit { place, words }),
            None => self.refuse(Rule::Mode, "READ WRITE"),
        }
    }

    fn push(&mut self, node: Node<'t>, runs: bool) {
        self.open.push((node, runs));
    }

    fn extend(&mut self, nodes: impl IntoIterator<Item = Node<'t>>, runs: bool) {
        self.open.extend(nodes.into_iter().map(|node| (node, runs)));
    }
}
