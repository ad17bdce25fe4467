//! Who is encrypted and who is refused: every mode of one side against every mode of the other.

use firepool::config::{SslMode, TlsMode};

use super::stage::{Authority, Encrypted, psql};
use super::support::fixture::Proxy;
use super::support::raw::{Failure, Raw};
use super::support::server::DATABASE;

/// What a client shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Nothing,
    Own,
    Anothers,
}

/// Whether libpq gets in, and then whether it is encrypted.
fn expected(sslmode: SslMode, mode: TlsMode, shows: Shows) -> Option<bool> {
    let plain = (!mode.is_required()).then_some(false);
    let certified = match mode {
        TlsMode::Disable => false,
        TlsMode::Allow | TlsMode::Require => true,
        TlsMode::VerifyCa => shows != Shows::Nothing,
        TlsMode::VerifyFull => shows == Shows::Own,
    };
    let encrypted = certified.then_some(true);
    match sslmode {
        SslMode::Disable => plain,
        SslMode::Allow => plain.or(encrypted),
        SslMode::Prefer => encrypted.or(plain),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => encrypted,
    }
}

pub fn each_sslmode_of_libpq_meets_each_mode_of_the_proxy() {
    let Encrypted { server, authority } = Encrypted::shared();
    let role = server.role();
    let own = authority.issue("own", &role, &[]);
    let anothers = authority.issue("anothers", "somebody", &["somebody.example"]);
    let root = authority.root.to_str().unwrap();
    for mode in TlsMode::ALL {
        let proxy = Proxy::serve(Encrypted::shared().config(&role, &authority.tls(mode.as_str()), ""));
        for sslmode in SslMode::ALL {
            for shows in [Shows::Nothing, Shows::Own, Shows::Anothers] {
                let mut env = vec![("PGSSLMODE", sslmode.as_str()), ("PGSSLROOTCERT", root)];
                let shown = match shows {
                    Shows::Nothing => None,
                    Shows::Own => Some(&own),
                    Shows::Anothers => Some(&anothers),
                };
                if let Some((certificate, key)) = shown {
                    env.push(("PGSSLCERT", certificate.to_str().unwrap()));
                    env.push(("PGSSLKEY", key.to_str().unwrap()));
                }
                let output = psql(server, proxy.address, &role, &env, "\\conninfo");
                let said = String::from_utf8_lossy(&output.stdout);
                let observed = output.status.success().then(|| said.contains("SSL connection"));
                let what = format!("{sslmode:?} {mode:?} {shows:?}: {output:?}");
                assert_eq!(observed, expected(sslmode, mode, shows), "{what}");
                if sslmode == SslMode::Disable && observed.is_none() {
                    assert!(
                        String::from_utf8_lossy(&output.stderr).contains("connection requires TLS"),
                        "{what}"
                    );
                }
            }
        }
        let plain = Raw::login(proxy.address, &role, DATABASE, &[]);
        assert_eq!(plain.err().map(|failure| failure.code), mode.is_required().then(|| "28000".into()));
    }
}

/// Whether a client gets a server connection, and then whether that is encrypted.
fn observe(proxy: &Proxy, role: &str) -> Result<bool, Failure> {
    let mut client = Raw::login(proxy.address, role, DATABASE, &[])?;
    Ok(client.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t")
}

pub fn each_sslmode_of_the_proxy_meets_each_server() {
    let encrypted = Encrypted::own();
    let role = encrypted.server.role();
    let root = encrypted.authority.root.display();
    let line = |kind: &str| format!("{kind} all {role} 127.0.0.1/32 scram-sha-256");
    for (tls, hba, plain, secure) in [
        (false, "host", true, false),
        (true, "host", true, true),
        (true, "hostssl", false, true),
        (true, "hostnossl", true, false),
    ] {
        encrypted.switch(tls);
        encrypted.admit(&line(hba));
        for sslmode in SslMode::ALL {
            let (plain, secure) = (plain.then_some(false), secure.then_some(true));
            let expected = match sslmode {
                SslMode::Disable => plain,
                SslMode::Allow => plain.or(secure),
                SslMode::Prefer => secure.or(plain),
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => secure,
            };
            let target =
                format!("host = \"localhost\"\nsslmode = \"{}\"\nsslrootcert = \"{root}\"", sslmode.as_str());
            let observed = observe(&encrypted.proxy(&role, "", &target), &role);
            assert_eq!(observed.clone().ok(), expected, "TLS {tls}, {hba}, {sslmode:?}: {observed:?}");
            if let Err(failure) = observed {
                assert_eq!(failure.code, "08004", "{failure:?}");
            }
        }
    }
}

pub fn a_servers_certificate_is_asked_for_what_libpq_asks() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let stranger = Authority::new();
    let (right, wrong) = (encrypted.authority.root.display(), stranger.root.display());
    let own = encrypted.authority.folder.join("server.crt");
    for (host, sslmode, root, expected) in [
        ("localhost", "require", None, Some(true)),
        ("127.0.0.1", "require", Some(right.to_string()), Some(true)),
        // As with libpq, a root certificate makes `require` the same as `verify-ca`.
        ("localhost", "require", Some(wrong.to_string()), None),
        ("localhost", "prefer", Some(wrong.to_string()), Some(false)),
        ("localhost", "verify-ca", Some(wrong.to_string()), None),
        ("localhost", "verify-ca", Some(own.display().to_string()), Some(true)),
        ("127.0.0.1", "verify-ca", Some(right.to_string()), Some(true)),
        ("127.0.0.1", "verify-full", Some(right.to_string()), None),
        ("localhost", "verify-full", Some(right.to_string()), Some(true)),
    ] {
        let root = root.map(|root| format!("sslrootcert = \"{root}\"")).unwrap_or_default();
        let target = format!("host = \"{host}\"\nsslmode = \"{sslmode}\"\n{root}");
        let observed = observe(&encrypted.proxy(&role, "", &target), &role);
        assert_eq!(observed.ok(), expected, "{target}");
    }
}

pub fn a_server_is_shown_the_certificate_that_it_asks_for() {
    let encrypted = Encrypted::own();
    let role = encrypted.server.role();
    encrypted.admit(&format!("hostssl all {role} 127.0.0.1/32 cert"));
    for (common, expected) in [(role.as_str(), true), ("somebody", false)] {
        let (certificate, key) = encrypted.authority.issue("client", common, &[]);
        let target = format!(
            "sslmode = \"require\"\nsslcert = \"{}\"\nsslkey = \"{}\"",
            certificate.display(),
            key.display()
        );
        assert_eq!(observe(&encrypted.proxy(&role, "", &target), &role).is_ok(), expected, "{common}");
    }
    assert!(observe(&encrypted.proxy(&role, "", "sslmode = \"require\""), &role).is_err());
}

pub fn direct_tls_works_on_both_legs() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let authority = Authority::new();
    let behind = encrypted.proxy(&role, &authority.tls("require"), &encrypted.verified());
    let root = authority.root.display();
    let target = format!(
        "host = \"localhost\"\nsslmode = \"verify-full\"\nsslnegotiation = \"direct\"\nsslrootcert = \"{root}\""
    );
    let before = Proxy::serve(super::stage::config_of(behind.address, &role, "", &target));
    assert!(observe(&before, &role).unwrap(), "the last of three connections");
    // PostgreSQL 15 does not know it.
    let target = "sslmode = \"require\"\nsslnegotiation = \"direct\"";
    assert!(observe(&encrypted.proxy(&role, "", target), &role).is_err());
    // A proxy without TLS neither.
    let plain = encrypted.proxy(&role, "", "");
    let before = Proxy::serve(super::stage::config_of(plain.address, &role, "", target));
    assert!(observe(&before, &role).is_err());
}
