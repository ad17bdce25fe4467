//! What a CommandComplete tag tells: how many rows, and whether the session now holds state that the next user of the
//! server connection must not see.
//!
//! The tag names the command, not its effect: it cannot tell SET from SET LOCAL or a temporary table from a lasting one,
//! and it does not see `set_config()`, `CREATE TEMP TABLE ... AS` or session advisory locks.

/// Session state that a command leaves on the server connection, and that therefore keeps its client there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// A cursor, perhaps WITH HOLD.
    Cursor,
    /// LISTEN.
    Listen,
    /// LOAD.
    Load,
    /// A command whose effect its tag does not tell: DO and CALL.
    Opaque,
    /// A statement prepared by SQL or under a name in the protocol.
    PreparedStatement,
    /// SET or RESET.
    Setting,
}

impl SessionState {
    /// Every kind, in the order of [`SessionState::index`].
    pub const ALL: [Self; 6] =
        [Self::Cursor, Self::Listen, Self::Load, Self::Opaque, Self::PreparedStatement, Self::Setting];

    /// The word of metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cursor => "cursor",
            Self::Listen => "listen",
            Self::Load => "load",
            Self::Opaque => "opaque",
            Self::PreparedStatement => "prepared_statement",
            Self::Setting => "setting",
        }
    }

    /// Its place in [`SessionState::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::Cursor => 0,
            Self::Listen => 1,
            Self::Load => 2,
            Self::Opaque => 3,
            Self::PreparedStatement => 4,
            Self::Setting => 5,
        }
    }
}

/// The session state that the command of this tag (without its final NUL) may have left. The tags are those of
/// PostgreSQL's `src/include/tcop/cmdtaglist.h`.
pub fn leaves(tag: &[u8]) -> Option<SessionState> {
    match tag {
        b"SET" | b"RESET" => Some(SessionState::Setting),
        b"PREPARE" => Some(SessionState::PreparedStatement),
        b"DECLARE CURSOR" => Some(SessionState::Cursor),
        b"LISTEN" => Some(SessionState::Listen),
        b"LOAD" => Some(SessionState::Load),
        b"DO" | b"CALL" => Some(SessionState::Opaque),
        _ => None,
    }
}

/// Whether the tag says that settings went back to what the server thinks is their default.
pub fn resets(tag: &[u8]) -> bool {
    matches!(tag, b"RESET" | b"DISCARD ALL")
}

/// Whether the tag says that everything a session can hold is gone.
pub fn discards_all(tag: &[u8]) -> bool {
    tag == b"DISCARD ALL"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_that_leave_session_state_are_named() {
        assert_eq!(leaves(b"SET"), Some(SessionState::Setting));
        assert_eq!(leaves(b"PREPARE"), Some(SessionState::PreparedStatement));
        assert_eq!(leaves(b"PREPARE TRANSACTION"), None);
        assert_eq!(leaves(b"DO"), Some(SessionState::Opaque));
        for tag in ["SELECT 1", "BEGIN", "COMMIT", "ROLLBACK", "SET CONSTRAINTS", "UPDATE 3", ""] {
            assert_eq!(leaves(tag.as_bytes()), None, "{tag}");
        }
    }

    #[test]
    fn every_kind_knows_its_place() {
        for (place, kind) in SessionState::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), place);
        }
    }
}
