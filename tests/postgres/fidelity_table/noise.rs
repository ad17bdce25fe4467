//! A client that changes all of its session that it can, and looks that nobody else does.

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::Raw;

/// It begins again after so many.
const PHASES: usize = 6;

/// The noise. It has one server connection at most at any time, so that the other is the conversation's. A client is
/// given the connection that it had last, if nobody has had it since, then one that has its settings already: so the noise
/// comes as another client again and again, which gets the one that was used last, the conversation's.
pub struct Noise<'a> {
    fixture: &'a Fixture,
    client: Raw,
    made: usize,
    lock: String,
}

impl<'a> Noise<'a> {
    /// A client of the same pool, with settings that are not PostgreSQL's.
    pub fn new(fixture: &'a Fixture) -> Self {
        // So that no two tests wait for each other.
        let lock = format!("pg_advisory_lock(hashtext('{}'), 1)", fixture.role);
        Self { fixture, client: Self::log_in(fixture, 0), made: 0, lock }
    }

    fn log_in(fixture: &Fixture, number: usize) -> Raw {
        let name = format!("noise {number}");
        fixture.login(&[("application_name", &name), ("options", "-c search_path=noise")]).unwrap()
    }

    /// Noise, until the next would be of this phase.
    pub fn make_until(&mut self, phase: usize) {
        loop {
            self.make();
            if self.made % PHASES == phase {
                return;
            }
        }
    }

    /// How far it is, for whoever reports a difference.
    pub fn phase(&self) -> String {
        format!("  (noise of phase {})", self.made % PHASES)
    }

    /// The next noise: in turns with a transaction that keeps a connection, with what pins one, and with none.
    pub fn make(&mut self) {
        self.made += 1;
        if matches!(self.made % PHASES, 0 | 1 | 4) {
            self.client.send(&terminate());
            // Only when it is gone, so that its successor is of the same worker.
            while self.client.message().is_some() {}
            self.client = Self::log_in(self.fixture, self.made);
        }
        let client = &mut self.client;
        match self.made % PHASES {
            1 => {
                client.run("SET work_mem = '1111kB'; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'");
                client.run(
                    "SELECT set_config('app.tenant', 'noise', false), set_config('app.user', 'noise', false)",
                );
                for name in ["S_1", "s1", "_pg3_0", "mine"] {
                    let reply = client.batch(&[close(b'S', name), parse(name, "SELECT 'noise'"), sync()]);
                    assert_eq!(reply.tags(), "31Z", "the noise: {reply:?}");
                }
                assert_eq!(client.batch(&[parse("", "SELECT 'noise'"), sync()]).tags(), "1Z");
            }
            2 => {
                client.run("BEGIN");
                client.run("CREATE TEMP TABLE mine AS SELECT 'noise' AS x");
                client.run("SET LOCAL statement_timeout = '20s'");
            }
            3 => {
                assert_eq!(client.value("SELECT x FROM mine"), "noise");
                client.run("ROLLBACK");
                let reply = client.batch(&[bind("", "S_1", &[]), execute("", 0), sync()]);
                assert_eq!(reply.rows(), [["noise"]], "the noise: {reply:?}");
            }
            4 => {
                client.run("CREATE TEMP TABLE mine AS SELECT 'noise' AS x");
                client.run("CREATE TEMP TABLE t AS SELECT 'noise' AS x");
                client.run("PREPARE q AS SELECT 'noise'");
                client.run("DECLARE c CURSOR WITH HOLD FOR SELECT 'noise'");
                client.run("LISTEN noise; LISTEN news");
                client.run(&format!("SELECT {}", self.lock));
            }
            5 => {
                assert_eq!(client.value("EXECUTE q"), "noise");
                client.run("DISCARD ALL");
            }
            _ => {
                assert_eq!(client.value("SHOW search_path"), "noise");
                client.run("SET standard_conforming_strings = off; SET extra_float_digits = -3");
                client.run("RESET ALL");
            }
        }
    }
}
