//! SET and `set_config`: the settings that may change, and to what.

use std::sync::LazyLock;

use super::super::dialect::Encoding;
use crate::rule::Rule;

/// What a setting gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// This.
    Text(&'a str),
    /// What the session was opened with.
    Default,
    /// What nobody knows before it runs.
    Unknown,
}

/// The list, without its comment.
static HARMLESS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("settings.txt").lines().filter(|line| !line.starts_with('#')).collect());

/// Settings of extensions of which some are a superuser's alone: those run code, or switch an audit off.
const WITH_POWER: [&str; 8] =
    ["auto_explain", "pg_stat_statements", "pgaudit", "plperl", "plperlu", "pltcl", "pltclu", "set_user"];

/// The rule that a change of a setting breaks, if it breaks one.
pub fn setting(name: &str, value: Value<'_>) -> Option<Rule> {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        // To say once more that nothing is written harms nobody. RESET of the transaction's own leads to "off", in
        // PostgreSQL 15 without the check that SET goes through.
        "transaction_read_only" | "default_transaction_read_only" => {
            (!matches!(value, Value::Text(text) if is_true(text))).then_some(Rule::Mode)
        }
        "client_encoding" => match value {
            Value::Text(text) if Encoding::of(text.as_bytes()) != Encoding::Unsafe => None,
            Value::Default => None,
            _ => Some(Rule::Encoding),
        },
        "standard_conforming_strings" => match value {
            Value::Text(text) if is_true(text) => None,
            Value::Default => None,
            _ => Some(Rule::Encoding),
        },
        "role" => match value {
            Value::Text(text) if text.eq_ignore_ascii_case("none") => None,
            Value::Default => None,
            _ => Some(Rule::Role),
        },
        "session_authorization" => (value != Value::Default).then_some(Rule::Role),
        custom if custom.contains('.') => {
            let extension = custom.split('.').next().unwrap_or_default();
            WITH_POWER.contains(&extension).then_some(Rule::Setting)
        }
        plain => HARMLESS.binary_search(&plain).is_err().then_some(Rule::Setting),
    }
}

/// The words for true that PostgreSQL takes, but for their beginnings.
fn is_true(text: &str) -> bool {
    ["on", "true", "yes", "1", "t", "y"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted_in_lower_case_and_each_is_there_once() {
        assert!(HARMLESS.len() > 100);
        assert!(HARMLESS.is_sorted_by(|a, b| a < b));
        assert!(HARMLESS.iter().all(|name| *name == name.to_ascii_lowercase()));
    }

    #[test]
    fn the_mode_and_how_texts_are_read_can_only_be_affirmed() {
        use Value::{Default, Text, Unknown};
        for (name, value, rule) in [
            ("Transaction_Read_Only", Text("ON"), None),
            ("transaction_read_only", Text("off"), Some(Rule::Mode)),
            ("transaction_read_only", Default, Some(Rule::Mode)),
            ("default_transaction_read_only", Unknown, Some(Rule::Mode)),
            ("client_encoding", Text("latin1"), None),
            ("client_encoding", Text("SJIS"), Some(Rule::Encoding)),
            ("client_encoding", Unknown, Some(Rule::Encoding)),
            ("standard_conforming_strings", Text("off"), Some(Rule::Encoding)),
            ("role", Text("none"), None),
            ("role", Text("postgres"), Some(Rule::Role)),
            ("session_authorization", Default, None),
            ("WORK_MEM", Unknown, None),
            ("app.tenant", Unknown, None),
            ("plperl.on_init", Text("x"), Some(Rule::Setting)),
            ("log_statement", Text("none"), Some(Rule::Setting)),
            ("nobody_knows_it", Text("x"), Some(Rule::Setting)),
        ] {
            assert_eq!(setting(name, value), rule, "{name} {value:?}");
        }
    }
}
