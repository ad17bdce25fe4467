//! Ways in which a hostile reader found one client's state in another's session, or a client's own lost.

use crate::support::fixture::{Fixture, Proxy};
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::until;

/// A pool of two connections, so that one client may be pinned, and two clients of it.
fn two() -> (Fixture, Raw, Raw) {
    let fixture = Fixture::transaction(2);
    let (first, second) = (fixture.client(), fixture.client());
    (fixture, first, second)
}

/// What everybody else sees: a client on each connection of the pool that is not `owner`'s alone.
fn seen_by_others(fixture: &Fixture, owner: &mut Raw, sql: &str) -> Vec<String> {
    owner.run("SELECT 1");
    let pinned = ["firepool_pins_total", "firepool_unpins_total"].map(|name| fixture.proxy.metric(name, ""));
    let free = if pinned[0] > pinned[1] { 1 } else { 2 };
    let mut clients: Vec<_> = (0..free).map(|_| fixture.client()).collect();
    clients.iter_mut().for_each(|client| drop(client.run("BEGIN")));
    clients.iter_mut().map(|client| client.value(sql)).collect()
}

#[track_caller]
fn nobody_else_has_a_tenant(fixture: &Fixture, owner: &mut Raw) {
    assert!(seen_by_others(fixture, owner, TENANT).iter().all(String::is_empty));
}

const TENANT: &str = "SELECT coalesce(current_setting('app.tenant', true), '')";

/// PostgreSQL takes an unfinished batch back when its client goes away; closing it with a Sync would commit it.
pub fn a_batch_that_was_never_synced_is_taken_back_when_its_client_leaves() {
    let (_fixture, mut owner, mut other) = two();
    owner.run("CREATE TABLE t (n int)");
    for end in [&b""[..], &terminate()] {
        let mut client = _fixture.client();
        client.send(&[unnamed("INSERT INTO t VALUES (1)", &[]), flush()].concat());
        let reply = client.reply_until(b'C');
        assert_eq!(reply.commands(), ["INSERT 0 1"], "{reply:?}");
        client.send(end);
        drop(client);
        assert_eq!(other.value("SELECT count(*) FROM t"), "0");
    }
}

pub fn what_an_unnamed_statement_does_is_noted_whenever_it_is_bound() {
    let (fixture, mut first, _) = two();
    let set = "SELECT set_config('app.tenant', $1, false)";
    first.batch(&[parse("", set), describe(b'S', ""), sync()]);
    assert_eq!(first.batch(&[bind("", "", &["first"]), execute("", 0), sync()]).rows(), [["first"]]);
    nobody_else_has_a_tenant(&fixture, &mut first);
    assert_eq!(first.value(TENANT), "first");
}

/// Functions, triggers, views, defaults and functions with the names of PostgreSQL's own: no text tells what they do.
pub fn what_definitions_do_to_a_session_stays_with_its_client() {
    let (fixture, mut first, _) = two();
    first.run(
        "CREATE FUNCTION set_tenant(t text) RETURNS void LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_config('app.tenant', t, false); END $$",
    );
    first.run("CREATE TABLE t (n int); CREATE TABLE d (n int, x text)");
    first.run(
        "CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_tenant('by trigger'); RETURN new; END $$",
    );
    first.run("CREATE TRIGGER fires BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fired()");
    first.run("CREATE VIEW v AS SELECT set_config('app.tenant', 'by view', false)");
    for (sql, tenant) in [
        ("SELECT set_tenant('by function')", "by function"),
        ("INSERT INTO t VALUES (1)", "by trigger"),
        ("SELECT * FROM v", "by view"),
    ] {
        first.run(sql);
        nobody_else_has_a_tenant(&fixture, &mut first);
        assert_eq!(first.value(TENANT), tenant, "{sql}");
        first.run("DISCARD ALL");
    }
}

/// The same through everything between a statement and the function, by clients of a proxy that has not looked yet.
pub fn what_definitions_do_by_way_of_others_stays_with_its_client() {
    let (fixture, mut first, _) = two();
    let mut owner = Raw::login(fixture.server.address(), &fixture.role, DATABASE, &[]).unwrap();
    for sql in [
        "CREATE FUNCTION innermost(t text) RETURNS text LANGUAGE plpgsql AS \
         $$ BEGIN RETURN set_config('app.tenant', t, false); END $$",
        "CREATE FUNCTION middle(t text) RETURNS text LANGUAGE sql AS 'SELECT innermost(t)'",
        "CREATE FUNCTION outermost(t text) RETURNS text LANGUAGE plpgsql AS \
         $$ BEGIN RETURN Middle(t); END $$",
        "CREATE FUNCTION standard(t text) RETURNS text BEGIN ATOMIC SELECT set_config('app.tenant', t, false); END",
        "CREATE VIEW below AS SELECT innermost('by view') AS tenant",
        "CREATE VIEW above AS SELECT * FROM below",
        "CREATE TABLE defaults (n int, tenant text DEFAULT outermost('by default'))",
        "CREATE DOMAIN checked AS text CHECK (innermost(VALUE) <> '')",
        "CREATE TABLE conditions (tenant checked)",
        "CREATE TABLE parent (n int PRIMARY KEY)",
        "CREATE TABLE child (n int REFERENCES parent ON DELETE CASCADE)",
        "CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM outermost('by cascade'); RETURN old; END $$",
        "CREATE TRIGGER fires AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION fires()",
        "INSERT INTO parent VALUES (1), (2)",
        "INSERT INTO child VALUES (1)",
        "CREATE TABLE person (first text, last text)",
        "INSERT INTO person VALUES ('by', 'attribute')",
        "CREATE FUNCTION whole_name(p person) RETURNS text LANGUAGE sql AS \
         $$ SELECT innermost(p.first || ' ' || p.last) $$",
        "CREATE FUNCTION does(query text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE query; END $$",
    ] {
        owner.run(sql);
    }
    for (sql, tenant) in [
        ("SELECT * FROM above", "by view"),
        ("SELECT outermost('by function')", "by function"),
        ("SELECT standard('by standard')", "by standard"),
        ("INSERT INTO defaults VALUES (1)", "by default"),
        ("SELECT 'by domain'::checked", "by domain"),
        ("INSERT INTO conditions VALUES ('by column')", "by column"),
        ("DELETE FROM parent WHERE n = 1", "by cascade"),
        ("SELECT p.whole_name FROM person p", "by attribute"),
        ("SELECT does('SELECT innermost(''by execute'')')", "by execute"),
    ] {
        first.run(sql);
        nobody_else_has_a_tenant(&fixture, &mut first);
        assert_eq!(first.value(TENANT), tenant, "{sql}");
        first.run("DISCARD ALL");
    }
}

/// Nobody can ask for settings whose names are made up as a function runs.
pub fn what_dynamic_sql_sets_is_nobody_elses() {
    let (fixture, mut first, _) = two();
    first.run(
        "CREATE FUNCTION runs(query text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE query; END $$",
    );
    for sql in [
        "SELECT runs('SET app.unlisted = ''secret''')",
        "DO $$ BEGIN EXECUTE 'SE' || 'T app.unlisted = ''secret'''; END $$",
    ] {
        first.run(sql);
        let unlisted = "SELECT coalesce(current_setting('app.unlisted', true), '')";
        let others = seen_by_others(&fixture, &mut first, unlisted);
        assert!(others.iter().all(String::is_empty), "{others:?}");
    }
    assert_eq!(fixture.proxy.metric("firepool_pins_total", ""), 0.0);
}

pub fn a_do_block_costs_its_client_no_connection_of_its_own() {
    let (fixture, mut first, _) = two();
    first.run(
        "DO $$ BEGIN CREATE TABLE made (n int); PERFORM set_config('app.tenant', 'by do', false); END $$",
    );
    nobody_else_has_a_tenant(&fixture, &mut first);
    assert_eq!(first.value(TENANT), "by do");
    assert_eq!(fixture.proxy.metric("firepool_pins_total", ""), 0.0);
}

/// What nobody reads may set anything.
pub fn what_a_long_text_sets_is_nobody_elses() {
    let (fixture, mut first, _) = two();
    first.run(&format!("SET app.tenant = 'first'; SELECT '{}'", "x".repeat(60_000)));
    nobody_else_has_a_tenant(&fixture, &mut first);
}

/// A migration changes them as one user, and services use them as another.
pub fn definitions_are_looked_at_again_when_a_client_of_another_pool_has_changed_them() {
    for mode in ["transaction", "session"] {
        let server = Server::shared();
        let (owner, user) = (server.role(), server.role());
        server.superuser(DATABASE).run(&format!("GRANT {owner} TO {user}"));
        let users =
            [&owner, &user].map(|role| format!("[users.{role}]\npassword = \"{PASSWORD}\"\n")).concat();
        let routes = [(&owner, mode), (&user, "transaction")].map(|(role, mode)| {
            format!(
                "[[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"{role}\"\nmode = \"{mode}\"\npool_size = 1\n"
            )
        });
        let text = format!("[proxy]\nworkers = 2\n{users}[databases.{DATABASE}]\n{}", routes.concat());
        let proxy = Proxy::start(&server, &text);
        let client = |role: &str| Raw::login(proxy.address, role, DATABASE, &[]).unwrap();
        let (mut migration, mut first, mut second) = (client(&owner), client(&user), client(&user));
        migration.run("CREATE TABLE handed_over (n int)");
        let select = format!("SELECT * FROM {owner}.handed_over");
        first.run(&select);
        let touched = "set_config('app.tenant', 'first', false)";
        migration.run(&format!("DROP TABLE handed_over; CREATE VIEW handed_over AS SELECT {touched}"));
        migration.run("SELECT 1");
        first.run(&select);
        assert_eq!(second.value(TENANT), "", "{mode}");
        assert_eq!(first.value(TENANT), "first", "{mode}");
    }
}

/// What touches a session costs those only who use it.
pub fn statements_that_use_no_such_definition_are_not_asked_about() {
    let (fixture, mut first, _) = two();
    first.run("CREATE TABLE innocent (n int)");
    first.run(
        "CREATE FUNCTION touches() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', 'x', false) $$",
    );
    let asked = |first: &mut Raw, sql: &str| {
        let before = fixture.proxy.metric("firepool_session_questions_total", "");
        first.run(sql);
        // Served once that is settled.
        first.run("SELECT 1");
        fixture.proxy.metric("firepool_session_questions_total", "") > before
    };
    assert!(asked(&mut first, "SELECT touches()"));
    for sql in ["SELECT n FROM innocent", "INSERT INTO innocent VALUES (1)", "SELECT lower('X')"] {
        assert!(!asked(&mut first, sql), "{sql}");
    }
}

pub fn what_a_function_does_to_the_role_stays_with_its_client() {
    let (fixture, mut first, _) = two();
    let role = format!("{}_other", fixture.role);
    fixture.superuser().run(&format!("CREATE ROLE {role}; GRANT {role} TO {}", fixture.role));
    first.run(&format!(
        "CREATE FUNCTION become() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET ROLE {role}; END $$"
    ));
    first.run("SELECT become()");
    let others = seen_by_others(&fixture, &mut first, "SELECT current_user");
    assert!(others.iter().all(|user| *user == fixture.role), "{others:?}");
    assert_eq!(first.value("SELECT current_user"), role);
}

pub fn sql_execute_does_what_its_statement_does() {
    let (fixture, mut first, _) = two();
    first.batch(&[parse("s", "SELECT set_config('app.tenant', $1, false)"), sync()]);
    first.run("EXECUTE s('protocol')");
    nobody_else_has_a_tenant(&fixture, &mut first);
    assert_eq!(first.value(TENANT), "protocol");
    first.run("PREPARE q AS SELECT set_config('app.tenant', 'sql', false)");
    first.run("EXECUTE q");
    first.run("DEALLOCATE q");
    nobody_else_has_a_tenant(&fixture, &mut first);
    assert_eq!(first.value(TENANT), "sql");
}

pub fn a_table_that_is_temporary_by_its_path_is_its_clients_alone() {
    let (fixture, mut first, mut second) = two();
    first.run("SET search_path = '$user', pg_temp");
    first.run(&format!("SET search_path = nowhere_{}, pg_temp", fixture.role));
    first.run("CREATE TABLE secret AS SELECT 42 AS n");
    let mut third = fixture.login(&[("options", "-c search_path=pg_temp")]).ok();
    assert_eq!(first.value("SELECT n FROM secret"), "42");
    first.run("DROP TABLE secret");
    let reply = second.query("SELECT n FROM secret");
    let pins = |reason| {
        fixture.proxy.metric("firepool_pins_total", reason)
            - fixture.proxy.metric("firepool_unpins_total", reason)
    };
    assert_eq!(
        reply.code(),
        "42P01",
        "{reply:?} temp {} opaque {} setting {} clients {}",
        pins("temp_object"),
        pins("opaque"),
        pins("setting"),
        fixture.proxy.metric("firepool_clients", "active")
    );
    if let Some(third) = &mut third {
        third.run("CREATE TABLE secret AS SELECT 43 AS n; DROP TABLE secret");
    }
    assert_eq!(second.query("SELECT n FROM secret").code(), "42P01");
}

pub fn a_hundred_settings_of_its_own_stay_with_their_client() {
    let fixture = Fixture::transaction(2);
    let (mut first, mut second) = (fixture.client(), fixture.client());
    let sets: Vec<_> = (0..120).map(|n| format!("SET app.x{n} = 'first'")).collect();
    first.run(&sets.join(";"));
    for n in [0, 60, 119] {
        assert_eq!(second.value(&format!("SELECT coalesce(current_setting('app.x{n}', true), '')")), "");
        assert_eq!(first.value(&format!("SELECT current_setting('app.x{n}')")), "first");
    }
}

pub fn lastval_never_tells_another_clients_number() {
    let (_fixture, mut first, mut second) = two();
    first.run("CREATE SEQUENCE s");
    assert_eq!(second.query("SELECT lastval()").code(), "55000");
    second.run("DISCARD ALL");
    for _ in 0..3 {
        first.run("SELECT nextval('s')");
        let mut other = _fixture.client();
        other.run("BEGIN");
        assert_eq!(other.query("SELECT lastval()").code(), "55000");
        other.run("ROLLBACK");
    }
}

/// The server keeps the answers of an open batch to itself: whoever waits for them before closing it waits forever.
pub fn pipelines_that_use_what_they_have_just_prepared_do_not_hang() {
    let fixture = Fixture::transaction(1);
    let mut first = fixture.client();
    let run = |name: &str| [bind("", name, &[]), execute("", 0)].concat();
    let one = "SELECT 1";
    first.send(&[parse("s", one), sync(), parse("t", one), run("s"), sync()].concat());
    assert_eq!((first.reply().tags(), first.reply().tags()), ("1Z".to_owned(), "12DCZ".to_owned()));
    first.send(&[parse("u", one), sync(), parse("", one), run(""), run("u"), sync()].concat());
    assert_eq!((first.reply().tags(), first.reply().tags()), ("1Z".to_owned(), "12DC2DCZ".to_owned()));
    first.send(&[parse("", one), sync(), parse("v", one), run(""), sync()].concat());
    assert_eq!((first.reply().tags(), first.reply().tags()), ("1Z".to_owned(), "12DCZ".to_owned()));
    first.send(&[query("DEALLOCATE s"), parse("", one), run(""), run("s"), sync()].concat());
    assert_eq!(
        (first.reply().commands(), first.reply().code()),
        (vec!["DEALLOCATE".to_owned()], "26000".into())
    );
    first.send(&[bind("", "nope", &[]), query("DEALLOCATE ALL"), describe(b'S', "t"), sync()].concat());
    assert_eq!(first.reply().tags(), "EZ");
    assert_eq!(first.batch(&[run("t"), sync()]).rows(), [["1"]]);
}

pub fn a_deallocate_that_was_skipped_removes_nothing() {
    let fixture = Fixture::transaction(1);
    let mut first = fixture.client();
    first.batch(&[parse("s", "SELECT 1"), sync()]);
    let deallocate = unnamed("DEALLOCATE s", &[]);
    first.batch(&[bind("", "nope", &[]), deallocate, parse("s", "SELECT 2"), sync()]);
    assert_eq!(first.batch(&[bind("", "s", &[]), execute("", 0), sync()]).rows(), [["1"]]);
}

pub fn a_question_that_the_server_does_not_answer_pins_and_does_not_end_the_session() {
    let fixture = Fixture::transaction(2);
    let (mut first, mut second) = (fixture.client(), fixture.client());
    assert_eq!(first.query("SET session_preload_libraries = 'x'").code(), "42501");
    assert_eq!(first.value("SELECT 'still here'"), "still here");
    second.run(&format!("SET app.token = '{}'", "x".repeat(40_000)));
    assert_eq!(second.value("SELECT length(current_setting('app.token'))"), "40000");
    until("the pins are counted", || fixture.proxy.metric("firepool_pins_total", "opaque") >= 1.0);
}

pub fn a_seed_is_not_handed_on() {
    let fixture = Fixture::transaction(1);
    let mut first = fixture.client();
    first.run("SELECT setseed(0.5)");
    let numbers = first.value("SELECT random()");
    first.run("SELECT setseed(0.5)");
    first.run("DISCARD ALL");
    drop(first);
    assert_ne!(fixture.client().value("SELECT random()"), numbers);
}
