//! Ways in which one client's session could once reach another's, each with the conversation that did it.

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::Raw;

/// 1. A pool resets a connection and prepares a statement in one write, as drivers do.
/// 2. The reset's answer must not make the statement forgotten: the connection is not free.
pub fn a_statement_that_is_prepared_behind_discard_all_is_still_its_clients_alone() {
    let fixture = Fixture::transaction(2);
    let (mut owner, mut thief) = (fixture.client(), fixture.client());
    owner.send(&[query("DISCARD ALL"), parse("mine", "SELECT 'secret'"), sync()].concat());
    assert_eq!(owner.reply().tags(), "CZ");
    assert_eq!(owner.reply().tags(), "1Z");
    for _ in 0..4 {
        let reply = thief.batch(&[bind("", "mine", &[]), execute("", 0), sync()]);
        assert_eq!(reply.code(), "26000");
    }
    assert_eq!(owner.batch(&[bind("", "mine", &[]), execute("", 0), sync()]).rows(), [["secret"]]);
}

/// 1. A client's startup packet sets search_path.
/// 2. It says DISCARD ALL with a query behind it in the same write.
/// 3. PostgreSQL resets to what the startup packet said, and so must what is pipelined behind it see it.
pub fn a_reset_leaves_a_client_with_its_startup_settings_at_once() {
    for mode in ["session", "transaction"] {
        let fixture = Fixture::new(&format!("mode = \"{mode}\"\npool_size = 1"));
        let mut client = fixture.login(&[("search_path", "pg_catalog")]).unwrap();
        for reset in ["DISCARD ALL", "RESET ALL"] {
            client.send(&[query(reset), query("SHOW search_path"), query("SELECT 1")].concat());
            assert_eq!(client.reply().code(), "", "{mode} {reset}");
            assert_eq!(client.reply().rows(), [["pg_catalog"]], "{mode} {reset}");
            assert_eq!(client.reply().rows(), [["1"]], "{mode} {reset}");
        }
    }
}

/// 1. A client names a role in its startup packet; the role is dropped.
/// 2. Its settings cannot be applied any more: what it sends must not run with another client's.
pub fn a_request_never_runs_with_settings_that_could_not_be_applied() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    let mut other = fixture.client();
    other.run("CREATE TABLE t (who text)");
    let user = other.value("SELECT current_user");
    let role = format!("{user}_lesser");
    admin.run(&format!("CREATE ROLE {role}; GRANT {role} TO {user}; GRANT ALL ON SCHEMA {user} TO {role}"));
    let mut lesser = fixture.login(&[("role", &role)]).unwrap();
    assert_eq!(lesser.value("SELECT current_user"), role);
    assert_eq!(other.value("SELECT current_user"), user);
    admin.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    let reply = lesser.query("INSERT INTO t VALUES (current_user)");
    assert_eq!((reply.code().as_str(), reply.ended), ("22023", true));
    assert_eq!(other.value("SELECT count(*) FROM t"), "0");
}

/// 1. A client has an encoding in which a byte swallows the one behind it.
/// 2. The next client's settings hold such a byte before a quote.
pub fn settings_mean_the_same_whatever_encoding_the_connection_had() {
    let fixture = Fixture::transaction(1);
    let tokyo = [("client_encoding", "SJIS"), ("backslash_quote", "on")];
    let mut tokyo = fixture.login(&tokyo).unwrap();
    let value = "schü\u{c3}\\',false), pg_catalog.set_config($$my.injected$$,$$yes$$,false)--";
    let mut other = fixture.login(&[("client_encoding", "UTF8"), ("my.value", value)]).unwrap();
    for _ in 0..3 {
        assert_eq!(tokyo.value("SELECT 1"), "1");
        assert_eq!(other.value("SELECT current_setting('my.value')"), value);
        assert_eq!(other.value("SELECT coalesce(current_setting('my.injected', true), 'none')"), "none");
    }
}

/// 1. A table gets another column, and the server has a statement with the old ones (0A000, "cached plan must not change
///    result type"; PostgreSQL says so again and again until the client parses the statement anew).
/// 2. So the proxy says, and who prepares the same statement now never hears of it, whoever has it on the connection.
pub fn a_statement_whose_columns_changed_fails_until_it_is_parsed_anew() {
    let fixture = Fixture::transaction(1);
    let (mut old, mut new) = (fixture.client(), fixture.client());
    old.run("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    let run = [bind("", "s", &[]), execute("", 0), sync()];
    old.batch(&[parse("s", "SELECT * FROM t"), sync()]);
    assert_eq!(old.batch(&run).rows(), [["1"]]);
    fixture.superuser().run(&format!("ALTER TABLE {}.t ADD COLUMN y int DEFAULT 2", fixture.role));
    for _ in 0..3 {
        assert_eq!(old.batch(&run).code(), "0A000");
    }
    assert_eq!(old.batch(&[close(b'S', "s"), parse("s", "SELECT * FROM t"), sync()]).tags(), "31Z");
    assert_eq!(old.batch(&run).rows(), [["1", "2"]]);
    fixture.superuser().run(&format!("ALTER TABLE {}.t ADD COLUMN z int DEFAULT 3", fixture.role));
    assert_eq!(new.batch(&[parse("s", "SELECT * FROM t"), sync()]).tags(), "1Z");
    assert_eq!(new.batch(&run).rows(), [["1", "2", "3"]], "it was parsed with two columns by the other");
    for _ in 0..3 {
        assert_eq!(old.batch(&run).code(), "0A000", "it was parsed with three columns by the other");
        assert_eq!(new.batch(&run).rows(), [["1", "2", "3"]]);
    }
    fixture.superuser().run(&format!("ALTER TABLE {}.t DROP COLUMN z", fixture.role));
    let mut third = fixture.client();
    let reply = third.batch(
        &[&[parse("t", "SELECT * FROM t")], &[bind("", "t", &[]), execute("", 0), sync()][..]].concat(),
    );
    assert_eq!((reply.tags().as_str(), reply.rows()), ("12DCZ", vec![vec!["1".to_owned(), "2".to_owned()]]));
}

/// 1. A statement is parsed on one server connection; its table gets another column, and a parameter another type.
/// 2. On the other server connection it is parsed for the first time: it would be another statement there.
/// 3. The client hears what it would hear on the first one: 0A000 with the words and the routine that drivers look for, in
///    a transaction that has failed; what yields no rows keeps the types that it had.
pub fn a_statement_means_the_same_on_a_server_connection_that_never_had_it() {
    let fixture = Fixture::transaction(2);
    // Each second client is of the same worker, and gets the same server connection first.
    let (mut client, _of_the_other_worker, mut other) =
        (fixture.client(), fixture.client(), fixture.client());
    let one = 1_i32.to_be_bytes();
    let binds = |name: &str| [bind_binary("", name, &[Some(&one)]), execute("", 0), sync()];
    client.run("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    client.batch(&[parse("s", "SELECT * FROM t WHERE n = $1"), describe(b'S', "s"), sync()]);
    client.batch(&[parse("w", "UPDATE t SET n = $1"), sync()]);
    let backend = client.backend();
    client.batch(&[parse("", "SELECT * FROM t WHERE n = $1"), describe(b'S', ""), sync()]);
    assert_eq!(client.batch(&binds("")).rows(), [["\0\0\0\u{1}"]]);
    let admin = &mut fixture.superuser();
    let role = &fixture.role;
    admin.run(&format!("ALTER TABLE {role}.t ADD COLUMN y int, ALTER n TYPE bigint"));
    other.run("BEGIN");
    assert_eq!(other.backend(), backend, "the first connection is the other client's");
    let reply = client.batch(&[describe(b'S', "s"), sync()]);
    assert_eq!((reply.code().as_str(), reply.status()), ("0A000", 'I'));
    for name in ["s", "s", "", ""] {
        let reply = client.batch(&binds(name));
        let error = reply.messages[0].strings(0);
        let said: Vec<_> = ["SERROR", "VERROR", "C0A000", "RRevalidateCachedQuery"].map(str::to_owned).into();
        assert!(said.iter().all(|field| error.contains(field)), "{name}: {reply:?}");
        assert!(error.iter().any(|field| field == "Mcached plan must not change result type"));
        assert_eq!((reply.tags().as_str(), reply.status()), ("EZ", 'I'), "{name}");
    }
    assert_eq!(client.batch(&binds("w")).commands(), ["UPDATE 1"]);
    client.run("BEGIN");
    assert_eq!(client.batch(&binds("s")).status(), 'E');
    client.run("ROLLBACK");
    assert_ne!(client.backend(), backend);
    assert_eq!(fixture.proxy.metric("firepool_refusals_total", "result_changed"), 6.0);
}

/// 1. A client knows, or guesses, how statements are called on the server.
/// 2. It must not find another client's there, nor the proxy's own.
pub fn nothing_is_found_under_the_proxys_own_names() {
    let fixture = Fixture::transaction(1);
    let (mut owner, mut thief) = (fixture.client(), fixture.client());
    owner.batch(&[parse("s", "SELECT 'secret'"), sync()]);
    owner.run("SET app.secret = 'secret'");
    for batch in [bind("", "fp_own", &[]), describe(b'S', "fp_own")] {
        assert_eq!(thief.batch(&[batch, sync()]).code(), "26000");
    }
    assert_eq!(thief.query("EXECUTE fp_own").code(), "26000");
}

/// 1. A client sends a query and Terminate in one write.
/// 2. PostgreSQL works off everything before Terminate, and so must the proxy.
pub fn what_was_asked_before_terminate_is_done() {
    let fixture = Fixture::transaction(1);
    let mut client = fixture.client();
    client.run("CREATE TABLE t (n int)");
    client.send(&[query("INSERT INTO t SELECT 1 FROM pg_sleep(0.2)"), terminate()].concat());
    assert_eq!(client.message(), None);
    assert_eq!(fixture.client().value("SELECT count(*) FROM t"), "1");
}

/// 1. A client leaves a LISTEN behind that no command tag shows.
/// 2. Whoever has the connection next must not be told what it did not ask for.
pub fn a_notification_that_nobody_asked_for_reaches_nobody() {
    let fixture = Fixture::transaction(1);
    let (mut first, mut second) = (fixture.client(), fixture.client());
    first.run("CREATE FUNCTION listen() RETURNS int LANGUAGE plpgsql AS $$ BEGIN LISTEN c; RETURN 1; END $$");
    first.run("SELECT listen()");
    let reply = second.query("NOTIFY c");
    assert!(!reply.tags().contains('A'), "{reply:?}");
}

/// The rows of a query that a client's own limit may cancel a few times.
#[track_caller]
fn in_time(client: &mut Raw, sql: &str) -> Vec<Vec<String>> {
    for _ in 0..50 {
        let reply = client.query(sql);
        if reply.code() != "57014" {
            assert!(reply.failure().is_none() && !reply.ended, "{sql}: {reply:?}");
            return reply.rows();
        }
    }
    panic!("{sql}: never within its limit");
}

/// 1. A client limits its statements to a millisecond, or has transactions wait for a snapshot.
/// 2. What the proxy asks the server behind the client's transactions must not suffer from it. What the client itself
///    asks may: a busy machine takes longer than a millisecond.
pub fn the_proxys_own_questions_do_not_suffer_from_a_clients_limits() {
    let fixture = Fixture::transaction(1);
    let mut other = fixture.client();
    for limit in [
        "SET statement_timeout = '1ms'",
        "SET lock_timeout = '1ms'",
        "SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = on; \
         SET default_transaction_deferrable = on",
    ] {
        let mut client = fixture.client();
        client.run(limit);
        for n in 0..30 {
            in_time(&mut client, &format!("SET work_mem = '{}kB'", 100 + n));
            assert_eq!(other.value("SHOW work_mem"), "4MB");
            assert_eq!(in_time(&mut client, "SHOW work_mem"), [[format!("{}kB", 100 + n)]]);
            in_time(&mut client, "SELECT pg_advisory_lock(1)");
            in_time(&mut client, "SELECT pg_advisory_unlock_all()");
        }
    }
}
