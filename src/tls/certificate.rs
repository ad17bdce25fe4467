//! What stands in a certificate that rustls does not tell. A peer's certificate may be anything: nothing here trusts it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// Whom a certificate names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The common name of its subject, the last one if there are several, as PostgreSQL has it.
    pub common: Option<String>,
    /// Its alternative names of the kinds DNS, e-mail and URI.
    pub alternative: Vec<String>,
    /// Its alternative names that are addresses.
    pub addresses: Vec<IpAddr>,
}

impl Names {
    /// Reads a certificate; `None` if it is none.
    pub fn of(der: &[u8]) -> Option<Self> {
        let certificate = parse(der)?;
        let common = certificate.subject().iter_common_name().last();
        // As CVE-2009-4034 of PostgreSQL teaches, a NUL would hide what stands behind it.
        let common = common.and_then(|name| name.as_str().ok()).filter(|name| !name.contains('\0'));
        let mut names = Self { common: common.map(str::to_owned), ..Self::default() };
        let extension = certificate.subject_alternative_name().ok().flatten();
        for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text)
                    if !text.contains('\0') =>
                {
                    names.alternative.push((*text).to_owned());
                }
                GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Some(names)
    }

    /// Whether `user` is one of the names: exactly, as names of roles are.
    pub fn name(&self, user: &str) -> bool {
        self.common.as_deref() == Some(user) || self.alternative.iter().any(|name| name == user)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)))).ok()
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Seconds since 1970.
    pub from: i64,
    /// Seconds since 1970.
    pub until: i64,
}

impl Validity {
    /// Reads a certificate; `None` if it is none.
    pub fn of(der: &[u8]) -> Option<Self> {
        let certificate = parse(der)?;
        let validity = certificate.validity();
        Some(Self { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() })
    }

    /// Whether it is valid so many seconds after 1970.
    pub fn holds_at(self, seconds: i64) -> bool {
        (self.from..=self.until).contains(&seconds)
    }

    /// For how long it is valid still; zero if it is not, or not yet.
    pub fn left(self, now: SystemTime) -> Duration {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let left = if self.holds_at(now) { self.until.saturating_sub(now) } else { 0 };
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    }
}

/// When a revocation list expires, in seconds since 1970; `None` if it is none or does not say.
pub(super) fn list_until(der: &[u8]) -> Option<i64> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    list.next_update().map(|time| time.timestamp())
}

/// `tls-server-end-point` of RFC 5929, section 4.1: the hash of the certificate by the function that it is signed with,
/// SHA-256 instead of MD5 and SHA-1. `None` for those signed without one (Ed25519), for which nothing is defined.
pub(super) fn binding(der: &[u8]) -> Option<Vec<u8>> {
    let certificate = parse(der)?;
    let algorithm = match SignatureAlgorithm::try_from(&certificate.signature_algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => hash(parameters.hash_algorithm_oid()),
        _ => hash(certificate.signature_algorithm.oid()),
    };
    Some(digest::digest(algorithm?, der).as_ref().to_vec())
}

/// By the object identifiers of hash functions and of signatures: RFC 8017, RFC 5758, RFC 3279.
fn hash(oid: &Oid<'_>) -> Option<&'static digest::Algorithm> {
    Some(match oid.to_id_string().as_str() {
        // MD5, SHA-1
        "1.2.840.113549.2.5" | "1.3.14.3.2.26" => &digest::SHA256,
        "2.16.840.1.101.3.4.2.4" => &digest::SHA224,
        "2.16.840.1.101.3.4.2.1" => &digest::SHA256,
        "2.16.840.1.101.3.4.2.2" => &digest::SHA384,
        "2.16.840.1.101.3.4.2.3" => &digest::SHA512,
        // RSA
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => &digest::SHA256,
        "1.2.840.113549.1.1.12" => &digest::SHA384,
        "1.2.840.113549.1.1.13" => &digest::SHA512,
        "1.2.840.113549.1.1.14" => &digest::SHA224,
        // ECDSA
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.10045.4.3.1" => &digest::SHA224,
        "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    })
}

/// The public key of a certificate that webpki does not read: those of X.509 version 1, which `openssl x509 -req` makes.
pub(super) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    Some(parse(der)?.public_key().raw.to_vec())
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der)
        .ok()
        .filter(|(rest, _)| rest.is_empty())
        .map(|(_, certificate)| certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SignatureAlgorithm};

    fn certificate(algorithm: &'static SignatureAlgorithm, names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "fireread");
        params.subject_alt_names.push(SanType::Rfc822Name("a@b.c".try_into().unwrap()));
        let key = KeyPair::generate_for(algorithm).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_binding_is_hashed_as_the_certificate_is_signed() {
        for (algorithm, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(&digest::SHA256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(&digest::SHA384)),
            (&rcgen::PKCS_RSA_SHA512, Some(&digest::SHA512)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let der = certificate(algorithm, &[]);
            let expected = hash.map(|hash| digest::digest(hash, &der).as_ref().to_vec());
            assert_eq!(binding(&der), expected, "{algorithm:?}");
        }
    }

    #[test]
    fn md5_and_sha_1_are_replaced_by_sha_256() {
        let by_arcs = |arcs: &[u64]| hash(&Oid::from(arcs).unwrap()).map(digest::Algorithm::output_len);
        assert_eq!(by_arcs(&[1, 2, 840, 113549, 1, 1, 4]), Some(32), "md5WithRSAEncryption");
        assert_eq!(by_arcs(&[1, 2, 840, 113549, 1, 1, 5]), Some(32), "sha1WithRSAEncryption");
        assert_eq!(by_arcs(&[1, 2, 840, 10045, 4, 1]), Some(32), "ecdsa-with-SHA1");
        assert_eq!(by_arcs(&[1, 2, 840, 113549, 1, 1, 12]), Some(48), "sha384WithRSAEncryption");
        assert_eq!(by_arcs(&[1, 2, 3]), None);
    }

    #[test]
    fn names_are_those_of_the_subject_and_the_alternative_ones() {
        let names = Names::of(&certificate(&rcgen::PKCS_ECDSA_P256_SHA256, &["db.example", "10.0.0.1"]));
        let names = names.unwrap();
        assert_eq!(names.common.as_deref(), Some("fireread"));
        assert_eq!(names.alternative, ["db.example", "a@b.c"]);
        assert_eq!(names.addresses, [IpAddr::from([10, 0, 0, 1])]);
        assert!(names.name("fireread") && names.name("a@b.c"));
        assert!(!names.name("Fireread") && !names.name("fire") && !names.name(""));
    }

    #[test]
    fn what_is_torn_or_mutated_is_never_more_than_nothing() {
        let der = certificate(&rcgen::PKCS_ECDSA_P256_SHA256, &["db.example"]);
        for end in 0..der.len() {
            assert_eq!(Names::of(&der[..end]), None);
            assert_eq!(binding(&der[..end]), None);
        }
        for place in 0..der.len() {
            for bit in [1, 0x80, 0xff] {
                let mut mutated = der.clone();
                mutated[place] ^= bit;
                let _ =
                    (Names::of(&mutated), binding(&mutated), Validity::of(&mutated), public_key(&mutated));
            }
        }
        assert_eq!(Names::of(&[der, vec![0]].concat()), None, "nothing may stand behind it");
    }
}
