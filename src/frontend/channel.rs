//! What a client's connection has to be before the client may prove who it is.

use crate::config::TlsMode;
use crate::error::{ErrorKind, Refusal};
use crate::hba::Certificate;
use crate::stream::Stream;
use crate::tls::Established;

/// Refuses a client that is not encrypted where it has to be. Unix sockets need no encryption, and cancel requests may
/// come without: libpq before 17 sends them in no other way.
pub(super) fn must_be_encrypted(mode: TlsMode, stream: &Stream) -> Result<(), Refusal> {
    if !mode.is_required() || stream.is_encrypted() || stream.is_local() {
        return Ok(());
    }
    let detail = "The proxy serves only clients that use TLS, such as those with sslmode=require.";
    Err(Refusal::new(ErrorKind::InsecureChannel, "connection requires TLS").detail(detail))
}

/// Refuses a client whose certificate names somebody else, where it has to name the user. In PostgreSQL's words.
pub(super) fn must_name(
    mode: TlsMode,
    stream: &Stream,
    channel: &Established,
    user: &str,
) -> Result<(), Refusal> {
    if mode != TlsMode::VerifyFull || stream.is_local() || names(channel, user) {
        return Ok(());
    }
    Err(names_another(user))
}

/// Refuses a client whose certificate is not what its rule wants. In PostgreSQL's words.
pub(super) fn must_show(wanted: Certificate, channel: &Established, user: &str) -> Result<(), Refusal> {
    match (wanted, &channel.client) {
        (Certificate::NotAsked, _) | (Certificate::Verified, Some(_)) => Ok(()),
        (Certificate::OfUser, Some(_)) if names(channel, user) => Ok(()),
        (Certificate::OfUser, Some(_)) => Err(names_another(user)),
        (Certificate::Verified | Certificate::OfUser, None) => {
            let message = "connection requires a valid client certificate";
            Err(Refusal::new(ErrorKind::InsecureChannel, message))
        }
    }
}

fn names_another(user: &str) -> Refusal {
    let message = format!("certificate authentication failed for user \"{user}\"");
    Refusal::new(ErrorKind::InsecureChannel, message)
}

/// Whether a client has shown a certificate, which was verified, that names `user`: as its common name, or as one of
/// its alternative names.
fn names(channel: &Established, user: &str) -> bool {
    channel.client.as_ref().is_some_and(|names| names.name(user))
}
