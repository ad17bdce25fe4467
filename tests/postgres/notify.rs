//! LISTEN for many over one server connection: the room itself, without a proxy around it. Channels belong to the
//! database, which all tests share: each test has channels of its own.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use firepool::backend::connect::{ConnectError, Opener};
use firepool::config::{Credential, Secret, Target, User};
use firepool::notify::{Admit, Failure, Hub, Limits, ListenError, MAX_NOTIFICATION, Mailbox};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::timeout;

use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::{LIMIT, until};

/// Enough for everything that a test leaves lying.
const PLENTY: usize = 64 << 20;

/// A hub for a role of its own.
struct Post {
    server: Arc<Server>,
    role: String,
    hub: Arc<Hub>,
}

impl Post {
    fn new() -> Self {
        Self::with(Limits::default(), Box::new(|| Some(Box::new(()))))
    }

    fn with(limits: Limits, admit: Admit) -> Self {
        let server = Server::shared();
        let role = server.role();
        let target = Target {
            name: "main".into(),
            host: server.address().ip().to_string(),
            port: server.address().port(),
            required: false,
            cleartext_without_tls: false,
        };
        let user = User {
            name: role.clone(),
            credentials: vec![Credential::Password(Secret::new(PASSWORD.into()))],
            max_clients: None,
            max_server_connections: None,
        };
        let opener = Opener::new(Arc::new(target), Arc::new(user), DATABASE.into(), LIMIT);
        let hub = Hub::new(role.clone(), opener, admit, limits);
        Self { server, role, hub }
    }

    /// A connection beside the hub.
    fn session(&self) -> Raw {
        Raw::login(self.server.address(), &self.role, DATABASE, &[]).unwrap()
    }

    /// How many connections the hub has.
    fn connections(&self, admin: &mut Raw) -> usize {
        let from = "FROM pg_stat_activity WHERE application_name = 'firepool listener'";
        admin.value(&format!("SELECT count(*) {from} AND usename = '{}'", self.role)).parse().unwrap()
    }

    fn kill(&self, admin: &mut Raw) {
        let from = "FROM pg_stat_activity WHERE application_name = 'firepool listener'";
        let gone = admin
            .run(&format!("SELECT pg_terminate_backend(pid, 10000) {from} AND usename = '{}'", self.role));
        assert_eq!(gone, [["t"]]);
    }

    async fn listener(&self, channel: &str) -> Arc<Mailbox> {
        let mailbox = Mailbox::new(PLENTY);
        self.listen(&mailbox, channel).await.unwrap();
        mailbox
    }

    async fn listen(&self, mailbox: &Arc<Mailbox>, channel: &str) -> Result<(), ListenError> {
        timeout(LIMIT, self.hub.listen(mailbox, channel.as_bytes())).await.expect("no answer came")
    }
}

/// What came next: channels and payloads.
async fn received(mailbox: &Mailbox) -> Result<Vec<(String, String)>, Failure> {
    timeout(LIMIT, poll_fn(|cx| mailbox.poll_ready(cx))).await.expect("nothing came");
    let mut bytes = Vec::new();
    mailbox.take(&mut bytes, PLENTY)?;
    Ok(parse(&bytes))
}

/// So many notifications and not one more: channels and payloads.
async fn exactly(mailbox: &Mailbox, count: usize) -> Vec<(String, String)> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(received(mailbox).await.unwrap());
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

async fn payload(mailbox: &Mailbox) -> String {
    exactly(mailbox, 1).await.remove(0).1
}

fn parse(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    while let [b'A', a, b, c, d, ..] = *bytes {
        let (message, rest) = bytes.split_at(1 + u32::from_be_bytes([a, b, c, d]) as usize);
        let mut parts =
            message[9..].split(|&byte| byte == 0).map(|part| String::from_utf8_lossy(part).into());
        all.push((parts.next().unwrap(), parts.next().unwrap()));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    all
}

/// Runs a future the way a worker does.
fn on_a_worker(future: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(future);
}

pub fn what_was_committed_before_is_never_delivered_and_what_comes_after_always() {
    on_a_worker(async {
        let post = Post::new();
        let mut session = post.session();
        let old = post.listener("rounds").await;
        for round in 0..200 {
            session.run(&format!("NOTIFY rounds, 'before {round}'"));
            let new = post.listener("rounds").await;
            session.run(&format!("NOTIFY rounds, 'after {round}'"));
            assert_eq!(payload(&new).await, format!("after {round}"));
            // Also where the connection did not listen to the channel before.
            let fresh = format!("fresh {round}");
            session.run(&format!("NOTIFY \"{fresh}\", 'before'"));
            let first = post.listener(&fresh).await;
            session.run(&format!("NOTIFY \"{fresh}\", 'after'"));
            assert_eq!(payload(&first).await, "after");
        }
        let heard = exactly(&old, 400).await;
        for (round, pair) in heard.chunks(2).enumerate() {
            assert_eq!(pair[0].1, format!("before {round}"));
            assert_eq!(pair[1].1, format!("after {round}"));
        }
    });
}

/// Notifies without a pause, numbers from 1 on.
struct Storm {
    /// The last that was sent, and the last whose commit was reported.
    sent: AtomicU64,
    committed: AtomicU64,
    over: AtomicBool,
}

impl Storm {
    fn start(mut session: Raw) -> (Arc<Self>, thread::JoinHandle<()>) {
        let storm = Arc::new(Self {
            sent: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let blowing = Arc::clone(&storm);
        let thread = thread::spawn(move || {
            for number in 1.. {
                if blowing.over.load(Ordering::SeqCst) {
                    break;
                }
                blowing.sent.store(number, Ordering::SeqCst);
                session.run(&format!("NOTIFY storm, '{number}'"));
                blowing.committed.store(number, Ordering::SeqCst);
            }
        });
        (storm, thread)
    }
}

pub fn a_subscription_in_a_storm_begins_at_one_place_and_misses_nothing_after_it() {
    on_a_worker(async {
        let post = Post::new();
        let witness = post.listener("storm").await;
        let (storm, thread) = Storm::start(post.session());
        for _ in 0..200 {
            let committed = storm.committed.load(Ordering::SeqCst);
            let mailbox = post.listener("storm").await;
            let sent = storm.sent.load(Ordering::SeqCst);
            let mut numbers: Vec<u64> = Vec::new();
            while numbers.last().is_none_or(|&last| last <= sent) {
                let news = received(&mailbox).await.unwrap();
                numbers.extend(news.iter().map(|(_, payload)| payload.parse::<u64>().unwrap()));
            }
            assert!(numbers[0] > committed, "{} was committed before, as {committed}", numbers[0]);
            assert!(numbers[0] <= sent + 1, "{} is the first, {sent} was the last before", numbers[0]);
            assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{numbers:?}");
        }
        storm.over.store(true, Ordering::SeqCst);
        thread.join().unwrap();
        let all = exactly(&witness, storm.committed.load(Ordering::SeqCst) as usize).await;
        assert!(all.iter().zip(1_u64..).all(|((_, payload), number)| *payload == number.to_string()));
    });
}

pub fn the_order_of_the_server_holds_across_channels() {
    on_a_worker(async {
        let post = Post::new();
        let mailbox = post.listener("order_a").await;
        for channel in ["order_b", "order_c"] {
            post.listen(&mailbox, channel).await.unwrap();
        }
        let mut session = post.session();
        let wanted: Vec<_> = (0..300)
            .map(|n| (["order_a", "order_b", "order_c"][n * 7 % 3].to_owned(), format!("number {n}")))
            .collect();
        session.run("BEGIN");
        for (at, (channel, payload)) in wanted.iter().enumerate() {
            session.run(&format!("NOTIFY {channel}, '{payload}'"));
            if at % 10 == 9 {
                session.run("COMMIT; BEGIN");
            }
        }
        session.run("COMMIT");
        assert_eq!(exactly(&mailbox, 300).await, wanted);
        let mut channels = mailbox.channels();
        channels.sort();
        assert_eq!(channels, [b"order_a", b"order_b", b"order_c"]);
    });
}

pub fn five_hundred_mailboxes_of_two_workers_share_one_connection() {
    const EACH: usize = 250;
    let post = Arc::new(Post::new());
    let subscribed = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            let (post, subscribed) = (Arc::clone(&post), Arc::clone(&subscribed));
            thread::spawn(move || on_a_worker(serve(post, subscribed, worker)))
        })
        .collect();
    until("all have subscribed", || subscribed.load(Ordering::SeqCst) == 2 * EACH);
    let mut admin = post.server.superuser(DATABASE);
    assert_eq!(post.connections(&mut admin), 1);
    for number in 0..20 {
        admin.run(&format!("NOTIFY everybody, '{number}'; NOTIFY own_{number}, 'own'"));
    }
    workers.into_iter().for_each(|worker| worker.join().unwrap());

    async fn serve(post: Arc<Post>, subscribed: Arc<AtomicUsize>, worker: usize) {
        let clients: Vec<_> = (0..EACH)
            .map(|client| {
                let (post, subscribed) = (Arc::clone(&post), Arc::clone(&subscribed));
                tokio::task::spawn_local(async move {
                    let mailbox = post.listener("everybody").await;
                    let own = client < 10;
                    if own {
                        post.listen(&mailbox, &format!("own_{}", worker * 10 + client)).await.unwrap();
                    }
                    subscribed.fetch_add(1, Ordering::SeqCst);
                    exactly(&mailbox, 20 + usize::from(own)).await
                })
            })
            .collect();
        for client in clients {
            let heard = client.await.unwrap();
            let common: Vec<_> = heard.iter().filter(|(channel, _)| channel == "everybody").collect();
            assert!(common.iter().enumerate().all(|(n, (_, payload))| *payload == n.to_string()));
            assert_eq!(common.len(), 20);
        }
        // The runtime on which the connection lives must not end before the other worker's clients are done.
        subscribed.fetch_add(1, Ordering::SeqCst);
        while subscribed.load(Ordering::SeqCst) < 2 * EACH + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn a_mailbox_that_is_not_emptied_fails_and_the_others_go_on() {
    on_a_worker(async {
        let post = Post::new();
        let lazy = Mailbox::new(50_000);
        post.listen(&lazy, "flood").await.unwrap();
        let eager = post.listener("flood").await;
        let mut session = post.session();
        for _ in 0..50 {
            session.run(&format!("NOTIFY flood, '{}'", "x".repeat(7_000)));
        }
        assert_eq!(exactly(&eager, 50).await.len(), 50);
        assert_eq!(received(&lazy).await, Err(Failure::Overflow));
        assert_eq!(post.listen(&lazy, "more").await, Err(ListenError::Lost));
        drop(lazy);
        session.run("NOTIFY flood, 'last'");
        assert_eq!(payload(&eager).await, "last");
    });
}

pub fn a_lost_connection_ends_all_that_listen_and_the_next_one_opens_another() {
    on_a_worker(async {
        let post = Post::new();
        let boxes = [post.listener("loss").await, post.listener("loss_too").await];
        let quiet = Mailbox::new(PLENTY);
        let mut admin = post.server.superuser(DATABASE);
        admin.run("NOTIFY loss, 'last words'");
        post.kill(&mut admin);
        for mailbox in &boxes {
            let end = loop {
                match received(mailbox).await {
                    Ok(heard) => assert_eq!(heard, [("loss".to_owned(), "last words".to_owned())]),
                    Err(end) => break end,
                }
            };
            assert_eq!(end, Failure::Lost);
            assert!(mailbox.is_listening());
            assert_eq!(post.listen(mailbox, "again").await, Err(ListenError::Lost));
        }
        assert_eq!(quiet.take(&mut Vec::new(), MAX_NOTIFICATION), Ok(0));
        post.listen(&quiet, "loss").await.unwrap();
        // What is left of the old ones does not end the new subscription.
        drop(boxes);
        admin.run("NOTIFY loss, 'it goes on'");
        assert_eq!(payload(&quiet).await, "it goes on");
        assert_eq!(post.connections(&mut admin), 1);
    });
}

pub fn who_does_not_listen_any_more_hears_nothing_and_the_connection_is_closed() {
    on_a_worker(async {
        let places = Arc::new(());
        let admit: Admit = {
            let places = Arc::clone(&places);
            Box::new(move || Some(Box::new(Arc::clone(&places))))
        };
        let post = Post::with(Limits { linger: Duration::from_millis(200), ..Limits::default() }, admit);
        let taken = || Arc::strong_count(&places) - 2;
        let mut admin = post.server.superuser(DATABASE);
        let (a, b) = (post.listener("leaving").await, post.listener("leaving").await);
        post.listen(&a, "leaving_too").await.unwrap();
        assert_eq!((taken(), post.connections(&mut admin)), (1, 1));
        post.hub.unlisten(&a, b"leaving");
        admin.run("NOTIFY leaving, 'one'; NOTIFY leaving_too, 'two'");
        assert_eq!(payload(&a).await, "two");
        assert_eq!(payload(&b).await, "one");
        post.hub.unlisten_all(&b);
        assert!(a.is_listening() && !b.is_listening());
        drop(a);
        while taken() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((post.hub.channels(), post.hub.encoding()), (0, None));
        until("it is closed", || post.connections(&mut admin) == 0);
        post.listen(&b, "leaving").await.unwrap();
        assert_eq!((taken(), post.connections(&mut admin)), (1, 1));
        admin.run("NOTIFY leaving, 'three'");
        assert_eq!(payload(&b).await, "three");
    });
}

pub fn time_outs_of_sessions_and_statements_do_not_end_it() {
    on_a_worker(async {
        let post = Post::new();
        let mut admin = post.server.superuser(DATABASE);
        for setting in ["idle_session_timeout", "statement_timeout"] {
            admin.run(&format!("ALTER ROLE {} SET {setting} = '200ms'", post.role));
        }
        let mailbox = post.listener("silence").await;
        admin.run("SELECT pg_sleep(1)");
        admin.run("NOTIFY silence, 'over'");
        assert_eq!(payload(&mailbox).await, "over");
    });
}

pub fn a_wait_that_is_given_up_leaves_no_subscription() {
    on_a_worker(async {
        let post = Post::new();
        let mut session = post.session();
        for patience in 0..100 {
            let mailbox = Mailbox::new(PLENTY);
            let waited =
                timeout(Duration::from_micros(patience * 30), post.hub.listen(&mailbox, b"waits")).await;
            assert_eq!(waited.is_ok(), mailbox.is_listening());
            if waited.is_err() {
                session.run("NOTIFY waits, 'nobody asked'");
                let fence = post.listener("fence").await;
                session.run("NOTIFY fence");
                payload(&fence).await;
                assert_eq!(mailbox.take(&mut Vec::new(), PLENTY), Ok(0));
            }
            drop(mailbox);
        }
        until("the server was told", || post.hub.channels() < 3);
    });
}

pub fn names_are_taken_as_the_server_takes_them() {
    on_a_worker(async {
        let post = Post::new();
        let mut session = post.session();
        let long = "ä".repeat(40);
        for name in ["MiXed", "with space", "a\"b\"\"c", "x\"; DROP TABLE t; --", "schön", "🔥", &long] {
            let mailbox = post.listener(name).await;
            session.run(&format!("NOTIFY \"{}\", 'hello'", name.replace('"', "\"\"")));
            let (channel, payload) = exactly(&mailbox, 1).await.remove(0);
            assert!(name.starts_with(&channel) && payload == "hello", "{name}: {channel}");
            // Everybody knows it under the same name.
            post.hub.unlisten(&mailbox, name.as_bytes());
            assert!(!mailbox.is_listening(), "{name}");
        }
        assert_eq!(post.hub.encoding().as_deref(), Some(&b"UTF8"[..]));
        let (mailbox, other) = (Mailbox::new(PLENTY), post.listener("names").await);
        let refused = timeout(LIMIT, post.hub.listen(&mailbox, b"\xff\xff")).await.unwrap();
        assert!(matches!(refused, Err(ListenError::Refused { sqlstate, .. }) if sqlstate == "22021"));
        for name in [&b""[..], b"a\0b"] {
            assert!(matches!(post.hub.listen(&mailbox, name).await, Err(ListenError::Unsupported(_))));
        }
        session.run("NOTIFY names, 'still here'");
        assert_eq!(payload(&other).await, "still here");
    });
}

pub fn limits_refuse_and_do_no_harm() {
    on_a_worker(async {
        let limits = Limits { channels: 3, channels_per_mailbox: 2, ..Limits::default() };
        let post = Post::with(limits, Box::new(|| Some(Box::new(()))));
        let (a, b) = (post.listener("a1").await, post.listener("b1").await);
        post.listen(&a, "a2").await.unwrap();
        assert_eq!(post.listen(&a, "b1").await, Err(ListenError::TooManyChannels));
        assert_eq!(post.listen(&b, "b2").await, Err(ListenError::TooManyChannels));
        post.listen(&b, "a2").await.unwrap();
        post.listen(&a, "a1").await.unwrap();
        post.server.superuser(DATABASE).run("NOTIFY a2, 'both'");
        assert_eq!((payload(&a).await.as_str(), payload(&b).await.as_str()), ("both", "both"));

        let impatient = Limits { patience: Duration::from_millis(120), ..Limits::default() };
        let asked = Arc::new(AtomicUsize::new(0));
        let asking = Arc::clone(&asked);
        let admit = move || {
            asking.fetch_add(1, Ordering::SeqCst);
            None
        };
        let post = Post::with(impatient, Box::new(admit));
        let mailbox = Mailbox::new(PLENTY);
        let refused = post.listen(&mailbox, "news").await;
        assert_eq!(refused, Err(ListenError::Connect(ConnectError::LimitReached)));
        assert!(asked.load(Ordering::SeqCst) > 1);
        assert_eq!(post.hub.channels(), 0);
        // It was not subscribed, so it has lost nothing.
        assert_eq!(mailbox.take(&mut Vec::new(), PLENTY), Ok(0));
    });
}
