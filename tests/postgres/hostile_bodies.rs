//! Bodies of functions whose words hide what they do to a session.

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::server::DATABASE;
use crate::support::wait::until;

const TENANT: &str = "SELECT coalesce(current_setting('app.tenant', true), '')";

/// What the next client of a single server connection finds; `None` if the first is pinned to it.
fn found(fixture: &Fixture, sql: &str) -> Option<String> {
    let pinned = ["firepool_pins_total", "firepool_unpins_total"].map(|name| fixture.proxy.metric(name, ""));
    (pinned[0] <= pinned[1]).then(|| fixture.client().value(sql))
}

fn leaks(definitions: &[&str], sql: &str, asked: &str) -> Option<String> {
    let fixture = Fixture::transaction(1);
    let mut owner = Raw::login(fixture.server.address(), &fixture.role, DATABASE, &[]).unwrap();
    for definition in definitions {
        owner.run(definition);
    }
    let mut first = fixture.client();
    first.run("SELECT 1");
    first.run(sql);
    first.run("SELECT 1");
    found(&fixture, asked)
}

pub fn names_of_settings_that_are_put_together_are_nobody_elses() {
    let set = "CREATE FUNCTION sets(k text, v text) RETURNS text LANGUAGE sql AS \
         $$ SELECT set_config('app.' || k, v, false) $$";
    let leak = leaks(&[set], "SELECT sets('tenant', 'secret')", TENANT);
    assert!(leak.as_deref().unwrap_or_default().is_empty(), "{leak:?}");
    let set = set.replace("app.", "app.ten");
    let leak = leaks(&[&set], "SELECT sets('ant', 'secret')", TENANT);
    assert!(leak.as_deref().unwrap_or_default().is_empty(), "{leak:?}");
}

pub fn a_set_with_a_blank_within_its_name_is_nobody_elses() {
    let set = "CREATE FUNCTION sets() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET app . tenant = 'secret'; END $$";
    let leak = leaks(&[set], "SELECT sets()", TENANT);
    assert!(leak.as_deref().unwrap_or_default().is_empty(), "{leak:?}");
}

pub fn a_set_behind_the_word_update_is_nobody_elses() {
    for body in [
        "IF TG_OP = 'UPDATE' THEN SET app.tenant = 'secret'; END IF; RETURN NEW;",
        "-- for each update\n SET app.tenant = 'secret'; RETURN NEW;",
        "/* update */ SET app.tenant = 'secret'; RETURN NEW;",
    ] {
        let fires =
            format!("CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$");
        let definitions = [
            "CREATE TABLE t (n int)",
            "INSERT INTO t VALUES (1)",
            &fires,
            "CREATE TRIGGER fires BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fires()",
        ];
        let leak = leaks(&definitions, "UPDATE t SET n = 2", TENANT);
        assert!(leak.as_deref().unwrap_or_default().is_empty(), "{body} {leak:?}");
    }
}

pub fn a_table_in_the_temporary_schema_is_nobody_elses() {
    let makes = "CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS \
         $$ BEGIN CREATE TABLE pg_temp.hidden AS SELECT 42 AS n; END $$";
    for sql in ["SELECT makes()", "DO $$ BEGIN CREATE TABLE pg_temp.hidden AS SELECT 42 AS n; END $$"] {
        let leak = leaks(&[makes], sql, "SELECT coalesce(to_regclass('pg_temp.hidden')::text, '')");
        assert!(leak.as_deref().unwrap_or_default().is_empty(), "{sql} {leak:?}");
    }
}

pub fn a_called_function_with_dynamic_sql_is_looked_into() {
    let fixture = Fixture::transaction(1);
    let mut first = fixture.client();
    first.run(
        "CREATE FUNCTION runs(query text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE query; END $$",
    );
    first.run("SELECT 1");
    let oid = first.value("SELECT 'runs'::regproc::oid").parse().unwrap();
    let reply = first.batch(&[function_call(oid, &["SET app.tenant = 'secret'"])]);
    assert_eq!(reply.code(), "", "{reply:?}");
    first.run("SELECT 1");
    let leak = found(&fixture, TENANT);
    assert!(leak.as_deref().unwrap_or_default().is_empty(), "{leak:?}");
}

pub fn functions_that_run_what_a_string_names_are_looked_into() {
    let view = "CREATE VIEW v AS SELECT set_config('app.tenant', 'secret', false)";
    for sql in [
        "SELECT table_to_xml('v', false, false, '')",
        "SELECT table_to_xml_and_xmlschema('v', false, false, '')",
        "SELECT schema_to_xml(current_schema, false, false, '')",
    ] {
        let leak = leaks(&[view], sql, TENANT);
        assert!(leak.as_deref().unwrap_or_default().is_empty(), "{sql} {leak:?}");
    }
}

pub fn functions_of_extensions_that_run_a_string_are_looked_into() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    admin.run("CREATE SCHEMA IF NOT EXISTS foreign_tools; CREATE EXTENSION IF NOT EXISTS tablefunc SCHEMA foreign_tools; GRANT USAGE ON SCHEMA foreign_tools TO public");
    let mut first = fixture.client();
    first.run("SELECT 1");
    let reply = first.query("SELECT * FROM foreign_tools.crosstab('SELECT set_config(''app.tenant'', ''secret'', false), ''a''::text, ''b''::text') AS c(a text, b text)");
    assert_eq!(reply.code(), "", "{reply:?}");
    first.run("SELECT 1");
    let leak = found(&fixture, TENANT);
    assert!(leak.as_deref().unwrap_or_default().is_empty(), "{leak:?}");
}

/// DISCARD ALL does not undo it: the connection has to be closed.
pub fn what_no_discard_undoes_is_not_handed_on_when_its_client_leaves() {
    let ways: [fn(&mut Raw); 2] =
        [|client| drop(client.run("DISCARD ALL")), |client| client.send(&terminate())];
    for leave in ways {
        let fixture = Fixture::transaction(1);
        let mut first = fixture.client();
        first.run("CREATE FUNCTION seeds() RETURNS void LANGUAGE sql AS 'SELECT setseed(0.5)'");
        first.run("SELECT seeds()");
        first.run("SELECT 1");
        leave(&mut first);
        let found = fixture.client().value("SELECT random()");
        let mut admin = fixture.superuser();
        admin.run("SELECT setseed(0.5)");
        assert_ne!(found, admin.value("SELECT random()"));
    }
}

/// Nothing in such a statement has a name by which it would be found.
pub fn the_function_of_an_operator_is_looked_into_though_nobody_has_looked_before() {
    let plus = "CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_config('app.tenant', 'secret', false); RETURN 1; END $$";
    let operator = "CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = plus)";
    let leak = leaks(&[plus, operator], "SELECT 1 ### 2", TENANT);
    assert!(leak.as_deref().unwrap_or_default().is_empty(), "{leak:?}");
}

pub fn a_table_that_is_temporary_by_its_functions_path_is_nobody_elses() {
    let makes = "CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql SET search_path = pg_temp AS \
         $$ BEGIN CREATE TABLE hidden AS SELECT 42 AS n; END $$";
    let leak = leaks(&[makes], "SELECT makes()", "SELECT coalesce(to_regclass('pg_temp.hidden')::text, '')");
    assert!(leak.as_deref().unwrap_or_default().is_empty(), "{leak:?}");
}

/// Whoever changes them may leave before they have changed, and stay on for long when they have.
pub fn definitions_are_looked_at_again_though_who_changes_them_does_not_wait_for_it() {
    let sets = "SELECT set_config('app.tenant', 'secret', false) AS t";
    let change = query(&format!("SELECT pg_sleep(0.5); CREATE OR REPLACE VIEW changed AS {sets}"));
    let (before, behind) = (query("SELECT 1"), query("SELECT pg_sleep(3)"));
    for requests in
        [[&*change, &terminate(), b""], [&*change, &behind, &terminate()], [&*before, &change, &behind]]
    {
        let fixture = Fixture::transaction(2);
        let (mut owner, mut first) = (fixture.client(), fixture.client());
        owner.run("CREATE VIEW changed AS SELECT ''::text AS t");
        let mut look = |times| (0..times).for_each(|_| drop(first.run("SELECT t FROM changed")));
        look(2);
        owner.send(&requests.concat());
        let mut watcher = Raw::login(fixture.server.address(), &fixture.role, DATABASE, &[]).unwrap();
        let running = "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND state = 'active' \
             AND query LIKE 'SELECT pg_sleep(0.5)%'";
        until("the change is under way", || watcher.value(running) == "1");
        look(1);
        let definition = "SELECT pg_get_viewdef('changed'::regclass) LIKE '%set_config%'";
        until("the view has changed", || watcher.value(definition) == "t");
        look(1);
        // One on each server connection.
        let mut others = [fixture.client(), fixture.client()];
        let seen = others.each_mut().map(|other| {
            other.run("BEGIN");
            other.value(TENANT)
        });
        assert_eq!(seen, ["", ""], "{requests:?}");
    }
}
