//! Where secrets come from: hashes, lists, a server; and what becomes of them when they change.

use crate::auth::{Folder, kept, server};
use crate::support::fixture::{Proxy, configuration};
use crate::support::messages::{sync, unnamed};
use crate::support::raw::{Failure, Raw};
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::{eventually, until};

/// A role that no other test of these uses, dropped at the end.
struct Role<'s> {
    server: &'s Server,
    name: &'static str,
}

impl<'s> Role<'s> {
    fn new(server: &'s Server, name: &'static str, password: &str) -> Self {
        server.superuser(DATABASE).run(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"));
        Self { server, name }
    }

    fn alter(&self, change: &str) {
        self.server.superuser(DATABASE).run(&format!("ALTER ROLE {} {change}", self.name));
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.server.superuser(DATABASE).run(&format!("DROP ROLE {}", self.name));
        }
    }
}

fn login(proxy: &Proxy, user: &str, password: &str) -> Result<Raw, Failure> {
    Raw::login_with(proxy.address, password, &[("user", user), ("database", DATABASE)])
}

#[track_caller]
fn code(login: Result<Raw, Failure>) -> String {
    login.map(|_| "in".to_owned()).unwrap_or_else(|failure| failure.code)
}

/// The same of somebody who is looked up. A server that is busy enough may not answer in time, and the client is told to
/// come again.
fn verdict(login: impl Fn() -> Result<Raw, Failure>) -> String {
    eventually("the user to be looked up", || Some(code(login())).filter(|code| code != "08001"))
}

/// A proxy that asks the server for everybody.
fn looking_up(server: &Server, more: &str, rest: &str) -> Proxy {
    let text = format!(
        "[authentication]\nauth_user = \"postgres\"\n{more}\n[users.postgres]\npassword = \"{PASSWORD}\"\n\
         {rest}\n[[routes]]\npool_size = 2\n"
    );
    Proxy::start(server, &text)
}

/// How many connections of the proxy that looks users up there are.
fn lookup_connections(server: &Server) -> Vec<Vec<String>> {
    let mut admin = server.superuser(DATABASE);
    admin.run(
        "SELECT datname, usename FROM pg_stat_activity WHERE application_name = 'firepool authentication'",
    )
}

pub fn with_a_verifier_alone_the_server_is_shown_what_the_client_has_proved() {
    let server = Server::own();
    let role = Role::new(&server, "shown", "open");
    let text = format!(
        "[users.shown]\npassword = \"{}\"\n\
         [[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"shown\"\nmin_size = 2\npool_size = 3\n",
        kept(&server, role.name)
    );
    let proxy = Proxy::start(&server, &text);
    proxy.ready();
    let mut admin = server.superuser(DATABASE);
    let count = |admin: &mut Raw| {
        admin.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'shown'").parse::<u32>().unwrap()
    };
    assert_eq!(code(login(&proxy, role.name, "wrong")), "28P01");
    assert_eq!(proxy.metric("firepool_server_connections_failed_total", "shown"), 0.0);
    assert_eq!(count(&mut admin), 0, "nothing can be opened before a client has proved the password");
    let mut client = login(&proxy, role.name, "open").unwrap();
    assert_eq!(client.value("SELECT current_user"), "shown");
    until("the minimum is opened as well", || count(&mut admin) >= 2);

    // Another password: the server has another verifier than the proxy, so that nothing new can be opened.
    role.alter("PASSWORD 'open'");
    admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shown'");
    until("the connections are gone", || count(&mut admin) == 0);
    assert_eq!(login(&proxy, role.name, "open").unwrap().query("SELECT 1").code(), "08004");
    drop((client, proxy));
}

pub fn a_password_that_is_being_changed_may_be_either_on_both_sides() {
    let server = server();
    let role = Role::new(&server, "rotating", "old");
    let text = "[users.rotating]\npassword = \"old\"\nother_password = \"new\"\n[[routes]]\npool_size = 1\n";
    let proxy = Proxy::start(&server, text);
    let turn = |password: &str| login(&proxy, role.name, password).unwrap().value("SELECT current_user");
    assert_eq!((turn("old").as_str(), turn("new").as_str()), ("rotating", "rotating"));
    assert_eq!(code(login(&proxy, role.name, "neither")), "28P01");
    role.alter("PASSWORD 'new'");
    let mut admin = server.superuser(DATABASE);
    admin.run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'rotating'");
    assert_eq!(
        (turn("old").as_str(), turn("new").as_str()),
        ("rotating", "rotating"),
        "the server takes the other"
    );
    role.alter("PASSWORD 'third'");
    admin.run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'rotating'");
    assert_eq!(login(&proxy, role.name, "old").unwrap().query("SELECT 1").code(), "08004");
    drop(proxy);
}

pub fn a_userlist_of_pgbouncer_lets_its_users_in() {
    let server = server();
    let (folder, plain, hashed) =
        (Folder::new(), Role::new(&server, "listed", "it''s \"x\""), Role::new(&server, "hashed", PASSWORD));
    let list = format!(
        "; who\n\"listed\" \"it's \"\"x\"\"\"\n\"hashed\" \"{}\"\n\"nobody\" \"\"\n",
        kept(&server, hashed.name)
    );
    let text = format!(
        "[authentication]\nuserlist_file = \"{}\"\n[users.listed]\nmax_clients = 1\n[[routes]]\npool_size = 1\n",
        folder.file("userlist.txt", &list)
    );
    let proxy = Proxy::start(&server, &text);
    let mut first = login(&proxy, plain.name, "it's \"x\"").unwrap();
    assert_eq!(first.value("SELECT current_user"), "listed");
    assert_eq!(code(login(&proxy, plain.name, "it's \"x\"")), "53300", "its table has its limits");
    assert_eq!(login(&proxy, hashed.name, PASSWORD).unwrap().value("SELECT current_user"), "hashed");
    assert_eq!(code(login(&proxy, "nobody", "")), "28P01");
    drop((first, proxy));
}

pub fn passwords_come_from_files_and_variables() {
    let server = server();
    let folder = Folder::new();
    let role = Role::new(&server, "mounted", PASSWORD);
    let file = folder.file("secret", &format!("{PASSWORD}\r\n"));
    for password in [format!("password = \"file:{file}\""), format!("password_file = \"{file}\"")] {
        let proxy =
            Proxy::start(&server, &format!("[users.mounted]\n{password}\n[[routes]]\npool_size = 1\n"));
        assert_eq!(login(&proxy, role.name, PASSWORD).unwrap().value("SELECT current_user"), "mounted");
    }
}

pub fn users_are_looked_up_and_what_they_prove_is_shown_to_the_server() {
    let server = Server::own();
    let role = Role::new(&server, "far", "open");
    let proxy = looking_up(&server, "", "");
    for _ in 0..3 {
        assert_eq!(login(&proxy, role.name, "open").unwrap().value("SELECT current_user"), "far");
    }
    assert_eq!(lookup_connections(&server), [["postgres", "postgres"]], "one connection, of its own");
    // What it listens to comes over a connection that the proxy opens as the same user.
    let mut listener = login(&proxy, role.name, "open").unwrap();
    listener.run("LISTEN news");
    until("it listens", || proxy.metric("firepool_listening_clients", "far") > 0.0);
    server.superuser(DATABASE).run("NOTIFY news, 'read all about it'");
    assert_eq!(listener.message().unwrap().tag, b'A');
    // A changed password counts at once, for the client and toward the server.
    role.alter("PASSWORD 'changed'");
    assert_eq!(code(login(&proxy, role.name, "open")), "28P01");
    let mut admin = server.superuser(DATABASE);
    admin.run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'far'");
    assert_eq!(login(&proxy, role.name, "changed").unwrap().value("SELECT current_user"), "far");
    // A connection that was closed is opened again.
    admin.run(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
         WHERE application_name = 'firepool authentication'",
    );
    assert_eq!(login(&proxy, role.name, "changed").unwrap().value("SELECT current_user"), "far");
    drop((listener, proxy));
}

/// CVE-2025-2291 of another pooler: the look-up did not see that the password had expired.
pub fn an_expired_password_and_a_role_that_may_not_log_in_let_nobody_in() {
    let server = Server::own();
    let role = Role::new(&server, "limited", PASSWORD);
    let proxy = looking_up(&server, "", "");
    assert_eq!(code(login(&proxy, role.name, PASSWORD)), "in");
    for (change, expected) in [
        ("VALID UNTIL '2001-01-01'", "28P01"),
        ("VALID UNTIL 'infinity'", "in"),
        ("NOLOGIN", "28P01"),
        ("LOGIN", "in"),
        ("PASSWORD NULL", "28P01"),
        ("PASSWORD 'sesame'", "in"),
    ] {
        role.alter(change);
        assert_eq!(code(login(&proxy, role.name, PASSWORD)), expected, "{change}");
    }
    drop(proxy);
}

/// CVE-2015-6817: a client that named nobody was logged in as who looked up.
pub fn who_does_not_exist_is_never_logged_in_as_who_looks_up() {
    let server = Server::own();
    let proxy = looking_up(&server, "", "");
    for user in ["nobody", "Postgres", "postgres ", "x' OR 'x' = 'x", "$1", &"x".repeat(100)] {
        assert_eq!(code(login(&proxy, user, PASSWORD)), "28P01", "{user}");
    }
    // Nor by a query that answers about somebody else.
    let query = "auth_query = \"SELECT 'postgres', rolpassword FROM pg_catalog.pg_authid WHERE rolname = 'postgres' AND $1 <> ''\"";
    let careless = looking_up(&server, query, "");
    for user in ["nobody", "other"] {
        assert_eq!(code(login(&careless, user, PASSWORD)), "28P01", "{user}");
    }
    drop((proxy, careless));
}

/// CVE-2025-12819: a client's search_path reached the connection that looks users up, before it had proved anything.
pub fn nothing_of_a_client_reaches_the_connection_that_looks_users_up() {
    let server = Server::own();
    let role = Role::new(&server, "trapper", PASSWORD);
    let mut admin = server.superuser("postgres");
    // Every name that the query uses, elsewhere and in the path of the role that asks.
    admin.run(
        "CREATE SCHEMA trap; CREATE TABLE trap.seen (path text);
         CREATE FUNCTION trap.equal(name, text) RETURNS bool LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO trap.seen VALUES (current_setting('search_path')); RETURN true; END $$;
         CREATE OPERATOR trap.= (FUNCTION = trap.equal, LEFTARG = name, RIGHTARG = text);
         CREATE VIEW trap.pg_authid AS SELECT 'nobody'::name AS rolname, 'sesame'::text AS rolpassword,
             true AS rolcanlogin, NULL::timestamptz AS rolvaliduntil;
         CREATE FUNCTION trap.lookup(text) RETURNS TABLE (n name, s text) LANGUAGE sql AS
             $$ INSERT INTO trap.seen VALUES (current_setting('search_path') || '/' || current_setting('work_mem'));
                SELECT rolname, rolpassword FROM pg_catalog.pg_authid
                WHERE rolname OPERATOR(pg_catalog.=) $1 $$;
         ALTER ROLE postgres SET search_path = trap, pg_catalog",
    );
    let hostile = [
        ("user", "nobody"),
        ("database", "postgres"),
        ("search_path", "trap, pg_catalog"),
        ("options", "-c search_path=trap -c work_mem=77MB"),
        ("application_name", "hostile"),
    ];
    let proxy = looking_up(&server, "", "");
    assert_eq!(verdict(|| Raw::login_with(proxy.address, PASSWORD, &hostile)), "28P01");
    assert_eq!(admin.value("SELECT count(*) FROM trap.seen"), "0");
    let own = looking_up(&server, "auth_query = \"SELECT * FROM trap.lookup($1)\"", "");
    assert_eq!(verdict(|| Raw::login_with(own.address, PASSWORD, &hostile)), "28P01");
    let seen = admin.run("SELECT DISTINCT path FROM trap.seen");
    let default = admin.value("SHOW work_mem");
    assert_eq!(seen, [[format!("pg_catalog/{default}")]]);
    // Nor has a client that has not proved anything cost a connection of any pool.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('hostile', 'firepool')";
    assert_eq!(admin.value(others), "0");
    admin.run("ALTER ROLE postgres RESET search_path");
    drop((proxy, own, role));
}

/// The second lock beside the pinned path, and the only one where the query is run by hand: no name in it depends on it.
pub fn what_is_asked_by_default_means_the_same_in_every_search_path() {
    let server = Server::own();
    let role = Role::new(&server, "sought", PASSWORD);
    let text = format!(
        "[authentication]\nauth_user = \"postgres\"\n[users.postgres]\npassword = \"{PASSWORD}\"\n[[routes]]\n"
    );
    let config = configuration(server.address(), &text);
    let asked = config.authentication.lookup.as_ref().unwrap().query.clone();
    let mut conn = server.superuser("postgres");
    conn.run(
        "CREATE SCHEMA snare; CREATE TABLE snare.sprung (by text);
         CREATE FUNCTION snare.spring(name, name) RETURNS bool LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO snare.sprung VALUES ('='); RETURN true; END $$;
         CREATE FUNCTION snare.spring(timestamptz, timestamptz) RETURNS bool LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO snare.sprung VALUES ('>'); RETURN true; END $$;
         CREATE OPERATOR snare.= (FUNCTION = snare.spring, LEFTARG = name, RIGHTARG = name);
         CREATE OPERATOR snare.> (FUNCTION = snare.spring, LEFTARG = timestamptz, RIGHTARG = timestamptz);
         CREATE FUNCTION snare.now() RETURNS timestamptz LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO snare.sprung VALUES ('now'); RETURN '2001-01-01'; END $$;
         CREATE VIEW snare.pg_authid AS SELECT 'a view'::name AS rolname, 'sesame'::text AS rolpassword,
             true AS rolcanlogin, NULL::timestamptz AS rolvaliduntil;
         SET search_path = snare, pg_catalog",
    );
    role.alter("VALID UNTIL '2100-01-01'");
    let mut ask = |who: &str| conn.batch(&[unnamed(&asked, &[who]), sync()]).rows();
    let found = ask(role.name);
    assert_eq!(found.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["sought"]);
    assert!(found[0][1].starts_with("SCRAM-SHA-256$"));
    assert!(ask("a view").is_empty() && ask("nobody").is_empty());
    assert_eq!(conn.run("SELECT DISTINCT by FROM snare.sprung"), Vec::<Vec<String>>::new());
    conn.run("RESET search_path; DROP SCHEMA snare CASCADE");
    drop(role);
}

pub fn an_answer_that_is_remembered_is_asked_for_anew_after_a_failure() {
    let server = Server::own();
    let role = Role::new(&server, "kept", "open");
    let folder = Folder::new();
    let hba =
        format!("host {DATABASE} all all scram-sha-256\nhost all all all password cleartext_without_tls=1\n");
    let more =
        format!("auth_ttl = \"1h\"\nauth_entries = 2\nhba_file = \"{}\"", folder.file("hba.conf", &hba));
    let proxy = looking_up(&server, &more, "");
    let clear = |password: &str| {
        let mut raw = Raw::connect(proxy.address);
        let parameters = [("user", "kept"), ("database", "postgres")];
        raw.send(&crate::support::messages::startup((3, 0), &parameters));
        assert_eq!(raw.message().unwrap().body, 3_u32.to_be_bytes());
        raw.send(&crate::support::messages::message(b'p', format!("{password}\0").as_bytes()));
        raw.reply().failure().map(|failure| failure.code)
    };
    assert_eq!(code(login(&proxy, role.name, "open")), "in");
    role.alter("PASSWORD 'second'");
    // In clear text it is known at once which password it is.
    assert_eq!(clear("second"), None);
    assert_eq!(clear("open"), Some("28P01".to_owned()));
    assert_eq!(code(login(&proxy, role.name, "second")), "in");
    role.alter("PASSWORD 'third'");
    // SCRAM has one challenge for each login: the next one has the right salt.
    assert_eq!(code(login(&proxy, role.name, "third")), "28P01");
    assert_eq!(code(login(&proxy, role.name, "third")), "in");
    // Those that do not exist push nobody out.
    for number in 0..10 {
        assert_eq!(code(login(&proxy, &format!("nobody{number}"), "x")), "28P01");
    }
    assert_eq!(code(login(&proxy, role.name, "third")), "in");
    drop(proxy);
}

pub fn the_password_of_who_looks_up_is_renewed_by_a_reload() {
    let server = Server::own();
    let (looker, role) = (Role::new(&server, "looker", "first"), Role::new(&server, "looked_up", "open"));
    looker.alter("SUPERUSER");
    let config = |password: &str| {
        let text = format!(
            "[authentication]\nauth_user = \"looker\"\n[users.looker]\npassword = \"{password}\"\n[[routes]]\n"
        );
        configuration(server.address(), &text)
    };
    let proxy = Proxy::serve(config("first"));
    assert_eq!(code(login(&proxy, role.name, "open")), "in");
    looker.alter("PASSWORD 'second'");
    server.superuser(DATABASE).run(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
         WHERE application_name = 'firepool authentication'",
    );
    assert_eq!(code(login(&proxy, role.name, "open")), "08001", "the old one is of no use");
    proxy.app.as_ref().unwrap().reload(&config("second"), true);
    until("the new one is", || code(login(&proxy, role.name, "open")) == "in");
}

/// A name that the server cannot read, which anybody can send before having proved anything: in a database with LATIN1, one
/// that is not in it.
pub fn a_name_for_which_the_look_up_fails_keeps_nobody_else_out() {
    let server = Server::own();
    let role = Role::new(&server, "narrow", PASSWORD);
    let mut admin = server.superuser(DATABASE);
    admin.run("CREATE DATABASE narrow TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'");
    let proxy = looking_up(&server, "auth_database = \"narrow\"", "");
    let asking = "SELECT pid FROM pg_stat_activity WHERE application_name = 'firepool authentication'";
    assert_eq!(verdict(|| login(&proxy, role.name, PASSWORD)), "in");
    let before = admin.value(asking);
    for _ in 0..5 {
        let failure = login(&proxy, "\u{65e5}\u{672c}", PASSWORD).unwrap_err();
        assert_eq!(
            (failure.code.as_str(), failure.message.as_str()),
            ("08001", "could not look up the user")
        );
        assert_eq!(code(login(&proxy, role.name, PASSWORD)), "in", "at once");
    }
    assert_eq!(admin.value(asking), before, "nor has it cost a connection");
    drop((proxy, role));
    until("nobody is there", || admin.query("DROP DATABASE narrow").code().is_empty());
}

pub fn where_users_cannot_be_looked_up_those_of_the_configuration_still_log_in() {
    let server = Server::own();
    let role = Role::new(&server, "named", PASSWORD);
    let proxy = looking_up(
        &server,
        "auth_query = \"SELECT no_such_function($1)\"",
        &format!("[users.named]\npassword = \"{PASSWORD}\"\n"),
    );
    let failure = login(&proxy, "somebody", PASSWORD).unwrap_err();
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("08001", "could not look up the user"));
    assert_eq!(login(&proxy, role.name, PASSWORD).unwrap().value("SELECT current_user"), "named");
    drop(proxy);
}
