//! Certificates and keys from PEM files.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use zeroize::{Zeroize, Zeroizing};

use super::Trouble;

/// Bytes of a file that are read. A bundle of every public CA has about 250,000.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Of a private key: as secret as that, and wiped like it.
pub(super) type KeyHash = Zeroizing<[u8; 32]>;

/// Tells apart what files said at one time and another. Of keys it holds a hash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<u8>);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = digest::digest(&digest::SHA256, &self.0);
        all.as_ref().iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Fingerprint {
    fn add(&mut self, contents: &[u8]) {
        self.0.extend_from_slice(digest::digest(&digest::SHA256, contents).as_ref());
    }
}

/// A certificate chain, the subject's own first, with its key, and a hash of that.
pub(super) fn identity(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
    fingerprint: &mut Fingerprint,
) -> Result<(Arc<CertifiedKey>, KeyHash), Trouble> {
    let chain = certificates(certificate, fingerprint)?;
    if let Some(reason) = exposure(key) {
        return Err(Trouble::new(key, reason));
    }
    let contents = read(key, fingerprint)?;
    let mut der = PrivateKeyDer::from_pem_slice(&contents).map_err(|error| {
        let encrypted = contents.windows(9).any(|word| word == b"ENCRYPTED");
        Trouble::new(
            key,
            match error {
                PemError::NoItemsFound if encrypted => {
                    "the key is encrypted; one without a passphrase is needed".into()
                }
                PemError::NoItemsFound => "there is no private key in it".into(),
                error => format!("not PEM: {error}"),
            },
        )
    })?;
    let mut hash = KeyHash::default();
    hash.copy_from_slice(digest::digest(&digest::SHA256, der.secret_der()).as_ref());
    let signing = provider.key_provider.load_private_key(der.clone_key());
    der.zeroize();
    let signing = signing.map_err(|_| Trouble::new(key, "the key is of a kind that is not supported"))?;
    let identity = CertifiedKey::new(chain, signing);
    match identity.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok((Arc::new(identity), hash)),
        Err(Error::InconsistentKeys(_)) => {
            Err(Trouble::new(key, format!("the key does not belong to {}", certificate.display())))
        }
        Err(error) => Err(Trouble::new(certificate, error)),
    }
}

/// Those who vouch for others' certificates.
pub(super) fn authorities(
    path: &Path,
    fingerprint: &mut Fingerprint,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Trouble> {
    let certificates = certificates(path, fingerprint)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|error| Trouble::new(path, error))?;
    }
    Ok((store, certificates))
}

/// Those whom the operating system trusts, as OpenSSL finds them: in `SSL_CERT_FILE` and `SSL_CERT_DIR`, or in its folders.
pub(super) fn system_authorities(fingerprint: &mut Fingerprint) -> Result<RootCertStore, Trouble> {
    let found = rustls_native_certs::load_native_certs();
    found.certs.iter().for_each(|certificate| fingerprint.add(certificate));
    let mut store = RootCertStore::empty();
    // Of a few hundred, some are always older than the rules that certificates are read by.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(Trouble::new("sslrootcert".as_ref(), format!("the system trusts nobody{why}")));
    }
    Ok(store)
}

/// Lists of certificates that were revoked, and when the first of them expires, in seconds since 1970.
pub(super) fn revocations(
    path: &Path,
    fingerprint: &mut Fingerprint,
) -> Result<(Vec<CertificateRevocationListDer<'static>>, Option<i64>), Trouble> {
    let contents = read(path, fingerprint)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&contents).collect();
    let lists = lists.map_err(|error| Trouble::new(path, format!("not PEM: {error}")))?;
    if lists.is_empty() {
        // Of an empty file PostgreSQL would say nothing, and revoke nothing.
        return Err(Trouble::new(path, "there is no revocation list in it"));
    }
    let until = lists.iter().filter_map(|list| super::certificate::list_until(list)).min();
    Ok((lists, until))
}

fn certificates(path: &Path, fingerprint: &mut Fingerprint) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let contents = read(path, fingerprint)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents).collect();
    let certificates = certificates.map_err(|error| Trouble::new(path, format!("not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(Trouble::new(path, "there is no certificate in it"));
    }
    if certificates.iter().any(|certificate| super::certificate::Validity::of(certificate).is_none()) {
        return Err(Trouble::new(path, "not an X.509 certificate"));
    }
    Ok(certificates)
}

/// Why others than its owner can read or replace a file that holds a secret, as `check_ssl_key_file_permissions` of
/// PostgreSQL's `src/backend/libpq/be-secure-common.c` asks it: root's may be read by a group, for keys that a system keeps
/// in one place. `None` too where there is no such file.
pub fn exposure(path: &Path) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    is_exposed(metadata.mode(), metadata.uid(), rustix::process::geteuid().as_raw())
}

fn is_exposed(mode: u32, owner: u32, own: u32) -> Option<&'static str> {
    let others = match owner {
        0 => 0o037,
        owner if owner == own => 0o077,
        _ => return Some("it must be owned by the user that firepool runs as, or by root"),
    };
    let reason = "it has group or world access: its permissions must be u=rw (0600) or less, or u=rw,g=r (0640) or less if \
                  root owns it";
    (mode & others != 0).then_some(reason)
}

fn read(path: &Path, fingerprint: &mut Fingerprint) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let size =
        std::fs::metadata(path).map_err(|error| Trouble::new(path, format!("cannot be read: {error}")))?;
    if !size.is_file() || size.len() > LARGEST {
        return Err(Trouble::new(path, "not a file, or too large for one of certificates"));
    }
    let contents = std::fs::read(path).map(Zeroizing::new);
    let contents = contents.map_err(|error| Trouble::new(path, format!("cannot be read: {error}")))?;
    fingerprint.add(&contents);
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_for_its_owner_alone_and_roots_may_be_for_a_group() {
        for (mode, owner, own, expected) in [
            (0o100600, 7, 7, true),
            (0o100400, 7, 7, true),
            (0o100640, 7, 7, false),
            (0o100604, 7, 7, false),
            (0o100610, 7, 7, false),
            (0o100640, 0, 7, true),
            (0o100440, 0, 0, true),
            (0o100644, 0, 7, false),
            (0o100660, 0, 0, false),
            (0o100641, 0, 7, false),
            (0o100600, 8, 7, false),
        ] {
            assert_eq!(is_exposed(mode, owner, own).is_none(), expected, "{mode:o} {owner} {own}");
        }
    }
}
