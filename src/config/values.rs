//! The kinds of value a key may have, each with its own words for what is wrong.
//!
//! serde does the conversion, through `toml::Value` and messages of our own: a value of the wrong type is named by its
//! type and never quoted, because it could be a password without its quotes.

use std::time::Duration;

use serde::Deserialize;
use toml::Value;

use super::problem::did_you_mean;
use super::{Access, ChannelBinding, PoolMode, Secret, SslMode, TlsMode};
use crate::tls::MinVersion;

/// Longer durations are refused: they are a typing error, and an instant that far ahead overflows on some systems.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Text, in quotes.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Text(pub(super) String);

/// A whole number, zero or more.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Count(pub(super) u64);

/// A duration with its unit, in quotes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Lasting(pub(super) Duration);

/// `true` or `false`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Switch(pub(super) bool);

/// Permission bits in octal, in quotes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Permissions(pub(super) u32);

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// A pool mode as typed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Mode(pub(super) PoolMode);

/// What a route allows, as typed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Allowed(pub(super) Access);

/// What is asked of clients, as typed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct ClientMode(pub(super) TlsMode);

/// What is asked of a server, as typed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct ServerMode(pub(super) SslMode);

/// Whether what a server is proved is bound to the connection, as typed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Binding(pub(super) ChannelBinding);

/// How TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum Negotiation {
    /// The server is asked first.
    Postgres,
    /// At once.
    Direct,
}

/// The oldest version of TLS, as typed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Oldest(pub(super) MinVersion);

impl Negotiation {
    pub(super) fn is_direct(self) -> bool {
        self == Self::Direct
    }
}

/// A password as typed: no message may quote it.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Password(pub(super) Secret);

fn text(value: Value, wanted: &str) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(unsuitable(&other, wanted)),
    }
}

fn unsuitable(value: &Value, wanted: &str) -> String {
    format!("must be {wanted}, not {}", in_words(value.type_str()))
}

/// "an integer" for "integer".
pub(super) fn in_words(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {type_name}")
}

fn one_of<T: Copy>(value: Value, choices: &[(&str, T)]) -> Result<T, String> {
    let words = || choices.iter().map(|(word, _)| *word);
    let listed = words().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let typed = text(value, &format!("one of {listed}"))?;
    match choices.iter().find(|(word, _)| *word == typed) {
        Some((_, choice)) => Ok(*choice),
        None => Err(format!("must be one of {listed}, not \"{typed}\"{}", did_you_mean(&typed, words()))),
    }
}

impl TryFrom<Value> for Text {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        text(value, "text in quotes").map(Self)
    }
}

impl TryFrom<Value> for Password {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        text(value, "text in quotes").map(|text| Self(Secret::new(text)))
    }
}

impl TryFrom<Value> for Count {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Integer(number) => u64::try_from(number)
                .map(Self)
                .map_err(|_| format!("must be a whole number, zero or more, not {number}")),
            other => Err(unsuitable(&other, "a whole number without quotes")),
        }
    }
}

impl TryFrom<Value> for Switch {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Boolean(on) => Ok(Self(on)),
            other => Err(unsuitable(&other, "true or false without quotes")),
        }
    }
}

impl TryFrom<Value> for Lasting {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let typed = match value {
            Value::Integer(number) => {
                return Err(format!(
                    "must say its unit: write \"{number}s\" for seconds or \"{number}ms\" for milliseconds"
                ));
            }
            other => text(other, "a duration in quotes, such as \"30s\"")?,
        };
        let duration = humantime::parse_duration(&typed)
            .map_err(|error| format!("must be a duration such as \"500ms\", \"30s\" or \"1h\": {error}"))?;
        if duration > LONGEST {
            return Err("must not be longer than a year".to_owned());
        }
        Ok(Self(duration))
    }
}

impl TryFrom<Value> for Permissions {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let wanted = "permission bits in octal, in quotes, such as \"0770\"";
        let typed = text(value, wanted)?;
        // from_str_radix takes a sign as well
        let digits = !typed.is_empty() && typed.bytes().all(|byte| byte.is_ascii_digit());
        u32::from_str_radix(&typed, 8)
            .ok()
            .filter(|mode| digits && *mode <= 0o777)
            .map(Self)
            .ok_or_else(|| format!("must be {wanted}, at most \"0777\""))
    }
}

impl TryFrom<Value> for LogFormat {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        one_of(value, &[("text", Self::Text), ("json", Self::Json)])
    }
}

impl TryFrom<Value> for Mode {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let choices = [PoolMode::Session, PoolMode::Transaction, PoolMode::Statement];
        one_of(value, &choices.map(|mode| (mode.as_str(), Self(mode))))
    }
}

impl TryFrom<Value> for Allowed {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let choices = [Access::ReadWrite, Access::ReadOnly, Access::ReadOnlyStrict];
        one_of(value, &choices.map(|access| (access.as_str(), Self(access))))
    }
}

impl TryFrom<Value> for ClientMode {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        one_of(value, &TlsMode::ALL.map(|mode| (mode.as_str(), Self(mode))))
    }
}

impl TryFrom<Value> for ServerMode {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        one_of(value, &SslMode::ALL.map(|mode| (mode.as_str(), Self(mode))))
    }
}

impl TryFrom<Value> for Binding {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        one_of(value, &ChannelBinding::ALL.map(|binding| (binding.as_str(), Self(binding))))
    }
}

impl TryFrom<Value> for Negotiation {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        one_of(value, &[("postgres", Self::Postgres), ("direct", Self::Direct)])
    }
}

impl TryFrom<Value> for Oldest {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        one_of(value, &[("1.2", Self(MinVersion::V1_2)), ("1.3", Self(MinVersion::V1_3))])
    }
}
