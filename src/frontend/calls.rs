//! What functions do to a session that are called by their number, with a FunctionCall.

use super::holdings::Holdings;
use crate::statement::Touch;
use crate::wire::tag::SessionState;

/// Numbers of functions in PostgreSQL's `src/include/catalog/pg_proc.dat`: `set_config` and `setseed`.
const SET_CONFIG: u32 = 2078;
const SET_SEED: u32 = 1599;

/// The functions around advisory locks, those of transactions among them.
const ADVISORY_LOCKS: [std::ops::RangeInclusive<u32>; 2] = [2880..=2893, 3089..=3098];

/// `query_to_xml` and the other functions that run SQL from a string or from a table or view.
const RUNS_QUERIES: std::ops::RangeInclusive<u32> = 2923..=2944;

/// `FirstUnpinnedObjectId` of PostgreSQL's `src/include/access/transam.h`: functions below are its own.
const FIRST_UNPINNED: u32 = 12_000;

impl Holdings {
    /// A function is being called by its number.
    pub(super) fn note_call(&mut self, oid: u32) {
        match oid {
            SET_CONFIG => self.lookout.pins.insert(SessionState::Setting),
            SET_SEED => self.lookout.pins.insert(SessionState::RandomSeed),
            oid if ADVISORY_LOCKS.iter().any(|numbers| numbers.contains(&oid)) => {
                (self.lookout.states, self.lookout.releases) = (true, true);
            }
            oid if oid >= FIRST_UNPINNED => self.distrust(self.hidden.most().max(Touch::Session)),
            oid if RUNS_QUERIES.contains(&oid) => self.distrust(Touch::Untold),
            _ => {}
        }
    }
}
