//! Whose schemas the names of a statement are in: what the catalogue of a database says, along the path of a session.
//!
//! - `path`: the value of `search_path`, as PostgreSQL reads it.
//! - `snapshot`: what the catalogue said, as hashes; `View` is what it means for the sessions of one path.
//! - `catalogue`: the newest snapshot of a database, and when it has to be asked again.
//!
//! The room is pure: who asks, and on which connection, is the pool's. It never guesses: a name that is in no schema of
//! the path is in none, and is counted as that.

mod catalogue;
mod path;
mod snapshot;

pub use catalogue::{Catalogue, Refresh};
pub use snapshot::{Reading, Snapshot, View};
