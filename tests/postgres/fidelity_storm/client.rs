//! One client of the storm: it says something, tells its model, and looks whether it finds what the model has.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Storm;
use super::dice::Dice;
use super::model::{Model, REPORTED, SETTINGS};
use crate::support::messages::*;
use crate::support::raw::{Raw, Reply};

/// How long a client waits for an answer, or for a notification: longer than it may have to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(90);

/// Everything that a session keeps, one value a line of [`Model::state`].
pub const STATE: &str = "SELECT current_setting('work_mem'), current_setting('search_path'), \
    current_setting('TimeZone'), current_setting('DateStyle'), current_setting('statement_timeout'), \
    current_setting('application_name'), coalesce(current_setting('app.tenant', true), ''), \
    coalesce(current_setting('app.user', true), ''), current_user, (SELECT who FROM whoami), \
    (SELECT string_agg(name, ',' ORDER BY name COLLATE \"C\") FROM pg_prepared_statements WHERE from_sql), \
    (SELECT string_agg(objid::text, ',' ORDER BY objid) FROM pg_locks \
        WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
    (SELECT string_agg(name, ',' ORDER BY name COLLATE \"C\") FROM pg_cursors WHERE is_holdable), \
    (SELECT string_agg(relname, ',' ORDER BY relname COLLATE \"C\") FROM pg_class \
        WHERE relnamespace = pg_my_temp_schema()), \
    (SELECT string_agg(c, ',' ORDER BY c COLLATE \"C\") FROM pg_listening_channels() c)";

/// The last steps of a client, kept outside it for whoever reports its failure.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<String>>);

impl History {
    fn note(&self, step: String) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() == 30 {
            steps.pop_front();
        }
        steps.push_back(step);
    }

    /// One step a line.
    pub fn text(&self) -> String {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.iter().fold(String::new(), |mut text, step| {
            let _ = writeln!(text, "    {step}");
            text
        })
    }
}

/// A client.
pub struct Client<'a> {
    pub storm: &'a Storm,
    pub number: usize,
    pub dice: Dice,
    pub model: Model,
    pub raw: Raw,
    /// How many clients before it had its number.
    life: usize,
    said: usize,
    /// For how many acts it has held what pins it.
    pub held: usize,
    reported: BTreeMap<String, String>,
    status: char,
    /// Payloads that came, ever and since the last look.
    heard: HashSet<String>,
    arrived: Vec<(String, String)>,
    channels_before: BTreeSet<String>,
    history: &'a History,
}

impl<'a> Client<'a> {
    /// Logs in, with settings of its own.
    pub fn new(storm: &'a Storm, number: usize, history: &'a History) -> Self {
        let mut dice = Dice::new(storm.seed, number);
        let (raw, model) = Self::log_in(storm, &mut dice, &format!("{number}.0"), history);
        Self {
            storm,
            number,
            dice,
            model,
            status: 'I',
            reported: raw.parameters.iter().cloned().collect(),
            raw,
            life: 0,
            said: 0,
            held: 0,
            heard: HashSet::new(),
            arrived: Vec::new(),
            channels_before: BTreeSet::new(),
            history,
        }
    }

    fn log_in(storm: &Storm, dice: &mut Dice, name: &str, history: &History) -> (Raw, Model) {
        let mut settings = storm.defaults.clone();
        let application = format!("storm {name}");
        let path = format!("{},{}", storm.schema(dice.roll(4)), storm.schema(dice.roll(4)));
        let options = format!("-c search_path={path}");
        let mut startup = vec![("application_name", application.as_str()), ("options", options.as_str())];
        (settings[5], settings[1]) = (application.clone(), path);
        if dice.chance(40) {
            let memory = format!("{}kB", 2049 + dice.roll(1000));
            startup.push(("TimeZone", "Asia/Tokyo"));
            startup.push(("work_mem", &memory));
            (settings[0], settings[2]) = (memory.clone(), "Asia/Tokyo".to_owned());
            history.note(format!("log in with {startup:?}"));
            return (storm.log_in(&startup, PATIENCE), Model::new(settings));
        }
        history.note(format!("log in with {startup:?}"));
        (storm.log_in(&startup, PATIENCE), Model::new(settings))
    }

    /// Who it is, different from everybody before and beside it.
    pub fn name(&self) -> String {
        format!("{}.{}", self.number, self.life)
    }

    /// A text that nobody else says.
    pub fn own(&mut self) -> String {
        self.said += 1;
        format!("{}-{}", self.name(), self.said)
    }

    /// A number that nobody else has.
    pub fn own_key(&self, which: u32) -> u32 {
        (self.number * 10_000 + self.life * 10) as u32 + which
    }

    /// For the report of a failure.
    pub fn note(&self, step: impl Into<String>) {
        self.history.note(format!("{} {}", self.model.status(), step.into()));
    }

    /// The next reply. What came with it unasked is kept for [`Client::check`].
    pub fn reply(&mut self) -> Reply {
        let reply = self.raw.reply();
        assert!(!reply.ended, "the session was ended: {reply:?}");
        self.status = reply.status();
        self.absorb(&reply);
        reply
    }

    /// Keeps ParameterStatus and NotificationResponse.
    fn absorb(&mut self, reply: &Reply) {
        for message in &reply.messages {
            match message.tag {
                b'S' => {
                    let strings = message.strings(0);
                    self.reported.insert(strings[0].clone(), strings[1].clone());
                }
                // The process id of the sender comes first.
                b'A' => {
                    let strings = message.strings(4);
                    self.arrived.push((strings[0].clone(), strings[1].clone()));
                }
                _ => {}
            }
        }
    }

    /// A simple query and what comes of it.
    pub fn query(&mut self, sql: &str) -> Reply {
        self.note(sql);
        self.raw.send(&query(sql));
        self.reply()
    }

    /// Messages that end with a Sync, told as `what`.
    pub fn batch(&mut self, what: &str, messages: &[Vec<u8>]) -> Reply {
        self.note(what);
        self.raw.send(&messages.concat());
        self.reply()
    }

    /// A simple query that must succeed, with this command tag at its end.
    pub fn done(&mut self, sql: &str, tag: &str) -> Reply {
        let reply = self.query(sql);
        assert!(reply.code().is_empty(), "{sql}: {reply:?}");
        assert_eq!(reply.commands().last().map(String::as_str), Some(tag), "{sql}: {reply:?}");
        reply
    }

    /// A simple query with one value.
    pub fn value(&mut self, sql: &str) -> String {
        let reply = self.query(sql);
        let rows = reply.rows();
        assert!(reply.code().is_empty() && rows.len() == 1, "{sql}: {reply:?}");
        rows[0][0].clone()
    }

    /// A simple query that must fail, and with it the transaction.
    pub fn refused(&mut self, sql: &str, code: &str) {
        let reply = self.query(sql);
        assert_eq!(reply.code(), code, "{sql}: {reply:?}");
        self.model.fail();
    }

    /// Compares what is there with what must be.
    pub fn check(&mut self) {
        assert_eq!(self.status, self.model.status(), "the status of the transaction");
        self.check_reported();
        if !self.model.failed {
            let reply = if self.dice.chance(50) {
                self.raw.send(&query(STATE));
                self.reply()
            } else {
                self.raw.send(&[unnamed(STATE, &[]), sync()].concat());
                self.reply()
            };
            self.check_state(&reply);
            self.check_reported();
            for (name, temp) in self.model.now.temps.clone() {
                let sql = format!("SELECT content FROM pg_temp.{name}");
                assert_eq!(self.value(&sql), temp.content, "the temporary table {name}");
            }
        }
        self.check_arrived();
    }

    fn check_state(&self, reply: &Reply) {
        assert!(reply.code().is_empty() && reply.rows().len() == 1, "the state: {reply:?}");
        let observed = reply.rows().remove(0);
        let mut wrong = String::new();
        for ((what, expected), observed) in self.model.state(&self.storm.role).iter().zip(&observed) {
            // Whoever listens for a client need not be the server process that answers it.
            let own = |channel: &str| self.model.channels.contains(channel);
            let fits = match *what {
                "channels" if !self.storm.direct => observed.is_empty() || observed.split(',').all(own),
                _ => expected == observed,
            };
            if !fits {
                let _ = write!(wrong, "\n  {what}: expected \"{expected}\", observed \"{observed}\"");
            }
        }
        assert!(wrong.is_empty(), "the session is not the client's own:{wrong}");
    }

    fn check_reported(&self) {
        for setting in REPORTED {
            let reported = self.reported.get(SETTINGS[setting]).map(String::as_str);
            let expected = Some(self.model.value(setting));
            assert_eq!(reported, expected, "what ParameterStatus told of {}", SETTINGS[setting]);
        }
    }

    fn check_arrived(&mut self) {
        for (channel, payload) in std::mem::take(&mut self.arrived) {
            let listens = self.channels_before.contains(&channel) || self.model.channels.contains(&channel);
            assert!(listens, "{payload} came on {channel}, where it does not listen");
            assert!(payload.starts_with(&format!("{channel} ")), "{payload} came on {channel}");
            assert!(self.storm.board.is_issued(&payload), "{payload} was never committed");
            assert!(self.heard.insert(payload.clone()), "{payload} came twice");
        }
        self.channels_before.clone_from(&self.model.channels);
    }

    /// Waits, silently, for notifications that were committed for it.
    pub fn hear(&mut self, must: &HashSet<String>) {
        let deadline = Instant::now() + PATIENCE;
        self.note(format!("wait for {} notifications", must.len()));
        while !must.is_subset(&self.heard) {
            let missing: Vec<_> = must.difference(&self.heard).collect();
            assert!(Instant::now() < deadline, "notifications that never came: {missing:?}");
            if self.raw.has_more(Duration::from_millis(200)) {
                let message = self.raw.message().expect("the session was ended");
                assert!(matches!(message.tag, b'A' | b'S' | b'N'), "{message:?} while it was silent");
                self.absorb(&Reply { messages: vec![message], ended: false });
                self.check_arrived();
            }
        }
    }

    /// Closes the socket in the middle of a transaction, or of a message, and comes back as somebody new.
    pub fn vanish(&mut self) {
        let key = self.own_key(9);
        let last = query(&format!(
            "SET app.tenant = 'left behind'; SELECT pg_advisory_lock({}, {key}), pg_sleep(0.01)",
            self.storm.number
        ));
        let length = self.dice.pick(&[0, 5, 40, last.len()]);
        self.note(format!("vanish, {length} bytes into its last words"));
        self.raw.send(&last[..length]);
        let name = self.name();
        for channel in std::mem::take(&mut self.model.channels) {
            self.storm.board.close(&channel, &name);
        }
        let _ = self.raw.stream.shutdown(std::net::Shutdown::Both);
        self.life += 1;
        let name = self.name();
        (self.raw, self.model) = Self::log_in(self.storm, &mut self.dice, &name, self.history);
        self.reported = self.raw.parameters.iter().cloned().collect();
        (self.status, self.said, self.held) = ('I', 0, 0);
        self.heard.clear();
        self.arrived.clear();
        self.channels_before.clear();
        self.check();
    }
}
