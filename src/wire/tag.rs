//! What a CommandComplete tag tells: how many rows, and which session state a command may have left.
//!
//! The tag names the command, not its effect: it cannot tell SET from SET LOCAL or a temporary table from a lasting one,
//! and it does not see `set_config()` or session advisory locks. It is the fallback for texts that could not be judged
//! before they were sent.

/// Session state that keeps a client on its server connection, and the word for it in metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// A session-level advisory lock.
    AdvisoryLock,
    /// A cursor WITH HOLD.
    Cursor,
    /// LISTEN.
    Listen,
    /// LOAD.
    Load,
    /// Something whose effect cannot be told.
    Opaque,
    /// A statement prepared by SQL, or one that is too long to be carried to another connection.
    PreparedStatement,
    /// `setseed()`.
    RandomSeed,
    /// What `currval()` and `lastval()` read.
    Sequence,
    /// SET SESSION AUTHORIZATION.
    SessionAuthorization,
    /// A setting whose name or value cannot be told.
    Setting,
    /// A temporary table, view, sequence, function or type.
    TempObject,
}

impl SessionState {
    /// Every kind, in the order of [`SessionState::index`].
    pub const ALL: [Self; 11] = [
        Self::AdvisoryLock,
        Self::Cursor,
        Self::Listen,
        Self::Load,
        Self::Opaque,
        Self::PreparedStatement,
        Self::RandomSeed,
        Self::Sequence,
        Self::SessionAuthorization,
        Self::Setting,
        Self::TempObject,
    ];

    /// The word of metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdvisoryLock => "advisory_lock",
            Self::Cursor => "cursor",
            Self::Listen => "listen",
            Self::Load => "load",
            Self::Opaque => "opaque",
            Self::PreparedStatement => "prepared_statement",
            Self::RandomSeed => "random_seed",
            Self::Sequence => "sequence",
            Self::SessionAuthorization => "session_authorization",
            Self::Setting => "setting",
            Self::TempObject => "temp_object",
        }
    }

    /// Its place in [`SessionState::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Kinds of session state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pins(u16);

impl Pins {
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds one.
    pub fn insert(&mut self, state: SessionState) {
        self.0 |= 1 << state.index();
    }

    /// Takes one away.
    pub fn remove(&mut self, state: SessionState) {
        self.0 &= !(1 << state.index());
    }

    /// Whether it is among them.
    pub fn contains(self, state: SessionState) -> bool {
        self.0 & (1 << state.index()) != 0
    }

    /// Those of these that are not among `others`.
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = SessionState> {
        SessionState::ALL.into_iter().filter(move |state| self.contains(*state))
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

/// Whether the tag is that of a command whose purpose is to change rows.
pub fn changes_rows(tag: &[u8]) -> bool {
    let name = tag.split(|&byte| byte == b' ').next().unwrap_or_default();
    matches!(
        name,
        b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"COPY" | b"BEGIN" | b"COMMIT" | b"ROLLBACK"
    )
}

/// How many rows a command returned or changed, as its tag (without its final NUL) says: the last word of those that
/// PostgreSQL's `src/include/tcop/cmdtaglist.h` gives a count.
pub fn rows(tag: &[u8]) -> u64 {
    let counts =
        [&b"SELECT "[..], b"INSERT ", b"UPDATE ", b"DELETE ", b"MERGE ", b"COPY ", b"FETCH ", b"MOVE "];
    if !counts.iter().any(|counts| tag.starts_with(counts)) {
        return 0;
    }
    let digits = tag.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    let add = |sum: u64, digit: &u8| {
        digit.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(u64::from(*digit - b'0')))
    };
    digits.iter().try_fold(0, add).unwrap_or(0)
}

/// Whether the tag says that settings went back to what the server thinks is their default.
pub fn resets(tag: &[u8]) -> bool {
    matches!(tag, b"RESET" | b"DISCARD ALL")
}

/// Which prepared statements a command has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deallocated {
    /// The one that it named.
    One,
    /// Every one.
    All,
}

/// Which prepared statements the tag says are gone.
pub fn deallocates(tag: &[u8]) -> Option<Deallocated> {
    match tag {
        b"DEALLOCATE" => Some(Deallocated::One),
        b"DEALLOCATE ALL" | b"DISCARD ALL" => Some(Deallocated::All),
        _ => None,
    }
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
    fn rows_are_those_of_the_tag() {
        for (tag, expected) in [
            ("SELECT 5", 5),
            ("INSERT 0 12", 12),
            ("UPDATE 0", 0),
            ("MERGE 3", 3),
            ("COPY 18446744073709551615", u64::MAX),
            ("COPY", 0),
            ("FETCH 7", 7),
            ("CREATE TABLE", 0),
            ("SELECT x", 0),
            ("SELECT ", 0),
            ("", 0),
        ] {
            assert_eq!(rows(tag.as_bytes()), expected, "{tag}");
        }
    }

    #[test]
    fn every_kind_knows_its_place() {
        for (place, kind) in SessionState::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), place);
            let mut pins = Pins::NONE;
            pins.insert(kind);
            assert_eq!(pins.iter().collect::<Vec<_>>(), [kind]);
            assert!(pins.without(pins).is_empty());
        }
    }
}
