//! What one statement or call leaves behind, added to what was found before it.

use pg_raw_parse::raw::{CoercionForm, TransactionStmtKind};
use pg_raw_parse::{ConstValue, Node, nodes};

use super::body::{Body, Touch};
use super::facts::{Effects, Facts, Kind, Listening, Pin, States};
use super::functions::{self, Act};
use super::schemas::{Gatherer, Sort};
use super::settings::{Names, Scope};
use super::words::Gathered;

/// `CURSOR_OPT_HOLD` of PostgreSQL's `nodes/parsenodes.h`.
const HOLD: i32 = 0x0020;

/// Bytes from which on a name may have been cut (NAMEDATALEN), in another place than the server cuts it if its encoding
/// has other lengths.
const CUT: usize = 62;

/// Of what a text is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Letters {
    Ascii,
    Utf8,
    /// Others than ASCII are not those of the server.
    StandIns,
}

/// What was found in a text so far.
pub(super) struct Findings {
    kind: Kind,
    /// Without its names, which are gathered beside it.
    effects: Effects,
    pub(super) settings: Names,
    pub(super) local_settings: Names,
    pub(super) resets: Names,
    prepared_names: Vec<Box<str>>,
    deallocates: Vec<Box<str>>,
    listens: Vec<Listening>,
    letters: Letters,
    words: Gathered,
    /// What the statements name.
    pub(super) names: Gatherer,
    /// The `search_path` that was set last.
    pub(super) path: Option<Box<str>>,
    /// What runs when others are used is made or changed.
    pub(super) defines: bool,
    /// The result's columns are those of a cursor or of another statement.
    pub(super) varies: bool,
    /// A transaction block was begun, and has not ended so far.
    begins: bool,
    /// A function is called whose arguments may say what it does.
    weighs: bool,
}

impl Findings {
    pub(super) fn new(letters: Letters) -> Self {
        Self {
            kind: Kind::Empty,
            effects: Effects::default(),
            settings: Names::default(),
            local_settings: Names::default(),
            resets: Names::default(),
            prepared_names: Vec::new(),
            deallocates: Vec::new(),
            listens: Vec::new(),
            letters,
            words: Gathered::new(),
            names: Gatherer::new(),
            path: None,
            defines: false,
            varies: false,
            begins: false,
            weighs: false,
        }
    }

    pub(super) fn facts(self, statements: u32) -> Facts {
        let effects = Effects {
            settings: self.settings.into_touched(),
            local_settings: self.local_settings.into_touched(),
            resets: self.resets.into_touched(),
            prepared_names: self.prepared_names.into(),
            deallocates: self.deallocates.into(),
            listens: self.listens.into(),
            ..self.effects
        };
        let facts = Facts::new(statements, self.kind, effects).using(self.words.words());
        let facts = facts.naming(self.names.named(), self.path);
        facts.defining(self.defines).varying(self.varies).beginning(self.begins).weighing(self.weighs)
    }

    pub(super) fn letters(&self) -> Letters {
        self.letters
    }

    pub(super) fn kind(&mut self, kind: Kind) {
        self.kind = self.kind.max(kind);
    }

    pub(super) fn kind_so_far(&self) -> Kind {
        self.kind
    }

    pub(super) fn restore_kind(&mut self, kind: Kind) {
        self.kind = kind;
    }

    /// The kind so far, which is another one from now on.
    pub(super) fn replace_kind(&mut self, kind: Kind) -> Kind {
        std::mem::replace(&mut self.kind, kind)
    }

    pub(super) fn suspect(&mut self, states: States) {
        self.effects.suspects.insert(states);
    }

    pub(super) fn releases(&mut self) {
        self.effects.releases = true;
    }

    /// All settings go back to their defaults.
    pub(super) fn resets_all(&mut self) {
        self.resets.any();
        self.settings.any();
    }

    pub(super) fn calls_unknown(&mut self) {
        self.effects.calls_unknown = true;
    }

    /// The first reason stays.
    pub(super) fn pin(&mut self, pin: Pin) {
        self.effects.pin.get_or_insert(pin);
    }

    /// A relation is made: is it a temporary one?
    pub(super) fn creates(&mut self, relation: Option<&nodes::RangeVar>) {
        let Some(relation) = relation else { return };
        let temporary = relation.relpersistence.cast_unsigned() == b't';
        if temporary || relation.schemaname().is_some_and(is_temporary_schema) {
            self.suspect(States::TEMP);
        }
    }

    /// An object with a qualified name is made.
    pub(super) fn creates_named<'t>(&mut self, mut names: impl DoubleEndedIterator<Item = Node<'t>>) {
        let _own = names.next_back();
        if names.any(|name| name.as_str().is_some_and(is_temporary_schema)) {
            self.suspect(States::TEMP);
        }
    }

    /// A name as the server will have it. Where that is not known, the client had better stay where it is.
    fn certain<'n>(&mut self, name: Option<&'n str>) -> Option<&'n str> {
        let name = name.filter(|name| match self.letters {
            Letters::Ascii => true,
            Letters::Utf8 => name.len() < CUT,
            Letters::StandIns => name.is_ascii() && name.len() < CUT,
        });
        if name.is_none() {
            self.pin(Pin::Opaque);
        }
        name
    }

    /// A name of something that may do more than it says.
    pub(super) fn word(&mut self, name: &str) {
        let certain = match self.letters {
            Letters::Ascii => true,
            Letters::Utf8 => name.is_ascii() || name.len() < CUT,
            Letters::StandIns => name.is_ascii(),
        };
        if certain { self.words.add(name) } else { self.words.add_uncertain() }
    }

    /// The last of a qualified name.
    pub(super) fn last_word<'t>(&mut self, names: impl DoubleEndedIterator<Item = Node<'t>>) {
        if let Some(name) = names.rev().find_map(Node::as_str) {
            self.word(name);
        }
    }

    /// DO: nobody looks into the code again.
    pub(super) fn does(&mut self, does: &nodes::DoStmt) {
        self.kind(Kind::Other);
        let code = does.args().iter().find(|argument| argument.defname() == Some("as"));
        let code = code.and_then(|argument| argument.arg().as_str());
        let Some(code) = code else { return self.pin(Pin::Opaque) };
        let body = Body::read(code);
        self.effects.runs = self.effects.runs.max(body.touch());
        body.names.iter().for_each(|name| self.touches(Scope::Session, Some(name)));
        let (lower, quoted) = (code.to_ascii_lowercase(), code.split('"').skip(1).step_by(2));
        let words = lower.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        words.filter(|word| !word.is_empty()).chain(quoted).for_each(|word| self.word(word));
    }

    pub(super) fn prepares(&mut self, name: Option<&str>) {
        self.suspect(States::PREPARED);
        self.names_prepared(name);
    }

    pub(super) fn names_prepared(&mut self, name: Option<&str>) {
        if let Some(name) = self.certain(name) {
            self.prepared_names.push(name.into());
        }
    }

    fn deallocates(&mut self, deallocate: &nodes::DeallocateStmt) {
        self.releases();
        if deallocate.isall {
            self.effects.deallocates_all = true;
        } else if let Some(name) = self.certain(deallocate.name()) {
            self.prepared_names.push(name.into());
            self.deallocates.push(name.into());
        }
    }

    pub(super) fn declares(&mut self, declare: &nodes::DeclareCursorStmt) {
        self.kind(Kind::Read);
        if declare.options & HOLD != 0 {
            self.suspect(States::CURSOR);
        }
    }

    /// Statements whose purpose is the session or its transaction.
    pub(super) fn is_session_statement(&mut self, node: Node<'_>) -> bool {
        match node {
            Node::TransactionStmt(transaction) => {
                self.begins = match transaction.kind {
                    TransactionStmtKind::TRANS_STMT_BEGIN | TransactionStmtKind::TRANS_STMT_START => true,
                    TransactionStmtKind::TRANS_STMT_COMMIT | TransactionStmtKind::TRANS_STMT_ROLLBACK => {
                        self.begins && transaction.chain
                    }
                    TransactionStmtKind::TRANS_STMT_PREPARE => false,
                    _ => self.begins,
                };
                self.effects.transaction_control = true;
                self.kind(Kind::Transaction);
                return true;
            }
            Node::VariableSetStmt(set) => {
                self.sets(set);
                return true;
            }
            Node::DeallocateStmt(deallocate) => self.deallocates(deallocate),
            Node::ClosePortalStmt(_) => self.releases(),
            Node::DiscardStmt(discard) => self.discards(discard),
            Node::LoadStmt(_) => self.pin(Pin::Load),
            Node::ListenStmt(listen) => {
                self.suspect(States::LISTEN);
                if let Some(channel) = self.certain(listen.conditionname()) {
                    self.listens.push(Listening::Listen(channel.into()));
                }
            }
            Node::UnlistenStmt(unlisten) => {
                self.releases();
                if unlisten.conditionname().is_none() {
                    self.listens.push(Listening::UnlistenAll);
                } else if let Some(channel) = self.certain(unlisten.conditionname()) {
                    self.listens.push(Listening::Unlisten(channel.into()));
                }
            }
            _ => return false,
        }
        self.kind(Kind::Session);
        true
    }

    fn discards(&mut self, discard: &nodes::DiscardStmt) {
        self.releases();
        if discard.target == pg_raw_parse::raw::DiscardMode::DISCARD_ALL {
            self.resets_all();
            self.effects.discards_all = true;
            self.effects.deallocates_all = true;
            self.listens.push(Listening::UnlistenAll);
        }
    }

    /// A function is called.
    pub(super) fn call(&mut self, call: &nodes::FuncCall) {
        let mut names = call.funcname().iter().filter_map(Node::as_str).rev();
        let Some(name) = names.next() else { return self.calls_unknown() };
        self.word(name);
        let schema = names.next();
        let own = match schema {
            Some(schema) => schema == "pg_catalog",
            None => functions::is_builtin(name),
        };
        // Behind a syntax of its own stands one of `pg_catalog` that nobody has named.
        if call.funcformat == CoercionForm::COERCE_EXPLICIT_CALL && (schema.is_some() || !own) {
            self.names.qualified(Sort::Function, schema, name);
        }
        if !own {
            self.calls_unknown();
        }
        let act = functions::act(name);
        self.weighs |= act.is_some() || !own;
        match act {
            None => {}
            Some(Act::Locks) => self.suspect(States::ADVISORY),
            Some(Act::Unlocks) => self.releases(),
            Some(Act::Sets) => self.calls_set_config(call),
            Some(Act::SetsOne(setting)) => self.touches(Scope::Session, Some(setting)),
            Some(Act::Seeds) => self.pin(Pin::RandomSeed),
            Some(Act::ReadsSequence) => self.effects.reads_sequence = true,
            Some(Act::RunsSql) => {
                self.calls_unknown();
                self.pin(Pin::Opaque);
            }
            Some(Act::Queries) => self.effects.runs = self.effects.runs.max(Touch::Dynamic),
            Some(Act::Opaque) => self.pin(Pin::Opaque),
        }
    }
}

/// `pg_temp`, or one of the schemas that it stands for.
pub(super) fn is_temporary_schema(name: &str) -> bool {
    name == "pg_temp" || name.starts_with("pg_temp_")
}

/// A constant, behind casts that leave it as it is. (A cast to `varchar(3)` would not, nor one to a type of one's own.)
pub(super) fn constant(mut node: Node<'_>) -> Option<ConstValue<'_>> {
    while let Node::TypeCast(cast) = node {
        let plain =
            cast.type_name().filter(|name| name.typmods().is_empty() && name.array_bounds().is_empty());
        let mut names = plain?.names().iter().filter_map(|name| name.sval()).rev();
        let faithful = matches!(names.next()?, "text" | "varchar" | "bool");
        if !faithful || names.any(|schema| schema != "pg_catalog") {
            return None;
        }
        node = cast.arg();
    }
    match node {
        Node::A_Const(constant) => constant.val(),
        _ => None,
    }
}
