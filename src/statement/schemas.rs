//! Which relations, functions and, in DDL, types the statements of a text name, so that whoever knows the catalogue can
//! tell whose schemas they are. A qualified name needs no more than its schema; an unqualified one is looked for along
//! the session's path.
//!
//! Names are kept as hashes, and most texts need no allocation for theirs: they are gathered for every text, and read by
//! whoever counts.

use std::cell::Cell;
use std::sync::Arc;

use super::commands::Command;
use super::shape::Shape;
use crate::fnv::fnv1a;

/// What a [`Name`] stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// A schema that qualifies a name.
    Schema,
    /// A relation without its schema.
    Relation,
    /// A function without its schema that is none of PostgreSQL's own.
    Function,
    /// A type without its schema.
    Type,
    /// Something that is made without its schema: it will be in the first of the path.
    Created,
}

/// A name by its hash. Two names may have the same, which costs a statement that is counted under a schema too many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Debug)]
pub struct Name(u64);

/// Bits of a name's hash; what is left above tells its sort.
const BITS: u32 = 61;

impl Name {
    /// A name as the catalogue has it.
    pub fn new(sort: Sort, name: &str) -> Self {
        Self((sort as u64) << BITS | hash(name))
    }

    /// What it stands for.
    pub fn sort(self) -> Sort {
        match self.0 >> BITS {
            0 => Sort::Schema,
            1 => Sort::Relation,
            2 => Sort::Function,
            3 => Sort::Type,
            _ => Sort::Created,
        }
    }
}

fn hash(name: &str) -> u64 {
    fnv1a(name.as_bytes()) & ((1 << BITS) - 1)
}

/// Schemas, by numbers below 64 that whoever asks gives them.
pub type Schemas = u64;

/// One statement of a text.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Statement {
    /// What it is.
    pub command: Command,
    from: u32,
    to: u32,
    /// What its names came to, and for whom.
    resolved: Memo,
    shape: Option<Arc<Shape>>,
}

/// What was looked up before. It makes no difference between two statements, so that texts which differ in literals
/// share it.
#[derive(Clone, Default, Debug)]
struct Memo(Cell<(u64, Schemas)>);

impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Memo {}

impl Statement {
    /// The schemas that it names, as `resolve` has them. They are remembered for the last one who asked: `key` is another
    /// one for each catalogue and path, and never 0.
    pub fn schemas(&self, named: &Named, key: u64, resolve: impl FnOnce(&[Name]) -> Schemas) -> Schemas {
        let (known, schemas) = self.resolved.0.get();
        if known == key {
            return schemas;
        }
        let schemas = resolve(named.names(self));
        self.resolved.0.set((key, schemas));
        schemas
    }

    /// What it has in common with those that differ in literals only, if anybody wants to know.
    pub fn shape(&self) -> Option<&Arc<Shape>> {
        self.shape.as_ref()
    }

    /// Whether it names nothing.
    pub fn names_nothing(&self) -> bool {
        self.from == self.to
    }
}

/// What the statements of a text name.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Named {
    first: Statement,
    others: Box<[Statement]>,
    few: [Name; INLINE],
    many: Box<[Name]>,
}

/// Names of a text that are kept without an allocation.
const INLINE: usize = 4;

impl Named {
    /// The statement of that number, from 0 on. Those beyond the first [`MOST_STATEMENTS`] are not told apart.
    pub fn statement(&self, number: usize) -> Option<&Statement> {
        match number.checked_sub(1) {
            None => Some(&self.first),
            Some(other) => self.others.get(other),
        }
    }

    /// The names of one of its statements, each once.
    pub fn names(&self, statement: &Statement) -> &[Name] {
        let names = if self.many.is_empty() { &self.few[..] } else { &self.many };
        names.get(statement.from as usize..statement.to as usize).unwrap_or_default()
    }

    /// Statements that are told apart.
    pub fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// Never: a text without a statement has one that is [`Command::Unknown`].
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Gives its statements their shapes: each its own, or all the same.
    pub(super) fn shape(&mut self, shapes: &[Arc<Shape>]) {
        let same = (shapes.len() == 1).then(|| shapes.first()).flatten();
        let statements = std::iter::once(&mut self.first).chain(&mut self.others);
        for (number, statement) in statements.enumerate() {
            statement.shape = shapes.get(number).or(same).cloned();
        }
    }

    /// Of a text with a single statement that names nothing.
    pub(super) fn nothing(command: Command) -> Self {
        Self { first: Statement { command, ..Statement::default() }, ..Self::default() }
    }
}

/// Statements of a text that are told apart.
pub const MOST_STATEMENTS: usize = 64;

/// Names while they are gathered without an allocation, and names of a text at all.
const FEW: usize = 24;
const MOST: usize = 1_000;

/// Names on their way to be [`Named`].
pub(super) struct Gatherer {
    few: [Name; FEW],
    count: usize,
    more: Vec<Name>,
    /// Where the names of the statement at hand begin.
    from: usize,
    statements: usize,
    first: Statement,
    others: Vec<Statement>,
}

impl Gatherer {
    pub(super) fn new() -> Self {
        Self {
            few: [Name::default(); FEW],
            count: 0,
            more: Vec::new(),
            from: 0,
            statements: 0,
            first: Statement::default(),
            others: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.count + self.more.len()
    }

    pub(super) fn add(&mut self, name: Name) {
        let own = self.from.min(self.count)..self.count;
        if self.few[own].contains(&name) || self.more.last() == Some(&name) {
            return;
        }
        if let Some(place) = self.few.get_mut(self.count) {
            *place = name;
            self.count += 1;
        } else if self.more.len() < MOST {
            self.more.push(name);
        }
    }

    /// A name, behind its schema if it has one.
    pub(super) fn qualified(&mut self, sort: Sort, schema: Option<&str>, name: &str) {
        self.add(match schema {
            Some(schema) => Name::new(Sort::Schema, schema),
            None => Name::new(sort, name),
        });
    }

    /// Something that is made, behind its schema if it has one.
    pub(super) fn created(&mut self, schema: Option<&str>) {
        self.qualified(Sort::Created, schema, "");
    }

    /// Takes what another has gathered for the statement at hand.
    pub(super) fn take(&mut self, other: &Self) {
        other.few[..other.count].iter().chain(&other.more).for_each(|name| self.add(*name));
    }

    /// The statement at hand is at its end.
    pub(super) fn close(&mut self, command: Command) {
        let [from, to] = [self.from, self.len()].map(|at| u32::try_from(at).unwrap_or(u32::MAX));
        let statement = Statement { command, from, to, ..Statement::default() };
        match self.statements {
            0 => self.first = statement,
            1..MOST_STATEMENTS => self.others.push(statement),
            _ => {}
        }
        self.statements += 1;
        self.from = self.len();
    }

    pub(super) fn named(self) -> Named {
        let mut few = [Name::default(); INLINE];
        let mut many = Box::default();
        if self.len() <= INLINE {
            few[..self.count].copy_from_slice(&self.few[..self.count]);
        } else {
            many = self.few[..self.count].iter().chain(&self.more).copied().collect();
        }
        Named { first: self.first, others: self.others.into(), few, many }
    }
}

/// Names of WITH that are known without an allocation, and those of a text that are known at all: beyond them, they are
/// taken for relations.
const FEW_HIDING: usize = 8;
const MOST_HIDING: usize = 200;

/// The names of WITH, which hide relations. A scope is the number of the innermost of them, and each knows the next one
/// further out; 0 is none.
pub(super) struct Scopes {
    few: [(u64, u32); FEW_HIDING],
    count: usize,
    more: Vec<(u64, u32)>,
}

impl Scopes {
    pub(super) fn new() -> Self {
        Self { few: [(0, 0); FEW_HIDING], count: 0, more: Vec::new() }
    }

    /// The scope within `outer` that these names make.
    pub(super) fn enter<'n>(&mut self, outer: u32, names: impl Iterator<Item = &'n str>) -> u32 {
        let mut scope = outer;
        for name in names {
            let hiding = (hash(name), scope);
            if let Some(place) = self.few.get_mut(self.count) {
                *place = hiding;
                self.count += 1;
            } else if self.count + self.more.len() < MOST_HIDING {
                self.more.push(hiding);
            } else {
                break;
            }
            scope = (self.count + self.more.len()) as u32;
        }
        scope
    }

    /// The scope around this one.
    pub(super) fn around(&self, scope: u32) -> u32 {
        self.get(scope).map_or(0, |(_, outer)| outer)
    }

    fn get(&self, scope: u32) -> Option<(u64, u32)> {
        let place = (scope as usize).checked_sub(1)?;
        self.few[..self.count].get(place).or_else(|| self.more.get(place.checked_sub(FEW_HIDING)?)).copied()
    }

    /// Whether a relation of that name is one of WITH.
    pub(super) fn hides(&self, mut scope: u32, name: &str) -> bool {
        if scope == 0 {
            return false;
        }
        let name = hash(name);
        while let Some((hiding, outer)) = self.get(scope) {
            if hiding == name {
                return true;
            }
            scope = outer;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Dialect, judge};

    #[test]
    fn names_of_each_statement_are_its_own_and_each_once() {
        let mut gatherer = Gatherer::new();
        let relation = |number: usize| Name::new(Sort::Relation, &format!("t{number}"));
        for (count, command) in [(3, Command::Select), (0, Command::Transaction), (40, Command::Insert)] {
            for number in (0..count).chain(0..count.min(5)) {
                gatherer.add(relation(number));
            }
            gatherer.close(command);
        }
        let named = gatherer.named();
        let names = |number: usize| {
            let statement = named.statement(number).unwrap();
            (statement.command, named.names(statement).len())
        };
        assert_eq!([0, 1].map(names), [(Command::Select, 3), (Command::Transaction, 0)]);
        assert!(names(2).1 >= 40 && named.statement(2).unwrap().command == Command::Insert);
        assert_eq!((named.statement(3), named.len()), (None, 3));
    }

    #[test]
    fn what_names_came_to_is_remembered_for_the_last_who_asked() {
        let mut gatherer = Gatherer::new();
        gatherer.qualified(Sort::Relation, Some("wm"), "working_memory");
        gatherer.close(Command::Select);
        let named = gatherer.named();
        let statement = named.statement(0).unwrap();
        let (asked, answer) = (Cell::new(0), Cell::new(4));
        let ask = |key| {
            statement.schemas(&named, key, |names| {
                assert_eq!(names, [Name::new(Sort::Schema, "wm")]);
                asked.set(asked.get() + 1);
                answer.get()
            })
        };
        assert_eq!([ask(1), ask(1)], [4, 4]);
        answer.set(8);
        assert_eq!([ask(1), ask(2), ask(2)], [4, 8, 8]);
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn what_was_looked_up_makes_no_other_facts_of_a_text() {
        let facts = |sql: &str| judge(sql.as_bytes(), Dialect::default());
        let (first, second) =
            (facts("SELECT a FROM wm.t WHERE b = 1"), facts("SELECT a FROM wm.t WHERE b = 2"));
        let named = first.named();
        assert_eq!(named.statement(0).unwrap().schemas(named, 1, |_| 4), 4);
        assert_eq!(first, second);
        assert_ne!(first, facts("SELECT a FROM entity.t WHERE b = 1"));
    }

    #[test]
    fn a_sort_survives_its_name() {
        for sort in [Sort::Schema, Sort::Relation, Sort::Function, Sort::Type, Sort::Created] {
            assert_eq!(Name::new(sort, "a name of some length").sort(), sort);
        }
    }

    #[test]
    fn names_of_with_are_bounded() {
        let mut scopes = Scopes::new();
        let names: Vec<_> = (0..1_000).map(|number| format!("c{number}")).collect();
        let scope = scopes.enter(0, names.iter().map(String::as_str));
        assert!(scopes.hides(scope, "c0") && scopes.hides(scope, "c199") && !scopes.hides(scope, "c200"));
        assert!(!scopes.hides(0, "c0") && scopes.hides(1, "c0") && !scopes.hides(1, "c1"));
        assert_eq!(scopes.around(scope), scope - 1);
    }
}
