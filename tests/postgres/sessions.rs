//! Session state on shared connections: every client has its own, and nobody sees another's.

use std::thread;

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::wait::until;

pub fn set_follows_its_client_from_connection_to_connection_and_does_not_leak() {
    let fixture = Fixture::transaction(1);
    let (mut first, mut second) = (fixture.client(), fixture.client());
    first.run("SET work_mem = '777kB'");
    let backend = first.backend();
    for _ in 0..10 {
        assert_eq!((second.value("SHOW work_mem"), second.backend()), ("4MB".to_owned(), backend.clone()));
        assert_eq!((first.value("SHOW work_mem"), first.backend()), ("777kB".to_owned(), backend.clone()));
    }
    first.run("RESET ALL");
    assert_eq!(first.value("SHOW work_mem"), "4MB");
    drop(first);
    for _ in 0..4 {
        assert_eq!(fixture.client().value("SHOW work_mem"), "4MB");
    }
    assert_eq!(fixture.proxy.metric("firepool_pins_total", ""), 0.0);
}

pub fn discard_all_gives_the_connection_back() {
    let fixture = Fixture::transaction(1);
    let (mut first, mut second) =
        (fixture.login(&[("application_name", "first")]).unwrap(), fixture.client());
    first.run("SET work_mem = '777kB'");
    first.run("PREPARE mine AS SELECT 1");
    first.run("DISCARD ALL");
    assert_eq!(second.value("SHOW work_mem"), "4MB");
    assert_eq!(second.query("EXECUTE mine").code(), "26000");
    // DISCARD ALL leaves a client with what it asked for in its startup packet, as PostgreSQL does.
    assert_eq!(first.value("SHOW application_name"), "first");
}

pub fn startup_parameters_belong_to_their_client() {
    let fixture = Fixture::transaction(2);
    thread::scope(|scope| {
        for n in 0..12 {
            let fixture = &fixture;
            scope.spawn(move || {
                let application = format!("client {n}, it's \\ \"special\"");
                let zone = ["UTC", "Europe/Zurich", "Asia/Tokyo"][n % 3];
                let timeout = format!("{}s", n + 1);
                let options = format!("-c search_path=s{n},public --work_mem={}kB", 100 + n);
                let more = [
                    ("application_name", application.as_str()),
                    ("TimeZone", zone),
                    ("statement_timeout", &timeout),
                    ("options", &options),
                    ("my.own", zone),
                ];
                // Every third leaves out what the others set.
                let more = if n % 3 == 2 { &more[..1] } else { &more[..] };
                let mut client = fixture.login(more).unwrap();
                assert_eq!(client.parameter("application_name"), Some(application.as_str()));
                let (own, path, memory) = match n % 3 {
                    2 => (String::new(), "\"$user\", public".to_owned(), "4MB".to_owned()),
                    _ => (zone.to_owned(), format!("s{n},public"), format!("{}kB", 100 + n)),
                };
                for _ in 0..60 {
                    assert_eq!(client.value("SHOW application_name"), application);
                    assert_eq!(client.value("SHOW search_path"), path);
                    assert_eq!(client.value("SHOW work_mem"), memory);
                    if n % 3 != 2 {
                        assert_eq!(client.value("SHOW timezone"), zone);
                        assert_eq!(client.value("SHOW statement_timeout"), timeout);
                    } else {
                        assert_eq!(client.value("SHOW statement_timeout"), "0");
                    }
                    assert_eq!(client.value("SELECT coalesce(current_setting('my.own', true), '')"), own);
                }
            });
        }
    });
    assert!(fixture.connections(&mut fixture.superuser()) <= 2);
    assert_eq!(fixture.proxy.metric("firepool_pins_total", ""), 0.0);
}

pub fn a_bad_startup_setting_is_refused_with_the_servers_sqlstate() {
    let fixture = Fixture::transaction(1);
    for (name, value, code) in [
        ("TimeZone", "Nowhere/Else", "22023"),
        ("work_mem", "much", "22023"),
        ("no_such_setting", "1", "42704"),
        ("shared_buffers", "1GB", "55P02"),
        ("options", "-c work_mem=1", "22023"),
        ("client_encoding", "klingon", "22023"),
        ("log_statement", "all", "42501"),
    ] {
        let failure = fixture.login(&[(name, value)]).unwrap_err();
        let direct = crate::support::raw::Raw::login(
            fixture.server.address(),
            &fixture.role,
            "test",
            &[(name, value)],
        );
        assert_eq!(
            (failure.code.as_str(), failure.severity.as_str()),
            (code, "FATAL"),
            "{name}: {failure:?}"
        );
        assert_eq!(direct.unwrap_err().code, code, "{name}, without the proxy");
        assert_eq!(fixture.client().value("SHOW work_mem"), "4MB");
    }
    assert!(fixture.connections(&mut fixture.superuser()) <= 1);
}

pub fn named_statements_work_for_as_long_as_their_client() {
    let fixture = Fixture::transaction(2);
    let (mut first, mut second) = (fixture.client(), fixture.client());
    for (n, client) in [&mut first, &mut second].into_iter().enumerate() {
        let sql = format!("SELECT $1::int + {n}");
        assert_eq!(client.batch(&[parse("same name", &sql), sync()]).tags(), "1Z");
    }
    for _ in 0..20 {
        for (client, answer) in [(&mut first, "10"), (&mut second, "11")] {
            let reply = client.batch(&[bind("", "same name", &["10"]), execute("", 0), sync()]);
            assert_eq!((reply.tags().as_str(), reply.rows()), ("2DCZ", vec![vec![answer.to_owned()]]));
        }
    }
    assert_eq!(fixture.proxy.metric("firepool_pins_total", ""), 0.0);
    drop((first, second));
    let mut third = fixture.client();
    assert_eq!(third.batch(&[bind("", "same name", &["1"]), sync()]).code(), "26000");
}

pub fn an_unnamed_statement_is_out_of_reach_of_others() {
    let fixture = Fixture::transaction(1);
    let (mut first, mut second) = (fixture.client(), fixture.client());
    first.batch(&[unnamed("SELECT 'secret'", &[]), sync()]);
    second.send(&[bind("", "", &[]), execute("", 0), sync()].concat());
    let reply = second.reply();
    assert_eq!((reply.code().as_str(), reply.rows().len()), ("26000", 0));
    let mut third = fixture.client();
    third.send(&[describe(b'S', ""), sync()].concat());
    assert_eq!(third.reply().code(), "26000");
}

pub fn a_driver_with_its_prepared_statements_and_pipelines_works() {
    let fixture = Fixture::transaction(4);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut client, connection) =
            tokio_postgres::connect(&fixture.url(), tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute("CREATE TABLE t (n int, x text)").await.unwrap();
        let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
        let transaction = client.transaction().await.unwrap();
        for n in 0..20_i32 {
            assert_eq!(transaction.execute(&insert, &[&n, &"x"]).await.unwrap(), 1);
        }
        transaction.commit().await.unwrap();
        let answers = tokio::join!(
            client.query_one("SELECT count(*) FROM t", &[]),
            client.query_one("SELECT sum(n) FROM t WHERE n > $1", &[&10_i32]),
            client.query("SELECT 1/n FROM t", &[]),
            client.query_one("SELECT 'last'", &[]),
        );
        assert_eq!(answers.0.unwrap().get::<_, i64>(0), 20);
        assert_eq!(answers.1.unwrap().get::<_, i64>(0), (11..20).sum::<i64>());
        assert_eq!(answers.2.unwrap_err().code().unwrap().code(), "22012");
        assert_eq!(answers.3.unwrap().get::<_, &str>(0), "last");
        drop((insert, client));
        connection.await.unwrap().unwrap();
    });
}

pub fn a_listening_client_is_told_while_it_is_silent() {
    let fixture = Fixture::transaction(2);
    let (mut listener, mut other) = (fixture.client(), fixture.client());
    listener.run("LISTEN news");
    until("it is counted", || fixture.proxy.metric("firepool_listening_clients", "") == 1.0);
    for n in 0..5 {
        other.run(&format!("NOTIFY news, '{n}'"));
        let message = listener.message().unwrap();
        // The process id of the sender comes first.
        assert_eq!((message.tag, &message.body[4..]), (b'A', &text(&["news", &n.to_string()])[..]));
    }
    assert!(!other.query("SELECT 1").messages.iter().any(|message| message.tag == b'A'));
    assert_eq!(fixture.proxy.metric("firepool_pins_total", ""), 0.0);
}

pub fn clients_with_different_encodings_share_a_connection() {
    let fixture = Fixture::transaction(1);
    let mut latin = fixture.login(&[("client_encoding", "LATIN1")]).unwrap();
    let mut utf = fixture.login(&[("client_encoding", "UTF8")]).unwrap();
    assert_eq!(latin.parameter("client_encoding"), Some("LATIN1"));
    for _ in 0..10 {
        latin.send(&message(b'Q', b"SELECT ascii('\xe4')\0"));
        assert_eq!(latin.reply().rows(), [["228"]]);
        assert_eq!(utf.value("SELECT ascii('ä')"), "228");
    }
}

pub fn a_statement_timeout_of_one_client_does_not_end_anothers_query() {
    let fixture = Fixture::transaction(1);
    let mut hasty = fixture.login(&[("statement_timeout", "50ms")]).unwrap();
    let mut patient = fixture.client();
    for _ in 0..3 {
        assert_eq!(hasty.query("SELECT pg_sleep(600)").code(), "57014");
        assert_eq!(patient.value("SELECT 'patient' FROM pg_sleep(0.2)"), "patient");
    }
}

pub fn an_unnamed_statement_may_be_bound_in_several_batches() {
    let fixture = Fixture::transaction(2);
    let mut client = fixture.client();
    assert_eq!(client.batch(&[parse("", "SELECT $1::int"), sync()]).tags(), "1Z");
    for n in ["1", "2", "3"] {
        let reply = client.batch(&[bind("", "", &[n]), execute("", 0), sync()]);
        assert_eq!(reply.tags(), "2DCZ", "bound for the {n}. time: {reply:?}");
    }
}
