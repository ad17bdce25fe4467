//! The login on a fresh server connection: startup packet, authentication, parameters, key, ReadyForQuery.
//!
//! The server is not trusted: every length is bounded, nothing is taken twice, and SCRAM makes it prove that it knows
//! the password. Messages to the server are encoded by pgwire; messages from the server are not decoded by it, because
//! its decoders panic on messages that end too early.

use std::sync::Mutex;

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::startup::{SASLInitialResponse, SASLResponse, Startup};

use super::ServerConn;
use super::cancel::{CancelKey, Endpoint};
use super::connect::{CachedKeys, ConnectError};
use super::settings::Parameters;
use crate::config::User;
use crate::scram::{self, ClientChallenged, ClientExchange, Keys};
use crate::stream::Stream;
use crate::wire::error_fields;
use crate::wire::frame::{self, HEADER};

/// Bytes of one message that a login may bring. PostgreSQL's own are far below.
const MAX_MESSAGE: usize = 64 * 1024;

/// Above this many SCRAM iterations the keys are derived on a thread of their own, so that a worker's clients do not
/// wait. PostgreSQL's default of 4,096 takes about a millisecond.
const BLOCKING_ITERATIONS: u32 = 20_000;

/// `AUTH_REQ_*` of PostgreSQL's `src/include/libpq/pqcomm.h`.
const AUTH_OK: u32 = 0;
const AUTH_SASL: u32 = 10;
const AUTH_SASL_CONTINUE: u32 = 11;
const AUTH_SASL_FINAL: u32 = 12;

/// A connection on which the login is under way.
pub(super) struct Login {
    stream: Stream,
    endpoint: Endpoint,
    buffer: Vec<u8>,
}

impl Login {
    pub(super) fn new(stream: Stream, endpoint: Endpoint) -> Self {
        Self { stream, endpoint, buffer: Vec::with_capacity(1024) }
    }

    pub(super) async fn run(
        mut self,
        user: &User,
        database: &str,
        keys: &Mutex<Option<CachedKeys>>,
    ) -> Result<ServerConn, ConnectError> {
        let mut startup = Startup::new();
        for (name, value) in
            [("user", user.name.as_str()), ("database", database), ("application_name", "firepool")]
        {
            startup.parameters.insert(name.to_owned(), value.to_owned());
        }
        self.send(&startup).await?;
        self.authenticate(user, keys).await?;
        self.welcome().await
    }

    async fn authenticate(
        &mut self,
        user: &User,
        cache: &Mutex<Option<CachedKeys>>,
    ) -> Result<(), ConnectError> {
        let (code, body) = self.authentication().await?;
        match code {
            AUTH_OK => return Ok(()),
            AUTH_SASL => {}
            _ => {
                return Err(ConnectError::Unsupported(
                    "the server asks for another method than SCRAM-SHA-256",
                ));
            }
        }
        if !body.split(|&byte| byte == 0).any(|mechanism| mechanism == scram::MECHANISM.as_bytes()) {
            return Err(ConnectError::Unsupported("the server does not offer SCRAM-SHA-256"));
        }
        let exchange = ClientExchange::new()?;
        let first = Bytes::from(exchange.first());
        self.send(&SASLInitialResponse::new(scram::MECHANISM.to_owned(), Some(first))).await?;
        let challenged = exchange.challenge(&self.expect(AUTH_SASL_CONTINUE).await?)?;
        let keys = keys_for(user, &challenged, cache).await?;
        let (proof, proved) = challenged.prove(&keys);
        self.send(&SASLResponse::new(Bytes::from(proof))).await?;
        proved.verify(&self.expect(AUTH_SASL_FINAL).await?)?;
        self.expect(AUTH_OK).await.map(drop)
    }

    /// From AuthenticationOk to the first ReadyForQuery.
    async fn welcome(mut self) -> Result<ServerConn, ConnectError> {
        let mut parameters = Parameters::default();
        let mut key = None;
        loop {
            let (tag, body) = self.message().await?;
            match (tag, &*body) {
                (b'S', body) => parameters.report(body),
                (b'K', &[a, b, c, d, e, f, g, h]) => {
                    key = Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])));
                }
                (b'Z', b"I") => break,
                (b'N', _) => {}
                (tag, _) => return Err(protocol(tag)),
            }
        }
        let (pid, secret) =
            key.ok_or_else(|| ConnectError::Protocol("the server sent no cancel key".into()))?;
        let key = CancelKey { endpoint: self.endpoint, pid, secret };
        Ok(ServerConn::new(self.stream, key, parameters, self.buffer))
    }

    async fn expect(&mut self, code: u32) -> Result<Vec<u8>, ConnectError> {
        match self.authentication().await? {
            (got, body) if got == code => Ok(body),
            (got, _) => {
                Err(ConnectError::Protocol(format!("authentication message {got} where {code} was due")))
            }
        }
    }

    /// The next message, which must be of the authentication family: its code and what follows it.
    async fn authentication(&mut self) -> Result<(u32, Vec<u8>), ConnectError> {
        match self.message().await? {
            (b'R', body) => match body.split_first_chunk::<4>() {
                Some((code, rest)) => Ok((u32::from_be_bytes(*code), rest.to_vec())),
                None => Err(protocol(b'R')),
            },
            (tag, _) => Err(protocol(tag)),
        }
    }

    /// The next message of any type but ErrorResponse, which is an error here.
    async fn message(&mut self) -> Result<(u8, Vec<u8>), ConnectError> {
        loop {
            let header =
                frame::reply(&self.buffer).map_err(|error| ConnectError::Protocol(error.to_string()))?;
            if let Some(header) = header {
                if header.len > MAX_MESSAGE {
                    return Err(ConnectError::Protocol("a message of the login is too long".into()));
                }
                if self.buffer.len() >= header.len {
                    let body = self.buffer[HEADER..header.len].to_vec();
                    self.buffer.drain(..header.len);
                    return if header.tag == b'E' { Err(refused(&body)) } else { Ok((header.tag, body)) };
                }
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await? {
                0 => {
                    return Err(ConnectError::Unreachable(
                        "the server closed the connection during the login".into(),
                    ));
                }
                read => self.buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }

    async fn send(&mut self, message: &impl Message) -> Result<(), ConnectError> {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes).map_err(|error| ConnectError::Protocol(error.to_string()))?;
        self.stream.write_all(&bytes).await?;
        Ok(())
    }
}

fn refused(body: &[u8]) -> ConnectError {
    // Clients read it: nothing that is not a SQLSTATE may pass for one.
    let is_sqlstate =
        |text: &String| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    ConnectError::Refused {
        sqlstate: error_fields::text(body, b'C').filter(is_sqlstate).unwrap_or_default(),
        message: error_fields::text(body, b'M').unwrap_or_default(),
    }
}

fn protocol(tag: u8) -> ConnectError {
    ConnectError::Protocol(format!("unexpected message {:?} during the login", char::from(tag)))
}

async fn keys_for(
    user: &User,
    challenged: &ClientChallenged,
    cache: &Mutex<Option<CachedKeys>>,
) -> Result<Keys, ConnectError> {
    let lock = || cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let iterations = challenged.iterations();
    if let Some(cached) = &*lock()
        && cached.salt == challenged.salt()
        && cached.iterations == iterations.get()
    {
        return Ok(cached.keys.clone());
    }
    let salt = challenged.salt().to_vec();
    let keys = if iterations.get() > BLOCKING_ITERATIONS {
        let (password, salt) = (user.password.clone(), salt.clone());
        tokio::task::spawn_blocking(move || Keys::derive(password.expose(), &salt, iterations))
            .await
            .map_err(|error| ConnectError::Protocol(error.to_string()))?
    } else {
        Keys::derive(user.password.expose(), &salt, iterations)
    };
    *lock() = Some(CachedKeys { salt, iterations: iterations.get(), keys: keys.clone() });
    Ok(keys)
}
