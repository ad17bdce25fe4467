//! The cases, and the ground on which they are sent: tables of the role's own, and an eye on everything that could
//! change.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::fixture::{Fixture, Lines};
use crate::support::messages::{self as msg};
use crate::support::raw::{Raw, Reply};
use crate::support::server::{DATABASE, PASSWORD, Server};

/// `read_only_sql_transaction`
pub const READ_ONLY: &str = "25006";

/// How many large objects were numbered.
static OBJECTS: AtomicU32 = AtomicU32::new(0);

pub const ROUTE: &str = "access = \"read-only\"\npool_size = 3";

/// One case of the corpus.
#[derive(Debug)]
pub struct Case {
    /// The heading that it stands under, and its line.
    pub group: &'static str,
    pub line: usize,
    /// It goes as simple queries only.
    pub simple: bool,
    pub steps: Vec<&'static str>,
}

/// The cases of a file.
pub fn cases(text: &'static str) -> Vec<Case> {
    let (mut group, mut simple, mut cases) = ("", false, Vec::<Case>::new());
    let mut starts: Vec<(usize, usize, usize)> = Vec::new();
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match line.as_bytes()[0] {
            b'#' | b'\n' => {}
            b'=' => {}
            b' ' | b'\t' => starts.last_mut().unwrap().1 = at + line.trim_end().len(),
            _ => starts.push((at, at + line.trim_end().len(), number + 1)),
        }
        if let Some(heading) = line.strip_prefix("== ") {
            take(text, &mut starts, (group, simple), &mut cases);
            let mut words = heading.split_whitespace();
            (group, simple) = (words.next().unwrap(), words.next() == Some("simple"));
        }
        at += line.len();
    }
    take(text, &mut starts, (group, simple), &mut cases);
    cases
}

fn take(
    text: &'static str,
    starts: &mut Vec<(usize, usize, usize)>,
    (group, simple): (&'static str, bool),
    cases: &mut Vec<Case>,
) {
    for (start, end, line) in starts.drain(..) {
        cases.push(Case { group, line, simple, steps: text[start..end].split(" ;;; ").collect() });
    }
}

/// Tables of a role's own, a proxy in front of them, and an eye on everything that could change.
pub struct Ground {
    pub fixture: Fixture,
    pub admin: Raw,
    pub folder: PathBuf,
    /// Its large object.
    object: u32,
    /// Nothing was taken away yet, so that all of the state can be read.
    whole: bool,
}

impl Ground {
    pub fn new(server: &Arc<Server>, route: &str) -> Self {
        let fixture = Fixture::on(Arc::clone(server), Lines { route, ..Lines::default() });
        let mut admin = fixture.superuser();
        admin.run("LISTEN corpus");
        let folder =
            std::env::temp_dir().join(format!("firepool-guard-{}-{}", std::process::id(), fixture.role));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let object = 70_001 + OBJECTS.fetch_add(1, Ordering::Relaxed);
        let mut ground = Self { fixture, admin, folder, object, whole: true };
        ground.fill();
        ground.state();
        ground.whole = false;
        ground
    }

    /// Makes everything anew.
    pub fn fill(&mut self) {
        let (role, object) = (&self.fixture.role, self.object);
        let schema = format!(
            "SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE lomowner = '{role}'::regrole; DROP SCHEMA IF EXISTS {role} CASCADE;
             CREATE SCHEMA AUTHORIZATION {role}; SET SESSION AUTHORIZATION {role};
             CREATE TABLE t (i int PRIMARY KEY, s text);
             INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL);
             CREATE TABLE u (i int); INSERT INTO u VALUES (2), (4);
             CREATE VIEW v AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT 1 AS i; CREATE SEQUENCE q;
             CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t';
             CREATE FUNCTION reads_row(t) RETURNS text LANGUAGE sql AS 'SELECT $1.s';
             CREATE FUNCTION writes() RETURNS int LANGUAGE sql
               AS 'INSERT INTO {role}.t SELECT max(i) + 1, ''w'' FROM {role}.t RETURNING i';
             CREATE PROCEDURE proc() LANGUAGE sql AS 'DELETE FROM t';
             CREATE PROCEDURE proc_sets() LANGUAGE plpgsql
               AS 'BEGIN COMMIT; SET TRANSACTION READ WRITE; DELETE FROM t; COMMIT; END';
             SELECT lo_from_bytea({object}, 'large'); RESET SESSION AUTHORIZATION"
        );
        self.admin.run(&schema);
        for entry in fs::read_dir(&self.folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    /// Everything that a client could change, in words.
    pub fn state(&mut self) -> String {
        let role = &self.fixture.role;
        let listed = |what: &str, from: &str| {
            format!("(SELECT coalesce(string_agg({what}, ' ' ORDER BY {what}), '') FROM {from})")
        };
        let columns = [
            listed("x::text", &format!("{role}.t AS x")),
            listed("x::text", &format!("{role}.u AS x")),
            listed("x::text", &format!("{role}.m AS x")),
            format!("(SELECT (last_value, is_called)::text FROM {role}.q)"),
            listed("(oid, md5(lo_get(oid)))::text", "pg_largeobject_metadata"),
            listed(
                "(oid, relname, relowner, relacl, relchecks, relhasrules, relhastriggers, relrowsecurity)::text",
                "pg_class WHERE oid >= 16384",
            ),
            listed("(oid, proname, prosrc, proacl)::text", "pg_proc WHERE oid >= 16384"),
            listed("(oid, typname)::text", "pg_type WHERE oid >= 16384"),
            listed("(oid, nspname, nspacl)::text", "pg_namespace"),
            listed("(oid, rolname, rolsuper, rolcreatedb)::text", "pg_roles"),
            listed("(oid, datname, datacl)::text", "pg_database"),
            listed("x::text", "pg_db_role_setting AS x"),
            listed("x::text", "pg_description AS x WHERE objoid >= 16384"),
            listed("gid", "pg_prepared_xacts"),
            listed("slot_name", "pg_replication_slots"),
            listed("roname", "pg_replication_origin"),
            listed("extname", "pg_extension"),
            listed("x::text", "pg_default_acl AS x"),
            "(SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory')".to_owned(),
            listed("coalesce(stats_reset::text, '')", "pg_stat_database WHERE datname = current_database()"),
            "(SELECT stats_reset::text FROM pg_stat_bgwriter)".to_owned(),
            "pg_conf_load_time()::text".to_owned(),
            "coalesce(pg_read_file('postgresql.auto.conf', 0, 100000, true), '')".to_owned(),
            format!("(SELECT count(attname)::text FROM pg_attribute WHERE attrelid = '{role}.t'::regclass)"),
        ];
        let reply = self.admin.query(&format!("SELECT {}", columns.join(", ")));
        let rows =
            reply.failure().map_or_else(|| reply.rows().concat().join("\n"), |failure| failure.message);
        assert!(!self.whole || reply.failure().is_none(), "{rows}");
        let heard = reply.messages.iter().filter(|message| message.tag == b'A').count();
        let files = fs::read_dir(&self.folder).unwrap().count();
        format!("{rows}\nnotifications {heard}, files {files}")
    }

    pub fn text(&self, step: &str) -> String {
        let address = self.fixture.server.address();
        let role = &self.fixture.role;
        let (host, port) = (address.ip(), address.port());
        let dsn = format!("host={host} port={port} user={role} password={PASSWORD} dbname={DATABASE}");
        let step = step.replace("{lo}", &self.object.to_string());
        step.replace("{role}", role).replace("{dir}", self.folder.to_str().unwrap()).replace("{dsn}", &dsn)
    }

    /// A client through the proxy, or beside it in PostgreSQL's own read-only mode.
    pub fn client(&self, direct: bool) -> Raw {
        if direct {
            let more = [("default_transaction_read_only", "on")];
            return Raw::login(self.fixture.server.address(), &self.fixture.role, DATABASE, &more).unwrap();
        }
        self.fixture.client()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        let role = &self.fixture.role;
        let _ = self.admin.query(&format!("SELECT lo_unlink({})", self.object));
        let _ = self.admin.query(&format!("ALTER ROLE {role} NOSUPERUSER"));
    }
}

/// The ways in which a client can send one statement.
pub const WAYS: [&str; 4] = ["simple", "unnamed", "named", "pipelined"];

/// Sends a case in one of them, and returns the last reply.
pub fn send(client: &mut Raw, texts: &[String], way: &str) -> Reply {
    let (last, before) = texts.split_last().unwrap();
    for text in before {
        client.query(text);
    }
    match way {
        "simple" => client.query(last),
        "unnamed" => client.batch(&[msg::unnamed(last, &[]), msg::sync()]),
        "named" => {
            client.send(&[msg::close(b'S', "n"), msg::parse("n", last), msg::sync()].concat());
            let parsed = client.reply();
            if parsed.failure().is_some() {
                return parsed;
            }
            client.batch(&[
                msg::bind("", "n", &[]),
                msg::describe(b'P', ""),
                msg::execute("", 0),
                msg::sync(),
            ])
        }
        _ => {
            let batch =
                [msg::unnamed("SELECT 41", &[]), msg::unnamed(last, &[]), msg::unnamed("SELECT 42", &[])];
            client.batch(&[batch.concat(), msg::sync()])
        }
    }
}

pub fn is_ended(reply: &Reply) -> bool {
    reply.ended
}
