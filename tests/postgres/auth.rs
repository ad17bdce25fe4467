//! Logging in: what clients have to prove, by which rule, and what of it servers are shown.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::support::fixture::Proxy;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};

/// How the server asks each of these roles.
const ROLES: [&str; 5] = ["ask_scram", "ask_md5", "ask_clear", "ask_clear_open", "ask_nothing"];

/// How a client is asked, which is the name of the database that it wants.
const METHODS: [&str; 4] = ["trust", "scram-sha-256", "md5", "password"];

/// A server that asks roles in its different ways.
pub(crate) fn server() -> Arc<Server> {
    static SERVER: OnceLock<Arc<Server>> = OnceLock::new();
    let start = || {
        let server = Server::own();
        let mut admin = server.superuser(DATABASE);
        for role in ROLES {
            let encryption = if role == "ask_md5" { "md5" } else { "scram-sha-256" };
            admin.run(&format!("SET password_encryption = '{encryption}'"));
            admin.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"));
        }
        server.rules(
            "host all ask_md5 0.0.0.0/0 md5\n\
             host all ask_clear,ask_clear_open 0.0.0.0/0 password\n\
             host all ask_nothing 0.0.0.0/0 trust",
        );
        server
    };
    Arc::clone(SERVER.get_or_init(start))
}

/// What PostgreSQL keeps of a role's password.
pub(crate) fn kept(server: &Server, role: &str) -> String {
    server.superuser(DATABASE).value(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"))
}

/// A folder of a test's own.
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("firepool-auth-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A proxy with a Unix socket in a folder of its own, named as if the port were 6432.
pub(crate) fn with_socket(server: &Server, folder: &Folder, text: &str) -> Proxy {
    let text = format!("[proxy]\nworkers = 1\nunix_socket_dir = \"{}\"\n{text}", folder.0.display());
    let proxy = Proxy::start(server, &text);
    std::os::unix::fs::symlink(".s.PGSQL.0", folder.0.join(".s.PGSQL.6432")).unwrap();
    proxy
}

/// psql's answer, or the SQLSTATE of what it was told.
pub(crate) fn psql(
    server: &Server,
    host: &str,
    port: u16,
    (user, password, database): (&str, &str, &str),
) -> String {
    let mut command = Command::new(&server.programs().psql);
    command.args(["-X", "-A", "-t", "-w", "-v", "VERBOSITY=verbose", "-c", "SELECT current_user"]);
    command.args(["-h", host, "-p", &port.to_string(), "-U", user, "-d", database]);
    command
        .env_clear()
        .env("PGPASSWORD", password)
        .env("PGSSLMODE", "disable")
        .env("PGGSSENCMODE", "disable");
    let Output { stdout, stderr, status } = command.output().unwrap();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    if status.success() { out.trim().to_owned() } else { err.trim().to_owned() }
}

/// The same through TCP.
fn tcp(server: &Server, proxy: &Proxy, who: (&str, &str, &str)) -> String {
    psql(server, "127.0.0.1", proxy.address.port(), who)
}

const RULES: &str = "hba_file = \"hba.conf\"\n";

/// A rule for each method, by database.
const HBA: &str = "host trust all all trust\n\
    host scram-sha-256 all all scram-sha-256\n\
    host md5 all all md5\n\
    host password all all password cleartext_without_tls=1\n\
    local all all peer\n";

/// What is known of a role's password.
fn knowledge(server: &Server, known: &str, role: &str) -> String {
    match known {
        "password" => PASSWORD.to_owned(),
        // A verifier has no user in it: this one fits every role, though only one has it on the server.
        "verifier" => kept(server, "ask_scram"),
        _ => server.superuser(DATABASE).value(&format!("SELECT 'md5' || md5('{PASSWORD}{role}')")),
    }
}

fn table_proxy(server: &Server, folder: &Folder, known: &str) -> Proxy {
    folder.file("hba.conf", HBA);
    let mut text = format!("[authentication]\n{}", RULES.replace("hba.conf", &folder.file("hba.conf", HBA)));
    for role in ROLES {
        let secret = knowledge(server, known, role);
        text += &format!("[users.{role}]\npassword = \"{secret}\"\n");
        let target = if role == "ask_clear_open" { "open" } else { "main" };
        for method in METHODS {
            text += &format!(
                "[[routes]]\ndatabase = \"{method}\"\nuser = \"{role}\"\ntarget = \"{target}\"\n\
                 target_database = \"{DATABASE}\"\npool_size = 1\n"
            );
        }
    }
    let address = server.address();
    text += &format!(
        "[targets.open]\nhost = \"{}\"\nport = {}\ncleartext_without_tls = true\nrequired = false\n",
        address.ip(),
        address.port()
    );
    with_socket(server, folder, &text)
}

/// What a login comes to. `shown` says whether a client has proved the password by SCRAM or in clear text before.
fn expected(known: &str, method: &str, role: &str, shown: bool) -> &'static str {
    let client = !matches!((known, method), ("hash", "scram-sha-256"));
    let server = match (role, known) {
        ("ask_nothing", _) | ("ask_scram" | "ask_md5", "password") | ("ask_md5", "hash") => true,
        ("ask_clear_open", "password") => true,
        ("ask_scram", "verifier") => shown,
        _ => false,
    };
    match (client, server) {
        (false, _) => "28P01",
        (true, false) => "08004",
        (true, true) => "in",
    }
}

/// Every way to ask a client, with every way in which the server asks, and everything that may be known of the password.
pub fn each_method_of_clients_works_with_each_of_servers_as_far_as_what_is_known_goes() {
    let server = server();
    let mut wrong = Vec::new();
    println!("{:10} {:15} {:15} expected observed", "known", "client method", "server role");
    for known in ["password", "verifier", "hash"] {
        let folder = Folder::new();
        let proxy = table_proxy(&server, &folder, known);
        for method in METHODS {
            for role in ROLES {
                // `trust` comes first: nothing was shown before. Every other method that a verifier serves shows it.
                let expected = expected(known, method, role, method != "trust");
                let answer = tcp(&server, &proxy, (role, PASSWORD, method));
                let observed = match answer.as_str() {
                    name if name == role => "in",
                    text if text.contains("password authentication failed for user") => "28P01",
                    text if text.contains("the server refused") || text.contains("could not log in") => {
                        "08004"
                    }
                    other => other,
                };
                println!("{known:10} {method:15} {role:15} {expected:8} {observed}");
                if observed != expected {
                    wrong.push(format!("{known} {method} {role}: {expected} expected, {observed}"));
                }
                let refused = tcp(&server, &proxy, (role, "wrong", method));
                let let_in =
                    refused == role || refused.contains("the server") || refused.contains("could not log");
                if let_in != (method == "trust") {
                    wrong.push(format!("{known} {method} {role} with a wrong password: {refused}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same drivers that services have, and not libpq alone.
pub fn a_driver_logs_in_with_each_method() {
    let server = server();
    let folder = Folder::new();
    let proxy = table_proxy(&server, &folder, "password");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for method in METHODS {
        let url = format!("postgresql://ask_scram:{PASSWORD}@{}/{method}", proxy.address);
        let wrong = url.replace(PASSWORD, "wrong");
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            let serving = tokio::spawn(connection);
            let row = client.query_one("SELECT current_user::text", &[]).await.unwrap();
            assert_eq!(row.get::<_, String>(0), "ask_scram", "{method}");
            drop(client);
            serving.await.unwrap().unwrap();
            let refused = tokio_postgres::connect(&wrong, tokio_postgres::NoTls).await.err();
            let code = refused.and_then(|error| error.code().map(|code| code.code().to_owned()));
            assert_eq!(code.as_deref(), (method != "trust").then_some("28P01"), "{method}");
        });
    }
}

/// The name of the account that the tests run as.
fn account() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn the_process_behind_a_unix_socket_is_who_the_system_says() {
    let server = server();
    let own = account();
    let mut admin = server.superuser(DATABASE);
    admin.run(&format!("DROP ROLE IF EXISTS \"{own}\""));
    admin.run(&format!("CREATE ROLE \"{own}\" LOGIN PASSWORD '{PASSWORD}'"));
    let folder = Folder::new();
    let text = format!(
        "[[rules]]\ntype = \"local\"\nmethod = \"peer\"\n\
         [users]\n{own}.password = \"{PASSWORD}\"\nask_scram.password = \"{PASSWORD}\"\n[[routes]]\n"
    );
    let proxy = with_socket(&server, &folder, &text);
    let host = folder.0.display().to_string();
    assert_eq!(psql(&server, &host, 6432, (&own, "", DATABASE)), own);
    for user in ["ask_scram", "nobody"] {
        let refused = psql(&server, &host, 6432, (user, PASSWORD, DATABASE));
        assert!(refused.contains(&format!("Peer authentication failed for user \"{user}\"")), "{refused}");
    }
    let refused = tcp(&server, &proxy, (&own, PASSWORD, DATABASE));
    assert!(refused.contains("no pg_hba.conf entry for host \"127.0.0.1\""), "{refused}");
    admin.run(&format!("DROP ROLE \"{own}\""));
}

pub fn the_first_rule_that_fits_counts_and_where_none_fits_nobody_gets_in() {
    let server = server();
    let folder = Folder::new();
    let hba = format!(
        "# who comes from where\nhost {DATABASE} ask_md5 127.0.0.0/8 reject\n\
         host all \"ask_scram\",ask_md5 127.0.0.1 255.255.255.255 scram-sha-256\n\
         hostssl all all all trust\nlocal all ask_clear password\n"
    );
    let text = format!(
        "[authentication]\nhba_file = \"{}\"\n[users]\nask_scram.password = \"{PASSWORD}\"\n\
         ask_md5.password = \"{PASSWORD}\"\nask_clear.password = \"{PASSWORD}\"\n\
         [[routes]]\n[[routes]]\ndatabase = \"{DATABASE}\"\n",
        folder.file("hba.conf", &hba)
    );
    let proxy = with_socket(&server, &folder, &text);
    let refused = |user: &str, database: &str| {
        let parameters = [("user", user), ("database", database)];
        let failure = Raw::login_with(proxy.address, PASSWORD, &parameters).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.severity.as_str()), ("28000", "FATAL"));
        failure.message
    };
    assert_eq!(tcp(&server, &proxy, ("ask_scram", PASSWORD, DATABASE)), "ask_scram");
    assert_eq!(tcp(&server, &proxy, ("ask_md5", PASSWORD, "postgres")), "ask_md5");
    let about =
        |user: &str| format!("host \"127.0.0.1\", user \"{user}\", database \"{DATABASE}\", no encryption");
    assert_eq!(
        refused("ask_md5", DATABASE),
        format!("pg_hba.conf rejects connection for {}", about("ask_md5"))
    );
    for user in ["ask_clear", "nobody"] {
        assert_eq!(refused(user, DATABASE), format!("no pg_hba.conf entry for {}", about(user)));
    }
    // A Unix socket is as private as TLS.
    let host = folder.0.display().to_string();
    let clear = psql(&server, &host, 6432, ("ask_clear", PASSWORD, DATABASE));
    assert!(
        clear.contains("could not log in"),
        "let in, and then the server asks for clear text over TCP: {clear}"
    );
    let wrong = psql(&server, &host, 6432, ("ask_clear", "wrong", DATABASE));
    assert!(wrong.contains("password authentication failed"), "{wrong}");
    let nobody = psql(&server, &host, 6432, ("nobody", PASSWORD, DATABASE));
    assert!(nobody.contains("no pg_hba.conf entry for host \"[local]\""), "{nobody}");
}

pub fn a_password_in_clear_text_is_not_taken_over_the_network_unless_the_rule_says_so() {
    let server = server();
    let rule = "[[rules]]\nmethod = \"password\"\n";
    let users = format!("[users]\nask_scram.password = \"{PASSWORD}\"\n[[routes]]\n");
    let proxy = Proxy::start(&server, &format!("{rule}{users}"));
    for user in ["ask_scram", "nobody"] {
        let mut raw = Raw::connect(proxy.address);
        raw.send(&crate::support::messages::startup((3, 0), &[("user", user), ("database", DATABASE)]));
        let failure = raw.farewell();
        assert_eq!(failure.code, "28000", "it is not even asked for: {failure:?}");
        assert_eq!(failure.message, "a password in clear text is not taken without TLS");
    }
    let allowed = Proxy::start(&server, &format!("{rule}cleartext_without_tls = true\n{users}"));
    assert_eq!(tcp(&server, &allowed, ("ask_scram", PASSWORD, DATABASE)), "ask_scram");
}

/// The messages that a client of this user gets until it is refused, with their lengths.
fn refused_exchange(proxy: &Proxy, database: &str, user: &str) -> Vec<(u8, Option<u32>, usize)> {
    let mut raw = Raw::connect(proxy.address);
    raw.send(&crate::support::messages::startup((3, 0), &[("user", user), ("database", database)]));
    let (mut seen, mut exchange) = (Vec::new(), None);
    while let Some(message) = raw.message() {
        let code = (message.tag == b'R').then(|| u32::from_be_bytes(*message.body.first_chunk().unwrap()));
        seen.push((
            message.tag,
            code,
            message.body.len() + 8 - user.len() * usize::from(message.tag == b'E'),
        ));
        match code {
            Some(10) => {
                let first = firepool::scram::ClientExchange::new().unwrap();
                let text = first.first();
                let body =
                    [&b"SCRAM-SHA-256\0"[..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
                exchange = Some(first);
                raw.send(&crate::support::messages::message(b'p', &body));
            }
            Some(11) => {
                let challenged = exchange.take().unwrap().challenge(&message.body[4..]).unwrap();
                let keys = firepool::scram::Keys::derive("wrong", challenged.salt(), challenged.iterations());
                raw.send(&crate::support::messages::message(b'p', challenged.prove(&keys).0.as_bytes()));
            }
            Some(3 | 5) => raw.send(&crate::support::messages::message(b'p', b"wrong\0")),
            _ => assert_eq!(message.tag, b'E', "{message:?}"),
        }
    }
    seen
}

/// Of users who do not exist, who have no password, whose password has expired, who may not log in.
pub fn nobody_learns_from_a_failed_login_who_exists() {
    let server = server();
    let mut admin = server.superuser(DATABASE);
    admin.run(
        "CREATE ROLE gone LOGIN PASSWORD 'sesame' VALID UNTIL '2001-01-01'; CREATE ROLE bare LOGIN; \
         CREATE ROLE group_only NOLOGIN PASSWORD 'sesame'; CREATE ROLE there LOGIN PASSWORD 'sesame'",
    );
    for known in ["password", "verifier", "hash", "looked up"] {
        let folder = Folder::new();
        let mut text = format!("[authentication]\nhba_file = \"{}\"\n", folder.file("hba.conf", HBA));
        if known == "looked up" {
            text += &format!("auth_user = \"postgres\"\n[users.postgres]\npassword = \"{PASSWORD}\"\n");
        } else {
            let secret = knowledge(&server, known, "there");
            text += &format!("[users.there]\npassword = \"{secret}\"\n[users.bare]\n");
        }
        let proxy = Proxy::start(&server, &(text + "[[routes]]\n"));
        for method in METHODS.into_iter().filter(|method| *method != "trust") {
            let known_user = refused_exchange(&proxy, method, "there");
            assert!(known_user.len() >= 2, "{known_user:?}");
            for user in ["nobody", "gone", "bare", "group_only", "x'; DROP TABLE y; --"] {
                assert_eq!(refused_exchange(&proxy, method, user), known_user, "{known} {method} {user}");
            }
        }
    }
    admin.run("DROP ROLE gone; DROP ROLE bare; DROP ROLE group_only; DROP ROLE there");
}

pub fn a_unix_socket_has_no_limit_of_failed_logins() {
    let server = server();
    let folder = Folder::new();
    let text = format!(
        "[authentication]\nfailed_logins = 2\n[users]\nask_scram.password = \"{PASSWORD}\"\n[[routes]]\n"
    );
    let proxy = with_socket(&server, &folder, &text);
    let host = folder.0.display().to_string();
    for _ in 0..4 {
        let refused = psql(&server, &host, 6432, ("ask_scram", "wrong", DATABASE));
        assert!(refused.contains("password authentication failed"), "{refused}");
    }
    assert_eq!(psql(&server, &host, 6432, ("ask_scram", PASSWORD, DATABASE)), "ask_scram");
    for _ in 0..2 {
        tcp(&server, &proxy, ("ask_scram", "wrong", DATABASE));
    }
    let refused = tcp(&server, &proxy, ("ask_scram", PASSWORD, DATABASE));
    assert!(refused.contains("too many failed logins from this address"), "{refused}");
}
