//! How clients have to prove who they are: rules, limits, and where the secrets of users without a table come from.

use std::sync::Arc;
use std::time::Duration;

use super::file::{AuthenticationTable, RuleTable};
use super::problem::{Found, did_you_mean};
use super::resolve::{Declared, Env, lasting, number, or_off, refuse_bad_name};
use super::typed::{Field, List};
use super::values::{Password, Text};
use super::{Authentication, Lookup, Target, Tls, User, secrets};
use crate::hba::{self, Certificate, Fields, Method, Rule, Word};
use crate::secret::{Credential, Secret};

/// What is asked where `auth_query` says nothing. Only superusers may read `pg_authid`. A role that may not log in, or
/// whose password has expired, is not there; every name is PostgreSQL's own, operators among them.
pub const AUTH_QUERY: &str = "SELECT rolname, rolpassword FROM pg_catalog.pg_authid \
     WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin \
     AND (rolvaliduntil IS NULL OR rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())";

/// The longest rules file that is read.
const LONGEST_RULES: u64 = 4 * 1024 * 1024;
/// As many as PostgreSQL's `MOCK_AUTH_NONCE_LEN` has bytes.
const SHORTEST_SALT_SECRET: usize = 32;
const MOST_LOGINS: u32 = 1_000_000;
const MOST_ENTRIES: u32 = 1_000_000;

/// What the tables mean, but for the look-up.
pub(super) fn resolve(
    table: &AuthenticationTable,
    rules: Field<List<RuleTable>>,
    (tls, env): (&Tls, Env<'_>),
    found: &mut Found<'_>,
) -> Authentication {
    let rules = match (table.hba_file.get(), rules) {
        (Some((Text(file), at)), Field::Absent) if !file.is_empty() => Some(of_file((file, at), tls, found)),
        (Some((Text(file), at)), _) if !file.is_empty() => {
            found.error(at, "both `hba_file` and [[rules]]: which of them comes first is not known");
            None
        }
        (_, Field::Absent) => None,
        (_, rules) => Some(typed(rules, tls, found)),
    };
    let failures = number("failed_logins", &table.failed_logins, 100, 0..=u32::MAX, found);
    let window = lasting("failed_logins_within", &table.failed_logins_within, Duration::from_secs(60), found);
    Authentication {
        rules,
        lookup: None,
        max_logins: number("max_logins", &table.max_logins, 1000, 1..=MOST_LOGINS, found) as usize,
        failed_logins: (failures > 0).then_some(failures),
        failed_logins_within: window,
        salt_secret: salt_secret(table, env, found),
    }
}

/// Whoever can see salts can try what they are made of.
fn salt_secret(table: &AuthenticationTable, env: Env<'_>, found: &mut Found<'_>) -> Option<Secret> {
    let (Password(typed), at) = table.salt_secret.get()?;
    let secret = secrets::secret("salts", (typed.clone(), at), env, found)?;
    let length = secret.expose().len();
    if length < SHORTEST_SALT_SECRET {
        let message =
            format!("`salt_secret` needs {SHORTEST_SALT_SECRET} random characters or more, not {length}");
        found.error(at, message);
        return None;
    }
    Some(secret)
}

/// Verifiers have salts of their own, that stay, whether they are here or looked up by somebody who is named at
/// `looked_up`. Those of users who do not exist have to stay as well.
pub(super) fn judge_salts(
    (authentication, looked_up): (&Authentication, Option<usize>),
    users: &[Declared<User>],
    tls: &Tls,
    found: &mut Found<'_>,
) {
    let has_verifier = |user: &User| user.credentials.iter().any(|it| matches!(it, Credential::Scram(_)));
    let verifier = users.iter().find(|(.., user)| user.as_deref().is_some_and(has_verifier));
    let (at, with) = match (verifier, looked_up) {
        (Some((_, at, _)), _) => (*at, "SCRAM verifiers"),
        (None, Some(at)) => (at, "users that are looked up"),
        (None, None) => return,
    };
    if authentication.salt_secret.is_none() && tls.acceptor.is_none() {
        let message = format!(
            "with {with} and neither a `salt_secret` in [authentication] nor a key in [tls], salts tell after a restart \
             which users do not exist: theirs have changed"
        );
        found.warning(at, message);
    }
}

/// Without rules there is no method for which an MD5 hash is enough.
pub(super) fn judge_hashes(authentication: &Authentication, users: &[Declared<User>], found: &mut Found<'_>) {
    let is_hash = |credential: &Credential| matches!(credential, Credential::Md5(_));
    let has_no_more = |user: &User| !user.credentials.is_empty() && user.credentials.iter().all(is_hash);
    let hashed = users.iter().find(|(.., user)| user.as_deref().is_some_and(has_no_more));
    if let (None, Some((name, at, _))) = (&authentication.rules, hashed) {
        let message = format!(
            "`{name}` cannot log in: of its password an MD5 hash is known, and without rules clients prove theirs with \
             SCRAM-SHA-256"
        );
        found.warning(*at, message);
    }
}

fn of_file((typed, at): (&str, usize), tls: &Tls, found: &mut Found<'_>) -> Vec<Rule> {
    let (path, text) = secrets::read(typed, LONGEST_RULES, found);
    let rules = match text {
        Ok(text) => hba::parse(&text),
        Err(error) => {
            found.error(at, format!("`hba_file` {} cannot be read: {error}", path.display()));
            return Vec::new();
        }
    };
    match rules {
        Ok(rules) => {
            if rules.is_empty() {
                found.warning(at, format!("{} has no rules: nobody may log in", path.display()));
            }
            for rule in &rules {
                let what = format!("{} line {}", path.display(), rule.place);
                judge(rule, tls, (at, &what), found);
            }
            rules
        }
        Err(errors) => {
            errors.iter().for_each(|error| found.error(at, format!("{} {error}", path.display())));
            Vec::new()
        }
    }
}

fn typed(rules: Field<List<RuleTable>>, tls: &Tls, found: &mut Found<'_>) -> Vec<Rule> {
    let tables = rules.into_value().map_or_else(Vec::new, |list| list.items);
    let mut rules = Vec::new();
    for (number, (table, at)) in tables.iter().enumerate() {
        let Some(fields) = fields(table, number + 1, *at, found) else { continue };
        match Rule::new(&fields) {
            Ok(rule) => {
                judge(&rule, tls, (*at, "the rule"), found);
                rules.push(rule);
            }
            Err(problem) => found.error(*at, format!("[[rules]]: {problem}")),
        }
    }
    rules
}

fn fields(table: &RuleTable, place: usize, at: usize, found: &mut Found<'_>) -> Option<Fields> {
    let text = |field: &Field<Text>| field.get().map(|(Text(text), _)| text.clone());
    let words = |field: &Field<List<Text>>, preset: &[&str]| match field.get() {
        Some((list, _)) => list.items.iter().map(|(Text(text), _)| word(text)).collect(),
        None => preset.iter().map(|text| word(text)).collect::<Vec<_>>(),
    };
    let wrong = table.r#type.is_wrong() || table.method.is_wrong() || table.addresses.is_wrong();
    if wrong || table.databases.is_wrong() || table.users.is_wrong() || table.clientcert.is_wrong() {
        return None;
    }
    let connection = text(&table.r#type).unwrap_or_else(|| "host".to_owned());
    let Some(method) = text(&table.method) else {
        found.error(at, "[[rules]]: the rule has no `method`");
        return None;
    };
    let everywhere: &[&str] = if connection == "local" { &[] } else { &["all"] };
    let addresses = words(&table.addresses, everywhere).into_iter().map(|word| (word, None)).collect();
    let without_tls = table.cleartext_without_tls.get().is_some_and(|(switch, _)| switch.0);
    let certificate = text(&table.clientcert).map(|wanted| format!("clientcert={wanted}"));
    let options =
        without_tls.then(|| "cleartext_without_tls=1".to_owned()).into_iter().chain(certificate).collect();
    let (databases, users) = (words(&table.databases, &["all"]), words(&table.users, &["all"]));
    Some(Fields { place, connection, databases, users, addresses, method, options })
}

/// A name in quotes within the text is a name, also where it is a keyword.
fn word(text: &str) -> Word {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(name) => Word { text: name.replace("\"\"", "\""), quoted: true },
        None => Word { text: text.to_owned(), quoted: false },
    }
}

/// What a rule lacks, and what is allowed but may not have been meant.
fn judge(rule: &Rule, tls: &Tls, (at, what): (usize, &str), found: &mut Found<'_>) {
    use hba::Connection::{Host, HostNoSsl, HostSsl};
    let is_certified = rule.certificate != Certificate::NotAsked;
    match (rule.connection, rule.method) {
        (HostSsl, _) if tls.acceptor.is_none() => {
            found.warning(at, format!("{what} is for TLS, which is off: it never fits"));
        }
        (HostSsl, _) if is_certified && tls.files.as_ref().is_none_or(|files| files.client_ca.is_none()) => {
            found.error(
                at,
                format!("{what} wants certificates of clients, which need a `client_ca` in [tls]"),
            );
        }
        (Host | HostNoSsl | HostSsl, Method::Trust) if !is_certified => {
            found.warning(at, format!("{what} lets clients in from the network that prove nothing"));
        }
        (Host | HostNoSsl, Method::Password) if rule.cleartext_without_tls => {
            found.warning(at, format!("{what} has passwords sent in clear text over the network"));
        }
        (HostNoSsl, Method::Password) => found.warning(
            at,
            format!("{what} refuses every client: clear text without TLS needs `cleartext_without_tls`"),
        ),
        _ => {}
    }
}

/// What `auth_user` and its siblings mean; `None` without it.
pub(super) fn lookup(
    table: &AuthenticationTable,
    users: &[Declared<User>],
    targets: &[Declared<Target>],
    found: &mut Found<'_>,
) -> Option<Lookup> {
    let ttl = or_off(&table.auth_ttl, None).unwrap_or(Duration::ZERO);
    let entries = number("auth_entries", &table.auth_entries, 10_000, 1..=MOST_ENTRIES, found);
    let Some((Text(name), at)) = table.auth_user.get().filter(|(Text(name), _)| !name.is_empty()) else {
        for (key, at) in [
            ("auth_query", table.auth_query.get().map(|(_, at)| at)),
            ("auth_database", table.auth_database.get().map(|(_, at)| at)),
            ("auth_target", table.auth_target.get().map(|(_, at)| at)),
        ] {
            if let Some(at) = at {
                found.warning(at, format!("`{key}` is not used without an `auth_user`"));
            }
        }
        return None;
    };
    let Some((_, _, user)) = users.iter().find(|(known, ..)| known == name) else {
        let hint = did_you_mean(name, users.iter().map(|(name, ..)| name.as_str()));
        found.error(at, format!("`auth_user`: there is no [users.{name}]{hint}"));
        return None;
    };
    let target = match (table.auth_target.get(), targets) {
        (Some((Text(typed), at)), targets) => {
            let Some((_, _, target)) = targets.iter().find(|(known, ..)| known == typed) else {
                let hint = did_you_mean(typed, targets.iter().map(|(name, ..)| name.as_str()));
                found.error(at, format!("`auth_target`: there is no [targets.{typed}]{hint}"));
                return None;
            };
            target
        }
        (None, [(_, _, only)]) => only,
        (None, _) => {
            found.error(at, "where there are several targets, `auth_user` needs an `auth_target`");
            return None;
        }
    };
    let database = table.auth_database.get().map_or("postgres", |(Text(name), at)| {
        refuse_bad_name("database", name, at, found);
        name
    });
    let query = table.auth_query.get().filter(|(Text(query), _)| !query.trim().is_empty());
    if let Some((Text(query), at)) = query
        && !query.contains("$1")
    {
        found.error(at, "`auth_query` must have the user's name in it as `$1`");
    }
    let user = user.as_ref()?;
    if user.credentials.iter().all(|credential| credential.password().is_none()) {
        let why = "its own secret cannot be looked up, and nobody logs in as it before";
        found.error(at, format!("`auth_user` needs a password, and not a verifier: {why}"));
    }
    Some(Lookup {
        target: Arc::clone(target.as_ref()?),
        database: database.to_owned(),
        user: Arc::clone(user),
        query: query.map_or(AUTH_QUERY, |(Text(query), _)| query.as_str()).to_owned(),
        ttl,
        entries: entries as usize,
    })
}
