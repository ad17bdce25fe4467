//! Which messages a client gets of those that the server sends without being asked.
//!
//! The server speaks of its session, which is not the client's: where a client resets a setting, the server tells of its
//! own default, and then of the client's, which the proxy sets behind it. The client is to hear of the second only, and
//! only if it has not had it before.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::prepared::{StatementKey, server_name};
use super::refusal;
use super::settings::{Parameters, Settings};
use crate::relay::reply::Hearing;
use crate::wire::turn::{Asker, MAX_OWED};

/// What a client knows of the parameters that the server reports, while it has a server connection.
#[derive(Debug, Default)]
pub struct Told {
    parameters: Arc<Parameters>,
    /// As they were when it logged in, and are again after a reset.
    welcome: Arc<Parameters>,
    /// The settings that are set again behind a reset.
    startup: Arc<Settings>,
    /// So many times they are on their way.
    reassigning: u32,
    /// An error came while they were: perhaps there was no reset.
    doubtful: bool,
    marked: bool,
    /// What few clients need.
    more: Option<Box<More>>,
}

/// The rest of it, which has memory of its own once it is needed: every idle client has a [`Told`].
#[derive(Debug, Default)]
struct More {
    /// Shared statements that were used last, and what the client calls them.
    aliases: VecDeque<(StatementKey, Box<[u8]>)>,
    /// Channels whose notifications come to the client by another way.
    elsewhere: Option<Arc<Channels>>,
    /// Channel and payload, each with its NUL, of the notification behind which all do.
    mark: Option<Box<[u8]>>,
    /// What the client is told of requests that do not go to the server: a number and the body of an ErrorResponse.
    refusals: VecDeque<(u32, Box<[u8]>)>,
    refused: u32,
}

/// Names of channels, as the server has them.
pub type Channels = HashSet<Box<[u8]>>;

/// Shared statements whose names in errors become the client's own.
const ALIASES: usize = 8;

impl Told {
    /// What a client knows that has just logged in.
    pub fn new(parameters: Arc<Parameters>, startup: Arc<Settings>) -> Self {
        let welcome = Arc::clone(&parameters);
        Self { parameters, welcome, startup, reassigning: 0, doubtful: false, marked: false, more: None }
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// Notifications on these channels, and on no others, come to the client by another way.
    pub fn comes_elsewhere(&mut self, channels: &Arc<Channels>) {
        self.marked = false;
        if self.more.is_some() || !channels.is_empty() {
            let more = self.more();
            (more.elsewhere, more.mark) = (Some(Arc::clone(channels)), None);
        }
    }

    /// Behind a notification with this channel and payload, all of them come to the client by another way.
    pub fn await_mark(&mut self, channel: &str, payload: &str) {
        self.more().mark = Some(format!("{channel}\0{payload}\0").into_bytes().into());
    }

    /// Whether it has come.
    pub fn is_marked(&self) -> bool {
        self.marked
    }

    /// Takes the body of a NotificationResponse: a process id, channel and payload.
    pub(super) fn hear_notification(&mut self, body: &[u8]) -> Hearing {
        let text = body.get(4..).unwrap_or_default();
        if self.marked || self.more.as_ref().is_some_and(|more| more.mark.as_deref() == Some(text)) {
            self.marked = true;
            return Hearing::Swallow;
        }
        let channel = text.split(|&byte| byte == 0).next().unwrap_or_default();
        let elsewhere = self.more.as_ref().and_then(|more| more.elsewhere.as_ref());
        Hearing::plain(!elsewhere.is_some_and(|channels| channels.contains(channel)))
    }

    /// The client is refused something, and is to hear this when it is its turn: the body of an ErrorResponse. The
    /// number for [`Asker::Refused`]. `fresh` says that nothing is under way.
    pub fn refuse(&mut self, body: Vec<u8>, fresh: bool) -> u32 {
        let more = self.more();
        if fresh {
            more.refusals.clear();
        }
        more.refused = more.refused.wrapping_add(1);
        more.refusals.push_back((more.refused, body.into()));
        if more.refusals.len() > MAX_OWED {
            // It was skipped long ago: no more than so many are under way.
            more.refusals.pop_front();
        }
        more.refused
    }

    /// Those before it were skipped behind an error.
    fn take_refusal(&mut self, number: u32) -> Option<Box<[u8]>> {
        while let Some((known, body)) = self.more.as_mut()?.refusals.pop_front() {
            if known == number {
                return Some(body);
            }
        }
        None
    }

    /// The client uses a shared statement, which it calls by this name.
    pub fn alias(&mut self, key: &StatementKey, name: &[u8]) {
        let aliases = &mut self.more().aliases;
        if aliases.iter().any(|(known, alias)| known == key && **alias == *name) {
            return;
        }
        if aliases.len() == ALIASES {
            aliases.pop_front();
        }
        aliases.push_back((*key, name.into()));
    }

    /// Takes the body of an ErrorResponse: what the server calls by its shared name, the client knows by its own.
    pub(super) fn hear_error(&mut self, body: &[u8], asker: Asker) -> Hearing {
        let refusal = match asker {
            Asker::Client => None,
            Asker::Refused(number) => self.take_refusal(number).filter(|_| refusal::is_heard(body)),
            Asker::Proxy | Asker::Stead => return Hearing::Swallow,
        };
        self.doubtful = self.reassigning > 0;
        if let Some(refusal) = refusal {
            return Hearing::Instead(refusal.into());
        }
        let mut aliases = self.more.iter().flat_map(|more| more.aliases.iter().rev());
        let called = aliases.find_map(|(key, alias)| {
            let name = server_name(key);
            let name = &name[..name.len() - 1];
            let place = body.windows(name.len()).position(|window| window == name)?;
            Some([&body[..place], alias, &body[place + name.len()..]].concat())
        });
        called.map_or(Hearing::Pass, Hearing::Instead)
    }

    /// The startup settings follow a reset that is being sent.
    pub fn reassign(&mut self) {
        self.reassigning += 1;
    }

    /// So many times they have been set again.
    pub(super) fn reassigned(&mut self, times: u32) {
        self.reassigning = self.reassigning.saturating_sub(times);
        self.doubtful &= self.reassigning > 0;
    }

    /// Takes the body of a ParameterStatus, and says what the client gets.
    pub(super) fn hear(&mut self, body: &[u8], asker: Asker) -> Hearing {
        let client = asker == Asker::Client;
        let mut parts = body.split(|&byte| byte == 0);
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return Hearing::plain(client) };
        if self.reassigning == 0 {
            if client {
                self.is_news(name, value, body);
            }
            return Hearing::plain(client);
        }
        let ours = std::str::from_utf8(name)
            .is_ok_and(|name| self.startup.get(&name.to_ascii_lowercase()).is_some());
        match (ours, client) {
            // The server's default, and what the client's will be in a moment.
            (true, true) if !self.doubtful => {
                let welcome = Arc::clone(&self.welcome);
                let text = std::str::from_utf8(name).unwrap_or_default();
                let Some(value) = welcome.get(text) else { return Hearing::Swallow };
                let body = [name, b"\0", value, b"\0"].concat();
                if self.is_news(name, value, &body) { Hearing::Instead(body) } else { Hearing::Swallow }
            }
            (false, false) => Hearing::Swallow,
            _ => Hearing::plain(self.is_news(name, value, body)),
        }
    }

    /// Whether the client has not had it before; it has now.
    fn is_news(&mut self, name: &[u8], value: &[u8], body: &[u8]) -> bool {
        let news = !self.parameters.has(name, value);
        if news {
            Arc::make_mut(&mut self.parameters).report(body);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(startup: &[(&str, &str)]) -> Told {
        let (mut parameters, mut settings) = (Parameters::default(), Settings::default());
        for (name, value) in startup {
            parameters.report(format!("{name}\0{value}\0").as_bytes());
            settings.set(name, value).unwrap();
        }
        Told::new(Arc::new(parameters), Arc::new(settings))
    }

    #[test]
    fn a_client_hears_what_its_own_requests_change_and_nothing_else() {
        let mut told = told(&[("TimeZone", "UTC")]);
        assert_eq!(told.hear(b"TimeZone\0Asia/Tokyo\0", Asker::Client), Hearing::Pass);
        assert_eq!(told.hear(b"TimeZone\0UTC\0", Asker::Proxy), Hearing::Swallow);
    }

    #[test]
    fn a_notification_comes_by_one_way_only() {
        let mut told = Told::default();
        let hear = |told: &mut Told, text: &str| told.hear_notification(&[&[0; 4], text.as_bytes()].concat());
        assert_eq!(hear(&mut told, "a\0\0"), Hearing::Pass);
        told.comes_elsewhere(&Arc::new([b"a"[..].into()].into()));
        told.await_mark("mine", "seven");
        let (pass, swallow) = (Hearing::Pass, Hearing::Swallow);
        for (text, gets) in
            [("a\0\0", &swallow), ("b\0a\0", &pass), ("mine\0seven\0", &swallow), ("b\0\0", &swallow)]
        {
            assert_eq!(hear(&mut told, text), *gets, "{text:?}");
        }
        assert!(told.is_marked());
        told.comes_elsewhere(&Arc::default());
        assert_eq!(hear(&mut told, "b\0\0"), Hearing::Pass);
    }

    #[test]
    fn refusals_that_were_skipped_do_not_pile_up_while_something_is_always_under_way() {
        let mut told = Told::default();
        let numbers: Vec<_> = (0..3 * MAX_OWED).map(|n| told.refuse(n.to_string().into(), false)).collect();
        assert_eq!(told.more().refusals.len(), MAX_OWED);
        let first = 2 * MAX_OWED;
        assert_eq!(told.take_refusal(numbers[first]).as_deref(), Some(first.to_string().as_bytes()));
    }

    #[test]
    fn an_error_calls_a_statement_as_the_client_does() {
        let mut told = Told::default();
        for n in 0..20 {
            told.alias(&[n; 16], format!("mine {n}").as_bytes());
        }
        let body = |name: &str| format!("SERROR\0Mstatement \"{name}\" is odd\0\0").into_bytes();
        let shared = |n: u8| String::from_utf8(server_name(&[n; 16])[..35].to_vec()).unwrap();
        assert_eq!(told.hear_error(&body(&shared(19)), Asker::Client), Hearing::Instead(body("mine 19")));
        assert_eq!(told.hear_error(&body(&shared(1)), Asker::Client), Hearing::Pass, "long ago");
        assert_eq!(told.hear_error(&body("other"), Asker::Client), Hearing::Pass);
        assert_eq!(told.hear_error(&body("other"), Asker::Proxy), Hearing::Swallow);
    }

    #[test]
    fn a_client_that_resets_hears_of_its_own_default_if_that_is_news() {
        let mut told = told(&[("TimeZone", "UTC"), ("application_name", "mine")]);
        assert_eq!(told.hear(b"TimeZone\0Asia/Tokyo\0", Asker::Client), Hearing::Pass);
        told.reassign();
        for (body, asker, gets) in [
            (&b"TimeZone\0Etc/UTC\0"[..], Asker::Client, Hearing::Instead(b"TimeZone\0UTC\0".to_vec())),
            (b"application_name\0firepool\0", Asker::Client, Hearing::Swallow),
            (b"DateStyle\0ISO, MDY\0", Asker::Client, Hearing::Pass),
            (b"TimeZone\0UTC\0", Asker::Proxy, Hearing::Swallow),
            (b"application_name\0mine\0", Asker::Proxy, Hearing::Swallow),
        ] {
            assert_eq!(told.hear(body, asker), gets, "{}", body.escape_ascii());
        }
        told.reassigned(1);
        assert_eq!(told.hear(b"TimeZone\0UTC\0", Asker::Proxy), Hearing::Swallow);
    }
}
