//! The only door to libpg_query, and what is refused in front of it.
//!
//! The grammar is compiled in as PostgreSQL 18 has it, and reads UTF-8 with standard strings. So a text comes here only
//! if the server will find the same tokens in it.

use std::borrow::Cow;
use std::panic::catch_unwind;

use pg_raw_parse::Node;
use pg_raw_parse::raw::ConstrType;

use super::dialect::{Dialect, Encoding};
use super::effects::{Findings, Letters};
use super::facts::Facts;
use super::verdict::{self, Verdict};
use crate::rule::Rule;

/// Bytes of a text that is read at all. What is longer is data more than SQL, and takes milliseconds.
const LONGEST: usize = 64 * 1024;

/// The same where what cannot be read is refused.
const LONGEST_GUARDED: usize = 256 * 1024;

/// Bytes of stack that a thread needs to judge whatever it is given. The grammar's own helpers call themselves for each
/// operand of `1+1+1...` where they look for the place of a clause that must not be there twice: 200 bytes for each two of
/// the text, without optimization. Memory that is not used costs nothing.
pub const STACK: usize = 64 << 20;

/// Comments in a text. The lexer calls itself at each that follows another, so thousands would use up the stack.
const MOST_COMMENTS: usize = 500;

/// Stands for a byte of a character whose encoding is not UTF-8: to the lexer, a letter like it, and no ASCII one, so
/// that it never makes a keyword.
pub(super) const STAND_IN: char = '\u{ff}';

/// Judges a text (without its final NUL). Never panics, whatever the bytes.
pub fn judge(text: &[u8], dialect: Dialect) -> Facts {
    let Some((text, letters)) = readable(text, dialect, LONGEST) else { return Facts::unknown() };
    // What the tree holds is PostgreSQL's matter, and a surprise in it must cost one pin, not a worker.
    let tree = || pg_raw_parse::parse(&text).ok().map(|tree| facts(&tree, letters));
    catch_unwind(tree).ok().flatten().unwrap_or_else(Facts::unknown)
}

/// [`judge`] with a [`Verdict`]. What cannot be read is refused.
pub fn judge_guarded(text: &[u8], dialect: Dialect) -> Facts {
    let unread = |what: &'static str| Facts::unknown().guarded(Verdict::refused(Rule::Unread, what));
    let Some((text, letters)) = readable(text, dialect, LONGEST_GUARDED) else {
        return unread("a text that cannot be read as the server would read it");
    };
    let judged = catch_unwind(|| match pg_raw_parse::parse(&text) {
        Ok(tree) => {
            let verdict = verdict::inspect(&text, tree.iter(), letters);
            facts(&tree, letters).guarded(verdict)
        }
        Err(pg_raw_parse::Error::Parse(error)) => {
            Facts::unknown().guarded(Verdict::refused(Rule::Syntax, error.to_string()))
        }
        Err(_) => unread("a text that cannot be read"),
    });
    judged.unwrap_or_else(|_| unread("a text with something that is not known in it"))
}

/// Whether a text of that length is refused unread.
pub(super) fn is_too_long(text: &[u8], guarded: bool) -> bool {
    text.len() > if guarded { LONGEST_GUARDED } else { LONGEST }
}

/// Whether the facts of a text depend on the dialect.
pub(super) fn depends_on_dialect(text: &[u8]) -> bool {
    text.iter().any(|byte| !byte.is_ascii() || *byte == b'\\')
}

/// The text as the grammar reads it.
fn readable(text: &[u8], dialect: Dialect, longest: usize) -> Option<(Cow<'_, str>, Letters)> {
    if text.len() > longest || text.contains(&0) || has_many_comments(text) {
        return None;
    }
    if !dialect.standard_conforming_strings && text.contains(&b'\\') {
        return None;
    }
    match dialect.encoding {
        _ if text.is_ascii() => Some((Cow::Borrowed(std::str::from_utf8(text).ok()?), Letters::Ascii)),
        Encoding::Utf8 => Some((Cow::Borrowed(std::str::from_utf8(text).ok()?), Letters::Utf8)),
        Encoding::AsciiSafe => {
            let stand_in = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { STAND_IN };
            Some((Cow::Owned(text.iter().map(stand_in).collect()), Letters::StandIns))
        }
        Encoding::Unsafe => None,
    }
}

/// Whether a text is refused unread because it may have that many. What looks like one in a string counts as well.
pub(super) fn has_many_comments(text: &[u8]) -> bool {
    let starts = || text.windows(2).filter(|pair| matches!(*pair, [b'-', b'-'] | [b'/', b'*'])).count();
    text.len() > 2 * MOST_COMMENTS && starts() > MOST_COMMENTS
}

fn facts(tree: &pg_raw_parse::StmtList, letters: Letters) -> Facts {
    let mut findings = Findings::new(letters);
    for statement in tree.stmts() {
        findings.defines |= defines(statement);
        findings.varies |= matches!(statement, Node::FetchStmt(_) | Node::ExecuteStmt(_));
        findings.statement(statement);
    }
    findings.facts(u32::try_from(tree.len()).unwrap_or(u32::MAX))
}

fn is_temporary(relation: Option<&pg_raw_parse::nodes::RangeVar>) -> bool {
    relation.is_some_and(|relation| relation.relpersistence.cast_unsigned() == b't')
}

/// Whether a statement makes or changes what runs when others are used. A table's defaults and checks count where they are
/// changed or are made with it.
fn defines(statement: Node<'_>) -> bool {
    let runs = |node: Node<'_>| {
        let kinds = [ConstrType::CONSTR_DEFAULT, ConstrType::CONSTR_CHECK, ConstrType::CONSTR_GENERATED];
        matches!(node, Node::Constraint(constraint) if kinds.contains(&constraint.contype))
    };
    match statement {
        Node::CreateStmt(create) if is_temporary(create.relation()) => false,
        Node::CreateStmt(create) => create.table_elts().iter().any(|element| match element {
            Node::ColumnDef(column) => column.constraints().iter().any(runs),
            element => runs(element),
        }),
        Node::CreateFunctionStmt(_)
        | Node::AlterFunctionStmt(_)
        | Node::CreateTrigStmt(_)
        | Node::CreateEventTrigStmt(_)
        | Node::AlterEventTrigStmt(_)
        | Node::ViewStmt(_)
        | Node::RuleStmt(_)
        | Node::CreatePolicyStmt(_)
        | Node::AlterPolicyStmt(_)
        | Node::DefineStmt(_)
        | Node::CreateCastStmt(_)
        | Node::CreateDomainStmt(_)
        | Node::AlterDomainStmt(_)
        | Node::AlterTableStmt(_)
        | Node::CreateExtensionStmt(_)
        | Node::AlterExtensionStmt(_)
        | Node::AlterObjectSchemaStmt(_)
        | Node::CreateSchemaStmt(_) => true,
        _ => false,
    }
}
