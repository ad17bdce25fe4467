//! What can go wrong, whose fault it is, and what the client is told.
//!
//! [`ErrorKind`] is the one table from a failure to its origin, its metric label and its SQLSTATE. [`Refusal`] is a
//! kind with the words for the client: whoever builds one decides what the client may read, and there is no
//! conversion from arbitrary errors, so that nothing internal leaks by accident.

use std::borrow::Cow;

/// Who caused an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client broke a rule or gave wrong credentials.
    Client,
    /// The PostgreSQL server, or the way to it.
    Server,
    /// All server connections are in use.
    Pool,
    /// The proxy was told to.
    Proxy,
}

/// Every reason for which the proxy itself ends or refuses a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The wrong password, or no such user: the client cannot tell which.
    AuthenticationFailed,
    /// The client cancelled a request that was still waiting for a server connection.
    Cancelled,
    /// Silent for longer than `client_idle` outside a transaction.
    ClientIdle,
    /// A startup parameter or message that the proxy does not support.
    FeatureNotSupported,
    /// Silent for longer than `idle_in_transaction` inside a transaction.
    IdleInTransaction,
    /// A startup packet without a user.
    InvalidStartup,
    /// The login took longer than `login_timeout`.
    LoginTimeout,
    /// No rule lets the client in, one turns it away, or it is not the system's user that it says.
    LoginRefused,
    /// The server that knows the users' secrets could not be asked.
    LookupFailed,
    /// More notifications waited for the client than its limit allows, because it did not read them.
    NotificationOverflow,
    /// No route serves this user on this database.
    NotPermitted,
    /// A message that the protocol does not allow.
    ProtocolViolation,
    /// A query that ran longer than the route's `query` timeout.
    QueryTimeout,
    /// No server connection came free within `query_wait`.
    QueryWaitTimeout,
    /// What a read-only route does not allow.
    ReadOnlyRoute,
    /// A prepared statement whose result would not be what the client was told. PostgreSQL says the same.
    ResultChanged,
    /// The server connection was lost or sent something that was not owed.
    ServerLost,
    /// The server refused the proxy's login.
    ServerRejected,
    /// The server could not be reached.
    ServerUnreachable,
    /// A startup parameter whose value the server refused. The server's own SQLSTATE is passed on.
    SettingRefused,
    /// The proxy is shutting down.
    Shutdown,
    /// More clients than the configuration allows.
    TooManyClients,
    /// Too many failed logins from the client's address.
    TooManyFailures,
    /// Too many clients in the middle of a login, of which this was the oldest.
    TooManyLogins,
    /// More prepared statements than a client may have.
    TooManyStatements,
    /// BEGIN in statement mode.
    TransactionInStatementMode,
    /// No route serves this database.
    UnknownDatabase,
    /// A statement that was prepared on another server connection.
    UnknownStatement,
    /// A protocol version other than 3.
    UnsupportedProtocol,
}

impl ErrorKind {
    /// Every kind, for metrics.
    pub const ALL: [Self; 29] = [
        Self::AuthenticationFailed,
        Self::Cancelled,
        Self::ClientIdle,
        Self::FeatureNotSupported,
        Self::IdleInTransaction,
        Self::InvalidStartup,
        Self::LoginTimeout,
        Self::LoginRefused,
        Self::LookupFailed,
        Self::NotificationOverflow,
        Self::NotPermitted,
        Self::ProtocolViolation,
        Self::QueryTimeout,
        Self::QueryWaitTimeout,
        Self::ReadOnlyRoute,
        Self::ResultChanged,
        Self::ServerLost,
        Self::ServerRejected,
        Self::ServerUnreachable,
        Self::SettingRefused,
        Self::Shutdown,
        Self::TooManyClients,
        Self::TooManyFailures,
        Self::TooManyLogins,
        Self::TooManyStatements,
        Self::TransactionInStatementMode,
        Self::UnknownDatabase,
        Self::UnknownStatement,
        Self::UnsupportedProtocol,
    ];

    /// Origin, metric label and SQLSTATE: the one table. SQLSTATEs are those of PostgreSQL's
    /// `src/backend/utils/errcodes.txt`, and those that PostgreSQL itself uses where it has the same error.
    fn row(self) -> (Origin, &'static str, &'static str) {
        match self {
            Self::AuthenticationFailed => (Origin::Client, "authentication_failed", "28P01"),
            Self::Cancelled => (Origin::Client, "cancelled", "57014"),
            Self::ClientIdle => (Origin::Client, "client_idle", "57P05"),
            Self::FeatureNotSupported => (Origin::Client, "feature_not_supported", "0A000"),
            Self::IdleInTransaction => (Origin::Client, "idle_in_transaction", "25P03"),
            Self::InvalidStartup => (Origin::Client, "invalid_startup", "28000"),
            Self::LoginTimeout => (Origin::Client, "login_timeout", "57014"),
            Self::LoginRefused => (Origin::Client, "login_refused", "28000"),
            Self::LookupFailed => (Origin::Server, "lookup_failed", "08001"),
            Self::NotificationOverflow => (Origin::Client, "notification_overflow", "53400"),
            Self::NotPermitted => (Origin::Client, "not_permitted", "42501"),
            Self::ProtocolViolation => (Origin::Client, "protocol_violation", "08P01"),
            Self::QueryTimeout => (Origin::Client, "query_timeout", "57014"),
            Self::QueryWaitTimeout => (Origin::Pool, "query_wait_timeout", "53300"),
            Self::ReadOnlyRoute => (Origin::Client, "read_only_route", "25006"),
            Self::ResultChanged => (Origin::Client, "result_changed", "0A000"),
            Self::ServerLost => (Origin::Server, "server_lost", "08006"),
            Self::ServerRejected => (Origin::Server, "server_rejected", "08004"),
            Self::ServerUnreachable => (Origin::Server, "server_unreachable", "08001"),
            Self::SettingRefused => (Origin::Client, "setting_refused", "22023"),
            Self::Shutdown => (Origin::Proxy, "shutdown", "57P01"),
            Self::TooManyClients => (Origin::Client, "too_many_clients", "53300"),
            Self::TooManyFailures => (Origin::Client, "too_many_failures", "28000"),
            Self::TooManyLogins => (Origin::Client, "too_many_logins", "53300"),
            Self::TooManyStatements => (Origin::Client, "too_many_statements", "54000"),
            Self::TransactionInStatementMode => (Origin::Client, "transaction_in_statement_mode", "0A000"),
            Self::UnknownDatabase => (Origin::Client, "unknown_database", "3D000"),
            Self::UnknownStatement => (Origin::Client, "unknown_statement", "26000"),
            Self::UnsupportedProtocol => (Origin::Client, "unsupported_protocol", "0A000"),
        }
    }

    /// Who caused it.
    pub fn origin(self) -> Origin {
        self.row().0
    }

    /// The label of metrics and logs.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// What the client's ErrorResponse carries.
    pub fn sqlstate(self) -> &'static str {
        self.row().2
    }

    /// Its place in [`ErrorKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A refusal in words that the client may read. It ends the client's session (severity FATAL), unless it answers a single
/// request (ERROR).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why.
    pub kind: ErrorKind,
    /// The primary message, in the style of PostgreSQL's own.
    pub message: Cow<'static, str>,
    /// More, for the person who has to mend it.
    pub detail: Option<String>,
    /// The server's SQLSTATE where it is passed on; the kind's own otherwise.
    pub server_sqlstate: Option<String>,
}

impl Refusal {
    /// A refusal without a detail.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), detail: None, server_sqlstate: None }
    }

    /// The same with a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The SQLSTATE that the client gets.
    pub fn sqlstate(&self) -> &str {
        self.server_sqlstate.as_deref().unwrap_or_else(|| self.kind.sqlstate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_its_place_a_label_of_its_own_and_a_wellformed_sqlstate() {
        let labels: HashSet<_> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(labels.len(), ErrorKind::ALL.len());
        for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), place, "{kind:?}");
            assert_eq!(kind.sqlstate().len(), 5, "{kind:?}");
        }
    }
}
