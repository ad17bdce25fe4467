//! A certificate for development, which nobody vouches for.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{CertificateParams, DnType, KeyPair};

pub use rcgen::Error;
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Ten years: it is made again only where its files are deleted.
const LASTS: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct SelfSigned {
    /// The certificate.
    pub certificate: String,
    /// Its key, which belongs into a file that only its owner may read.
    pub key: Zeroizing<String>,
}

/// Makes a key, and a certificate that it signs itself, for these names of hosts and addresses.
///
/// # Errors
/// A name that cannot stand in a certificate.
pub fn self_signed(names: &[&str]) -> Result<SelfSigned, Error> {
    self_signed_until(names, SystemTime::now() + LASTS)
}

/// The same with the time at which it expires. It is valid since a day before that, or before now.
///
/// # Errors
/// As [`self_signed`].
pub fn self_signed_until(names: &[&str], until: SystemTime) -> Result<SelfSigned, Error> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.not_before = (until.min(SystemTime::now()) - DAY).into();
    params.not_after = until.into();
    params.distinguished_name.push(DnType::CommonName, "firepool");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let der = Zeroizing::new(key.serialize_der());
    Ok(SelfSigned {
        certificate: pem("CERTIFICATE", certificate.der()),
        key: Zeroizing::new(pem("PRIVATE KEY", &der)),
    })
}

/// RFC 7468: lines of 64 characters between two that say what it is.
pub fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(BASE64.encode(der));
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = behind;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// For tests: writes a key as only its owner may read it.
#[cfg(test)]
pub(crate) fn write_key(path: &std::path::Path, key: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, key).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// For tests: a list of certificates that `issuer` has revoked, in PEM.
#[cfg(test)]
pub(crate) fn list(issuer: &rcgen::Issuer<'_, KeyPair>, revoked: &[u64], until: SystemTime) -> String {
    let params = rcgen::CertificateRevocationListParams {
        this_update: (until.min(SystemTime::now()) - DAY).into(),
        next_update: until.into(),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .iter()
            .map(|&number| rcgen::RevokedCertParams {
                serial_number: number.into(),
                revocation_time: (SystemTime::now() - DAY).into(),
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    pem("X509 CRL", params.signed_by(issuer).unwrap().der())
}

/// For tests: a list of somebody who has revoked nothing.
#[cfg(test)]
pub(crate) fn empty_list(until: SystemTime) -> String {
    let issuer = rcgen::Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    list(&issuer, &[], until)
}
