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

use super::bills::Bills;
use super::kind::{Kind, unexpected};
pub use super::owed::{Asker, Bill, Dropped, Local, Mark, Reply, ReplyKind, Status, Streams, Violation};

/// Replies that may be owed before the caller must stop sending. Large enough that a server that owes so many has
/// filled its output buffer (8 kB, `PQ_SEND_BUFFER_SIZE` in `src/backend/libpq/pqcomm.c`; the smallest reply is 5
/// bytes) and is sending, so that waiting for replies cannot deadlock.
pub const MAX_OWED: usize = 16_384;

#[derive(Debug, Clone, Copy)]
struct Owed {
    kind: Kind,
    asker: Asker,
    mark: Mark,
    /// The batch that it belongs to.
    epoch: u64,
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
    /// Something was carried out since the last ReadyForQuery: a transaction that had failed has not any more.
    recovered: bool,
    answered: Mark,
    /// What the last errors had skipped, until somebody asks.
    dropped: Dropped,
    /// Counts what ends a batch: an error skips nothing of the next one.
    epoch: u64,
    pub(super) bills: Bills,
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
            recovered: false,
            answered: Mark::default(),
            dropped: Dropped::default(),
            epoch: 0,
            bills: Bills::default(),
        }
    }

    /// The number of the batch that is being sent. What was sent in the same batch is carried out, or skipped together
    /// with what follows.
    pub fn epoch(&self) -> u64 {
        self.epoch
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

    /// The transaction status of the last ReadyForQuery.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether nothing more will come though the connection cannot be reused: an error left it in doubt.
    pub fn is_spent(&self) -> bool {
        let quiet = self.owed.is_empty() && self.batch == Batch::Closed && self.copy == Copy::No;
        self.doubtful && quiet && self.status == Status::Idle
    }

    /// Whether a Parse of the unnamed statement in an earlier batch is still to be answered.
    pub fn owes_unnamed_parse(&self) -> bool {
        let mut earlier = self.owed.iter().take_while(|owed| owed.epoch < self.epoch);
        earlier.any(|owed| owed.kind == Kind::Parse && owed.mark.unnamed)
    }

    /// Whether it is still to be seen what became of a statement or its name in an earlier batch. The server answers
    /// those; what belongs to the batch of now it may keep to itself until that is closed.
    pub fn owes_verdict(&self) -> bool {
        let mut earlier = self.owed.iter().take_while(|owed| owed.epoch < self.epoch);
        earlier.any(|owed| owed.mark.naming || (owed.kind == Kind::Parse && owed.mark.unnamed))
    }

    /// Whether the server is still to describe a statement that the proxy has sent in the client's stead.
    pub fn owes_description(&self) -> bool {
        self.owed.iter().any(|owed| owed.kind == Kind::DescribeStatement && owed.asker == Asker::Stead)
    }

    /// Every batch before this one has been answered to its end.
    pub fn answered_before(&self) -> u64 {
        self.owed.front().map_or(self.epoch, |owed| owed.epoch)
    }

    /// Whether the server ignores everything up to the next Sync.
    pub fn is_skipping(&self) -> bool {
        self.batch == Batch::Skipping
    }

    /// How many bytes of the proxy's own stand in front of the text that is being answered.
    pub fn prefix(&self) -> u8 {
        self.owed.front().map_or(0, |owed| owed.mark.prefix)
    }

    /// Who gets the next reply.
    pub fn next_asker(&self) -> Asker {
        self.owed.front().map_or(Asker::Client, |owed| owed.asker)
    }

    /// Takes the account of what errors had skipped since the last call.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// Notes a request that the proxy answers by itself, in its turn.
    pub fn answer_locally(&mut self, local: Local) {
        if self.batch != Batch::Skipping {
            self.batch = Batch::Open;
            let mark = Mark { naming: true, ..Mark::default() };
            let kind = Kind::Local(local);
            self.owed.push_back(Owed { kind, asker: Asker::Client, mark, epoch: self.epoch });
        }
    }

    /// Takes the reply that the proxy has to give now, before anything else comes from the server.
    pub fn take_local(&mut self) -> Option<Local> {
        match self.owed.front().map(|owed| owed.kind) {
            Some(Kind::Local(local)) => {
                self.pop();
                Some(local)
            }
            _ => None,
        }
    }

    /// [`Self::mark_request`] of a request about which nothing is to be remembered.
    pub fn request(&mut self, tag: u8, target: u8, asker: Asker) {
        self.mark_request(tag, target, asker, Mark::default());
    }

    /// Notes a message that goes to the server. `target` is the first body byte of Describe and Close: statement (`S`)
    /// or portal (`P`). Types that the protocol does not know are `frame`'s to refuse.
    pub fn mark_request(&mut self, tag: u8, target: u8, asker: Asker, mut mark: Mark) {
        let skipping = self.batch == Batch::Skipping;
        let kind = match tag {
            b'S' => {
                self.batch = Batch::Closed;
                self.owed.push_back(Owed { kind: Kind::Sync, asker, mark, epoch: self.epoch });
                self.epoch += 1;
                return;
            }
            _ if skipping => return,
            b'Q' => Kind::Query,
            b'F' => Kind::FunctionCall,
            b'P' => Kind::Parse,
            b'B' => Kind::Bind,
            b'D' if target == b'S' => Kind::DescribeStatement,
            b'D' => Kind::DescribePortal,
            b'E' => Kind::Execute,
            b'C' => Kind::Close,
            b'c' | b'f' if !self.owed.is_empty() => Kind::CopyEnd,
            _ => return,
        };
        let epoch = self.epoch;
        if kind == Kind::Execute && asker == Asker::Client {
            mark.bill = self.bills.execute();
        }
        if mark.bill.is_due() {
            mark.bill.sent = self.bills.now;
        }
        match kind {
            Kind::Query | Kind::FunctionCall => {
                self.batch = Batch::Closed;
                self.epoch += 1;
            }
            Kind::CopyEnd => {}
            _ => self.batch = Batch::Open,
        }
        self.owed.push_back(Owed { kind, asker, mark, epoch });
    }

    /// The types of message that the server may send the client in any number now, so that [`Self::reply`] need not be told of
    /// them: DataRow (`D`), CopyData (`d`).
    pub fn streams(&self) -> Streams {
        let front = self.owed.front().filter(|owed| owed.asker == Asker::Client);
        let rows = front.is_some_and(|owed| matches!(owed.kind, Kind::Query | Kind::Execute));
        Streams { rows, data: front.is_some() && matches!(self.copy, Copy::Out | Copy::Both) }
    }

    /// What was remembered about the request that the last reply answers, if its [`ReplyKind`] is one that asks for it.
    pub fn answered(&self) -> &Mark {
        &self.answered
    }

    /// Judges a message that came from the server. `status` is the first body byte, which ReadyForQuery uses.
    #[inline]
    pub fn reply(&mut self, tag: u8, status: u8) -> Result<Reply, Violation> {
        let (front, mut asker) = match self.owed.front() {
            Some(owed) => (Some(owed.kind), owed.asker),
            None => (None, Asker::Client),
        };
        if asker == Asker::Stead {
            asker = if tag == b'E' { Asker::Client } else { Asker::Proxy };
        }
        if tag != b'E' && matches!(asker, Asker::Refused(_)) {
            asker = Asker::Client;
        }
        let kind = match tag {
            b'N' | b'A' => ReplyKind::Notice,
            b'S' => ReplyKind::Parameter,
            b'E' => {
                self.look();
                self.error(front);
                ReplyKind::Error
            }
            b'Z' => {
                self.look();
                self.ready(front, status)?;
                ReplyKind::Ready
            }
            b'C' => {
                self.look();
                self.answered.commits &= self.recovered || self.status != Status::Failed;
                self.recovered = true;
                if self.answered.opening {
                    (asker, self.answered.bill) = (Asker::Proxy, Bill::default());
                }
                self.command(front)?;
                ReplyKind::Command
            }
            b'D' => {
                self.part(tag, front)?;
                ReplyKind::Row
            }
            _ => {
                let asked_for = match tag {
                    b't' | b'T' | b'n' if front == Some(Kind::DescribeStatement) => ReplyKind::Described,
                    b'1' => ReplyKind::Parsed,
                    b'2' => ReplyKind::Bound,
                    b's' | b'V' => ReplyKind::Carried,
                    _ => ReplyKind::Part,
                };
                if asked_for != ReplyKind::Part {
                    self.look();
                }
                self.part(tag, front)?;
                asked_for
            }
        };
        Ok(Reply { asker, kind })
    }

    fn look(&mut self) {
        self.answered = self.owed.front().map_or(Mark::default(), |owed| owed.mark);
    }

    fn error(&mut self, front: Option<Kind>) {
        let in_copy = std::mem::replace(&mut self.copy, Copy::No) == Copy::In;
        match front {
            // Its ReadyForQuery is still to come. Without a front, the server is about to close.
            None | Some(Kind::Sync | Kind::Query | Kind::FunctionCall | Kind::CopyEnd) => {}
            Some(kind) => {
                if kind == Kind::Execute && in_copy {
                    self.forget_copy();
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
        for _ in 0..of_copy {
            self.drop_front();
        }
    }

    fn skip_to_sync(&mut self) {
        while self.owed.front().is_some_and(|owed| owed.kind != Kind::Sync) {
            self.drop_front();
        }
        if self.owed.is_empty() {
            self.batch = Batch::Skipping;
        }
    }

    fn ready(&mut self, front: Option<Kind>, status: u8) -> Result<(), Violation> {
        match front {
            Some(Kind::Sync | Kind::Query | Kind::FunctionCall) => {
                self.bills.answered(self.owed.front().map_or(0, |owed| owed.epoch));
                self.pop();
            }
            None if self.doubtful => {}
            other => return Err(unexpected(b'Z', other)),
        }
        self.copy = Copy::No;
        self.recovered = false;
        self.status = match status {
            b'I' => Status::Idle,
            b'T' => Status::InTransaction,
            b'E' => Status::Failed,
            other => return Err(Violation::UnknownStatus(other)),
        };
        if self.status != Status::Idle && self.answered.ends {
            return Err(Violation::StillOpen);
        }
        Ok(())
    }

    fn command(&mut self, front: Option<Kind>) -> Result<(), Violation> {
        match front {
            Some(Kind::Query) => {
                self.copy = Copy::No;
                if let Some(owed) = self.owed.front_mut()
                    && !std::mem::take(&mut owed.mark.opening)
                {
                    self.bills.next_statement(owed.epoch, &mut owed.mark.bill);
                }
            }
            Some(Kind::Execute) => {
                let was_copy_in =
                    matches!(std::mem::replace(&mut self.copy, Copy::No), Copy::In | Copy::Both);
                if was_copy_in {
                    // COPY mode ignores the Syncs up to the end of its data.
                    let end = self.owed.iter().position(|owed| owed.kind == Kind::CopyEnd);
                    let end = end.ok_or_else(|| unexpected(b'C', Some(Kind::Execute)))?;
                    (0..end).for_each(|_| self.drop_front());
                }
                self.pop();
            }
            other => return Err(unexpected(b'C', other)),
        }
        Ok(())
    }

    fn part(&mut self, tag: u8, front: Option<Kind>) -> Result<(), Violation> {
        match (tag, front) {
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

    /// Takes the front, which will not be answered.
    fn drop_front(&mut self) {
        if let Some(owed) = self.owed.pop_front() {
            self.dropped.naming += u32::from(owed.mark.naming);
            self.dropped.shared += u32::from(owed.mark.shared);
        }
    }

    /// Takes the front, and ends of COPY data behind it that the server ignores, because no COPY is under way.
    fn pop(&mut self) {
        self.owed.pop_front();
        while self.owed.front().is_some_and(|owed| owed.kind == Kind::CopyEnd) {
            self.owed.pop_front();
        }
    }
}
