//! The objects that DDL and maintenance name, and that no walk over what runs comes to.

use pg_raw_parse::raw::{GrantTargetType, ObjectType};
use pg_raw_parse::{Node, nodes};

use super::commands::Command;
use super::effects::Findings;
use super::facts::Kind;
use super::schemas::{Name, Sort};

impl Findings {
    /// Looks at one statement of the text.
    pub(super) fn statement(&mut self, statement: Node<'_>) {
        let before = self.replace_kind(Kind::Empty);
        self.walk(statement);
        self.names_objects(statement);
        let kind = self.replace_kind(before);
        self.kind(kind);
        let command = match Command::of(statement) {
            Command::Utility if kind == Kind::Ddl => Command::Ddl,
            command => command,
        };
        self.names.close(command);
    }

    /// A relation that a statement names and that is none of WITH.
    pub(super) fn names_relation(&mut self, relation: Option<&nodes::RangeVar>) {
        if let Some((relation, name)) = relation.and_then(|relation| Some((relation, relation.relname()?))) {
            self.names.qualified(Sort::Relation, relation.schemaname(), name);
        }
    }

    /// A relation that a statement makes.
    pub(super) fn names_created(&mut self, relation: Option<&nodes::RangeVar>) {
        if let Some(relation) = relation {
            self.names.created(relation.schemaname());
        }
    }

    /// A type. Those that the grammar has words for are PostgreSQL's own.
    fn names_type(&mut self, name: Option<&nodes::TypeName>) {
        let Some(name) = name else { return };
        self.names_parts(Sort::Type, name.names().iter().map(Node::String));
    }

    /// A name in its parts.
    fn names_parts<'t>(&mut self, sort: Sort, parts: impl DoubleEndedIterator<Item = Node<'t>>) {
        let mut parts = parts.rev().filter_map(Node::as_str);
        let (name, schema) = (parts.next(), parts.next());
        if let Some(name) = name
            && !(sort == Sort::Type && schema == Some("pg_catalog"))
        {
            self.names.qualified(sort, schema, name);
        }
    }

    /// What is made under a name in parts.
    fn names_new<'t>(&mut self, parts: impl DoubleEndedIterator<Item = Node<'t>>) {
        self.names.created(parts.rev().filter_map(Node::as_str).nth(1));
    }

    fn names_schema(&mut self, schema: Option<&str>) {
        if let Some(schema) = schema {
            self.names.add(Name::new(Sort::Schema, schema));
        }
    }

    /// The objects of a statement that is neither a query nor changes rows.
    pub(super) fn names_objects(&mut self, statement: Node<'_>) {
        match statement {
            Node::CreateStmt(create) => self.names_table(create),
            Node::CreateTableAsStmt(create) => {
                self.names_created(create.into().and_then(nodes::IntoClause::rel));
            }
            Node::ViewStmt(create) => {
                self.names_created(create.view());
                self.names_within(create.query());
            }
            Node::AlterTableStmt(alter) => {
                for command in alter.cmds() {
                    if let Node::AlterTableCmd(command) = command {
                        self.names_definition(command.def());
                    }
                }
            }
            Node::CreateSchemaStmt(create) => {
                self.names_schema(create.schemaname());
                create.schema_elts().iter().for_each(|element| self.names_objects(element));
            }
            Node::CreateFunctionStmt(create) => {
                self.names_new(create.funcname().iter());
                create.parameters().iter().for_each(|parameter| self.names_type(parameter.arg_type()));
                self.names_type(create.return_type());
            }
            Node::CreateTrigStmt(create) => {
                self.names_relation(create.relation());
                self.names_parts(Sort::Function, create.funcname().iter());
            }
            Node::DropStmt(drop) => {
                drop.objects().iter().for_each(|object| self.names_object(drop.remove_type, object));
            }
            Node::CommentStmt(comment) => self.names_object(comment.objtype, comment.object()),
            Node::RenameStmt(rename) => {
                self.names_relation(rename.relation());
                self.names_object(rename.rename_type, rename.object());
                if rename.rename_type == ObjectType::OBJECT_SCHEMA {
                    self.names_schema(rename.subname());
                }
            }
            Node::AlterObjectSchemaStmt(alter) => {
                self.names_relation(alter.relation());
                self.names_object(alter.object_type, alter.object());
                self.names_schema(alter.newschema());
            }
            Node::AlterOwnerStmt(alter) => {
                self.names_relation(alter.relation());
                self.names_object(alter.object_type, alter.object());
            }
            Node::GrantStmt(grant) => self.names_granted(grant),
            _ => self.names_of_types(statement),
        }
    }

    /// Types, sequences and other things that are made or changed by themselves.
    fn names_of_types(&mut self, statement: Node<'_>) {
        match statement {
            Node::CreateSeqStmt(create) => self.names_created(create.sequence()),
            Node::AlterSeqStmt(alter) => self.names_relation(alter.sequence()),
            Node::CompositeTypeStmt(create) => {
                self.names_created(create.typevar());
                create.coldeflist().iter().for_each(|column| self.names_type(column.type_name()));
            }
            Node::DefineStmt(create) => self.names_new(create.defnames().iter().map(Node::String)),
            Node::CreateEnumStmt(create) => self.names_new(create.type_name().iter().map(Node::String)),
            Node::CreateRangeStmt(create) => self.names_new(create.type_name().iter().map(Node::String)),
            Node::CreateDomainStmt(create) => {
                self.names_new(create.domainname().iter().map(Node::String));
                self.names_type(create.type_name());
            }
            Node::CreateStatsStmt(create) => {
                create.relations().iter().for_each(|relation| self.names_relation(Some(relation)));
            }
            Node::AlterEnumStmt(alter) => {
                self.names_parts(Sort::Type, alter.type_name().iter().map(Node::String));
            }
            Node::AlterDomainStmt(alter) => self.names_parts(Sort::Type, alter.type_name().iter()),
            Node::AlterTypeStmt(alter) => self.names_parts(Sort::Type, alter.type_name().iter()),
            Node::AlterFunctionStmt(alter) => {
                let function = alter.func().map(|function| function.objname().iter());
                function.into_iter().for_each(|parts| self.names_parts(Sort::Function, parts));
            }
            _ => self.names_of_upkeep(statement),
        }
    }

    /// Rules, policies, locks, and maintenance.
    fn names_of_upkeep(&mut self, statement: Node<'_>) {
        match statement {
            Node::RuleStmt(create) => self.names_relation(create.relation()),
            Node::CreatePolicyStmt(create) => self.names_relation(create.table()),
            Node::AlterPolicyStmt(alter) => self.names_relation(alter.table()),
            Node::ClusterStmt(cluster) => self.names_relation(cluster.relation()),
            Node::ReindexStmt(reindex) => self.names_relation(reindex.relation()),
            Node::VacuumStmt(vacuum) => {
                vacuum.rels().iter().for_each(|relation| self.names_relation(relation.relation()));
            }
            Node::LockStmt(lock) => {
                for relation in lock.relations() {
                    if let Node::RangeVar(relation) = relation {
                        self.names_relation(Some(relation));
                    }
                }
            }
            _ => {}
        }
    }

    fn names_table(&mut self, create: &nodes::CreateStmt) {
        self.names_created(create.relation());
        self.names_type(create.of_typename());
        for parent in create.inh_relations() {
            if let Node::RangeVar(parent) = parent {
                self.names_relation(Some(parent));
            }
        }
        create.table_elts().iter().for_each(|element| self.names_definition(element));
    }

    /// A column, a constraint, or a partition.
    fn names_definition(&mut self, definition: Node<'_>) {
        match definition {
            Node::ColumnDef(column) => {
                self.names_type(column.type_name());
                column.constraints().iter().for_each(|constraint| self.names_definition(constraint));
            }
            Node::Constraint(constraint) => self.names_relation(constraint.pktable()),
            Node::PartitionCmd(partition) => self.names_relation(partition.name()),
            _ => {}
        }
    }

    /// An object of a given type, as DROP, COMMENT and others write it.
    fn names_object(&mut self, object_type: ObjectType::Type, object: Node<'_>) {
        match object {
            Node::ObjectWithArgs(function) if object_type != ObjectType::OBJECT_OPERATOR => {
                self.names_parts(Sort::Function, function.objname().iter());
            }
            Node::TypeName(name) => self.names_type(Some(name)),
            Node::String(name) if object_type == ObjectType::OBJECT_SCHEMA => {
                self.names_schema(name.sval());
            }
            Node::NodeList(parts) => match object_type {
                ObjectType::OBJECT_TABLE
                | ObjectType::OBJECT_VIEW
                | ObjectType::OBJECT_MATVIEW
                | ObjectType::OBJECT_INDEX
                | ObjectType::OBJECT_SEQUENCE
                | ObjectType::OBJECT_FOREIGN_TABLE => self.names_parts(Sort::Relation, parts.iter()),
                // Behind the name of their relation stands their own.
                ObjectType::OBJECT_TRIGGER
                | ObjectType::OBJECT_POLICY
                | ObjectType::OBJECT_RULE
                | ObjectType::OBJECT_COLUMN
                | ObjectType::OBJECT_TABCONSTRAINT => {
                    let mut parts = parts.iter();
                    let _own = parts.next_back();
                    self.names_parts(Sort::Relation, parts);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn names_granted(&mut self, grant: &nodes::GrantStmt) {
        let relations = matches!(grant.objtype, ObjectType::OBJECT_TABLE | ObjectType::OBJECT_SEQUENCE);
        // The list holds other things in every other case.
        if relations && grant.targtype == GrantTargetType::ACL_TARGET_OBJECT {
            grant.objects().iter().for_each(|relation| self.names_relation(Some(relation)));
        }
    }

    /// What a query names that does not run now.
    fn names_within(&mut self, query: Node<'_>) {
        let mut inner = Findings::new(self.letters());
        inner.walk(query);
        self.names.take(&inner.names);
    }
}
