//! Opening a server connection: address, socket, login.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::cancel::Endpoint;
use super::encrypt::{self, Connected, Way};
use super::login::{self, Login, Terms};
use super::proofs::Proofs;
use super::replication::Walsender;
use super::{READ_ONLY, ServerConn};
use crate::config::{Target, User};
use crate::error::{ErrorKind, Refusal};
use crate::scram::ScramError;
use crate::stream::Stream;
use crate::wire::version::Version;

/// Why no server connection could be opened. Cloned to every client that waited for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered at the address, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// A limit of server connections that several pools share is reached, and nothing idle could be closed for it.
    #[error("the limit of server connections is reached")]
    LimitReached,
    /// The server answered with an error.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Refused {
        /// Its SQLSTATE; empty if it sent none.
        sqlstate: String,
        /// Its words.
        message: String,
    },
    /// The server asked for something that the proxy does not do.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The server has no TLS though it has to, or the handshake failed: its certificate is not as it should be, say.
    #[error("{0}")]
    Insecure(String),
    /// The server asked for a proof for which the proxy does not know enough, or not yet.
    #[error("{0}")]
    Unproved(&'static str),
    /// The server broke the protocol, or could not prove that it knows the password.
    #[error("{0}")]
    Protocol(String),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<ScramError> for ConnectError {
    fn from(error: ScramError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl ConnectError {
    /// Whether trying again soon is pointless: wrong credentials, no such database. Everything else may pass: a server
    /// that starts up, that has too many connections, or that is not there yet.
    pub fn is_definitive(&self) -> bool {
        match self {
            Self::Refused { sqlstate, .. } => {
                ["28", "3D", "42", "0A"].iter().any(|class| sqlstate.starts_with(class))
            }
            Self::Unsupported(_) | Self::Insecure(_) | Self::Unproved(_) | Self::Protocol(_) => true,
            Self::Unreachable(_) | Self::LimitReached => false,
        }
    }

    /// Whether another password of the same user may be the right one.
    fn may_be_the_password(&self) -> bool {
        match self {
            Self::Refused { sqlstate, .. } => sqlstate == ErrorKind::AuthenticationFailed.sqlstate(),
            Self::Unproved(_) => true,
            Self::Unsupported(_)
            | Self::Insecure(_)
            | Self::Protocol(_)
            | Self::Unreachable(_)
            | Self::LimitReached => false,
        }
    }

    /// What a client may read of it. The server's own words stay in the log: they name addresses and roles.
    pub fn refusal(&self, database: &str) -> Refusal {
        match self {
            Self::Refused { sqlstate, .. } if sqlstate == ErrorKind::UnknownDatabase.sqlstate() => {
                Refusal::new(ErrorKind::UnknownDatabase, format!("database \"{database}\" does not exist"))
            }
            Self::Refused { sqlstate, .. } => {
                let refusal =
                    Refusal::new(ErrorKind::ServerRejected, "the server refused the connection of the pool");
                match sqlstate.as_str() {
                    "" => refusal.detail("The server answered without a SQLSTATE."),
                    sqlstate => refusal.detail(format!("The server answered with SQLSTATE {sqlstate}.")),
                }
            }
            Self::Unsupported(_) | Self::Insecure(_) | Self::Unproved(_) | Self::Protocol(_) => {
                Refusal::new(ErrorKind::ServerRejected, "the pool could not log in to the server")
            }
            Self::Unreachable(_) => {
                Refusal::new(ErrorKind::ServerUnreachable, "could not connect to the server")
            }
            Self::LimitReached => {
                let message = "timed out while waiting for a server connection";
                Refusal::new(ErrorKind::QueryWaitTimeout, message)
                    .detail("The limit of server connections of the user or the database is reached.")
            }
        }
    }
}

/// Opens server connections of one database and user.
#[derive(Debug)]
pub struct Opener {
    target: Arc<Target>,
    user: Arc<User>,
    database: String,
    limit: Duration,
    /// Connections are opened read-only.
    read_only: bool,
    /// Shared by everybody who opens connections of the user.
    proofs: Arc<Proofs>,
    /// Startup parameters beside the user and the database.
    parameters: Vec<(&'static str, String)>,
    /// The server has answered a startup packet of a newer protocol with an error, and one of 3.0 as it should.
    only_knows_3_0: AtomicBool,
}

impl Opener {
    /// Connections of `user` to `database` on `target`, each within `limit`.
    pub fn new(target: Arc<Target>, user: Arc<User>, database: String, limit: Duration) -> Self {
        let proofs = Proofs::of(&user);
        let parameters = vec![("application_name", "firepool".to_owned())];
        let only_knows_3_0 = AtomicBool::new(false);
        Self { target, user, database, limit, read_only: false, proofs, parameters, only_knows_3_0 }
    }

    /// With what others know of the user as well.
    #[must_use]
    pub fn with_proofs(self, proofs: Arc<Proofs>) -> Self {
        Self { proofs, ..self }
    }

    /// With these startup parameters instead of the pools' own.
    #[must_use]
    pub fn with_parameters(self, parameters: Vec<(&'static str, String)>) -> Self {
        Self { parameters, ..self }
    }

    /// Whether connections are opened in read-only mode, to which RESET ALL and DISCARD ALL lead back. Strings are
    /// standard ones then, so that texts can be read before they are sent.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Opens one, logged in and at rest. The socket belongs to the current runtime.
    pub async fn open(&self) -> Result<ServerConn, ConnectError> {
        timeout(self.limit, self.dial()).await.unwrap_or_else(|_| Err(self.late()))
    }

    fn late(&self) -> ConnectError {
        let Target { host, port, .. } = &*self.target;
        ConnectError::Unreachable(format!("no login within {:?} at {host}:{port}", self.limit))
    }

    /// Opens one that replicates, for a client with these startup parameters: `replication` among them, `user` and
    /// `database` not.
    pub async fn open_replication(&self, parameters: &[(&str, &str)]) -> Result<Walsender, ConnectError> {
        let dial = async {
            let parameters =
                [parameters, &[("user", &self.user.name), ("database", &self.database)]].concat();
            self.log_in(&parameters).await?.welcome_replication().await
        };
        timeout(self.limit, dial).await.unwrap_or_else(|_| Err(self.late()))
    }

    async fn dial(&self) -> Result<ServerConn, ConnectError> {
        let mut parameters = vec![("user", self.user.name.as_str()), ("database", &self.database)];
        parameters.extend(self.parameters.iter().map(|(name, value)| (*name, value.as_str())));
        if self.read_only {
            parameters.extend([(READ_ONLY, "on"), ("standard_conforming_strings", "on")]);
        }
        let mut conn = self.log_in(&parameters).await?.welcome().await?;
        if self.read_only && !conn.hold_read_only() {
            // PostgreSQL reports the mode since 14; what is between may have taken the parameter away.
            return Err(ConnectError::Unsupported(
                "the server does not say that the connection is read-only",
            ));
        }
        Ok(conn)
    }

    /// Connects and proves who the proxy is, with each password of the user until the server takes one.
    async fn log_in(&self, parameters: &[(&str, &str)]) -> Result<Login, ConnectError> {
        let mut first = None;
        for attempt in self.proofs.attempts() {
            let mut login = self.begin(parameters).await?;
            let cleartext = login.is_private() || self.target.cleartext_without_tls;
            let terms = Terms { cleartext, binding: self.target.tls.binding };
            match login.authenticate(&self.proofs, &attempt, terms).await {
                Ok(()) => {
                    self.proofs.worked(&attempt);
                    return Ok(login);
                }
                // What the server said is worth more than that there was nothing to tell it.
                Err(error) if error.may_be_the_password() => match first {
                    None | Some(ConnectError::Unproved(_)) => first = Some(error),
                    Some(_) => {}
                },
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or(ConnectError::Unproved("nothing is known of the user's password")))
    }

    /// Connects, encrypted or not as the target wants it, and begins the protocol.
    async fn begin(&self, parameters: &[(&str, &str)]) -> Result<Login, ConnectError> {
        let (way, other) = encrypt::ways(&self.target.tls);
        match (self.begin_by(&way, parameters).await, other) {
            (Err(error), Some(other)) if encrypt::may_be_about_the_way(&error) => {
                tracing::info!(target = self.target.name, %error, "trying the other way that `sslmode` allows");
                // Where neither works, the first says more.
                self.begin_by(&other, parameters).await.map_err(|_| error)
            }
            (begun, _) => begun,
        }
    }

    /// Agrees on the newest version of the protocol that both sides speak.
    async fn begin_by(&self, way: &Way, parameters: &[(&str, &str)]) -> Result<Login, ConnectError> {
        let old = self.only_knows_3_0.load(Ordering::Relaxed);
        let version = if old { Version::V3_0 } else { Version::NEWEST };
        match Login::begin(self.connect(way).await?, version, parameters).await {
            Err(error) if !old && login::may_be_about_the_version(&error) => {}
            begun => return begun,
        }
        let begun = Login::begin(self.connect(way).await?, Version::V3_0, parameters).await?;
        self.only_knows_3_0.store(true, Ordering::Relaxed);
        Ok(begun)
    }

    async fn connect(&self, way: &Way) -> Result<Connected, ConnectError> {
        let (stream, endpoint) = self.reach().await?;
        way.clone().take(stream, endpoint).await
    }

    async fn reach(&self) -> io::Result<(Stream, Endpoint)> {
        let Target { host, port, .. } = &*self.target;
        if host.starts_with('/') {
            let endpoint = Endpoint::Unix(Path::new(host).join(format!(".s.PGSQL.{port}")));
            return Ok((endpoint.connect().await?, endpoint));
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await?.collect();
        // One that swallows packets must not use up the time of the others.
        let share = self.limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        for address in addresses {
            let endpoint = Endpoint::Tcp(address);
            let connecting = timeout(share, endpoint.connect()).await;
            match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    stream.keep_alive()?;
                    return Ok((stream, endpoint));
                }
                Err(error) => last = io::Error::new(error.kind(), format!("{endpoint}: {error}")),
            }
        }
        Err(last)
    }
}
