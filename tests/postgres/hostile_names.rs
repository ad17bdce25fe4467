//! What a client does under the names that the proxy gives to statements.

use crate::support::fixture::Fixture;
use crate::support::messages::*;

/// Whoever looks into pg_prepared_statements finds how statements are called on the server.
pub fn a_statement_of_a_clients_own_under_a_shared_name_harms_nobody() {
    let fixture = Fixture::transaction(1);
    let (mut owner, mut thief) = (fixture.client(), fixture.client());
    let run = [bind("", "s", &[]), execute("", 0), sync()];
    owner.batch(&[parse("s", "SELECT 'mine' AS x"), sync()]);
    assert_eq!(owner.batch(&run).rows(), [["mine"]]);
    let names = "SELECT name FROM pg_prepared_statements WHERE statement LIKE 'SELECT ''mine''%'";
    let name = thief.value(names);
    thief.batch(&[parse(&name, "SELECT 'evil' AS x"), sync()]);
    assert_eq!(thief.run(&format!("EXECUTE {name}")), [["evil"]]);
    assert_eq!(owner.batch(&run).rows(), [["mine"]]);
    assert_eq!(thief.batch(&[parse(&name, "SELECT 'evil' AS x"), sync()]).code(), "42P05");
    assert_eq!(owner.batch(&run).rows(), [["mine"]]);
    thief.run("PREPARE taken AS SELECT 1; DEALLOCATE taken");
    thief.query(&format!("DO $$ BEGIN EXECUTE 'DEALLOCATE ' || quote_ident('{name}'); END $$"));
    assert_eq!(owner.batch(&run).rows(), [["mine"]]);
    let long = format!("SELECT 'evil' AS x, '{}'", "x".repeat(60_000));
    let mut other = fixture.client();
    other.batch(&[parse(&name, &long), sync()]);
    other.run("DISCARD ALL");
    assert_eq!(owner.batch(&run).rows(), [["mine"]]);
    other.batch(&[parse(&name, &long), sync()]);
    drop(other);
    assert_eq!(owner.batch(&run).rows(), [["mine"]]);
}
