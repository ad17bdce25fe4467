//! From the routes as typed to routes in their order of precedence, with what is doubtful about them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::file::RouteTable;
use super::problem::{Found, did_you_mean};
use super::resolve::{Declared, lasting, limit, number, or_off, refuse_bad_name, timeouts};
use super::typed::{Field, List};
use super::values::{Allowed, Mode, Text};
use super::{Access, Database, Pattern, PoolMode, Route, Target, Timeouts, User};

const MOST_CONNECTIONS: u32 = 10_000;

/// What routes may name, and what they inherit.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) targets: Vec<Declared<Target>>,
    pub(super) users: Vec<Declared<User>>,
    pub(super) databases: Vec<Declared<Database>>,
    pub(super) timeouts: Timeouts,
    pub(super) slow_query: Option<Duration>,
    pub(super) max_clients: usize,
    /// There may be users that only the server knows.
    pub(super) looked_up: bool,
}

/// The routes by precedence; routes that name something wrong have been reported and are left out.
pub(super) fn resolve(
    typed: Field<List<RouteTable>>,
    known: &Known,
    found: &mut Found<'_>,
) -> Vec<Arc<Route>> {
    let none = List { items: Vec::new(), complete: !typed.is_wrong() };
    let List { items: tables, complete } = typed.into_value().unwrap_or(none);
    if tables.is_empty() && complete {
        found.whole_file("there are no routes: at least one [[routes]] is needed");
    }
    let mut routes = Vec::new();
    let mut places = HashMap::new();
    for (table, at) in &tables {
        let Some(route) = route(table, *at, known, found) else { continue };
        if let Some(first) = places.insert(route.key(), *at) {
            let message =
                format!("a second route for {}; the first is on line {}", route.key(), found.line(first));
            found.error(*at, message);
        }
        warn(&route, *at, known, found);
        routes.push(Arc::new(route));
    }
    routes.sort_by_key(|route| (route.database == Pattern::Any, route.user == Pattern::Any));
    // a route that was left out may well be the one that uses what no other does
    if complete && !routes.is_empty() && routes.len() == tables.len() {
        warn_of_unused(&routes, known, found);
    }
    routes
}

fn route(table: &RouteTable, at: usize, known: &Known, found: &mut Found<'_>) -> Option<Route> {
    let database = pattern("database", &table.database, found);
    let user = pattern("user", &table.user, found);
    let user = user.filter(|user| is_known(user, &table.user, known, found));
    let target = target(&table.target, at, known, found);
    let target_database = table.target_database.get().map(|(Text(name), at)| {
        refuse_bad_name("database", name, at, found);
        name.clone()
    });
    let pool_size = number("pool_size", &table.pool_size, 20, 1..=MOST_CONNECTIONS, found);
    let min_size = number("min_size", &table.min_size, 0, 0..=MOST_CONNECTIONS, found);
    if let Some((_, at)) = table.min_size.get()
        && min_size > pool_size
    {
        let message =
            format!("`min_size` must not be above `pool_size`: {min_size} is more than {pool_size}");
        found.error(at, message);
    }
    let reserve_size = number("reserve_size", &table.reserve_size, 0, 0..=MOST_CONNECTIONS, found);
    let reserve_after = lasting("reserve_after", &table.reserve_after, Duration::from_secs(1), found);
    let timeouts = match table.timeouts.get() {
        Some((own, _)) => timeouts(own, &known.timeouts, found),
        None => known.timeouts.clone(),
    };
    Some(Route {
        database: database?,
        user: user?,
        target: target?,
        target_database,
        mode: table.mode.get().map_or(PoolMode::Transaction, |(Mode(mode), _)| *mode),
        pool_size,
        min_size,
        reserve_size,
        reserve_after,
        max_clients: limit(&table.max_clients),
        reuse: table.reuse.get().is_none_or(|(reuse, _)| reuse.0),
        reads_foreign_tables: table.reads_foreign_tables.get().is_some_and(|(reads, _)| reads.0),
        access: access(table, found),
        allow_notify: table.allow_notify.get().is_some_and(|(allowed, _)| allowed.0),
        functions: table
            .functions
            .get()
            .map(|(list, _)| list.items.iter().map(|(Text(name), _)| name.clone()).collect()),
        replication: table.replication.get().is_some_and(|(allowed, _)| allowed.0),
        timeouts,
        slow_query: or_off(&table.slow_query, known.slow_query),
    })
}

fn access(table: &RouteTable, found: &mut Found<'_>) -> Access {
    let access = table.access.get().map_or(Access::ReadWrite, |(Allowed(access), _)| *access);
    if access.is_strict() {
        if let Some((_, at)) = table.mode.get().filter(|(Mode(mode), _)| *mode == PoolMode::Session) {
            found.error(at, "a strictly read-only route cannot be in session mode");
        }
        if let Some((_, at)) = table.allow_notify.get().filter(|(allowed, _)| allowed.0) {
            found.error(
                at,
                "`allow_notify` is not possible on a strictly read-only route: it commits nothing",
            );
        }
    }
    if access.is_read_only() {
        if let Some((_, at)) = table.replication.get().filter(|(allowed, _)| allowed.0) {
            found
                .error(at, "`replication` is not possible on a read-only route: it can write and drop slots");
        }
    } else {
        let idle = [table.allow_notify.get().map(|(_, at)| at), table.functions.get().map(|(_, at)| at)];
        for at in idle.into_iter().flatten() {
            found.warning(at, "this has no effect: the route is not read-only");
        }
    }
    access
}

fn pattern(what: &str, field: &Field<Text>, found: &mut Found<'_>) -> Option<Pattern> {
    match field {
        Field::Absent => Some(Pattern::Any),
        Field::Wrong => None,
        Field::Typed { value: Text(any), .. } if any == "*" => Some(Pattern::Any),
        Field::Typed { value: Text(name), at } => {
            refuse_bad_name(what, name, *at, found).map(|()| Pattern::Exact(name.clone()))
        }
    }
}

fn is_known(user: &Pattern, field: &Field<Text>, known: &Known, found: &mut Found<'_>) -> bool {
    let (Pattern::Exact(user), Some((_, at))) = (user, field.get()) else { return true };
    let mut names = known.users.iter().map(|(name, ..)| name.as_str());
    if known.looked_up || names.any(|name| name == user) {
        return true;
    }
    let hint = did_you_mean(user, known.users.iter().map(|(name, ..)| name.as_str()));
    found.error(at, format!("unknown user `{user}`: there is no [users.{user}]{hint}"));
    false
}

/// A target that is declared but wrong has been reported where it is declared.
fn target(field: &Field<Text>, at: usize, known: &Known, found: &mut Found<'_>) -> Option<Arc<Target>> {
    let names = || known.targets.iter().map(|(name, ..)| name.as_str());
    match (field, known.targets.as_slice()) {
        (Field::Wrong, _) | (Field::Absent, []) => None,
        (Field::Absent, [(_, _, only)]) => only.clone(),
        (Field::Absent, _) => {
            let listed = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            found.error(at, format!("the route needs a `target`, one of {listed}"));
            None
        }
        (Field::Typed { value: Text(typed), at }, targets) => {
            match targets.iter().find(|(name, ..)| name == typed) {
                Some((_, _, target)) => target.clone(),
                None => {
                    let hint = did_you_mean(typed, names());
                    found
                        .error(*at, format!("unknown target `{typed}`: there is no [targets.{typed}]{hint}"));
                    None
                }
            }
        }
    }
}

/// What is allowed, but cannot have been meant.
fn warn(route: &Route, at: usize, known: &Known, found: &mut Found<'_>) {
    let (wait, after) = (route.timeouts.query_wait, route.reserve_after);
    if route.reserve_size > 0 && after >= wait {
        let message = format!(
            "the reserve is never used: a client gives up after `query_wait` ({}), before `reserve_after` ({})",
            humantime::format_duration(wait),
            humantime::format_duration(after)
        );
        found.warning(at, message);
    }
    if let Some(limit) = route.max_clients.filter(|limit| *limit > known.max_clients) {
        let most = known.max_clients;
        found.warning(at, format!("`max_clients` of {limit} is never reached: [proxy] allows {most}"));
    }
    let cap_of_user = declared(&route.user, &known.users).and_then(|user| user.max_server_connections);
    let cap_of_database =
        declared(&route.database, &known.databases).and_then(|database| database.max_server_connections);
    for (whose, cap) in [("user", cap_of_user), ("database", cap_of_database)] {
        if let Some(cap) = cap.filter(|cap| *cap < route.pool_size as usize) {
            let size = route.pool_size;
            found.warning(
                at,
                format!("`pool_size` of {size} is never reached: its {whose} has a `max_server_connections` of {cap}"),
            );
        }
    }
}

fn declared<'k, T>(pattern: &Pattern, known: &'k [Declared<T>]) -> Option<&'k T> {
    let Pattern::Exact(wanted) = pattern else { return None };
    known.iter().find(|(name, ..)| name == wanted).and_then(|(_, _, body)| body.as_deref())
}

/// Declared, but of no use to any route: most likely a mistyped name.
fn warn_of_unused(routes: &[Arc<Route>], known: &Known, found: &mut Found<'_>) {
    if known.users.is_empty() && !known.looked_up {
        found.whole_file_warning("there are no users: nobody may log in");
    }
    for (name, at, _) in &known.users {
        if !known.looked_up && !routes.iter().any(|route| route.user.matches(name)) {
            found.warning(*at, format!("no route serves user `{name}`"));
        }
    }
    for (name, at, _) in &known.databases {
        if !routes.iter().any(|route| route.database.matches(name)) {
            let hint = did_you_mean(name, routes.iter().filter_map(|route| route.database.exact()));
            found.warning(*at, format!("no route serves database `{name}`{hint}"));
        }
    }
    for (name, at, _) in &known.targets {
        if !routes.iter().any(|route| route.target.name == *name) {
            found.warning(*at, format!("no route goes to target `{name}`"));
        }
    }
}
