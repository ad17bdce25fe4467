//! The words in which a [`super::turn::Turn`] is told of requests and speaks of replies.

/// The transaction status of the last ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Not in a transaction block (`I`).
    #[default]
    Idle,
    /// In a transaction block (`T`).
    InTransaction,
    /// In a transaction block that failed and wants ROLLBACK (`E`).
    Failed,
}

/// Who asked, and so who gets the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The client: its replies are forwarded.
    Client,
    /// firepool itself: its replies are swallowed.
    Proxy,
    /// firepool in the client's stead, so that what the client asked for next can work: success is swallowed, an error
    /// is the client's answer.
    Stead,
    /// The client, whose request does not go to the server: one that fails goes in its place, so that what follows it
    /// is skipped and its transaction fails, and the error has the client's words under this number.
    Refused(u32),
}

/// What is to be remembered about a request until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Parse, Bind and Describe: it is about the unnamed statement.
    pub unnamed: bool,
    /// The Describe behind the client's Parse of a statement that has a name, or its Close: what becomes of the name
    /// depends on the answer.
    pub naming: bool,
    /// The Describe behind a Parse of a statement that clients share: whether the server has it, and what the statement
    /// is there, depends on the answer.
    pub shared: bool,
    /// Nobody could read the text that it is about.
    pub unread: bool,
    /// The Sync behind the client's startup settings, which follow what reset them.
    pub reassigns: bool,
    /// The client has no transaction behind it, though the server still has the proxy's.
    pub owned: bool,
    /// A Query with a statement of the proxy's own in front of it, so many bytes.
    pub prefix: u8,
    /// That statement is still to be answered.
    pub opening: bool,
    /// Its ROLLBACK stands for the client's COMMIT.
    pub commits: bool,
    /// A Sync behind which the server has no transaction open, or something is wrong.
    pub ends: bool,
    /// Under what it is counted.
    pub bill: Bill,
}

/// Under what a statement is counted: numbers that mean something to whoever counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bill {
    /// A bit for each schema that it names; none where nobody counts.
    pub schemas: u64,
    /// What it is.
    pub command: u8,
    /// Bytes that the client sent for it.
    pub received: u32,
    /// Where its shape is counted, from 1 on; 0 is nowhere in particular.
    pub row: u16,
    /// How many shapes were counted there before.
    pub generation: u32,
    /// Under which more is kept of it; 0 where nothing is.
    pub ticket: u32,
    /// A number that means something to whoever follows it; 0 where nobody does.
    pub trace: u32,
    /// When it was sent, by the clock of whoever told [`super::turn::Turn::set_time`].
    pub sent: u64,
}

impl Bill {
    /// Whether it is counted at all.
    pub fn is_due(&self) -> bool {
        self.schemas != 0
    }

    /// Counted as the statement that it executes.
    #[must_use]
    pub fn executing(self, other: Self) -> Self {
        Self { schemas: other.schemas, row: other.row, generation: other.generation, ..self }
    }
}

/// A reply that the proxy gives by itself, when it is its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// CloseComplete, for a statement that the server keeps.
    Closed,
}

impl Local {
    /// The message.
    pub fn bytes(self) -> [u8; 5] {
        match self {
            Self::Closed => [b'3', 0, 0, 0, 4],
        }
    }
}

/// Requests that were never carried out, because an error came before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Those with [`Mark::naming`].
    pub naming: u32,
    /// Those with [`Mark::shared`].
    pub shared: u32,
}

/// What a reply means for the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Who gets it.
    pub asker: Asker,
    /// What it is.
    pub kind: ReplyKind,
}

/// What the client may be sent in any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// DataRow messages.
    pub rows: bool,
    /// CopyData messages.
    pub data: bool,
}

/// The kinds of reply that the relay tells apart. What was remembered about the request is kept in
/// [`super::turn::Turn::answered`], but for parts, rows, and what can come at any moment: those are many, and ask for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// Rows, descriptions, completions, COPY data: to be passed on.
    Part,
    /// ParseComplete.
    Parsed,
    /// ParameterDescription, or the RowDescription or NoData that follows it, of a prepared statement.
    Described,
    /// BindComplete.
    Bound,
    /// DataRow.
    Row,
    /// PortalSuspended, or FunctionCallResponse: something was carried out.
    Carried,
    /// CommandComplete.
    Command,
    /// ErrorResponse.
    Error,
    /// ReadyForQuery.
    Ready,
    /// ParameterStatus, which can come at any moment.
    Parameter,
    /// NoticeResponse or NotificationResponse, which can come at any moment.
    Notice,
}

/// The server, or the client through us, broke the rules; or our picture of the connection is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A reply that the front of the queue does not allow.
    #[error("unexpected reply {tag:?} while {expected} was owed", tag = char::from(*.tag))]
    Unexpected {
        /// Type byte of the reply.
        tag: u8,
        /// What was owed.
        expected: &'static str,
    },
    /// A ReadyForQuery with a status that is none.
    #[error("unknown transaction status {0:#04x}")]
    UnknownStatus(u8),
    /// A transaction that the proxy has ended is still open.
    #[error("a transaction that was ended is still open")]
    StillOpen,
    /// A message that does not belong on an established connection.
    #[error("message {0:#04x} has no place on an established connection")]
    OutOfPlace(u8),
}
