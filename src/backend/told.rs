//! Which ParameterStatus messages a client gets.
//!
//! The server speaks of its session, which is not the client's: where a client resets a setting, the server tells of its
//! own default, and then of the client's, which the proxy sets behind it. The client is to hear of the second only, and
//! only if it has not had it before.

use std::sync::Arc;

use super::settings::{Parameters, Settings};
use crate::wire::turn::Asker;

/// What a client knows of the parameters that the server reports, while it has a server connection.
#[derive(Debug, Default)]
pub struct Told {
    parameters: Arc<Parameters>,
    /// The settings that are set again behind a reset.
    startup: Arc<Settings>,
    /// So many times they are on their way.
    reassigning: u32,
}

impl Told {
    /// What a client knows that has just logged in.
    pub fn new(parameters: Arc<Parameters>, startup: Arc<Settings>) -> Self {
        Self { parameters, startup, reassigning: 0 }
    }

    /// The startup settings follow a reset that is being sent.
    pub fn reassign(&mut self) {
        self.reassigning += 1;
    }

    /// So many times they have been set again.
    pub(super) fn reassigned(&mut self, times: u32) {
        self.reassigning = self.reassigning.saturating_sub(times);
    }

    /// Takes the body of a ParameterStatus; whether the client gets it.
    pub(super) fn hear(&mut self, body: &[u8], asker: Asker) -> bool {
        let mut parts = body.split(|&byte| byte == 0);
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return asker == Asker::Client };
        if self.reassigning > 0 {
            let ours = std::str::from_utf8(name)
                .is_ok_and(|name| self.startup.get(&name.to_ascii_lowercase()).is_some());
            if ours == (asker == Asker::Client) || self.parameters.has(name, value) {
                return false;
            }
        } else if asker != Asker::Client {
            return false;
        }
        if !self.parameters.has(name, value) {
            Arc::make_mut(&mut self.parameters).report(body);
        }
        true
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
        assert!(told.hear(b"TimeZone\0Asia/Tokyo\0", Asker::Client));
        assert!(!told.hear(b"TimeZone\0UTC\0", Asker::Proxy));
    }

    #[test]
    fn a_client_that_resets_hears_of_its_own_default_if_that_is_news() {
        let mut told = told(&[("TimeZone", "UTC"), ("application_name", "mine")]);
        assert!(told.hear(b"TimeZone\0Asia/Tokyo\0", Asker::Client));
        told.reassign();
        for (body, asker, passes) in [
            (&b"TimeZone\0Etc/UTC\0"[..], Asker::Client, false),
            (b"application_name\0firepool\0", Asker::Client, false),
            (b"DateStyle\0ISO, MDY\0", Asker::Client, true),
            (b"TimeZone\0UTC\0", Asker::Proxy, true),
            (b"application_name\0mine\0", Asker::Proxy, false),
        ] {
            assert_eq!(told.hear(body, asker), passes, "{}", body.escape_ascii());
        }
        told.reassigned(1);
        assert!(!told.hear(b"TimeZone\0UTC\0", Asker::Proxy));
    }
}
