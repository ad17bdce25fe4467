//! Certificates that were revoked, on both legs.

use std::time::{Duration, SystemTime};

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = generate::pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
        Self { issuer: Issuer::new(params, key), root }
    }

    fn issue(&self, folder: &Folder, name: &str, number: u64) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = Some(number.into());
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let write = |end: &str, label: &str, der: &[u8]| {
            folder.write(&format!("{name}-{number}.{end}"), &generate::pem(label, der))
        };
        (write("crt", "CERTIFICATE", signed.der()), write("key", "PRIVATE KEY", &key.serialize_der()))
    }

    /// Who has revoked number 7.
    fn list(&self, until: SystemTime) -> String {
        generate::list(&self.issuer, &[7], until)
    }
}

fn hours(number: i64) -> SystemTime {
    let span = Duration::from_secs(number.unsigned_abs() * 60 * 60);
    if number < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
}

/// Lists, and whether somebody who is on none of them, or on one, is let through.
fn cases(own: &Authority, other: &Authority) -> Vec<(&'static str, String, bool, bool)> {
    let (own_list, others) = (own.list(hours(1)), other.list(hours(1)));
    vec![
        ("its authority's", own_list.clone(), true, false),
        ("both authorities'", format!("{others}{own_list}"), true, false),
        ("another authority's", others, false, false),
        ("one that has expired", own.list(hours(-1)), false, false),
        ("one that somebody else signed in its name", Authority::new("own").list(hours(1)), false, false),
    ]
}

#[test]
fn a_client_that_was_revoked_is_refused_and_one_of_whom_no_list_tells_as_well() {
    let (folder, own, other) = (Folder::new(), Authority::new("own"), Authority::new("other"));
    let client_ca = folder.write("ca.crt", &format!("{}{}", own.root, other.root));
    let clients = [own.issue(&folder, "client", 6), own.issue(&folder, "client", 7)];
    let (certificate, key) = folder.self_signed("server");
    for (what, list, good, bad) in cases(&own, &other) {
        let client_crl = Some(folder.write("list", &list));
        let (certificate, key) = (certificate.clone(), key.clone());
        let files = ServerFiles { certificate, key, client_ca: Some(client_ca.clone()), client_crl };
        // Also where no certificate is asked for, one that is shown has to be right.
        for demanded in [true, false] {
            let acceptor = Acceptor::load(files.clone(), demanded, MinVersion::V1_2).unwrap();
            assert!(acceptor.lists_until().is_some());
            for (identity, expected) in clients.iter().zip([good, bad]) {
                let shown = ClientFiles { identity: Some(identity.clone()), ..ClientFiles::default() };
                let connector = Connector::load("localhost", shown, Trust::Roots).unwrap();
                let (mut client, mut server) = ends(1 << 20, 1 << 20);
                let (_, accepted) = shake(&mut client, &connector, &mut server, &acceptor);
                assert_eq!(accepted.is_ok(), expected, "{what} {demanded} {identity:?}");
            }
        }
    }
}

#[test]
fn a_server_that_was_revoked_is_refused_whatever_it_is_called() {
    let (folder, own, other) = (Folder::new(), Authority::new("own"), Authority::new("other"));
    let root = Some(folder.write("ca.crt", &format!("{}{}", own.root, other.root)));
    for (what, list, good, bad) in cases(&own, &other) {
        let revoked = Some(folder.write("list", &list));
        for (name, number, expected) in
            [("localhost", 6, good), ("localhost", 7, bad), ("elsewhere", 6, good), ("elsewhere", 7, bad)]
        {
            let (certificate, key) = own.issue(&folder, name, number);
            let files = ServerFiles { certificate, key, client_ca: None, client_crl: None };
            let acceptor = Acceptor::load(files, false, MinVersion::V1_2).unwrap();
            for trust in [Trust::Roots, Trust::Host] {
                let files =
                    ClientFiles { root: root.clone(), revoked: revoked.clone(), ..ClientFiles::default() };
                let connector = Connector::load("localhost", files, trust).unwrap();
                let (mut client, mut server) = ends(1 << 20, 1 << 20);
                let (connected, _) = shake(&mut client, &connector, &mut server, &acceptor);
                let expected = expected && (trust == Trust::Roots || name == "localhost");
                assert_eq!(connected.is_ok(), expected, "{what} {name} {number} {trust:?}");
            }
        }
    }
}

#[test]
fn a_new_list_counts_from_the_next_handshake_on_and_one_that_is_none_never() {
    let (folder, own) = (Folder::new(), Authority::new("own"));
    let client_ca = Some(folder.write("ca.crt", &own.root));
    let client_crl = Some(folder.write("list", &generate::list(&own.issuer, &[], hours(1))));
    let (certificate, key) = folder.self_signed("server");
    let files = ServerFiles { certificate, key, client_ca, client_crl };
    let acceptor = Acceptor::load(files, true, MinVersion::V1_2).unwrap();
    let identity = Some(own.issue(&folder, "client", 7));
    let shown = ClientFiles { identity, ..ClientFiles::default() };
    let connector = Connector::load("localhost", shown, Trust::Roots).unwrap();
    let is_let_in = || {
        let (mut client, mut server) = ends(1 << 20, 1 << 20);
        shake(&mut client, &connector, &mut server, &acceptor).1.is_ok()
    };
    assert!(is_let_in());
    folder.write("list", &own.list(hours(1)));
    assert!(is_let_in(), "nobody said so");
    assert_eq!(acceptor.reload(), Ok(Reloaded::New));
    assert!(!is_let_in(), "nor by resuming the session from before");
    for torn in [own.root.as_str(), "", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"] {
        folder.write("list", torn);
        assert!(acceptor.reload().unwrap_err().path.ends_with("list"), "{torn}");
        assert!(!is_let_in(), "the old one stays in use");
    }
}
