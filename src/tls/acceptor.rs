//! The proxy as the server of TLS: the certificate that clients see, and what is asked of theirs.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use zeroize::Zeroizing;

use super::certificate::{Names, Validity, binding};
use super::figures::{Counts, Expiry, Handshakes};
use super::files::{self, Fingerprint, KeyHash};
use super::session::Session;
use super::{ALPN, Established, MinVersion, Reloaded, Transport, Trouble, handshake, invalid, provider};

/// Where certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate that clients see, and the chain behind it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Those who vouch for clients. Without, no client is asked for a certificate.
    pub client_ca: Option<PathBuf>,
    /// Lists of clients' certificates that were revoked. Without, none is.
    pub client_crl: Option<PathBuf>,
}

/// Takes clients' handshakes, with the certificates as they were last read.
pub struct Acceptor {
    files: ServerFiles,
    demands_certificate: bool,
    oldest: MinVersion,
    active: RwLock<Active>,
    counts: Arc<Counts>,
}

#[derive(Clone)]
struct Active {
    config: Arc<ServerConfig>,
    binding: Option<Arc<[u8]>>,
    validity: Option<Validity>,
    expiries: Vec<Expiry>,
    lists_until: Option<i64>,
    key_hash: KeyHash,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acceptor({:?}, {self})", self.files)
    }
}

/// Tells what was read from what is read later.
impl fmt::Display for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificates {}", self.active().fingerprint)
    }
}

impl PartialEq for Acceptor {
    fn eq(&self, other: &Self) -> bool {
        let settings = |it: &Self| (it.files.clone(), it.demands_certificate, it.oldest);
        settings(self) == settings(other) && self.active().fingerprint == other.active().fingerprint
    }
}

impl Acceptor {
    /// Reads the files. `demands_certificate` refuses clients that show none; a wrong one is refused in any case.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit together.
    pub fn load(files: ServerFiles, demands_certificate: bool, oldest: MinVersion) -> Result<Self, Trouble> {
        let active = read(&files, demands_certificate, oldest)?;
        let counts = Arc::default();
        Ok(Self { files, demands_certificate, oldest, active: RwLock::new(active), counts })
    }

    /// Reads the files again. Connections that exist stay as they are.
    ///
    /// # Errors
    /// As [`Self::load`]: then what was read before stays in use.
    pub fn reload(&self) -> Result<Reloaded, Trouble> {
        let active = read(&self.files, self.demands_certificate, self.oldest)?;
        let mut current = self.active.write().unwrap_or_else(PoisonError::into_inner);
        if current.fingerprint == active.fingerprint {
            return Ok(Reloaded::Same);
        }
        *current = active;
        Ok(Reloaded::New)
    }

    /// When the certificate that clients see is valid.
    pub fn validity(&self) -> Option<Validity> {
        self.active().validity
    }

    /// When its files are of no use any more.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.active().expiries
    }

    /// How its handshakes came out.
    pub fn handshakes(&self) -> Handshakes {
        self.counts.read()
    }

    /// What counts its handshakes, which may outlive it.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// When the first of the revocation lists expires, in seconds since 1970: no certificate that it is about counts then.
    pub fn lists_until(&self) -> Option<i64> {
        self.active().lists_until
    }

    /// A hash of the certificate's key, which is as secret as the key: what is made of it is the same after a restart.
    pub fn key_hash(&self) -> Zeroizing<[u8; 32]> {
        self.active().key_hash
    }

    /// The file of the certificate that clients see.
    pub fn certificate(&self) -> &Path {
        &self.files.certificate
    }

    fn active(&self) -> Active {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does the handshake with a client, of which `first` was read already. Not cancel safe.
    ///
    /// # Errors
    /// The client is gone, or was refused by an alert that it was sent.
    pub async fn accept(
        &self,
        transport: &mut impl Transport,
        first: &[u8],
    ) -> io::Result<(Session, Established)> {
        let attempt = self.counts.attempt();
        let Active { config, binding, .. } = self.active();
        let connection = UnbufferedServerConnection::new(config).map_err(invalid)?;
        let (session, connection) = handshake::run(connection, transport, first).await?;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let client = match certificate {
            Some(certificate) => {
                Some(Names::of(certificate).ok_or_else(|| invalid("unreadable certificate"))?)
            }
            None => None,
        };
        let alpn = connection.alpn_protocol() == Some(ALPN);
        let open = attempt.succeeded(connection.protocol_version());
        Ok((session.serving(connection).counted(open), Established { binding, client, alpn }))
    }
}

fn read(files: &ServerFiles, demands_certificate: bool, oldest: MinVersion) -> Result<Active, Trouble> {
    let provider = provider();
    let mut fingerprint = Fingerprint::default();
    let (identity, key_hash) = files::identity(&files.certificate, &files.key, &provider, &mut fingerprint)?;
    let own = identity.cert.first();
    let mut expiries: Vec<_> =
        Expiry::of_chain("tls.certificate", &files.certificate, &identity.cert).into_iter().collect();
    let (binding, validity) = (own.and_then(|der| binding(der)), own.and_then(|der| Validity::of(der)));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(oldest.versions())
        .map_err(|error| Trouble::new(&files.certificate, error))?;
    let mut lists_until = None;
    let builder = match &files.client_ca {
        Some(path) => {
            let (store, certificates) = files::authorities(path, &mut fingerprint)?;
            expiries.extend(Expiry::of_any("tls.client_ca", path, &certificates));
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
            let mut path = path;
            if let Some(listed) = &files.client_crl {
                let (lists, until) = files::revocations(listed, &mut fingerprint)?;
                // As OpenSSL for PostgreSQL: whoever is on no list that holds is nobody either.
                verifier = verifier.with_crls(lists).enforce_revocation_expiration();
                expiries.extend(Expiry::of_lists("tls.client_crl", listed, until));
                (path, lists_until) = (listed, until);
            }
            let verifier = if demands_certificate { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| Trouble::new(path, error))?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Active {
        config: Arc::new(config),
        binding: binding.map(Into::into),
        validity,
        expiries,
        lists_until,
        key_hash,
        fingerprint,
    })
}
