//! Who a client is. A rule says what it has to prove, `methods` has it prove that, and here is what follows.
//!
//! A user who does not exist, who has no password, or whose password has expired goes through the same exchange as
//! others and is told the same: looking like one of the others is `imitation`'s business. Secrets are compared in
//! constant time. Nothing that the client has sent reaches a server before it has proved who it is.

mod failures;
mod imitation;
mod methods;
mod state;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use super::Shared;
use super::channel;
use super::lookup::Lookups;
use crate::config::User;
use crate::error::{ErrorKind, Refusal};
use crate::hba::{self, Asked, Certificate, Method, Rule, Transport};
use crate::scram::{Keys, ScramError, Verifier};
use crate::secret::{self, Credential};
use crate::stream::Stream;
use crate::tls::Established;

pub(super) use failures::Failures;
use failures::Gate;
use imitation::Appearance;
use methods::Known;
pub(super) use state::{State, salt_secret};

/// For the fuzz targets: reads what a client may send in the place of a password, in every way.
#[doc(hidden)]
pub fn takes_password(body: &[u8]) -> (bool, bool) {
    let first = [None, Some(body.into())].map(|binding| methods::initial_response(body, binding).is_some());
    (first.contains(&true), methods::text(body).is_some())
}

/// Why a client is not who it says.
#[derive(Debug)]
pub(super) enum AuthError {
    /// To be said to the client.
    Refused(Refusal),
    /// The client is gone.
    Gone(io::Error),
}

impl From<io::Error> for AuthError {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<Refusal> for AuthError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// How a client is connected.
pub(super) fn transport(stream: &Stream) -> io::Result<Transport> {
    Ok(match stream.address()? {
        Some(address) if stream.is_encrypted() => Transport::Tls { address },
        Some(address) => Transport::Tcp { address },
        None => Transport::Unix { uid: stream.uid() },
    })
}

/// Has the client prove that it is the user that it asks for, who is returned. Its channel is what SCRAM may be bound to.
pub(super) async fn authenticate(
    (stream, channel): (&mut Stream, &Established),
    shared: &Shared,
    asked: Asked<'_>,
) -> Result<Arc<User>, AuthError> {
    let state = shared.state();
    let (limits, address) = (state.authentication(), asked.transport.address());
    let gate = Gate { failures: &shared.failures, limits, clock: &shared.clock, address };
    if gate.is_closed() {
        return Err(too_many_failures(&gate).into());
    }
    let demand = demand(&state, &asked)?;
    channel::must_show(demand.certificate, channel, asked.user)?;
    let found = find((shared, &state), asked.user).await?;
    let proved = prove((stream, channel), (shared, &state), (&asked, demand), &found, gate).await;
    match proved {
        Ok((renewed, keys)) => {
            let Some(user) = found.user else {
                let message = format!("role \"{}\" does not exist", asked.user);
                return Err(Refusal::new(ErrorKind::LoginRefused, message).into());
            };
            tracing::debug!(user = ?asked.user, method = demand.method.as_str(), "a client has proved who it is");
            let user = renewed.unwrap_or(user);
            // Those of the configuration are replaced by a reload only: this login may have begun before it.
            if found.looked_up {
                shared.registry.replaced(&user);
            }
            if let Some(keys) = keys {
                shared.registry.learned(&user, &keys);
            }
            Ok(user)
        }
        Err(error) => {
            if let AuthError::Refused(Refusal { kind: ErrorKind::AuthenticationFailed, .. }) = &error
                && let (true, Some(lookups)) = (found.remembered, &shared.lookups)
            {
                lookups.forget(asked.user);
            }
            Err(error)
        }
    }
}

fn too_many_failures(gate: &Gate<'_>) -> Refusal {
    let within = gate.limits.failed_logins_within;
    let detail = format!("Failed logins are forgotten {within:?} after the first of them.");
    Refusal::new(ErrorKind::TooManyFailures, "too many failed logins from this address").detail(detail)
}

/// What a client has to prove.
#[derive(Clone, Copy)]
struct Demand {
    method: Method,
    certificate: Certificate,
    /// Clear text is allowed whatever the way.
    cleartext: bool,
}

/// What the rules want of such a client.
fn demand(state: &State, asked: &Asked<'_>) -> Result<Demand, Refusal> {
    let Some(rules) = state.rules() else {
        let (method, certificate) = (Method::ScramSha256, Certificate::NotAsked);
        return Ok(Demand { method, certificate, cleartext: false });
    };
    let refused = |what: &str| {
        let host = asked.transport.address().map_or(Cow::Borrowed("[local]"), |host| host.to_string().into());
        let encryption = match asked.transport {
            Transport::Tls { .. } => "SSL encryption",
            Transport::Tcp { .. } | Transport::Unix { .. } => "no encryption",
        };
        let about = match asked.database {
            Some(database) => format!("host \"{host}\", user \"{}\", database \"{database}\"", asked.user),
            None => format!("replication connection from host \"{host}\", user \"{}\"", asked.user),
        };
        Refusal::new(ErrorKind::LoginRefused, format!("{what} {about}, {encryption}"))
            .detail("The rules are those of firepool's configuration, not the server's.")
    };
    let reject = match asked.database {
        Some(_) => "pg_hba.conf rejects connection for",
        None => "pg_hba.conf rejects",
    };
    match hba::first(rules, asked) {
        None => Err(refused("no pg_hba.conf entry for")),
        Some(rule) if rule.method == Method::Reject => Err(refused(reject)),
        Some(&Rule { method, certificate, cleartext_without_tls: cleartext, .. }) => {
            Ok(Demand { method, certificate, cleartext })
        }
    }
}

/// What is known of the user that a client names.
struct Candidate {
    /// `None` if there is no such user.
    user: Option<Arc<User>>,
    /// It was not asked for at this login.
    remembered: bool,
    /// It was looked up.
    looked_up: bool,
}

/// What every worker shares, and what of it this login began with.
type Both<'a> = (&'a Shared, &'a State);

async fn find((shared, state): Both<'_>, name: &str) -> Result<Candidate, Refusal> {
    let configured = state.user(name);
    let complete = configured.is_some_and(|user| !user.credentials.is_empty());
    let Some(lookups) = shared.lookups.as_ref().filter(|_| !complete) else {
        return Ok(Candidate { user: configured.cloned(), remembered: false, looked_up: false });
    };
    let found = lookups.find(name).await.map_err(|_| unavailable())?;
    let user = found.credentials.map(|credentials| named(state, name, credentials));
    Ok(Candidate { user, remembered: found.remembered, looked_up: true })
}

/// The user of that name with credentials that were looked up.
fn named(state: &State, name: &str, credentials: Vec<Credential>) -> Arc<User> {
    let configured = state.user(name);
    Arc::new(User {
        name: name.to_owned(),
        credentials,
        max_clients: configured.and_then(|user| user.max_clients),
        max_server_connections: configured.and_then(|user| user.max_server_connections),
    })
}

fn unavailable() -> Refusal {
    Refusal::new(ErrorKind::LookupFailed, "could not look up the user")
        .detail("The server that knows the users could not be asked.")
}

/// The user as it was found when it was asked about anew, and the keys that the client has shown.
type Proved = (Option<Arc<User>>, Option<Keys>);

async fn prove(
    (stream, channel): (&mut Stream, &Established),
    (shared, state): Both<'_>,
    (asked, Demand { method, cleartext, .. }): (&Asked<'_>, Demand),
    found: &Candidate,
    gate: Gate<'_>,
) -> Result<Proved, AuthError> {
    let known = known(state, asked.user, found);
    match method {
        // Of the second, the certificate was looked at before.
        Method::Trust | Method::Cert => Ok((None, None)),
        Method::Peer => methods::peer(asked).await.map(|()| (None, None)),
        Method::Md5 if known.appearance.md5 => {
            let answer = methods::md5(stream, &known).await?;
            let guess = gate.pass().await.ok_or_else(|| too_many_failures(&gate))?;
            if answer.check(&known) {
                guess.give_back();
                return Ok((None, None));
            }
            let (user, known) = again((shared, state), asked.user, found).await?;
            if !answer.check(&known) {
                return Err(wrong_password(asked.user).into());
            }
            guess.give_back();
            Ok((Some(user), None))
        }
        Method::ScramSha256 | Method::Md5 => {
            let binding = channel.binding.clone();
            methods::scram(stream, binding, known, gate).await.map(|keys| (None, Some(keys)))
        }
        Method::Password => {
            if !asked.transport.is_private() && !cleartext {
                let message = "a password in clear text is not taken without TLS";
                return Err(Refusal::new(ErrorKind::LoginRefused, message).into());
            }
            let password = methods::password(stream).await?;
            let guess = gate.pass().await.ok_or_else(|| too_many_failures(&gate))?;
            let (right, keys) = methods::check_password(&password, known).await?;
            if right {
                guess.give_back();
                return Ok((None, Some(keys)));
            }
            let (user, known) = again((shared, state), asked.user, found).await?;
            let (right, keys) = methods::check_password(&password, known).await?;
            if !right {
                return Err(wrong_password(asked.user).into());
            }
            guess.give_back();
            Ok((Some(user), Some(keys)))
        }
        // It was answered before.
        Method::Reject => Err(Refusal::new(ErrorKind::LoginRefused, "the client is rejected").into()),
    }
}

/// What does not fit what was remembered may fit what is true now: the password was changed a moment ago.
async fn again(
    (shared, state): Both<'_>,
    name: &str,
    found: &Candidate,
) -> Result<(Arc<User>, Known), AuthError> {
    let lookups: Option<&Lookups> = shared.lookups.as_ref().filter(|_| found.remembered);
    let Some(lookups) = lookups else { return Err(wrong_password(name).into()) };
    let credentials = lookups.ask(name).await.map_err(|_| unavailable())?;
    let user = credentials.map(|credentials| named(state, name, credentials));
    let candidate = Candidate { user, remembered: false, looked_up: true };
    let known = known(state, name, &candidate);
    candidate.user.map(|user| (user, known)).ok_or_else(|| wrong_password(name).into())
}

/// What a client's proofs are compared with.
fn known(state: &State, name: &str, found: &Candidate) -> Known {
    let credentials = found.user.as_ref().map_or(&[][..], |user| &user.credentials);
    let verifier = match found.looked_up {
        true => secret::verifier(credentials, name, &state.imitation.secret),
        false => found.user.as_ref().and_then(|user| state.verifier(&user.name).cloned()),
    };
    let appearance = match credentials {
        [] => state.imitation.appearance(name),
        credentials => Appearance::of(credentials, verifier.as_ref()),
    };
    if found.looked_up && !credentials.is_empty() {
        state.imitation.saw(appearance);
    }
    let mock = || Verifier::mock(name, &state.imitation.secret, appearance.look);
    Known {
        user: name.to_owned(),
        hashes: credentials.iter().filter_map(|credential| credential.md5(name)).collect(),
        verifier: verifier.unwrap_or_else(mock),
        appearance,
    }
}

fn wrong_password(user: &str) -> Refusal {
    let message = format!("password authentication failed for user \"{user}\"");
    Refusal::new(ErrorKind::AuthenticationFailed, message)
}

fn of_scram(user: &str, error: ScramError) -> Refusal {
    match error {
        ScramError::Proof => wrong_password(user),
        ScramError::Downgrade | ScramError::OtherChannel => {
            Refusal::new(ErrorKind::InsecureChannel, error.to_string())
        }
        error => Refusal::new(ErrorKind::ProtocolViolation, error.to_string()),
    }
}
