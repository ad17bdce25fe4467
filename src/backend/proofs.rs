//! What the proxy proves to servers that it is a user: passwords, hashes of them, and keys that clients have shown.
//!
//! All pools of a user share one [`Proofs`]. A key that a client has shown is kept only while a verifier that it fits is
//! the user's: whoever changes the password makes the proxy forget it.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::User;
use crate::scram::{Keys, Verifier};
use crate::secret::{self, Credential, Secret};

/// Keys that are remembered: two passwords on a few servers, each of which salts them differently.
const REMEMBERED: usize = 16;

/// Above this many SCRAM iterations the keys are derived on a thread of their own, so that a worker's clients do not
/// wait. PostgreSQL's default of 4,096 takes about a millisecond.
const BLOCKING_ITERATIONS: u32 = 20_000;

/// What the proxy proves to servers that it is one user.
#[derive(Debug)]
pub struct Proofs {
    user: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    credentials: Vec<Credential>,
    /// Which of them a server took last.
    preferred: usize,
    /// Keys that clients have shown, each of a verifier among the credentials.
    learned: Vec<Keys>,
    /// Keys that were derived from passwords: a server salts a role's password the same way each time.
    derived: Vec<Derived>,
}

struct Derived {
    password: Secret,
    salt: Vec<u8>,
    iterations: NonZeroU32,
    keys: Keys,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

/// One way to try.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// `None` where nothing is known: servers that ask for nothing take it all the same.
    pub(super) credential: Option<Credential>,
    place: usize,
}

/// Why there are no keys for a server's challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKeys {
    /// Nobody has proved the password to the proxy yet.
    NotYet,
    /// The server's verifier is another than the proxy's.
    OtherVerifier,
    /// What is known is no good for SCRAM.
    Useless,
}

impl Proofs {
    /// Those of the configuration.
    pub fn of(user: &User) -> Arc<Self> {
        let state = State { credentials: user.credentials.clone(), ..State::default() };
        Arc::new(Self { user: user.name.clone(), state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is anything to prove with, so that opening connections ahead of clients is worth trying.
    pub fn are_there(&self) -> bool {
        let state = self.state();
        let known = |credential: &Credential| !matches!(credential, Credential::Scram(_));
        state.credentials.is_empty() || state.credentials.iter().any(known) || !state.learned.is_empty()
    }

    /// Takes other credentials of the user; whether they differ. Keys that fit none of the new ones are forgotten.
    pub fn replace(&self, credentials: &[Credential]) -> bool {
        let mut state = self.state();
        if secret::are_same(&state.credentials, credentials) {
            return false;
        }
        state.credentials = credentials.to_vec();
        state.preferred = 0;
        let fits =
            |keys: &Keys| credentials.iter().any(|known| verifier_of(known).is_some_and(|it| it.takes(keys)));
        state.learned.retain(fits);
        state.derived.clear();
        true
    }

    /// Keeps keys that a client has shown, if they are those of a verifier of the user; whether they are new.
    pub fn learn(&self, keys: &Keys) -> bool {
        let mut state = self.state();
        let verifiers = || state.credentials.iter().filter_map(verifier_of);
        let news = verifiers()
            .any(|verifier| verifier.takes(keys) && !state.learned.iter().any(|known| known.is_same(keys)));
        if news && state.learned.len() < REMEMBERED {
            state.learned.push(keys.clone());
        }
        news
    }

    /// Every way to try, the one that worked last first.
    pub(super) fn attempts(&self) -> Vec<Attempt> {
        let state = self.state();
        let mut attempts: Vec<_> = state
            .credentials
            .iter()
            .enumerate()
            .map(|(place, credential)| Attempt { credential: Some(credential.clone()), place })
            .collect();
        if attempts.is_empty() {
            attempts.push(Attempt { credential: None, place: 0 });
        }
        attempts.sort_by_key(|attempt| attempt.place != state.preferred);
        attempts
    }

    /// A server took this one.
    pub(super) fn worked(&self, attempt: &Attempt) {
        self.state().preferred = attempt.place;
    }

    /// The 32 digits for a server that asks for MD5.
    pub(super) fn md5(&self, attempt: &Attempt) -> Option<Secret> {
        attempt.credential.as_ref()?.md5(&self.user)
    }

    /// The keys for a server's challenge. Derives them on a thread of its own where that takes long.
    pub(super) async fn keys(
        &self,
        attempt: &Attempt,
        salt: &[u8],
        iterations: NonZeroU32,
    ) -> Result<Keys, NoKeys> {
        let password = match &attempt.credential {
            Some(Credential::Scram(verifier)) => return self.learned(verifier, salt, iterations),
            Some(Credential::Password(password)) => password.clone(),
            Some(Credential::Md5(_)) | None => return Err(NoKeys::Useless),
        };
        let known = self.state().derived.iter().find_map(|known| {
            let same = known.salt == salt && known.iterations == iterations;
            (same && known.password.is(password.expose())).then(|| known.keys.clone())
        });
        if let Some(keys) = known {
            return Ok(keys);
        }
        let (salt, secret) = (salt.to_vec(), password.clone());
        let (keys, salt) = if iterations.get() > BLOCKING_ITERATIONS {
            let derive = move || (Keys::derive(secret.expose(), &salt, iterations), salt);
            tokio::task::spawn_blocking(derive).await.map_err(|_| NoKeys::Useless)?
        } else {
            (Keys::derive(secret.expose(), &salt, iterations), salt)
        };
        let mut state = self.state();
        if state.derived.len() >= REMEMBERED {
            state.derived.remove(0);
        }
        state.derived.push(Derived { password, salt, iterations, keys: keys.clone() });
        Ok(keys)
    }

    fn learned(&self, verifier: &Verifier, salt: &[u8], iterations: NonZeroU32) -> Result<Keys, NoKeys> {
        if !verifier.is_salted(salt, iterations) {
            return Err(NoKeys::OtherVerifier);
        }
        let state = self.state();
        state.learned.iter().find(|keys| verifier.takes(keys)).cloned().ok_or(NoKeys::NotYet)
    }
}

fn verifier_of(credential: &Credential) -> Option<&Verifier> {
    match credential {
        Credential::Scram(verifier) => Some(verifier),
        Credential::Password(_) | Credential::Md5(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proofs(credentials: Vec<Credential>) -> Arc<Proofs> {
        Proofs::of(&User {
            name: "alice".into(),
            credentials,
            max_clients: None,
            max_server_connections: None,
        })
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn what_a_client_has_shown_is_kept_until_the_verifier_changes() {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
            WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let verifier = Verifier::parse(text).unwrap();
        let salt: Vec<u8> = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81".to_vec();
        let count = NonZeroU32::new(4096).unwrap();
        let known = proofs(vec![Credential::Scram(verifier.clone())]);
        let keys = |known: &Proofs| block(known.keys(&known.attempts()[0], &salt, count)).map(|_| ());
        assert!(!known.are_there());
        assert_eq!(keys(&known), Err(NoKeys::NotYet));
        assert!(!known.learn(&verifier.derive("another")), "not a right password");
        assert!(known.learn(&verifier.derive("pencil")));
        assert!(!known.learn(&verifier.derive("pencil")), "nothing new");
        assert!(known.are_there());
        assert_eq!(keys(&known), Ok(()));
        let more = NonZeroU32::new(5000).unwrap();
        let other = block(known.keys(&known.attempts()[0], &salt, more)).map(|_| ());
        assert_eq!(other, Err(NoKeys::OtherVerifier));

        assert!(!known.replace(&[Credential::Scram(verifier.clone())]), "the same");
        assert_eq!(keys(&known), Ok(()));
        assert!(known.replace(&[Credential::Scram(Verifier::of_password("pencil").unwrap())]));
        assert!(known.replace(&[Credential::Scram(verifier)]));
        assert_eq!(keys(&known), Err(NoKeys::NotYet), "forgotten with its verifier");
    }

    #[test]
    fn the_password_that_worked_last_is_tried_first() {
        let password = |text: &str| Credential::Password(Secret::new(text.into()));
        let known = proofs(vec![password("old"), password("new")]);
        let order = || known.attempts().iter().map(|attempt| attempt.place).collect::<Vec<_>>();
        assert_eq!(order(), [0, 1]);
        known.worked(&known.attempts()[1]);
        assert_eq!(order(), [1, 0]);
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let known = proofs(vec![Credential::Password(Secret::new("sesame".into()))]);
        block(known.keys(&known.attempts()[0], b"salt", NonZeroU32::MIN)).map(|_| ()).unwrap();
        let printed = format!("{known:?} {:?}", known.attempts());
        assert!(!printed.contains("sesame"), "{printed}");
    }
}
