//! What is kept instead of a password: salt, iterations, and the keys that tell a right proof from a wrong one.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::{DEFAULT_ITERATIONS, Key, Keys, SALT_LEN, ScramError, hmac_sha256, iterations, random, sha256};

/// The longest salt that is taken. PostgreSQL's own have 16 bytes.
pub(super) const MAX_SALT: usize = 256;

/// What a server keeps instead of a password. While passwords are being changed it may keep two, under one salt.
#[derive(Clone)]
pub struct Verifier {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: NonZeroU32,
    /// RFC 5802's `StoredKey` and `ServerKey` of each password that is right.
    keys: Vec<(Zeroizing<Key>, Zeroizing<Key>)>,
    /// There is no such user, or none who may log in: every proof is wrong.
    mock: bool,
}

/// How a verifier looks to a client: the same for every user, or the odd one out is known to be real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Bytes of salt.
    pub salt: usize,
    /// Iterations.
    pub iterations: NonZeroU32,
}

impl Look {
    /// That of PostgreSQL's own verifiers.
    pub const DEFAULT: Self =
        Self { salt: SALT_LEN, iterations: NonZeroU32::MIN.saturating_add(DEFAULT_ITERATIONS - 1) };
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(secret)")
    }
}

impl Verifier {
    /// Salts and hashes a password, as `CREATE ROLE ... PASSWORD` does.
    ///
    /// # Errors
    /// [`ScramError::Random`].
    pub fn of_password(password: &str) -> Result<Self, ScramError> {
        let salt: [u8; SALT_LEN] = random()?;
        let keyless =
            Self { salt: salt.to_vec(), iterations: Look::DEFAULT.iterations, keys: Vec::new(), mock: false };
        Ok(keyless.with_password(password))
    }

    /// No password yet, with the salt that [`Verifier::mock`] would give a user who does not exist.
    pub fn salted(user: &str, secret: &[u8]) -> Self {
        Self { mock: false, keys: Vec::new(), ..Self::mock(user, secret, Look::DEFAULT) }
    }

    /// Reads PostgreSQL's form, `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, as `parse_scram_secret` of its
    /// `src/backend/libpq/auth-scram.c`.
    ///
    /// # Errors
    /// [`ScramError::Malformed`], or [`ScramError::TooLarge`] for iterations above [`super::MAX_ITERATIONS`].
    pub fn parse(text: &str) -> Result<Self, ScramError> {
        let malformed = || ScramError::Malformed;
        let rest = text.strip_prefix("SCRAM-SHA-256$").ok_or_else(malformed)?;
        let (costs, keys) = rest.split_once('$').ok_or_else(malformed)?;
        let (count, salt) = costs.split_once(':').ok_or_else(malformed)?;
        let (stored, server) = keys.split_once(':').ok_or_else(malformed)?;
        let decode = |text: &str| BASE64.decode(text).map(Zeroizing::new).map_err(|_| ScramError::Malformed);
        let key = |text: &str| -> Result<Zeroizing<Key>, ScramError> {
            let bytes = decode(text)?;
            Ok(Zeroizing::new(<Key>::try_from(bytes.as_slice()).map_err(|_| ScramError::Malformed)?))
        };
        let salt = decode(salt)?.to_vec();
        if salt.is_empty() {
            return Err(ScramError::Malformed);
        }
        if salt.len() > MAX_SALT {
            return Err(ScramError::TooLarge);
        }
        let iterations = iterations(count.parse().map_err(|_| ScramError::Malformed)?)?;
        Ok(Self { salt, iterations, keys: vec![(key(stored)?, key(server)?)], mock: false })
    }

    /// The verifier of a user who does not exist: the same salt at every try, as a real user has, and no proof fits.
    /// `secret` is [`super::salt_secret`], or random.
    pub fn mock(user: &str, secret: &[u8], look: Look) -> Self {
        let mut salt = Vec::new();
        for block in 0..=(look.salt.min(MAX_SALT) / 32) as u8 {
            salt.extend(hmac_sha256(secret, &[&[block], user.as_bytes()]));
        }
        salt.truncate(look.salt);
        let keys = vec![(Zeroizing::new([0; 32]), Zeroizing::new([0; 32]))];
        Self { salt, iterations: look.iterations, keys, mock: true }
    }

    /// The same with one more right password. Costs CPU in proportion to the iterations.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        let keys = Keys::derive(password, &self.salt, self.iterations);
        self.keys.push((Zeroizing::new(sha256(keys.client.as_ref())), keys.server));
        self
    }

    /// One verifier for what either takes; `None` if they are salted differently, so that one challenge cannot serve both.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Option<Self> {
        let alike = self.salt == other.salt && self.iterations == other.iterations;
        self.keys.extend(other.keys);
        (alike && !self.mock && !other.mock).then_some(self)
    }

    /// How it looks to a client.
    pub fn look(&self) -> Look {
        Look { salt: self.salt.len(), iterations: self.iterations }
    }

    /// The beginning of the salt as a number.
    pub fn salt_number(&self) -> u64 {
        self.salt.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Whether these are salt and iterations of it.
    pub fn is_salted(&self, salt: &[u8], iterations: NonZeroU32) -> bool {
        self.salt == salt && self.iterations == iterations
    }

    /// Whether `other` takes exactly the same passwords under the same salt.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |left: &Key, right: &Key| constant_time::verify_slices_are_equal(left, right).is_ok();
        self.is_salted(&other.salt, other.iterations)
            && self.mock == other.mock
            && self.keys.len() == other.keys.len()
            && self.keys.iter().zip(&other.keys).all(|(a, b)| same(&a.0, &b.0) && same(&a.1, &b.1))
    }

    /// Whether `keys`, learned or derived under its salt, are those of a right password.
    pub fn takes(&self, keys: &Keys) -> bool {
        self.position(&sha256(keys.client.as_ref())).is_some()
    }

    /// The keys of a password, whether it is right or not; it is right if [`Verifier::takes`] them. The same work for
    /// users who do not exist.
    pub fn derive(&self, password: &str) -> Keys {
        Keys::derive(password, &self.salt, self.iterations)
    }

    /// The password whose `StoredKey` this is. Looks at all of them, so that time does not tell which.
    fn position(&self, stored: &Key) -> Option<usize> {
        let mut found = None;
        for (place, (own, _)) in self.keys.iter().enumerate() {
            if constant_time::verify_slices_are_equal(stored, own.as_ref()).is_ok() {
                found = Some(place);
            }
        }
        found.filter(|_| !self.mock)
    }

    /// Which password a proof proves: `recover` gives the client's key, if the password were that with this `StoredKey`.
    pub(super) fn check(&self, recover: impl Fn(&Key) -> Key) -> Option<Keys> {
        let mut found = None;
        for (stored, server) in &self.keys {
            let client = Zeroizing::new(recover(stored));
            if constant_time::verify_slices_are_equal(&sha256(client.as_ref()), stored.as_ref()).is_ok() {
                found = Some(Keys { client, server: server.clone() });
            }
        }
        found.filter(|_| !self.mock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the password "pencil", with the salt of the example of RFC 7677.
    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn the_form_of_postgresql_is_read_and_takes_its_password_only() {
        let verifier = Verifier::parse(PENCIL).unwrap();
        assert!(verifier.takes(&verifier.derive("pencil")));
        assert!(!verifier.takes(&verifier.derive("pencil ")));
        assert_eq!(verifier.look(), Look::DEFAULT);
        assert!(verifier.is_same(&Verifier::parse(PENCIL).unwrap()));
    }

    #[test]
    fn what_is_not_quite_a_verifier_is_refused() {
        for (from, to) in [
            ("SCRAM-SHA-256$", "SCRAM-SHA-1$"),
            ("SCRAM-SHA-256$", ""),
            ("4096:", ""),
            ("4096:", "0:"),
            ("4096:", "-1:"),
            ("4096:", "99999999999:"),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", "*"),
            ("WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=", "AAAA"),
            (":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", ""),
        ] {
            let text = PENCIL.replacen(from, to, 1);
            assert_eq!(Verifier::parse(&text).map(|_| ()), Err(ScramError::Malformed), "{text}");
        }
        let huge = PENCIL.replace("4096:", "2000000000:");
        assert_eq!(Verifier::parse(&huge).map(|_| ()), Err(ScramError::TooLarge));
        let salty = PENCIL.replace("W22ZaJ0SNY7soEsUEjb6gQ==", &"AAAA".repeat(100));
        assert_eq!(Verifier::parse(&salty).map(|_| ()), Err(ScramError::TooLarge));
    }

    #[test]
    fn two_passwords_under_one_salt_are_both_right_and_under_two_salts_cannot_be() {
        let salted = Verifier::salted("alice", b"secret").with_password("old").with_password("new");
        for (password, right) in [("old", true), ("new", true), ("older", false), ("", false)] {
            assert_eq!(salted.takes(&salted.derive(password)), right, "{password}");
        }
        let of_postgresql = Verifier::parse(PENCIL).unwrap();
        let both = of_postgresql.clone().with_password("eraser");
        assert!(both.takes(&both.derive("pencil")) && both.takes(&both.derive("eraser")));
        assert!(of_postgresql.clone().joined(Verifier::of_password("x").unwrap()).is_none());
        assert!(of_postgresql.clone().joined(of_postgresql).is_some());
    }

    #[test]
    fn nothing_is_right_for_a_user_who_does_not_exist_and_the_look_is_that_of_others() {
        let look = Look { salt: 40, iterations: NonZeroU32::new(20_000).unwrap() };
        let mock = Verifier::mock("nobody", b"secret", look);
        assert_eq!(mock.look(), look);
        assert!(!mock.takes(&mock.derive("")));
        assert_eq!(
            Verifier::salted("nobody", b"secret").salt,
            Verifier::mock("nobody", b"secret", Look::DEFAULT).salt
        );
    }
}
