//! Whose turn it is: the one protocol state of a server connection.
//!
//! Every message that goes to the server is told to [`Turn::request`], every message that comes back to
//! [`Turn::reply`]. Between them stands a queue of replies that the server still owes, in the order in which it must
//! give them. A reply that does not fit the front of the queue is a [`Violation`]: the connection is closed, never
//! guessed about, because a reply that is handed to the wrong client is the worst thing a pooler can do.
//!
//! A connection may serve somebody else only when it is [`Turn::at_rest`]: nothing owed, no transaction open, no
//! extended-protocol batch without its Sync, no COPY.
//!
//! The rules are those of the chapter "Message Flow" of PostgreSQL's documentation and of `PostgresMain` and
//! `SocketBackend` in `src/backend/tcop/postgres.c`.

use std::collections::VecDeque;

/// Replies that may be owed before the caller must stop sending. Large enough that a server that owes so many has
/// filled its output buffer (8 kB, `PQ_SEND_BUFFER_SIZE` in `src/backend/libpq/pqcomm.c`; the smallest reply is 5
/// bytes) and is sending, so that waiting for replies cannot deadlock.
pub const MAX_OWED: usize = 16_384;

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
}

/// What a reply means for the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Who gets it.
    pub asker: Asker,
    /// What it is.
    pub kind: ReplyKind,
}

/// The kinds of reply that the relay tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// Rows, descriptions, completions of Parse and Bind, COPY data: to be passed on.
    Part,
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
    /// A message that does not belong on an established connection.
    #[error("message {0:#04x} has no place on an established connection")]
    OutOfPlace(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parse,
    ParseUnnamed,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute,
    Close,
    Sync,
    Query,
    FunctionCall,
    /// The client's CopyDone or CopyFail: no reply of its own, but it bounds the Syncs that COPY mode ignores.
    CopyEnd,
}

#[derive(Debug, Clone, Copy)]
struct Owed {
    kind: Kind,
    asker: Asker,
}

/// The extended-protocol batch that the next Sync closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// Nothing was sent since the last Sync.
    Closed,
    /// Messages were sent and no Sync yet: the server may hold an implicit transaction open.
    Open,
    /// An error was answered: the server ignores everything up to the next Sync.
    Skipping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    No,
    In,
    Out,
    Both,
}

/// The protocol state of one server connection after its login.
#[derive(Debug)]
pub struct Turn {
    owed: VecDeque<Owed>,
    status: Status,
    batch: Batch,
    copy: Copy,
    /// An error met COPY mode where it cannot be known which Syncs the server had already ignored: one more
    /// ReadyForQuery may come than is owed. Such a connection is never reused.
    doubtful: bool,
    /// The server's unnamed statement was parsed since [`Turn::forget_unnamed`].
    holds_unnamed: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}

impl Turn {
    /// A connection that has just sent its first ReadyForQuery.
    pub fn new() -> Self {
        Self {
            owed: VecDeque::with_capacity(16),
            status: Status::Idle,
            batch: Batch::Closed,
            copy: Copy::No,
            doubtful: false,
            holds_unnamed: false,
        }
    }

    /// Nothing owed, nothing open: the connection may serve somebody else.
    pub fn at_rest(&self) -> bool {
        self.is_quiet() && self.status == Status::Idle
    }

    /// Nothing owed and no batch or COPY open, though perhaps inside a transaction block.
    pub fn is_quiet(&self) -> bool {
        self.owed.is_empty() && self.batch == Batch::Closed && self.copy == Copy::No && !self.doubtful
    }

    /// Whether the server owes any reply.
    pub fn awaits_reply(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether the server may be asked for more. While this is false, wait for replies first.
    pub fn has_room(&self) -> bool {
        self.owed.len() < MAX_OWED
    }

    /// Whether a batch waits for its Sync.
    pub fn needs_sync(&self) -> bool {
        self.batch != Batch::Closed
    }

    /// Whether the server waits for the client's COPY data.
    pub fn in_copy_in(&self) -> bool {
        matches!(self.copy, Copy::In | Copy::Both)
    }

    /// From here on the unnamed statement that the server may have is somebody else's.
    pub fn forget_unnamed(&mut self) {
        self.holds_unnamed = false;
    }

    /// Whether the server has confirmed an unnamed statement since then, as far as its replies have come.
    pub fn holds_unnamed(&self) -> bool {
        self.holds_unnamed
    }

    /// Whether the server has still to say what became of an unnamed statement.
    pub fn owes_unnamed(&self) -> bool {
        self.owed.iter().any(|owed| owed.kind == Kind::ParseUnnamed)
    }

    /// The transaction status of the last ReadyForQuery.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Notes a message that goes to the server. `target` is the first body byte, which says whether Describe and
    /// Close mean a statement (`S`) or a portal (`P`), and whether Parse gives a name (not 0). Types that the protocol does not know are `frame`'s to refuse.
    pub fn request(&mut self, tag: u8, target: u8, asker: Asker) {
        let skipping = self.batch == Batch::Skipping;
        let kind = match tag {
            b'S' => {
                self.batch = Batch::Closed;
                self.owed.push_back(Owed { kind: Kind::Sync, asker });
                return;
            }
            _ if skipping => return,
            b'Q' => Kind::Query,
            b'F' => Kind::FunctionCall,
            b'P' if target == 0 => Kind::ParseUnnamed,
            b'P' => Kind::Parse,
            b'B' => Kind::Bind,
            b'D' if target == b'S' => Kind::DescribeStatement,
            b'D' => Kind::DescribePortal,
            b'E' => Kind::Execute,
            b'C' => Kind::Close,
            b'c' | b'f' if !self.owed.is_empty() => Kind::CopyEnd,
            _ => return,
        };
        match kind {
            Kind::Query | Kind::FunctionCall => self.batch = Batch::Closed,
            Kind::CopyEnd => {}
            _ => self.batch = Batch::Open,
        }
        self.owed.push_back(Owed { kind, asker });
    }

    /// Judges a message that came from the server. `status` is the first body byte, which ReadyForQuery uses.
    pub fn reply(&mut self, tag: u8, status: u8) -> Result<Reply, Violation> {
        let front = self.owed.front().copied();
        let asker = front.map_or(Asker::Client, |owed| owed.asker);
        let kind = match tag {
            b'N' | b'A' => ReplyKind::Notice,
            b'S' => ReplyKind::Parameter,
            b'E' => {
                self.error(front);
                ReplyKind::Error
            }
            b'Z' => {
                self.ready(front, status)?;
                ReplyKind::Ready
            }
            b'C' => {
                self.command(front)?;
                ReplyKind::Command
            }
            _ => {
                self.part(tag, front)?;
                ReplyKind::Part
            }
        };
        Ok(Reply { asker, kind })
    }

    fn error(&mut self, front: Option<Owed>) {
        let in_copy = std::mem::replace(&mut self.copy, Copy::No) == Copy::In;
        match front.map(|owed| owed.kind) {
            // Its ReadyForQuery is still to come. Without a front, the server is about to close.
            None | Some(Kind::Sync | Kind::Query | Kind::FunctionCall | Kind::CopyEnd) => {}
            Some(kind) => {
                if kind == Kind::Execute && in_copy {
                    self.forget_copy();
                }
                // It is gone, or, if the server could not even read the message, what it was before. Where the Parse
                // was skipped because of another error, what was there before stays as well.
                if kind == Kind::ParseUnnamed {
                    self.holds_unnamed = false;
                }
                self.skip_to_sync();
            }
        }
    }

    /// An error ended COPY IN of the Execute at the front. The Syncs that were sent before the end of the data were
    /// probably read in COPY mode, which ignores them, but perhaps after the error, which does not.
    fn forget_copy(&mut self) {
        let end = self.owed.iter().position(|owed| owed.kind == Kind::CopyEnd);
        let of_copy = end.map_or(self.owed.len(), |end| end + 1);
        self.doubtful |= self.owed.iter().take(of_copy).any(|owed| owed.kind == Kind::Sync);
        self.owed.drain(..of_copy);
    }

    fn skip_to_sync(&mut self) {
        while self.owed.front().is_some_and(|owed| owed.kind != Kind::Sync) {
            self.owed.pop_front();
        }
        if self.owed.is_empty() {
            self.batch = Batch::Skipping;
        }
    }

    fn ready(&mut self, front: Option<Owed>, status: u8) -> Result<(), Violation> {
        match front.map(|owed| owed.kind) {
            Some(Kind::Sync | Kind::Query | Kind::FunctionCall) => self.pop(),
            None if self.doubtful => {}
            other => return Err(unexpected(b'Z', other)),
        }
        self.copy = Copy::No;
        self.status = match status {
            b'I' => Status::Idle,
            b'T' => Status::InTransaction,
            b'E' => Status::Failed,
            other => return Err(Violation::UnknownStatus(other)),
        };
        Ok(())
    }

    fn command(&mut self, front: Option<Owed>) -> Result<(), Violation> {
        match front.map(|owed| owed.kind) {
            Some(Kind::Query) => self.copy = Copy::No,
            Some(Kind::Execute) => {
                let was_copy_in =
                    matches!(std::mem::replace(&mut self.copy, Copy::No), Copy::In | Copy::Both);
                match self.owed.iter().position(|owed| owed.kind == Kind::CopyEnd) {
                    // COPY mode ignores the Syncs up to the end of its data.
                    Some(end) if was_copy_in => drop(self.owed.drain(..end)),
                    _ if was_copy_in => return Err(unexpected(b'C', Some(Kind::Execute))),
                    _ => {}
                }
                self.pop();
            }
            other => return Err(unexpected(b'C', other)),
        }
        Ok(())
    }

    fn part(&mut self, tag: u8, front: Option<Owed>) -> Result<(), Violation> {
        let kind = front.map(|owed| owed.kind);
        match (tag, kind) {
            (b'1', Some(Kind::ParseUnnamed)) => {
                self.holds_unnamed = true;
                self.pop();
            }
            (b'1', Some(Kind::Parse))
            | (b'2', Some(Kind::Bind))
            | (b'3', Some(Kind::Close))
            | (b'T' | b'n', Some(Kind::DescribeStatement | Kind::DescribePortal))
            | (b'I' | b's', Some(Kind::Execute)) => self.pop(),
            (b't', Some(Kind::DescribeStatement))
            | (b'T' | b'I', Some(Kind::Query))
            | (b'D', Some(Kind::Query | Kind::Execute))
            | (b'V', Some(Kind::FunctionCall)) => {}
            (b'G', Some(Kind::Query | Kind::Execute)) => self.copy = Copy::In,
            (b'H', Some(Kind::Query | Kind::Execute)) => self.copy = Copy::Out,
            (b'W', Some(Kind::Query | Kind::Execute)) => self.copy = Copy::Both,
            (b'd', _) if matches!(self.copy, Copy::Out | Copy::Both) => {}
            (b'c', _) if self.copy == Copy::Out => self.copy = Copy::No,
            (b'c', _) if self.copy == Copy::Both => {}
            (b'K' | b'R' | b'v', _) => return Err(Violation::OutOfPlace(tag)),
            (_, other) => return Err(unexpected(tag, other)),
        }
        Ok(())
    }

    /// Takes the front, and ends of COPY data behind it that the server ignores, because no COPY is under way.
    fn pop(&mut self) {
        self.owed.pop_front();
        while self.owed.front().is_some_and(|owed| owed.kind == Kind::CopyEnd) {
            self.owed.pop_front();
        }
    }
}

fn unexpected(tag: u8, owed: Option<Kind>) -> Violation {
    let expected = match owed {
        None => "nothing",
        Some(Kind::Parse | Kind::ParseUnnamed) => "ParseComplete",
        Some(Kind::Bind) => "BindComplete",
        Some(Kind::DescribeStatement | Kind::DescribePortal) => "a description",
        Some(Kind::Execute) => "the result of Execute",
        Some(Kind::Close) => "CloseComplete",
        Some(Kind::Sync) => "ReadyForQuery",
        Some(Kind::Query) => "the result of Query",
        Some(Kind::FunctionCall) => "FunctionCallResponse",
        Some(Kind::CopyEnd) => "the end of COPY",
    };
    Violation::Unexpected { tag, expected }
}
