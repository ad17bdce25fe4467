//! No secret in anything that the proxy says: its log at the highest level, its metrics, its errors, its reports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::auth::{Folder, kept, server};
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD};
use crate::support::wait::until;

/// A port that was free a moment ago.
pub(crate) fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const DIGITS: &str = "0123456789abcdef0123456789abcdef";

pub(crate) struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn get(admin: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

pub(crate) fn firepool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firepool"));
    command
        .args(arguments)
        .env("SECRET_OF_THE_ENVIRONMENT", "hidden-in-the-environment")
        .stdin(Stdio::null());
    command
}

/// A configuration with a secret from every source.
fn configuration(folder: &Folder, (own, page): (u16, u16), (list, address): (&str, SocketAddr)) -> String {
    let hba = "host other all all password cleartext_without_tls=1\nhost third all all md5\nhost all all all scram-sha-256\n";
    format!(
        "[proxy]\nlisten = [\"127.0.0.1:{own}\"]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:{page}\"\n\
         [log]\nfilter = \"trace\"\n\
         [authentication]\nauth_user = \"looker\"\nuserlist_file = \"{}\"\nhba_file = \"{}\"\n\
         [users]\nin_clear = {{ password = \"hidden-in-the-file\", other_password = \"file:{}\" }}\n\
         in_env.password = \"env:SECRET_OF_THE_ENVIRONMENT\"\nlooker.password = \"hidden-of-the-looker\"\n\
         [targets.main]\nhost = \"{}\"\nport = {}\n\
         [[routes]]\npool_size = 1\ntimeouts = {{ query_wait = \"1s\" }}\n",
        folder.file("userlist.txt", list),
        folder.file("hba.conf", hba),
        folder.file("other", "hidden-beside-the-file\n"),
        address.ip(),
        address.port(),
    )
}

/// Logs in as everybody by every method, rightly and wrongly; everything that was answered.
fn log_in_everywhere(proxy: SocketAddr) -> String {
    let mut said = String::new();
    for (user, password) in [
        ("in_clear", "hidden-in-the-file"),
        ("in_clear", "hidden-beside-the-file"),
        ("in_env", "hidden-in-the-environment"),
        ("in_list", "hidden-in-the-list"),
        ("far_away", "hidden-on-the-server"),
        ("looker", "hidden-of-the-looker"),
        ("hashed", "hidden-for-md5"),
        ("nobody", "hidden-of-nobody"),
        ("far_away", "hidden-and-wrong"),
    ] {
        for database in [DATABASE, "other", "third"] {
            let parameters = [("user", user), ("database", database)];
            let mut raw = Raw::connect(proxy);
            raw.send(&crate::support::messages::startup((3, 0), &parameters));
            let first = raw.message().unwrap();
            said += &match first.body.first_chunk().map(|code| u32::from_be_bytes(*code)) {
                Some(10) => format!(
                    "{:?}",
                    Raw::login_with(proxy, password, &parameters).map(|mut raw| raw.query("SELECT 1"))
                ),
                _ => {
                    raw.send(&crate::support::messages::message(b'p', format!("{password}\0").as_bytes()));
                    format!("{:?}", raw.reply())
                }
            };
        }
    }
    said
}

/// Every kind of secret, used rightly and wrongly, in a run whose log is at `trace`.
pub fn no_secret_is_in_the_log_the_metrics_the_errors_or_the_reports() {
    let (server, folder) = (server(), Folder::new());
    let mut admin = server.superuser(DATABASE);
    admin.run(
        "CREATE ROLE in_clear LOGIN PASSWORD 'hidden-in-the-file'; \
         CREATE ROLE in_env LOGIN PASSWORD 'hidden-in-the-environment'; \
         CREATE ROLE in_list LOGIN PASSWORD 'hidden-in-the-list'; \
         CREATE ROLE far_away LOGIN PASSWORD 'hidden-on-the-server'; \
         CREATE ROLE looker SUPERUSER LOGIN PASSWORD 'hidden-of-the-looker'",
    );
    let verifiers = ["in_clear", "in_list", "far_away"].map(|role| kept(&server, role));
    let (own, page) = (port(), port());
    let list = format!("\"in_list\" \"{}\"\n\"hashed\" \"md5{DIGITS}\"\n", verifiers[1]);
    let config = configuration(&folder, (own, page), (&list, server.address()));
    let path = folder.file("firepool.toml", &config);
    let log = std::fs::File::create(folder.0.join("log")).unwrap();
    let mut command = firepool(&["serve", "--config", &path]);
    let running = Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    until("it is ready", || get(page, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));

    let mut said = log_in_everywhere(SocketAddr::from(([127, 0, 0, 1], own)));
    said += &get(page, "/metrics").unwrap();
    drop(running);
    let log = std::fs::read_to_string(folder.0.join("log")).unwrap();
    assert!(log.contains("DEBUG") && log.contains("a client was not let in"), "not everything is in the log");
    said += &log;

    // A good file and one with a mistake in every line that has a secret.
    said += &report(&["check", "--config", &path, "--connect"]);
    let bad =
        config.replace("hidden-in-the-file\"", "SCRAM-SHA-256$hidden-in-the-file\"").replace("[log]", "[log");
    said += &report(&["check", "--config", &folder.file("bad.toml", &bad)]);
    let bad = config.replace("\"hidden-in-the-file\"", "\"SCRAM-SHA-256$hidden-in-the-file\"");
    said += &report(&["check", "--config", &folder.file("worse.toml", &bad)]);
    folder.file("userlist.txt", "\"in_list\" hidden-in-the-list\n");
    said += &report(&["check", "--config", &path]);
    let environment = |_: &str| Some("hidden-in-the-environment".to_owned());
    folder.file("userlist.txt", &list);
    said += &format!("{:?}", firepool::config::parse(&config, &folder.0.join("x"), &environment).unwrap());

    let mut secrets: Vec<String> = vec!["hidden".into(), DIGITS.into(), PASSWORD.into()];
    for verifier in &verifiers {
        secrets.extend(verifier.rsplit(['$', ':']).take(2).map(str::to_owned));
    }
    for secret in secrets {
        let found = said.lines().find(|line| line.contains(&secret));
        assert_eq!(found, None, "{secret} was told");
    }
    admin
        .run("DROP ROLE in_clear; DROP ROLE in_env; DROP ROLE in_list; DROP ROLE far_away; DROP ROLE looker");
}

/// SIGHUP has secrets, rules and lists read again; a file with mistakes changes nothing.
pub fn a_reload_takes_passwords_and_rules_without_ending_anybody() {
    let (server, folder) = (server(), Folder::new());
    let mut admin = server.superuser(DATABASE);
    admin.run("CREATE ROLE renewed LOGIN PASSWORD 'first'");
    let (own, page, address) = (port(), port(), server.address());
    let (secret, hba) =
        (folder.file("secret", "first\n"), folder.file("hba.conf", "host all all all scram-sha-256\n"));
    let config = format!(
        "[proxy]\nlisten = [\"127.0.0.1:{own}\"]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:{page}\"\n\
         [authentication]\nhba_file = \"{hba}\"\n[users]\nrenewed.password = \"file:{secret}\"\n\
         [targets.main]\nhost = \"{}\"\nport = {}\n[[routes]]\npool_size = 1\n",
        address.ip(),
        address.port(),
    );
    let path = folder.file("firepool.toml", &config);
    let log = std::fs::File::create(folder.0.join("log")).unwrap();
    let mut command = firepool(&["serve", "--config", &path]);
    let running = Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    until("it is ready", || get(page, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    let proxy = SocketAddr::from(([127, 0, 0, 1], own));
    let login = |password: &str| {
        let login = Raw::login_with(proxy, password, &[("user", "renewed"), ("database", DATABASE)]);
        login.map_err(|failure| failure.code)
    };
    let reload = || {
        assert!(Command::new("kill").args(["-HUP", &running.0.id().to_string()]).status().unwrap().success())
    };
    let mut client = login("first").unwrap();
    folder.file("secret", "second\n");
    admin.run("ALTER ROLE renewed PASSWORD 'second'");
    assert_eq!(login("second").err().as_deref(), Some("28P01"), "not before the reload");
    reload();
    until("the second password is taken", || login("second").is_ok());
    assert_eq!(login("first").err().as_deref(), Some("28P01"));
    admin.run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'renewed'");
    assert_eq!(
        client.value("SELECT current_user"),
        "renewed",
        "and shown to the server, also for who was in before"
    );
    folder.file("hba.conf", "host all all 127.0.0.1/32 nonsense\n");
    reload();
    let log = || std::fs::read_to_string(folder.0.join("log")).unwrap();
    until("the mistake is found", || log().contains("nothing of it is used"));
    assert!(log().contains("the method must be one of"), "{}", log());
    folder.file("hba.conf", "host all all 127.0.0.1/32 reject\n");
    assert!(login("second").is_ok(), "a file with a mistake changes nothing");
    folder.file("firepool.toml", &config.replace("pool_size = 1", "pool_size = 2"));
    for round in 1..=2 {
        reload();
        let is_said = |line: &&str| line.contains("needs a restart") && line.contains("pool_size 1 -> 2");
        until("the log says what waits, each time", || log().lines().filter(is_said).count() == round);
    }
    until("the rule rejects", || login("second").err().as_deref() == Some("28000"));
    assert_eq!(client.value("SELECT 1"), "1");
    drop((client, running));
    admin.run("DROP ROLE renewed");
}

fn report(arguments: &[&str]) -> String {
    let output = firepool(arguments).output().unwrap();
    assert!(!output.stdout.is_empty() || !output.stderr.is_empty());
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
