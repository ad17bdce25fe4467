//! What is known of a text once it has been read.

use std::sync::{Arc, LazyLock};

use super::body::Touch;
use super::commands::Command;
use super::schemas::Named;
use super::shape::Shape;
use super::verdict::{Conduct, Verdict};
use super::words::Words;
use crate::rule::Rule;

/// What a text of SQL does, as far as whoever carries it has to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// How many statements the text has; none where it is only blanks and comments, or [`Kind::Unknown`].
    pub statements: u32,
    /// Of its heaviest statement.
    pub kind: Kind,
    /// What it may leave behind.
    pub effects: Effects,
    words: Words,
    named: Named,
    path: Option<Box<str>>,
    plain: bool,
    long: bool,
    defines: bool,
    varies: bool,
    begins: bool,
    weighs: bool,
    guarded: Guarded,
}

/// Whether a text may run where nothing may be written.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Guarded {
    /// Nobody has asked: it may not.
    Unasked,
    /// It may, as it is.
    Plain,
    /// It depends.
    Told(Box<Verdict>),
}

impl Facts {
    pub(super) fn new(statements: u32, kind: Kind, effects: Effects) -> Self {
        let plain = effects == Effects::default();
        Self {
            statements,
            kind,
            effects,
            words: Words::default(),
            named: Named::nothing(command(kind)),
            path: None,
            plain,
            long: false,
            defines: false,
            varies: false,
            begins: false,
            weighs: false,
            guarded: Guarded::Unasked,
        }
    }

    pub(super) fn guarded(self, verdict: Verdict) -> Self {
        let guarded = if verdict.is_plain() { Guarded::Plain } else { Guarded::Told(Box::new(verdict)) };
        Self { guarded, ..self }
    }

    /// Whether the text may run where nothing may be written: at all, if the cache asks that of its texts. `None` is
    /// that it may, as it is.
    pub fn verdict(&self) -> Option<&Verdict> {
        static UNASKED: LazyLock<Verdict> =
            LazyLock::new(|| Verdict::refused(Rule::Unread, "a text that was not looked at"));
        match &self.guarded {
            Guarded::Unasked => Some(&UNASKED),
            Guarded::Plain => None,
            Guarded::Told(verdict) => Some(verdict),
        }
    }

    /// How it is carried out where transactions are the proxy's own.
    pub fn conduct(&self) -> Conduct {
        self.verdict().map_or(Conduct::Inside, Verdict::conduct)
    }

    pub(super) fn defining(self, defines: bool) -> Self {
        Self { defines, ..self }
    }

    pub(super) fn using(self, words: Words) -> Self {
        Self { words, ..self }
    }

    pub(super) fn naming(self, named: Named, path: Option<Box<str>>) -> Self {
        Self { named, path, ..self }
    }

    /// Gives its statements their shapes.
    pub(super) fn shaped(mut self, shapes: &[Arc<Shape>]) -> Self {
        self.named.shape(shapes);
        self
    }

    /// Whether the `search_path` of the session, or who looks along it, may be another one afterwards, be it only until
    /// the end of the transaction.
    pub fn changes_path(&self) -> bool {
        let touches = |touched: &Touched| match touched {
            Touched::None => false,
            Touched::Any => true,
            Touched::Names(names) => names.iter().any(|name| matches!(&**name, "search_path" | "role")),
        };
        let Effects { settings, local_settings, .. } = &self.effects;
        touches(settings) || touches(local_settings)
    }

    /// The `search_path` that it sets last, if it says so itself.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// What its statements are, and what they name.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// The names that it uses. Those of DDL are not all there: it may use any.
    pub fn words(&self) -> &Words {
        &self.words
    }

    pub(super) fn varying(self, varies: bool) -> Self {
        Self { varies, ..self }
    }

    pub(super) fn beginning(self, begins: bool) -> Self {
        Self { begins, ..self }
    }

    /// Whether a transaction block is begun that does not end in the same text, if nothing fails.
    pub fn begins_block(&self) -> bool {
        self.begins
    }

    /// Whether it depends on what the session holds which columns the result has: FETCH and EXECUTE.
    pub fn result_varies(&self) -> bool {
        self.varies
    }

    /// Whether functions, triggers, views, rules, defaults or the like are made or changed: what runs when other
    /// statements use them.
    pub fn defines(&self) -> bool {
        self.defines
    }

    /// Of a text that is too long to be read.
    pub fn too_long() -> Self {
        Self { long: true, ..Self::unknown() }
    }

    /// Whether nobody has looked at the text, because it is too long.
    pub fn is_too_long(&self) -> bool {
        self.long
    }

    /// Of a text that cannot be read: it may do anything.
    pub fn unknown() -> Self {
        let effects = Effects {
            suspects: States::ALL,
            releases: true,
            settings: Touched::Any,
            local_settings: Touched::Any,
            pin: Some(Pin::Opaque),
            reads_sequence: true,
            transaction_control: true,
            calls_unknown: true,
            ..Effects::default()
        };
        Self::new(0, Kind::Unknown, effects).using(Words::any())
    }

    /// Whether any text has the same facts that differs from this one in whole numbers only. Numbers decide about options
    /// of EXPLAIN and other utilities, about the values of settings, and about arguments that a rule looks at. So there may
    /// be nothing in it but a query or a change of rows, of which nothing at all has to be known.
    pub(super) fn hold_for_any_number(&self) -> bool {
        let command = self.named.statement(0).map(|statement| statement.command);
        let rows = [Command::Select, Command::Insert, Command::Update, Command::Delete, Command::Merge];
        let told = matches!(self.guarded, Guarded::Told(_));
        self.statements == 1
            && command.is_some_and(|command| rows.contains(&command))
            && self.plain
            && !(told || self.defines || self.varies || self.begins)
            && self.path.is_none()
    }

    pub(super) fn weighing(self, weighs: bool) -> Self {
        Self { weighs, ..self }
    }

    /// The same of texts that differ from this one in plain strings as well. In a query or a change of rows of which nothing
    /// has to be known, strings decide only what the arguments of some functions do, and none of those may be called.
    pub(super) fn hold_for_any_string(&self) -> bool {
        self.hold_for_any_number() && !self.weighs
    }

    /// Whether any text has the same facts that is this one with comments at its ends, as `comments` has them. `moved` says
    /// that there is one in front: then the places are others that a verdict has. Where a text that cannot be read ends is
    /// not known.
    pub(super) fn hold_for_any_comment(&self, moved: bool) -> bool {
        let told = match &self.guarded {
            Guarded::Told(verdict) => moved || !verdict.holds_for_any_end(),
            Guarded::Unasked | Guarded::Plain => false,
        };
        self.kind != Kind::Unknown && !told
    }

    /// Whether there is no effect at all: whoever carries the text has nothing to do.
    pub fn is_plain(&self) -> bool {
        self.plain
    }
}

/// What a statement is for, from the lightest to the heaviest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Blanks and comments.
    Empty,
    /// SELECT without locks, VALUES, TABLE, SHOW, FETCH, and EXPLAIN of these.
    Read,
    /// BEGIN, COMMIT, SAVEPOINT, SET TRANSACTION, LOCK and the like.
    Transaction,
    /// SET, LISTEN, PREPARE, DISCARD and the like.
    Session,
    /// What is none of the others: CALL, DO, EXECUTE, VACUUM, NOTIFY.
    Other,
    /// COPY in either direction.
    Copy,
    /// INSERT, UPDATE, DELETE, MERGE, TRUNCATE, SELECT FOR UPDATE, and a SELECT around one of these.
    Write,
    /// CREATE, ALTER, DROP, GRANT and the like, SELECT INTO.
    Ddl,
    /// Could not be read.
    Unknown,
}

/// What most texts of a kind are that name nothing.
fn command(kind: Kind) -> Command {
    match kind {
        Kind::Empty | Kind::Unknown => Command::Unknown,
        Kind::Read => Command::Select,
        Kind::Transaction => Command::Transaction,
        Kind::Copy => Command::Copy,
        Kind::Session | Kind::Other | Kind::Write | Kind::Ddl => Command::Utility,
    }
}

impl Kind {
    /// Whether it may fire triggers.
    pub fn runs_triggers(self) -> bool {
        matches!(self, Self::Write | Self::Copy | Self::Ddl | Self::Other)
    }

    /// How many there are.
    pub(super) const COUNT: usize = Self::Unknown as usize + 1;
}

/// What a text may leave behind in the session.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Effects {
    /// Session state that may be there afterwards and that the server can be asked about.
    pub suspects: States,
    /// Such state may be gone afterwards. Ends of transactions do not count: those are seen without reading SQL.
    pub releases: bool,
    /// Settings whose value in the session may change.
    pub settings: Touched,
    /// Settings that may change until the end of the transaction.
    pub local_settings: Touched,
    /// Settings that may go back to what the server holds for their default.
    pub resets: Touched,
    /// State that the server cannot be asked about: it keeps the client on its server connection until it leaves.
    pub pin: Option<Pin>,
    /// DISCARD ALL.
    pub discards_all: bool,
    /// DEALLOCATE ALL, or DISCARD ALL.
    pub deallocates_all: bool,
    /// Prepared statements that SQL names: PREPARE, EXECUTE, DEALLOCATE.
    pub prepared_names: Box<[Box<str>]>,
    /// Those of them that DEALLOCATE removes.
    pub deallocates: Box<[Box<str>]>,
    /// What the session's own sequences gave is read: currval, lastval.
    pub reads_sequence: bool,
    /// In the text's order.
    pub listens: Box<[Listening]>,
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT and the like.
    pub transaction_control: bool,
    /// What the code in it may do, of DO.
    pub runs: Touch,
    /// A function is called that is none of PostgreSQL's own, or that runs SQL from a string: it may do anything.
    pub calls_unknown: bool,
}

/// Why a client has to stay on its server connection until it leaves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pin {
    /// LOAD brought a library into the server process.
    Load,
    /// setseed: the numbers that follow are the session's own.
    RandomSeed,
    /// SET SESSION AUTHORIZATION.
    SessionAuthorization,
    /// What it leaves behind cannot be told from the text.
    Opaque,
}

/// LISTEN and UNLISTEN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listening {
    /// LISTEN to this channel.
    Listen(Box<str>),
    /// UNLISTEN this channel.
    Unlisten(Box<str>),
    /// UNLISTEN *, or DISCARD ALL.
    UnlistenAll,
}

/// Settings that a text may change.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Touched {
    /// None of them.
    #[default]
    None,
    /// These, in lower case, each once.
    Names(Box<[Box<str>]>),
    /// Any of them.
    Any,
}

/// Kinds of session state that the server can be asked about.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
pub struct States(u8);

impl States {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Statements prepared with SQL.
    pub const PREPARED: Self = Self(1);
    /// Cursors that outlive their transaction.
    pub const CURSOR: Self = Self(1 << 1);
    /// Objects in the session's temporary schema.
    pub const TEMP: Self = Self(1 << 2);
    /// Advisory locks of the session.
    pub const ADVISORY: Self = Self(1 << 3);
    /// Channels listened to.
    pub const LISTEN: Self = Self(1 << 4);
    /// Everything.
    pub const ALL: Self = Self(0b1_1111);

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Adds what is in the other.
    pub fn insert(&mut self, other: Self) {
        *self = self.union(other);
    }

    /// Whether everything that is in the other is in this one.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of its states by itself.
    pub fn iter(self) -> StatesIter {
        StatesIter(self)
    }
}

impl IntoIterator for States {
    type Item = States;
    type IntoIter = StatesIter;

    fn into_iter(self) -> StatesIter {
        self.iter()
    }
}

/// The states of a set, one by one.
#[derive(Clone, Debug)]
pub struct StatesIter(States);

impl Iterator for StatesIter {
    type Item = States;

    fn next(&mut self) -> Option<States> {
        let rest = self.0.0;
        self.0 = States(rest & rest.wrapping_sub(1));
        (rest != 0).then_some(States(rest & rest.wrapping_neg()))
    }
}
