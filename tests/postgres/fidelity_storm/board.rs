//! What all clients know of notifications: who listens, and what each listener must be told.
//!
//! Nobody waits for another here. A listener must get what was committed while it listened for certain: its LISTEN was
//! answered before the NOTIFY was sent, and the NOTIFY was answered before it said UNLISTEN. What falls between may come
//! or not. What was rolled back must not, and nothing may come twice.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The board.
#[derive(Debug, Default)]
pub struct Board(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    /// By channel and listener.
    terms: HashMap<(String, String), Term>,
    number: u64,
    issued: HashSet<String>,
}

#[derive(Debug, Default)]
struct Term {
    number: u64,
    must: HashSet<String>,
}

/// A term that was open before a NOTIFY, and what it is to be told if it still is open after it.
#[derive(Debug)]
pub struct Candidate {
    key: (String, String),
    number: u64,
    payload: String,
}

impl Board {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A LISTEN is in force.
    pub fn open(&self, channel: &str, listener: &str) {
        let mut notes = self.notes();
        notes.number += 1;
        let number = notes.number;
        let key = (channel.to_owned(), listener.to_owned());
        notes.terms.entry(key).or_insert_with(|| Term { number, must: HashSet::new() });
    }

    /// An UNLISTEN is about to be sent: what must have come before it.
    pub fn close(&self, channel: &str, listener: &str) -> HashSet<String> {
        let term = self.notes().terms.remove(&(channel.to_owned(), listener.to_owned()));
        term.map(|term| term.must).unwrap_or_default()
    }

    /// What a listener must have been told up to now.
    pub fn due(&self, listener: &str) -> HashSet<String> {
        let notes = self.notes();
        let own = notes.terms.iter().filter(|((_, owner), _)| owner == listener);
        own.flat_map(|(_, term)| term.must.iter().cloned()).collect()
    }

    /// These are about to be committed.
    pub fn issue(&self, notices: &[(String, String)]) -> Vec<Candidate> {
        let mut notes = self.notes();
        notes.issued.extend(notices.iter().map(|(_, payload)| payload.clone()));
        let of = |(channel, payload): &(String, String)| {
            let open = notes.terms.iter().filter(move |((name, _), _)| name == channel);
            let candidate = |(key, term): (&(String, String), &Term)| Candidate {
                key: key.clone(),
                number: term.number,
                payload: payload.clone(),
            };
            open.map(candidate).collect::<Vec<_>>()
        };
        notices.iter().flat_map(of).collect()
    }

    /// They are committed.
    pub fn committed(&self, candidates: Vec<Candidate>) {
        let mut notes = self.notes();
        for Candidate { key, number, payload } in candidates {
            if let Some(term) = notes.terms.get_mut(&key).filter(|term| term.number == number) {
                term.must.insert(payload);
            }
        }
    }

    /// Whether anybody has committed it, or is about to.
    pub fn is_issued(&self, payload: &str) -> bool {
        self.notes().issued.contains(payload)
    }
}
