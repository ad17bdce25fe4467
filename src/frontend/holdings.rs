//! What a client's session holds, wherever it is served: its settings, its prepared statements, and the state that keeps
//! it on one server connection.

use std::rc::Rc;
use std::sync::Arc;

use super::listening::Listening;
use super::lookout::Lookout;
use super::names::{Named, Names};
use super::removals::Removals;
use super::seldom::{Blank, Seldom};
use super::texts::{Planning, Texts};
use crate::backend::ServerConn;
use crate::backend::hidden::Hidden;
use crate::backend::probe::{self, Answer, Definitions, Question};
use crate::backend::settings::{Parameters, Settings, is_planning};
use crate::pool::Pool;
use crate::statement::{Effects, Facts, Kind, Pin, States, Touch, Touched};
use crate::wire::tag::{Deallocated, Pins, SessionState};

/// What a client's session holds.
#[derive(Debug)]
pub(super) struct Holdings {
    /// The settings that it asked for in its startup packet: what RESET leads back to.
    startup: Arc<Settings>,
    /// What the server reported after its login.
    welcome: Arc<Parameters>,
    /// The settings that it has.
    pub(super) settings: Arc<Settings>,
    planning: Rc<Planning>,
    pub(super) names: Seldom<Names>,
    pub(super) pins: Pins,
    /// Those of them that last until the client leaves or discards everything.
    sticky: Pins,
    /// What SQL removes of the prepared statements, as far as it is not answered yet.
    pub(super) removals: Removals,
    /// Statements that were prepared by SQL, while the client is pinned for them.
    sql_names: Seldom<SqlNames>,
    /// Those that the log has told of.
    pub(super) said: Pins,
    /// When the first of them came, in milliseconds of the process's clock.
    pub(super) pinned_since: u64,
    /// Blank between leases, and then its memory is the next lease's: see `Visit`.
    pub(super) lookout: Seldom<Lookout>,
    /// What the database's own definitions may do to a session, and since when that is known.
    pub(super) hidden: Arc<Hidden>,
    hidden_since: u64,
    pub(super) listening: Seldom<Listening>,
    /// The client's number, and how often its settings changed in the middle of a transaction.
    client: u64,
    changes: u64,
}

/// Statements that were prepared by SQL, by their names.
type SqlNames = Vec<(Box<str>, Rc<Facts>)>;

impl Blank for SqlNames {
    const BLANK: &'static Self = &Self::new();
}

fn begins_transactions(setting: &str) -> bool {
    setting.starts_with("default_transaction_")
}

pub(super) const SESSION_AUTHORIZATION: &str = "session_authorization";

/// Statements prepared by SQL whose names are remembered.
const MAX_SQL_NAMES: usize = 256;

impl Holdings {
    /// Nothing but the settings of the startup packet, with which the server reports something. No two clients of the
    /// process have the same number.
    pub(super) fn new(
        (startup, welcome): (Arc<Settings>, Arc<Parameters>),
        client: u64,
        texts: &mut Texts,
        pool: &Pool,
    ) -> Self {
        // Looked at in this order: what is found out in between is looked at again.
        let (hidden_since, hidden) = (pool.hidden_since(), pool.hidden());
        Self {
            settings: Arc::clone(&startup),
            planning: texts.planning(startup.planning()),
            startup,
            welcome,
            names: Seldom::default(),
            pins: Pins::NONE,
            sticky: Pins::NONE,
            removals: Removals::default(),
            sql_names: Seldom::default(),
            said: Pins::NONE,
            pinned_since: 0,
            lookout: Seldom::default(),
            hidden,
            hidden_since,
            listening: Seldom::default(),
            client,
            changes: 0,
        }
    }

    /// The settings of its startup packet.
    pub(super) fn startup(&self) -> &Arc<Settings> {
        &self.startup
    }

    /// Takes note of what a statement that is being sent may do.
    pub(super) fn note(&mut self, facts: &Rc<Facts>) {
        let Effects { suspects, releases, settings, local_settings, resets, pin, .. } = &facts.effects;
        let Effects { prepared_names, deallocates, .. } = &facts.effects;
        let lookout = &mut *self.lookout;
        if facts.kind == Kind::Unknown {
            if !std::mem::replace(&mut lookout.unjudged, true) {
                lookout.judged = (lookout.opaque, lookout.states, lookout.releases, lookout.dynamic);
            }
            lookout.opaque = true;
            lookout.dynamic = true;
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
        lookout.releases |= *releases;
        lookout.hidden |= facts.defines();
        lookout.defines |= facts.defines();
        // With the temporary schema somewhere in the path, what is made may be temporary without saying so.
        let path = self.settings.get("search_path").unwrap_or_default();
        lookout.states |= facts.kind == Kind::Ddl && (path.contains("pg_temp") || lookout.planning);
        let has_reset = *resets != Touched::None;
        lookout.resets |= has_reset;
        lookout.touch(settings);
        if !has_reset && *settings == Touched::Any {
            lookout.pins.insert(SessionState::Setting);
        }
        if suspects.contains(States::PREPARED) {
            let given = self.names.read();
            let is_given = |name: &str| given.is_some_and(|names| names.get(name.as_bytes()).is_some());
            for name in prepared_names.iter().filter(|name| !is_given(name)) {
                self.sql_names.retain(|(known, _)| known != name);
                self.sql_names.push((name.clone(), Rc::clone(facts)));
            }
        }
        if !self.sql_names.is_empty() {
            self.sql_names.retain(|(name, _)| !deallocates.contains(name));
        }
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
        if lookout.hidden && runs_names(facts) {
            lookout.remember(facts);
        }
        self.distrust(self.hidden.touch(facts).max(facts.effects.runs));
    }

    /// Looks whether more is known of what definitions do.
    pub(super) fn renew_hidden(&mut self, pool: &Pool) {
        let since = pool.hidden_since();
        if self.hidden_since != since {
            (self.hidden, self.hidden_since) = (pool.hidden(), since);
        }
    }

    /// Whether there is nothing to do about a statement, before or after.
    /// `unseen` says that it is not known what definitions do.
    pub(super) fn ignores(&self, facts: &Facts, unseen: bool) -> bool {
        facts.is_plain()
            && facts.kind != Kind::Ddl
            && !((unseen || self.lookout.hidden) && runs_names(facts))
            && self.hidden.touch(facts) == Touch::Nothing
    }

    /// A statement is being sent while it is not known what definitions do: that has to be found out.
    pub(super) fn look_at_definitions(&mut self, facts: &Facts) {
        self.lookout.hidden |= runs_names(facts);
    }

    /// Whether it has turned out only now that what was run may have touched the session.
    pub(super) fn suspects_hidden(&mut self) -> bool {
        self.lookout.hidden = false;
        let unseen = std::mem::take(&mut self.lookout.unseen);
        let touch = unseen.iter().map(|facts| self.hidden.touch(facts)).max().unwrap_or(Touch::Nothing);
        let known = self.lookout.opaque;
        self.distrust(touch);
        self.lookout.opaque && (!known || !self.hidden.names.is_empty())
    }

    /// Something was run that may touch the session.
    pub(super) fn distrust(&mut self, touch: Touch) {
        if touch == Touch::Nothing {
            return;
        }
        (self.lookout.opaque, self.lookout.releases) = (true, true);
        self.lookout.dynamic |= touch == Touch::Dynamic;
        if touch == Touch::Untold {
            self.stick(SessionState::Opaque);
        }
    }

    /// Pins the client to its server connection for something that it is doing.
    pub(super) fn pin(&mut self, state: SessionState) {
        self.lookout.pins.insert(state);
    }

    /// The server has carried out DEALLOCATE.
    pub(super) fn removed(&mut self, what: Deallocated) {
        self.removals.done(what, self.names.get());
    }

    /// Whether it depends on an earlier batch than `epoch`, whose answer is still to come, what a name means.
    pub(super) fn is_open(&self, name: &[u8], epoch: u64) -> bool {
        self.removals.are_open(epoch) || self.names.read().is_some_and(|names| names.is_open(name, epoch))
    }

    /// The statement of that name.
    pub(super) fn named(&self, name: &[u8]) -> Option<&Named> {
        if self.removals.take(name) { None } else { self.names.read()?.get(name) }
    }

    /// Pins the client to its server connection until it leaves or discards everything.
    pub(super) fn stick(&mut self, state: SessionState) {
        self.lookout.pins.insert(state);
        self.sticky.insert(state);
    }

    /// Whether the client has, or may have, a statement of that name that it prepared by SQL.
    pub(super) fn is_sql_name(&self, name: &[u8]) -> bool {
        self.sql_names.iter().any(|(known, _)| known.as_bytes() == name)
    }

    /// What the prepared statements do that SQL executes.
    pub(super) fn executed(&self, effects: &Effects) -> Vec<Rc<Facts>> {
        let facts = |name: &str| {
            let named = self.named(name.as_bytes()).map(|named| &named.prepared.facts);
            named.or_else(|| Some(&self.sql_names.iter().find(|(known, _)| **known == *name)?.1)).cloned()
        };
        effects.prepared_names.iter().filter_map(|name| facts(name)).collect()
    }

    /// What stands for the settings under which a statement is parsed now.
    pub(super) fn planning(&self, texts: &Texts) -> Planning {
        if self.lookout.planning || self.lookout.opaque || self.pins.contains(SessionState::Setting) {
            texts.private_planning(self.client, self.changes)
        } else {
            *self.planning
        }
    }

    /// Whether the parameters that the server reports are what is known of the client's settings, but for those that a
    /// text has said it sets.
    pub(super) fn explains(&self, conn: &ServerConn) -> bool {
        let touched =
            |name: &str| self.lookout.names.iter().any(|touched| touched.eq_ignore_ascii_case(name));
        self.lookout.all_settings
            || conn.parameters().iter().all(|(name, value)| {
                let Ok(name) = std::str::from_utf8(name) else { return true };
                let known = self.settings.get(&name.to_ascii_lowercase()).map(str::as_bytes);
                touched(name) || known.or_else(|| self.welcome.get(name)) == Some(value)
            })
    }

    /// The server reports other parameters than before, though no text has said so: a function has set something.
    pub(super) fn is_surprised(&mut self) {
        self.lookout.opaque = true;
    }

    /// What the session holds cannot be found out.
    pub(super) fn give_up(&mut self) {
        self.lookout.reset();
        self.sticky.insert(SessionState::Opaque);
        self.pins.insert(SessionState::Opaque);
    }

    /// The client's number.
    pub(super) fn client(&self) -> u64 {
        self.client
    }

    /// What has to be asked, `errors` having been answered or not, before the server connection may be given back or kept for more. `known` are the
    /// parameters that the server reports anyway.
    pub(super) fn question(&self, errors: bool) -> Question {
        let lookout = &*self.lookout;
        let mut names = lookout.names.clone();
        let touched = !names.is_empty();
        if lookout.opaque {
            let role = std::iter::once("role");
            names.extend(role.chain(self.hidden.names.iter().map(|name| &**name)).map(Box::from));
            names.sort_unstable();
            names.dedup();
        }
        if lookout.all_settings {
            names.extend(self.settings.names().chain(self.startup.names()).map(Box::from));
            names.sort_unstable();
            names.dedup();
            names.truncate(probe::MAX_NAMES);
        }
        let held = !self.pins.without(self.pins.without(probe::askable())).is_empty();
        Question {
            states: lookout.states || lookout.opaque || (held && lookout.releases),
            definitions: if lookout.hidden { Definitions::Seeds } else { Definitions::Known },
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
    pub(super) fn learn(&mut self, answer: Answer, conn: &mut ServerConn, texts: &mut Texts) -> bool {
        let lookout = std::mem::take(&mut *self.lookout);
        if lookout.opaque {
            // A function may have deallocated what clients share.
            conn.statements.forget_all();
        }
        conn.unlisted |= lookout.dynamic;
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
        if let Some(session) = &answer.session {
            // What is not the session's own has its default, even if it was not said that this would be.
            let gone: Vec<_> = settings
                .names()
                .filter(|name| !name.contains('.') && *name != "role")
                .filter(|name| session.iter().all(|(listed, _)| listed != name))
                .map(str::to_owned)
                .collect();
            gone.iter().for_each(|name| settings.remove(name));
        }
        let actual = Arc::new(settings.clone());
        for (name, value) in
            self.startup.iter().filter(|(name, _)| settings.get(name).is_none()).collect::<Vec<_>>()
        {
            // A function has reset it: to what the client calls its default.
            let _ = settings.set(name, value);
        }
        if settings != *self.settings {
            self.planning = texts.planning(settings.planning());
            self.settings = Arc::new(settings);
        }
        self.pin_what_is_left(&lookout, answer.states, conn);
        if *actual != *self.settings {
            conn.settings_are(actual);
        } else {
            conn.settings_are(Arc::clone(&self.settings));
        }
        sound
    }

    /// Pins for what there is, and for what nobody can be asked about.
    fn pin_what_is_left(&mut self, lookout: &Lookout, states: Option<Pins>, conn: &ServerConn) {
        if let Some(states) = states {
            self.pins = self.pins.without(probe::askable());
            states.iter().for_each(|state| self.pins.insert(state));
        }
        lookout.pins.iter().for_each(|state| self.pins.insert(state));
        self.sticky.iter().for_each(|state| self.pins.insert(state));
        if !self.pins.contains(SessionState::PreparedStatement) {
            self.sql_names = Seldom::default();
        }
        let own = conn.parameters().get(SESSION_AUTHORIZATION) == self.welcome.get(SESSION_AUTHORIZATION);
        if own {
            self.pins.remove(SessionState::SessionAuthorization);
        } else {
            self.pins.insert(SessionState::SessionAuthorization);
        }
    }

    /// The client discarded everything that its session held.
    pub(super) fn discard(&mut self) {
        if !self.listening.is_absent() {
            self.listening.discard();
        }
        let pins = self.pins;
        (self.pins, self.sticky, self.sql_names) = (Pins::NONE, Pins::NONE, Seldom::default());
        for state in [SessionState::Load, SessionState::RandomSeed] {
            // DISCARD ALL neither unloads a library nor forgets a seed.
            if pins.contains(state) {
                self.pins.insert(state);
            }
        }
    }
}

/// Whether a statement runs what has a name.
fn runs_names(facts: &Facts) -> bool {
    facts.kind.runs_triggers() || !facts.words().is_empty()
}
