//! What a client listens to without a server connection of its own: through the hub of its pool.
//!
//! PostgreSQL itself says what a client listens to. A LISTEN goes to the server connection that the client has at the
//! moment. Once its transaction has ended, that connection is asked for its channels, the client's mailbox gets them,
//! and the connection stops listening (`handover`). An UNLISTEN of what comes through the hub would do nothing there, so
//! that two things are put in front of it, in the same transaction ([`Arm`]): a LISTEN to the channels that it names, and
//! a NOTIFY to a channel that only this client's mailbox has. The notification comes if, and where, they were committed;
//! and if the connection then does not listen, the UNLISTEN was carried out as well.
//!
//! The same channel says where one way ends and the other begins: up to the mark of a [`Handover`], notifications of new
//! channels are those that came over the server connection; behind it, those that came through the hub. Both have the
//! server's order, so that none comes twice and none is missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::Shared;
use super::seldom::Blank;
use crate::backend::channels;
use crate::backend::settings::Parameters;
use crate::backend::told::Channels;
use crate::config::User;
use crate::error::{ErrorKind, Refusal};
use crate::metrics::{Counter, Shard};
use crate::notify::{self, Failure, Hub, Limits, Mailbox};
use crate::pool::Pool;
use crate::scram;
use crate::statement::{Effects, Listening as Words};
use crate::wire::frame::{self, HEADER};

/// Bytes of notifications that may wait for a client that does not read them, counted as [`Mailbox::new`] does.
const WAITING: usize = 1 << 20;

/// How long a place under the caps is waited for. The client keeps its server connection if none comes free.
const PATIENCE: Duration = Duration::from_secs(1);

/// PostgreSQL cuts longer names off: `NAMEDATALEN - 1`.
const LONGEST: usize = 63;

/// The hubs of the process, by database and user.
#[derive(Debug, Default)]
pub(super) struct Hubs(Mutex<HashMap<(String, String), Weak<Hub>>>);

impl Shared {
    /// The hub of a pool.
    fn hub(&self, pool: &Pool) -> Arc<Hub> {
        let key = (pool.database().to_owned(), pool.user().to_owned());
        let mut hubs = self.hubs.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(&key).and_then(Weak::upgrade) {
            return hub;
        }
        // Who was looked up is not in the configuration; what can be proved of them is known by their name.
        let user = self.config.user(pool.user()).cloned();
        let user = user.unwrap_or_else(|| Arc::new(User::named(pool.user())));
        let target = pool.route().target_database.as_deref().unwrap_or(pool.database()).to_owned();
        let dedicated = self.registry.dedicated(Some(pool.database()), target, &user, pool.route());
        let (opener, places) = dedicated.into_parts();
        let admit = Box::new(move || Some(Box::new(places.take()?) as notify::Place));
        let name = format!("{} of {}", pool.database(), pool.user());
        let hub = Hub::new(name, opener, admit, Limits { patience: PATIENCE, ..Limits::default() });
        hubs.retain(|_, hub| hub.strong_count() > 0);
        hubs.insert(key, Arc::downgrade(&hub));
        hub
    }
}

/// A client's box in the hub.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) hub: Arc<Hub>,
    pub(super) mailbox: Arc<Mailbox>,
    /// The channel that nobody else knows of.
    pub(super) private: String,
    /// What the client listens to, at the place of the stream up to which it has been given what came.
    pub(super) channels: Arc<Channels>,
    /// In which names and payloads come.
    pub(super) encoding: Vec<u8>,
    _counted: Counted,
}

/// A client that is counted as listening.
#[derive(Debug)]
struct Counted(Arc<Shard>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(Counter::ListenersClosed, 1);
    }
}

/// An UNLISTEN that was sent with what tells whether, and where in the stream, it was carried out.
#[derive(Debug)]
pub(super) struct Arm {
    mark: u64,
    /// The channels that it names, as far as the client listens to them.
    names: Vec<Box<[u8]>>,
    /// It is for every channel.
    all: bool,
    /// The text ends transactions as well, perhaps the one that the NOTIFY was in: where nothing failed, it was carried
    /// out.
    loose: bool,
}

/// A change that comes into force at its mark.
#[derive(Debug)]
struct Handover {
    mark: u64,
    /// The channels of the server connection.
    present: Vec<String>,
    new: Vec<String>,
    arms: Vec<Arm>,
    discarded: bool,
}

/// What a client listens to through the hub, and what it may have done about that.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) post: Option<Box<Post>>,
    /// The server connection listens.
    pub(super) found: bool,
    /// The client has another encoding than what comes.
    pub(super) foreign: bool,
    discarded: bool,
    arms: Vec<Arm>,
    handover: Option<Box<Handover>>,
    marks: u64,
}

impl Default for Listening {
    fn default() -> Self {
        NOTHING
    }
}

impl Blank for Listening {
    const BLANK: &'static Self = &NOTHING;
}

const NOTHING: Listening = Listening {
    post: None,
    found: false,
    foreign: false,
    discarded: false,
    arms: Vec::new(),
    handover: None,
    marks: 0,
};

impl Listening {
    /// The channels whose notifications do not come over a server connection of the moment.
    pub(super) fn elsewhere(&self) -> Arc<Channels> {
        self.post.as_ref().map(|post| Arc::clone(&post.channels)).unwrap_or_default()
    }

    /// Takes note of the client's encoding.
    pub(super) fn compare_encoding(&mut self, parameters: &Parameters) {
        let foreign = |post: &Post| parameters.get("client_encoding") != Some(&*post.encoding);
        self.foreign = self.post.as_deref().is_some_and(foreign);
    }

    /// Whether something has changed, or may have.
    pub(super) fn has_changed(&self) -> bool {
        self.found || self.has_ended()
    }

    /// Whether the client may have stopped listening to something.
    pub(super) fn has_ended(&self) -> bool {
        !self.arms.is_empty() || self.discarded
    }

    /// Whether a mark is still to come: the client's next request waits for it.
    pub(super) fn is_handing_over(&self) -> bool {
        self.handover.is_some()
    }

    /// The client discarded everything.
    pub(super) fn discard(&mut self) {
        self.discarded |= self.post.is_some();
    }

    /// An error was answered: statements that may not have been carried out, were not.
    pub(super) fn has_failed(&mut self) {
        self.arms.retain(|arm| !arm.loose);
    }

    /// What to put in front of a statement, in the same transaction. None in front of a DISCARD ALL in a batch, which must be
    /// the first statement of it.
    pub(super) fn arm(&mut self, effects: &Effects, in_batch: bool) -> Option<Vec<String>> {
        let post = self.post.as_ref().filter(|_| !(in_batch && effects.discards_all))?;
        let (mut names, mut all) = (Vec::new(), false);
        for words in &effects.listens {
            match words {
                Words::Listen(_) => {}
                Words::UnlistenAll => all = true,
                Words::Unlisten(name) => {
                    let name = &name[..name.floor_char_boundary(LONGEST)];
                    names.extend(post.channels.get(name.as_bytes()).map(|known| (known.clone(), name)));
                }
            }
        }
        if names.is_empty() && !all {
            return None;
        }
        self.marks += 1;
        let mark = self.marks;
        let mut sql: Vec<_> = names.iter().map(|(_, name)| channels::listen(name)).collect();
        if all {
            sql.push(channels::listen(&sentinel(&post.private, mark)));
        }
        sql.push(channels::notify(&post.private, &mark.to_string()));
        let names = names.into_iter().map(|(name, _)| name).collect();
        self.arms.push(Arm { mark, names, all, loose: effects.transaction_control });
        Some(sql)
    }

    /// The client's box, which it gets now if it has none.
    pub(super) fn open(&mut self, shared: &Shared, pool: &Pool, shard: &Arc<Shard>) -> Option<&Post> {
        if self.post.is_none() {
            let (secret, hub) = (scram::random::<16>().ok()?, shared.hub(pool));
            shard.add(Counter::ListenersOpened, 1);
            self.post = Some(Box::new(Post {
                hub,
                mailbox: Mailbox::new(WAITING),
                private: format!("firepool_{:032x}", u128::from_ne_bytes(secret)),
                channels: Arc::default(),
                encoding: Vec::new(),
                _counted: Counted(Arc::clone(shard)),
            }));
        }
        self.post.as_deref()
    }

    /// Those of these channels that the client has by itself: not those that were put in front of an UNLISTEN.
    pub(super) fn new_ones(&self, present: &[String]) -> Vec<String> {
        let known = |name: &str| {
            let post = self.post.as_ref();
            post.is_some_and(|post| {
                post.channels.contains(name.as_bytes()) || name.starts_with(&post.private)
            })
        };
        present.iter().filter(|name| !known(name)).cloned().collect()
    }

    /// A mark that has not been used yet.
    pub(super) fn next_mark(&mut self) -> u64 {
        self.marks += 1;
        self.marks
    }

    /// From its mark on, which was sent, the client listens to `new` through the hub; its server connection has `present`.
    pub(super) fn hand_over(&mut self, mark: u64, present: Vec<String>, new: Vec<String>) {
        let (arms, discarded) = (std::mem::take(&mut self.arms), std::mem::take(&mut self.discarded));
        self.handover = Some(Box::new(Handover { mark, present, new, arms, discarded }));
    }

    /// Nothing of `new` comes through the hub.
    pub(super) fn give_up(&mut self, new: &[String]) {
        if let Some(post) = &self.post {
            new.iter().for_each(|name| post.hub.unlisten(&post.mailbox, name.as_bytes()));
        }
        self.close_if_empty();
    }

    fn close_if_empty(&mut self) {
        // Whatever is in the box is for nobody.
        self.post.take_if(|post| post.channels.is_empty());
    }

    /// Goes through what came, and puts what the client gets behind `out`; how many.
    pub(super) fn sort(&mut self, mut came: &[u8], out: &mut Vec<u8>) -> Result<u64, Refusal> {
        let mut given = 0;
        while let Ok(Some(header)) = frame::reply(came) {
            let (message, behind) = came.split_at(header.len.min(came.len()));
            came = behind;
            let Some((channel, payload)) = notify::parts_of(message) else { continue };
            let Some(post) = &self.post else { break };
            if channel == post.private.as_bytes() {
                self.pass(payload);
            } else if post.channels.contains(channel) {
                if self.foreign && !message[HEADER + 4..].is_ascii() {
                    return Err(foreign());
                }
                out.extend_from_slice(message);
                given += 1;
            }
        }
        Ok(given)
    }

    /// A mark came.
    fn pass(&mut self, payload: &[u8]) {
        let mark = std::str::from_utf8(payload).ok().and_then(|payload| payload.parse::<u64>().ok());
        let (Some(mark), Some(handover), Some(post)) = (mark, &self.handover, &mut self.post) else { return };
        for arm in &handover.arms {
            if arm.mark == mark || (arm.loose && handover.mark == mark) {
                post.disarm(arm, &handover.present);
            }
        }
        if handover.mark == mark {
            if handover.discarded {
                post.keep_only(|name| handover.present.iter().any(|present| present.as_bytes() == name));
            }
            let channels = Arc::make_mut(&mut post.channels);
            channels.extend(handover.new.iter().map(|name| name.as_bytes().into()));
            self.handover = None;
            self.close_if_empty();
        }
    }
}

impl Post {
    /// An UNLISTEN was committed, if it was carried out: then the server connection does not have what was put in front.
    fn disarm(&mut self, arm: &Arm, present: &[String]) {
        let is_present = |name: &[u8]| present.iter().any(|present| present.as_bytes() == name);
        let all = arm.all && !is_present(sentinel(&self.private, arm.mark).as_bytes());
        self.keep_only(|name| is_present(name) || !(all || arm.names.iter().any(|gone| **gone == *name)));
    }

    fn keep_only(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let (hub, mailbox) = (&self.hub, &self.mailbox);
        Arc::make_mut(&mut self.channels).retain(|name| {
            let kept = keep(name);
            if !kept {
                hub.unlisten(mailbox, name);
            }
            kept
        });
    }
}

/// The channel that stands for all of them in front of an `UNLISTEN *`.
fn sentinel(private: &str, mark: u64) -> String {
    format!("{private}_{mark}")
}

/// What a client is told whose notifications cannot be given to it.
pub(super) fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Overflow => {
            Refusal::new(ErrorKind::NotificationOverflow, "too many notifications wait for the client")
                .detail("A client that listens has to read what it is sent.")
        }
        Failure::Lost => super::login::server_lost(),
    }
}

fn foreign() -> Refusal {
    let words = "a notification could not be converted to the client's encoding";
    Refusal::new(ErrorKind::FeatureNotSupported, words)
        .detail("client_encoding was changed after LISTEN, and the notification is not ASCII.")
}
