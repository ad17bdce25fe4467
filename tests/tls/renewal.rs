//! Certificates that are replaced while the proxy runs.

use std::fs;

use super::stage::{Authority, Encrypted, psql, tunnel};
use super::support::raw::Raw;
use super::support::server::DATABASE;

/// Whether libpq takes the proxy for `localhost`, of which only this authority may convince it.
fn convinces(
    encrypted: &Encrypted,
    address: std::net::SocketAddr,
    role: &str,
    authority: &Authority,
) -> bool {
    let env = [("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", authority.root.to_str().unwrap())];
    psql(&encrypted.server, address, role, &env, "SELECT 1").status.success()
}

pub fn renewed_certificates_are_shown_to_new_clients_and_disturb_no_others() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let (old, new) = (Authority::new(), Authority::new());
    let proxy = encrypted.proxy(&role, &old.tls("require"), &encrypted.verified());
    let app = proxy.app.as_ref().unwrap();
    let mut client = Raw::login(tunnel(proxy.address), &role, DATABASE, &[]).unwrap();
    let backend = client.backend();
    assert!(convinces(encrypted, proxy.address, &role, &old));

    let (certificate, key) = new.issue("proxy", "proxy", &["localhost"]);
    fs::copy(certificate, old.folder.join("proxy.crt")).unwrap();
    fs::copy(key, old.folder.join("proxy.key")).unwrap();
    assert!(convinces(encrypted, proxy.address, &role, &old), "nobody said so");
    app.reload_certificates();
    assert!(convinces(encrypted, proxy.address, &role, &new));
    assert!(!convinces(encrypted, proxy.address, &role, &old));
    assert_eq!(client.backend(), backend, "the session goes on");
}

pub fn a_renewal_that_does_not_fit_keeps_the_old_certificate() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let (old, new) = (Authority::new(), Authority::new());
    let proxy = encrypted.proxy(&role, &old.tls("require"), "");
    let (certificate, _) = new.issue("proxy", "proxy", &["localhost"]);
    // Half of a renewal: its key is still to come.
    fs::copy(certificate, old.folder.join("proxy.crt")).unwrap();
    proxy.app.as_ref().unwrap().reload_certificates();
    assert!(convinces(encrypted, proxy.address, &role, &old));
}
