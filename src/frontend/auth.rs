//! Who a client is: SCRAM-SHA-256 against the password of the configuration. A user who does not exist goes through the
//! same exchange, with the same words and at the same cost, and fails at its end.

use std::io;

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::startup::Authentication;

use super::Shared;
use crate::error::{ErrorKind, Refusal};
use crate::scram::{self, ScramError, ServerExchange, Verifier};
use crate::stream::Stream;

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

/// Has the client prove the password of `user`.
pub(super) async fn authenticate(stream: &mut Stream, shared: &Shared, user: &str) -> Result<(), AuthError> {
    let verifier = match shared.verifiers.get(user) {
        Some(verifier) => verifier.clone(),
        None => Verifier::mock(user, &shared.mock_secret, scram::Look::DEFAULT),
    };
    send(stream, &Authentication::SASL(vec![scram::MECHANISM.to_owned()])).await?;
    let initial = password_message(stream).await?;
    let first = initial_response(&initial).ok_or_else(|| refusal(user, ScramError::Malformed))?;
    let exchange = ServerExchange::new(verifier);
    let (challenge, challenged) = exchange.challenge(first).map_err(|error| refusal(user, error))?;
    send(stream, &Authentication::SASLContinue(Bytes::from(challenge))).await?;
    let last = password_message(stream).await?;
    let signature = challenged.finish(&last).map_err(|error| refusal(user, error))?;
    send(stream, &Authentication::SASLFinal(Bytes::from(signature))).await
}

fn refusal(user: &str, error: ScramError) -> AuthError {
    AuthError::Refused(match error {
        ScramError::Proof => Refusal::new(
            ErrorKind::AuthenticationFailed,
            format!("password authentication failed for user \"{user}\""),
        ),
        error => Refusal::new(ErrorKind::ProtocolViolation, error.to_string()),
    })
}

async fn send(stream: &mut Stream, message: &Authentication) -> Result<(), AuthError> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(stream.write_all(&bytes).await?)
}

/// The body of the next message, which must be of the password family (`p`) and short.
async fn password_message(stream: &mut Stream) -> Result<Vec<u8>, AuthError> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    let [tag, a, b, c, d] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    // The mechanism's name and a length come before the SCRAM message itself.
    if tag != b'p' || !(4..=scram::MAX_MESSAGE + 64).contains(&length) {
        let message = "expected SASL response";
        return Err(AuthError::Refused(Refusal::new(ErrorKind::ProtocolViolation, message)));
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// The client's first message, out of a SASLInitialResponse that chose SCRAM-SHA-256.
fn initial_response(body: &[u8]) -> Option<&[u8]> {
    let end = body.iter().position(|&byte| byte == 0)?;
    let (mechanism, rest) = body.split_at(end);
    let (length, data) = rest[1..].split_first_chunk::<4>()?;
    let fits = u32::from_be_bytes(*length) as usize == data.len();
    (mechanism == scram::MECHANISM.as_bytes() && fits).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_response_names_the_mechanism_and_its_own_length() {
        let body = |mechanism: &str, length: u32, data: &str| {
            [mechanism.as_bytes(), &[0], &length.to_be_bytes(), data.as_bytes()].concat()
        };
        assert_eq!(initial_response(&body("SCRAM-SHA-256", 3, "abc")), Some(&b"abc"[..]));
        for bad in [
            body("SCRAM-SHA-256", 4, "abc"),
            body("SCRAM-SHA-256", u32::MAX, ""),
            body("SCRAM-SHA-256-PLUS", 3, "abc"),
            body("", 0, ""),
            b"SCRAM-SHA-256".to_vec(),
            b"SCRAM-SHA-256\0\0\0".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(initial_response(&bad), None, "{bad:?}");
        }
    }
}
