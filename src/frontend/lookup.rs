//! Secrets of users that the configuration does not have, asked of a server.
//!
//! One connection of its own, which no client ever gets and which never sees a client's startup parameters: its
//! `search_path` is `pg_catalog` whatever the role has, and the user's name is sent as a parameter. A client that names
//! somebody is never logged in as anybody else: an answer about another name is none, and so are two answers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::backend::connect::Opener;
use crate::backend::proofs::Proofs;
use crate::backend::{Lost, ServerConn, query};
use crate::clock::{Clock, millis};
use crate::config;
use crate::scram::ScramError;
use crate::secret::{Credential, Secret};

/// Clients whose users are waited for at once; more are told to come again.
const WAITING: usize = 1_024;

/// Opening the connection, or one answer on it.
const LIMIT: Duration = Duration::from_secs(5);

/// After a failure nobody is asked about for so long, so that clients do not wait for a server that is away one by one.
const PAUSE: Duration = Duration::from_millis(500);

/// What is known of a user: nothing if there is no such user who may log in.
type Answer = Option<Vec<Credential>>;

/// The server could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unavailable;

/// A user's credentials, and whether they were remembered.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) credentials: Answer,
    pub(super) remembered: bool,
}

/// Why there are no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoRows {
    /// The server answered with an error.
    Refused,
    /// It did not answer, or could not be asked.
    Lost,
}

type Order = (String, oneshot::Sender<Result<Answer, Unavailable>>);

/// The side of those who ask.
#[derive(Debug)]
pub(super) struct Lookups {
    orders: mpsc::Sender<Order>,
    ttl: u64,
    memory: Mutex<[Memory; 2]>,
    clock: Arc<Clock>,
}

/// The side of the connection; somebody has to run it.
#[derive(Debug)]
pub struct Asker {
    config: config::Lookup,
    orders: mpsc::Receiver<Order>,
    opener: Opener,
    conn: Option<ServerConn>,
    failed: Option<Instant>,
}

/// The two sides. What is proved to the server is what a reload makes it.
pub(super) fn new(config: config::Lookup, proofs: Arc<Proofs>, clock: Arc<Clock>) -> (Lookups, Asker) {
    let (sender, orders) = mpsc::channel(WAITING);
    let memories = [Memory::new(config.entries), Memory::new(config.entries)];
    let lookups = Lookups { orders: sender, ttl: millis(config.ttl), memory: Mutex::new(memories), clock };
    let parameters = vec![
        ("application_name", "firepool authentication".to_owned()),
        ("search_path", "pg_catalog".to_owned()),
        ("client_encoding", "UTF8".to_owned()),
    ];
    let (target, user) = (Arc::clone(&config.target), Arc::clone(&config.user));
    let opener = Opener::new(target, user, config.database.clone(), LIMIT);
    let opener = opener.with_proofs(proofs).with_parameters(parameters);
    (lookups, Asker { config, orders, opener, conn: None, failed: None })
}

impl Lookups {
    /// What is known of a user at this moment, or was within `auth_ttl`.
    pub(super) async fn find(&self, user: &str) -> Result<Found, Unavailable> {
        if !may_exist(user) {
            // Not remembered either: whoever has not logged in may send names of any length.
            return Ok(Found { credentials: None, remembered: false });
        }
        let remembered = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.iter().find_map(|memory| memory.get(user, self.clock.now()))
        };
        match remembered {
            Some(credentials) => Ok(Found { credentials, remembered: true }),
            None => Ok(Found { credentials: self.ask(user).await?, remembered: false }),
        }
    }

    /// The same, whatever was remembered.
    pub(super) async fn ask(&self, user: &str) -> Result<Answer, Unavailable> {
        let (sender, answer) = oneshot::channel();
        self.orders.try_send((user.to_owned(), sender)).map_err(|_| Unavailable)?;
        let answer = answer.await.map_err(|_| Unavailable)??;
        if self.ttl > 0 {
            let until = self.clock.now().saturating_add(self.ttl);
            let [known, unknown] = &mut *self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            // Users who do not exist never push out those who do.
            let (right, wrong) = if answer.is_some() { (known, unknown) } else { (unknown, known) };
            wrong.forget(user);
            right.keep(user, answer.clone(), until);
        }
        Ok(answer)
    }

    /// The next client of this user is asked about anew.
    pub(super) fn forget(&self, user: &str) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.iter_mut().for_each(|memory| memory.forget(user));
    }
}

/// Answers until when they hold. The oldest goes where it is full.
#[derive(Debug)]
struct Memory {
    most: usize,
    answers: HashMap<String, (Answer, u64)>,
    order: VecDeque<String>,
}

impl Memory {
    fn new(most: usize) -> Self {
        Self { most: most.max(1), answers: HashMap::new(), order: VecDeque::new() }
    }

    fn get(&self, user: &str, now: u64) -> Option<Answer> {
        self.answers.get(user).filter(|(_, until)| now < *until).map(|(answer, _)| answer.clone())
    }

    fn keep(&mut self, user: &str, answer: Answer, until: u64) {
        if self.answers.insert(user.to_owned(), (answer, until)).is_none() {
            self.order.push_back(user.to_owned());
        }
        while self.answers.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }

    fn forget(&mut self, user: &str) {
        if self.answers.remove(user).is_some() {
            self.order.retain(|known| known != user);
        }
    }
}

impl Asker {
    /// Answers until nobody can ask any more.
    pub async fn run(mut self) {
        let mut orders = Vec::new();
        while self.orders.recv_many(&mut orders, WAITING).await > 0 {
            // Those who ask for the same user at once get the same answer.
            orders.sort_by(|(left, _), (right, _)| left.cmp(right));
            let mut last: Option<(String, Result<Answer, Unavailable>)> = None;
            for (user, sender) in orders.drain(..) {
                if sender.is_closed() {
                    continue;
                }
                let answer = match last.take().filter(|(asked, _)| *asked == user) {
                    Some((_, answer)) => answer,
                    None => self.answer(&user).await,
                };
                last = Some((user, answer.clone()));
                let _ = sender.send(answer);
            }
        }
    }

    async fn answer(&mut self, user: &str) -> Result<Answer, Unavailable> {
        if self.failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
            return Err(Unavailable);
        }
        // A connection that lay idle may have been closed: the second attempt has a new one.
        let fresh = self.conn.is_none();
        let mut rows = self.rows(user).await;
        if matches!(rows, Err(NoRows::Lost)) && !fresh {
            rows = self.rows(user).await;
        }
        // A refusal says nothing about the next question: it may be the name that the server does not like, which is for
        // anybody to choose, and nobody else is to wait for it.
        self.failed = matches!(rows, Err(NoRows::Lost)).then(Instant::now);
        rows.map(|rows| judge(user, rows)).map_err(|_| Unavailable)
    }

    async fn rows(&mut self, user: &str) -> Result<Vec<Row>, NoRows> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.opener.open().await.map_err(|error| {
                tracing::warn!(error = ?error.to_string(), "could not open the connection that looks users up");
                NoRows::Lost
            })?,
        };
        match timeout(LIMIT, query::rows_with(&mut conn, &self.config.query, &[user])).await {
            Ok(Ok(rows)) => {
                self.conn = Some(conn);
                Ok(rows)
            }
            Ok(Err(Lost::Refused)) if conn.is_settled() => {
                tracing::warn!("auth_query was refused");
                self.conn = Some(conn);
                Err(NoRows::Refused)
            }
            Ok(Err(error)) => {
                tracing::warn!(error = ?error.to_string(), "auth_query failed");
                conn.spoil();
                Err(NoRows::Lost)
            }
            Err(_) => {
                tracing::warn!("auth_query was not answered in time");
                conn.spoil();
                Err(NoRows::Lost)
            }
        }
    }
}

/// Whether PostgreSQL can have a role of that name: it keeps 63 bytes (`NAMEDATALEN - 1`), and a parameter holds no NUL.
fn may_exist(user: &str) -> bool {
    user.len() <= 63 && !user.contains('\0')
}

type Row = Vec<Option<Secret>>;

/// What the rows say of a user.
fn judge(user: &str, rows: Vec<Row>) -> Answer {
    let mut rows = rows.into_iter();
    let (row, more) = (rows.next()?, rows.next());
    let Ok([name, secret]) = <[Option<Secret>; 2]>::try_from(row) else {
        tracing::warn!("auth_query must yield two columns: the user's name and the secret");
        return None;
    };
    if more.is_some() || !name?.is(user) {
        tracing::warn!(user, "auth_query yielded another user, or several");
        return None;
    }
    match Credential::read(secret.filter(|secret| !secret.expose().is_empty())?) {
        Ok(credential) => Some(vec![credential]),
        Err(ScramError::TooLarge) => {
            tracing::warn!(user, "a SCRAM verifier that was looked up costs too much");
            None
        }
        Err(_) => {
            tracing::warn!(user, "what was looked up begins like a SCRAM verifier and is none");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[Option<&str>]) -> Row {
        columns.iter().map(|column| column.map(|text| Secret::new(text.to_owned()))).collect()
    }

    #[test]
    fn only_one_row_about_the_user_itself_is_an_answer() {
        let known = |rows: Vec<Row>| judge("alice", rows).is_some();
        assert!(known(vec![row(&[Some("alice"), Some("x")])]));
        for rows in [
            vec![],
            vec![row(&[Some("alice"), None])],
            vec![row(&[Some("alice"), Some("")])],
            vec![row(&[None, Some("x")])],
            vec![row(&[Some("postgres"), Some("x")])],
            vec![row(&[Some("Alice"), Some("x")])],
            vec![row(&[Some("alice"), Some("x")]), row(&[Some("alice"), Some("y")])],
            vec![row(&[Some("alice")])],
            vec![row(&[Some("alice"), Some("x"), Some("more")])],
            vec![row(&[Some("alice"), Some("SCRAM-SHA-256$torn")])],
        ] {
            assert!(!known(rows.clone()), "{rows:?}");
        }
    }

    #[test]
    fn names_that_no_role_can_have_are_neither_asked_about_nor_remembered() {
        let (orders, mut asked) = mpsc::channel(1);
        let memory = Mutex::new([Memory::new(3), Memory::new(3)]);
        let lookups = Lookups { orders, ttl: 1_000, memory, clock: Arc::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(lookups.find(&"x".repeat(9_000))).unwrap();
        assert!(found.credentials.is_none() && asked.try_recv().is_err());
        assert!(lookups.memory.lock().unwrap().iter().all(|memory| memory.answers.is_empty()));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_grows_old() {
        let mut memory = Memory::new(3);
        for number in 0..10 {
            memory.keep(&number.to_string(), None, 100);
            memory.keep(&number.to_string(), None, 100);
        }
        assert_eq!((memory.answers.len(), memory.order.len()), (3, 3));
        assert!(
            memory.get("9", 99).is_some() && memory.get("9", 100).is_none() && memory.get("0", 0).is_none()
        );
        memory.forget("9");
        assert!(memory.get("9", 0).is_none());
        assert_eq!(memory.order.len(), 2);
    }
}
