//! Everything between the startup packet and the first ReadyForQuery.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey};
use tokio::time::{Instant, timeout, timeout_at};

use super::auth::{self, AuthError};
use super::cancel::{Registration, Secret};
use super::channel;
use super::client::Client;
use super::guard;
use super::identity::Identity;
use super::lobby::Place;
use super::passage::Passage;
use super::replication::{self, Kind, Link};
use super::session::Session;
use super::startup::{self, Opening, OpeningError, Startup};
use super::worker::{Stage, Worker};
use super::{Shared, refuse};
use crate::backend::connect::ConnectError;
use crate::backend::reset::{self, SettingsError};
use crate::backend::settings::{Parameters, Settings};
use crate::config::{PoolMode, Route, User};
use crate::error::{ErrorKind, Refusal};
use crate::hba::Asked;
use crate::pool::{Checkout, Lease, Permit, Pool, Wish};
use crate::relay::request::GUARDED;
use crate::scram::ScramError;
use crate::stream::Stream;

/// A client that was let in.
pub(super) enum Admitted {
    /// It takes turns with others.
    Session(Box<Session>),
    /// It replicates, on a server connection of its own.
    Replication(Box<Passage>),
}

/// What a login got for its client.
enum Granted {
    /// With the settings of its startup packet, and what it was told of them.
    Session(Identity, Arc<Settings>, Arc<Parameters>),
    Replication(Link),
}

/// Why a client was not let in.
pub(super) enum Out {
    Refused(Refusal),
    /// Nobody is there to be told.
    Gone(io::Error),
    /// It only came to cancel.
    Cancel,
}

impl From<io::Error> for Out {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<ScramError> for Out {
    fn from(error: ScramError) -> Self {
        Self::Gone(io::Error::other(error.to_string()))
    }
}

impl From<Refusal> for Out {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Logs a client in; `None` if it was not let in, in which case it has been told why.
pub(super) async fn run(worker: &Rc<Worker>, mut stream: Stream) -> Option<Admitted> {
    let shared = &worker.shared;
    let limit = shared.state().limit();
    let late =
        || Out::Refused(Refusal::new(ErrorKind::LoginTimeout, "canceling authentication due to timeout"));
    let place = shared.lobby.enter();
    let login = tokio::select! {
        biased;
        login = timeout(limit, log_in(worker, &mut stream, &place)) => login.unwrap_or_else(|_| Err(late())),
        () = place.dropped() => Err(Refusal::new(ErrorKind::TooManyLogins, "too many clients are logging in").into()),
    };
    drop(place);
    match login {
        Ok(granted) => {
            shared.metrics.login(true);
            let worker = Rc::clone(worker);
            Some(match granted {
                Granted::Session(identity, settings, parameters) => {
                    let mut client = Client::new(stream);
                    if identity.pool.route().access.is_read_only() {
                        client.requests.longest = GUARDED;
                    }
                    Admitted::Session(Box::new(Session::new(
                        client,
                        worker,
                        identity,
                        (settings, parameters),
                    )))
                }
                Granted::Replication(link) => {
                    Admitted::Replication(Box::new(Passage::new(stream, link, worker)))
                }
            })
        }
        Err(Out::Cancel) => None,
        Err(Out::Gone(error)) => {
            shared.metrics.login_failed(None);
            tracing::debug!(%error, "a client left during its login");
            None
        }
        Err(Out::Refused(refusal)) => {
            shared.metrics.login(false);
            shared.metrics.login_failed(Some(refusal.kind));
            shared.metrics.refused(refusal.kind);
            tracing::info!(kind = refusal.kind.as_str(), reason = ?refusal.message, "a client was not let in");
            let words = refuse::encode(&refusal);
            if refusal.kind == ErrorKind::TooManyLogins {
                // Its socket is needed: it may hear why, and is not waited for.
                let _ = stream.try_write(&words);
            } else {
                Client::new(stream).say_goodbye(&words).await;
            }
            None
        }
    }
}

async fn log_in(worker: &Rc<Worker>, stream: &mut Stream, place: &Place) -> Result<Granted, Out> {
    let shared = &*worker.shared;
    let state = shared.state();
    let tls = state.tls();
    let (startup, channel) =
        match unless_draining(worker, startup::read(stream, tls.acceptor.as_deref())).await? {
            Ok((Opening::Startup(startup), established)) => (startup, established.unwrap_or_default()),
            Ok((Opening::Cancel { pid, secret }, _)) => {
                let result = shared.cancels.cancel(pid, &secret).await;
                shared.metrics.cancelled(result);
                return Err(Out::Cancel);
            }
            Err(OpeningError::Refused(refusal)) => return Err(refusal.into()),
            Err(OpeningError::Gone(error)) => return Err(error.into()),
        };
    channel::must_be_encrypted(tls.mode, stream)?;
    negotiate(stream, &startup).await?;
    if worker.draining.get() {
        return Err(shutting_down().into());
    }
    let Some(user_name) = startup.get("user").filter(|name| !name.is_empty()) else {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(Refusal::new(ErrorKind::InvalidStartup, message).into());
    };
    channel::must_name(tls.mode, stream, &channel, user_name)?;
    let database = startup.get("database").filter(|name| !name.is_empty()).unwrap_or(user_name);
    let replication = replication::kind(&startup)?;
    // The settings of a client that replicates are the server's business.
    let settings = if replication.is_none() { settings(&startup)? } else { Settings::default() };
    let named = Some(database).filter(|_| replication != Some(Kind::Physical));
    let asked = Asked { transport: auth::transport(stream)?, database: named, user: user_name };
    let authenticating = auth::authenticate((&mut *stream, &channel), shared, asked);
    let user = unless_draining(worker, authenticating).await?.map_err(|error| match error {
        AuthError::Refused(refusal) => Out::Refused(refusal),
        AuthError::Gone(error) => Out::Gone(error),
    })?;
    place.leave();
    if let Some(kind) = replication {
        let opening = replication::open(worker, stream, &startup, (kind, &user));
        return unless_draining(worker, opening).await?.map(Granted::Replication);
    }
    let route = route(shared, database, &user)?;
    let settings = if route.access.is_read_only() { guard::startup(settings)? } else { settings };
    let pool =
        shared.registry.pool(database, &user, route).map_err(|error| io::Error::other(error.to_string()))?;
    let permits = pool_permits(shared, &pool)?;
    let Welcome { settings, parameters, own } = welcome(worker, &pool, settings).await?;
    let pid = own.as_ref().map(|lease| lease.cancel_key().pid);
    let cancel = Registration::new(&worker.shared, startup.version(), pid)?;
    greet(stream, &parameters, cancel.key()).await?;
    let (own, permits) = (own.map(Box::new), permits.into_boxed_slice());
    let identity = Identity { pool, own, cancel, _permits: permits };
    Ok(Granted::Session(identity, settings, parameters))
}

/// Ends what waits for a client when the process drains: one that never speaks must not hold it up.
async fn unless_draining<T>(worker: &Worker, step: impl Future<Output = T>) -> Result<T, Refusal> {
    let mut stage = worker.stage.clone();
    tokio::select! {
        biased;
        done = step => Ok(done),
        _ = stage.wait_for(|stage| *stage != Stage::Serving) => Err(shutting_down()),
    }
}

fn shutting_down() -> Refusal {
    Refusal::new(ErrorKind::Shutdown, "the database system is shutting down")
}

/// Tells a client that asked for more than it can have what it gets.
async fn negotiate(stream: &mut Stream, startup: &Startup) -> Result<(), Out> {
    if !startup.is_negotiable() {
        return Ok(());
    }
    let answer =
        NegotiateProtocolVersion::new(startup.version().number() as i32, startup.unknown_options.clone());
    let mut bytes = BytesMut::new();
    encode(&answer, &mut bytes)?;
    Ok(stream.write_all(&bytes).await?)
}

/// The settings that a startup packet asks for.
fn settings(startup: &Startup) -> Result<Settings, Refusal> {
    let mut settings = Settings::default();
    let mut set = |name: &str, value: &str| {
        settings.set(name, value).map_err(|error| Refusal::new(ErrorKind::SettingRefused, error.to_string()))
    };
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => {
                for (name, value) in startup::options(value)? {
                    set(&name, &value)?;
                }
            }
            name => set(name, value)?,
        }
    }
    Ok(settings)
}

/// The route of a client.
pub(super) fn route<'a>(shared: &'a Shared, database: &str, user: &User) -> Result<&'a Arc<Route>, Refusal> {
    let config = &shared.config;
    match config.route(database, &user.name) {
        Some(route) => Ok(route),
        None if config.knows_database(database) => Err(Refusal::new(
            ErrorKind::NotPermitted,
            format!("permission denied for database \"{database}\""),
        )
        .detail("No route of the proxy serves this user on this database.")),
        None => {
            Err(Refusal::new(ErrorKind::UnknownDatabase, format!("database \"{database}\" does not exist")))
        }
    }
}

/// A place under every limit of clients of a pool.
fn pool_permits(shared: &Shared, pool: &Pool) -> Result<Vec<Permit>, Refusal> {
    let (database, user) = (pool.database(), pool.user());
    let mut permits = permits(shared, user, Some(database))?;
    permits.push(pool.clients().try_acquire().ok_or_else(|| {
        let message = format!("too many connections for role \"{user}\" on database \"{database}\"");
        Refusal::new(ErrorKind::TooManyClients, message)
    })?);
    Ok(permits)
}

/// A place under every limit of clients but a pool's.
pub(super) fn permits(shared: &Shared, user: &str, database: Option<&str>) -> Result<Vec<Permit>, Refusal> {
    let full = |message: String| move || Refusal::new(ErrorKind::TooManyClients, message);
    let mut permits =
        vec![shared.clients.try_acquire().ok_or_else(full("sorry, too many clients already".into()))?];
    if let Some(limit) = shared.user_clients.get(user) {
        let permit = limit.try_acquire();
        permits.push(permit.ok_or_else(full(format!("too many connections for role \"{user}\"")))?);
    }
    let database = database.and_then(|database| Some((database, shared.database_clients.get(database)?)));
    if let Some((database, limit)) = database {
        let permit = limit.try_acquire();
        permits.push(permit.ok_or_else(full(format!("too many connections for database \"{database}\"")))?);
    }
    Ok(permits)
}

/// What a client gets to begin with.
struct Welcome {
    settings: Arc<Settings>,
    /// What the server reports.
    parameters: Arc<Parameters>,
    /// In session mode, the server connection that it keeps.
    own: Option<Lease>,
}

/// What the server reports to a client with these settings. The first client that comes with them asks a server
/// connection; the others get the same answer at once. In session mode each client has its server connection from here
/// on, so that it can be told the process id of its own backend.
async fn welcome(worker: &Rc<Worker>, pool: &Arc<Pool>, settings: Settings) -> Result<Welcome, Refusal> {
    let session = pool.route().mode == PoolMode::Session;
    if !session && let Some((settings, parameters)) = pool.welcome(&settings) {
        return Ok(Welcome { settings, parameters, own: None });
    }
    let settings = Arc::new(settings);
    let mut lease = checkout(worker, pool).await?;
    // What it reports is remembered for others: nothing of an earlier client's may be in it.
    lease.needs_reset = lease.used;
    let rest = reset::bring_to_rest(&mut lease, true, true).await;
    rest.map_err(|_| server_lost())?;
    reset::apply(&mut lease, &settings, 0).await.map_err(settings_refusal)?;
    let parameters = Arc::new(lease.parameters().clone());
    if session {
        return Ok(Welcome { settings, parameters, own: Some(lease) });
    }
    pool.remember_welcome(Arc::clone(&settings), Arc::clone(&parameters));
    Ok(Welcome { settings, parameters, own: None })
}

/// What a client is told whose settings could not be applied: the server's own words, which are about the client's own
/// startup packet.
pub(super) fn settings_refusal(error: SettingsError) -> Refusal {
    match error {
        SettingsError::Refused { sqlstate, message } => {
            let mut refusal = Refusal::new(ErrorKind::SettingRefused, message);
            refusal.server_sqlstate = sqlstate.filter(|sqlstate| sqlstate.len() == 5);
            refusal
        }
        SettingsError::Lost(_) => server_lost(),
    }
}

/// A server connection, waited for as long as a query may wait.
async fn checkout(worker: &Rc<Worker>, pool: &Arc<Pool>) -> Result<Lease, Refusal> {
    let deadline = Instant::now() + pool.route().timeouts.query_wait;
    let wish = Wish { worker: worker.id, client: 0, settings: &Arc::default() };
    let checkout = pool.checkout(wish, &mut worker.aside.borrow_mut());
    match checkout {
        Checkout::Ready(lease) => Ok(lease),
        Checkout::Refused(error) => Err(error.refusal(pool.database())),
        Checkout::Wait(mut wait) => {
            let waited = timeout_at(deadline, std::future::poll_fn(|cx| wait.poll(cx))).await;
            waited
                .map_err(|_| waited_too_long(pool))?
                .map_err(|error: ConnectError| error.refusal(pool.database()))
        }
    }
}

/// What a client is told whose wait for a server connection took too long: the reason why none could be opened, where
/// there is one.
pub(super) fn waited_too_long(pool: &Pool) -> Refusal {
    match pool.trouble() {
        Some(error) => error.refusal(pool.database()),
        None => Refusal::new(ErrorKind::QueryWaitTimeout, "timed out while waiting for a server connection")
            .detail("All server connections of the pool are in use."),
    }
}

/// What a client is told whose server connection broke.
pub(super) fn server_lost() -> Refusal {
    Refusal::new(ErrorKind::ServerLost, "the connection to the server was lost")
}

async fn greet(stream: &mut Stream, parameters: &Parameters, key: (u32, Secret)) -> Result<(), Out> {
    let (mut messages, mut bytes) = (Vec::new(), BytesMut::new());
    for (name, value) in parameters.iter() {
        // By hand, because the values are bytes in the client's encoding, which need not be UTF-8.
        messages.push(b'S');
        messages.extend_from_slice(&((name.len() + value.len() + 6) as u32).to_be_bytes());
        for part in [name, b"\0", value, b"\0"] {
            messages.extend_from_slice(part);
        }
    }
    greeting(&mut bytes, &messages, key)?;
    Ok(stream.write_all(&bytes).await?)
}

/// From AuthenticationOk to ReadyForQuery, with these messages of a server's between them.
pub(super) fn greeting(bytes: &mut BytesMut, messages: &[u8], key: (u32, Secret)) -> io::Result<()> {
    encode(&Authentication::Ok, bytes)?;
    bytes.extend_from_slice(messages);
    let (pid, secret) = (key.0 as i32, SecretKey::Bytes(Bytes::copy_from_slice(key.1.as_bytes())));
    encode(&BackendKeyData::new(pid, secret), bytes)?;
    encode(&ReadyForQuery::new(TransactionStatus::Idle), bytes)
}

fn encode(message: &impl Message, bytes: &mut BytesMut) -> io::Result<()> {
    message.encode(bytes).map_err(|error| io::Error::other(error.to_string()))
}
