//! The versions of the protocol that are spoken, and how two peers agree on one.
//!
//! 3.2 is 3.0 with cancel keys of up to 256 bytes. 3.1 does not exist: PgBouncer before 1.23 took it for 3.0, so
//! PostgreSQL skipped the number. See "Protocol Versions" and "NegotiateProtocolVersion" in PostgreSQL's documentation.

/// The major version that is spoken, and the only one.
pub const MAJOR: u32 = 3;

/// Bytes that the secret of a cancel key may have: 4 in protocol 3.0, anything from 4 to 256 in 3.2.
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 4..=256;

/// A version that is spoken. Older ones sort before newer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// PostgreSQL 7.4 and newer.
    V3_0,
    /// PostgreSQL 18 and newer.
    V3_2,
}

impl Version {
    /// The newest one.
    pub const NEWEST: Self = Self::V3_2;

    /// What is spoken with a peer that asks for this minor version.
    pub fn at_most(minor: u32) -> Self {
        if minor < Self::V3_2.minor() { Self::V3_0 } else { Self::V3_2 }
    }

    /// The minor version.
    pub fn minor(self) -> u32 {
        match self {
            Self::V3_0 => 0,
            Self::V3_2 => 2,
        }
    }

    /// Both numbers in one, as startup packets and NegotiateProtocolVersion carry them.
    pub fn number(self) -> u32 {
        MAJOR << 16 | self.minor()
    }
}

/// What is wrong with a server's NegotiateProtocolVersion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// It ends too early or too late, or counts less than no options.
    #[error("malformed NegotiateProtocolVersion")]
    Malformed,
    /// It does not name an older version than the one that was asked for.
    #[error("the server negotiated protocol version {0:#x}, which is none that was asked for")]
    Version(u32),
    /// It refuses protocol options, of which none was sent.
    #[error("the server refused a protocol option that was not asked for")]
    Option,
}

/// What a server wants to speak that was asked for `asked` and no protocol options: the body of its
/// NegotiateProtocolVersion.
///
/// The documentation once said that it carries the minor version alone, so 0 is taken for 3.0; PostgreSQL itself has
/// always sent both numbers.
pub fn negotiated(body: &[u8], asked: Version) -> Result<Version, NegotiationError> {
    let (number, rest) = body.split_first_chunk::<4>().ok_or(NegotiationError::Malformed)?;
    let (options, rest) = rest.split_first_chunk::<4>().ok_or(NegotiationError::Malformed)?;
    match i32::from_be_bytes(*options) {
        0 if rest.is_empty() => {}
        1.. => return Err(NegotiationError::Option),
        _ => return Err(NegotiationError::Malformed),
    }
    let number = u32::from_be_bytes(*number);
    let named = match number {
        0 => Some(Version::V3_0),
        number => [Version::V3_0, Version::V3_2].into_iter().find(|version| version.number() == number),
    };
    named.filter(|version| *version < asked).ok_or(NegotiationError::Version(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_a_version_gets_the_newest_that_is_not_newer() {
        let table = [(0, Version::V3_0), (1, Version::V3_0), (2, Version::V3_2), (3, Version::V3_2)];
        for (minor, version) in table.into_iter().chain([(9999, Version::V3_2), (0xffff, Version::V3_2)]) {
            assert_eq!(Version::at_most(minor), version, "3.{minor}");
        }
        assert_eq!((Version::V3_0.number(), Version::V3_2.number()), (196_608, 196_610));
        assert!(Version::V3_0 < Version::NEWEST);
    }

    #[test]
    fn a_server_may_only_go_back_to_a_version_that_exists() {
        let body = |number: u32, options: i32, rest: &[u8]| {
            [&number.to_be_bytes()[..], &options.to_be_bytes(), rest].concat()
        };
        let asked = |body: &[u8]| negotiated(body, Version::V3_2);
        assert_eq!(asked(&body(3 << 16, 0, b"")), Ok(Version::V3_0));
        assert_eq!(asked(&body(0, 0, b"")), Ok(Version::V3_0));
        for number in [196_609, 196_610, 196_611, 2 << 16, 4 << 16, 1, 2, u32::MAX, 3 << 16 | 9999] {
            assert_eq!(asked(&body(number, 0, b"")), Err(NegotiationError::Version(number)), "{number:#x}");
        }
        assert!(negotiated(&body(3 << 16, 0, b""), Version::V3_0).is_err(), "nothing to negotiate");
        assert_eq!(asked(&body(3 << 16, 1, b"_pq_.x\0")), Err(NegotiationError::Option));
        assert_eq!(asked(&body(3 << 16, i32::MAX, b"")), Err(NegotiationError::Option));
        for malformed in [body(3 << 16, -1, b""), body(3 << 16, 0, b"\0"), vec![0; 7], Vec::new()] {
            assert_eq!(asked(&malformed), Err(NegotiationError::Malformed), "{malformed:?}");
        }
    }
}
