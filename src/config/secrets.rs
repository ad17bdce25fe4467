//! Users and their passwords: the only part of the configuration that reads secrets, from the file itself, from the
//! environment, from files beside it, and from a `userlist.txt`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::User;
use super::file::UserTable;
use super::problem::Found;
use super::resolve::{Declared, Env, limit, refuse_any, refuse_bad_name};
use super::typed::{Entry, Field};
use super::values::{Password, Text};
use crate::scram::ScramError;
use crate::secret::{Credential, Secret, userlist};
use crate::tls::exposure;

/// The longest file of a password that is read. PostgreSQL 18 takes passwords of up to 1 kB.
const LONGEST_SECRET: u64 = 64 * 1024;
/// With fewer, somebody who may ask a few hundred times a second would come through one day.
const SHORTEST_TOKEN: usize = 16;
/// The longest `userlist.txt`.
const LONGEST_LIST: u64 = 16 * 1024 * 1024;

/// What users without a password of their own get theirs from.
pub(super) struct Sources<'e> {
    pub(super) env: Env<'e>,
    /// Of a `userlist.txt`, by name.
    pub(super) listed: Vec<(String, Option<Credential>)>,
    /// Where it was named.
    pub(super) listed_at: usize,
    /// Users may have no password: it is looked up, or a rule lets them in without one.
    pub(super) optional: bool,
}

/// The user of a table.
pub(super) fn user(
    entry: Entry<UserTable>,
    sources: &mut Sources<'_>,
    found: &mut Found<'_>,
) -> Option<User> {
    refuse_bad_name("user", &entry.name, entry.at, found);
    refuse_any(&entry.name, entry.at, found);
    let table = entry.body?;
    let max_clients = limit(&table.max_clients);
    let max_server_connections = limit(&table.max_server_connections);
    let listed = sources.listed.iter().position(|(name, _)| *name == entry.name);
    let listed = listed.map(|place| sources.listed.swap_remove(place).1);
    let other = table.other_password;
    let sourced = (table.password, table.password_env, table.password_file);
    let mut credentials = Vec::new();
    match sourced {
        (Field::Absent, Field::Absent, Field::Absent) if listed.is_some() => {
            credentials.extend(listed.flatten());
        }
        (Field::Absent, Field::Absent, Field::Absent) if sources.optional => {}
        sourced => credentials.push(own(&entry.name, entry.at, sourced, sources.env, found)?),
    }
    if other.is_wrong() {
        return None;
    }
    if let Field::Typed { value, at } = other {
        credentials.push(credential(&entry.name, (value.0, at), sources.env, found)?);
        refuse_two_salts(&entry.name, &credentials, at, found);
    }
    Some(User { name: entry.name, credentials, max_clients, max_server_connections })
}

/// The users of `userlist.txt` who have no table.
pub(super) fn listed(sources: Sources<'_>, found: &mut Found<'_>) -> Vec<Declared<User>> {
    let at = sources.listed_at;
    let mut users = Vec::new();
    for (name, credential) in sources.listed {
        refuse_bad_name("user", &name, at, found);
        let credentials = credential.into_iter().collect();
        let user = User { name: name.clone(), credentials, max_clients: None, max_server_connections: None };
        users.push((name, at, Some(Arc::new(user))));
    }
    users
}

type Sourced = (Field<Password>, Field<Text>, Field<Text>);

fn own(name: &str, at: usize, sourced: Sourced, env: Env<'_>, found: &mut Found<'_>) -> Option<Credential> {
    let (password, variable, file) = sourced;
    if password.is_wrong() || variable.is_wrong() || file.is_wrong() {
        return None;
    }
    match (password, variable, file) {
        (Field::Typed { value, at }, Field::Absent, Field::Absent) => {
            credential(name, (value.0, at), env, found)
        }
        (Field::Absent, Field::Typed { value: Text(variable), at }, Field::Absent) => {
            let secret = of_environment(&format!("the password of `{name}`"), &variable, env, (at, found))?;
            understood(name, secret, at, found)
        }
        (Field::Absent, Field::Absent, Field::Typed { value: Text(path), at }) => {
            let secret = of_file("password_file", &path, at, found)?;
            understood(name, secret, at, found)
        }
        (Field::Absent, Field::Absent, Field::Absent) => {
            let message =
                format!("user `{name}` needs one of `password`, `password_env` and `password_file`");
            found.error(at, message);
            None
        }
        _ => {
            let message =
                format!("user `{name}` has more than one of `password`, `password_env` and `password_file`");
            found.error(at, message);
            None
        }
    }
}

fn credential(
    name: &str,
    (typed, at): (Secret, usize),
    env: Env<'_>,
    found: &mut Found<'_>,
) -> Option<Credential> {
    let secret = secret(name, (typed, at), env, found)?;
    understood(name, secret, at, found)
}

/// What was typed as the password of somebody: itself, or where it is.
pub(super) fn secret(
    name: &str,
    typed: (Secret, usize),
    env: Env<'_>,
    found: &mut Found<'_>,
) -> Option<Secret> {
    located(("password", &format!("the password of `{name}`")), typed, env, found)
}

/// What was typed as a secret, under a key and for something: itself, or what is where it says.
fn located(
    (key, what): (&str, &str),
    (typed, at): (Secret, usize),
    env: Env<'_>,
    found: &mut Found<'_>,
) -> Option<Secret> {
    if let Some(variable) = typed.expose().strip_prefix("env:") {
        of_environment(what, variable, env, (at, found))
    } else if let Some(path) = typed.expose().strip_prefix("file:") {
        of_file(key, path, at, found)
    } else {
        Some(typed)
    }
}

/// The token of admin HTTP, which travels in a header: visible ASCII, and too long to be guessed.
pub(super) fn token(field: Field<Password>, env: Env<'_>, found: &mut Found<'_>) -> Option<Secret> {
    let Field::Typed { value, at } = field else { return None };
    let token = located(("token", "the token"), (value.0, at), env, found)?;
    let text = token.expose();
    if text.len() < SHORTEST_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        found.error(
            at,
            format!("`token` must have at least {SHORTEST_TOKEN} characters, all of them visible ASCII"),
        );
    }
    Some(token)
}

fn of_environment(
    what: &str,
    variable: &str,
    env: Env<'_>,
    (at, found): (usize, &mut Found<'_>),
) -> Option<Secret> {
    let secret = env(variable).map(Secret::new);
    if secret.is_none() {
        found.error(at, format!("the environment variable `{variable}` with {what} is not set"));
    }
    secret
}

fn of_file(key: &str, typed: &str, at: usize, found: &mut Found<'_>) -> Option<Secret> {
    let (path, text) = read(typed, LONGEST_SECRET, found);
    warn_of_readers(key, &path, at, found);
    match text {
        Ok(text) => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            Some(Secret::new(line.to_owned()))
        }
        Err(error) => {
            found.error(at, format!("`{key}` {} cannot be read: {error}", path.display()));
            None
        }
    }
}

/// A key that others can read is refused; of a password a warning has to do, because what mounts it often knows no better.
fn warn_of_readers(key: &str, path: &Path, at: usize, found: &mut Found<'_>) {
    if let Some(reason) = exposure(path) {
        found.warning(at, format!("`{key}` {}: {reason}", path.display()));
    }
}

/// A file beside the configuration, up to a length.
pub(super) fn read(
    typed: &str,
    longest: u64,
    found: &Found<'_>,
) -> (PathBuf, std::io::Result<Zeroizing<String>>) {
    let path = found.file().parent().unwrap_or(Path::new("")).join(typed);
    let text = std::fs::metadata(&path).and_then(|metadata| {
        if metadata.len() > longest {
            return Err(std::io::Error::other(format!("it has more than {longest} bytes")));
        }
        std::fs::read_to_string(&path).map(Zeroizing::new)
    });
    (path, text)
}

fn understood(name: &str, secret: Secret, at: usize, found: &mut Found<'_>) -> Option<Credential> {
    if secret.expose().is_empty() {
        // PostgreSQL refuses empty passwords (src/backend/libpq/auth.c, recv_password_packet)
        found.error(at, format!("the password of `{name}` is empty"));
        return None;
    }
    if secret.expose().contains('\0') {
        found.error(at, format!("the password of `{name}` contains a NUL character"));
        return None;
    }
    match Credential::read(secret) {
        Ok(credential) => Some(credential),
        Err(error) => {
            let why = match error {
                ScramError::TooLarge => "has more iterations or salt than is taken",
                _ => "begins like a SCRAM verifier of PostgreSQL and is none",
            };
            found.error(at, format!("the password of `{name}` {why}"));
            None
        }
    }
}

/// A challenge has one salt.
fn refuse_two_salts(name: &str, credentials: &[Credential], at: usize, found: &mut Found<'_>) {
    let verifiers: Vec<_> =
        credentials.iter().filter(|credential| matches!(credential, Credential::Scram(_))).collect();
    if let [Credential::Scram(first), Credential::Scram(second)] = verifiers.as_slice()
        && first.clone().joined(second.clone()).is_none()
    {
        found.error(
            at,
            format!(
                "the two SCRAM verifiers of `{name}` have different salts, of which a client is asked for one only: \
                 give one of them as a password, or with the salt of the other"
            ),
        );
    }
}

/// Reads a `userlist.txt`.
pub(super) fn userlist_file(
    field: &Field<Text>,
    found: &mut Found<'_>,
) -> (Vec<(String, Option<Credential>)>, usize) {
    let Some((Text(typed), at)) = field.get() else { return (Vec::new(), 0) };
    if typed.is_empty() {
        return (Vec::new(), at);
    }
    let (path, text) = read(typed, LONGEST_LIST, found);
    warn_of_readers("userlist_file", &path, at, found);
    let entries = match text {
        Ok(text) => userlist(&text).map_err(|error| format!("{}: {error}", path.display())),
        Err(error) => Err(format!("`userlist_file` {} cannot be read: {error}", path.display())),
    };
    match entries {
        Ok(entries) => (entries.into_iter().map(|entry| (entry.name, entry.credential)).collect(), at),
        Err(problem) => {
            found.error(at, problem);
            (Vec::new(), at)
        }
    }
}
