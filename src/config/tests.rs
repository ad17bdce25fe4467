//! Every rule of the configuration, as a file that breaks it and what is said about that.

use std::path::Path;

use super::file::{
    AdminTable, AuthenticationTable, DatabaseTable, File, LogTable, MetricsTable, ProxyTable, RouteTable,
    RuleTable, TargetTable, TimeoutsTable, TlsTable, TracingTable, UserTable,
};
use super::typed::{Key, Preset};
use super::*;

/// A file without a problem. The cases below replace one piece of it.
const GOOD: &str = r#"[proxy]
max_clients = 100
[targets.main]
host = "pg"
[users.app]
password = "sesame"
[databases.d]
max_clients = 0
[[routes]]
database = "d"
user = "app"
pool_size = 10
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "SET" => Some("sesame".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn examined(text: &str) -> Examined {
    examine_text(text, Path::new("f"), &env)
}

fn config(text: &str) -> Config {
    parse(text, Path::new("f"), &env).unwrap()
}

/// The problems of a text, `f:LINE: ...` each.
fn problems(text: &str) -> Vec<String> {
    examined(text).problems.iter().map(ToString::to_string).collect()
}

/// GOOD with a piece replaced has exactly one problem.
fn check(cases: &[(&str, &str, &str)]) {
    check_in(GOOD, cases);
}

/// `good` with a piece replaced has exactly one problem.
fn check_in(good: &str, cases: &[(&str, &str, &str)]) {
    for (piece, by, expected) in cases {
        assert_eq!(good.matches(piece).count(), 1, "{piece}");
        let text = good.replace(piece, by);
        assert_eq!(problems(&text), [*expected], "{text}");
        let usable = !expected.contains(": error: ");
        assert_eq!(examined(&text).config.is_some(), usable, "{text}");
    }
}

#[test]
fn a_good_file_has_no_problem() {
    assert_eq!(problems(GOOD), [""; 0]);
}

#[test]
fn unknown_keys_are_refused_in_every_table_with_the_nearest_known_one() {
    check(&[
        (
            "[databases.d]",
            "[database.d]",
            "f:7: error: unknown key `database` in the file; did you mean `databases`?",
        ),
        (
            "max_clients = 100",
            "max_client = 1",
            "f:2: error: unknown key `max_client` in [proxy]; did you mean `max_clients`?",
        ),
        (
            "[proxy]",
            "[admin]\nlisten_on = \"\"\n[proxy]",
            "f:2: error: unknown key `listen_on` in [admin]; did you mean `listen`?",
        ),
        ("[proxy]", "[log]\nlevel = \"\"\n[proxy]", "f:2: error: unknown key `level` in [log]"),
        (
            "host = \"pg\"",
            "host = \"pg\"\nprt = 1",
            "f:5: error: unknown key `prt` in [targets.NAME]; did you mean `port`?",
        ),
        (
            "[databases.d]",
            "pool_size = 1\n[databases.d]",
            "f:7: error: unknown key `pool_size` in [users.NAME]",
        ),
        (
            "max_clients = 0",
            "mx_clients = 0",
            "f:8: error: unknown key `mx_clients` in [databases.NAME]; did you mean `max_clients`?",
        ),
        (
            "pool_size = 10",
            "pol_size = 10",
            "f:12: error: unknown key `pol_size` in [[routes]]; did you mean `pool_size`?",
        ),
        (
            "pool_size = 10",
            "timeouts = { qury = \"1s\" }",
            "f:12: error: unknown key `qury` in [timeouts]; did you mean `query`?",
        ),
    ]);
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    check(&[
        (
            "max_clients = 100",
            "max_clients = \"100\"",
            "f:2: error: `max_clients` must be a whole number without quotes, not a string",
        ),
        (
            "max_clients = 100",
            "max_clients = 1.5",
            "f:2: error: `max_clients` must be a whole number without quotes, not a float",
        ),
        (
            "max_clients = 100",
            "max_clients = -1",
            "f:2: error: `max_clients` must be a whole number, zero or more, not -1",
        ),
        ("host = \"pg\"", "host = 5", "f:4: error: `host` must be text in quotes, not an integer"),
        (
            "host = \"pg\"",
            "host = \"pg\"\nrequired = \"yes\"",
            "f:5: error: `required` must be true or false without quotes, not a string",
        ),
        (
            "max_clients = 100",
            "listen = \"1.2.3.4:5\"",
            "f:2: error: `listen` must be a list in square brackets",
        ),
        ("[proxy]\nmax_clients = 100", "proxy = 5", "f:1: error: `proxy` must be a table, not an integer"),
        (
            "[databases.d]\nmax_clients = 0",
            "[databases]\nd = true",
            "f:8: error: `databases.d` must be a table, not a boolean",
        ),
    ]);
}

#[test]
fn modes_and_formats_are_words_of_a_closed_list() {
    check(&[
        (
            "pool_size = 10",
            "mode = \"transction\"",
            "f:12: error: `mode` must be one of \"session\", \"transaction\", \"statement\", not \"transction\"; did \
             you mean `transaction`?",
        ),
        (
            "[proxy]",
            "[log]\nformat = \"xml\"\n[proxy]",
            "f:2: error: `format` must be one of \"text\", \"json\", not \"xml\"",
        ),
        (
            "pool_size = 10",
            "mode = 3",
            "f:12: error: `mode` must be one of \"session\", \"transaction\", \"statement\", not an integer",
        ),
    ]);
}

#[test]
fn durations_need_a_unit_and_are_not_longer_than_a_year() {
    check(&[
        (
            "max_clients = 100",
            "login_timeout = 15",
            "f:2: error: `login_timeout` must say its unit: write \"15s\" for seconds or \"15ms\" for milliseconds",
        ),
        (
            "max_clients = 100",
            "login_timeout = true",
            "f:2: error: `login_timeout` must be a duration in quotes, such as \"30s\", not a boolean",
        ),
        (
            "max_clients = 100",
            "login_timeout = \"15\"",
            "f:2: error: `login_timeout` must be a duration such as \"500ms\", \"30s\" or \"1h\": time unit needed, for \
             example 15sec or 15ms",
        ),
        (
            "max_clients = 100",
            "login_timeout = \"366d\"",
            "f:2: error: `login_timeout` must not be longer than a year",
        ),
    ]);
}

#[test]
fn timeouts_that_cannot_be_off_are_not_zero() {
    for (key, line, piece) in [
        ("login_timeout", 2, "max_clients = 100"),
        ("shutdown_timeout", 2, "max_clients = 100"),
        ("reserve_after", 12, "pool_size = 10"),
        ("timeouts.connect", 12, "pool_size = 10"),
        ("timeouts.query_wait", 12, "pool_size = 10"),
    ] {
        let name = key.trim_start_matches("timeouts.");
        let expected =
            format!("f:{line}: error: `{name}` must be longer than zero: it cannot be switched off");
        check(&[(piece, &format!("{key} = \"0s\""), &expected)]);
    }
}

#[test]
fn numbers_have_ranges() {
    check(&[
        ("pool_size = 10", "pool_size = 0", "f:12: error: `pool_size` must be between 1 and 10000, not 0"),
        (
            "pool_size = 10",
            "pool_size = 10001",
            "f:12: error: `pool_size` must be between 1 and 10000, not 10001",
        ),
        (
            "pool_size = 10",
            "pool_size = 4294967297",
            "f:12: error: `pool_size` must be between 1 and 10000, not 4294967297",
        ),
        (
            "pool_size = 10",
            "reserve_size = 10001",
            "f:12: error: `reserve_size` must be between 0 and 10000, not 10001",
        ),
        (
            "pool_size = 10",
            "pool_size = 3\nmin_size = 4",
            "f:13: error: `min_size` must not be above `pool_size`: 4 is more than 3",
        ),
        (
            "max_clients = 100",
            "max_clients = 0",
            "f:2: error: `max_clients` must be between 1 and 1000000, not 0",
        ),
        ("max_clients = 100", "workers = 1025", "f:2: error: `workers` must be between 0 and 1024, not 1025"),
        ("host = \"pg\"", "host = \"pg\"\nport = 0", "f:5: error: `port` must be between 1 and 65535, not 0"),
        (
            "host = \"pg\"",
            "host = \"pg\"\nport = 65536",
            "f:5: error: `port` must be between 1 and 65535, not 65536",
        ),
    ]);
}

#[test]
fn names_are_those_that_postgresql_can_have() {
    let (longest, too_long) = ("é".repeat(31) + "x", "é".repeat(32));
    let good = GOOD.replace("\"d\"", &format!("\"{longest}\"")).replace("s.d]", &format!("s.\"{longest}\"]"));
    assert_eq!(problems(&good), [""; 0]);
    let long =
        |what, line| format!("f:{line}: error: the name of a {what} has 64 bytes, PostgreSQL allows 63");
    let user = GOOD.replace("users.app", &format!("users.\"{too_long}\"")).replace("\"app\"", "\"*\"");
    assert_eq!(problems(&user), [long("user", 5)]);
    let any_database = GOOD.replace("\"d\"", "\"*\"");
    check_in(
        &any_database,
        &[
            ("[databases.d]", &format!("[databases.\"{too_long}\"]"), &long("database", 7)),
            ("[databases.d]", "[databases.\"\"]", "f:7: error: the name of a database must not be empty"),
            (
                "[databases.d]",
                "[databases.\"*\"]",
                "f:7: error: `*` stands for any name in a route, and nothing can be called that",
            ),
        ],
    );
    check(&[
        ("database = \"d\"", &format!("database = \"{too_long}\""), &long("database", 10)),
        ("pool_size = 10", &format!("target_database = \"{too_long}\""), &long("database", 12)),
        ("database = \"d\"", "database = \"\"", "f:10: error: the name of a database must not be empty"),
        ("user = \"app\"", "user = \"\"", "f:11: error: the name of a user must not be empty"),
        (
            "database = \"d\"",
            "database = \"a\\u0000b\"",
            "f:10: error: the name of a database must not contain a NUL character",
        ),
        ("[targets.main]", "[targets.\"\"]", "f:3: error: the name of a target must not be empty"),
    ]);
    let any = GOOD.replace("users.app", "users.\"*\"").replace("\"app\"", "\"*\"");
    assert_eq!(
        problems(&any),
        ["f:5: error: `*` stands for any name in a route, and nothing can be called that"]
    );
}

#[test]
fn names_are_case_sensitive() {
    check(&[(
        "user = \"app\"",
        "user = \"App\"",
        "f:11: error: unknown user `App`: there is no [users.App]; did you mean `app`?",
    )]);
}

#[test]
fn a_listener_is_an_address_with_a_port_and_there_is_at_least_one() {
    let wrong = |typed, line| {
        format!(
            "f:{line}: error: `listen` must be an IP address and a port, such as \"0.0.0.0:6432\", \
             \"127.0.0.1:6432\" or \"[::]:6432\", not \"{typed}\""
        )
    };
    check(&[
        ("max_clients = 100", "listen = [\"localhost:6432\"]", &wrong("localhost:6432", 2)),
        ("max_clients = 100", "listen = [\n\"[::]:1\",\n\"0.0.0.0\"]", &wrong("0.0.0.0", 4)),
        (
            "max_clients = 100",
            "listen = [\"0.0.0.0:0\"]",
            "f:2: error: `listen`: the port of \"0.0.0.0:0\" must be between 1 and 65535",
        ),
        (
            "max_clients = 100",
            "listen = []",
            "f:2: error: there is no listener: neither an address in `listen` nor a `unix_socket_dir`",
        ),
        ("max_clients = 100", "listen = [\"[::]:1\", \"[::]:1\"]", "f:2: error: [::]:1 is listened on twice"),
        ("[proxy]", "[admin]\nlisten = \"9127\"\n[proxy]", &wrong("9127", 2)),
        (
            "max_clients = 100",
            "listen = [\"[::]:1\"]\n[admin]\nlisten = \"[::]:1\"",
            "f:4: error: [::]:1 is listened on twice",
        ),
        (
            "max_clients = 100",
            "listen = [\"127.0.0.1:9127\"]",
            "f:2: error: 127.0.0.1:9127 is listened on twice",
        ),
        (
            "max_clients = 100",
            "listen = [6432]",
            "f:2: error: `listen` must be text in quotes, not an integer",
        ),
    ]);
    let socket_only = config(&GOOD.replace("max_clients = 100", "listen = []\nunix_socket_dir = \"/run\""));
    assert_eq!(socket_only.proxy.unix_socket_dir.as_deref(), Some(Path::new("/run")));
}

#[test]
fn a_unix_socket_has_an_absolute_path_that_fits_and_an_octal_mode() {
    let mode = "f:2: error: `unix_socket_mode` must be permission bits in octal, in quotes, such as \"0770\"";
    // with "/.s.PGSQL.6432" a folder of 93 bytes has 107
    let (fits, too_long) = ("/".to_owned() + &"x".repeat(92), "/".to_owned() + &"x".repeat(93));
    assert_eq!(
        problems(&GOOD.replace("max_clients = 100", &format!("unix_socket_dir = \"{fits}\""))),
        [""; 0]
    );
    let long = |key, line| {
        format!(
            "f:{line}: error: `{key}` is too long: the path of its socket would have 108 bytes, at most 107 are possible"
        )
    };
    check(&[
        ("max_clients = 100", &format!("unix_socket_dir = \"{too_long}\""), &long("unix_socket_dir", 2)),
        ("host = \"pg\"", &format!("host = \"{too_long}\""), &long("host", 4)),
        (
            "max_clients = 100",
            "unix_socket_dir = \"run\"",
            "f:2: error: `unix_socket_dir` must be an absolute path, or \"\" for no Unix socket",
        ),
        ("max_clients = 100", "unix_socket_mode = \"0778\"", &format!("{mode}, at most \"0777\"")),
        ("max_clients = 100", "unix_socket_mode = \"1777\"", &format!("{mode}, at most \"0777\"")),
        ("max_clients = 100", "unix_socket_mode = \"+777\"", &format!("{mode}, at most \"0777\"")),
        ("max_clients = 100", "unix_socket_mode = 777", &format!("{mode}, not an integer")),
    ]);
    let restricted = config(&GOOD.replace("max_clients = 100", "unix_socket_mode = \"0750\""));
    assert_eq!(restricted.proxy.unix_socket_mode, 0o750);
}

#[test]
fn a_target_has_a_host_without_a_port() {
    check(&[
        ("host = \"pg\"", "", "f:3: error: target `main` has no `host`"),
        ("host = \"pg\"", "host = \"\"", "f:4: error: `host` must not be empty"),
        (
            "host = \"pg\"",
            "host = \"pg:5432\"",
            "f:4: error: `host` must not contain a port: it goes into `port`",
        ),
    ]);
    assert_eq!(problems(&GOOD.replace("\"pg\"", "\"::1\"")), [""; 0]);
}

#[test]
fn a_user_has_exactly_one_password_that_can_be_read() {
    let several = "user `app` has more than one of `password`, `password_env` and `password_file`";
    check(&[
        (
            "password = \"sesame\"",
            "",
            "f:5: error: user `app` needs one of `password`, `password_env` and `password_file`",
        ),
        (
            "password = \"sesame\"",
            "password = \"a\"\npassword_env = \"SET\"",
            &format!("f:5: error: {several}"),
        ),
        (
            "password = \"sesame\"",
            "password_env = \"SET\"\npassword_file = \"x\"",
            &format!("f:5: error: {several}"),
        ),
        ("password = \"sesame\"", "password = \"\"", "f:6: error: the password of `app` is empty"),
        ("password = \"sesame\"", "password_env = \"EMPTY\"", "f:6: error: the password of `app` is empty"),
        (
            "password = \"sesame\"",
            "password_env = \"UNSET\"",
            "f:6: error: the environment variable `UNSET` with the password of `app` is not set",
        ),
        (
            "password = \"sesame\"",
            "password_file = \"no-such-file\"",
            "f:6: error: `password_file` no-such-file cannot be read: No such file or directory (os error 2)",
        ),
    ]);
    let by_env = config(&GOOD.replace("password = \"sesame\"", "password_env = \"SET\""));
    assert_eq!(by_env.user("app").unwrap().credentials[0].password().unwrap().expose(), "sesame");
}

#[test]
fn a_password_file_is_beside_the_configuration_and_loses_one_newline() {
    let folder = std::env::temp_dir().join(format!("firepool-password-file-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let text = GOOD.replace("password = \"sesame\"", "password_file = \"secret\"");
    for (written, read) in
        [("open", "open"), ("open\n", "open"), ("open\r\n", "open"), ("open \n\n", "open \n"), ("é", "é")]
    {
        std::fs::write(folder.join("secret"), written).unwrap();
        let config = parse(&text, &folder.join("firepool.toml"), &env).unwrap();
        assert_eq!(
            config.user("app").unwrap().credentials[0].password().unwrap().expose(),
            read,
            "{written:?}"
        );
    }
    for (mode, is_told) in [(0o604, true), (0o600, false)] {
        let file = folder.join("secret");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let problems = super::examine_text(&text, &folder.join("firepool.toml"), &env).problems.to_string();
        let told =
            problems.contains("warning: `password_file`") && problems.contains("group or world access");
        assert_eq!(told, is_told, "{problems}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn routes_name_users_and_targets_that_exist() {
    check(&[
        (
            "user = \"app\"",
            "user = \"ap\"",
            "f:11: error: unknown user `ap`: there is no [users.ap]; did you mean `app`?",
        ),
        (
            "pool_size = 10",
            "target = \"mian\"",
            "f:12: error: unknown target `mian`: there is no [targets.mian]; did you mean `main`?",
        ),
        (
            "[users.app]",
            "[targets.other]\nhost = \"pg\"\n[users.app]",
            "f:11: error: the route needs a `target`, one of `main`, `other`",
        ),
    ]);
}

#[test]
fn there_is_at_least_one_target_and_one_route() {
    assert_eq!(
        problems(""),
        [
            "f: error: there are no targets: a [targets.NAME] with a `host` is needed",
            "f: error: there are no routes: at least one [[routes]] is needed",
        ]
    );
    assert_eq!(problems(""), problems("routes = []\n[targets]"));
}

#[test]
fn a_pair_of_database_and_user_has_one_route() {
    let twice = format!("{GOOD}[[routes]]\nuser = \"app\"\ndatabase = \"d\"\n");
    let expected = "f:13: error: a second route for database `d`, user `app`; the first is on line 9";
    assert_eq!(problems(&twice), [expected]);
    assert_eq!(problems(&twice.replace("database = \"d\"\nuser", "user")), [""; 0]);
}

#[test]
fn a_log_filter_is_one_that_tracing_understands() {
    let text = GOOD.replace("[proxy]", "[log]\nfilter = \"firepool=loud\"\n[proxy]");
    let problems = problems(&text);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("f:2: error: `filter` is not a filter such as \"info\": "),
        "{problems:?}"
    );
}

#[test]
fn what_cannot_have_been_meant_is_a_warning() {
    check(&[
        (
            "pool_size = 10",
            "reserve_size = 1\nreserve_after = \"10s\"",
            "f:9: warning: the reserve is never used: a client gives up after `query_wait` (10s), before \
             `reserve_after` (10s)",
        ),
        (
            "pool_size = 10",
            "max_clients = 101",
            "f:9: warning: `max_clients` of 101 is never reached: [proxy] allows 100",
        ),
        (
            "max_clients = 0",
            "max_server_connections = 9",
            "f:9: warning: `pool_size` of 10 is never reached: its database has a `max_server_connections` of 9",
        ),
        (
            "[databases.d]",
            "max_server_connections = 9\n[databases.d]",
            "f:10: warning: `pool_size` of 10 is never reached: its user has a `max_server_connections` of 9",
        ),
        (
            "[databases.d]",
            "[users.b]\npassword = \"x\"\n[databases.d]",
            "f:7: warning: no route serves user `b`",
        ),
        ("[databases.d]", "[databases.e]", "f:7: warning: no route serves database `e`; did you mean `d`?"),
    ]);
    let nobody = GOOD.replace("[users.app]\npassword = \"sesame\"", "").replace("\"app\"", "\"*\"");
    assert_eq!(problems(&nobody), ["f: warning: there are no users: nobody may log in"]);
    let unused =
        GOOD.replace("[users.app]", "[targets.b]\nhost = \"b\"\n[users.app]") + "target = \"main\"\n";
    assert_eq!(problems(&unused), ["f:5: warning: no route goes to target `b`"]);
}

#[test]
fn everything_that_is_wrong_is_found_in_one_reading() {
    let text = GOOD
        .replace("max_clients = 100", "max_client = 100")
        .replace("\"pg\"", "5")
        .replace("password = \"sesame\"", "password_env = \"UNSET\"")
        .replace(
            "pool_size = 10",
            "pool_size = 0\nmin_size = \"x\"\ntimeouts = { connect = 1, query = \"q\" }",
        );
    let lines: Vec<_> = examined(&text).problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 4, 6, 12, 13, 14, 14].map(Some), "{:#?}", problems(&text));
}

#[test]
fn what_follows_from_a_mistake_is_not_reported_as_another() {
    let rest = "[targets.main]\nhost = \"pg\"\n[users.app]\npassword = \"x\"";
    let (no_table, no_list) = (format!("routes = [5]\n{rest}"), format!("routes = 5\n{rest}"));
    assert_eq!(problems(&no_table), ["f:1: error: `routes` must be a table, not an integer"]);
    assert_eq!(problems(&no_list), ["f:1: error: `routes` must be a list in square brackets"]);
    // a route that is wrong may be the only one that uses a user
    let second = format!("routes = [5, {{ user = \"app\" }}]\n{rest}\n[users.b]\npassword = \"x\"");
    assert_eq!(problems(&second), ["f:1: error: `routes` must be a table, not an integer"]);
    let lost = format!(
        "{GOOD}target = \"main\"\n[[routes]]\nuser = \"b\"\ntarget = \"x\"\n[users.b]\npassword = \"x\""
    );
    assert_eq!(problems(&lost), ["f:16: error: unknown target `x`: there is no [targets.x]"]);
    // a target, a user and a route that are wrong themselves still exist
    check(&[
        ("host = \"pg\"", "host = 5", "f:4: error: `host` must be text in quotes, not an integer"),
        (
            "password = \"sesame\"",
            "password = 5",
            "f:6: error: `password` must be text in quotes, not an integer",
        ),
        ("user = \"app\"", "user = 5", "f:11: error: `user` must be text in quotes, not an integer"),
    ]);
}

#[test]
fn a_syntax_error_has_a_line_and_no_copy_of_it() {
    let text = GOOD.replace("\"sesame\"", "\"sesame");
    let problems = problems(&text);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("f:6: error: "), "{problems:?}");
    assert!(!problems[0].contains("sesame"), "{problems:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_like_any_other() {
    let problems = load(Path::new("/no/such/file.toml"), &env).unwrap_err();
    let expected = "/no/such/file.toml: error: cannot be read: No such file or directory (os error 2)";
    assert_eq!(problems.to_string(), expected);
}

#[test]
fn passwords_are_not_printed() {
    let debug = format!("{:#?}", config(GOOD));
    assert!(debug.contains("(secret)"));
    assert!(!debug.contains("sesame"), "{debug}");
    for mistake in
        ["password = 424242", "password = [\"424242\"]", "password = 424242.5", "password = 2042-42-42"]
    {
        let said = problems(&GOOD.replace("password = \"sesame\"", mistake)).join("\n");
        assert!(!said.is_empty() && !said.contains("42"), "{said}");
    }
}

#[test]
fn zero_is_off_and_a_route_overrides_only_the_timeouts_that_it_sets() {
    let text = GOOD
        .replace("[proxy]", "[timeouts]\nquery = \"1m\"\nclient_idle = \"2m\"\nserver_idle = \"0\"\n[proxy]")
        + "timeouts = { query = \"0s\", connect = \"1500ms\" }\nmax_clients = 0\n";
    let config = config(&text);
    let route = config.route("d", "app").unwrap();
    let expected = Timeouts {
        connect: Duration::from_millis(1500),
        query_wait: Duration::from_secs(10),
        query: None,
        idle_in_transaction: None,
        client_idle: Some(Duration::from_secs(120)),
        server_lifetime: Some(Duration::from_secs(3600)),
        server_idle: None,
    };
    assert_eq!(route.timeouts, expected);
    assert_eq!(route.max_clients, None);
}

#[test]
fn exact_routes_come_before_those_for_any_user_and_those_before_any_database() {
    let text = "[targets.main]\nhost = \"pg\"\n[users]\na.password = \"x\"\n[[routes]]\n[[routes]]\nuser = \"a\"\n\
                [[routes]]\ndatabase = \"d\"\n[[routes]]\ndatabase = \"e\"\nuser = \"a\"\n[[routes]]\nuser = \"a\"\ndatabase = \"d\"\n";
    let config = config(text);
    let pairs: Vec<_> =
        config.routes.iter().map(|route| format!("{} {}", route.database, route.user)).collect();
    assert_eq!(pairs, ["e a", "d a", "d *", "* a", "* *"]);
    assert_eq!(config.route("d", "b").unwrap().key().to_string(), "database `d`, user `*`");
}

#[test]
fn targets_users_and_databases_keep_the_order_of_the_file() {
    let text =
        GOOD.replace("[users.app]", "[users.z]\npassword = \"x\"\n[users.b]\npassword = \"x\"\n[users.app]");
    let names: Vec<_> = config(&text).users.iter().map(|user| user.name.clone()).collect();
    assert_eq!(names, ["z", "b", "app"]);
}

#[test]
fn the_token_of_admin_http_comes_from_where_passwords_come_from_and_is_long_enough() {
    let with = |token: &str| GOOD.replace("[proxy]", &format!("[admin]\ntoken = \"{token}\"\n[proxy]"));
    let read = |token: &str| config(&with(token)).admin_token.unwrap().expose().to_owned();
    assert!(config(GOOD).admin_token.is_none());
    assert_eq!(read("0123456789abcdef"), "0123456789abcdef");
    let folder = std::env::temp_dir().join(format!("firepool-token-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("token"), "from-a-file-of-mine\n").unwrap();
    let of_file = parse(&with("file:token"), &folder.join("firepool.toml"), &env).unwrap();
    assert_eq!(of_file.admin_token.unwrap().expose(), "from-a-file-of-mine");
    assert!(!format!("{:?}", config(&with("0123456789abcdef"))).contains("0123456789"));
    for (token, problem) in [
        ("0123456789abcde", "`token` must have at least 16 characters, all of them visible ASCII"),
        ("", "`token` must have at least 16 characters, all of them visible ASCII"),
        ("with a space in the middle", "`token` must have at least 16 characters, all of them visible ASCII"),
        ("env:SET", "`token` must have at least 16 characters, all of them visible ASCII"),
        ("env:UNSET", "the environment variable `UNSET` with the token is not set"),
        ("file:none", "`token` none cannot be read: No such file or directory (os error 2)"),
    ] {
        let problems = parse(&with(token), Path::new("f"), &env).unwrap_err().to_string();
        assert!(problems.contains(problem), "{token}: {problems}");
    }
}

#[test]
fn an_admin_listener_is_on_by_default_and_off_when_empty() {
    assert_eq!(config(GOOD).admin.unwrap().to_string(), "127.0.0.1:9127");
    assert_eq!(config(&GOOD.replace("[proxy]", "[admin]\nlisten = \"\"\n[proxy]")).admin, None);
}

/// `key = default` for every key that has a default that can be typed.
fn defaults(keys: &[Key]) -> String {
    let typed = |key: &Key| match key.preset {
        Preset::Typed(preset) => Some(format!("{} = {preset}\n", key.name)),
        Preset::Words(_) => None,
    };
    keys.iter().filter_map(typed).collect()
}

#[test]
fn the_defaults_of_the_reference_are_those_that_apply() {
    let silent = "[targets.main]\nhost = \"pg\"\n[users.app]\npassword = \"x\"\n[databases.d]\n[[routes]]\n";
    let (target, user) = (defaults(TargetTable::KEYS), defaults(UserTable::KEYS));
    let spoken = format!(
        "[proxy]\n{}[admin]\n{}[metrics]\n{}[log]\n{}[tracing]\n{}[tls]\n{}[authentication]\n{}[timeouts]\n{}[targets.main]\nhost = \"pg\"\n{target}\
         [users.app]\npassword = \"x\"\n{user}[databases.d]\n{}[[routes]]\n{}",
        defaults(ProxyTable::KEYS),
        defaults(AdminTable::KEYS),
        defaults(MetricsTable::KEYS),
        defaults(LogTable::KEYS),
        defaults(TracingTable::KEYS),
        defaults(TlsTable::KEYS),
        defaults(AuthenticationTable::KEYS),
        defaults(TimeoutsTable::KEYS),
        defaults(DatabaseTable::KEYS),
        defaults(RouteTable::KEYS),
    );
    assert_eq!(format!("{:#?}", config(&spoken)), format!("{:#?}", config(silent)));
}

fn shipped(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

#[test]
fn the_shipped_files_have_no_problem() {
    for name in ["firepool.toml", "minimal.toml"] {
        let password = |variable: &str| variable.ends_with("_PASSWORD").then(|| format!("{variable}-value"));
        let Examined { config, problems } = examine(&shipped(name), &password);
        assert_eq!(problems.to_string(), "", "{name}");
        let debug = format!("{config:?}");
        assert!(!debug.contains("-value"), "{debug}");
    }
}

#[test]
fn the_shipped_file_fits_firefoundry() {
    let config = load(&shipped("firepool.toml"), &|_| Some("x".to_owned())).unwrap();
    let worst = budget::worst(&config);
    assert_eq!(worst.len(), 1);
    assert_eq!((worst[0].total(), worst[0].unbounded), (153, false), "the comment in the file says 153");
    assert_eq!(budget::judge(&worst[0], 200, 3), None);
    for (database, user, mode, foreign) in [
        ("firefoundry", "fireinsert", PoolMode::Transaction, false),
        ("firefoundry", "fireread", PoolMode::Transaction, true),
        ("firefoundry", "firebroker", PoolMode::Transaction, true),
        ("firefoundry", "firebrand", PoolMode::Session, true),
        ("firefoundry", "postgres", PoolMode::Session, false),
        ("broker_registry", "firebroker", PoolMode::Transaction, false),
        ("broker_registry", "firebrand", PoolMode::Session, false),
        ("broker_registry", "postgres", PoolMode::Session, false),
    ] {
        let route = config.route(database, user).unwrap();
        assert_eq!((route.mode, route.reads_foreign_tables), (mode, foreign), "{database} {user}");
        assert_eq!(route.access.is_read_only(), user == "fireread", "{database} {user}");
    }
    assert!(config.route("broker_registry", "fireread").is_none());
}

#[test]
fn the_shipped_file_explains_every_key() {
    let text = std::fs::read_to_string(shipped("firepool.toml")).unwrap();
    let tables = [
        File::KEYS,
        ProxyTable::KEYS,
        AdminTable::KEYS,
        MetricsTable::KEYS,
        LogTable::KEYS,
        TlsTable::KEYS,
        AuthenticationTable::KEYS,
        RuleTable::KEYS,
        TimeoutsTable::KEYS,
        TargetTable::KEYS,
        UserTable::KEYS,
        DatabaseTable::KEYS,
        RouteTable::KEYS,
    ];
    for key in tables.into_iter().flatten() {
        let Key { name, .. } = key;
        let assigned = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{name} = "));
        let opened = text.contains(&format!("[{name}")); // [proxy], [users.NAME], [[routes]]
        assert!(text.lines().any(assigned) || opened, "{name}");
    }
}

#[test]
fn the_committed_reference_is_what_the_code_says() {
    let path = shipped("REFERENCE.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, reference::markdown()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == reference::markdown(),
        "config/REFERENCE.md is out of date: run `UPDATE_REFERENCE=1 cargo test --lib reference`"
    );
}

/// A file of a test's own beside the configuration.
fn beside(name: &str, text: &str) -> String {
    let folder = std::env::temp_dir().join(format!("firepool-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn rules_are_those_of_the_file_or_those_of_pg_hba_conf() {
    let rules = |more: &str| config(&format!("{GOOD}\n{more}")).authentication.rules;
    assert!(rules("").is_none());
    assert_eq!(rules("[[rules]]\nmethod = \"md5\"").unwrap().len(), 1);
    let typed = "[[rules]]\ntype = \"local\"\nusers = [\"app\", \"\\\"all\\\"\"]\nmethod = \"peer\"\n\
        [[rules]]\ndatabases = [\"sameuser\"]\naddresses = [\"10.0.0.0/8\", \"::1/128\"]\nmethod = \"reject\"";
    let file = beside("good.conf", "local all app,\"all\" peer\nhost sameuser all 10.0.0.0/8 reject\n");
    let (typed, read) =
        (rules(typed).unwrap(), rules(&format!("[authentication]\nhba_file = \"{file}\"")).unwrap());
    for user in ["app", "all", "other"] {
        let transport = crate::hba::Transport::Unix { uid: None };
        let asked = crate::hba::Asked { transport, database: Some("d"), user };
        let place = |rules: &[Rule]| crate::hba::first(rules, &asked).map(|rule| rule.place);
        assert_eq!(place(&typed), (user != "other").then_some(1), "{user}");
        assert_eq!(place(&typed), place(&read), "{user}");
    }
}

#[test]
fn a_rule_that_is_wrong_or_dangerous_is_told_with_its_place() {
    let bad = beside("bad.conf", "local all all peer\nhost all all all ldap\nhost all +x all md5\n");
    let open = beside("open.conf", "host all all all trust\n");
    let none = beside("none.conf", "# nothing\n");
    let table = [
        (
            "[[rules]]\nusers = [\"x\"]".to_owned(),
            "f:13: error: [[rules]]: the rule has no `method`".to_owned(),
        ),
        (
            "[[rules]]\nmethod = \"cert\"".to_owned(),
            "f:13: error: [[rules]]: `cert` is for `hostssl` rules only".to_owned(),
        ),
        (
            "[[rules]]\ntype = \"hostssl\"\nmethod = \"cert\"".to_owned(),
            "f:13: warning: the rule is for TLS, which is off: it never fits".to_owned(),
        ),
        (
            "[[rules]]\nclientcert = \"verify-ca\"\nmethod = \"md5\"".to_owned(),
            "f:13: error: [[rules]]: `clientcert` is for `hostssl` rules only".to_owned(),
        ),
        (
            "[[rules]]\nmetod = \"md5\"\nmethod = \"md5\"".to_owned(),
            "f:14: error: unknown key `metod` in [[rules]]; did you mean `method`?".to_owned(),
        ),
        (
            "[[rules]]\nmethod = \"md5\"\ncleartext_without_tls = true".to_owned(),
            "f:13: error: [[rules]]: `cleartext_without_tls` is for the method `password` only".to_owned(),
        ),
        (
            "[[rules]]\nmethod = \"trust\"".to_owned(),
            "f:13: warning: the rule lets clients in from the network that prove nothing".to_owned(),
        ),
        (
            "[[rules]]\nmethod = \"password\"\ncleartext_without_tls = true".to_owned(),
            "f:13: warning: the rule has passwords sent in clear text over the network".to_owned(),
        ),
        (
            format!("[authentication]\nhba_file = \"{open}\""),
            format!("f:14: warning: {open} line 1 lets clients in from the network that prove nothing"),
        ),
        (
            format!("[authentication]\nhba_file = \"{none}\""),
            format!("f:14: warning: {none} has no rules: nobody may log in"),
        ),
        (
            format!("[authentication]\nhba_file = \"{open}\"\n[[rules]]\nmethod = \"md5\""),
            "f:14: error: both `hba_file` and [[rules]]: which of them comes first is not known".to_owned(),
        ),
    ];
    for (more, expected) in table {
        assert_eq!(problems(&format!("{GOOD}{more}\n")), [expected], "{more}");
    }
    let found = problems(&format!("{GOOD}[authentication]\nhba_file = \"{bad}\"\n"));
    assert_eq!(
        found,
        [
            format!("f:14: error: {bad} line 2: the method `ldap` of PostgreSQL is not supported"),
            format!(
                "f:14: error: {bad} line 3: `+x` is not supported: who is a member of what only the server knows"
            ),
        ]
    );
}

const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

#[test]
fn passwords_are_themselves_hashes_variables_or_files() {
    let file = beside("secret", "of the file\n");
    let known = |typed: &str| {
        let text = GOOD.replace("password = \"sesame\"", typed);
        let known = config(&text).user("app").unwrap().credentials.clone();
        known
            .iter()
            .map(|one| one.password().map_or_else(|| format!("{one:?}"), |it| it.expose().to_owned()))
            .collect::<Vec<_>>()
    };
    for (typed, expected) in [
        ("password = \"env:SET\"".to_owned(), "sesame"),
        (format!("password = \"file:{file}\""), "of the file"),
        (format!("password = \"{VERIFIER}\""), "SCRAM-SHA-256 (secret)"),
        ("password = \"md50123456789abcdef0123456789abcdef\"".to_owned(), "md5 (secret)"),
    ] {
        assert_eq!(known(&typed), [expected], "{typed}");
    }
    assert_eq!(known("password = \"a\"\nother_password = \"env:SET\""), ["a", "sesame"]);
    let other = VERIFIER.replace("W22Z", "X22Z");
    let text = GOOD.replace(
        "password = \"sesame\"",
        &format!("password = \"{VERIFIER}\"\nother_password = \"{other}\""),
    );
    let said = problems(&text).join("\n");
    assert!(said.contains("the two SCRAM verifiers of `app` have different salts"), "{said}");
    // What salts are made of matters where others have salts that stay.
    let text = GOOD.replace("\"sesame\"", &format!("\"{VERIFIER}\""));
    let said = problems(&text);
    assert!(said.len() == 1 && said[0].contains("warning: with SCRAM verifiers and neither"), "{said:?}");
    let salted = |secret: &str| format!("{text}[authentication]\nsalt_secret = \"{secret}\"\n");
    assert_eq!(problems(&salted(&"x".repeat(32))), [""; 0]);
    // Nobody can prove with SCRAM a password of which an MD5 hash is known.
    let hashed = GOOD.replace("\"sesame\"", "\"md50123456789abcdef0123456789abcdef\"");
    let said = problems(&hashed);
    assert!(said.len() == 1 && said[0].contains("warning: `app` cannot log in"), "{said:?}");
    assert_eq!(problems(&format!("{hashed}[[rules]]\nmethod = \"md5\"\n")), [""; 0]);
    let short = problems(&salted("sesame")).join("\n");
    assert!(short.contains("`salt_secret` needs 32 random characters or more, not 6"), "{short}");
    check(&[
        (
            "password = \"sesame\"",
            "password = \"env:UNSET\"",
            "f:6: error: the environment variable `UNSET` with the password of `app` is not set",
        ),
        (
            "password = \"sesame\"",
            "password = \"SCRAM-SHA-256$hidden\"",
            "f:6: error: the password of `app` begins like a SCRAM verifier of PostgreSQL and is none",
        ),
        (
            "password = \"sesame\"",
            "password = \"x\\u0000y\"",
            "f:6: error: the password of `app` contains a NUL character",
        ),
    ]);
}

#[test]
fn users_are_listed_or_looked_up() {
    let list = beside("userlist.txt", "\"app\" \"of the list\"\n\"more\" \"x\"\n\"none\" \"\"\n");
    let listed = config(&format!(
        "{}[authentication]\nuserlist_file = \"{list}\"\n",
        GOOD.replace("password = \"sesame\"", "max_clients = 3").replace("user = \"app\"\n", "")
    ));
    let names: Vec<_> =
        listed.users.iter().map(|user| (user.name.as_str(), user.credentials.len())).collect();
    assert_eq!((names[0], listed.users.len()), (("app", 1), 3));
    assert!(names.contains(&("none", 0)));
    assert_eq!(listed.user("app").unwrap().max_clients, Some(3));

    let looked_up = GOOD.replace("user = \"app\"", "user = \"other\"");
    let salts = format!("salt_secret = \"{}\"\n", "x".repeat(32));
    let with = |more: &str| format!("{looked_up}[authentication]\nauth_user = \"app\"\n{more}\n{salts}");
    let said = problems(&with("").replace(&salts, ""));
    assert!(
        said.len() == 1 && said[0].starts_with("f:14: warning: with users that are looked up"),
        "{said:?}"
    );
    let lookup = config(&with("")).authentication.lookup.unwrap();
    assert_eq!((lookup.query.as_str(), lookup.database.as_str()), (AUTH_QUERY, "postgres"));
    for (more, expected) in [
        ("auth_query = \"SELECT 1\"", "f:15: error: `auth_query` must have the user's name in it as `$1`"),
        (
            "auth_target = \"mian\"",
            "f:15: error: `auth_target`: there is no [targets.mian]; did you mean `main`?",
        ),
    ] {
        assert_eq!(problems(&with(more)), [expected], "{more}");
    }
    let verifier = with("").replace("\"sesame\"", &format!("\"{VERIFIER}\""));
    let said = problems(&verifier).join("\n");
    assert!(said.contains("`auth_user` needs a password, and not a verifier"), "{said}");
    let nobody = with("").replace("auth_user = \"app\"", "auth_user = \"apq\"");
    assert_eq!(problems(&nobody), ["f:14: error: `auth_user`: there is no [users.apq]; did you mean `app`?"]);
}

#[test]
fn a_read_only_route_is_one_by_its_word_and_does_not_replicate() {
    let route = |line: &str| {
        let text =
            format!("[targets.main]\nhost = \"pg\"\n[users.app]\npassword = \"x\"\n[[routes]]\n{line}\n");
        examine_text(&text, Path::new("test.toml"), &|_| None)
    };
    let said =
        |line: &str| route(line).problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let read_only = route("access = \"read-only\"\nfunctions = [\"wm.search\"]\nallow_notify = true");
    let config = read_only.config.unwrap();
    assert!(config.routes[0].access.is_read_only() && config.routes[0].allow_notify);
    assert_eq!(config.routes[0].functions.as_deref(), Some(&["wm.search".to_owned()][..]));
    assert!(!route("").config.unwrap().routes[0].access.is_read_only());
    assert!(said("access = \"readonly\"").contains("must be one of \"read-write\", \"read-only\""));
    let strict = |line: &str| format!("access = \"read-only-strict\"\n{line}");
    assert!(route(&strict("")).config.unwrap().routes[0].access.is_strict());
    assert!(said(&strict("mode = \"session\"")).contains("cannot be in session mode"));
    assert!(said(&strict("allow_notify = true")).contains("commits nothing"));
    assert!(said("access = \"read-only\"\nreplication = true").contains("not possible on a read-only route"));
    assert!(said("functions = []").contains("this has no effect"));
}
