//! FireFoundry's database setup guide, word for word: its queries through the proxy and beside it.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use crate::support::fixture::Proxy;
use crate::support::server::{PASSWORD, Server};

/// "Common Queries", unchanged.
const COMMON: &str = r"-- List schemas
\dn

-- List tables in working memory schema
\dt wm.*

-- Check working memory records
SELECT id, name, memory_type, provider, status
FROM wm.working_memory
ORDER BY created_at DESC
LIMIT 10;

-- Check blob references
SELECT id, name, blob_key, provider
FROM wm.working_memory
WHERE blob_key IS NOT NULL;

-- List available LLM providers
SELECT name, code FROM brk_registry.hosting_provider;

-- List available models by provider
SELECT m.name as model, hp.name as provider
FROM brk_registry.model m
JOIN brk_registry.hosted_model hm ON m.id = hm.model_id
JOIN brk_registry.hosting_provider hp ON hm.provider_id = hp.id
ORDER BY hp.name, m.name;

-- Check recent broker requests
SELECT id, request_id, status, created_at
FROM brk_tracking.broker_request
ORDER BY created_at DESC
LIMIT 10;
";

/// "PostgreSQL Extensions", unchanged.
const EXTENSIONS: &str = r#"-- Available by default
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE EXTENSION IF NOT EXISTS "pg_trgm";
"#;

/// The guide's users and the databases it names for them.
const USERS: [(&str, &str); 5] = [
    ("postgres", "firefoundry"),
    ("fireinsert", "firefoundry"),
    ("firebroker", "firefoundry"),
    ("firebroker", "broker_registry"),
    ("fireread", "firefoundry"),
];

/// FireFoundry's defaults, as they are shipped, before the server of the tests.
fn proxy(server: &Arc<Server>) -> Proxy {
    Proxy::serve(shipped(server))
}

/// That configuration.
pub(crate) fn shipped(server: &Arc<Server>) -> firepool::config::Config {
    let text = include_str!("../../config/firepool.toml");
    let password = |_: &str| Some(PASSWORD.to_owned());
    let mut config =
        firepool::config::parse(text, std::path::Path::new("config/firepool.toml"), &password).unwrap();
    for target in &mut config.targets {
        let changed = firepool::config::Target {
            host: "127.0.0.1".to_owned(),
            port: server.address().port(),
            ..firepool::config::Target::clone(target)
        };
        *target = Arc::new(changed);
        for route in &mut config.routes {
            let mut changed = firepool::config::Route::clone(route);
            // The server is shared with other tests.
            (changed.target, changed.min_size) = (Arc::clone(target), 0);
            *route = Arc::new(changed);
        }
    }
    config
}

fn psql(server: &Server, url: &str, script: &str) -> Output {
    let mut command = Command::new(&server.programs().psql);
    command.env_clear().args(["-X", url]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn same_through_the_proxy(users: &[(&str, &str)], script: &str) -> Vec<String> {
    let server = Server::shared();
    let proxy = proxy(&server);
    let through = |address: std::net::SocketAddr, (user, database): (&str, &str)| {
        psql(&server, &format!("postgresql://{user}:{PASSWORD}@{address}/{database}"), script)
    };
    let compare = |whose: &(&str, &str)| {
        let (pooled, direct) = (through(proxy.address, *whose), through(server.address(), *whose));
        assert_eq!(pooled, direct, "{whose:?}");
        String::from_utf8(pooled.stdout).unwrap()
    };
    users.iter().map(compare).collect()
}

pub fn every_query_of_the_setup_guide_answers_as_it_does_without_a_proxy() {
    let outputs = same_through_the_proxy(&USERS, COMMON);
    let fireread = &outputs[4];
    for piece in ["wm", "entity", "working_memory", "memory_type", "blob_key", "provider", "request_id"] {
        assert!(fireread.contains(piece), "{piece} is missing in {fireread}");
    }
    assert!(fireread.matches(" row").count() >= 6, "{fireread}");
}

pub fn single_queries_of_the_guide_answer_alike_as_well() {
    for query in COMMON.split("\n\n") {
        same_through_the_proxy(&USERS[4..], query);
    }
}

pub fn the_extensions_of_the_guide_can_be_created_by_the_superuser() {
    let outputs = same_through_the_proxy(&USERS[..1], EXTENSIONS);
    assert_eq!(outputs[0], "CREATE EXTENSION\nCREATE EXTENSION\n");
}

pub fn a_wrong_password_is_refused_with_the_servers_words() {
    let server = Server::shared();
    let proxy = proxy(&server);
    let say = |address: std::net::SocketAddr| {
        let output = psql(&server, &format!("postgresql://fireread:wrong@{address}/firefoundry"), "\\q");
        let words = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), words.rsplit("failed: ").next().unwrap().to_owned())
    };
    assert_eq!(say(proxy.address), say(server.address()));
}
