//! Clients that replicate: `replication` in the startup packet. pg_basebackup, pg_receivewal and standbys copy the whole
//! server; pg_recvlogical and other logical decoders follow one database.
//!
//! Their sessions cannot be shared and their protocol is not the relay's, so that each has a server connection for
//! itself, outside of the pools and opened with its own startup parameters. It is passed through by `passage`.

use std::sync::Arc;

use bytes::BytesMut;

use super::Shared;
use super::cancel::Registration;
use super::login::{self, Out};
use super::startup::Startup;
use super::worker::Worker;
use crate::backend::connect::ConnectError;
use crate::config::{Route, User};
use crate::error::{ErrorKind, Refusal};
use crate::metrics::Replicating;
use crate::pool::Permit;
use crate::stream::Stream;

/// What a client wants to replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server. It has no database, whatever it names.
    Physical,
    /// One database.
    Logical,
}

/// A server connection that is one client's for good.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: Stream,
    pub(super) user: String,
    /// The client's key, and every count under a limit: held and never read.
    _cancel: Registration,
    _permits: Vec<Permit>,
    _replicating: Replicating,
}

/// What a startup packet asks for.
pub(super) fn kind(startup: &Startup) -> Result<Option<Kind>, Refusal> {
    match startup.get("replication") {
        None => Ok(None),
        Some("database") => Ok(Some(Kind::Logical)),
        Some(value) => match boolean(value) {
            Some(physical) => Ok(physical.then_some(Kind::Physical)),
            None => {
                let message = format!("invalid value for parameter \"replication\": \"{value}\"");
                let detail = "Valid values are: \"false\", 0, \"true\", 1, \"database\".";
                Err(Refusal::new(ErrorKind::SettingRefused, message).detail(detail))
            }
        },
    }
}

/// As `parse_bool` of PostgreSQL's `src/backend/utils/adt/bool.c`: words in any case, and their beginnings.
fn boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || text == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

/// Opens the server connection of a client that has proved who it is, and tells the client what the server said.
pub(super) async fn open(
    worker: &Worker,
    stream: &mut Stream,
    startup: &Startup,
    (kind, user): (Kind, &Arc<User>),
) -> Result<Link, Out> {
    let shared = &worker.shared;
    let database = startup.get("database").filter(|name| !name.is_empty());
    let route = route(shared, kind, database.unwrap_or(&user.name), user)?;
    // libpq names this one where there is none, and PostgreSQL ignores what stands here.
    let nowhere = if kind == Kind::Physical { "replication" } else { &user.name };
    let database = database.unwrap_or(nowhere);
    let counted = (kind == Kind::Logical).then_some(database);
    let mut permits = login::permits(shared, &user.name, counted)?;
    let named = route.target_database.as_deref().filter(|_| kind == Kind::Logical).unwrap_or(database);
    let dedicated = shared.registry.dedicated(counted, named.to_owned(), user, route);
    let parameters = startup.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let parameters: Vec<_> = parameters.filter(|(name, _)| !["user", "database"].contains(name)).collect();
    let (walsender, places) = dedicated.open_replication(&parameters).await.map_err(|error| {
        tracing::warn!(user = user.name, ?error, "could not open a server connection for replication");
        refusal(error, database)
    })?;
    permits.extend(places);
    let replicating = shared.metrics.replicating();
    let cancel = Registration::new(shared, startup.version(), None).map_err(Out::from)?;
    cancel.target.aim(&walsender.key);
    let mut bytes = BytesMut::new();
    login::greeting(&mut bytes, &walsender.greeting, cancel.key())?;
    bytes.extend_from_slice(&walsender.unread);
    stream.write_all(&bytes).await?;
    let user = user.name.clone();
    Ok(Link { server: walsender.stream, user, _cancel: cancel, _permits: permits, _replicating: replicating })
}

fn route<'a>(shared: &'a Shared, kind: Kind, database: &str, user: &User) -> Result<&'a Arc<Route>, Refusal> {
    let config = &shared.config;
    let not_allowed = |detail: &str| {
        Refusal::new(ErrorKind::FeatureNotSupported, "replication connections are not allowed").detail(detail)
    };
    match kind {
        Kind::Logical => {
            let route = login::route(shared, database, user)?;
            let detail = "The route of this user and database does not have \"replication = true\".";
            if route.replication { Ok(route) } else { Err(not_allowed(detail)) }
        }
        Kind::Physical => {
            let detail = "No route of this user has \"replication = true\".";
            let route = config.route_of_physical_replication(database, &user.name);
            route.ok_or_else(|| not_allowed(detail))
        }
    }
}

/// The server's own words are about the client's own startup packet, or about what the role may do. Those about who may
/// log in from where are not for clients.
fn refusal(error: ConnectError, database: &str) -> Refusal {
    match error {
        ConnectError::Refused { sqlstate, message }
            if !sqlstate.is_empty() && !sqlstate.starts_with("28") && !sqlstate.starts_with("3D") =>
        {
            let mut refusal = Refusal::new(ErrorKind::ServerRejected, message);
            refusal.server_sqlstate = Some(sqlstate);
            refusal
        }
        error => error.refusal(database),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_is_asked_for_in_the_words_that_postgresql_takes() {
        let asked = |value: &str| {
            let body = format!("user\0x\0replication\0{value}\0\0");
            kind(&super::super::startup::parse(2, body.as_bytes()).unwrap())
        };
        for value in ["true", "t", "TRUE", "yes", "Y", "on", "1"] {
            assert_eq!(asked(value), Ok(Some(Kind::Physical)), "{value}");
        }
        for value in ["false", "F", "no", "n", "off", "of", "0"] {
            assert_eq!(asked(value), Ok(None), "{value}");
        }
        assert_eq!(asked("database"), Ok(Some(Kind::Logical)));
        for value in ["", "o", "Database", "data", "2", "truely", "physical"] {
            assert_eq!(asked(value).unwrap_err().kind, ErrorKind::SettingRefused, "{value}");
        }
        let last = super::super::startup::parse(0, b"replication\0database\0replication\0off\0\0").unwrap();
        assert_eq!(kind(&last), Ok(None), "the last one counts");
        assert_eq!(kind(&super::super::startup::parse(0, b"user\0x\0\0").unwrap()), Ok(None));
    }

    #[test]
    fn the_server_is_quoted_but_not_on_who_may_log_in() {
        let refused = |sqlstate: &str| {
            refusal(ConnectError::Refused { sqlstate: sqlstate.into(), message: "its words".into() }, "app")
        };
        for sqlstate in ["42501", "53300", "22023", "57P03"] {
            let refusal = refused(sqlstate);
            assert_eq!((refusal.sqlstate(), &*refusal.message), (sqlstate, "its words"));
        }
        for sqlstate in ["28000", "28P01", "3D000", ""] {
            assert_ne!(refused(sqlstate).message, "its words", "{sqlstate}");
        }
    }
}
