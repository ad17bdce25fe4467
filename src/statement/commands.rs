//! What a statement is, in the words of metrics.

use pg_raw_parse::Node;

/// What a statement is, by its outermost command.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
pub enum Command {
    /// What could not be read.
    #[default]
    Unknown,
    /// SELECT, VALUES and TABLE.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// TRUNCATE.
    Truncate,
    /// COPY in either direction.
    Copy,
    /// FETCH and MOVE.
    Fetch,
    /// CALL, and the protocol's FunctionCall.
    Call,
    /// CREATE, ALTER, DROP, GRANT and the like, SELECT INTO.
    Ddl,
    /// BEGIN, COMMIT, SAVEPOINT and the like.
    Transaction,
    /// Everything else: SET, SHOW, EXPLAIN, PREPARE, LISTEN, VACUUM, DO.
    Utility,
}

impl Command {
    /// Each of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Unknown,
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Merge,
        Self::Truncate,
        Self::Copy,
        Self::Fetch,
        Self::Call,
        Self::Ddl,
        Self::Transaction,
        Self::Utility,
    ];

    pub(super) fn of(statement: Node<'_>) -> Self {
        match statement {
            Node::SelectStmt(select) if select.into_clause().is_none() => Self::Select,
            Node::InsertStmt(_) => Self::Insert,
            Node::UpdateStmt(_) => Self::Update,
            Node::DeleteStmt(_) => Self::Delete,
            Node::MergeStmt(_) => Self::Merge,
            Node::TruncateStmt(_) => Self::Truncate,
            Node::CopyStmt(_) => Self::Copy,
            Node::FetchStmt(_) => Self::Fetch,
            Node::CallStmt(_) => Self::Call,
            Node::TransactionStmt(_) => Self::Transaction,
            Node::SelectStmt(_) => Self::Ddl,
            _ => Self::Utility,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn every_command_stands_at_its_number() {
        for (number, command) in Command::ALL.into_iter().enumerate() {
            assert_eq!(command as usize, number);
        }
    }
}
