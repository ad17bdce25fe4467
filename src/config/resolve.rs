//! From what was typed to what it means: everything but routes, which are in `routes.rs`.
//!
//! Passwords are read in `secrets.rs`, rules in `authentication.rs`. Every function reports what is wrong and returns something usable, so that the rest is checked as well; the caller
//! throws the result away if anything was reported.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::file::{AdminTable, DatabaseTable, File, ProxyTable, TargetTable, TimeoutsTable};
use super::problem::Found;
use super::typed::{Entry, Field, List, Named};
use super::values::{Count, Lasting, Permissions, Text};
use super::{Config, Database, Proxy, Target, Timeouts};
use super::{authentication, counting, observing, routes, secrets, tls};

/// A look-up of environment variables.
pub(super) type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Something with a name of the user's choice, and where the name was typed; `None` where it was wrong.
pub(super) type Declared<T> = (String, usize, Option<Arc<T>>);

/// A listener, and where it was typed; `None` for a default.
type Address = (SocketAddr, Option<usize>);

/// `NAMEDATALEN - 1` of PostgreSQL's src/include/pg_config_manual.h: longer names are truncated by the server.
const LONGEST_NAME: usize = 63;
/// `sun_path` of Linux's sockaddr_un less its NUL; PostgreSQL's `UNIXSOCK_PATH_BUFLEN` is the same.
const LONGEST_SOCKET_PATH: usize = 107;
/// PostgreSQL's port plus a thousand, as other poolers have it.
const DEFAULT_PORT: u16 = 6432;
/// `fs.nr_open` of Linux, the ceiling of a process's open files, is 1048576 by default.
const MOST_CLIENTS: u32 = 1_000_000;
const MOST_WORKERS: u32 = 1024;

/// What `[timeouts]` is where it says nothing.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    query_wait: Duration::from_secs(10),
    query: None,
    idle_in_transaction: None,
    client_idle: None,
    server_lifetime: Some(Duration::from_secs(60 * 60)),
    server_idle: Some(Duration::from_secs(10 * 60)),
};

/// What `file` means; of use only if nothing was reported as an error.
pub(super) fn resolve(file: File, env: Env<'_>, found: &mut Found<'_>) -> Config {
    let (proxy, mut addresses) = proxy(&file.proxy.into_value().unwrap_or_default(), found);
    let admin_table = file.admin.into_value().unwrap_or_default();
    let admin = admin(&admin_table, found);
    let admin_token = secrets::token(admin_table.token, env, found);
    addresses.extend(admin);
    refuse_repeated(&addresses, found);
    let metrics = counting::metrics(&file.metrics.into_value().unwrap_or_default(), found);
    let log = observing::log(&file.log.into_value().unwrap_or_default(), found);
    let tracing = observing::tracing(&file.tracing.into_value().unwrap_or_default(), found);
    let tls = tls::clients(&file.tls.into_value().unwrap_or_default(), found);
    let defaults = timeouts(&file.timeouts.into_value().unwrap_or_default(), &TIMEOUTS, found);

    let complete = !file.targets.is_wrong();
    let targets = declared(file.targets, found, target);
    if targets.is_empty() && complete {
        found.whole_file("there are no targets: a [targets.NAME] with a `host` is needed");
    }
    let table = file.authentication.into_value().unwrap_or_default();
    let mut authentication = authentication::resolve(&table, file.rules, (&tls, env), found);
    let looked_up = table.auth_user.get().is_some_and(|(Text(name), _)| !name.is_empty());
    let (listed, listed_at) = secrets::userlist_file(&table.userlist_file, found);
    let optional = looked_up || authentication.rules.is_some();
    let mut sources = secrets::Sources { env, listed, listed_at, optional };
    let mut users = declared(file.users, found, |entry, found| secrets::user(entry, &mut sources, found));
    users.extend(secrets::listed(sources, found));
    authentication.lookup = authentication::lookup(&table, &users, &targets, found);
    let asker = authentication.lookup.as_ref().and(table.auth_user.get()).map(|(_, at)| at);
    authentication::judge_salts((&authentication, asker), &users, &tls, found);
    authentication::judge_hashes(&authentication, &users, found);
    let databases = declared(file.databases, found, database);
    let known = routes::Known {
        targets,
        users,
        databases,
        timeouts: defaults,
        slow_query: log.slow_query.after,
        max_clients: proxy.max_clients,
        looked_up,
    };
    let routes = routes::resolve(file.routes, &known, found);

    let routes::Known { targets, users, databases, .. } = known;
    Config {
        proxy,
        admin: admin.map(|(address, _)| address),
        admin_token,
        metrics,
        log,
        tracing,
        tls,
        authentication,
        targets: sound(targets),
        users: sound(users),
        databases: sound(databases),
        routes,
    }
}

fn sound<T>(declared: Vec<Declared<T>>) -> Vec<Arc<T>> {
    declared.into_iter().filter_map(|(_, _, body)| body).collect()
}

fn declared<Typed, T>(
    tables: Field<Named<Typed>>,
    found: &mut Found<'_>,
    mut resolve: impl FnMut(Entry<Typed>, &mut Found<'_>) -> Option<T>,
) -> Vec<Declared<T>> {
    let entries = tables.into_value().map_or_else(Vec::new, |named| named.0);
    let resolve = |entry: Entry<Typed>| {
        let (name, at) = (entry.name.clone(), entry.at);
        (name, at, resolve(entry, found).map(Arc::new))
    };
    entries.into_iter().map(resolve).collect()
}

fn proxy(table: &ProxyTable, found: &mut Found<'_>) -> (Proxy, Vec<Address>) {
    let mut listen = Vec::new();
    match table.listen.get() {
        Some((list, _)) => {
            let addresses = list.items.iter().filter_map(|(text, at)| address(text, *at, found));
            listen.extend(addresses);
        }
        None => listen.push((SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)), None)),
    }
    let port = listen.first().map_or(DEFAULT_PORT, |(address, _)| address.port());
    let unix_socket_dir = unix_socket_dir(&table.unix_socket_dir, port, found);
    if let Some((List { items, complete: true }, at)) = table.listen.get()
        && items.is_empty()
        && unix_socket_dir.is_none()
    {
        found.error(at, "there is no listener: neither an address in `listen` nor a `unix_socket_dir`");
    }
    let workers = number("workers", &table.workers, 0, 0..=MOST_WORKERS, found);
    let login_timeout = lasting("login_timeout", &table.login_timeout, Duration::from_secs(15), found);
    let shutdown = Duration::from_secs(25);
    let proxy = Proxy {
        listen: listen.iter().map(|(address, _)| *address).collect(),
        unix_socket_dir,
        unix_socket_mode: table.unix_socket_mode.get().map_or(0o777, |(Permissions(mode), _)| *mode),
        workers: (workers > 0).then_some(workers as usize),
        max_clients: number("max_clients", &table.max_clients, 1000, 1..=MOST_CLIENTS, found) as usize,
        login_timeout,
        shutdown_timeout: lasting("shutdown_timeout", &table.shutdown_timeout, shutdown, found),
    };
    (proxy, listen)
}

fn unix_socket_dir(field: &Field<Text>, port: u16, found: &mut Found<'_>) -> Option<PathBuf> {
    let (Text(folder), at) = field.get()?;
    if folder.is_empty() {
        return None;
    }
    if !folder.starts_with('/') {
        found.error(at, "`unix_socket_dir` must be an absolute path, or \"\" for no Unix socket");
    }
    refuse_long_socket_path("unix_socket_dir", folder, port, (at, found));
    Some(PathBuf::from(folder))
}

fn refuse_long_socket_path(key: &str, folder: &str, port: u16, (at, found): (usize, &mut Found<'_>)) {
    let length = format!("{folder}/.s.PGSQL.{port}").len();
    if length > LONGEST_SOCKET_PATH {
        let most = format!("at most {LONGEST_SOCKET_PATH} are possible");
        found.error(
            at,
            format!("`{key}` is too long: the path of its socket would have {length} bytes, {most}"),
        );
    }
}

fn admin(table: &AdminTable, found: &mut Found<'_>) -> Option<Address> {
    match table.listen.get() {
        Some((Text(off), _)) if off.is_empty() => None,
        Some((text, at)) => address(text, at, found),
        None => Some((SocketAddr::from((Ipv4Addr::LOCALHOST, 9127)), None)),
    }
}

fn address(Text(typed): &Text, at: usize, found: &mut Found<'_>) -> Option<Address> {
    match typed.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Some((address, Some(at))),
        Ok(_) => {
            found.error(at, format!("`listen`: the port of \"{typed}\" must be between 1 and 65535"));
            None
        }
        Err(_) => {
            found.error(
                at,
                format!(
                    "`listen` must be an IP address and a port, such as \"0.0.0.0:6432\", \"127.0.0.1:6432\" or \
                     \"[::]:6432\", not \"{typed}\""
                ),
            );
            None
        }
    }
}

fn refuse_repeated(addresses: &[Address], found: &mut Found<'_>) {
    for (index, (address, at)) in addresses.iter().enumerate() {
        let earlier = addresses.iter().take(index).find(|(earlier, _)| earlier == address);
        // of a default and a typed address, the typed one has a place; two defaults are never the same
        if let Some((_, earlier)) = earlier
            && let Some(at) = at.or(*earlier)
        {
            found.error(at, format!("{address} is listened on twice"));
        }
    }
}

/// The timeouts of `table`; what it does not say is taken from `base`.
pub(super) fn timeouts(table: &TimeoutsTable, base: &Timeouts, found: &mut Found<'_>) -> Timeouts {
    Timeouts {
        connect: lasting("connect", &table.connect, base.connect, found),
        query_wait: lasting("query_wait", &table.query_wait, base.query_wait, found),
        query: or_off(&table.query, base.query),
        idle_in_transaction: or_off(&table.idle_in_transaction, base.idle_in_transaction),
        client_idle: or_off(&table.client_idle, base.client_idle),
        server_lifetime: or_off(&table.server_lifetime, base.server_lifetime),
        server_idle: or_off(&table.server_idle, base.server_idle),
    }
}

fn target(entry: Entry<TargetTable>, found: &mut Found<'_>) -> Option<Target> {
    if entry.name.is_empty() {
        found.error(entry.at, "the name of a target must not be empty");
    }
    let table = entry.body?;
    let port = number("port", &table.port, 5432, 1..=u32::from(u16::MAX), found);
    let port = u16::try_from(port).unwrap_or(u16::MAX);
    if table.host.is_absent() {
        found.error(entry.at, format!("target `{}` has no `host`", entry.name));
    }
    let (Text(host), at) = table.host.get()?;
    if host.is_empty() {
        found.error(at, "`host` must not be empty");
    } else if host.starts_with('/') {
        refuse_long_socket_path("host", host, port, (at, found));
    } else if host.contains(':') && host.parse::<Ipv6Addr>().is_err() {
        found.error(at, "`host` must not contain a port: it goes into `port`");
    }
    let required = table.required.get().is_none_or(|(required, _)| required.0);
    let tls = tls::target(&table, host, entry.at, found);
    let cleartext = table.cleartext_without_tls.get().is_some_and(|(allowed, _)| allowed.0);
    let host = host.clone();
    Some(Target { name: entry.name, host, port, required, tls, cleartext_without_tls: cleartext })
}

fn database(entry: Entry<DatabaseTable>, found: &mut Found<'_>) -> Option<Database> {
    refuse_bad_name("database", &entry.name, entry.at, found);
    refuse_any(&entry.name, entry.at, found);
    let table = entry.body?;
    Some(Database {
        name: entry.name,
        max_clients: limit(&table.max_clients),
        max_server_connections: limit(&table.max_server_connections),
    })
}

pub(super) fn refuse_any(name: &str, at: usize, found: &mut Found<'_>) {
    if name == "*" {
        found.error(at, "`*` stands for any name in a route, and nothing can be called that");
    }
}

/// Reports a name that PostgreSQL cannot have; `None` then.
pub(super) fn refuse_bad_name(what: &str, name: &str, at: usize, found: &mut Found<'_>) -> Option<()> {
    let wrong = match name.len() {
        0 => "must not be empty".to_owned(),
        length if length > LONGEST_NAME => {
            format!("has {length} bytes, PostgreSQL allows {LONGEST_NAME}")
        }
        _ if name.contains('\0') => "must not contain a NUL character".to_owned(),
        _ => return Some(()),
    };
    found.error(at, format!("the name of a {what} {wrong}"));
    None
}

/// A number within `range`, or what it is by default.
pub(super) fn number(
    key: &str,
    field: &Field<Count>,
    preset: u32,
    range: RangeInclusive<u32>,
    found: &mut Found<'_>,
) -> u32 {
    match field.get() {
        None => preset,
        Some((Count(typed), at)) => match u32::try_from(*typed) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (least, most) = (range.start(), range.end());
                found.error(at, format!("`{key}` must be between {least} and {most}, not {typed}"));
                preset
            }
        },
    }
}

/// A limit of which 0 is none.
pub(super) fn limit(field: &Field<Count>) -> Option<usize> {
    let (Count(limit), _) = field.get()?;
    (*limit > 0).then(|| usize::try_from(*limit).unwrap_or(usize::MAX))
}

/// A duration that cannot be off.
pub(super) fn lasting(
    key: &str,
    field: &Field<Lasting>,
    preset: Duration,
    found: &mut Found<'_>,
) -> Duration {
    match field.get() {
        Some((Lasting(Duration::ZERO), at)) => {
            found.error(at, format!("`{key}` must be longer than zero: it cannot be switched off"));
            preset
        }
        Some((Lasting(duration), _)) => *duration,
        None => preset,
    }
}

pub(super) fn or_off(field: &Field<Lasting>, preset: Option<Duration>) -> Option<Duration> {
    field.get().map_or(preset, |(Lasting(duration), _)| (!duration.is_zero()).then_some(*duration))
}
