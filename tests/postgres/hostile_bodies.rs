//! Bodies of functions whose words hide what they do to a session.

use crate::support::fixture::Fixture;
use crate::support::messages::*;

const TENANT: &str = "SELECT coalesce(current_setting('app.tenant', true), '')";

/// What the next client of a single server connection finds; `None` if the first is pinned to it.
fn found(fixture: &Fixture, sql: &str) -> Option<String> {
    let pinned = ["firepool_pins_total", "firepool_unpins_total"].map(|name| fixture.proxy.metric(name, ""));
    (pinned[0] <= pinned[1]).then(|| fixture.client().value(sql))
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
