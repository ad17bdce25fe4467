//! How a text is carried out where transactions are the proxy's own and end with ROLLBACK: inside one, or without because
//! nothing of the database's own runs in it and its effect has to last. What can be neither is refused.

use pg_raw_parse::raw::A_Expr_Kind as Operation;
use pg_raw_parse::raw::TransactionStmtKind as Kind;
use pg_raw_parse::{ConstValue, Node, nodes};

use super::super::effects::constant;
use super::super::settings::argument;
use super::calls::{has_no_more_clauses, proven_names};
use super::{Edit, Inspector};

/// `CURSOR_OPT_HOLD` of PostgreSQL's `nodes/parsenodes.h`.
const HOLD: i32 = 0x0020;

/// Stands behind a ROLLBACK that the proxy has put in the place of a COMMIT.
const INSTEAD: &str = "/* COMMIT */";

/// How a text is carried out where transactions are the proxy's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Conduct {
    /// In a transaction of the proxy's own, unless the client has begun one.
    #[default]
    Inside,
    /// Without one: no function, operator or view of the database's own runs in it.
    Bare {
        /// What it does has to last, which it cannot in a transaction that will be rolled back.
        lasts: bool,
    },
    /// It begins the client's transaction.
    Begins,
    /// It ends the client's transaction, with its last statement.
    Ends(Ending),
    /// It cannot be carried out.
    Refused(&'static str),
}

/// How a text ends the client's transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// With COMMIT, which is carried out as ROLLBACK.
    pub commits: bool,
    /// Another follows at once.
    pub chains: bool,
    /// It has begun in the same text.
    pub begins: bool,
    /// There is nothing else in the text.
    pub alone: bool,
}

impl Ending {
    /// What is prepared in its place where it has a name: any function could run that, and so end the transaction around
    /// itself. Where it is bound, it is replaced by a ROLLBACK without a name.
    pub fn stand_in(self) -> &'static str {
        match (self.commits, self.chains) {
            (true, false) => "SET TRANSACTION READ ONLY /* COMMIT */",
            (true, true) => "SET TRANSACTION READ ONLY /* COMMIT AND CHAIN */",
            (false, false) => "SET TRANSACTION READ ONLY /* ROLLBACK */",
            (false, true) => "SET TRANSACTION READ ONLY /* ROLLBACK AND CHAIN */",
        }
    }

    /// Of a text that is one of those.
    fn of(text: &str) -> Option<Self> {
        let all = [(true, false), (true, true), (false, false), (false, true)];
        let all = all.map(|(commits, chains)| Self { commits, chains, begins: false, alone: true });
        all.into_iter().find(|ending| ending.stand_in() == text)
    }
}

/// What one statement is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Inside,
    /// Harmless with and without a transaction.
    Safe,
    Lasts,
    Begin,
    End(Ending),
    Refused(&'static str),
}

/// What the statements of a text are together, one by one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Strict {
    pub(super) conduct: Option<Conduct>,
    /// Names that are to be PostgreSQL's own, whatever the search path is.
    pub(super) names: Vec<Edit>,
    /// COMMIT as ROLLBACK.
    pub(super) end: Option<Edit>,
}

impl Strict {
    /// One more statement.
    fn add(&mut self, class: Class) {
        let first = |class| match class {
            Class::Inside => Conduct::Inside,
            Class::Safe => Conduct::Bare { lasts: false },
            Class::Lasts => Conduct::Bare { lasts: true },
            Class::Begin => Conduct::Begins,
            Class::End(ending) => Conduct::Ends(ending),
            Class::Refused(why) => Conduct::Refused(why),
        };
        let Some(before) = self.conduct else {
            self.conduct = Some(first(class));
            return;
        };
        self.conduct = Some(match (before, class) {
            (Conduct::Refused(_), _) => before,
            (_, Class::Refused(why)) => Conduct::Refused(why),
            (Conduct::Bare { lasts }, Class::Safe | Class::Lasts) => {
                Conduct::Bare { lasts: lasts || class == Class::Lasts }
            }
            (Conduct::Inside | Conduct::Bare { lasts: false }, Class::Inside | Class::Safe) => {
                Conduct::Inside
            }
            (Conduct::Begins, Class::Inside | Class::Safe) => Conduct::Begins,
            (Conduct::Begins, Class::End(ending)) => {
                Conduct::Ends(Ending { begins: true, alone: false, ..ending })
            }
            (Conduct::Inside | Conduct::Bare { lasts: false }, Class::End(ending)) => {
                Conduct::Ends(Ending { alone: false, ..ending })
            }
            (Conduct::Bare { lasts: true }, _) | (_, Class::Lasts) => {
                Conduct::Refused("a text with a setting that lasts and other statements")
            }
            _ => Conduct::Refused("a text with other statements around BEGIN or COMMIT"),
        });
    }
}

impl<'t> Inspector<'t> {
    /// Notes how the statement that is being looked at is carried out.
    pub(super) fn conducts(&mut self, node: Node<'t>) {
        let class = match node {
            Node::VariableSetStmt(set) => {
                if let Some(ending) = Ending::of(self.text) {
                    return self.verdict.strict.add(Class::End(ending));
                }
                let of_transaction =
                    matches!(set.name(), Some("TRANSACTION" | "TRANSACTION SNAPSHOT")) || set.is_local;
                if of_transaction { Class::Safe } else { Class::Lasts }
            }
            Node::VariableShowStmt(_)
            | Node::ClosePortalStmt(_)
            | Node::DeallocateStmt(_)
            | Node::DiscardStmt(_)
            | Node::ConstraintsSetStmt(_) => Class::Safe,
            Node::ListenStmt(_) | Node::UnlistenStmt(_) => Class::Lasts,
            Node::NotifyStmt(_) => Class::Refused("NOTIFY"),
            Node::DeclareCursorStmt(declare) if declare.options & HOLD != 0 => {
                Class::Refused("DECLARE ... WITH HOLD")
            }
            Node::TransactionStmt(transaction) => self.class_of_transaction(transaction),
            Node::SelectStmt(select) => match self.plain_calls(select) {
                Some((edits, lasts)) => {
                    self.verdict.strict.names.extend(edits);
                    if lasts { Class::Lasts } else { Class::Safe }
                }
                None => Class::Inside,
            },
            _ => Class::Inside,
        };
        let class = match class {
            Class::Inside if self.sets_session => Class::Refused("set_config() beyond the transaction"),
            class => class,
        };
        self.verdict.strict.add(class);
    }

    fn class_of_transaction(&mut self, transaction: &nodes::TransactionStmt) -> Class {
        let (commits, chains) = (transaction.kind == Kind::TRANS_STMT_COMMIT, transaction.chain);
        match transaction.kind {
            Kind::TRANS_STMT_BEGIN | Kind::TRANS_STMT_START => Class::Begin,
            Kind::TRANS_STMT_COMMIT | Kind::TRANS_STMT_ROLLBACK => {
                if commits && let Some(place) = self.place.clone() {
                    let words = if chains { "ROLLBACK AND CHAIN" } else { "ROLLBACK" };
                    let words = format!(" {words} {INSTEAD}");
                    self.verdict.strict.end = Some(Edit { place, words });
                } else if commits {
                    return Class::Refused("COMMIT among letters that are not read");
                }
                let commits = commits || self.said_instead();
                Class::End(Ending { commits, chains, begins: false, alone: true })
            }
            Kind::TRANS_STMT_SAVEPOINT | Kind::TRANS_STMT_RELEASE | Kind::TRANS_STMT_ROLLBACK_TO => {
                Class::Safe
            }
            _ => Class::Refused("a transaction command of that kind"),
        }
    }

    /// Whether the statement is a ROLLBACK of the proxy's own words.
    fn said_instead(&self) -> bool {
        self.place.clone().and_then(|place| self.text.get(place)).is_some_and(|text| text.ends_with(INSTEAD))
    }

    /// Of a SELECT that does nothing but call `set_config` or `pg_advisory_unlock_all` with constants, or with the one
    /// name that its WHERE has of `pg_settings`: what makes sure that these are PostgreSQL's own, and whether it lasts.
    fn plain_calls(&self, select: &nodes::SelectStmt) -> Option<(Vec<Edit>, bool)> {
        let place = self.place.as_ref()?;
        let insert = |at: i32, width: usize, words: &str| {
            let at = usize::try_from(at).ok().filter(|at| place.contains(at))?;
            Some(Edit { place: at..at + width, words: words.to_owned() })
        };
        let (mut edits, mut lasts) = (Vec::new(), false);
        let proven = proven_names(select).is_some();
        if select.target_list().is_empty() || !(proven || has_only_targets(select)) {
            return None;
        }
        for target in select.target_list() {
            let Node::FuncCall(call) = target.val() else { return None };
            let mut names = call.funcname().iter().filter_map(Node::as_str).rev();
            let (name, schema) = (names.next()?, names.next());
            let column = |node: &Node<'_>| proven && matches!(node, Node::ColumnRef(_));
            let plain = |node: Node<'_>| matches!(node, Node::A_Const(_)) || column(&node);
            if !matches!(name, "set_config" | "pg_advisory_unlock_all")
                || !is_bare(call)
                || !call.args().iter().all(plain)
            {
                return None;
            }
            lasts |= name == "set_config" && !is_local(call);
            match schema {
                None => edits.push(insert(call.location, 0, "pg_catalog.")?),
                Some("pg_catalog") => {}
                Some(_) => return None,
            }
        }
        if proven {
            let Some(Node::RangeVar(table)) = select.from_clause().iter().next() else { return None };
            if table.schemaname().is_none() {
                edits.push(insert(table.location, 0, "pg_catalog.")?);
            }
            let Node::A_Expr(equals) = select.where_clause() else { return None };
            if equals.kind != Operation::AEXPR_OP || !matches!(equals.rexpr(), Node::A_Const(_)) {
                return None;
            }
            let operator: Vec<_> = equals.name().iter().filter_map(Node::as_str).collect();
            match *operator {
                ["="] => edits.push(insert(equals.location, 1, "OPERATOR(pg_catalog.=)")?),
                ["pg_catalog", "="] => {}
                _ => return None,
            }
        }
        edits.sort_by_key(|edit| edit.place.start);
        Some((edits, lasts))
    }
}

/// Whether `set_config` says that what it sets is gone with the transaction.
pub(super) fn is_local(call: &nodes::FuncCall) -> bool {
    matches!(argument(call, 2, "is_local").and_then(constant), Some(ConstValue::Boolean(true)))
}

/// A call with nothing but its arguments.
fn is_bare(call: &nodes::FuncCall) -> bool {
    call.agg_order().is_empty()
        && matches!(call.agg_filter(), Node::None)
        && call.over().is_none()
        && !call.agg_distinct
        && !call.agg_star
        && !call.func_variadic
}

/// Whether there is nothing but a list of targets.
fn has_only_targets(select: &nodes::SelectStmt) -> bool {
    select.from_clause().is_empty()
        && matches!(select.where_clause(), Node::None)
        && has_no_more_clauses(select)
}
