//! Certificates that are replaced while the proxy runs.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::stage::{Authority, Encrypted, psql, text_of, tunnel};
use super::support::raw::Raw;
use super::support::server::{DATABASE, PASSWORD};
use super::support::wait::until;

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
    assert!(app.reload_certificates());
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
    assert!(!proxy.app.as_ref().unwrap().reload_certificates());
    assert!(convinces(encrypted, proxy.address, &role, &old));
}

pub fn handshakes_sessions_and_certificates_of_both_legs_are_told() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let own = Authority::new();
    let proxy = encrypted.proxy(&role, &own.tls("require"), &encrypted.verified());
    let told = |name: &str, label: &str| proxy.metric(&format!("firepool_tls_{name}"), label) as i64;
    let client = Raw::login(tunnel(proxy.address), &role, DATABASE, &[]).unwrap();
    let legs = |name: &str| ["client", "server"].map(|leg| told(name, &format!("leg=\"{leg}\"")));
    // `/ready` is asked over a connection of its own.
    let [clients, servers] = legs("handshakes_total");
    assert_eq!((clients, legs("connections")[0]), (1, 1));
    assert!(servers >= 1 && (1..=servers).contains(&legs("connections")[1]), "{servers}");
    assert_eq!(told("handshakes_total", "version=\"1.2\""), 0);
    assert!(!convinces(encrypted, proxy.address, &role, &Authority::new()));
    until("the handshake is over", || legs("handshake_failures_total") == [1, 0]);
    drop(client);
    until("its session is over", || legs("connections")[0] == 0);
    // Another acceptor goes on where the first has stopped.
    let held = Raw::login(tunnel(proxy.address), &role, DATABASE, &[]).unwrap();
    let [before, _] = legs("handshakes_total");
    let app = proxy.app.as_ref().unwrap();
    app.reload(&encrypted.config(&role, &Authority::new().tls("require"), &encrypted.verified()), true);
    assert_eq!((legs("handshakes_total")[0], legs("connections")[0]), (before, 1));
    let another = Raw::login(tunnel(proxy.address), &role, DATABASE, &[]).unwrap();
    assert_eq!((legs("handshakes_total")[0], legs("connections")[0]), (before + 1, 2));
    drop((held, another));
    until("their sessions are over", || legs("connections")[0] == 0);
    assert_eq!(legs("handshakes_total")[0], before + 1);
    for role in ["tls.certificate", "sslrootcert"] {
        let until = told("certificate_expiry_timestamp_seconds", &format!("role=\"{role}\""));
        assert!(until > 1_600_000_000, "{role}: {until}");
    }
}

/// `firepool serve`, which is killed at the end.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn one_sighup_renews_certificates_and_has_passwords_and_rules_read_again() {
    let encrypted = Encrypted::shared();
    let server = &encrypted.server;
    let role = server.role();
    let (old, new) = (Authority::new(), Authority::new());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = old.folder.join("firepool.toml");
    let tls = old.tls("allow");
    let write = |password: &str, kind: &str| {
        let tables = format!(
            "{tls}[proxy]\nlisten = [\"{address}\"]\nworkers = 1\n[admin]\nlisten = \"\"\n\
             [[rules]]\ntype = \"{kind}\"\nmethod = \"password\"\ncleartext_without_tls = true"
        );
        let text = text_of(server.address(), &role, &tables, "");
        fs::write(&path, text.replace(PASSWORD, password)).unwrap();
    };
    write("sealed", "host");
    let mut command = Command::new(env!("CARGO_BIN_EXE_firepool"));
    command.args(["serve", "--config", path.to_str().unwrap()]).stdout(Stdio::null()).stderr(Stdio::null());
    let serving = Serving(command.spawn().unwrap());
    until("it listens", || TcpStream::connect(address).is_ok());
    let login = |authority: &Authority, password: &str| {
        let env = [
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", authority.root.to_str().unwrap()),
            ("PGPASSWORD", password),
        ];
        let output = psql(server, address, &role, &env, "SELECT 1");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    // The proxy lets it in; the server knows another password.
    let refused = login(&old, "sealed");
    assert!(refused.contains("the server refused the connection of the pool"), "{refused}");

    let (certificate, key) = new.issue("proxy", "proxy", &["localhost"]);
    fs::copy(certificate, old.folder.join("proxy.crt")).unwrap();
    fs::copy(key, old.folder.join("proxy.key")).unwrap();
    write(PASSWORD, "hostssl");
    assert!(login(&old, PASSWORD).contains("password authentication failed"), "nobody said so");
    let hangup = Command::new("kill").args(["-HUP", &serving.0.id().to_string()]).status().unwrap();
    assert!(hangup.success());
    until("users are read again", || login(&new, PASSWORD).trim() == "1");
    assert!(login(&old, PASSWORD).contains("certificate verify failed"), "{}", login(&old, PASSWORD));
    let plain = psql(server, address, &role, &[("PGSSLMODE", "disable")], "SELECT 1");
    let said = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(said.contains("no pg_hba.conf entry"), "{said}");
}

/// Every key of `[tls]`, on a proxy that runs.
pub fn a_reload_changes_how_clients_are_encrypted_and_who_was_revoked() {
    let encrypted = Encrypted::shared();
    let (server, role) = (&encrypted.server, encrypted.server.role());
    let authority = Authority::new();
    let proxy = encrypted.proxy(&role, "", "");
    let app = proxy.app.as_ref().unwrap();
    let mut before = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    let good = authority.issue("good", &role, &[]);
    let bad = authority.issue("bad", &role, &[]);
    let login = |sslmode: &str, shown: Option<&(PathBuf, PathBuf)>| {
        let mut env = vec![("PGSSLMODE", sslmode)];
        if let Some((certificate, key)) = shown {
            env.push(("PGSSLCERT", certificate.to_str().unwrap()));
            env.push(("PGSSLKEY", key.to_str().unwrap()));
        }
        psql(server, proxy.address, &role, &env, "SELECT 1").status.success()
    };
    assert!(login("disable", None) && !login("require", None));
    for (mode, plain, naked, bad_one) in [
        ("allow", true, true, true),
        ("require", false, true, true),
        ("verify-full", false, false, true),
        ("disable", true, false, false),
    ] {
        app.reload(&encrypted.config(&role, &authority.tls(mode), ""), true);
        let seen = (login("disable", None), login("require", None), login("require", Some(&bad)));
        assert_eq!(seen, (plain, naked, bad_one), "{mode}");
    }
    let tls = |list: &Path| {
        let tls = authority.tls("verify-ca");
        encrypted.config(&role, &format!("{tls}client_crl = \"{}\"\n", list.display()), "")
    };
    app.reload(&tls(&authority.revoke(&[])), true);
    assert!(login("require", Some(&good)) && login("require", Some(&bad)));
    authority.revoke(&[&bad.0]);
    assert!(login("require", Some(&bad)), "nobody said so");
    app.reload_certificates();
    assert!(login("require", Some(&good)) && !login("require", Some(&bad)));
    assert_eq!(before.value("SELECT 1"), "1", "who is in stays in");
}

/// The same file on the other side: a server whose authority has revoked it.
pub fn a_server_that_was_revoked_gets_no_password() {
    let encrypted = Encrypted::own();
    let (role, authority) = (encrypted.server.role(), &encrypted.authority);
    let target = format!("{}\nsslcrl = \"{}\"", encrypted.verified(), authority.revoke(&[]).display());
    let proxy = encrypted.proxy(&role, "", &target);
    assert_eq!(Raw::login(proxy.address, &role, DATABASE, &[]).unwrap().value("SELECT 1"), "1");
    authority.revoke(&[&authority.folder.join("server.crt")]);
    let proxy = encrypted.proxy(&role, "", &target);
    let refused = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap_err();
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("08004", "the pool could not log in to the server")
    );
}
