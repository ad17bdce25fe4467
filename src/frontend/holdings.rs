//! What a client's session holds, wherever it is served: its settings, its prepared statements, and the state that keeps
//! it on one server connection. And what it may have done since that was last known ([`Lookout`]).

use std::collections::VecDeque;
use std::sync::Arc;

use super::listening::Listening;
use super::names::{Named, Names};
use super::texts::{Planning, Texts};
use crate::backend::ServerConn;
use crate::backend::probe::{self, Answer, Question};
use crate::backend::settings::{Parameters, Settings, is_planning};
use crate::statement::{Effects, Facts, Kind, Pin, Touched};
use crate::wire::tag::{Deallocated, Pins, SessionState};

/// What a client may have done to its session since that was last looked at.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// It may have left state that the server can be asked about.
    pub(super) states: bool,
    /// It may have ended such state.
    pub(super) releases: bool,
    /// Settings that it may have changed.
    names: Vec<Box<str>>,
    /// Settings went back to what the server takes for their default.
    pub(super) resets: bool,
    /// All settings did, or it cannot be told which.
    all_settings: bool,
    /// It called what can do anything.
    pub(super) opaque: bool,
    /// A text could not be judged: the tags of what was carried out say what they can.
    pub(super) unjudged: bool,
    /// What `opaque`, `states` and `releases` were before that.
    judged: (bool, bool, bool),
    /// State that the server cannot be asked about.
    pins: Pins,
    /// The settings that decide what a statement means are not those that are known.
    planning: bool,
    /// The encoding of the client's texts, or how they are quoted, may be changing.
    pub(super) dialect: bool,
    /// Statements that have the client's own names on the server connection for a while, with their NULs.
    pub(super) borrowed: Vec<Box<[u8]>>,
    /// They were, behind a message that resets.
    pub(super) reassigned: bool,
    /// Of these settings, the client's startup values have to be set again behind its next Sync.
    pub(super) reassign: Touched,
}

impl Lookout {
    /// Whether there is nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        !self.states
            && !self.releases
            && self.names.is_empty()
            && !self.resets
            && !self.all_settings
            && !self.opaque
            && !self.unjudged
            && self.pins.is_empty()
            && self.borrowed.is_empty()
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

    /// Nothing of what could not be judged was carried out.
    pub(super) fn forget_unjudged(&mut self) {
        if std::mem::take(&mut self.unjudged) {
            (self.opaque, self.states, self.releases) = self.judged;
        }
    }

    fn touch(&mut self, touched: &Touched) {
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
        }
    }
}

/// A DEALLOCATE that is on its way.
#[derive(Debug)]
struct Removal {
    /// `None` is all of them.
    name: Option<Box<str>>,
    /// The batch in which it was sent.
    epoch: u64,
}

/// What a client's session holds.
#[derive(Debug)]
pub(super) struct Holdings {
    /// The settings that it asked for in its startup packet: what RESET leads back to.
    startup: Arc<Settings>,
    /// What the server reported after its login.
    welcome: Arc<Parameters>,
    /// The settings that it has.
    pub(super) settings: Arc<Settings>,
    planning: Planning,
    pub(super) names: Names,
    pub(super) pins: Pins,
    /// Those of them that last until the client leaves or discards everything.
    sticky: Pins,
    /// What SQL removes of the prepared statements, as far as it is not answered yet.
    removals: VecDeque<Removal>,
    /// Statements that were prepared by SQL, while the client is pinned for them.
    sql_names: Vec<Box<str>>,
    /// Those that the log has told of.
    pub(super) said: Pins,
    /// When the first of them came, in milliseconds of the process's clock.
    pub(super) pinned_since: u64,
    pub(super) lookout: Lookout,
    pub(super) listening: Listening,
    /// The client's number, and how often its settings changed in the middle of a transaction.
    client: u64,
    changes: u64,
}

fn begins_transactions(setting: &str) -> bool {
    setting.starts_with("default_transaction_")
}

const SESSION_AUTHORIZATION: &str = "session_authorization";

/// Statements prepared by SQL whose names are remembered.
const MAX_SQL_NAMES: usize = 256;

/// Numbers of functions in PostgreSQL's `src/include/catalog/pg_proc.dat`: `set_config` and `setseed`.
const SET_CONFIG: u32 = 2078;
const SET_SEED: u32 = 1599;

/// The functions around advisory locks, those of transactions among them.
const ADVISORY_LOCKS: [std::ops::RangeInclusive<u32>; 2] = [2880..=2893, 3089..=3098];

/// `FirstUnpinnedObjectId` of PostgreSQL's `src/include/access/transam.h`: functions below are its own.
const FIRST_UNPINNED: u32 = 12_000;

impl Holdings {
    /// Nothing but the settings of the startup packet, with which the server reports `welcome`. No two clients of the
    /// process have the same number.
    pub(super) fn new(startup: Arc<Settings>, welcome: Arc<Parameters>, client: u64, texts: &Texts) -> Self {
        Self {
            settings: Arc::clone(&startup),
            planning: texts.planning(startup.planning()),
            startup,
            welcome,
            names: Names::default(),
            pins: Pins::NONE,
            sticky: Pins::NONE,
            removals: VecDeque::new(),
            sql_names: Vec::new(),
            said: Pins::NONE,
            pinned_since: 0,
            lookout: Lookout::default(),
            listening: Listening::default(),
            client,
            changes: 0,
        }
    }

    /// The settings of its startup packet.
    pub(super) fn startup(&self) -> &Arc<Settings> {
        &self.startup
    }

    /// Takes note of what a statement that is being sent may do.
    pub(super) fn note(&mut self, facts: &Facts) {
        let Effects { suspects, releases, settings, local_settings, resets, pin, calls_unknown, .. } =
            &facts.effects;
        let Effects { prepared_names, deallocates, .. } = &facts.effects;
        let lookout = &mut self.lookout;
        if facts.kind == Kind::Unknown {
            if !std::mem::replace(&mut lookout.unjudged, true) {
                lookout.judged = (lookout.opaque, lookout.states, lookout.releases);
            }
            lookout.opaque = true;
            lookout.states = true;
            lookout.releases = true;
            lookout.planning = true;
            lookout.dialect = true;
            self.changes += 1;
            return;
        }
        if let Some(pin) = pin {
            lookout.pins.insert(match pin {
                Pin::Load => SessionState::Load,
                Pin::RandomSeed => SessionState::RandomSeed,
                Pin::SessionAuthorization => SessionState::SessionAuthorization,
                Pin::Opaque => SessionState::Opaque,
            });
        }
        lookout.states |= !suspects.is_empty();
        lookout.releases |= *releases || *calls_unknown;
        lookout.opaque |= *calls_unknown;
        let has_reset = *resets != Touched::None;
        lookout.resets |= has_reset;
        lookout.touch(settings);
        if !has_reset && *settings == Touched::Any {
            lookout.pins.insert(SessionState::Setting);
        }
        for name in prepared_names {
            if !self.sql_names.contains(name) && self.names.get(name.as_bytes()).is_none() {
                self.sql_names.push(name.clone());
            }
        }
        self.sql_names.retain(|name| !deallocates.contains(name));
        if self.sql_names.len() > MAX_SQL_NAMES {
            self.sql_names.clear();
            self.sticky.insert(SessionState::PreparedStatement);
        }
        for touched in [settings, local_settings] {
            let (planning, dialect) = match touched {
                Touched::None => (false, false),
                Touched::Any => (true, true),
                Touched::Names(names) => (
                    names.iter().any(|name| is_planning(name)),
                    names.iter().any(|name| {
                        matches!(&**name, "client_encoding" | "names" | "standard_conforming_strings")
                    }),
                ),
            };
            lookout.dialect |= dialect;
            lookout.planning |= planning;
            self.changes += u64::from(planning);
        }
    }

    /// Pins the client to its server connection for something that it is doing.
    pub(super) fn pin(&mut self, state: SessionState) {
        self.lookout.pins.insert(state);
    }

    /// SQL that is being sent in batch `epoch` removes prepared statements.
    pub(super) fn remove(&mut self, effects: &Effects, epoch: u64) {
        let names = effects.deallocates.iter().cloned().map(Some);
        let all = effects.deallocates_all.then_some(None);
        self.removals.extend(names.chain(all).map(|name| Removal { name, epoch }));
    }

    /// The server has carried out DEALLOCATE.
    pub(super) fn removed(&mut self, what: Deallocated) {
        let all = what == Deallocated::All;
        while let Some(removal) = self.removals.pop_front() {
            match &removal.name {
                Some(name) if !all => return self.names.forget(name.as_bytes()),
                None if all => return self.names.forget_all(),
                // It was refused.
                _ => {}
            }
        }
    }

    /// Whether a DEALLOCATE is not answered yet.
    pub(super) fn awaits_removal(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Nothing is owed any more: what was not carried out by now never will be.
    pub(super) fn nothing_is_owed(&mut self) {
        self.removals.clear();
    }

    /// Whether it depends on an earlier batch than `epoch`, whose answer is still to come, what a name means.
    pub(super) fn is_open(&self, name: &[u8], epoch: u64) -> bool {
        self.removals.iter().any(|removal| removal.epoch != epoch) || self.names.is_open(name, epoch)
    }

    /// The statement of that name.
    pub(super) fn named(&self, name: &[u8]) -> Option<&Named> {
        let removed =
            |removal: &Removal| removal.name.as_ref().is_none_or(|removed| removed.as_bytes() == name);
        if self.removals.iter().any(removed) { None } else { self.names.get(name) }
    }

    /// Pins the client to its server connection until it leaves or discards everything.
    pub(super) fn stick(&mut self, state: SessionState) {
        self.lookout.pins.insert(state);
        self.sticky.insert(state);
    }

    /// Whether the client has, or may have, a statement of that name that it prepared by SQL.
    pub(super) fn is_sql_name(&self, name: &[u8]) -> bool {
        self.sql_names.iter().any(|known| known.as_bytes() == name)
    }

    /// What stands for the settings under which a statement is parsed now.
    pub(super) fn planning(&self, texts: &Texts) -> Planning {
        if self.lookout.planning || self.pins.contains(SessionState::Setting) {
            texts.private_planning(self.client, self.changes)
        } else {
            self.planning
        }
    }

    /// The server reports other parameters than before, though no text has said so: a function has set something.
    pub(super) fn is_surprised(&mut self) {
        self.lookout.opaque |= self.lookout.names.is_empty() && !self.lookout.all_settings;
    }

    /// The client's number.
    pub(super) fn client(&self) -> u64 {
        self.client
    }

    /// What has to be asked, `errors` having been answered or not, before the server connection may be given back or kept for more. `known` are the
    /// parameters that the server reports anyway.
    pub(super) fn question(&self, errors: bool) -> Question {
        let lookout = &self.lookout;
        let mut names = lookout.names.clone();
        let touched = !names.is_empty();
        if lookout.all_settings {
            names.extend(self.settings.names().chain(self.startup.names()).map(Box::from));
            names.sort_unstable();
            names.dedup();
            names.truncate(probe::MAX_NAMES);
        }
        let held = !self.pins.without(self.pins.without(probe::askable())).is_empty();
        Question {
            states: lookout.states || lookout.opaque || (held && lookout.releases),
            begins_oddly: lookout.opaque
                || lookout.all_settings
                || self.pins.contains(SessionState::Setting)
                || self.settings.names().chain(names.iter().map(|name| &**name)).any(begins_transactions),
            limited: false,
            names,
            session: lookout.resets || lookout.opaque || lookout.all_settings || (errors && touched),
        }
    }

    /// Takes what the server said. Returns whether everything is known that has to be.
    pub(super) fn learn(&mut self, answer: Answer, conn: &ServerConn, texts: &Texts) -> bool {
        let lookout = std::mem::take(&mut self.lookout);
        let plain = |value: &str| {
            value.is_ascii()
                || conn.parameters().get("client_encoding") == conn.parameters().get("server_encoding")
        };
        let mut settings = Settings::clone(&self.settings);
        let mut sound = true;
        let mut set = |settings: &mut Settings, name: &str, value: &str| {
            sound &= plain(value) && !value.contains('\u{fffd}') && settings.set(name, value).is_ok();
        };
        for (name, value) in &answer.values {
            let of_session = answer.session.iter().flatten().any(|(known, _)| **known == **name);
            match value.as_deref() {
                // What the server knows and has no value of the session's for has its default.
                _ if answer.session.is_some() && !of_session && !name.contains('.') && &**name != "role" => {
                    settings.remove(name);
                }
                None => settings.remove(name),
                Some("") if lookout.resets && name.contains('.') => settings.remove(name),
                Some("none") if &**name == "role" => settings.remove(name),
                Some(value) => set(&mut settings, name, value),
            }
        }
        for (name, value) in answer.session.iter().flatten() {
            if settings.get(name).is_none_or(|known| known != value) {
                set(&mut settings, name, value);
            }
        }
        if settings != *self.settings {
            self.planning = texts.planning(settings.planning());
            self.settings = Arc::new(settings);
        }
        if let Some(states) = answer.states {
            self.pins = self.pins.without(probe::askable());
            states.iter().for_each(|state| self.pins.insert(state));
        }
        lookout.pins.iter().for_each(|state| self.pins.insert(state));
        self.sticky.iter().for_each(|state| self.pins.insert(state));
        if !self.pins.contains(SessionState::PreparedStatement) {
            self.sql_names = Vec::new();
        }
        let own = conn.parameters().get(SESSION_AUTHORIZATION) == self.welcome.get(SESSION_AUTHORIZATION);
        if own {
            self.pins.remove(SessionState::SessionAuthorization);
        } else {
            self.pins.insert(SessionState::SessionAuthorization);
        }
        sound
    }

    /// The client discarded everything that its session held.
    pub(super) fn discard(&mut self) {
        self.listening.discard();
        let pins = self.pins;
        (self.pins, self.sticky, self.sql_names) = (Pins::NONE, Pins::NONE, Vec::new());
        if pins.contains(SessionState::Load) {
            // DISCARD ALL does not unload a library.
            self.pins.insert(SessionState::Load);
        }
    }

    /// A function is being called by its number.
    pub(super) fn note_call(&mut self, oid: u32) {
        match oid {
            SET_CONFIG => self.lookout.pins.insert(SessionState::Setting),
            SET_SEED => self.lookout.pins.insert(SessionState::RandomSeed),
            oid if ADVISORY_LOCKS.iter().any(|numbers| numbers.contains(&oid)) => {
                (self.lookout.states, self.lookout.releases) = (true, true);
            }
            oid if oid >= FIRST_UNPINNED => {
                (self.lookout.opaque, self.lookout.releases) = (true, true);
            }
            _ => {}
        }
    }
}
