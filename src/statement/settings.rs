//! SET, RESET and `set_config`: which settings, and for how long.

use pg_raw_parse::raw::VariableSetKind as SetKind;
use pg_raw_parse::{ConstValue, Node, nodes};

use super::effects::{Findings, constant, is_temporary_schema};
use super::facts::{Kind, Pin, Touched};

/// Names that are kept; who sets more in one text may have set anything.
const MOST: usize = 64;

/// Names of settings, while they are gathered.
#[derive(Default)]
pub(super) struct Names {
    known: Vec<Box<str>>,
    any: bool,
}

impl Names {
    pub(super) fn any(&mut self) {
        self.any = true;
    }

    fn add(&mut self, name: &str) {
        let name = name.to_ascii_lowercase().into_boxed_str();
        if self.any || self.known.contains(&name) {
            return;
        }
        if self.known.len() == MOST {
            return self.any();
        }
        self.known.push(name);
    }

    pub(super) fn into_touched(self) -> Touched {
        match (self.any, self.known.is_empty()) {
            (true, _) => Touched::Any,
            (false, true) => Touched::None,
            (false, false) => Touched::Names(self.known.into()),
        }
    }
}

/// How long a setting holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    Session,
    Transaction,
    /// Only the server will know.
    Either,
}

impl Findings {
    /// A setting may change; without a name, any of them.
    pub(super) fn touches(&mut self, scope: Scope, name: Option<&str>) {
        // Names beyond ASCII are nobody's that we know of.
        let name = name.filter(|name| name.is_ascii());
        if name.is_some_and(is_of_the_transaction) {
            return;
        }
        if scope != Scope::Transaction {
            add(&mut self.settings, name);
            match name {
                Some(name) if name.eq_ignore_ascii_case("seed") => self.pin(Pin::RandomSeed),
                Some(name) if is_session_authorization(name) => self.pin(Pin::SessionAuthorization),
                _ => {}
            }
        }
        if scope != Scope::Session {
            add(&mut self.local_settings, name);
        }
    }

    /// SET and RESET in all their forms.
    pub(super) fn sets(&mut self, set: &nodes::VariableSetStmt) {
        let scope = if set.is_local { Scope::Transaction } else { Scope::Session };
        let name = set.name();
        match set.kind {
            SetKind::VAR_SET_MULTI => return self.sets_transaction(name, set),
            SetKind::VAR_RESET_ALL => self.resets_all(),
            SetKind::VAR_RESET | SetKind::VAR_SET_DEFAULT => self.goes_back(scope, name),
            _ => {
                let first = set.args().first().and_then(constant);
                self.touches(scope, name);
                self.sees_path(name, first);
                self.assigns_path(name, set);
            }
        }
        let transaction = name.is_some_and(is_of_the_transaction);
        self.kind(if transaction { Kind::Transaction } else { Kind::Session });
    }

    fn goes_back(&mut self, scope: Scope, name: Option<&str>) {
        if is_path(name) {
            self.path = None;
        }
        if name.is_some_and(is_of_the_transaction) {
            return;
        }
        if scope == Scope::Transaction {
            return self.touches(scope, name);
        }
        // Who the session is again does not pin. The role goes back with it.
        let name = name.map(|name| if is_session_authorization(name) { "role" } else { name });
        add(&mut self.resets, name);
        self.touches(Scope::Session, name);
    }

    /// SET TRANSACTION lasts as long as the transaction; SET SESSION CHARACTERISTICS is the default of later ones.
    fn sets_transaction(&mut self, name: Option<&str>, set: &nodes::VariableSetStmt) {
        if name != Some("SESSION CHARACTERISTICS") {
            return self.kind(Kind::Transaction);
        }
        self.kind(Kind::Session);
        for mode in set.args() {
            let name = match mode {
                Node::DefElem(mode) => mode.defname().map(|name| format!("default_{name}")),
                _ => None,
            };
            self.touches(Scope::Session, name.as_deref());
        }
    }

    /// With the temporary schema in front, whatever is made next is temporary, and no text will say so.
    fn sees_path(&mut self, name: Option<&str>, first: Option<ConstValue<'_>>) {
        let Some(ConstValue::String(path)) = first else { return };
        let first = path.split(',').next().unwrap_or_default().trim().trim_matches('"');
        if is_path(name) && is_temporary_schema(&first.to_ascii_lowercase()) {
            self.pin(Pin::Opaque);
        }
    }

    /// The path that a SET gives, if it says so itself.
    fn assigns_path(&mut self, name: Option<&str>, set: &nodes::VariableSetStmt) {
        if !is_path(name) {
            return;
        }
        let mut path = String::new();
        for schema in set.args() {
            let Some(ConstValue::String(schema)) = constant(schema) else { return self.path = None };
            path.push_str(if path.is_empty() { "\"" } else { ", \"" });
            path.push_str(&schema.replace('"', "\"\""));
            path.push('"');
        }
        self.path = Some(path.into());
    }

    /// `set_config(setting_name, new_value, is_local)`.
    pub(super) fn calls_set_config(&mut self, call: &nodes::FuncCall) {
        let setting = argument(call, 0, "setting_name").and_then(constant);
        let name = match setting {
            Some(ConstValue::String(name)) if !call.func_variadic => Some(name),
            _ => None,
        };
        let scope = match argument(call, 2, "is_local").and_then(constant) {
            Some(ConstValue::Boolean(true)) => Scope::Transaction,
            Some(ConstValue::Boolean(false)) => Scope::Session,
            Some(ConstValue::String(word)) => scope_of(word),
            _ => Scope::Either,
        };
        if name.is_none() && scope != Scope::Transaction {
            // One that is named where nobody sees it may be the session's authorization or its seed.
            self.pin(Pin::Opaque);
        }
        self.touches(scope, name);
        let value = argument(call, 1, "new_value").and_then(constant);
        if is_path(name) {
            self.path = match value {
                Some(ConstValue::String(path)) => Some(path.into()),
                _ => None,
            };
        }
        self.sees_path(name, value);
    }
}

fn is_path(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.eq_ignore_ascii_case("search_path"))
}

fn add(names: &mut Names, name: Option<&str>) {
    match name {
        Some(name) => names.add(name),
        None => names.any(),
    }
}

/// An argument by its place or by its name.
pub(super) fn argument<'t>(call: &'t nodes::FuncCall, place: usize, name: &str) -> Option<Node<'t>> {
    let named = call.args().iter().find_map(|argument| match argument {
        Node::NamedArgExpr(named) if named.name() == Some(name) => Some(named.arg()),
        _ => None,
    });
    let placed = || call.args().get(place).filter(|argument| !matches!(argument, Node::NamedArgExpr(_)));
    named.or_else(placed)
}

/// The usual words of PostgreSQL's boolean input; anything else only the server knows.
fn scope_of(word: &str) -> Scope {
    match word {
        "t" | "true" | "on" | "yes" | "1" => Scope::Transaction,
        "f" | "false" | "off" | "no" | "0" => Scope::Session,
        _ => Scope::Either,
    }
}

/// Settings that are the transaction's own, and gone with it.
fn is_of_the_transaction(name: &str) -> bool {
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
}

fn is_session_authorization(name: &str) -> bool {
    name.eq_ignore_ascii_case("session_authorization")
}
