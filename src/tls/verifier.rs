//! What is asked of a server's certificate, as libpq asks it.
//!
//! Whatever is asked, the server has to prove that it has the certificate's key: channel binding rests on that.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::{Names, Validity, public_key};

/// Those who may vouch for a server.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) store: Arc<RootCertStore>,
    /// The same, to find a server's own certificate among them: one that `openssl req -x509` makes calls itself an
    /// authority, and webpki takes none of those for a server's.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// Knows the lists of those that were revoked, where there are any.
    pub(super) listed: Option<Arc<WebPkiServerVerifier>>,
}

/// Carries out what is asked of a server.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Without, any certificate will do.
    pub(super) roots: Option<Roots>,
    /// The certificate has to name the host.
    pub(super) names_host: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Roots {
    fn vouch_for(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        (now, algorithms): (UnixTime, &WebPkiSupportedAlgorithms),
    ) -> Result<(), Error> {
        if let Some(verifier) = &self.listed {
            // rustls gives lists to none but this one, which asks for the name behind everything else. That is not asked here.
            return match verifier.verify_server_cert(certificate, intermediates, host, &[], now) {
                Ok(_)
                | Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Ok(()),
                Err(error) => Err(error),
            };
        }
        if self.certificates.iter().any(|known| known.as_ref() == certificate.as_ref()) {
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let valid = Validity::of(certificate).is_some_and(|validity| validity.holds_at(now));
            return if valid { Ok(()) } else { Err(CertificateError::Expired.into()) };
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.store, intermediates, now, algorithms.all)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            roots.vouch_for(certificate, intermediates, host, (now, &self.algorithms))?;
        }
        if self.names_host {
            names_host(certificate, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if ParsedCertificate::try_from(certificate).is_ok() {
            return verify_tls13_signature(message, certificate, signed, &self.algorithms);
        }
        let key = public_key(certificate).ok_or(CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(key);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// By its alternative names, or, where it has none of hosts and addresses, by its common name, as libpq does.
fn names_host(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), Error> {
    let refused = match ParsedCertificate::try_from(certificate) {
        Ok(parsed) => match verify_server_name(&parsed, host) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        },
        Err(error) => error,
    };
    let names = Names::of(certificate).ok_or(CertificateError::BadEncoding)?;
    let common = names.common.filter(|_| names.alternative.is_empty() && names.addresses.is_empty());
    if common.is_some_and(|pattern| matches(&pattern, &host.to_str())) { Ok(()) } else { Err(refused) }
}

/// Whether a name of a certificate means a host. A `*` stands for one label, the first, and only where two follow it.
fn matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(domain), Some((label, rest))) = (pattern.strip_prefix("*."), host.split_once('.')) else {
        return false;
    };
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    domain.contains('.') && !is_address && !label.is_empty() && domain.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

    fn params(common: &str, names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        params
    }

    fn self_signed(params: &CertificateParams) -> CertificateDer<'static> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn verdict(
        roots: Option<&CertificateDer<'static>>,
        names_host: bool,
        certificate: &CertificateDer<'static>,
        host: &str,
    ) -> bool {
        let roots = roots.map(|root| {
            let mut store = RootCertStore::empty();
            store.add(root.clone()).unwrap();
            Roots { store: Arc::new(store), certificates: vec![root.clone()], listed: None }
        });
        let algorithms = super::super::provider().signature_verification_algorithms;
        let verifier = Verifier { roots, names_host, algorithms };
        let host = ServerName::try_from(host.to_owned()).unwrap();
        verifier.verify_server_cert(certificate, &[], &host, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn each_depth_asks_for_what_it_says() {
        let mut authority = params("an authority", &[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&authority_key).unwrap().der().clone();
        let issuer = Issuer::new(authority, authority_key);
        let issue = |params: CertificateParams| {
            params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
        };
        let signed = issue(params("db", &["db.example", "10.0.0.1"]));
        let stranger = self_signed(&params("db", &["db.example"]));
        let mut late = params("db", &["db.example"]);
        (late.not_before, late.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        let late = issue(late);

        assert!(verdict(None, false, &stranger, "db.example"));
        for (certificate, host, vouched, named) in [
            (&signed, "db.example", true, true),
            (&signed, "10.0.0.1", true, true),
            (&signed, "10.0.0.2", true, false),
            (&signed, "other.example", true, false),
            (&stranger, "db.example", false, false),
            (&late, "db.example", false, false),
        ] {
            assert_eq!(verdict(Some(&root), false, certificate, host), vouched, "{host}");
            assert_eq!(verdict(Some(&root), true, certificate, host), named, "{host}");
        }
    }

    #[test]
    fn a_certificate_that_calls_itself_an_authority_may_be_the_servers_own() {
        let mut params = params("db.example", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = self_signed(&params);
        assert!(verdict(Some(&own), true, &own, "db.example"), "named by its subject");
        assert!(!verdict(Some(&own), true, &own, "other.example"));
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        let expired = self_signed(&params);
        assert!(!verdict(Some(&expired), false, &expired, "db.example"));
    }

    #[test]
    fn the_subject_counts_only_where_there_are_no_alternative_names() {
        let certificate = self_signed(&params("db.example", &["other.example"]));
        assert!(verdict(Some(&certificate), true, &certificate, "other.example"));
        assert!(!verdict(Some(&certificate), true, &certificate, "db.example"));
    }

    #[test]
    fn an_asterisk_stands_for_one_label_of_a_name() {
        for (pattern, host, expected) in [
            ("DB.example", "db.EXAMPLE", true),
            ("*.db.example", "a.db.example", true),
            ("*.db.example", "a.b.db.example", false),
            ("*.db.example", "db.example", false),
            ("*.example", "db.example", false),
            ("*", "db", false),
            ("*.0.0.1", "10.0.0.1", false),
            ("a*.db.example", "ab.db.example", false),
            ("", "db.example", false),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }
}
