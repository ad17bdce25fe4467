//! Transactions of the proxy's own, in which clients of strictly read-only routes read: each ends with ROLLBACK.

use super::ServerConn;
use super::own::OWN;
use crate::wire::error_fields::field;
use crate::wire::turn::{Asker, Bill, Mark};

/// Begins one, in front of a client's text: if it fails, the text does not run.
const BEGIN: &str = "BEGIN READ ONLY;";

/// Divides by zero where something was written, or could have been. By whole names: a client may have a search path.
const PROBE: &str =
    "SELECT pg_catalog.int4div(1, CASE WHEN pg_catalog.pg_current_xact_id_if_assigned() IS NULL
    AND pg_catalog.texteq(pg_catalog.current_setting('transaction_read_only'), 'on') THEN 1 ELSE 0 END)";

/// `division_by_zero`: nothing else that the proxy asks for divides.
const HIT: &[u8] = b"22012";

/// Whether the body of an ErrorResponse to the proxy's own request is the probe's.
pub(super) fn is_hit(body: &[u8]) -> bool {
    field(body, b'C') == Some(HIT)
}

impl ServerConn {
    /// Queues the beginning of one within a batch of the client's.
    pub fn begin_owned(&mut self) {
        self.queue_within(BEGIN.trim_end_matches(';'));
    }

    /// Queues a client's text in one, or, without `owned`, as it is. It is counted under `bill`.
    pub fn queue_text(&mut self, text: &[u8], owned: bool, commits: bool, bill: Bill) {
        let prefix = if owned { BEGIN } else { "" };
        let mark =
            Mark { owned, prefix: prefix.len() as u8, opening: owned, commits, bill, ..Mark::default() };
        self.queue_own(b'Q', &[prefix.as_bytes(), text, b"\0"], Asker::Client, mark);
    }

    /// Queues, in the place of a client's Bind, that of a ROLLBACK, which has a name no longer than that takes.
    pub fn bind_rollback(&mut self, portal: &[u8], chains: bool) {
        let sql = if chains { "ROLLBACK AND CHAIN" } else { "ROLLBACK" };
        self.close_statement(OWN, Asker::Stead);
        self.queue_own(b'P', &[OWN, sql.as_bytes(), b"\0\0\0"], Asker::Stead, Mark::default());
        let parts: [&[u8]; 4] = [portal, b"\0", OWN, &[0; 6]];
        self.queue_own(b'B', &parts, Asker::Client, Mark::default());
        self.close_statement(OWN, Asker::Stead);
    }

    /// Queues the end of one. The probe fails where the transaction has failed, and ROLLBACK must not be skipped with it.
    pub fn end_owned(&mut self) {
        self.probe();
        self.queue_statement("ROLLBACK", &[]);
        self.sync_own(Mark { ends: true, ..Mark::default() });
    }

    /// Queues the question whether anything was written in the transaction of the moment.
    pub fn probe(&mut self) {
        self.queue_statement(PROBE, &[]);
        self.queue_sync();
    }
}
