//! The proxy as the client of TLS: what is asked of a server, and what it is shown.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ClientConfig;
use rustls::client::{UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;

use super::certificate::binding;
use super::figures::{Counts, Expiry, Handshakes};
use super::files::{self, Fingerprint};
use super::session::Session;
use super::verifier::{Roots, Verifier};
use super::{ALPN, Established, MinVersion, Reloaded, Transport, Trouble, handshake, invalid, provider};

/// Where certificates are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientFiles {
    /// Those who may vouch for the server.
    pub root: Option<PathBuf>,
    /// Without a root: those whom the operating system trusts may.
    pub system: bool,
    /// Lists of servers' certificates that were revoked. They mean nothing without a root.
    pub revoked: Option<PathBuf>,
    /// The certificate that the server is shown, with its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What is asked of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// That the roots vouch for it, if there are any.
    #[default]
    Roots,
    /// That it names the host as well.
    Host,
}

/// Begins handshakes with one server, with the certificates as they were last read.
pub struct Connector {
    host: String,
    files: ClientFiles,
    trust: Trust,
    active: RwLock<Active>,
    counts: Arc<Counts>,
}

#[derive(Clone)]
struct Active {
    config: Arc<ClientConfig>,
    expiries: Vec<Expiry>,
    lists_until: Option<i64>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({}, {:?}, {:?}, {self})", self.host, self.files, self.trust)
    }
}

/// Tells what was read from what is read later.
impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificates {}", self.active().fingerprint)
    }
}

impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        let settings = |it: &Self| (it.host.clone(), it.files.clone(), it.trust);
        settings(self) == settings(other) && self.active().fingerprint == other.active().fingerprint
    }
}

impl Eq for Connector {}

impl Connector {
    /// Reads the files. `host` is the server's name as it is configured: a name or an address.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit together.
    pub fn load(host: &str, files: ClientFiles, trust: Trust) -> Result<Self, Trouble> {
        let active = read(&files, trust)?;
        let (host, counts) = (host.to_owned(), Arc::default());
        Ok(Self { host, files, trust, active: RwLock::new(active), counts })
    }

    /// Reads the files again. Connections that exist stay as they are.
    ///
    /// # Errors
    /// As [`Self::load`]: then what was read before stays in use.
    pub fn reload(&self) -> Result<Reloaded, Trouble> {
        let active = read(&self.files, self.trust)?;
        let mut current = self.active.write().unwrap_or_else(PoisonError::into_inner);
        if current.fingerprint == active.fingerprint {
            return Ok(Reloaded::Same);
        }
        *current = active;
        Ok(Reloaded::New)
    }

    /// When its files are of no use any more.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.active().expiries
    }

    /// How its handshakes came out.
    pub fn handshakes(&self) -> Handshakes {
        self.counts.read()
    }

    /// When the first of the revocation lists expires, in seconds since 1970: no certificate that it is about counts then.
    pub fn lists_until(&self) -> Option<i64> {
        self.active().lists_until
    }

    fn active(&self) -> Active {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does the handshake with a server that waits for one. Not cancel safe.
    ///
    /// # Errors
    /// The server is gone, or is not what it has to be.
    pub async fn connect(&self, transport: &mut impl Transport) -> io::Result<(Session, Established)> {
        let attempt = self.counts.attempt();
        // What is no name of a host cannot be in a certificate either, so that this one is only refused where it matters.
        let host = match ServerName::try_from(self.host.clone()) {
            Ok(host) => host,
            Err(_) if self.trust == Trust::Roots => {
                ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
            }
            Err(error) => return Err(invalid(error)),
        };
        let connection = UnbufferedClientConnection::new(self.active().config, host).map_err(invalid)?;
        let (session, connection) = handshake::run(connection, transport, &[]).await?;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let binding = certificate.and_then(|der| binding(der)).map(Into::into);
        let alpn = connection.alpn_protocol() == Some(ALPN);
        let open = attempt.succeeded(connection.protocol_version());
        Ok((session.calling(connection).counted(open), Established { binding, client: None, alpn }))
    }
}

fn read(files: &ClientFiles, trust: Trust) -> Result<Active, Trouble> {
    let provider = provider();
    let mut fingerprint = Fingerprint::default();
    let (roots, lists_until) = roots(files, &provider, &mut fingerprint)?;
    let mut expiries = Vec::new();
    if let (Some(path), Some(roots)) = (&files.root, &roots) {
        expiries.extend(Expiry::of_any("sslrootcert", path, &roots.certificates));
    }
    if let Some(listed) = &files.revoked {
        expiries.extend(Expiry::of_lists("sslcrl", listed, lists_until));
    }
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Verifier { roots, names_host: trust == Trust::Host, algorithms };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(MinVersion::V1_2.versions())
        .map_err(|error| Trouble::new(files.root.as_deref().unwrap_or("TLS".as_ref()), error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &files.identity {
        Some((certificate, key)) => {
            let (identity, _) = files::identity(certificate, key, &provider, &mut fingerprint)?;
            expiries.extend(Expiry::of_chain("sslcert", certificate, &identity.cert));
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Active { config: Arc::new(config), expiries, lists_until, fingerprint })
}

/// Those who may vouch for the server, and when the first of their revocation lists expires.
fn roots(
    files: &ClientFiles,
    provider: &Arc<CryptoProvider>,
    fingerprint: &mut Fingerprint,
) -> Result<(Option<Roots>, Option<i64>), Trouble> {
    let (store, certificates) = match &files.root {
        Some(path) => files::authorities(path, fingerprint)?,
        None if files.system => (files::system_authorities(fingerprint)?, Vec::new()),
        None => return Ok((None, None)),
    };
    let store = Arc::new(store);
    let Some(listed) = &files.revoked else {
        return Ok((Some(Roots { store, certificates, listed: None }), None));
    };
    let (lists, until) = files::revocations(listed, fingerprint)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&store), Arc::clone(provider));
    // As OpenSSL for libpq: who is on no list that holds is nobody either.
    let verifier = verifier.with_crls(lists).enforce_revocation_expiration().build();
    let verifier = verifier.map_err(|error| Trouble::new(listed, error))?;
    Ok((Some(Roots { store, certificates, listed: Some(verifier) }), until))
}
