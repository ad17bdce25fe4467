//! The settings of a session: what a client asked for in its startup packet, what a server connection has, and the SQL
//! that brings one to the other.
//!
//! Values never become SQL by concatenation alone: they pass through [`literal`], which escapes them for a string
//! constant whatever `standard_conforming_strings` says.

use std::fmt::Write;

/// The parameters that a server reported with ParameterStatus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<Parameter>);

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
        if let Some(known) = self.0.iter_mut().find(|known| *known.name == *name) {
            known.value = value.into();
        } else if self.0.len() < MAX_PARAMETERS {
            self.0.push(Parameter { name: name.into(), value: value.into() });
        }
    }

    /// The value of a parameter, by its name in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|known| known.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|known| &*known.value)
    }

    /// Name and value of each, in the order in which they were first reported.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|known| (&*known.name, &*known.value))
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

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .binary_search_by(|(known, _)| known.as_str().cmp(name))
            .ok()
            .map(|place| self.0[place].1.as_str())
    }
}

/// The SQL that brings a session from the settings `has` to `wanted`; `None` if nothing is to be done. A setting that
/// the server reports as it is wanted is left alone.
pub fn difference(has: &Settings, wanted: &Settings, reported: &Parameters) -> Option<String> {
    let mut sql = String::new();
    for (name, _) in has.0.iter().filter(|(name, _)| wanted.get(name).is_none()) {
        sql.push_str("RESET ");
        for (place, part) in name.split('.').enumerate() {
            // `Settings::set` let through no quote.
            let _ = write!(sql, "{}\"{part}\"", if place > 0 { "." } else { "" });
        }
        sql.push(';');
    }
    let mut first = true;
    for (name, value) in &wanted.0 {
        if reported.get(name) == Some(value.as_bytes())
            || (has.get(name) == Some(value) && reported.get(name).is_none())
        {
            continue;
        }
        // set_config() takes the value as the startup packet does; SET would take "a, b" for one name.
        sql.push_str(if first { "SELECT " } else { "," });
        first = false;
        sql.push_str("pg_catalog.set_config(");
        literal(&mut sql, name);
        sql.push(',');
        literal(&mut sql, value);
        sql.push_str(",false)");
    }
    (!sql.is_empty()).then_some(sql)
}

/// Appends `text` as a string constant with C-style escapes: doubled quotes and backslashes mean the same whatever
/// `standard_conforming_strings` and `backslash_quote` are.
pub fn literal(sql: &mut String, text: &str) {
    sql.push_str("E'");
    for character in text.chars() {
        if matches!(character, '\'' | '\\') {
            sql.push(character);
        }
        sql.push(character);
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
