//! Kinds of requests, as far as their answers differ.

use super::owed::{Local, Violation};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Parse,
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
    /// A reply that the proxy gives by itself.
    Local(Local),
}

/// What is wrong with a reply that the request at the front of the queue does not have.
pub(super) fn unexpected(tag: u8, owed: Option<Kind>) -> Violation {
    let expected = match owed {
        None => "nothing",
        Some(Kind::Parse) => "ParseComplete",
        Some(Kind::Bind) => "BindComplete",
        Some(Kind::DescribeStatement | Kind::DescribePortal) => "a description",
        Some(Kind::Execute) => "the result of Execute",
        Some(Kind::Close) => "CloseComplete",
        Some(Kind::Sync) => "ReadyForQuery",
        Some(Kind::Query) => "the result of Query",
        Some(Kind::FunctionCall) => "FunctionCallResponse",
        Some(Kind::CopyEnd) => "the end of COPY",
        Some(Kind::Local(_)) => "a reply of the proxy's own",
    };
    Violation::Unexpected { tag, expected }
}
