//! Every rule of `[tls]` and of the `ssl...` keys.

use std::fs;

use super::*;
use crate::config::{Config, Examined, examine_text};
use crate::tls::generate;

/// A folder with a certificate, its key, and another key.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("firepool-config-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (made, other) = (generate::self_signed(&["localhost"]), generate::self_signed(&["localhost"]));
        let made = made.unwrap();
        fs::write(folder.join("a.crt"), &made.certificate).unwrap();
        generate::write_key(&folder.join("a.key"), &made.key);
        generate::write_key(&folder.join("b.key"), &other.unwrap().key);
        Self(folder)
    }

    fn examine(&self, tls: &str, target: &str) -> Examined {
        let text = format!(
            "[tls]\n{tls}\n[targets.main]\n{target}\n[users.app]\npassword = \"sesame\"\n[[routes]]\nuser = \"app\"\n"
        );
        examine_text(&text, &self.0.join("firepool.toml"), &|_| None)
    }

    #[track_caller]
    fn config(&self, tls: &str, target: &str) -> Config {
        let Examined { config, problems } = self.examine(tls, target);
        assert!(problems.is_empty(), "{problems}");
        config.unwrap()
    }
}

const TARGET: &str = "host = \"pg\"";

#[test]
fn clients_are_encrypted_if_they_ask_where_there_is_a_certificate() {
    let folder = Folder::new("clients");
    assert_eq!(folder.config("", TARGET).tls, Tls::default());
    let files = "certificate = \"a.crt\"\nkey = \"a.key\"";
    let tls = folder.config(files, TARGET).tls;
    assert!(tls.mode == TlsMode::Allow && tls.acceptor.is_some());
    for (mode, encrypted) in [("disable", false), ("allow", true), ("require", true)] {
        let tls = folder.config(&format!("{files}\nmode = \"{mode}\""), TARGET).tls;
        assert_eq!((tls.mode.as_str(), tls.acceptor.is_some()), (mode, encrypted));
    }
    for mode in ["verify-ca", "verify-full"] {
        let tls = format!("{files}\nclient_ca = \"a.crt\"\nmin_version = \"1.3\"\nmode = \"{mode}\"");
        assert_eq!(folder.config(&tls, TARGET).tls.mode.as_str(), mode);
    }
}

#[test]
fn a_server_is_asked_for_what_libpq_asks_it_by_default() {
    let folder = Folder::new("servers");
    let tls = folder.config("", TARGET).targets[0].tls.clone();
    assert!(tls.mode == SslMode::Prefer && !tls.direct && tls.connector.is_some());
    for mode in SslMode::ALL {
        let target = format!("{TARGET}\nsslmode = \"{}\"\nsslrootcert = \"a.crt\"", mode.as_str());
        let tls = folder.config("", &target).targets[0].tls.clone();
        assert_eq!((tls.mode, tls.connector.is_some()), (mode, mode != SslMode::Disable));
    }
    let local = folder.config("", "host = \"/run/postgresql\"").targets[0].tls.clone();
    assert_eq!(local, TargetTls::default());
}

#[test]
fn what_does_not_fit_together_is_said_with_its_line() {
    let folder = Folder::new("wrong");
    fs::write(folder.0.join("empty"), "").unwrap();
    let certificate = "certificate = \"a.crt\"";
    for (tls, target, line, words) in [
        ("mode = \"allow\"", TARGET, 2, "`mode` \"allow\" needs a `certificate` and its `key`"),
        (certificate, TARGET, 2, "`certificate` needs its `key`"),
        ("key = \"a.key\"", TARGET, 2, "`key` needs the `certificate` that it belongs to"),
        ("mode = \"prefer\"", TARGET, 2, "`mode` must be one of \"disable\", \"allow\""),
        ("min_version = \"1.1\"", TARGET, 2, "`min_version` must be one of \"1.2\", \"1.3\""),
        ("certificate = \"a.crt\"\nkey = \"b.key\"", TARGET, 3, "the key does not belong to"),
        ("certificate = \"a.crt\"\nkey = \"nowhere\"", TARGET, 3, "cannot be read"),
        ("certificate = \"empty\"\nkey = \"a.key\"", TARGET, 2, "there is no certificate in it"),
        (
            "certificate = \"a.crt\"\nkey = \"a.key\"\nmode = \"verify-ca\"",
            TARGET,
            4,
            "`mode` \"verify-ca\" needs a `client_ca`",
        ),
        (
            "certificate = \"a.crt\"\nkey = \"a.key\"\nclient_ca = \"empty\"",
            TARGET,
            4,
            "there is no certificate in it",
        ),
        (
            "",
            "host = \"pg\"\nsslmode = \"verify-full\"",
            5,
            "`sslmode` \"verify-full\" needs an `sslrootcert`",
        ),
        ("", "host = \"/run\"\nchannel_binding = \"require\"", 5, "a Unix socket has none"),
        ("", "host = \"pg\"\nchannel_binding = \"always\"", 5, "must be one of \"disable\", \"prefer\""),
        ("", "host = \"pg\"\nsslmode = \"disable\"\nchannel_binding = \"require\"", 6, "needs TLS, which"),
        ("", "host = \"pg\"\nsslrootcert = \"system\"\nsslmode = \"verify-ca\"", 6, "is too weak for"),
        ("", "host = \"pg\"\nsslrootcert = \"nowhere\"", 5, "cannot be read"),
        ("", "host = \"pg\"\nsslcert = \"a.crt\"", 5, "`sslcert` needs its `sslkey`"),
        ("", "host = \"pg\"\nsslkey = \"a.key\"", 5, "`sslkey` needs the `sslcert`"),
        ("", "host = \"pg\"\nsslcert = \"a.crt\"\nsslkey = \"b.key\"", 6, "the key does not belong to"),
        ("", "host = \"pg\"\nsslnegotiation = \"direct\"", 5, "needs an `sslmode` of \"require\" or more"),
    ] {
        let Examined { config, problems } = folder.examine(tls, target);
        let text = problems.to_string();
        assert!(config.is_none(), "{tls} {target}");
        assert!(text.contains(words) && text.contains(&format!(":{line}: error:")), "{words} {line}: {text}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_on_both_sides() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("open");
    fs::set_permissions(folder.0.join("a.key"), PermissionsExt::from_mode(0o644)).unwrap();
    for (tls, target, line) in [
        ("certificate = \"a.crt\"\nkey = \"a.key\"", TARGET.to_owned(), 3),
        ("", format!("{TARGET}\nsslcert = \"a.crt\"\nsslkey = \"a.key\""), 6),
    ] {
        let Examined { config, problems } = folder.examine(tls, &target);
        let text = problems.to_string();
        assert!(config.is_none() && text.contains(&format!(":{line}: error:")), "{text}");
        assert!(text.contains("a.key: it has group or world access"), "{text}");
    }
}

#[test]
fn lists_of_what_was_revoked_need_authorities_and_warn_before_they_keep_everybody_out() {
    let folder = Folder::new("lists");
    let write = |name: &str, hours: i64| {
        let span = Duration::from_secs(hours.unsigned_abs() * 60 * 60);
        let now = SystemTime::now();
        let until = if hours < 0 { now - span } else { now + span };
        fs::write(folder.0.join(name), generate::empty_list(until)).unwrap();
    };
    write("good", 48);
    write("soon", 5);
    write("gone", -5);
    let files = "certificate = \"a.crt\"\nkey = \"a.key\"";
    let ca = format!("{files}\nclient_ca = \"a.crt\"");
    let root = format!("{TARGET}\nsslrootcert = \"a.crt\"");
    let said = |tls: &str, target: &str| folder.examine(tls, target).problems.to_string();
    let lacks = said(&format!("{files}\nclient_crl = \"good\""), TARGET);
    assert!(lacks.contains(":4: error: `client_crl` needs the `client_ca`"), "{lacks}");
    let lacks = said("", &format!("{TARGET}\nsslcrl = \"good\""));
    assert!(lacks.contains(":5: error: `sslcrl` needs the `sslrootcert`"), "{lacks}");
    for (file, words) in [
        ("good", ""),
        ("soon", "has a list that expires in "),
        ("gone", "has a list that has expired"),
        ("a.crt", "there is no revocation list in it"),
        ("nowhere", "cannot be read"),
    ] {
        for (tls, target) in [
            (format!("{ca}\nclient_crl = \"{file}\""), TARGET.to_owned()),
            (String::new(), format!("{root}\nsslcrl = \"{file}\"")),
        ] {
            let text = said(&tls, &target);
            assert!(text.contains(words) && text.is_empty() == words.is_empty(), "{file}: {text}");
        }
    }
}

#[test]
fn a_certificate_that_expires_soon_or_has_expired_is_a_warning() {
    let day = |days: i64| days_from_now(days);
    let folder = Folder::new("expiry");
    for (until, words) in [(day(3), "expires in "), (day(-3), "is not valid today")] {
        let made = generate::self_signed_until(&["localhost"], until).unwrap();
        fs::write(folder.0.join("c.crt"), &made.certificate).unwrap();
        generate::write_key(&folder.0.join("c.key"), &made.key);
        let examined = folder.examine("certificate = \"c.crt\"\nkey = \"c.key\"", TARGET);
        assert!(examined.config.is_some());
        let text = examined.problems.to_string();
        assert!(text.contains(":2: warning: ") && text.contains(words), "{text}");
    }
}

/// So many days from now.
fn days_from_now(days: i64) -> SystemTime {
    let span = Duration::from_secs(days.unsigned_abs() * 24 * 60 * 60);
    if days < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
}

#[test]
fn rules_that_want_certificates_need_those_who_vouch_for_them() {
    let folder = Folder::new("rules");
    let tls = "certificate = \"a.crt\"\nkey = \"a.key\"";
    let problems = |ca: &str, rule: &str| {
        let rule = format!("[[rules]]\ntype = \"hostssl\"\n{rule}\n[targets.main]");
        let text = format!(
            "[tls]\n{tls}\n{ca}\n{rule}\nhost = \"pg\"\n[users.app]\npassword = \"sesame\"\n[[routes]]\n"
        );
        examine_text(&text, &folder.0.join("firepool.toml"), &|_| None).problems.to_string()
    };
    let lacks = "the rule wants certificates of clients, which need a `client_ca` in [tls]";
    for rule in ["method = \"cert\"", "method = \"md5\"\nclientcert = \"verify-ca\""] {
        assert!(problems("", rule).contains(lacks), "{rule}");
        assert_eq!(problems("client_ca = \"a.crt\"", rule), "", "{rule}");
    }
    assert_eq!(problems("", "method = \"scram-sha-256\""), "");
    let open = problems("client_ca = \"a.crt\"", "method = \"trust\"");
    assert!(open.contains("lets clients in from the network that prove nothing"), "{open}");
    let certified = problems("client_ca = \"a.crt\"", "method = \"trust\"\nclientcert = \"verify-full\"");
    assert_eq!(certified, "");
}
