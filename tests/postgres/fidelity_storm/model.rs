//! What PostgreSQL keeps for a session, as far as the storm touches it: what a client must find after every step.
//!
//! Three kinds of state follow three rules. Settings, temporary tables, notifications and the locks of transactions
//! are undone with their transaction or savepoint: [`Undone`] is copied whole when one begins. Statements and the locks
//! of sessions are kept whatever happens. Cursors go with the transaction that declares them if it fails, but what was
//! fetched from them stays fetched.

use std::collections::{BTreeMap, BTreeSet};

/// What is set, by the number under which [`Model`] keeps it.
pub const SETTINGS: [&str; 9] = [
    "work_mem",
    "search_path",
    "TimeZone",
    "DateStyle",
    "statement_timeout",
    "application_name",
    "app.tenant",
    "app.user",
    "role",
];
pub const SEARCH_PATH: usize = 1;
pub const ROLE: usize = 8;

/// Those of which PostgreSQL tells its clients in ParameterStatus.
pub const REPORTED: [usize; 3] = [2, 3, 5];

/// A setting has a value for the session, and perhaps another until the transaction ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub session: String,
    pub local: Option<String>,
}

/// A temporary table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temp {
    pub content: String,
    pub on_commit_drop: bool,
}

/// LISTEN and UNLISTEN do nothing before the transaction commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Listen(String),
    Unlisten(String),
    UnlistenAll,
}

/// What is undone when a transaction is.
#[derive(Debug, Clone)]
pub struct Undone {
    pub settings: Vec<Setting>,
    pub temps: BTreeMap<&'static str, Temp>,
    pub transaction_locks: BTreeSet<u32>,
    pub wishes: Vec<Wish>,
    /// Channel and payload of NOTIFY.
    pub notices: Vec<(String, String)>,
    /// Rows of the shared table that are this client's.
    pub rows: usize,
}

/// A prepared statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub from_sql: bool,
    pub kind: usize,
}

/// A cursor WITH HOLD of five rows.
#[derive(Debug, Clone)]
pub struct Cursor {
    pub content: String,
    pub fetched: usize,
    /// How deep in transactions it was declared; 0 once it is held.
    level: usize,
}

/// A transaction or a savepoint.
#[derive(Debug)]
struct Level {
    name: &'static str,
    before: Undone,
}

/// A session.
#[derive(Debug)]
pub struct Model {
    startup: Vec<String>,
    pub now: Undone,
    levels: Vec<Level>,
    pub failed: bool,
    pub statements: BTreeMap<&'static str, Statement>,
    /// Locks of the session, with how often each was taken.
    pub locks: BTreeMap<u32, usize>,
    pub cursors: BTreeMap<&'static str, Cursor>,
    /// What it listens on.
    pub channels: BTreeSet<String>,
}

impl Model {
    /// A new session with these settings.
    pub fn new(startup: Vec<String>) -> Self {
        let settings = startup.iter().map(|value| Setting { session: value.clone(), local: None }).collect();
        Self {
            startup,
            now: Undone {
                settings,
                temps: BTreeMap::new(),
                transaction_locks: BTreeSet::new(),
                wishes: Vec::new(),
                notices: Vec::new(),
                rows: 0,
            },
            levels: Vec::new(),
            failed: false,
            statements: BTreeMap::new(),
            locks: BTreeMap::new(),
            cursors: BTreeMap::new(),
            channels: BTreeSet::new(),
        }
    }

    /// As in ReadyForQuery.
    pub fn status(&self) -> char {
        match (self.levels.is_empty(), self.failed) {
            (true, _) => 'I',
            (false, false) => 'T',
            (false, true) => 'E',
        }
    }

    pub fn in_transaction(&self) -> bool {
        !self.levels.is_empty()
    }

    /// The value in force.
    pub fn value(&self, setting: usize) -> &str {
        let Setting { session, local } = &self.now.settings[setting];
        local.as_ref().unwrap_or(session)
    }

    /// The schema in which an unqualified name is found.
    pub fn schema(&self) -> &str {
        self.value(SEARCH_PATH).split(',').next().unwrap_or_default().trim()
    }

    /// Whether it keeps anything that belongs to one server process.
    pub fn pinned(&self) -> bool {
        let sql = self.statements.values().any(|statement| statement.from_sql);
        sql || !(self.now.temps.is_empty() && self.locks.is_empty() && self.cursors.is_empty())
    }

    /// SET, or SET LOCAL, which does nothing outside a transaction.
    pub fn set(&mut self, setting: usize, value: &str, local: bool) {
        let in_transaction = self.in_transaction();
        let setting = &mut self.now.settings[setting];
        match local {
            true if in_transaction => setting.local = Some(value.to_owned()),
            true => {}
            false => *setting = Setting { session: value.to_owned(), local: None },
        }
    }

    /// RESET
    pub fn reset(&mut self, setting: usize) {
        let value = self.startup[setting].clone();
        self.set(setting, &value, false);
    }

    /// RESET ALL, which leaves the role alone.
    pub fn reset_all(&mut self) {
        (0..SETTINGS.len()).filter(|&setting| setting != ROLE).for_each(|setting| self.reset(setting));
    }

    /// DISCARD ALL
    pub fn discard_all(&mut self) {
        let rows = self.now.rows;
        *self = Self::new(std::mem::take(&mut self.startup));
        self.now.rows = rows;
    }

    /// BEGIN
    pub fn begin(&mut self) {
        self.savepoint("");
    }

    /// SAVEPOINT
    pub fn savepoint(&mut self, name: &'static str) {
        self.levels.push(Level { name, before: self.now.clone() });
    }

    /// Those that can be named, the last one last.
    pub fn savepoints(&self) -> Vec<&'static str> {
        self.levels.iter().skip(1).map(|level| level.name).collect()
    }

    fn depth_of(&self, name: &str) -> usize {
        self.levels.iter().rposition(|level| level.name == name).expect("an open savepoint") + 1
    }

    /// RELEASE
    pub fn release(&mut self, name: &'static str) {
        let depth = self.depth_of(name);
        self.levels.truncate(depth - 1);
        self.cursors.values_mut().for_each(|cursor| cursor.level = cursor.level.min(depth - 1));
    }

    /// ROLLBACK TO
    pub fn rollback_to(&mut self, name: &'static str) {
        let depth = self.depth_of(name);
        self.levels.truncate(depth);
        self.undo();
        self.failed = false;
    }

    /// An error: PostgreSQL undoes at once what the innermost savepoint would.
    pub fn fail(&mut self) {
        if self.in_transaction() && !self.failed {
            self.undo();
            self.failed = true;
        }
    }

    fn undo(&mut self) {
        let depth = self.levels.len();
        if let Some(level) = self.levels.last() {
            self.now = level.before.clone();
        }
        self.cursors.retain(|_, cursor| cursor.level < depth);
    }

    /// COMMIT
    pub fn commit(&mut self) {
        if self.failed {
            return self.rollback();
        }
        self.levels.clear();
        self.now.notices.clear();
        self.settle();
    }

    /// What the end of a transaction does, a statement's of its own as well.
    pub fn settle(&mut self) {
        self.now.settings.iter_mut().for_each(|setting| setting.local = None);
        self.now.temps.retain(|_, temp| !temp.on_commit_drop);
        self.now.transaction_locks.clear();
        self.cursors.values_mut().for_each(|cursor| cursor.level = 0);
        for wish in std::mem::take(&mut self.now.wishes) {
            match wish {
                Wish::Listen(channel) => {
                    self.channels.insert(channel);
                }
                Wish::Unlisten(channel) => {
                    self.channels.remove(&channel);
                }
                Wish::UnlistenAll => self.channels.clear(),
            }
        }
    }

    /// ROLLBACK
    pub fn rollback(&mut self) {
        self.levels.truncate(1);
        self.undo();
        self.levels.clear();
        self.failed = false;
    }

    /// DECLARE
    pub fn declare(&mut self, name: &'static str, content: String) {
        self.cursors.insert(name, Cursor { content, fetched: 0, level: self.levels.len() });
    }

    /// What [`super::client::STATE`] must answer; `user` is who logged in.
    pub fn state(&self, user: &str) -> Vec<(&'static str, String)> {
        let mut state: Vec<_> =
            (0..ROLE).map(|setting| (SETTINGS[setting], self.value(setting).to_owned())).collect();
        let role = match self.value(ROLE) {
            "none" => user,
            role => role,
        };
        let locks: BTreeSet<_> = self.locks.keys().chain(&self.now.transaction_locks).collect();
        let sql = self.statements.iter().filter(|(_, statement)| statement.from_sql).map(|(name, _)| *name);
        state.extend([
            ("current_user", role.to_owned()),
            ("whoami", self.schema().to_owned()),
            ("SQL statements", list(sql)),
            ("advisory locks", list(locks)),
            ("cursors with hold", list(self.cursors.keys())),
            ("temporary tables", list(self.now.temps.keys())),
            ("channels", list(&self.channels)),
        ]);
        state
    }
}

fn list<T: ToString>(of: impl IntoIterator<Item = T>) -> String {
    of.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}
