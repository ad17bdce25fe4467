//! Programs of PostgreSQL's own on a read-only route: they print what they print without a proxy.

use std::process::{Command, Output};

use super::ground::{Ground, ROUTE};
use crate::support::server::{DATABASE, PASSWORD, Server};

/// The backslash commands of psql that ask the server something.
const COMMANDS: &str = r"
\d
\d t
\d+ t
\d+ v
\d+ m
\d+ q
\dt+
\dv+
\dm+
\ds+
\di+
\df
\df+
\df+ reads
\sf reads
\sv v
\da
\dn+
\dp
\ddp
\l+
\du+
\dx+
\dT+
\dTS int4
\dC
\dc
\dD
\dd
\des+
\deu+
\dew+
\det+
\dF+
\dFd+
\dFp
\dFt
\dL+
\do
\dO
\dP+
\drds
\dRp+
\dRs+
\dy+
\db+
\dconfig work_mem
\dA+
\dAc btree int4
\dAf btree int4
\dAo btree integer_ops
\dAp btree integer_ops
\dX
\lo_list
\encoding
\conninfo
\crosstabview
SELECT i, s, i FROM t \crosstabview
SELECT * FROM t \gdesc
SELECT 'SELECT 1' \gexec
\copy t TO STDOUT
\set ON_ERROR_ROLLBACK on
BEGIN;
TABLE t;
COMMIT;
\set FETCH_COUNT 2
SELECT * FROM t ORDER BY i;
\timing off
\x
TABLE t;
";

fn run(ground: &Ground, program: &str, arguments: &[&str], direct: bool) -> Output {
    let address = if direct { ground.fixture.server.address() } else { ground.fixture.proxy.address };
    let programs = ground.fixture.server.programs();
    let mut command = Command::new(programs.bindir.join(program));
    command
        .env("PGPASSWORD", PASSWORD)
        .env("PGDATABASE", DATABASE)
        .env("PGUSER", &ground.fixture.role)
        .env("PGHOST", address.ip().to_string())
        .env("PGPORT", address.port().to_string())
        .args(arguments);
    command.output().unwrap()
}

/// What a program prints directly and through the proxy; it must succeed.
fn compare(ground: &Ground, program: &str, arguments: &[&str]) {
    let outputs = [true, false].map(|direct| run(ground, program, arguments, direct));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let [direct, ours] =
        outputs.map(|output| (output.status.success(), text(&output.stdout), text(&output.stderr)));
    let plain = |text: &str| {
        // What psql says of the connection itself, and a word that pg_dump makes up each time.
        let differs = ["You are connected", "\\restrict", "\\unrestrict"];
        let lines = text.lines().filter(|line| !differs.iter().any(|word| line.starts_with(word)));
        lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    assert!(direct.0, "{arguments:?}: {}", direct.2);
    assert_eq!(ours.2, direct.2, "{program} {arguments:?}");
    assert_eq!(plain(&ours.1), plain(&direct.1), "{program} {arguments:?}");
    assert!(ours.0);
}

pub fn the_backslash_commands_of_psql_print_what_they_print_without_a_proxy() {
    for route in [ROUTE, super::strict::ROUTE] {
        let server = Server::own();
        let ground = Ground::new(&server, route);
        let script = ground.folder.join("commands.sql");
        std::fs::write(&script, COMMANDS).unwrap();
        compare(&ground, "psql", &["-X", "-f", script.to_str().unwrap()]);
    }
}

pub fn pg_dump_prints_what_it_prints_without_a_proxy() {
    for route in [ROUTE, super::strict::ROUTE] {
        let server = Server::shared();
        let ground = Ground::new(&server, route);
        let schema = format!("--schema={}", ground.fixture.role);
        compare(&ground, "pg_dump", &[&schema]);
        compare(&ground, "pg_dump", &[&schema, "--schema-only", "--no-owner"]);
        compare(&ground, "pg_dump", &[&schema, "--data-only", "--inserts", "--rows-per-insert=2"]);
        compare(&ground, "pg_dump", &[&schema, "--serializable-deferrable", "--quote-all-identifiers"]);
        compare(&ground, "pg_dump", &["--blobs", &schema]);
    }
}

pub fn a_check_warns_of_what_the_role_of_a_read_only_route_could_write() {
    let server = Server::own();
    let mut ground = Ground::new(&server, ROUTE);
    let role = ground.fixture.role.clone();
    let file = ground.folder.join("firepool.toml");
    let address = server.address();
    let text = format!(
        "[targets.main]\nhost = \"{}\"\nport = {}\n[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\n\
         database = \"{DATABASE}\"\nuser = \"{role}\"\naccess = \"read-only\"\n",
        address.ip(),
        address.port()
    );
    std::fs::write(&file, text).unwrap();
    let warned = || {
        let mut check = Command::new(env!("CARGO_BIN_EXE_firepool"));
        let output = check.args(["check", "--connect", "--config", file.to_str().unwrap()]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("logged in"), "{text}");
        let warnings = text.lines().filter(|line| line.contains("its route is read-only"));
        warnings.filter_map(|line| line.split(" and the role ").nth(1)).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(warned(), "owns relations: 5; may create in schemas: 1");
    ground.admin.run(&format!("ALTER ROLE {role} SUPERUSER"));
    assert_eq!(warned(), "is a superuser");
    ground.admin.run(&format!(
        "ALTER ROLE {role} NOSUPERUSER; REASSIGN OWNED BY {role} TO postgres; GRANT INSERT ON {role}.t TO {role};
         GRANT USAGE ON SCHEMA {role} TO {role}"
    ));
    assert_eq!(warned(), "may write to relations: 1");
    ground.admin.run(&format!("REVOKE INSERT ON {role}.t FROM {role}"));
    assert_eq!(warned(), "");
}
