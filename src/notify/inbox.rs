//! From chunks of bytes to whole messages, and what stands in a notification. Pure; the server is not trusted.

use crate::wire::frame::{self, FrameError, HEADER};

/// Bytes of a whole NotificationResponse that are believed.
pub const MAX_NOTIFICATION: usize = frame::NOTIFICATION;

/// Bytes of any other message that comes here: errors, notices, and answers to the proxy's own short queries.
const MAX_OTHER: usize = 64 * 1024;

/// What an honest server does not send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a message of {0} bytes")]
    TooLong(usize),
    #[error("a notification that makes no sense")]
    Notification,
}

/// Bytes that came, up to the end of the last whole message and beyond.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buffer: Vec<u8>,
    /// Up to here they were returned.
    read: usize,
}

impl Inbox {
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(chunk);
    }

    /// The next message, if it is there as a whole.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Violation> {
        let rest = &self.buffer[self.read..];
        let Some(header) = frame::reply(rest)? else { return Ok(None) };
        if header.len > if header.tag == b'A' { MAX_NOTIFICATION } else { MAX_OTHER } {
            return Err(Violation::TooLong(header.len));
        }
        let Some(message) = rest.get(..header.len) else { return Ok(None) };
        self.read += header.len;
        Ok(Some(message))
    }
}

/// The channel of a NotificationResponse.
pub(super) fn channel_of(message: &[u8]) -> Result<&[u8], Violation> {
    parts_of(message).map(|(channel, _)| channel).ok_or(Violation::Notification)
}

/// Channel and payload of a NotificationResponse: behind the process id, each with its NUL, and nothing more.
pub fn parts_of(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = message.get(HEADER + 4..)?.split(|&byte| byte == 0);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(channel), Some(payload), Some([]), None) if !channel.is_empty() => Some((channel, payload)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn whatever_the_chunks_messages_come_out_whole() {
        let messages = [message(b'A', b"\0\0\0\x01x\0\0"), message(b'Z', b"I"), message(b'A', &[7; 900])];
        let all = messages.concat();
        for size in 1..all.len() {
            let (mut inbox, mut got) = (Inbox::default(), Vec::new());
            for chunk in all.chunks(size) {
                inbox.feed(chunk);
                while let Some(message) = inbox.next().unwrap() {
                    got.push(message.to_vec());
                }
            }
            assert_eq!(got, messages, "chunks of {size}");
        }
    }

    #[test]
    fn a_length_that_is_not_believable_is_refused_before_its_bytes_come() {
        let header = |tag: u8, length: u32| [&[tag], &length.to_be_bytes()[..]].concat();
        for (tag, length) in
            [(b'A', 24 * 1024), (b'E', 64 * 1024), (b'D', i32::MAX as u32), (b'?', 4), (b'A', 3)]
        {
            let mut inbox = Inbox::default();
            inbox.feed(&header(tag, length));
            assert!(inbox.next().is_err(), "{tag} of {length}");
        }
        let mut inbox = Inbox::default();
        inbox.feed(&header(b'A', MAX_NOTIFICATION as u32 - 1));
        assert_eq!(inbox.next(), Ok(None));
    }

    #[test]
    fn the_channel_is_found_or_the_notification_makes_no_sense() {
        let good = message(b'A', b"\0\0\0\x01news\0hello\0");
        assert_eq!(channel_of(&good), Ok(&b"news"[..]));
        assert_eq!(channel_of(&message(b'A', b"\0\0\0\x01news\0\0")), Ok(&b"news"[..]));
        for body in [
            &b""[..],
            b"\0\0\0",
            b"\0\0\0\x01",
            b"\0\0\0\x01\0\0",
            b"\0\0\0\x01news\0",
            b"\0\0\0\x01news\0hello",
            b"\0\0\0\x01news\0hello\0more",
            b"\0\0\0\x01news\0hello\0\0",
        ] {
            assert!(channel_of(&message(b'A', body)).is_err(), "{body:?}");
        }
    }
}
