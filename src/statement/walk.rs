//! Over the whole tree of a text. What is still to be looked at waits in a list, not on the stack: a sum of ten thousand
//! numbers is a tree ten thousand levels deep.

use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{Node, nodes};

use super::effects::Findings;
use super::facts::{Kind, States};
use super::schemas::Scopes;
use super::settings::Scope;

/// Nodes that wait without an allocation: most texts never have more.
const FEW: usize = 32;

/// Operators that PostgreSQL's own types have, and nearly all texts no others.
const OPERATORS: [&str; 12] = ["=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "||", "~~"];

/// Nodes that are to be looked at, the last one first, each with the scope in which its names are looked for.
struct Open<'t> {
    few: [(Node<'t>, u32); FEW],
    count: usize,
    more: Vec<(Node<'t>, u32)>,
    scopes: Scopes,
    /// That of the node at hand, and of what is pushed for it.
    scope: u32,
}

impl<'t> Open<'t> {
    fn new() -> Self {
        Self { few: [(Node::None, 0); FEW], count: 0, more: Vec::new(), scopes: Scopes::new(), scope: 0 }
    }

    fn push(&mut self, node: Node<'t>) {
        match self.few.get_mut(self.count) {
            Some(place) => {
                *place = (node, self.scope);
                self.count += 1;
            }
            None => self.more.push((node, self.scope)),
        }
    }

    fn extend(&mut self, nodes: impl IntoIterator<Item = Node<'t>>) {
        nodes.into_iter().for_each(|node| self.push(node));
    }

    fn pop(&mut self) -> Option<Node<'t>> {
        let next = self.more.pop().or_else(|| {
            self.count = self.count.checked_sub(1)?;
            Some(self.few[self.count])
        });
        let (node, scope) = next?;
        self.scope = scope;
        Some(node)
    }

    /// What follows sees the names of a WITH.
    fn enter(&mut self, with: Option<&nodes::WithClause>) {
        if let Some(with) = with {
            let names = with.ctes().iter().filter_map(|query| query.ctename());
            self.scope = self.scopes.enter(self.scope, names);
        }
    }

    /// The queries of a WITH, whose names the scope at hand has: each sees those before it, or all of them.
    fn extend_with(&mut self, with: &'t nodes::WithClause) {
        let innermost = self.scope;
        for query in with.ctes().iter().rev() {
            if !with.recursive {
                self.scope = self.scopes.around(self.scope);
            }
            self.push(Node::CommonTableExpr(query));
        }
        self.scope = innermost;
    }
}

impl Findings {
    /// Looks at a statement or expression and everything in it that runs with it.
    pub(super) fn walk<'t>(&mut self, root: Node<'t>) {
        let mut open = Open::new();
        open.push(root);
        while let Some(node) = open.pop() {
            self.visit(node, &mut open);
        }
    }

    fn visit<'t>(&mut self, node: Node<'t>, open: &mut Open<'t>) {
        match node {
            // Most of what there is: nothing in it.
            Node::None | Node::A_Const(_) | Node::ParamRef(_) => {}
            Node::ColumnRef(column) => {
                // `t.f` may be `f(t)`.
                if column.fields().len() > 1 {
                    self.last_word(column.fields().iter());
                }
            }
            Node::String(_) => self.last_word(std::iter::once(node)),
            Node::RangeVar(relation) => {
                if let Some(name) = relation.relname() {
                    self.word(name);
                    if relation.schemaname().is_some() || !open.scopes.hides(open.scope, name) {
                        self.names_relation(Some(relation));
                    }
                }
            }
            Node::WithClause(with) => open.extend_with(with),
            Node::TypeName(name) => {
                self.last_word(name.names().iter().map(Node::String));
                children(node, open);
            }
            Node::NodeList(list) => open.extend(list.iter()),
            Node::FuncCall(call) => {
                self.call(call);
                children(node, open);
            }
            Node::A_Expr(expression) => {
                // One of the database's own runs a function of its own.
                let operator = expression.name().iter().next_back().and_then(Node::as_str);
                if let Some(operator) = operator.filter(|operator| !OPERATORS.contains(operator)) {
                    self.word(operator);
                }
                children(node, open);
            }
            Node::IntoClause(into) => {
                self.kind(Kind::Ddl);
                self.creates(into.rel());
                self.names_created(into.rel());
            }
            Node::SelectStmt(select) => {
                open.enter(select.with_clause());
                self.kind(if select.locking_clause().is_empty() { Kind::Read } else { Kind::Write });
                children(node, open);
            }
            Node::UpdateStmt(update) => {
                // A rule of this view calls set_config() for every row.
                if update.relation().and_then(|relation| relation.relname()) == Some("pg_settings") {
                    self.touches(Scope::Session, None);
                }
                self.writes(node, update.with_clause(), open);
            }
            Node::InsertStmt(insert) => self.writes(node, insert.with_clause(), open),
            Node::DeleteStmt(delete) => self.writes(node, delete.with_clause(), open),
            Node::MergeStmt(merge) => self.writes(node, merge.with_clause(), open),
            Node::RefreshMatViewStmt(refresh) => {
                self.kind(Kind::Ddl);
                open.extend(refresh.relation().map(Node::RangeVar));
            }
            Node::TruncateStmt(truncate) => {
                self.kind(Kind::Write);
                open.extend(truncate.relations().iter());
            }
            _ if self.is_statement(node, open) => {}
            _ => children(node, open),
        }
    }

    fn writes<'t>(&mut self, node: Node<'t>, with: Option<&nodes::WithClause>, open: &mut Open<'t>) {
        open.enter(with);
        self.kind(Kind::Write);
        children(node, open);
    }

    /// Statements that are more than an expression. Bodies of views, rules and functions do not run when they are made.
    fn is_statement<'t>(&mut self, node: Node<'t>, open: &mut Open<'t>) -> bool {
        match node {
            Node::ExplainStmt(explain) => open.push(explain.query()),
            Node::PrepareStmt(prepare) => {
                self.prepares(prepare.name());
                // Its calls count now, because nobody looks at the query again; its kind does not.
                let kind = self.kind_so_far();
                self.walk(prepare.query());
                self.restore_kind(kind.max(Kind::Session));
            }
            Node::ExecuteStmt(execute) => {
                self.kind(Kind::Other);
                self.names_prepared(execute.name());
                open.extend(execute.params().iter());
            }
            Node::DeclareCursorStmt(declare) => {
                self.declares(declare);
                open.push(declare.query());
            }
            Node::CopyStmt(copy) => {
                self.kind(Kind::Copy);
                open.extend(copy.relation().map(Node::RangeVar));
                open.extend([copy.query(), copy.where_clause()]);
            }
            Node::CreateTableAsStmt(create) => {
                self.kind(Kind::Ddl);
                self.creates(create.into().and_then(nodes::IntoClause::rel));
                open.push(create.query());
            }
            Node::CreateSchemaStmt(create) => {
                self.kind(Kind::Ddl);
                open.extend(create.schema_elts().iter());
            }
            Node::CreateStmt(create) => {
                self.kind(Kind::Ddl);
                self.creates(create.relation());
                computed_bounds(create.partbound(), open);
            }
            Node::AlterTableStmt(alter) => {
                self.kind(Kind::Ddl);
                open.extend(alter.relation().map(Node::RangeVar));
                for command in alter.cmds() {
                    if let Node::AlterTableCmd(command) = command {
                        computed_for_each_row(command.def(), open);
                    }
                }
            }
            Node::AlterDomainStmt(alter) => {
                self.kind(Kind::Ddl);
                computed_for_each_row(alter.def(), open);
            }
            Node::IndexStmt(index) => {
                self.kind(Kind::Ddl);
                open.extend(index.relation().map(Node::RangeVar));
                open.push(index.where_clause());
                open.extend(index.index_params().iter().map(nodes::IndexElem::expr));
            }
            Node::CallStmt(call) => {
                self.kind(Kind::Other);
                if let Some(call) = call.funccall() {
                    open.push(Node::FuncCall(call));
                }
            }
            Node::DoStmt(does) => self.does(does),
            _ => return self.is_session_statement(node) || self.is_creation(node) || self.is_other(node),
        }
        true
    }

    /// Statements that make something that may be temporary.
    fn is_creation(&mut self, node: Node<'_>) -> bool {
        match node {
            Node::ViewStmt(create) => self.creates(create.view()),
            Node::CreateSeqStmt(create) => self.creates(create.sequence()),
            Node::CompositeTypeStmt(create) => self.creates(create.typevar()),
            Node::CreateFunctionStmt(create) => self.creates_named(create.funcname().iter()),
            Node::DefineStmt(create) => self.creates_named(create.defnames().iter().map(Node::String)),
            Node::CreateEnumStmt(create) => self.creates_named(create.type_name().iter().map(Node::String)),
            Node::CreateRangeStmt(create) => self.creates_named(create.type_name().iter().map(Node::String)),
            Node::CreateDomainStmt(create) => {
                self.creates_named(create.domainname().iter().map(Node::String))
            }
            Node::CreateStatsStmt(create) => self.creates_named(create.defnames().iter().map(Node::String)),
            // Rare, and not worth a look at their names: the server can be asked.
            Node::CreateOpClassStmt(_)
            | Node::CreateOpFamilyStmt(_)
            | Node::CreateConversionStmt(_)
            | Node::ImportForeignSchemaStmt(_) => self.suspect(States::TEMP),
            // The binding has no node for CREATE FOREIGN TABLE.
            Node::Invalid(other) if other.type_ == pg_raw_parse::raw::NodeTag::T_CreateForeignTableStmt => {
                self.suspect(States::TEMP);
            }
            // Runs a script, which is not in the text.
            Node::CreateExtensionStmt(_) | Node::AlterExtensionStmt(_) => {
                self.suspect(States::TEMP);
                self.calls_unknown();
            }
            _ => return false,
        }
        self.kind(Kind::Ddl);
        true
    }

    /// Statements that leave nothing in the session, or only take something away.
    fn is_other(&mut self, node: Node<'_>) -> bool {
        match node {
            Node::DropStmt(_) | Node::DropOwnedStmt(_) => {
                self.releases();
                self.kind(Kind::Ddl);
            }
            Node::VariableShowStmt(_) | Node::FetchStmt(_) => self.kind(Kind::Read),
            Node::LockStmt(_) | Node::ConstraintsSetStmt(_) => self.kind(Kind::Transaction),
            Node::NotifyStmt(_)
            | Node::VacuumStmt(_)
            | Node::ClusterStmt(_)
            | Node::ReindexStmt(_)
            | Node::CheckPointStmt(_)
            | Node::AlterSystemStmt(_) => self.kind(Kind::Other),
            _ if is_plain_ddl(node) => self.kind(Kind::Ddl),
            _ => return false,
        }
        true
    }
}

/// ALTER TABLE and ALTER DOMAIN run the defaults, conversions and conditions that they add over the rows that are there.
fn computed_for_each_row<'t>(definition: Node<'t>, open: &mut Open<'t>) {
    match definition {
        Node::ColumnDef(column) => {
            open.push(column.raw_default());
            open.extend(column.type_name().map(Node::TypeName));
            column.constraints().iter().for_each(|constraint| computed_for_each_row(constraint, open));
        }
        Node::Constraint(constraint) => open.push(constraint.raw_expr()),
        Node::PartitionCmd(partition) => computed_bounds(partition.bound(), open),
        _ => {}
    }
}

/// The bounds of a partition are computed when it is made or attached.
fn computed_bounds<'t>(bounds: Option<&'t nodes::PartitionBoundSpec>, open: &mut Open<'t>) {
    if let Some(bounds) = bounds {
        open.extend(bounds.lowerdatums().iter().chain(bounds.upperdatums()).chain(bounds.listdatums()));
    }
}

/// The nodes right below an expression or a SELECT, INSERT, UPDATE, DELETE or MERGE. Panics at a node that is neither,
/// which `judge` catches.
fn children<'t>(node: Node<'t>, open: &mut Open<'t>) {
    walk_manual::<()>(node, |child| {
        open.push(child);
        Recurse::no()
    });
}

pub(super) fn is_plain_ddl(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::ReplicaIdentityStmt(_)
            | Node::AlterCollationStmt(_)
            | Node::GrantStmt(_)
            | Node::GrantRoleStmt(_)
            | Node::AlterDefaultPrivilegesStmt(_)
            | Node::CreateTableSpaceStmt(_)
            | Node::DropTableSpaceStmt(_)
            | Node::AlterTableSpaceOptionsStmt(_)
            | Node::AlterTableMoveAllStmt(_)
            | Node::AlterExtensionContentsStmt(_)
            | Node::CreateFdwStmt(_)
            | Node::AlterFdwStmt(_)
            | Node::CreateForeignServerStmt(_)
            | Node::AlterForeignServerStmt(_)
            | Node::CreateUserMappingStmt(_)
            | Node::AlterUserMappingStmt(_)
            | Node::DropUserMappingStmt(_)
            | Node::CreatePolicyStmt(_)
            | Node::AlterPolicyStmt(_)
            | Node::CreateAmStmt(_)
            | Node::CreateTrigStmt(_)
            | Node::CreateEventTrigStmt(_)
            | Node::AlterEventTrigStmt(_)
            | Node::CreatePLangStmt(_)
            | Node::CreateRoleStmt(_)
            | Node::AlterRoleStmt(_)
            | Node::AlterRoleSetStmt(_)
            | Node::DropRoleStmt(_)
            | Node::AlterSeqStmt(_)
            | Node::AlterOpFamilyStmt(_)
            | Node::CommentStmt(_)
            | Node::SecLabelStmt(_)
            | Node::AlterStatsStmt(_)
            | Node::AlterFunctionStmt(_)
            | Node::RenameStmt(_)
            | Node::AlterObjectDependsStmt(_)
            | Node::AlterObjectSchemaStmt(_)
            | Node::AlterOwnerStmt(_)
            | Node::AlterOperatorStmt(_)
            | Node::AlterTypeStmt(_)
            | Node::RuleStmt(_)
            | Node::AlterEnumStmt(_)
            | Node::CreatedbStmt(_)
            | Node::AlterDatabaseStmt(_)
            | Node::AlterDatabaseRefreshCollStmt(_)
            | Node::AlterDatabaseSetStmt(_)
            | Node::DropdbStmt(_)
            | Node::CreateCastStmt(_)
            | Node::CreateTransformStmt(_)
            | Node::ReassignOwnedStmt(_)
            | Node::AlterTSDictionaryStmt(_)
            | Node::AlterTSConfigurationStmt(_)
            | Node::CreatePublicationStmt(_)
            | Node::AlterPublicationStmt(_)
            | Node::CreateSubscriptionStmt(_)
            | Node::AlterSubscriptionStmt(_)
            | Node::DropSubscriptionStmt(_)
    )
}
