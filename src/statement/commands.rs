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

    /// The word of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::Truncate => "truncate",
            Self::Copy => "copy",
            Self::Fetch => "fetch",
            Self::Call => "call",
            Self::Ddl => "ddl",
            Self::Transaction => "transaction",
            Self::Utility => "utility",
        }
    }

    /// What the first letters of a CommandComplete tag say: those of PostgreSQL's `src/include/tcop/cmdtaglist.h`.
    pub fn of_tag(tag: &[u8; 6]) -> Self {
        match tag {
            b"SELECT" => Self::Select,
            b"INSERT" => Self::Insert,
            b"UPDATE" => Self::Update,
            b"DELETE" => Self::Delete,
            b"MERGE " => Self::Merge,
            b"TRUNCA" => Self::Truncate,
            b"FETCH " => Self::Fetch,
            b"CREATE" | b"COMMEN" | b"REVOKE" => Self::Ddl,
            b"COMMIT" | b"ROLLBA" | b"SAVEPO" | b"RELEAS" | b"START " => Self::Transaction,
            [b'C', b'O', b'P', b'Y', ..] => Self::Copy,
            [b'M', b'O', b'V', b'E', ..] => Self::Fetch,
            [b'C', b'A', b'L', b'L', ..] => Self::Call,
            [b'D', b'R', b'O', b'P', ..] | [b'A', b'L', b'T', b'E', ..] | [b'G', b'R', b'A', b'N', ..] => {
                Self::Ddl
            }
            [b'B', b'E', b'G', b'I', ..] => Self::Transaction,
            _ => Self::Utility,
        }
    }

    /// The one of that number.
    pub fn numbered(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

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
            // Its tag says what was executed.
            Node::ExecuteStmt(_) => Self::Unknown,
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
