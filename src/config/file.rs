//! What was typed: every table and key of the TOML file, with its description.
//!
//! The descriptions are what `config/REFERENCE.md` is made of (`reference.rs`). A preset is written as it would be
//! typed; what it comes to stands in `resolve.rs`, and a test keeps the two the same.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Found, did_you_mean};
use super::typed::Preset::{Typed, Words};
use super::typed::{Applied, Field, Key, List, Named, Read, members, name_of, table};
use super::values::{
    Allowed, Binding, ClientMode, Count, Lasting, LogFormat, Mode, Negotiation, Oldest, Password,
    Permissions, Ratio, ServerMode, Switch, Text,
};

table! {
    /// The whole file.
    File, "the file" {
        proxy: ProxyTable, "", Words("its keys' defaults"), Reload,
            "listeners, workers and limits of the whole proxy";
        admin: AdminTable, "", Words("its keys' defaults"), Restart,
            "the page for people, `/metrics`, `/statements.txt`, `/live` and `/ready`";
        metrics: MetricsTable, "", Words("its keys' defaults"), Restart,
            "what is counted";
        log: LogTable, "", Words("its keys' defaults"), Reload,
            "what is logged, and how";
        tracing: TracingTable, "", Words("no spans are sent"), Restart,
            "where OpenTelemetry's spans of queries go";
        tls: TlsTable, "", Words("no client is encrypted"), Reload,
            "how clients are encrypted";
        timeouts: TimeoutsTable, "", Words("its keys' defaults"), Restart,
            "timeouts of every route that does not set its own";
        authentication: AuthenticationTable, "", Words("its keys' defaults"), Reload,
            "limits of logins, and where rules and the secrets of users come from";
        rules: List<RuleTable>, "", Words("SCRAM-SHA-256 for everybody"), Reload,
            "who has to prove what, as in `pg_hba.conf`: the first rule that fits a client counts, and where none \
             fits it is refused";
        targets: Named<TargetTable>, "", Words("required"), Restart,
            "the PostgreSQL servers, by names that routes use";
        users: Named<UserTable>, "", Words("nobody may log in"), Reload,
            "who may log in: PostgreSQL's login roles";
        databases: Named<DatabaseTable>, "", Words("no limits by database"), Restart,
            "limits of a database, over all its users";
        routes: List<RouteTable>, "", Words("required"), Restart,
            "what is pooled: which user of which database goes where, and how";
    }

    /// Listeners, workers and limits of the whole proxy.
    ProxyTable, "[proxy]" {
        listen: List<Text>, "address:port", Typed(r#"["127.0.0.1:6432"]"#), Restart,
            "TCP addresses for clients: an IP address and a port each. `[]` for a Unix socket only.";
        unix_socket_dir: Text, "folder", Typed(r#""""#), Restart,
            "Folder for a Unix socket `.s.PGSQL.<port>`, named after the port of the first address in `listen`, or \
             6432 where that is empty; `\"\"` is no Unix socket.";
        unix_socket_mode: Permissions, "", Typed(r#""0777""#), Restart,
            "Permission bits of the Unix socket. Anybody may connect by default, as with PostgreSQL: they still need \
             a password.";
        workers: Count, "threads", Typed("0"), Restart,
            "Threads that serve clients; `0` is as many as the cores the process may use.";
        max_clients: Count, "clients", Typed("1000"), Restart,
            "Clients that may be connected at once, over all routes. One more is refused with SQLSTATE 53300.";
        login_timeout: Lasting, "", Typed(r#""15s""#), Reload,
            "From a client's connection to its first ReadyForQuery, with the wait for a server connection where there is one. Not \
             off.";
        shutdown_timeout: Lasting, "", Typed(r#""25s""#), Reload,
            "How long running transactions may take to end after SIGTERM. Below Kubernetes' grace period of 30 \
             seconds by default. Not off.";
    }

    /// The admin page.
    AdminTable, "[admin]" {
        listen: Text, "address:port", Typed(r#""127.0.0.1:9127""#), Restart,
            "Where HTTP is answered: the page for people (`/`), `/metrics`, `/statements.txt`, `/live` and \
             `/ready`; `\"\"` switches it off.";
        token: Password, "", Words("none is asked for"), Restart,
            "What has to be shown (`Authorization: Bearer ...`) for everything but `/live`, `/ready` and the empty page, which \
             asks for it: at least 16 visible ASCII characters. `env:NAME` and `file:PATH` take it from there. Without a \
             token, a loopback address answers only those who call it `localhost` or by an IP address, so that no web site \
             reads it through somebody's browser.";
    }

    /// What is counted.
    MetricsTable, "[metrics]" {
        by_schema: Switch, "", Typed("true"), Restart,
            "Whether statements are counted by the schemas that they name: rows, errors, bytes, and the time that the \
             server took. Costs a look at each statement, also in session mode.";
        schemas: List<Text>, "schemas", Typed("[]"), Restart,
            "Schemas that are counted by name whatever else there is. Others follow as they are found in a database.";
        max_schemas: Count, "schemas", Typed("32"), Restart,
            "Schemas of a database that are counted by name, 1 to 60; the rest is counted as `other`.";
        refresh: Lasting, "", Typed(r#""5m""#), Restart,
            "How often a database is asked which schema its tables, views and functions are in, over a connection that is \
             opened for it and counts under the limits of user and database; and soon after DDL that came through the \
             proxy. `\"0s\"` is never: names without a schema are then counted as `none`.";
        pgbouncer_names: Switch, "", Typed("false"), Restart,
            "Whether pools are shown under the names of prometheus-community's pgbouncer_exporter as well, for dashboards \
             that were made for it.";
        top_statements: Count, "statements", Typed("500"), Restart,
            "How many shapes of statements (their text without literals, by database and user) each worker counts by \
             themselves, at most 2000, for `/statements.json` and `/statements.txt`; the one with the least time gives way to \
             a new one, and is counted as `other` then. About 2 kB for each. `0` is off.";
    }

    /// Logging.
    LogTable, "[log]" {
        filter: Text, "filter", Typed(r#""info""#), Reload,
            "What is logged, as a `tracing` filter: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by \
             module such as `info,firepool::pool=debug`. `RUST_LOG` overrides it, and `PUT /log-level` of the admin page \
             until the next reload.";
        repeats: Count, "lines", Typed("50"), Reload,
            "Lines of one kind (the same words, for the same reason) within ten seconds; the rest is counted, and a line \
             says how many there were. `0` is no limit.";
        format: LogFormat, "", Typed(r#""text""#), Restart,
            "Lines for people, or one JSON object a line.";
        slow_query: Lasting, "", Typed(r#""0s""#), Restart,
            "Statements that take at least so long are logged, with the time that they waited for a server connection and \
             the server's time apart; at most 10 a second for each worker. `\"0s\"` is off. Routes may have their own.";
        slow_query_sample: Count, "statements", Typed("1"), Restart,
            "One of so many slow statements is logged.";
        slow_query_literals: Switch, "", Typed("false"), Restart,
            "Whether their texts are logged as the client sent them, up to 2000 bytes. The log then has what stands in \
             literals: names, tokens, passwords of ALTER ROLE. Values that are bound to parameters are never logged.";
    }

    /// Tracing.
    TracingTable, "[tracing]" {
        otlp_endpoint: Text, "URL", Typed(r#""""#), Restart,
            "A collector of OTLP over HTTP, such as `http://127.0.0.1:4318`; `/v1/traces` is put behind it. `\"\"` is none. \
             Without TLS: for a collector beside the proxy.";
        sample: Ratio, "", Typed("0.01"), Restart,
            "Of the queries that have no `traceparent` in a comment, as sqlcommenter puts it there, so many are recorded: `1` \
             is all of them. The others are recorded where whoever sent them says so, and nowhere else.";
        service_name: Text, "", Typed(r#""firepool""#), Restart,
            "What the proxy is called there.";
    }

    /// How clients are encrypted.
    TlsTable, "[tls]" {
        mode: ClientMode, "", Words("`\"allow\"` with a `certificate`, else `\"disable\"`"), Reload,
            "`allow` encrypts clients that ask for it; `require` refuses those that do not (28000), but for cancel requests; \
             `verify-ca` also demands a certificate from one of `client_ca`; `verify-full` demands that it names the user, \
             as its common name or as an alternative name. Unix sockets are never encrypted, and never refused for it.";
        certificate: Text, "file", Words("none"), Reload,
            "The certificate that clients see, in PEM, with the chain behind it. Relative paths of `[tls]` and of targets \
             start at this file's folder. The contents of all of them are read again at SIGHUP, for new connections; what does \
             not fit is reported and the old stays in use.";
        key: Text, "file", Words("none"), Reload,
            "The certificate's private key, in PEM, without a passphrase. As in PostgreSQL, it may be readable by its owner, \
             who has to be firepool's user, or root, and then also by a group (`defaultMode: 0440` in Kubernetes).";
        client_ca: Text, "file", Words("none"), Reload,
            "Those who vouch for clients, in PEM. With it, each client is asked for a certificate, and a wrong one is \
             refused in any mode.";
        client_crl: Text, "file", Words("none"), Reload,
            "Lists of clients' certificates that were revoked, in PEM: of each of `client_ca`, and of each authority between \
             them and a client. As in PostgreSQL, a certificate of somebody who has no list here, or whose list has expired, \
             is refused. Read again at SIGHUP. Lists of version 2 are needed, with the date of the next one.";
        min_version: Oldest, "", Typed(r#""1.2""#), Reload,
            "The oldest version of TLS that clients may use.";
    }

    /// Timeouts, as defaults or of one route.
    TimeoutsTable, "[timeouts]" {
        connect: Lasting, "", Typed(r#""5s""#), Restart,
            "Opening a server connection, from connect to ReadyForQuery. Not off.";
        query_wait: Lasting, "", Typed(r#""10s""#), Restart,
            "A client's wait for a server connection; SQLSTATE 53300 after it. Not off.";
        query: Lasting, "", Typed(r#""0s""#), Restart,
            "A running query, from the client's message to ReadyForQuery; it is cancelled, with SQLSTATE 57014. `\"0s\"` \
             is off.";
        idle_in_transaction: Lasting, "", Typed(r#""0s""#), Restart,
            "A client's silence inside a transaction; SQLSTATE 25P03 after it. `\"0s\"` is off.";
        client_idle: Lasting, "", Typed(r#""0s""#), Restart,
            "A client's silence outside a transaction; SQLSTATE 57P05 after it. `\"0s\"` is off.";
        server_lifetime: Lasting, "", Typed(r#""1h""#), Restart,
            "The age at which a server connection is replaced, less up to a tenth so that not all go at once. `\"0s\"` \
             is off.";
        server_idle: Lasting, "", Typed(r#""10m""#), Restart,
            "How long a server connection above `min_size` may lie unused before it is closed. `\"0s\"` is off.";
    }

    /// How clients prove who they are.
    AuthenticationTable, "[authentication]" {
        hba_file: Text, "file", Typed(r#""""#), Reload,
            "A file in the format of `pg_hba.conf` instead of [[rules]]; `\"\"` is none. What is not supported in it is an \
             error: names of hosts, `samehost`, `samenet`, `+role`, `@file`, regular expressions, `include`, and methods \
             other than those of `method`.";
        userlist_file: Text, "file", Typed(r#""""#), Reload,
            "PgBouncer's `userlist.txt`: more users, `\"name\" \"password\"` a line, with passwords in the forms of \
             `password`. For a user with a table and without a password it has the password.";
        max_logins: Count, "clients", Typed("1000"), Reload,
            "Clients that may be in the middle of a login at once. One more is let in, and the one that has been there for \
             longest is dropped (53300), so that those that stall keep nobody out.";
        failed_logins: Count, "logins", Typed("100"), Reload,
            "Wrong passwords from one address (of IPv6: one /64) within `failed_logins_within`, after which it is refused \
             (28000) until they are forgotten; `0` is no limit. A guess counts before it is compared, so that no more are compared \
             by coming at once, and right ones are given back. Whoever shares an attacker's address is refused with it. Unix \
             sockets have no limit.";
        failed_logins_within: Lasting, "", Typed(r#""1m""#), Reload,
            "For how long a failed login counts. Not off.";
        salt_secret: Password, "", Words("made of the key in [tls]; without that, a random one"), Restart,
            "What the salts are made of of passwords, and of users who do not exist, as `mock_authentication_nonce` of a \
             PostgreSQL cluster: at least 32 random characters, in the forms of `password` (`env:NAME`, `file:PATH`). Who does not \
             exist is known by a salt that has changed after a restart, or differs from one proxy to the next, where others are \
             known by verifiers, whose salts stay. What is made of the key in [tls] changes when that is renewed.";
        auth_user: Text, "", Words("nobody is looked up"), Restart,
            "One of `users`, with a password, who asks a server for the secrets of users that have none here, on a \
             connection of its own. Clients cannot log in as it without its password.";
        auth_target: Text, "", Words("the only target"), Restart,
            "The server that is asked. Required where there are several.";
        auth_database: Text, "", Typed(r#""postgres""#), Restart,
            "The database in which it is asked, as the server calls it.";
        auth_query: Text, "SQL", Words("`pg_authid`, without roles that may not log in or have expired"), Restart,
            "What is asked, with the user's name as `$1`. It yields the name and the secret as PostgreSQL keeps it; no row, \
             another name or NULL is no such user. `search_path` is `pg_catalog`. The default needs a superuser; others \
             call a function of their owner's, such as `SELECT * FROM auth.lookup($1)`.";
        auth_ttl: Lasting, "", Typed(r#""0s""#), Restart,
            "How long an answer is used again. `\"0s\"` asks at every login, so that a changed password counts at once; \
             otherwise a failed login has the next one ask anew.";
        auth_entries: Count, "users", Typed("10000"), Restart,
            "Users whose answers are remembered, those that do not exist among them.";
    }

    /// Who has to prove what.
    RuleTable, "[[rules]]" {
        r#type: Text, "", Typed(r#""host""#), Reload,
            "`local` for Unix sockets, `host` for TCP, `hostssl` for TLS, `hostnossl` for TCP without.";
        databases: List<Text>, "", Typed(r#"["all"]"#), Reload,
            "Names, `all`, `sameuser`, or `replication` for physical replication, which `all` is not about. A name in \
             double quotes within the text is no keyword.";
        users: List<Text>, "", Typed(r#"["all"]"#), Reload,
            "Names, or `all`.";
        addresses: List<Text>, "", Typed(r#"["all"]"#), Reload,
            "Networks such as `10.0.0.0/8` or `::1/128`, or `all`. Not for `local`.";
        method: Text, "", Words("required"), Reload,
            "`scram-sha-256`; `md5` (SCRAM where only a verifier is known); `password`, which is clear text; `peer`, the \
             system's user of that name at the other end of a Unix socket; `cert`, a certificate that names the user, for \
             `hostssl` only; `trust`, nothing; `reject`.";
        clientcert: Text, "", Words("nothing"), Reload,
            "What is wanted of the client's certificate beside that, for `hostssl` only: `verify-ca`, that there is one; \
             `verify-full`, that it names the user. It needs a `client_ca` in [tls].";
        cleartext_without_tls: Switch, "", Typed("false"), Reload,
            "Whether `password` also takes clear text over TCP without TLS.";
    }

    /// One PostgreSQL server.
    TargetTable, "[targets.NAME]" {
        host: Text, "", Words("required"), Restart,
            "Host name or IP address, or the folder of a Unix socket (starts with `/`).";
        port: Count, "", Typed("5432"), Restart,
            "TCP port; with a socket folder, the number in the socket's name.";
        required: Switch, "", Typed("true"), Restart,
            "`/ready` says no until this server has answered.";
        sslmode: ServerMode, "", Typed(r#""prefer""#), Restart,
            "As libpq's: `allow` encrypts where the server lets nobody in without, `prefer` where the server can, `require` \
             always; `verify-ca` also demands a certificate from one of `sslrootcert`, and `verify-full` that it names `host`. \
             Unix sockets are never encrypted.";
        sslrootcert: Text, "file", Words("none"), Restart,
            "Those who vouch for the server, in PEM: authorities, or the server's own certificate. As with libpq, the \
             server's certificate is verified in every mode if this is there. Of the server's certificate X.509 version 3 \
             is needed for that. `system` is those whom the operating system trusts (or `SSL_CERT_FILE` and `SSL_CERT_DIR`); \
             `sslmode` is `verify-full` then, and may be nothing less.";
        channel_binding: Binding, "", Typed(r#""prefer""#), Restart,
            "Whether SCRAM is bound to the TLS connection, so that somebody in between has nothing of it: where the server can, \
             or never. With `require`, as with libpq, a server that asks for anything but SCRAM-SHA-256-PLUS is shown nothing, \
             and `sslmode` is at least `require`.";
        sslcrl: Text, "file", Words("none"), Restart,
            "Lists of servers' certificates that were revoked, in PEM, for authorities in `sslrootcert`. As with libpq, a server \
             whose authority has no list here, or one that has expired, is refused. As `client_crl` of [tls].";
        sslcert: Text, "file", Words("none"), Restart,
            "The certificate that the server is shown if it asks for one, in PEM, with the chain behind it.";
        sslkey: Text, "file", Words("none"), Restart,
            "Its private key, in PEM, without a passphrase, readable as `key` of [tls].";
        sslnegotiation: Negotiation, "", Typed(r#""postgres""#), Restart,
            "`direct` begins with TLS, without asking first: one round trip less, from PostgreSQL 17 on. It needs an \
             `sslmode` of `require` or more.";
        cleartext_without_tls: Switch, "", Typed("false"), Restart,
            "Whether a password is sent to this server in clear text over TCP without TLS, if it asks for that. Over TLS and \
             Unix sockets it always is: only `sslmode` says whether the server's certificate is verified.";
    }

    /// One login role.
    UserTable, "[users.NAME]" {
        password: Password, "", Words("one of the three is required"), Reload,
            "The password itself, which the client proves and the server is shown; or what PostgreSQL keeps of it in \
             `pg_authid` (`SCRAM-SHA-256$...`, `md5...`). `env:NAME` takes it from an environment variable, `file:PATH` \
             from a file. With a SCRAM verifier alone, servers are shown what the client has proved, and no connection \
             is opened before a client has. None of the three is required where the user is in `userlist_file`, where \
             there is an `auth_user`, and where there are rules.";
        password_env: Text, "variable", Words("one of the three is required"), Reload,
            "The environment variable that holds the password.";
        password_file: Text, "file", Words("one of the three is required"), Reload,
            "The file that holds the password, such as a mounted Kubernetes secret; one newline at its end is not \
             part of it. A relative path starts at this file's folder. Read again at every reload.";
        other_password: Password, "", Words("none"), Reload,
            "A second password that is right as well, in the forms of `password`, while it is being changed: clients may \
             prove either, and servers that refuse the first (28P01) are shown this one. Two SCRAM verifiers need the \
             same salt.";
        max_clients: Count, "clients", Typed("0"), Restart,
            "Clients of this user that may be connected at once; `0` is no limit of its own.";
        max_server_connections: Count, "server connections", Typed("0"), Restart,
            "Server connections of this user, over all its pools; `0` is no limit of its own.";
    }

    /// Limits of one database.
    DatabaseTable, "[databases.NAME]" {
        max_clients: Count, "clients", Typed("0"), Restart,
            "Clients of this database that may be connected at once; `0` is no limit of its own.";
        max_server_connections: Count, "server connections", Typed("0"), Restart,
            "Server connections to this database, over all its pools; `0` is no limit of its own.";
    }

    /// What happens to the clients of one (database, user) pair, or of a class of them.
    RouteTable, "[[routes]]" {
        database: Text, "", Typed(r#""*""#), Restart,
            "The database as clients name it; `\"*\"` is any.";
        user: Text, "", Typed(r#""*""#), Restart,
            "The user, who must be one of `users`; `\"*\"` is any of them.";
        target: Text, "", Words("the only target"), Restart,
            "The server, one of `targets`. Required where there are several.";
        target_database: Text, "", Words("the client's database"), Restart,
            "The database's name on the server, where it differs.";
        mode: Mode, "", Typed(r#""transaction""#), Restart,
            "When a server connection goes back to its pool: as the client leaves, as its transaction ends, or after \
             every statement (explicit transactions are then refused).";
        pool_size: Count, "server connections", Typed("20"), Restart,
            "Server connections of one (database, user) pool, 1 to 10000.";
        min_size: Count, "server connections", Typed("0"), Restart,
            "Server connections that are opened ahead and kept; at most `pool_size`.";
        reserve_size: Count, "server connections", Typed("0"), Restart,
            "Server connections above `pool_size`, for clients that have waited longer than `reserve_after`; at most \
             10000.";
        reserve_after: Lasting, "", Typed(r#""1s""#), Restart,
            "How long a client waits before the reserve is used. Not off: a `reserve_size` of `0` is.";
        max_clients: Count, "clients", Typed("0"), Restart,
            "Clients of one (database, user) pool; `0` is no limit of its own.";
        reuse: Switch, "", Typed("true"), Restart,
            "Whether a server connection goes to another client when its client leaves in session mode, after DISCARD \
             ALL. That leaves behind what PostgreSQL keeps for the life of a server process: loaded libraries, and that \
             there has been a temporary schema. Without, each client has a server process of its own.";
        reads_foreign_tables: Switch, "", Typed("false"), Restart,
            "Its users read `postgres_fdw` tables. PostgreSQL then keeps a second connection for each of these server \
             connections, and the budget counts them twice.";
        replication: Switch, "", Typed("false"), Restart,
            "Whether its users may replicate through the proxy (`pg_basebackup`, `pg_receivewal`, logical decoding). \
             Each such client has a server connection of its own, outside of the pool; both count under the limits of \
             the user and, for logical decoding, of the database. Physical replication has no database: it takes any \
             route of the user that allows it, that of the named database first.";
        access: Allowed, "", Typed(r#""read-write""#), Restart,
            "`\"read-only\"`: nothing that its clients send can write, whatever their role may. Server connections are \
             opened read-only, and statements that would write, leave that mode or do what it does not cover are refused \
             with SQLSTATE 25006. `\"read-only-strict\"`: and what functions, views and operators of the database's own do \
             from inside is taken back, because every transaction runs in one of the proxy's and ends with ROLLBACK; not in \
             session mode.";
        allow_notify: Switch, "", Typed("false"), Restart,
            "On a read-only route, whether its clients may notify others (NOTIFY, `pg_notify`).";
        functions: List<Text>, "", Words("all of them"), Restart,
            "On a read-only route, the functions that its clients may call beside PostgreSQL's own, as they write them: \
             `\"f\"` or `\"schema.f\"`, in lower case unless quoted.";
        slow_query: Lasting, "", Words("that of `[log]`"), Restart,
            "From when on its statements are slow; `\"0s\"` is never.";
        timeouts: TimeoutsTable, "", Words("those of `[timeouts]`"), Restart,
            "Timeouts of this route, key by key; those that are absent are taken from `[timeouts]`.";
    }
}
