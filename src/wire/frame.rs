//! Where a message ends: a type byte, then a big-endian length that counts itself but not the type byte.

/// Bytes of a message header: the type and the length.
pub const HEADER: usize = 5;

/// `PQ_LARGE_MESSAGE_LIMIT` (`MaxAllocSize - 1`) of PostgreSQL's `src/include/libpq/libpq.h`.
pub const LARGE_REQUEST: usize = 0x3fff_ffff - 1;

/// `PQ_SMALL_MESSAGE_LIMIT` of the same file.
pub const SMALL_REQUEST: usize = 10_000;

/// The length above which libpq distrusts a message that has no business being long: `pqParseInput3` in
/// `src/interfaces/libpq/fe-protocol3.c`.
pub const SMALL_REPLY: usize = 30_000;

/// Bytes of a whole NotificationResponse that are believed. PostgreSQL's payloads have less than 8,000 bytes
/// (`NOTIFY_PAYLOAD_MAX_LENGTH` in its `src/backend/commands/async.c`) and names 63; where the connection has another
/// encoding than the database, a character of one byte becomes at most three.
pub const NOTIFICATION: usize = 24 * 1024;

/// The header of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The type byte.
    pub tag: u8,
    /// Length of the whole message, the type byte included.
    pub len: usize,
}

/// A header that no honest peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The type byte is none that the protocol knows in this direction.
    #[error("invalid message type {0:#04x}")]
    UnknownType(u8),
    /// The length is below 4 or above what PostgreSQL accepts for the type.
    #[error("invalid length {length} of message type {tag:#04x}")]
    Length {
        /// The type byte.
        tag: u8,
        /// The length as sent.
        length: u32,
    },
}

/// The header of a client's message at the start of `bytes`; `None` while it is incomplete.
///
/// The limits are those of `SocketBackend` in PostgreSQL's `src/backend/tcop/postgres.c`.
pub fn request(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(&tag) = bytes.first() else { return Ok(None) };
    let limit = match tag {
        b'Q' | b'F' | b'P' | b'B' | b'd' => LARGE_REQUEST,
        b'X' | b'C' | b'D' | b'E' | b'c' | b'f' => SMALL_REQUEST,
        // They have no body. PostgreSQL answers a Flush that has one with an error that belongs to no request, and
        // skips everything up to the next Sync: by then the connection could be another client's.
        b'H' | b'S' => 4,
        _ => return Err(FrameError::UnknownType(tag)),
    };
    header(bytes, limit)
}

/// The header of a server's message at the start of `bytes`; `None` while it is incomplete.
pub fn reply(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(&tag) = bytes.first() else { return Ok(None) };
    let limit = match tag {
        // libpq's VALID_LONG_MESSAGE_TYPE, and ParameterDescription, which has 4 bytes for each of 65,535 parameters.
        b'T' | b'D' | b'd' | b'V' | b'E' | b'N' | b'A' | b't' => i32::MAX as usize,
        b'1' | b'2' | b'3' | b'C' | b'G' | b'H' | b'I' | b'K' | b'R' | b'S' | b'W' | b'Z' | b'c' | b'n'
        | b's' | b'v' => SMALL_REPLY,
        _ => return Err(FrameError::UnknownType(tag)),
    };
    header(bytes, limit)
}

fn header(bytes: &[u8], limit: usize) -> Result<Option<Header>, FrameError> {
    let &[tag, a, b, c, d, ..] = bytes else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length < 4 || length as usize > limit {
        return Err(FrameError::Length { tag, length });
    }
    Ok(Some(Header { tag, len: length as usize + 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_needs_five_bytes_and_counts_the_type_byte() {
        let message = [b'Q', 0, 0, 0, 6, b';', 0];
        for split in 0..HEADER {
            assert_eq!(request(&message[..split]), Ok(None), "{split} bytes");
        }
        assert_eq!(request(&message), Ok(Some(Header { tag: b'Q', len: 7 })));
    }

    #[test]
    fn lengths_that_postgresql_refuses_are_refused() {
        let with = |tag: u8, length: u32| {
            let mut bytes = vec![tag];
            bytes.extend(length.to_be_bytes());
            bytes
        };
        for length in [0, 3, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            assert!(request(&with(b'Q', length)).is_err(), "Query of {length}");
        }
        assert!(request(&with(b'Q', LARGE_REQUEST as u32)).is_ok());
        assert!(request(&with(b'S', 10_001)).is_err());
        assert!(reply(&with(b'Z', 30_001)).is_err());
        assert!(reply(&with(b'D', 0x8000_0000)).is_err());
        assert!(reply(&with(b'D', 0x7fff_ffff)).is_ok());
        assert!(reply(&with(b'1', 3)).is_err());
    }

    #[test]
    fn the_type_byte_alone_is_enough_to_refuse_it() {
        for tag in 0..=255_u8 {
            let known = b"QFPBdXCDEHScf".contains(&tag);
            assert_eq!(request(&[tag]).is_ok(), known, "{tag}");
            let known = b"TDdVENAt123CGHIKRSWZcnsv".contains(&tag);
            assert_eq!(reply(&[tag]).is_ok(), known, "{tag}");
        }
    }
}
