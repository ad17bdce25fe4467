//! The settings of a session: what a client asked for in its startup packet, what a server connection has, and the SQL
//! that brings one to the other.
//!
//! Values never become SQL by concatenation alone: they pass through [`literal`], which escapes them for a string
//! constant whatever `standard_conforming_strings` says.

use std::fmt::Write;

/// The parameters that a server reported with ParameterStatus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    all: Vec<Parameter>,
    changes: u64,
}

/// Bytes, because their encoding is the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// A server reports about fifteen parameters; a hostile one is not followed further than this.
const MAX_PARAMETERS: usize = 64;

impl Parameters {
    /// Takes the body of a ParameterStatus: name and value, each with its NUL.
    pub fn report(&mut self, body: &[u8]) {
        let mut parts = body.split(|&byte| byte == 0);
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return };
        if let Some(known) = self.all.iter_mut().find(|known| *known.name == *name) {
            self.changes += u64::from(*known.value != *value);
            known.value = value.into();
        } else if self.all.len() < MAX_PARAMETERS {
            self.all.push(Parameter { name: name.into(), value: value.into() });
        }
    }

    /// The value of a parameter, by its name in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all
            .iter()
            .find(|known| known.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|known| &*known.value)
    }

    /// Whether a parameter, by its name as the server writes it, has this value.
    pub fn has(&self, name: &[u8], value: &[u8]) -> bool {
        self.all.iter().any(|known| *known.name == *name && *known.value == *value)
    }

    /// How often a known parameter was reported with another value.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Name and value of each, in the order in which they were first reported.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.all.iter().map(|known| (&*known.name, &*known.value))
    }
}

/// Settings by name. Names are in lower case, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Settings(Vec<(String, String)>);

/// A name that cannot be a setting's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration parameter name {0:?}")]
pub struct InvalidName(pub String);

impl Settings {
    /// Sets `name`; a later value replaces an earlier one, as in a startup packet.
    ///
    /// # Errors
    /// Names that PostgreSQL would not take either: see `valid_custom_variable_name` in its
    /// `src/backend/utils/misc/guc.c`.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidName> {
        let valid_part = |part: &str| {
            let mut bytes = part.bytes();
            bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$')
        };
        if name.len() > 63 * 2 || !name.split('.').all(valid_part) {
            return Err(InvalidName(name.chars().take(63).collect()));
        }
        let name = name.to_ascii_lowercase();
        match self.0.binary_search_by(|(known, _)| known.cmp(&name)) {
            Ok(place) => self.0[place].1 = value.to_owned(),
            Err(place) => self.0.insert(place, (name, value.to_owned())),
        }
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a setting, by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(self.0[place].1.as_str())
    }

    /// Takes a setting away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Name and value of each, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Name and value of those that decide what a statement means when it is parsed.
    pub fn planning(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| is_planning(name))
    }
}

/// Settings that have no say in what a statement means. Everything else may: the path that finds its tables, the role
/// that expands its policies, the time zone that turns its literals into constants.
const NOT_PLANNING: [&str; 20] = [
    "application_name",
    "client_min_messages",
    "deadlock_timeout",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "log_duration",
    "log_min_duration_statement",
    "log_statement",
    "maintenance_work_mem",
    "statement_timeout",
    "synchronous_commit",
    "tcp_keepalives_idle",
    "tcp_user_timeout",
    "temp_buffers",
    "transaction_timeout",
    "work_mem",
];

/// Whether a statement may mean something else under another value of this setting. Names with a dot are extensions'
/// and applications' own, which are read when a statement runs.
pub fn is_planning(name: &str) -> bool {
    !name.contains('.') && NOT_PLANNING.binary_search(&name).is_err()
}

/// The SQL that brings a session from the settings `has` to `wanted`; `None` if nothing is to be done. A setting that
/// the server reports as it is wanted is left alone. The role comes off first and is put on last, because it may not be
/// allowed to change the others.
pub fn difference(has: &Settings, wanted: &Settings, reported: &Parameters) -> Option<String> {
    let mut sql = String::new();
    let mut reset = |name: &str| {
        sql.push_str("RESET ");
        for (place, part) in name.split('.').enumerate() {
            // `Settings::set` let through no quote.
            let _ = write!(sql, "{}\"{part}\"", if place > 0 { "." } else { "" });
        }
        sql.push(';');
    };
    let differs = |name: &str, value: &str| {
        reported.get(name) != Some(value.as_bytes())
            && (has.get(name) != Some(value) || reported.get(name).is_some())
    };
    let lacks = |name: &&str| *name != ROLE && wanted.get(name).is_none();
    let other = |(name, value): &&(String, String)| name != ROLE && differs(name, value);
    let others = has.names().any(|name| lacks(&name)) || wanted.0.iter().any(|setting| other(&setting));
    let role = has.get(ROLE) != wanted.get(ROLE) || (others && has.get(ROLE).is_some());
    if role && has.get(ROLE).is_some() {
        reset(ROLE);
    }
    has.names().filter(lacks).for_each(&mut reset);
    set_all(
        &mut sql,
        wanted.0.iter().filter(|setting| if setting.0 == ROLE { role } else { other(setting) }),
    );
    (!sql.is_empty()).then_some(sql)
}

/// The SQL that sets those of `wanted` that `chosen` takes, as one statement; `None` if there are none.
pub fn assignment(wanted: &Settings, chosen: impl Fn(&str) -> bool) -> Option<String> {
    let mut sql = String::new();
    set_all(&mut sql, wanted.0.iter().filter(|(name, _)| chosen(name)));
    (!sql.is_empty()).then_some(sql)
}

const ROLE: &str = "role";

/// set_config() takes a value as the startup packet does; SET would take "a, b" for one name.
fn set_all<'a>(sql: &mut String, settings: impl Iterator<Item = &'a (String, String)>) {
    let mut word = "SELECT ";
    let mut set = |name: &str, value: &str| {
        sql.push_str(std::mem::replace(&mut word, ","));
        sql.push_str("pg_catalog.set_config(");
        literal(sql, name);
        sql.push(',');
        literal(sql, value);
        sql.push_str(",false)");
    };
    let mut role = None;
    for (name, value) in settings {
        if name == ROLE {
            role = Some(value);
        } else {
            set(name, value);
        }
    }
    if let Some(value) = role {
        set(ROLE, value);
    }
}

/// Appends `text` as a string constant with C-style escapes, in ASCII alone: so it means the same whatever
/// `standard_conforming_strings` is, and whatever `client_encoding` the session has at the moment. In some encodings a
/// byte that is not ASCII swallows the one behind it, be it a quote. The bytes are taken as the server's own, as those
/// of a startup packet are.
pub fn literal(sql: &mut String, text: &str) {
    sql.push_str("E'");
    for byte in text.bytes() {
        match byte {
            b'\'' => sql.push_str("''"),
            b'\\' => sql.push_str("\\\\"),
            b' '..=b'~' => sql.push(char::from(byte)),
            // Two digits always, so that a digit behind them is no part of it. Writing to a String cannot fail.
            _ => drop(write!(sql, "\\x{byte:02X}")),
        }
    }
    sql.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            settings.set(name, value).unwrap();
        }
        settings
    }

    fn reported(pairs: &[(&str, &str)]) -> Parameters {
        let mut parameters = Parameters::default();
        for (name, value) in pairs {
            parameters.report(format!("{name}\0{value}\0").as_bytes());
        }
        parameters
    }

    #[test]
    fn only_what_differs_is_sent() {
        let none = Parameters::default();
        let a = settings(&[("work_mem", "8MB"), ("Search_Path", "a, b")]);
        assert_eq!(difference(&a, &a, &none), None);
        assert_eq!(
            difference(&Settings::default(), &a, &none).as_deref(),
            Some(
                "SELECT pg_catalog.set_config(E'search_path',E'a, b',false),\
                 pg_catalog.set_config(E'work_mem',E'8MB',false)"
            )
        );
        let b = settings(&[("work_mem", "4MB"), ("my.own", "x")]);
        assert_eq!(
            difference(&a, &b, &none).as_deref(),
            Some(
                "RESET \"search_path\";SELECT pg_catalog.set_config(E'my.own',E'x',false),\
                 pg_catalog.set_config(E'work_mem',E'4MB',false)"
            )
        );
        assert_eq!(
            difference(&b, &Settings::default(), &none).as_deref(),
            Some("RESET \"my\".\"own\";RESET \"work_mem\";")
        );
    }

    #[test]
    fn the_role_comes_off_first_and_is_put_on_last() {
        let none = Parameters::default();
        let (a, b) =
            (settings(&[("role", "a"), ("work_mem", "8MB")]), settings(&[("role", "b"), ("tcp", "1")]));
        assert_eq!(
            difference(&a, &b, &none).as_deref(),
            Some(
                "RESET \"role\";RESET \"work_mem\";SELECT pg_catalog.set_config(E'tcp',E'1',false),\
                 pg_catalog.set_config(E'role',E'b',false)"
            )
        );
        assert_eq!(difference(&a, &a, &none), None);
        assert_eq!(assignment(&Settings::default(), |_| true), None);
    }

    #[test]
    fn settings_that_decide_what_a_statement_means_are_told_apart() {
        assert!(NOT_PLANNING.is_sorted());
        let all = settings(&[("search_path", "a"), ("work_mem", "8MB"), ("app.tenant", "7"), ("role", "x")]);
        assert_eq!(all.planning().collect::<Vec<_>>(), [("role", "x"), ("search_path", "a")]);
    }

    #[test]
    fn what_the_server_reports_is_believed_before_what_was_sent() {
        let wanted = settings(&[("client_encoding", "UTF8"), ("TimeZone", "UTC")]);
        let same = reported(&[("client_encoding", "UTF8"), ("TimeZone", "UTC")]);
        assert_eq!(difference(&Settings::default(), &wanted, &same), None);
        let other = reported(&[("client_encoding", "UTF8"), ("TimeZone", "Europe/Zurich")]);
        let sql = difference(&wanted, &wanted, &other).unwrap();
        assert_eq!(sql, "SELECT pg_catalog.set_config(E'timezone',E'UTC',false)");
    }

    #[test]
    fn values_cannot_leave_their_quotes_and_names_need_none() {
        let evil = settings(&[("application_name", "x'); DROP TABLE t; --\\'")]);
        assert_eq!(
            difference(&Settings::default(), &evil, &Parameters::default()).unwrap(),
            "SELECT pg_catalog.set_config(E'application_name',E'x''); DROP TABLE t; --\\\\''',false)"
        );
        let mut sql = String::new();
        literal(&mut sql, "schü4\n");
        assert_eq!(sql, "E'sch\\xC3\\xBC4\\x0A'");
        for name in ["", "a b", "a\"b", "a'b", "1a", "a.", ".a", "a-b", "ä", &"a".repeat(200)] {
            assert!(Settings::default().set(name, "x").is_err(), "{name}");
        }
    }

    #[test]
    fn a_server_that_reports_without_end_is_not_followed() {
        let mut parameters = Parameters::default();
        for n in 0..10_000 {
            parameters.report(format!("p{n}\0v\0").as_bytes());
        }
        assert_eq!(parameters.iter().count(), MAX_PARAMETERS);
        parameters.report(b"");
        parameters.report(b"no value");
    }
}
