//! The exchanges: what is sent, what is read, and what it is compared with.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::startup::Authentication;
use zeroize::Zeroizing;

use super::failures::Gate;
use super::imitation::Appearance;
use super::{AuthError, of_scram, too_many_failures};
use crate::error::{ErrorKind, Refusal};
use crate::hba::{Asked, Transport};
use crate::scram::{self, Channel, Keys, ScramError, ServerExchange, Verifier};
use crate::secret::{Credential, Secret, md5_answer};
use crate::stream::Stream;

/// Bytes of a password that are taken. PostgreSQL 18 takes 1 kB, and tokens of clouds are longer.
const MAX_PASSWORD: usize = 16 * 1024;

/// Above this many iterations a password in clear text is compared on a thread of its own.
const BLOCKING_ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(20_000 - 1);

/// What a client's proofs are compared with. Of a user who does not exist, nothing fits.
pub(super) struct Known {
    pub(super) user: String,
    /// MD5 hashes of the passwords that are right.
    pub(super) hashes: Vec<Secret>,
    pub(super) verifier: Verifier,
    pub(super) appearance: Appearance,
}

impl Known {
    /// Whether a password is right, and then its keys. The same work whether it is, and for users who do not exist.
    pub(super) fn accepts(&self, password: &Secret) -> Option<Keys> {
        let keys = self.verifier.derive(password.expose());
        let hash = Credential::Password(password.clone()).md5(&self.user);
        let mut right = self.verifier.takes(&keys);
        for known in &self.hashes {
            right |= hash.as_ref().is_some_and(|hash| hash.is(known.expose()));
        }
        right.then_some(keys)
    }
}

/// SCRAM-SHA-256, from the offer to the server's own proof; the keys that the client has shown. With a `binding` of its
/// channel, the client is offered to bind the proof to it.
pub(super) async fn scram(
    stream: &mut Stream,
    binding: Option<Arc<[u8]>>,
    known: Known,
    gate: Gate<'_>,
) -> Result<Keys, AuthError> {
    let Known { user, verifier, .. } = known;
    let refused = |error| AuthError::from(of_scram(&user, error));
    // libpq takes the first that it can.
    let offered = binding.iter().map(|_| scram::MECHANISM_PLUS).chain([scram::MECHANISM]);
    send(stream, &Authentication::SASL(offered.map(str::to_owned).collect())).await?;
    // The mechanism's name and a length come before the SCRAM message itself.
    let initial = password_message(stream, scram::MAX_MESSAGE + 64, "expected SASL response").await?;
    let response = initial_response(&initial, binding);
    let (channel, first) = response.ok_or_else(|| refused(ScramError::Malformed))?;
    let exchange = ServerExchange::new(verifier).over(channel);
    let (challenge, challenged) = exchange.challenge(first).map_err(refused)?;
    send(stream, &Authentication::SASLContinue(Bytes::from(challenge))).await?;
    let last = password_message(stream, scram::MAX_MESSAGE + 64, "expected SASL response").await?;
    let guess = gate.pass().await.ok_or_else(|| too_many_failures(&gate))?;
    let learned = challenged.learn(&last);
    if !matches!(learned, Err(ScramError::Proof)) {
        guess.give_back();
    }
    let (signature, keys) = learned.map_err(refused)?;
    send(stream, &Authentication::SASLFinal(Bytes::from(signature))).await?;
    Ok(keys)
}

/// A client's answer to an MD5 request.
pub(super) struct Md5Answer {
    salt: [u8; 4],
    answer: Secret,
}

impl Md5Answer {
    /// Whether it is that of a right password. The same work for users who do not exist.
    pub(super) fn check(&self, known: &Known) -> bool {
        let nobody = [Secret::new("0".repeat(32))];
        let hashes = if known.hashes.is_empty() { &nobody[..] } else { &known.hashes };
        let mut right = false;
        for hash in hashes {
            right |= self.answer.is(md5_answer(hash, self.salt).expose());
        }
        right && !known.hashes.is_empty()
    }
}

/// Asks for MD5.
pub(super) async fn md5(stream: &mut Stream, known: &Known) -> Result<Md5Answer, AuthError> {
    let salt = scram::random::<4>().map_err(|error| of_scram(&known.user, error))?;
    send(stream, &Authentication::MD5Password(salt.to_vec())).await?;
    Ok(Md5Answer { salt, answer: text_message(stream).await? })
}

/// Asks for the password in clear text.
pub(super) async fn password(stream: &mut Stream) -> Result<Secret, AuthError> {
    send(stream, &Authentication::CleartextPassword).await?;
    text_message(stream).await
}

/// Whether a password is right, and its keys, which mean nothing if it is not. On a thread of its own where it costs much.
pub(super) async fn check_password(password: &Secret, known: Known) -> Result<(bool, Keys), AuthError> {
    let compare = |password: Secret, known: Known| match known.accepts(&password) {
        Some(keys) => (true, keys),
        None => (false, Keys::derive("", b"nothing", NonZeroU32::MIN)),
    };
    let password = password.clone();
    if known.appearance.look.iterations <= BLOCKING_ITERATIONS {
        return Ok(compare(password, known));
    }
    let compared = tokio::task::spawn_blocking(move || compare(password, known)).await;
    compared.map_err(|error| AuthError::Gone(std::io::Error::other(error.to_string())))
}

/// Whether the process at the other end runs as the system's user of that name.
pub(super) async fn peer(asked: &Asked<'_>) -> Result<(), AuthError> {
    let Transport::Unix { uid } = asked.transport else {
        return Err(Refusal::new(ErrorKind::LoginRefused, "peer authentication is for Unix sockets").into());
    };
    // Where accounts come from a directory on the network, it may take a while.
    let name = tokio::task::spawn_blocking(move || account(uid?)).await.ok().flatten();
    if name.as_deref() == Some(asked.user) {
        return Ok(());
    }
    tracing::info!(uid, user = asked.user, "the process at the other end runs as another user");
    let message = format!("Peer authentication failed for user \"{}\"", asked.user);
    Err(Refusal::new(ErrorKind::LoginRefused, message).into())
}

fn account(uid: u32) -> Option<String> {
    Some(nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok()??.name)
}

async fn send(stream: &mut Stream, message: &Authentication) -> Result<(), AuthError> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(stream.write_all(&bytes).await?)
}

/// The body of the next message, which must be of the password family (`p`) and short.
async fn password_message(
    stream: &mut Stream,
    most: usize,
    expected: &'static str,
) -> Result<Zeroizing<Vec<u8>>, AuthError> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    let [tag, a, b, c, d] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if tag != b'p' || !(4..=most).contains(&length) {
        return Err(Refusal::new(ErrorKind::ProtocolViolation, expected).into());
    }
    let mut body = Zeroizing::new(vec![0; length - 4]);
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn text_message(stream: &mut Stream) -> Result<Secret, AuthError> {
    let body = password_message(stream, MAX_PASSWORD, "expected password response").await?;
    match text(&body) {
        Some("") => {
            Err(Refusal::new(ErrorKind::AuthenticationFailed, "empty password returned by client").into())
        }
        Some(text) => Ok(Secret::new(text.to_owned())),
        None => Err(Refusal::new(ErrorKind::ProtocolViolation, "invalid password packet size").into()),
    }
}

/// A text with its NUL, and nothing behind it.
pub(super) fn text(body: &[u8]) -> Option<&str> {
    let (nul, text) = body.split_last()?;
    (*nul == 0 && !text.contains(&0)).then(|| std::str::from_utf8(text).ok())?
}

/// The client's first message, out of a SASLInitialResponse that chose one of the mechanisms, and what that makes of its
/// channel.
pub(super) fn initial_response(body: &[u8], binding: Option<Arc<[u8]>>) -> Option<(Channel, &[u8])> {
    let end = body.iter().position(|&byte| byte == 0)?;
    let (mechanism, rest) = body.split_at(end);
    let (length, data) = rest[1..].split_first_chunk::<4>()?;
    let fits = u32::from_be_bytes(*length) as usize == data.len();
    let channel = match binding {
        Some(binding) if mechanism == scram::MECHANISM_PLUS.as_bytes() => Channel::Bound(binding),
        Some(_) if mechanism == scram::MECHANISM.as_bytes() => Channel::Able,
        None if mechanism == scram::MECHANISM.as_bytes() => Channel::Plain,
        _ => return None,
    };
    fits.then_some((channel, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scram::Look;

    #[test]
    fn a_first_response_names_the_mechanism_and_its_own_length() {
        let body = |mechanism: &str, length: u32, data: &str| {
            [mechanism.as_bytes(), &[0], &length.to_be_bytes(), data.as_bytes()].concat()
        };
        let binding: Arc<[u8]> = b"hash".as_slice().into();
        for (mechanism, binding, expected) in [
            ("SCRAM-SHA-256", None, Channel::Plain),
            ("SCRAM-SHA-256", Some(&binding), Channel::Able),
            ("SCRAM-SHA-256-PLUS", Some(&binding), Channel::Bound(Arc::clone(&binding))),
        ] {
            let body = body(mechanism, 3, "abc");
            assert_eq!(initial_response(&body, binding.cloned()), Some((expected, &b"abc"[..])));
        }
        for bad in [
            body("SCRAM-SHA-256", 4, "abc"),
            body("SCRAM-SHA-256", u32::MAX, ""),
            body("SCRAM-SHA-256-PLUS", 3, "abc"),
            body("", 0, ""),
            b"SCRAM-SHA-256".to_vec(),
            b"SCRAM-SHA-256\0\0\0".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(initial_response(&bad, None), None, "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_one_text_with_its_end() {
        assert_eq!(text(b"sesame\0"), Some("sesame"));
        assert_eq!(text(b"\0"), Some(""));
        for bad in [&b""[..], b"sesame", b"ses\0ame\0", b"sesame\0\0", b"\xff\0"] {
            assert_eq!(text(bad), None, "{bad:?}");
        }
    }

    fn known(hashes: Vec<Secret>, verifier: Verifier) -> Known {
        let appearance = Appearance { md5: true, look: Look::DEFAULT };
        Known { user: "alice".into(), hashes, verifier, appearance }
    }

    #[test]
    fn nothing_fits_a_user_who_does_not_exist_not_even_the_hash_that_it_is_compared_with() {
        let nobody = known(Vec::new(), Verifier::mock("alice", b"x", Look::DEFAULT));
        let zeros = Secret::new("0".repeat(32));
        let answer = Md5Answer { salt: [1; 4], answer: md5_answer(&zeros, [1; 4]) };
        assert!(!answer.check(&nobody));
        assert!(nobody.accepts(&Secret::new("x".into())).is_none());
        let somebody = known(vec![zeros], Verifier::of_password("sesame").unwrap());
        assert!(answer.check(&somebody));
        assert!(somebody.accepts(&Secret::new("sesame".into())).is_some());
        assert!(somebody.accepts(&Secret::new("x".into())).is_none());
    }
}
