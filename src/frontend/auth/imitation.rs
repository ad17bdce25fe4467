//! How users look who do not exist: like one of those who do, the same at every try. Otherwise the only user with 4,096
//! iterations, or the only one who is asked for MD5, would be known to be none.

use std::sync::{Mutex, PoisonError};

use crate::scram::{Look, Verifier};
use crate::secret::Credential;

/// Looked-up users that are imitated, at most.
const MOST: usize = 1_000;

/// What a client sees of a user before it has proved anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appearance {
    /// A rule with `md5` asks for MD5, and not for SCRAM.
    pub(super) md5: bool,
    /// Of its verifier; that of PostgreSQL's where there is none.
    pub(super) look: Look,
}

impl Appearance {
    pub(super) fn of(credentials: &[Credential], verifier: Option<&Verifier>) -> Self {
        let md5 = credentials.iter().any(|credential| !matches!(credential, Credential::Scram(_)));
        Self { md5, look: verifier.map_or(Look::DEFAULT, Verifier::look) }
    }
}

/// Everybody who may be imitated.
#[derive(Debug)]
pub(super) struct Imitation {
    /// Chooses whom to imitate, and makes the salts.
    pub(super) secret: [u8; 32],
    known: Mutex<Vec<Appearance>>,
    configured: usize,
}

impl Imitation {
    pub(super) fn new(secret: [u8; 32], known: Vec<Appearance>) -> Self {
        Self { secret, configured: known.len(), known: Mutex::new(known) }
    }

    /// A user was looked up that looks so.
    pub(super) fn saw(&self, appearance: Appearance) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&appearance) && known.len() < self.configured + MOST {
            known.push(appearance);
        }
    }

    /// How somebody looks who does not exist.
    pub(super) fn appearance(&self, user: &str) -> Appearance {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Any of the salt's bytes will do: they are a keyed hash of the name.
        let number = Verifier::mock(user, &self.secret, Look { salt: 8, ..Look::DEFAULT }).salt_number();
        let place = number.checked_rem(known.len() as u64).and_then(|place| usize::try_from(place).ok());
        let chosen = place.and_then(|place| known.get(place).copied());
        chosen.unwrap_or(Appearance { md5: false, look: Look::DEFAULT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn who_does_not_exist_looks_like_somebody_who_does_and_always_the_same() {
        let many =
            Appearance { md5: false, look: Look { salt: 24, iterations: NonZeroU32::new(20_000).unwrap() } };
        let old = Appearance { md5: true, look: Look::DEFAULT };
        let imitation = Imitation::new([7; 32], vec![many, old]);
        let seen: Vec<_> = (0..100).map(|number| imitation.appearance(&format!("nobody{number}"))).collect();
        assert!(seen.contains(&many) && seen.contains(&old));
        assert!(seen.iter().all(|appearance| [many, old].contains(appearance)));
        assert_eq!(imitation.appearance("nobody7"), seen[7]);
        let alone = Imitation::new([7; 32], vec![many]);
        assert!((0..100).all(|number| alone.appearance(&number.to_string()) == many));
        assert_eq!(Imitation::new([7; 32], Vec::new()).appearance("x").look, Look::DEFAULT);
    }

    #[test]
    fn the_table_stays_bounded() {
        let imitation = Imitation::new([7; 32], Vec::new());
        for salt in 0..3 * MOST {
            imitation.saw(Appearance { md5: false, look: Look { salt, ..Look::DEFAULT } });
        }
        assert_eq!(imitation.known.lock().unwrap().len(), MOST);
    }
}
