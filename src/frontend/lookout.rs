//! What a client may have done to its session since that was last looked at.

use std::rc::Rc;

use super::holdings::SESSION_AUTHORIZATION;
use super::seldom::Blank;
use crate::backend::probe;
use crate::statement::{Facts, Touched};
use crate::wire::tag::{Pins, SessionState};

/// Statements that are remembered until the definitions are known. Whoever runs more may have done anything.
const MAX_UNSEEN: usize = 100;

/// What a client may have done to its session since that was last looked at.
#[derive(Debug)]
pub(super) struct Lookout {
    /// It may have left state that the server can be asked about.
    pub(super) states: bool,
    /// It may have ended such state.
    pub(super) releases: bool,
    /// Settings that it may have changed.
    pub(super) names: Vec<Box<str>>,
    /// Settings went back to what the server takes for their default.
    pub(super) resets: bool,
    /// All settings did, or it cannot be told which.
    pub(super) all_settings: bool,
    /// It may have run what can do anything.
    pub(super) opaque: bool,
    /// It may have set what nobody knows to ask about.
    pub(super) dynamic: bool,
    /// It has changed definitions, or what they do was found out too long ago.
    pub(super) hidden: bool,
    /// It has changed definitions.
    pub(super) defines: bool,
    /// What it has run while that is not known.
    pub(super) unseen: Vec<Rc<Facts>>,
    /// A text could not be judged: the tags of what was carried out say what they can.
    pub(super) unjudged: bool,
    /// What `opaque`, `states`, `releases` and `dynamic` were before that.
    pub(super) judged: (bool, bool, bool, bool),
    /// State that the server cannot be asked about.
    pub(super) pins: Pins,
    /// The settings that decide what a statement means are not those that are known.
    pub(super) planning: bool,
    /// The encoding of the client's texts, or how they are quoted, may be changing.
    pub(super) dialect: bool,
    /// Statements that have the client's own names on the server connection for a while, with their NULs.
    pub(super) borrowed: Vec<Box<[u8]>>,
    /// They were, behind a message that resets.
    pub(super) reassigned: bool,
    /// Of these settings, the client's startup values have to be set again behind its next Sync.
    pub(super) reassign: Touched,
}

impl Default for Lookout {
    fn default() -> Self {
        NOTHING
    }
}

impl Blank for Lookout {
    const BLANK: &'static Self = &NOTHING;
}

const NOTHING: Lookout = Lookout {
    states: false,
    releases: false,
    names: Vec::new(),
    resets: false,
    all_settings: false,
    opaque: false,
    dynamic: false,
    hidden: false,
    defines: false,
    unseen: Vec::new(),
    unjudged: false,
    judged: (false, false, false, false),
    pins: Pins::NONE,
    planning: false,
    dialect: false,
    borrowed: Vec::new(),
    reassigned: false,
    reassign: Touched::None,
};

impl Lookout {
    /// Whether there is nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        !self.states
            && !self.releases
            && self.names.is_empty()
            && !self.resets
            && !self.all_settings
            && !self.opaque
            && !self.hidden
            && !self.unjudged
            && self.pins.is_empty()
            && self.borrowed.is_empty()
    }

    /// What a statement does cannot be told before the definitions have been looked at.
    pub(super) fn remember(&mut self, facts: &Rc<Facts>) {
        if self.unseen.len() < MAX_UNSEEN {
            self.unseen.push(Rc::clone(facts));
        } else {
            self.opaque = true;
        }
    }

    /// Startup values of these settings have to be set again.
    pub(super) fn reassign_after(&mut self, resets: &Touched) {
        match (&mut self.reassign, resets) {
            (_, Touched::None) => {}
            (Touched::Names(names), Touched::Names(more)) => {
                *names = names.iter().chain(more).cloned().collect();
            }
            (Touched::None, Touched::Names(names)) => self.reassign = Touched::Names(names.clone()),
            (reassign, _) => *reassign = Touched::Any,
        }
    }

    /// A statement has this name, with its NUL, for a while: once, however often it is used until then.
    pub(super) fn borrows(&mut self, name: Vec<u8>) {
        if !self.borrowed.iter().any(|known| **known == *name) {
            self.borrowed.push(name.into());
        }
    }

    /// Nothing of what could not be judged was carried out.
    pub(super) fn forget_unjudged(&mut self) {
        if std::mem::take(&mut self.unjudged) {
            (self.opaque, self.states, self.releases, self.dynamic) = self.judged;
        }
    }

    pub(super) fn touch(&mut self, touched: &Touched) {
        match touched {
            Touched::None => {}
            Touched::Any => self.all_settings = true,
            Touched::Names(names) => {
                for name in names {
                    // The server reports whose session it is.
                    if &**name != SESSION_AUTHORIZATION && !self.names.contains(name) {
                        self.names.push(name.clone());
                    }
                }
            }
        }
        if self.names.len() > probe::MAX_NAMES {
            self.names.clear();
            self.all_settings = true;
            self.pins.insert(SessionState::Setting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_lent_again_and_again_is_taken_back_once() {
        let mut lookout = Lookout::default();
        for _ in 0..1_000 {
            lookout.borrows(b"s\0".to_vec());
            lookout.borrows(b"t\0".to_vec());
        }
        assert_eq!(lookout.borrowed.len(), 2);
    }
}
