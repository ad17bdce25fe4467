//! Everything at once: whatever others do, every client gets its own rows and nothing else.

use std::thread;

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::{Raw, Reply};

/// A client that knows what it asked for.
struct Honest<'a> {
    fixture: &'a Fixture,
    client: Raw,
    name: usize,
    asked: u32,
    dice: u32,
}

impl Honest<'_> {
    fn roll(&mut self, sides: u32) -> u32 {
        // The constants of the C standard's example.
        self.dice = self.dice.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        self.dice / 65_536 % sides
    }

    /// A text that nobody else asks for, of any length.
    fn own(&mut self) -> String {
        self.asked += 1;
        let padding = [0, 10, 3_000, 90_000][self.roll(4) as usize];
        format!("{}-{}-{}", self.name, self.asked, "x".repeat(padding))
    }

    fn vanish(&mut self) {
        self.client = self.fixture.client();
    }

    fn simple(&mut self) {
        let own = self.own();
        assert_eq!(self.client.value(&format!("SELECT '{own}'")), own);
    }

    fn pipeline(&mut self) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..=self.roll(8) {
            let own = self.own();
            let failing = self.roll(5) == 0;
            let sql = if failing { "SELECT $1::text, 1/0" } else { "SELECT $1::text" };
            bytes.extend([unnamed(sql, &[&own]), sync()].concat());
            expected.push((!failing).then_some(own));
        }
        self.client.send(&bytes);
        for own in expected {
            let reply = self.client.reply();
            match own {
                Some(own) => assert_eq!(reply.rows(), [[own]]),
                None => assert_eq!(reply.code(), "22012", "{reply:?}"),
            }
        }
    }

    fn transaction(&mut self) {
        let own = self.own();
        assert_eq!(self.client.query("BEGIN").status(), 'T');
        self.client.run(&format!("INSERT INTO t VALUES ('{own}')"));
        assert_eq!(self.client.value(&format!("SELECT count(*) FROM t WHERE x = '{own}'")), "1");
        let end = if self.roll(2) == 0 { "ROLLBACK" } else { "COMMIT" };
        assert_eq!(self.client.query(end).commands(), [end]);
    }

    fn copy(&mut self) {
        let own = self.own();
        self.client.send(&query("COPY t FROM STDIN"));
        assert_eq!(self.client.reply_until(b'G').tags(), "G");
        let end = if self.roll(3) == 0 { copy_fail("no") } else { copy_done() };
        self.client.send(&[copy_data(own.as_bytes()), copy_data(b"\n"), end].concat());
        let reply: Reply = self.client.reply();
        assert!(["COPY 1"] == *reply.commands() || reply.code() == "57014", "{reply:?}");
        let out = self.client.query(&format!("COPY (SELECT '{own}') TO STDOUT"));
        let rows: Vec<_> = out.messages.iter().filter(|message| message.tag == b'd').collect();
        assert!(rows.len() == 1 && rows[0].body == [own.as_bytes(), b"\n"].concat(), "{out:?}");
    }

    fn cancelled(&mut self) {
        self.client.send(&query("SELECT pg_sleep(0.02)"));
        for _ in 0..self.roll(4) {
            self.client.cancel();
        }
        let reply = self.client.reply();
        assert!(["", "57014"].contains(&reply.code().as_str()), "{reply:?}");
    }

    fn leave_behind(&mut self) {
        let own = self.own();
        let bytes = match self.roll(6) {
            0 => query("SELECT pg_sleep(600)"),
            1 => query(&format!("BEGIN; SELECT '{own}'")),
            2 => query("SET search_path = nowhere"),
            3 => [unnamed("SELECT $1::text", &[&own]), flush()].concat(),
            4 => [query("COPY t FROM STDIN"), copy_data(b"half a row")].concat(),
            _ => query(&format!("SELECT '{own}'")),
        };
        let whole = self.roll(2) == 0;
        let length = if whole { bytes.len() } else { self.roll(bytes.len() as u32) as usize };
        self.client.send(&bytes[..length]);
        self.vanish();
    }

    fn named(&mut self) {
        let own = self.own();
        let reply = self.client.batch(&[parse("mine", "SELECT $1::text"), sync()]);
        assert_eq!(reply.tags(), "1Z", "{reply:?}");
        let reply = self.client.batch(&[bind("", "mine", &[&own]), execute("", 0), sync()]);
        assert_eq!(reply.rows(), [[own]]);
        assert_eq!(self.client.query("DISCARD ALL").commands(), ["DISCARD ALL"]);
    }

    fn act(&mut self) {
        match self.roll(12) {
            0..=3 => self.simple(),
            4..=6 => self.pipeline(),
            7 => self.transaction(),
            8 => self.copy(),
            9 => self.cancelled(),
            10 => self.named(),
            _ => self.leave_behind(),
        }
    }
}

pub fn whatever_others_do_every_client_gets_its_own_rows() {
    let fixture = Fixture::new("pool_size = 4\ntimeouts = { query_wait = \"25s\" }");
    fixture.client().run("CREATE TABLE t (x text)");
    thread::scope(|scope| {
        for name in 0..16 {
            let fixture = &fixture;
            scope.spawn(move || {
                let client = fixture.client();
                let mut honest = Honest { fixture, client, name, asked: 0, dice: name as u32 * 7919 + 1 };
                for _ in 0..60 {
                    honest.act();
                }
            });
        }
    });
    assert_eq!(fixture.proxy.metric("firepool_refusals_total", "server_lost"), 0.0);
    assert_eq!(fixture.client().value("SHOW search_path"), "\"$user\", public");
}

pub fn a_pipeline_longer_than_the_books_is_answered_to_its_end() {
    let fixture = Fixture::transaction(1);
    let mut client = fixture.client();
    let mut writer = client.stream.try_clone().unwrap();
    const BATCHES: usize = 4_000;
    thread::scope(|scope| {
        scope.spawn(move || {
            let batch = [parse("", "SELECT 1"), bind("", "", &[]), bind("", "", &[]), execute("", 0), sync()];
            std::io::Write::write_all(&mut writer, &batch.concat().repeat(BATCHES)).unwrap();
        });
        for _ in 0..BATCHES {
            assert_eq!(client.reply().tags(), "122DCZ");
        }
    });
    // One batch without an end, too.
    let mut writer = client.stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let binds = [parse("", "SELECT 1"), bind("", "", &[]).repeat(20_000), execute("", 0), sync()];
            std::io::Write::write_all(&mut writer, &binds.concat()).unwrap();
        });
        assert_eq!(client.reply().messages.len(), 20_000 + 4);
    });
}
