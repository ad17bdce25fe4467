//! Methods of authentication and rules over TLS, on both legs.

use std::fs;

use firepool::config::parse;

use super::stage::{Authority, Encrypted, psql};
use super::support::fixture::Proxy;
use super::support::raw::Raw;
use super::support::server::{DATABASE, PASSWORD, Server};

/// What a client has to prove, by what it is called in [`expected`].
const RULES: [(&str, &str); 10] = [
    ("scram", "host all USER all scram-sha-256"),
    ("md5", "host all USER all md5"),
    ("password", "host all USER all password"),
    ("trust", "hostssl all USER all trust"),
    ("cert", "hostssl all USER all cert"),
    ("scram, any certificate", "hostssl all USER all scram-sha-256 clientcert=verify-ca"),
    ("scram, own certificate", "hostssl all USER all scram-sha-256 clientcert=verify-full"),
    ("scram, encrypted", "hostssl all USER all scram-sha-256"),
    ("scram, plain", "hostnossl all USER all scram-sha-256"),
    ("reject", "host all USER all reject"),
];

/// What it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Nothing,
    Own,
    Anothers,
}

/// A part of what libpq says, unless the client gets in.
fn expected(rule: &str, encrypted: bool, binding: &str, shows: Shows) -> Result<(), &'static str> {
    let only_encrypted =
        rule.contains("certificate") || ["trust", "cert", "scram, encrypted"].contains(&rule);
    if rule == "reject" {
        return Err("pg_hba.conf rejects connection for host \"127.0.0.1\"");
    }
    if (only_encrypted && !encrypted) || (rule == "scram, plain" && encrypted) {
        return Err("no pg_hba.conf entry for host \"127.0.0.1\"");
    }
    match (rule, shows) {
        ("cert" | "scram, any certificate" | "scram, own certificate", Shows::Nothing) => {
            return Err("connection requires a valid client certificate");
        }
        ("cert" | "scram, own certificate", Shows::Anothers) => {
            return Err("certificate authentication failed for user");
        }
        ("password", _) if !encrypted => return Err("a password in clear text is not taken without TLS"),
        _ => {}
    }
    let can_bind = encrypted && rule.starts_with("scram");
    if binding == "require" && !can_bind { Err("channel binding") } else { Ok(()) }
}

/// What PostgreSQL keeps of a role's password.
fn kept(server: &Server, role: &str) -> String {
    server.superuser(DATABASE).value(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"))
}

/// A proxy for these users and their secrets, in which `tables` come before them and `target` is of the target.
fn proxy(server: &Server, tables: &str, users: &[(&str, &str)], target: &str) -> Proxy {
    let users: String =
        users.iter().map(|(user, secret)| format!("[users.{user}]\npassword = \"{secret}\"\n")).collect();
    let host = if target.contains("host =") { "" } else { "host = \"localhost\"\n" };
    let text = format!(
        "{tables}\n{users}\n[[routes]]\npool_size = 2\n[targets.main]\nport = {}\n\
         required = false\n{host}{target}\n",
        server.address().port()
    );
    let mut config = parse(&text, std::path::Path::new("test.toml"), &|_| None).unwrap();
    config.proxy.workers = Some(1);
    Proxy::serve(config)
}

pub fn each_method_asks_each_client_for_what_its_rule_says() {
    let Encrypted { server, authority } = Encrypted::shared();
    let roles = RULES.map(|_| server.role());
    let rules = RULES.iter().zip(&roles).map(|((_, rule), role)| rule.replace("USER", role));
    let file = authority.folder.join("hba.conf");
    fs::write(&file, rules.collect::<Vec<_>>().join("\n")).unwrap();
    let tables = format!(
        "{}[authentication]\nfailed_logins = 0\nhba_file = \"{}\"",
        authority.tls("allow"),
        file.display()
    );
    let users: Vec<_> = roles.iter().map(|role| (role.as_str(), PASSWORD)).collect();
    let proxy = proxy(server, &tables, &users, "");
    for ((rule, _), role) in RULES.iter().zip(&roles) {
        let own = authority.issue("method-own", role, &[]);
        let anothers = authority.issue("method-anothers", "somebody", &["somebody.example"]);
        for (sslmode, binding, shows) in [
            ("disable", "disable", Shows::Nothing),
            ("disable", "prefer", Shows::Nothing),
            ("disable", "require", Shows::Nothing),
            ("require", "disable", Shows::Nothing),
            ("require", "prefer", Shows::Nothing),
            ("require", "require", Shows::Nothing),
            ("require", "prefer", Shows::Own),
            ("require", "require", Shows::Own),
            ("require", "disable", Shows::Anothers),
            ("require", "require", Shows::Anothers),
        ] {
            let mut env = vec![("PGSSLMODE", sslmode), ("PGCHANNELBINDING", binding)];
            let shown = match shows {
                Shows::Nothing => None,
                Shows::Own => Some(&own),
                Shows::Anothers => Some(&anothers),
            };
            if let Some((certificate, key)) = shown {
                env.push(("PGSSLCERT", certificate.to_str().unwrap()));
                env.push(("PGSSLKEY", key.to_str().unwrap()));
            }
            let what = format!("{rule}, {sslmode}, {binding}, {shows:?}");
            let expected = expected(rule, sslmode == "require", binding, shows);
            let output = psql(server, proxy.address, role, &env, "SELECT current_user");
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            match expected {
                Ok(()) => assert_eq!(out.trim(), role, "{what}: {err}"),
                Err(said) => assert!(!output.status.success() && err.contains(said), "{what}: {err}"),
            }
            // A password counts where one is asked for, and only there.
            env.push(("PGPASSWORD", "wrong"));
            let output = psql(server, proxy.address, role, &env, "SELECT current_user");
            let asks = !["trust", "cert", "reject"].contains(rule);
            let lets_in = expected.is_ok() && !asks;
            assert_eq!(output.status.success(), lets_in, "{what}, a wrong password: {output:?}");
            let err = String::from_utf8_lossy(&output.stderr);
            if expected.is_ok() && asks {
                assert!(err.contains("password authentication failed for user"), "{what}: {err}");
            }
        }
    }
}

/// How the server sees a client of the proxy: whether it is encrypted, and the subject of its certificate.
fn seen(proxy: &Proxy, role: &str) -> Result<Vec<Vec<String>>, String> {
    let mut client = Raw::login(proxy.address, role, DATABASE, &[]).map_err(|failure| failure.code)?;
    Ok(client.run("SELECT ssl, coalesce(client_dn, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
}

pub fn servers_are_proved_what_they_ask_for_over_tls() {
    let encrypted = Encrypted::own();
    let server = &encrypted.server;
    let mut admin = server.superuser(DATABASE);
    admin.run("SET password_encryption = 'md5'");
    admin.run(&format!("CREATE ROLE by_md5 LOGIN PASSWORD '{PASSWORD}'"));
    admin.run("SET password_encryption = 'scram-sha-256'");
    for role in ["by_scram", "by_clear", "by_cert", "by_both"] {
        admin.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"));
    }
    let methods = [
        ("by_scram", "scram-sha-256"),
        ("by_md5", "md5"),
        ("by_clear", "password"),
        ("by_cert", "cert"),
        ("by_both", "scram-sha-256 clientcert=verify-full"),
    ];
    let line = |(role, method): &(&str, &str)| format!("hostssl all {role} 127.0.0.1/32 {method}");
    encrypted.admit(&methods.iter().map(line).collect::<Vec<_>>().join("\n"));
    for (role, method) in methods {
        let plain = proxy(server, "", &[(role, PASSWORD)], "sslmode = \"disable\"");
        assert_eq!(seen(&plain, role), Err("08004".into()), "{method} without TLS");
        let wrong = proxy(server, "[[rules]]\nmethod = \"trust\"", &[(role, "wrong")], &encrypted.verified());
        assert_eq!(
            seen(&wrong, role),
            Err("08004".into()),
            "{method} with a wrong password, or no certificate"
        );
        let wants = method.contains("cert");
        let mut target = encrypted.verified();
        if wants {
            assert_eq!(seen(&proxy(server, "", &[(role, PASSWORD)], &target), role), Err("08004".into()));
            let (certificate, key) = encrypted.authority.issue(role, role, &[]);
            target += &format!("\nsslcert = \"{}\"\nsslkey = \"{}\"", certificate.display(), key.display());
        }
        let dn = if wants { format!("/CN={role}") } else { String::new() };
        let right = proxy(server, "", &[(role, PASSWORD)], &target);
        assert_eq!(seen(&right, role), Ok(vec![vec!["t".into(), dn]]), "{method}");
    }
}

/// The proxy has a verifier only. The client binds its proof to its channel to the proxy; with the keys that this has shown,
/// the proxy binds a proof to its own channel to the server. Without, the server, which offers it, would refuse what says
/// that it could (`y`).
pub fn what_a_client_has_proved_over_its_channel_is_proved_over_the_servers() {
    let encrypted = Encrypted::shared();
    let Encrypted { server, authority } = encrypted;
    let role = server.role();
    let verifier = kept(server, &role);
    let proxy = proxy(server, &authority.tls("require"), &[(&role, &verifier)], &encrypted.verified());
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (binding, password, expected) in [
        ("require", "wrong", ""),
        ("require", PASSWORD, "t"),
        ("disable", PASSWORD, "t"),
        ("require", PASSWORD, "t"),
    ] {
        let env = [("PGSSLMODE", "require"), ("PGCHANNELBINDING", binding), ("PGPASSWORD", password)];
        let output = psql(server, proxy.address, &role, &env, sql);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            expected,
            "{binding} {password}: {output:?}"
        );
    }
}

/// The connection that looks users up is encrypted like others of its target.
pub fn users_are_looked_up_over_tls() {
    let encrypted = Encrypted::own();
    let Encrypted { server, authority } = &encrypted;
    let role = server.role();
    encrypted.admit(&format!("hostssl all {role} 127.0.0.1/32 scram-sha-256"));
    let tables = format!("{}[authentication]\nauth_user = \"postgres\"", authority.tls("require"));
    let proxy = proxy(server, &tables, &[("postgres", PASSWORD)], &encrypted.verified());
    let env = [("PGSSLMODE", "require"), ("PGCHANNELBINDING", "require")];
    let output = psql(server, proxy.address, &role, &env, "SELECT current_user");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), role, "{output:?}");
    let seen = server.superuser(DATABASE).value(
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'firepool authentication'",
    );
    assert_eq!(seen, "t");
}

pub fn a_certificate_that_nobody_vouches_for_lets_nobody_in() {
    let Encrypted { server, authority } = Encrypted::shared();
    let (role, stranger) = (server.role(), Authority::new());
    let tables = format!("{}[[rules]]\ntype = \"hostssl\"\nmethod = \"cert\"", authority.tls("allow"));
    let proxy = proxy(server, &tables, &[(&role, PASSWORD)], "");
    for (authority, lets_in) in [(authority, true), (&stranger, false)] {
        let (certificate, key) = authority.issue("vouched", &role, &[]);
        let env = [
            ("PGSSLMODE", "require"),
            ("PGSSLCERT", certificate.to_str().unwrap()),
            ("PGSSLKEY", key.to_str().unwrap()),
        ];
        let output = psql(server, proxy.address, &role, &env, "SELECT 1");
        assert_eq!(output.status.success(), lets_in, "{output:?}");
    }
}
