//! How a table of the file is read: fields that know where they were typed, and the declaration of keys.
//!
//! A key is declared once, by `table!`: the field that holds it, the description that `config/REFERENCE.md` is made
//! of, and the list that unknown keys are compared with. None of the three can be forgotten. Reading never stops at
//! the first mistake: a wrong value leaves its field [`Field::Wrong`] and the reading goes on.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::problem::Found;
use super::values::{
    Allowed, Binding, ClientMode, Count, Lasting, LogFormat, Mode, Negotiation, Oldest, Password,
    Permissions, ServerMode, Switch, Text, in_words,
};

/// One key as the reference describes it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) unit: &'static str,
    pub(super) preset: Preset,
    pub(super) applied: Applied,
    pub(super) meaning: &'static str,
}

/// What a key means when it is absent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Preset {
    /// The same as this, as it would be typed.
    Typed(&'static str),
    /// Something that cannot be typed, in words.
    Words(&'static str),
}

/// When a changed key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// At the next reload.
    Reload,
    /// When the process is started again.
    Restart,
}

/// A key's place in its table.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    /// Not typed.
    #[default]
    Absent,
    /// Typed, wrong, and reported.
    Wrong,
    /// Typed, at this byte offset.
    Typed { value: T, at: usize },
}

/// A table with names of the user's choice as keys.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) Vec<Entry<T>>);

/// One entry of [`Named`]; `body` is `None` where it is not even a table, which has been reported.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) name: String,
    pub(super) at: usize,
    pub(super) body: Option<T>,
}

/// A list, with the place of each item.
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<(T, usize)>,
    /// No item was wrong; those that are have been reported and left out.
    pub(super) complete: bool,
}

/// Something that a value of the file can be read as.
pub(super) trait Read: Sized {
    /// The kind of value, for the reference.
    const KIND: &'static str;

    /// Reports what is wrong and returns `None`, or returns what was typed under `key`.
    fn read(key: &str, value: Spanned<DeValue<'_>>, found: &mut Found<'_>) -> Option<Self>;
}

impl<T: Read> Field<T> {
    pub(super) fn read(key: &str, value: Spanned<DeValue<'_>>, found: &mut Found<'_>) -> Self {
        let at = value.span().start;
        T::read(key, value, found).map_or(Self::Wrong, |value| Self::Typed { value, at })
    }
}

impl<T> Field<T> {
    /// What was typed and where, if it was typed and right.
    pub(super) fn get(&self) -> Option<(&T, usize)> {
        match self {
            Self::Typed { value, at } => Some((value, *at)),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// What was typed, if it was typed and right.
    pub(super) fn into_value(self) -> Option<T> {
        match self {
            Self::Typed { value, .. } => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(super) fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong)
    }
}

macro_rules! scalar {
    ($($type:ty = $kind:literal),* $(,)?) => {$(
        impl Read for $type {
            const KIND: &'static str = $kind;

            fn read(key: &str, value: Spanned<DeValue<'_>>, found: &mut Found<'_>) -> Option<Self> {
                let at = value.span().start;
                Self::deserialize(ValueDeserializer::from(value))
                    .map_err(|error| found.error(at, format!("`{key}` {}", error.message())))
                    .ok()
            }
        }
    )*};
}

scalar! {
    Text = "text",
    Count = "number",
    Lasting = "duration",
    Switch = "true or false",
    Permissions = "octal text",
    LogFormat = "`\"text\"`, `\"json\"`",
    Mode = "`\"session\"`, `\"transaction\"`, `\"statement\"`",
    Allowed = "`\"read-write\"`, `\"read-only\"`",
    Password = "text",
    ClientMode = "`\"disable\"`, `\"allow\"`, `\"require\"`, `\"verify-ca\"`, `\"verify-full\"`",
    ServerMode = "`\"disable\"`, `\"allow\"`, `\"prefer\"`, `\"require\"`, `\"verify-ca\"`, `\"verify-full\"`",
    Negotiation = "`\"postgres\"`, `\"direct\"`",
    Binding = "`\"disable\"`, `\"prefer\"`, `\"require\"`",
    Oldest = "`\"1.2\"`, `\"1.3\"`",
}

impl<T: Read> Read for List<T> {
    const KIND: &'static str = "list";

    fn read(key: &str, value: Spanned<DeValue<'_>>, found: &mut Found<'_>) -> Option<Self> {
        let at = value.span().start;
        let DeValue::Array(items) = value.into_inner() else {
            found.error(at, format!("`{key}` must be a list in square brackets"));
            return None;
        };
        let typed = items.len();
        let read = |item: Spanned<DeValue<'_>>| {
            let at = item.span().start;
            T::read(key, item, found).map(|item| (item, at))
        };
        let items: Vec<_> = items.into_iter().filter_map(read).collect();
        Some(Self { complete: items.len() == typed, items })
    }
}

impl<T: Read> Read for Named<T> {
    const KIND: &'static str = "tables";

    fn read(key: &str, value: Spanned<DeValue<'_>>, found: &mut Found<'_>) -> Option<Self> {
        let mut entries = Vec::new();
        for (name, value) in members(key, value, found)? {
            let body = T::read(&format!("{key}.{}", name.get_ref()), value, found);
            entries.push(Entry { at: name.span().start, name: name.into_inner().into_owned(), body });
        }
        entries.sort_by_key(|entry| entry.at);
        Some(Self(entries))
    }
}

/// The keys of a value that must be a table.
pub(super) fn members<'v>(
    key: &str,
    value: Spanned<DeValue<'v>>,
    found: &mut Found<'_>,
) -> Option<DeTable<'v>> {
    let at = value.span().start;
    match value.into_inner() {
        DeValue::Table(members) => Some(members),
        other => {
            found.error(at, format!("`{key}` must be a table, not {}", in_words(other.type_str())));
            None
        }
    }
}

/// The name of a key whose field is `r#name` because Rust has a keyword of that name.
pub(super) const fn name_of(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Declares tables: the struct, how it is read, and the description of each key.
macro_rules! table {
    ($($(#[$doc:meta])* $name:ident, $title:literal {
        $($key:ident: $type:ty, $unit:literal, $preset:expr, $applied:ident, $meaning:literal;)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name {
            $(pub(super) $key: Field<$type>,)*
        }

        impl $name {
            /// How the table is introduced in the file.
            pub(super) const TITLE: &'static str = $title;
            /// Its keys, in the order of the reference.
            pub(super) const KEYS: &'static [Key] = &[$(Key {
                name: name_of(stringify!($key)),
                kind: <$type as Read>::KIND,
                unit: $unit,
                preset: $preset,
                applied: Applied::$applied,
                meaning: $meaning,
            }),*];

            /// Reads every key, right or wrong.
            pub(super) fn of(members: DeTable<'_>, found: &mut Found<'_>) -> Self {
                let mut table = Self::default();
                for (key, value) in members {
                    match key.get_ref().as_ref() {
                        $(name if name == name_of(stringify!($key)) => {
                            table.$key = Field::read(name_of(stringify!($key)), value, found);
                        })*
                        unknown => {
                            let hint = did_you_mean(unknown, Self::KEYS.iter().map(|key| key.name));
                            let message = format!("unknown key `{unknown}` in {}{hint}", Self::TITLE);
                            found.error(key.span().start, message);
                        }
                    }
                }
                table
            }
        }

        impl Read for $name {
            const KIND: &'static str = "table";

            fn read(key: &str, value: Spanned<DeValue<'_>>, found: &mut Found<'_>) -> Option<Self> {
                members(key, value, found).map(|members| Self::of(members, found))
            }
        }
    )*};
}

pub(super) use table;
