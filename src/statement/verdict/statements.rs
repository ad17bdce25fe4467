//! Kinds of statements that may run, and what may be in them.

use pg_raw_parse::raw::{TransactionStmtKind as Kind, VariableSetKind as SetKind};
use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{ConstValue, Node, nodes};

use super::super::walk::is_plain_ddl;
use super::Inspector;
use super::settings::{Value, setting};
use crate::rule::Rule;

/// `AccessShareLock` of PostgreSQL's `storage/lockdefs.h`: what a SELECT takes as well.
const ACCESS_SHARE: i32 = 1;

impl<'t> Inspector<'t> {
    /// Looks at a statement. One that does not run is only explained.
    pub(super) fn statement(&mut self, node: Node<'t>, runs: bool) {
        match node {
            Node::SelectStmt(_)
            | Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_) => self.push(node, runs),
            Node::ExplainStmt(explain) => self.explain(explain, runs),
            Node::CreateTableAsStmt(create) if !runs => self.statement(create.query(), false),
            Node::RefreshMatViewStmt(_) if !runs => {}
            Node::PrepareStmt(prepare) => self.statement(prepare.query(), true),
            // What it names was looked at when it was prepared.
            Node::ExecuteStmt(execute) => self.extend(execute.params().iter(), runs),
            Node::DeclareCursorStmt(declare) => self.statement(declare.query(), runs),
            Node::CopyStmt(copy) => self.copy(copy),
            Node::TransactionStmt(transaction) => self.transaction(transaction),
            Node::VariableSetStmt(set) => self.sets(set),
            Node::LockStmt(lock) if lock.mode == ACCESS_SHARE => {}
            Node::LockStmt(_) => self.refuse(Rule::Lock, "LOCK TABLE beyond ACCESS SHARE"),
            Node::NotifyStmt(_) => self.notifies("NOTIFY"),
            Node::VariableShowStmt(_)
            | Node::FetchStmt(_)
            | Node::ClosePortalStmt(_)
            | Node::DeallocateStmt(_)
            | Node::DiscardStmt(_)
            | Node::ListenStmt(_)
            | Node::UnlistenStmt(_)
            | Node::ConstraintsSetStmt(_) => {}
            _ => {
                let (rule, what) = refused(node);
                self.refuse(rule, what);
            }
        }
    }

    /// Looks at what is left to be looked at.
    pub(super) fn drain(&mut self) {
        while let Some((node, runs)) = self.open.pop() {
            self.visit(node, runs);
        }
    }

    fn visit(&mut self, node: Node<'t>, runs: bool) {
        match node {
            Node::None | Node::A_Const(_) | Node::ParamRef(_) | Node::String(_) | Node::RangeVar(_) => {}
            Node::NodeList(list) => self.extend(list.iter(), runs),
            Node::ColumnRef(column) => column.fields().iter().skip(1).for_each(|field| self.attribute(field)),
            Node::A_Indirection(indirection) => {
                indirection.indirection().iter().for_each(|field| self.attribute(field));
                self.children(node, runs);
            }
            Node::FuncCall(call) => {
                self.call(call, None);
                self.children(node, runs);
            }
            // It would stand for the view that `proven_names` trusts.
            Node::CommonTableExpr(query) if query.ctename() == Some("pg_settings") => {
                self.refuse(Rule::SetConfig, "a query named pg_settings");
            }
            Node::IntoClause(_) => {
                if runs {
                    self.refuse(Rule::Write, "SELECT INTO");
                }
            }
            Node::SelectStmt(select) => self.select(select, runs),
            Node::InsertStmt(_) | Node::UpdateStmt(_) | Node::DeleteStmt(_) | Node::MergeStmt(_) => {
                if runs {
                    self.refuse(Rule::Write, written(node));
                }
                self.children(node, runs);
            }
            _ => self.children(node, runs),
        }
    }

    /// The nodes right below. Panics at a node that is neither an expression nor a query, which makes the text one that
    /// cannot be read.
    pub(super) fn children(&mut self, node: Node<'t>, runs: bool) {
        walk_manual::<()>(node, |child| {
            self.push(child, runs);
            Recurse::no()
        });
    }

    fn explain(&mut self, explain: &'t nodes::ExplainStmt, runs: bool) {
        let analyzes = |option: &nodes::DefElem| option.defname() == Some("analyze") && !is_off(option.arg());
        let analyzes = explain.options().iter().any(analyzes);
        let query = explain.query();
        if runs && analyzes && matches!(query, Node::CreateTableAsStmt(_) | Node::RefreshMatViewStmt(_)) {
            // PostgreSQL 15 makes the table, also in a read-only transaction.
            return self.refuse(Rule::Explain, "EXPLAIN ANALYZE of CREATE TABLE AS");
        }
        self.statement(query, runs && analyzes);
    }

    fn copy(&mut self, copy: &'t nodes::CopyStmt) {
        if copy.is_from {
            self.refuse(Rule::Copy, "COPY FROM");
        } else if copy.is_program {
            self.refuse(Rule::Copy, "COPY TO PROGRAM");
        } else if copy.filename().is_some() {
            self.refuse(Rule::Copy, "COPY TO a file");
        }
        self.extend([copy.query(), copy.where_clause()], true);
    }

    fn transaction(&mut self, transaction: &'t nodes::TransactionStmt) {
        match transaction.kind {
            Kind::TRANS_STMT_BEGIN | Kind::TRANS_STMT_START => {
                let modes = || transaction.options().iter();
                if modes().any(|mode| matches!(mode, Node::DefElem(mode) if is_read_write(mode))) {
                    let begin = if transaction.kind == Kind::TRANS_STMT_START {
                        "START TRANSACTION"
                    } else {
                        "BEGIN"
                    };
                    match modes().map(spelled).collect::<Option<Vec<_>>>() {
                        Some(modes) => self.say(format!("{begin} {}", modes.join(", "))),
                        None => self.refuse(Rule::Mode, "BEGIN in these modes"),
                    }
                }
            }
            Kind::TRANS_STMT_COMMIT
            | Kind::TRANS_STMT_ROLLBACK
            | Kind::TRANS_STMT_SAVEPOINT
            | Kind::TRANS_STMT_RELEASE
            | Kind::TRANS_STMT_ROLLBACK_TO => {}
            Kind::TRANS_STMT_PREPARE => self.refuse(Rule::TwoPhase, "PREPARE TRANSACTION"),
            Kind::TRANS_STMT_COMMIT_PREPARED => self.refuse(Rule::TwoPhase, "COMMIT PREPARED"),
            Kind::TRANS_STMT_ROLLBACK_PREPARED => self.refuse(Rule::TwoPhase, "ROLLBACK PREPARED"),
            _ => self.refuse(Rule::Statement, "a transaction command of that kind"),
        }
    }

    fn sets(&mut self, set: &'t nodes::VariableSetStmt) {
        let name = set.name().unwrap_or_default();
        match set.kind {
            SetKind::VAR_RESET_ALL => {}
            SetKind::VAR_SET_MULTI => match name {
                "TRANSACTION" | "SESSION CHARACTERISTICS" => {
                    let reads = |mode| {
                        spelled(mode).is_some() && !matches!(mode, Node::DefElem(mode) if is_read_write(mode))
                    };
                    if !set.args().iter().all(reads) {
                        self.refuse(Rule::Mode, format!("SET {name} READ WRITE"));
                    }
                }
                "TRANSACTION SNAPSHOT" => {}
                _ => self.refuse(Rule::Setting, format!("SET {name}")),
            },
            SetKind::VAR_RESET | SetKind::VAR_SET_DEFAULT => {
                if let Some(rule) = setting(name, Value::Default) {
                    self.refuse(rule, format!("RESET {name}"));
                }
            }
            SetKind::VAR_SET_VALUE => {
                let mut values = set.args().iter();
                let value = match (values.next().map(text), values.next()) {
                    (Some(Some(value)), None) => value,
                    _ => String::new(),
                };
                if let Some(rule) = setting(name, Value::Text(&value)) {
                    self.refuse(rule, format!("SET {name}"));
                }
            }
            _ => {
                let rule = setting(name, Value::Unknown).unwrap_or(Rule::Setting);
                self.refuse(rule, format!("SET {name}"));
            }
        }
    }

    /// A SELECT, of whose targets one may set what its WHERE names, as `pg_dump` does.
    fn select(&mut self, select: &'t nodes::SelectStmt, runs: bool) {
        let proven = super::calls::proven_names(select);
        if let Some(names) = &proven {
            for target in select.target_list() {
                if let Node::FuncCall(call) = target.val() {
                    self.call(call, Some(names));
                    self.extend(call.args().iter(), runs);
                }
            }
            // It has nothing but these, its one table and its WHERE.
            self.push(select.where_clause(), runs);
            return;
        }
        self.children(Node::SelectStmt(select), runs);
    }
}

/// A constant as text, as SET takes it.
fn text(node: Node<'_>) -> Option<String> {
    match node {
        Node::A_Const(constant) => match constant.val()? {
            ConstValue::String(text) | ConstValue::Float(text) => Some(text.to_owned()),
            ConstValue::Integer(number) => Some(number.to_string()),
            ConstValue::Boolean(value) => Some(value.to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn is_off(value: Node<'_>) -> bool {
    let word = match value {
        Node::String(word) => word.sval().map(str::to_owned),
        Node::Integer(number) => Some(number.ival.to_string()),
        Node::Boolean(value) => Some(value.boolval.to_string()),
        _ => None,
    };
    word.is_some_and(|word| matches!(word.to_ascii_lowercase().as_str(), "off" | "false" | "0"))
}

fn is_read_write(mode: &nodes::DefElem) -> bool {
    mode.defname() == Some("transaction_read_only") && text(mode.arg()).is_none_or(|value| value != "1")
}

/// A mode of a transaction in words, READ ONLY for READ WRITE; `None` if it is none that is known.
fn spelled(mode: Node<'_>) -> Option<String> {
    let Node::DefElem(mode) = mode else { return None };
    let value = text(mode.arg())?;
    match mode.defname()? {
        "transaction_isolation" => {
            let levels = ["serializable", "repeatable read", "read committed", "read uncommitted"];
            levels
                .contains(&value.as_str())
                .then(|| format!("ISOLATION LEVEL {}", value.to_ascii_uppercase()))
        }
        "transaction_read_only" => Some("READ ONLY".to_owned()),
        "transaction_deferrable" => {
            Some(if value == "1" { "DEFERRABLE" } else { "NOT DEFERRABLE" }.to_owned())
        }
        _ => None,
    }
}

fn written(node: Node<'_>) -> &'static str {
    match node {
        Node::InsertStmt(_) => "INSERT",
        Node::UpdateStmt(_) => "UPDATE",
        Node::DeleteStmt(_) => "DELETE",
        _ => "MERGE",
    }
}

/// The rule and the name of statements that are never allowed.
fn refused(node: Node<'_>) -> (Rule, &'static str) {
    match node {
        Node::TruncateStmt(_) => (Rule::Write, "TRUNCATE"),
        Node::DoStmt(_) => (Rule::Procedure, "DO"),
        Node::CallStmt(_) => (Rule::Procedure, "CALL"),
        Node::VacuumStmt(vacuum) if vacuum.is_vacuumcmd => (Rule::Maintenance, "VACUUM"),
        Node::VacuumStmt(_) => (Rule::Maintenance, "ANALYZE"),
        Node::ClusterStmt(_) => (Rule::Maintenance, "CLUSTER"),
        Node::ReindexStmt(_) => (Rule::Maintenance, "REINDEX"),
        Node::CheckPointStmt(_) => (Rule::Maintenance, "CHECKPOINT"),
        Node::LoadStmt(_) => (Rule::Maintenance, "LOAD"),
        Node::AlterSystemStmt(_) => (Rule::Setting, "ALTER SYSTEM"),
        Node::CreateTableAsStmt(_) => (Rule::Definition, "CREATE TABLE AS"),
        Node::RefreshMatViewStmt(_) => (Rule::Definition, "REFRESH MATERIALIZED VIEW"),
        Node::CreateStmt(_) => (Rule::Definition, "CREATE TABLE"),
        Node::ViewStmt(_) => (Rule::Definition, "CREATE VIEW"),
        Node::IndexStmt(_) => (Rule::Definition, "CREATE INDEX"),
        Node::CreateSeqStmt(_) => (Rule::Definition, "CREATE SEQUENCE"),
        Node::CreateFunctionStmt(_) => (Rule::Definition, "CREATE FUNCTION"),
        Node::CreateSchemaStmt(_) => (Rule::Definition, "CREATE SCHEMA"),
        Node::CreateExtensionStmt(_) => (Rule::Definition, "CREATE EXTENSION"),
        Node::CreateRoleStmt(_) => (Rule::Definition, "CREATE ROLE"),
        Node::CreatedbStmt(_) => (Rule::Definition, "CREATE DATABASE"),
        Node::AlterTableStmt(_) => (Rule::Definition, "ALTER TABLE"),
        Node::AlterRoleStmt(_) | Node::AlterRoleSetStmt(_) => (Rule::Definition, "ALTER ROLE"),
        Node::AlterDatabaseStmt(_) | Node::AlterDatabaseSetStmt(_) => (Rule::Definition, "ALTER DATABASE"),
        Node::RenameStmt(_) => (Rule::Definition, "ALTER ... RENAME"),
        Node::DropStmt(_) | Node::DropOwnedStmt(_) | Node::DropRoleStmt(_) | Node::DropdbStmt(_) => {
            (Rule::Definition, "DROP")
        }
        Node::GrantStmt(_) | Node::GrantRoleStmt(_) => (Rule::Definition, "GRANT or REVOKE"),
        Node::CommentStmt(_) => (Rule::Definition, "COMMENT"),
        Node::CompositeTypeStmt(_)
        | Node::CreateEnumStmt(_)
        | Node::CreateRangeStmt(_)
        | Node::CreateDomainStmt(_)
        | Node::AlterDomainStmt(_)
        | Node::DefineStmt(_)
        | Node::CreateStatsStmt(_) => (Rule::Definition, "a statement that makes objects"),
        _ if is_plain_ddl(node) => (Rule::Definition, "a statement that changes objects or rights"),
        _ => (Rule::Statement, "a statement that is not known to be harmless"),
    }
}
