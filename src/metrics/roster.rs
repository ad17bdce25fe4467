//! The schemas of a database that statements are counted by, each with its number. A name that has a number keeps it
//! for the life of the process, so that no counter ever changes its label; and there are never more than was allowed, so
//! that whoever makes schemas cannot make series without end.

use std::sync::{Mutex, PoisonError};

/// The number of what names no schema that is known.
pub const NONE: u32 = 0;
/// That of every schema that has no number of its own.
pub const OTHER: u32 = 1;
/// `pg_catalog`
pub const PG_CATALOG: u32 = 2;
/// `information_schema`
pub const INFORMATION_SCHEMA: u32 = 3;

/// Numbers that are given out without being asked for.
const FIXED: [&str; 4] = ["none", "other", "pg_catalog", "information_schema"];

/// The most schemas that can have a number: with the fixed ones, the bits of a `u64`.
pub const MOST: usize = u64::BITS as usize - FIXED.len();

/// The schemas of one database.
#[derive(Debug)]
pub struct Roster {
    names: Mutex<Vec<Box<str>>>,
    most: usize,
}

impl Roster {
    /// With numbers for those that are configured, and for at most `most` in all.
    pub fn new(configured: &[String], most: usize) -> Self {
        let most = FIXED.len() + most.min(MOST);
        let roster = Self { names: Mutex::new(FIXED.map(Box::from).to_vec()), most };
        for name in configured {
            let _number = roster.number(name);
        }
        roster
    }

    /// The number of a schema: one of its own while there are any, else [`OTHER`].
    pub fn number(&self, name: &str) -> u32 {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        // A schema may be called `none` or `other`.
        let known = names.iter().skip(PG_CATALOG as usize).position(|known| **known == *name);
        match known {
            Some(place) => PG_CATALOG + place as u32,
            None if names.len() >= self.most || FIXED[..2].contains(&name) => OTHER,
            None => {
                names.push(name.into());
                names.len() as u32 - 1
            }
        }
    }

    /// The name behind each number.
    pub fn names(&self) -> Vec<Box<str>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_keeps_its_number_and_those_beyond_the_limit_share_one() {
        let roster = Roster::new(&["wm".into()], 3);
        assert_eq!(
            ["wm", "entity", "wm", "a", "b", "entity"].map(|name| roster.number(name)),
            [4, 5, 4, 6, OTHER, 5]
        );
        assert_eq!(["pg_catalog", "information_schema"].map(|name| roster.number(name)), [2, 3]);
        assert_eq!(["none", "other"].map(|name| roster.number(name)), [OTHER; 2]);
        assert_eq!(roster.names().len(), 7);
        let many = Roster::new(&[], 1_000);
        let numbers: Vec<_> = (0..1_000).map(|number| many.number(&format!("s{number}"))).collect();
        assert!(numbers.iter().all(|number| *number < u64::BITS));
    }
}
