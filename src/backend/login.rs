//! The login on a fresh server connection: startup packet, protocol version, authentication, parameters, key,
//! ReadyForQuery.
//!
//! The server is not trusted: every length is bounded, nothing is taken twice, and SCRAM makes it prove that it knows
//! the password. Messages to the server are encoded by pgwire; messages from the server are not decoded by it, because
//! its decoders panic on messages that end too early.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::startup::{SASLInitialResponse, SASLResponse, Startup};
use zeroize::Zeroizing;

use super::ServerConn;
use super::cancel::{CancelKey, Endpoint};
use super::connect::ConnectError;
use super::encrypt::{Connected, Encryption};
use super::proofs::{Attempt, NoKeys, Proofs};
use super::replication::Walsender;
use super::settings::Parameters;
use crate::config::ChannelBinding;
use crate::scram::{self, Channel, ClientExchange};
use crate::secret::{Credential, Secret, md5_answer};
use crate::stream::Stream;
use crate::tls::Established;
use crate::wire::error_fields;
use crate::wire::frame::{self, HEADER};
use crate::wire::version::{self, SECRET_BYTES, Version};

/// Bytes of one message that a login may bring. PostgreSQL's own are far below.
const MAX_MESSAGE: usize = 64 * 1024;

/// Bytes of parameters and notices of a replication connection's login. PostgreSQL's own are about 500.
const MAX_GREETING: usize = 64 * 1024;

/// `AUTH_REQ_*` of PostgreSQL's `src/include/libpq/pqcomm.h`.
const AUTH_OK: u32 = 0;
const AUTH_CLEARTEXT: u32 = 3;
const AUTH_MD5: u32 = 5;
const AUTH_SASL: u32 = 10;
const AUTH_SASL_CONTINUE: u32 = 11;
const AUTH_SASL_FINAL: u32 = 12;

/// On what terms something is proved to a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// It may be shown the password in clear text.
    pub(super) cleartext: bool,
    /// Whether SCRAM is bound to the channel.
    pub(super) binding: ChannelBinding,
}

/// A connection on which the server has taken the startup packet.
pub(super) struct Login {
    wire: Wire,
    endpoint: Endpoint,
    /// How the connection is encrypted, and what the handshake found out.
    encrypted: Option<(Encryption, Established)>,
    /// The first message of the authentication family: its code and what follows it.
    first: (u32, Vec<u8>),
}

impl Login {
    /// Sends the startup packet and waits until the server has agreed on a version of the protocol. An error can be
    /// about the version, where [`may_be_about_the_version`] says so.
    pub(super) async fn begin(
        Connected { stream, endpoint, encrypted }: Connected,
        version: Version,
        parameters: &[(&str, &str)],
    ) -> Result<Self, ConnectError> {
        let mut wire = Wire { stream, buffer: Vec::with_capacity(1024) };
        let mut startup = Startup::new();
        // Of 3.2 as of 3.0, the minor version has sixteen bits.
        startup.protocol_number_minor = version.minor() as u16;
        for (name, value) in parameters {
            startup.parameters.insert((*name).to_owned(), (*value).to_owned());
        }
        wire.send(&startup).await?;
        let mut message = wire.message().await?;
        if let (b'v', body) = &message {
            version::negotiated(body, version).map_err(|error| ConnectError::Protocol(error.to_string()))?;
            message = wire.message().await?;
        }
        Ok(Self { wire, endpoint, encrypted, first: authentication(message)? })
    }

    /// Whether nobody on the way can read what is sent.
    pub(super) fn is_private(&self) -> bool {
        self.wire.stream.is_local() || self.wire.stream.is_encrypted()
    }

    /// Proves who the proxy is, in the way that the server asks for.
    pub(super) async fn authenticate(
        &mut self,
        proofs: &Proofs,
        attempt: &Attempt,
        Terms { cleartext, binding }: Terms,
    ) -> Result<(), ConnectError> {
        let (code, body) = std::mem::take(&mut self.first);
        if binding == ChannelBinding::Require && code != AUTH_SASL {
            return Err(unbound());
        }
        match (code, &*body) {
            (AUTH_OK, _) => Ok(()),
            (AUTH_CLEARTEXT, _) if !cleartext => {
                Err(ConnectError::Unsupported("the server asks for the password in clear text, without TLS"))
            }
            (AUTH_CLEARTEXT, _) => {
                let password = attempt.credential.as_ref().and_then(Credential::password);
                let missing = "the server asks for the password in clear text, of which only a hash is known";
                self.password(password.ok_or(ConnectError::Unproved(missing))?).await
            }
            (AUTH_MD5, body) => {
                let salt = <[u8; 4]>::try_from(body).map_err(|_| protocol(b'R'))?;
                let missing = "the server asks for MD5, for which too little of the password is known";
                let hash = proofs.md5(attempt).ok_or(ConnectError::Unproved(missing))?;
                self.password(&md5_answer(&hash, salt)).await
            }
            (AUTH_SASL, body) => self.scram((body, binding), proofs, attempt).await,
            _ => Err(ConnectError::Unsupported(
                "the server asks for another method than SCRAM-SHA-256, MD5 or a password",
            )),
        }
    }

    /// PasswordMessage, and the server's consent. Written here and not by pgwire, whose buffers are not wiped.
    async fn password(&mut self, password: &Secret) -> Result<(), ConnectError> {
        let text = password.expose().as_bytes();
        let mut message = Zeroizing::new(Vec::with_capacity(text.len() + HEADER + 1));
        message.push(b'p');
        message.extend_from_slice(&(text.len() as u32 + 5).to_be_bytes());
        message.extend_from_slice(text);
        message.push(0);
        self.wire.stream.write_all(&message).await?;
        self.wire.expect(AUTH_OK).await.map(drop)
    }

    async fn scram(
        &mut self,
        (offered, binding): (&[u8], ChannelBinding),
        proofs: &Proofs,
        attempt: &Attempt,
    ) -> Result<(), ConnectError> {
        let (mechanism, channel) = self.mechanism(offered, binding)?;
        let exchange = ClientExchange::new()?.over(channel);
        let first = Bytes::from(exchange.first());
        let wire = &mut self.wire;
        wire.send(&SASLInitialResponse::new(mechanism.to_owned(), Some(first))).await?;
        let challenged = exchange.challenge(&wire.expect(AUTH_SASL_CONTINUE).await?)?;
        let keys = proofs.keys(attempt, challenged.salt(), challenged.iterations()).await;
        let keys = keys.map_err(|error| {
            ConnectError::Unproved(match error {
                NoKeys::NotYet => "no client has proved the password yet, of which only a verifier is known",
                NoKeys::OtherVerifier => {
                    "the server has another SCRAM verifier of the password than the proxy"
                }
                NoKeys::Useless => "the server asks for SCRAM, for which too little of the password is known",
            })
        })?;
        let (proof, proved) = challenged.prove(&keys);
        wire.send(&SASLResponse::new(Bytes::from(proof))).await?;
        proved.verify(&wire.expect(AUTH_SASL_FINAL).await?)?;
        wire.expect(AUTH_OK).await.map(drop)
    }

    /// The best mechanism of those that the server offers: with channel binding where both sides can, as libpq chooses.
    fn mechanism(
        &self,
        offered: &[u8],
        wanted: ChannelBinding,
    ) -> Result<(&'static str, Channel), ConnectError> {
        let offers = |wanted: &str| offered.split(|&byte| byte == 0).any(|it| it == wanted.as_bytes());
        let binding = self.encrypted.as_ref().and_then(|(_, established)| established.binding.clone());
        let binding = binding.filter(|_| wanted != ChannelBinding::Disable);
        match binding {
            Some(binding) if offers(scram::MECHANISM_PLUS) => {
                Ok((scram::MECHANISM_PLUS, Channel::Bound(binding)))
            }
            _ if wanted == ChannelBinding::Require => Err(unbound()),
            _ if !offers(scram::MECHANISM) => {
                Err(ConnectError::Unsupported("the server does not offer SCRAM-SHA-256"))
            }
            Some(_) => Ok((scram::MECHANISM, Channel::Able)),
            None => Ok((scram::MECHANISM, Channel::Plain)),
        }
    }

    fn cancel_key(&self, body: &[u8]) -> Result<CancelKey, ConnectError> {
        let encryption = self.encrypted.as_ref().map(|(encryption, _)| encryption.clone());
        cancel_key(body, &self.endpoint, encryption)
    }

    /// From AuthenticationOk to the first ReadyForQuery.
    pub(super) async fn welcome(mut self) -> Result<ServerConn, ConnectError> {
        let mut parameters = Parameters::default();
        let mut key = None;
        loop {
            let (tag, body) = self.wire.message().await?;
            match (tag, &*body) {
                (b'S', body) => parameters.report(body),
                (b'K', body) => key = Some(self.cancel_key(body)?),
                (b'Z', b"I") => break,
                (b'N', _) => {}
                (tag, _) => return Err(protocol(tag)),
            }
        }
        let key = key.ok_or_else(|| ConnectError::Protocol("the server sent no cancel key".into()))?;
        Ok(ServerConn::new(self.wire.stream, key, parameters, self.wire.buffer))
    }
}

fn unbound() -> ConnectError {
    let message =
        "channel binding is required, and the server does not offer SCRAM-SHA-256-PLUS, or there is no TLS";
    ConnectError::Insecure(message.into())
}

impl Login {
    /// Of a replication connection: what the server says to its client is kept as it is.
    pub(super) async fn welcome_replication(mut self) -> Result<Walsender, ConnectError> {
        let (mut greeting, mut key) = (Vec::new(), None);
        loop {
            let (tag, body) = self.wire.message().await?;
            match (tag, &*body) {
                (b'S' | b'N', body) if greeting.len() + body.len() + HEADER <= MAX_GREETING => {
                    greeting.push(tag);
                    greeting.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
                    greeting.extend_from_slice(body);
                }
                (b'K', body) => key = Some(self.cancel_key(body)?),
                (b'Z', b"I") => break,
                (tag, _) => return Err(protocol(tag)),
            }
        }
        let key = key.ok_or_else(|| ConnectError::Protocol("the server sent no cancel key".into()))?;
        let Wire { stream, buffer } = self.wire;
        Ok(Walsender { stream, key: Arc::new(key), greeting, unread: buffer })
    }
}

/// Whether a server that does not know the version of the protocol answers a startup packet so, instead of negotiating:
/// with an error that PostgreSQL does not have before it has asked who somebody is, or with the end of the connection.
/// PgBouncer before 1.23 is one.
pub(super) fn may_be_about_the_version(error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused { sqlstate, .. } => {
            sqlstate.is_empty() || ["08", "0A", "58", "XX"].iter().any(|class| sqlstate.starts_with(class))
        }
        ConnectError::Unreachable(_) => true,
        ConnectError::LimitReached
        | ConnectError::Unsupported(_)
        | ConnectError::Insecure(_)
        | ConnectError::Unproved(_)
        | ConnectError::Protocol(_) => false,
    }
}

/// The socket, with what was read of it and not looked at yet.
struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Wire {
    async fn expect(&mut self, code: u32) -> Result<Vec<u8>, ConnectError> {
        match authentication(self.message().await?)? {
            (got, body) if got == code => Ok(body),
            (got, _) => {
                Err(ConnectError::Protocol(format!("authentication message {got} where {code} was due")))
            }
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

/// A message that must be of the authentication family: its code and what follows it.
fn authentication((tag, body): (u8, Vec<u8>)) -> Result<(u32, Vec<u8>), ConnectError> {
    match (tag, body.split_first_chunk::<4>()) {
        (b'R', Some((code, rest))) => Ok((u32::from_be_bytes(*code), rest.to_vec())),
        (tag, _) => Err(protocol(tag)),
    }
}

/// The body of a BackendKeyData. A longer secret than protocol 3.0 allows is taken from any server: it is only sent back.
fn cancel_key(
    body: &[u8],
    endpoint: &Endpoint,
    encryption: Option<Encryption>,
) -> Result<CancelKey, ConnectError> {
    match body.split_first_chunk::<4>() {
        Some((pid, secret)) if SECRET_BYTES.contains(&secret.len()) => {
            let (endpoint, secret) = (endpoint.clone(), secret.into());
            Ok(CancelKey { endpoint, encryption, pid: u32::from_be_bytes(*pid), secret })
        }
        _ => Err(protocol(b'K')),
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
