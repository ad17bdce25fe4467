//! What is known of somebody's password: the password itself, or a hash that servers keep instead.
//!
//! Every value here is wiped from memory when it is dropped, is never printed, and is compared in constant time.

mod userlist;

use std::fmt;

use aws_lc_rs::constant_time;
use md5::{Digest, Md5};
use zeroize::{Zeroize, Zeroizing};

use crate::scram::{ScramError, Verifier};

pub use userlist::{Entry, UserlistError, userlist};

/// A text that nobody may read: wiped on drop, and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`; the caller's copy, if any, is the caller's to wipe.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the exchange that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same, without telling by the time how much of it is.
    pub fn is(&self, other: &str) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), other.as_bytes()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What is known of one password.
#[derive(Clone)]
pub enum Credential {
    /// The password itself. Good for every method.
    Password(Secret),
    /// 32 hexadecimal digits, which PostgreSQL keeps with `md5` in front. Good for MD5 on either side.
    Md5(Secret),
    /// Good for SCRAM; toward a server only once a client has proved the password.
    Scram(Verifier),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "password (secret)",
            Self::Md5(_) => "md5 (secret)",
            Self::Scram(_) => "SCRAM-SHA-256 (secret)",
        })
    }
}

impl Credential {
    /// Tells hashes in PostgreSQL's forms from passwords, as `get_password_type` of its `src/backend/libpq/crypt.c`.
    ///
    /// # Errors
    /// The text begins like a SCRAM verifier and is none, or one that costs too much.
    pub fn read(text: Secret) -> Result<Self, ScramError> {
        if text.expose().starts_with("SCRAM-SHA-256$") {
            return Verifier::parse(text.expose()).map(Self::Scram);
        }
        let digits = text.expose().strip_prefix("md5").filter(|digits| {
            digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        Ok(match digits {
            Some(digits) => Self::Md5(Secret::new(digits.to_owned())),
            None => Self::Password(text),
        })
    }

    /// Whether `other` is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password(own), Self::Password(other)) | (Self::Md5(own), Self::Md5(other)) => {
                own.is(other.expose())
            }
            (Self::Scram(own), Self::Scram(other)) => own.is_same(other),
            _ => false,
        }
    }

    /// The password, if that is known.
    pub fn password(&self) -> Option<&Secret> {
        match self {
            Self::Password(password) => Some(password),
            Self::Md5(_) | Self::Scram(_) => None,
        }
    }

    /// What PostgreSQL would keep after `password_encryption = md5`; `None` where only a SCRAM verifier is known.
    pub fn md5(&self, user: &str) -> Option<Secret> {
        match self {
            Self::Password(password) => Some(hash(password.expose(), user)),
            Self::Md5(digits) => Some(digits.clone()),
            Self::Scram(_) => None,
        }
    }
}

/// Whether two lists hold the same.
pub fn are_same(left: &[Credential], right: &[Credential]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.is_same(right))
}

/// One verifier for all passwords of `user` that can be proved with SCRAM; `secret` salts those that have no salt.
/// `None` if there are none, or if they are salted differently.
pub fn verifier(credentials: &[Credential], user: &str, secret: &[u8]) -> Option<Verifier> {
    let mut verifier: Option<Verifier> = None;
    for credential in credentials {
        if let Credential::Scram(one) = credential {
            verifier = Some(match verifier {
                Some(others) => others.joined(one.clone())?,
                None => one.clone(),
            });
        }
    }
    for password in credentials.iter().filter_map(Credential::password) {
        let so_far = verifier.unwrap_or_else(|| Verifier::salted(user, secret));
        verifier = Some(so_far.with_password(password.expose()));
    }
    verifier
}

/// The digits of `pg_md5_encrypt` of PostgreSQL's `src/common/md5_common.c`.
fn hash(password: &str, user: &str) -> Secret {
    digits(&[password.as_bytes(), user.as_bytes()])
}

/// The answer to an MD5 request with this salt, without its NUL: what a client sends, and what is sent to a server.
pub fn md5_answer(hash: &Secret, salt: [u8; 4]) -> Secret {
    let digits = digits(&[hash.expose().as_bytes(), &salt]);
    Secret::new(format!("md5{}", digits.expose()))
}

fn digits(parts: &[&[u8]]) -> Secret {
    let mut hasher = Md5::new();
    parts.iter().for_each(|part| hasher.update(part));
    let mut digest: [u8; 16] = hasher.finalize().into();
    let mut text = String::with_capacity(32);
    for byte in digest {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
    digest.zeroize();
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn the_forms_of_postgresql_are_told_from_passwords() {
        let kind = |text: &str| format!("{:?}", Credential::read(secret(text)).unwrap());
        let scram = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
            WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(kind(scram), "SCRAM-SHA-256 (secret)");
        assert_eq!(kind("md50123456789abcdef0123456789abcdef"), "md5 (secret)");
        for password in [
            "sesame",
            "md5",
            "md50123456789abcdef0123456789abcde",
            "md50123456789ABCDEF0123456789ABCDEF",
            "md50123456789abcdef0123456789abcdef0",
            "SCRAM-SHA-1$4096",
        ] {
            assert_eq!(kind(password), "password (secret)", "{password}");
        }
        assert!(Credential::read(secret("SCRAM-SHA-256$nonsense")).is_err());
    }

    /// `select md5(md5('sesame' || 'alice') || '1234')` of PostgreSQL.
    #[test]
    fn md5_is_that_of_postgresql() {
        let credential = Credential::Password(secret("sesame"));
        let hash = credential.md5("alice").unwrap();
        assert_eq!(hash.expose(), "1a1403cdf37da2c74e920c31477e3b20");
        assert_eq!(md5_answer(&hash, *b"1234").expose(), "md55da53b12d7f03a73bb7f9aa4151e8131");
        assert!(Credential::Md5(hash.clone()).md5("anybody").unwrap().is(hash.expose()));
    }

    #[test]
    fn a_verifier_takes_every_password_that_is_right_and_nothing_else() {
        let password = |text: &str| Credential::Password(secret(text));
        let takes = |verifier: &Verifier, text: &str| verifier.takes(&verifier.derive(text));
        let both = verifier(&[password("old"), password("new")], "alice", b"s").unwrap();
        assert!(takes(&both, "old") && takes(&both, "new") && !takes(&both, "other"));
        let pencil = Credential::Scram(Verifier::of_password("pencil").unwrap());
        let mixed = verifier(&[password("new"), pencil.clone()], "alice", b"s").unwrap();
        assert!(takes(&mixed, "pencil") && takes(&mixed, "new"));
        let other = Credential::Scram(Verifier::of_password("other").unwrap());
        assert!(verifier(&[pencil, other], "alice", b"s").is_none(), "two salts");
        assert!(verifier(&[Credential::Md5(secret("0"))], "alice", b"s").is_none());
        assert!(verifier(&[], "alice", b"s").is_none());
    }

    /// Tells whether values of a type can be compared with `==`, which ends at the first byte that differs: the constant of
    /// the type itself comes before that of the trait, where there is one.
    struct Probe<T>(std::marker::PhantomData<T>);

    trait Otherwise {
        const COMPARES: bool = false;
    }

    impl<T> Otherwise for Probe<T> {}

    impl<T: PartialEq> Probe<T> {
        const COMPARES: bool = true;
    }

    #[test]
    fn what_is_secret_has_no_comparison_but_those_in_constant_time() {
        let of_texts = Probe::<String>::COMPARES;
        assert!(of_texts, "it is found where it is");
        let compared = [
            Probe::<Secret>::COMPARES,
            Probe::<Credential>::COMPARES,
            Probe::<Verifier>::COMPARES,
            Probe::<crate::scram::Keys>::COMPARES,
        ];
        assert_eq!(compared, [false; 4]);
        for (other, same) in
            [("sesame", true), ("Sesame", false), ("sesam", false), ("sesame ", false), ("", false)]
        {
            assert_eq!(secret("sesame").is(other), same, "{other}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!("{:?} {:?}", secret("sesame"), Credential::Password(secret("sesame")));
        assert!(!printed.contains("sesame"), "{printed}");
    }
}
