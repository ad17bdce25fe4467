//! What a catalogue said, and what it means for the sessions of one path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::path;
use crate::metrics::roster::{NONE, OTHER, Roster};
use crate::statement::{Name, Schemas, Sort};

/// What is looked through before the path, unless it is in it.
const IMPLICIT: &str = "pg_catalog";

/// The path of a session that nobody has set another one for.
const PATH: &str = "\"$user\", public";

/// What a catalogue says.
#[derive(Debug, Default)]
pub struct Reading {
    schemas: Vec<Box<str>>,
    names: Vec<(Name, u16)>,
    /// Roles with a path of their own.
    paths: Vec<(String, String)>,
    /// That of all others.
    path: Option<String>,
    /// When the server was started, in milliseconds of Unix time.
    pub started: Option<u64>,
}

impl Reading {
    /// One more schema. Its number, in their order.
    pub fn schema(&mut self, name: &str) -> Option<u16> {
        let number = u16::try_from(self.schemas.len()).ok()?;
        self.schemas.push(name.into());
        Some(number)
    }

    /// Something that is in a schema.
    pub fn name(&mut self, schema: u16, sort: Sort, name: &str) {
        self.names.push((Name::new(sort, name), schema));
    }

    /// The path of a role; the first that is told counts. Without a role, that of all who have none of their own.
    pub fn path(&mut self, role: Option<&str>, path: &str) {
        match role {
            None => drop(self.path.get_or_insert_with(|| path.to_owned())),
            Some(role) if self.paths.iter().all(|(known, _)| known != role) => {
                self.paths.push((role.to_owned(), path.to_owned()));
            }
            Some(_) => {}
        }
    }
}

/// What a catalogue said at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The number of each schema in the roster.
    numbers: Vec<u32>,
    /// Where each stands, by the hash of its name.
    by_name: Vec<(Name, u16)>,
    /// Which name is in which schemas, by the names.
    names: Vec<(Name, u16)>,
    paths: Vec<(String, String)>,
    path: String,
    /// The catalogue was asked: what it does not say is not there.
    asked: bool,
}

impl Snapshot {
    /// Before the catalogue was asked: only schemas that have a number are known.
    pub(super) fn unasked(roster: &Roster) -> Self {
        let mut reading = Reading::default();
        let names = roster.names();
        for name in names.iter().skip(OTHER as usize + 1) {
            let _number = reading.schema(name);
        }
        Self { asked: false, ..Self::new(reading, roster) }
    }

    pub(super) fn new(reading: Reading, roster: &Roster) -> Self {
        let Reading { schemas, mut names, paths, path, started: _ } = reading;
        let numbers = schemas.iter().map(|name| roster.number(name)).collect();
        let place = |place: usize| u16::try_from(place).unwrap_or(u16::MAX);
        let mut by_name: Vec<_> = schemas
            .iter()
            .enumerate()
            .map(|(number, name)| (Name::new(Sort::Schema, name), place(number)))
            .collect();
        by_name.sort_unstable();
        names.sort_unstable();
        names.dedup();
        let path = path.unwrap_or_else(|| PATH.to_owned());
        Self { numbers, by_name, names, paths, path, asked: true }
    }

    /// How many names are known.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn place(&self, name: Name) -> Option<u16> {
        let found = self.by_name.binary_search_by_key(&name, |(known, _)| *known).ok()?;
        Some(self.by_name[found].1)
    }

    fn bit(&self, schema: u16) -> Schemas {
        1 << self.numbers.get(usize::from(schema)).map_or(OTHER, |number| *number)
    }

    /// The schemas that have a name.
    fn having(&self, name: Name) -> impl Iterator<Item = u16> {
        let from = self.names.partition_point(|(known, _)| *known < name);
        self.names[from..].iter().take_while(move |(known, _)| *known == name).map(|(_, schema)| *schema)
    }
}

/// What a snapshot means for sessions that have the same path.
#[derive(Debug)]
pub struct View {
    /// No other view of the process has the same, and none has 0.
    key: u64,
    snapshot: Arc<Snapshot>,
    /// The schemas that are there, in the order in which they are looked through.
    path: Vec<u16>,
    /// Where something is made that says no schema.
    current: Option<u16>,
    /// The path is not known.
    blind: bool,
}

static KEYS: AtomicU64 = AtomicU64::new(1);

impl View {
    /// For a role, `user` at login, with this `search_path`; without one, with that of its defaults.
    pub fn new(snapshot: Arc<Snapshot>, user: &str, role: &str, path: Option<&str>) -> Self {
        let own = snapshot.paths.iter().find(|(known, _)| known == user).map(|(_, path)| path.as_str());
        let path = path.or(own).unwrap_or(&snapshot.path);
        let names = path::split(path);
        let named = names.iter().map(|name| if name == "$user" { role } else { name });
        let places: Vec<u16> =
            named.filter_map(|name| snapshot.place(Name::new(Sort::Schema, name))).collect();
        let current = places.first().copied();
        let implicit = snapshot.place(Name::new(Sort::Schema, IMPLICIT));
        let implicit = implicit.filter(|implicit| !places.contains(implicit));
        let path = implicit.into_iter().chain(places).collect();
        Self { key: KEYS.fetch_add(1, Ordering::Relaxed), snapshot, path, current, blind: false }
    }

    /// For whoever has a path that nobody knows: only qualified names can be told.
    pub fn blind(snapshot: Arc<Snapshot>) -> Self {
        let (path, current) = (Vec::new(), None);
        Self { key: KEYS.fetch_add(1, Ordering::Relaxed), snapshot, path, current, blind: true }
    }

    /// What tells it from every other one.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The snapshot that it is of.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The schemas of these names. The second value says whether the catalogue should have known one of them: it may be
    /// older than what the client made.
    pub fn resolve(&self, names: &[Name]) -> (Schemas, bool) {
        let (mut schemas, mut missed) = (0, false);
        for name in names {
            let (bit, known) = self.schema_of(*name);
            schemas |= bit;
            missed |= !known && self.snapshot.asked;
        }
        (if schemas == 0 { 1 << NONE } else { schemas }, missed)
    }

    fn schema_of(&self, name: Name) -> (Schemas, bool) {
        let snapshot = &*self.snapshot;
        match name.sort() {
            Sort::Schema => match snapshot.place(name) {
                Some(schema) => (snapshot.bit(schema), true),
                None => (if snapshot.asked { 1 << OTHER } else { 0 }, false),
            },
            Sort::Created => (self.current.map_or(0, |schema| snapshot.bit(schema)), true),
            sort => {
                let found =
                    self.path.iter().find(|schema| snapshot.having(name).any(|having| having == **schema));
                // Functions and types that are in no schema of the path are PostgreSQL's own, most of the time.
                let known = found.is_some() || self.blind || sort != Sort::Relation;
                (found.map_or(0, |schema| snapshot.bit(*schema)), known)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Dialect, judge};

    fn snapshot(roster: &Roster) -> Arc<Snapshot> {
        let mut reading = Reading::default();
        let mut schemas = Vec::new();
        for name in ["pg_catalog", "public", "wm", "entity", "alice"] {
            schemas.push(reading.schema(name).unwrap());
        }
        for (schema, name) in [(0, "pg_class"), (2, "t"), (3, "t"), (3, "node"), (4, "mine")] {
            reading.name(schemas[schema], Sort::Relation, name);
        }
        reading.name(schemas[3], Sort::Function, "search");
        reading.name(schemas[2], Sort::Type, "kind");
        reading.path(Some("reader"), "entity, wm");
        reading.path(None, "\"$user\", wm");
        reading.path(None, "not this one");
        Arc::new(Snapshot::new(reading, roster))
    }

    /// The schemas of the text's statements, in words.
    fn schemas(roster: &Roster, view: &View, sql: &str) -> String {
        let facts = judge(sql.as_bytes(), Dialect::default());
        let statement = facts.named().statement(0).unwrap();
        let schemas = view.resolve(facts.named().names(statement)).0;
        let names = roster.names();
        let named = names.iter().enumerate().filter(|(number, _)| schemas & 1 << number != 0);
        named.map(|(_, name)| &**name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_name_is_in_the_first_schema_of_the_path_that_has_it() {
        let roster = Roster::new(&[], 10);
        let snapshot = snapshot(&roster);
        for (user, path, sql, expected) in [
            ("bob", Some("wm, entity"), "TABLE t", "wm"),
            ("bob", Some("entity, wm"), "TABLE t", "entity"),
            ("bob", Some("wm"), "TABLE node", "none"),
            ("bob", Some("wm, entity"), "SELECT * FROM t, node, public.x", "public wm entity"),
            ("bob", None, "TABLE t", "wm"),
            ("reader", None, "TABLE t", "entity"),
            ("alice", None, "TABLE mine", "alice"),
            ("bob", None, "TABLE mine", "none"),
            ("bob", Some("wm"), "TABLE pg_class", "pg_catalog"),
            ("bob", Some("wm"), "SELECT search(1)", "none"),
            ("bob", Some("wm,entity"), "SELECT search(1), count(*), now()", "entity"),
            ("bob", Some("nowhere, entity, wm"), "CREATE TABLE fresh (a kind)", "wm entity"),
            ("bob", Some("nowhere"), "CREATE TABLE fresh ()", "none"),
            ("bob", Some("wm"), "SELECT 1", "none"),
            ("bob", Some("wm"), "TABLE unheard.of", "other"),
            ("bob", Some("wm"), "TABLE information_schema.tables", "other"),
        ] {
            let view = View::new(Arc::clone(&snapshot), user, user, path);
            assert_eq!(schemas(&roster, &view, sql), expected, "{user} {path:?} {sql}");
        }
        let blind = View::blind(snapshot);
        assert_eq!(schemas(&roster, &blind, "SELECT * FROM t, wm.u"), "wm");
    }

    #[test]
    fn what_the_catalogue_should_have_known_is_a_reason_to_ask_it_again() {
        let roster = Roster::new(&["wm".into()], 10);
        let missed = |snapshot: &Arc<Snapshot>, sql: &str| {
            let view = View::new(Arc::clone(snapshot), "bob", "bob", Some("wm"));
            let facts = judge(sql.as_bytes(), Dialect::default());
            view.resolve(facts.named().names(facts.named().statement(0).unwrap())).1
        };
        let snapshot = snapshot(&roster);
        for (sql, expected) in [
            ("TABLE t", false),
            ("TABLE wm.t", false),
            ("TABLE fresh", true),
            ("TABLE fresh.t", true),
            ("SELECT f()", false),
            ("CREATE TABLE fresh ()", false),
        ] {
            assert_eq!(missed(&snapshot, sql), expected, "{sql}");
        }
        let unasked = Arc::new(Snapshot::unasked(&roster));
        assert!(!missed(&unasked, "TABLE fresh.t") && !missed(&unasked, "TABLE fresh"));
        let view = View::new(unasked, "bob", "bob", None);
        assert_eq!(schemas(&roster, &view, "SELECT * FROM wm.t, pg_catalog.pg_class, x.y"), "pg_catalog wm");
    }

    #[test]
    fn schemas_beyond_the_limit_are_others() {
        let roster = Roster::new(&["entity".into()], 2);
        let view = View::new(snapshot(&roster), "bob", "bob", None);
        let shown = schemas(&roster, &view, "SELECT * FROM entity.t, public.t, wm.t, alice.t");
        assert_eq!(shown, "other entity public");
    }
}
