//! Requests of the proxy's own, in the extended protocol: unlike a simple query they leave the client's unnamed
//! statement alone, and what is not ours travels as a parameter, never as SQL.

use super::ServerConn;
use crate::wire::turn::{Asker, Mark};

/// The statement that the proxy uses for its own requests on a connection.
pub(super) const OWN: &[u8] = b"fp_own\0";

/// The name of a statement that is never there, with its NUL: what uses it fails.
pub const NONE: &[u8] = b"fp_none\0";

impl ServerConn {
    /// Queues bytes to be sent with the next ones. They are known to the turn already.
    pub fn queue(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Queues a message of the proxy's own.
    pub fn queue_own(&mut self, tag: u8, parts: &[&[u8]], asker: Asker, mark: Mark) {
        let target = parts.first().and_then(|part| part.first()).copied().unwrap_or(0);
        self.turn.mark_request(tag, target, asker, mark);
        self.queue_message(tag, parts);
    }

    /// Queues a message of which the turn knows already.
    pub fn queue_message(&mut self, tag: u8, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.queue_head(tag, length, parts);
    }

    /// Queues the head of a message whose body has `length` bytes, of which `parts` are the first.
    pub fn queue_head(&mut self, tag: u8, length: usize, parts: &[&[u8]]) {
        self.out.push(tag);
        // A message that the client could send is below 1 GiB, and what is put in front of it is short.
        self.out.extend_from_slice(&(length as u32 + 4).to_be_bytes());
        for part in parts {
            self.out.extend_from_slice(part);
        }
    }

    /// Queues the closing of a prepared statement; `name` has its NUL. Closing one that is not there is no error.
    pub fn close_statement(&mut self, name: &[u8], asker: Asker) {
        self.queue_own(b'C', &[b"S", name], asker, Mark::default());
    }

    /// Has the server answer what it was sent so far.
    pub fn queue_flush(&mut self) {
        self.queue_message(b'H', &[]);
    }

    /// Queues one statement of the proxy's own, to be run with these parameters as text. Several make one transaction,
    /// which [`Self::queue_sync`] ends.
    pub fn queue_statement(&mut self, sql: &str, parameters: &[&[u8]]) {
        self.queue_statement_as(Asker::Proxy, sql, parameters);
    }

    /// Queues one within a batch of the client's, whose part it becomes: if it fails, the client hears of it.
    pub fn queue_within(&mut self, sql: &str) {
        self.queue_statement_as(Asker::Stead, sql, &[]);
        self.close_statement(OWN, Asker::Stead);
    }

    fn queue_statement_as(&mut self, asker: Asker, sql: &str, parameters: &[&[u8]]) {
        self.close_statement(OWN, asker);
        self.queue_own(b'P', &[OWN, sql.as_bytes(), b"\0\0\0"], asker, Mark::default());
        let mut bind = Vec::with_capacity(64);
        bind.push(0);
        bind.extend_from_slice(OWN);
        bind.extend_from_slice(&[0, 0]);
        // Names of settings and values that they had: a handful.
        bind.extend_from_slice(&(parameters.len() as u16).to_be_bytes());
        for parameter in parameters {
            bind.extend_from_slice(&(parameter.len() as u32).to_be_bytes());
            bind.extend_from_slice(parameter);
        }
        bind.extend_from_slice(&[0, 0]);
        self.queue_own(b'B', &[&bind], asker, Mark::default());
        self.queue_own(b'E', &[&[0; 5]], asker, Mark::default());
    }

    /// Queues the client's startup settings, behind what reset them.
    pub fn reassign(&mut self, sql: &str) {
        self.queue_statement(sql, &[]);
        self.told.reassign();
        self.sync_own(Mark { reassigns: true, ..Mark::default() });
    }

    /// Queues the Sync of the proxy's own requests.
    pub fn queue_sync(&mut self) {
        self.sync_own(Mark::default());
    }

    /// Nothing of the proxy's own is left behind: a client could run it.
    pub(super) fn sync_own(&mut self, mark: Mark) {
        self.close_statement(OWN, Asker::Proxy);
        self.queue_own(b'S', &[], Asker::Proxy, mark);
    }
}

/// The columns of a DataRow: a count, then for each a length, -1 for NULL, and so many bytes.
pub fn columns(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length);
        if length == u32::MAX {
            columns.push(None);
            rest = behind;
        } else {
            let (value, behind) = behind.split_at_checked(length as usize)?;
            columns.push(Some(String::from_utf8_lossy(value).into_owned()));
            rest = behind;
        }
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_to_its_end_or_not_at_all() {
        let body = b"\0\x02\0\0\0\x01x\xff\xff\xff\xff";
        assert_eq!(columns(body), Some(vec![Some("x".into()), None]));
        for end in 0..body.len() {
            assert_eq!(columns(&body[..end]), None, "{end} bytes");
        }
        assert_eq!(columns(b"\0\x01\x7f\xff\xff\xff"), None);
    }
}
