//! What a reload replaces: encryption, rules, users, and what is made of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::imitation::{Appearance, Imitation};
use crate::config::{Authentication, Config, Tls, User};
use crate::hba::Rule;
use crate::scram::{self, ScramError, Verifier};
use crate::secret;

/// What logins are judged by.
#[derive(Debug)]
pub(in crate::frontend) struct State {
    authentication: Authentication,
    tls: Tls,
    limit: Duration,
    users: HashMap<String, Arc<User>>,
    /// Of those users, made ahead: a password costs a millisecond of CPU.
    verifiers: HashMap<String, Verifier>,
    pub(super) imitation: Imitation,
}

impl State {
    /// What a configuration comes to. `secret` makes the salts, and is that of [`salt_secret`] at the start: a salt that
    /// changes tells who does not exist. Where
    /// users are looked up, those are imitated: who does not exist is looked up as well.
    pub(in crate::frontend) fn new(config: &Config, secret: [u8; 32]) -> Self {
        let (mut verifiers, mut known) = (HashMap::new(), Vec::new());
        let looked_up = config.authentication.lookup.is_some();
        for user in config.users.iter().filter(|user| !user.credentials.is_empty()) {
            let verifier = secret::verifier(&user.credentials, &user.name, &secret);
            if !looked_up {
                known.push(Appearance::of(&user.credentials, verifier.as_ref()));
            }
            verifiers.extend(verifier.map(|verifier| (user.name.clone(), verifier)));
        }
        Self {
            authentication: config.authentication.clone(),
            tls: config.tls.clone(),
            limit: config.proxy.login_timeout,
            users: config.users.iter().map(|user| (user.name.clone(), Arc::clone(user))).collect(),
            verifiers,
            imitation: Imitation::new(secret, known),
        }
    }

    /// How clients are encrypted.
    pub(in crate::frontend) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// How long a login may take.
    pub(in crate::frontend) fn limit(&self) -> Duration {
        self.limit
    }

    /// `None` is SCRAM-SHA-256 for everybody.
    pub(super) fn rules(&self) -> Option<&[Rule]> {
        self.authentication.rules.as_deref()
    }

    /// Limits.
    pub(super) fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// Whom the configuration knows by that name.
    pub(super) fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// Everybody whom it knows.
    pub(in crate::frontend) fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    pub(super) fn verifier(&self, name: &str) -> Option<&Verifier> {
        self.verifiers.get(name)
    }
}

/// What makes the salts of passwords, and of users who do not exist: the same after a restart where something secret is that is
/// the same. It is never made of passwords or their verifiers: whoever sees a salt could try passwords with it.
///
/// # Errors
/// The operating system gives no random numbers.
pub(in crate::frontend) fn salt_secret(config: &Config) -> Result<[u8; 32], ScramError> {
    match (&config.authentication.salt_secret, &config.tls.acceptor) {
        (Some(secret), _) => Ok(scram::salt_secret(secret.expose().as_bytes())),
        (None, Some(acceptor)) => Ok(scram::salt_secret(acceptor.key_hash().as_ref())),
        (None, None) => scram::random(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::generate;
    use std::path::Path;

    fn config(folder: &Path, tables: &str) -> Config {
        let text = format!(
            "{tables}\n[targets.main]\nhost = \"pg\"\n[users.app]\npassword = \"sesame\"\n[[routes]]\nuser = \"app\"\n"
        );
        crate::config::parse(&text, &folder.join("firepool.toml"), &|_| None).unwrap()
    }

    #[test]
    fn salts_are_made_of_what_is_the_same_after_a_restart_and_never_of_passwords() {
        let folder = std::env::temp_dir().join(format!("firepool-salts-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let made = [1, 2].map(|_| generate::self_signed(&["localhost"]).unwrap());
        let tls = "[tls]\ncertificate = \"a.crt\"\nkey = \"a.key\"";
        let put = |number: usize| {
            std::fs::write(folder.join("a.crt"), &made[number].certificate).unwrap();
            generate::write_key(&folder.join("a.key"), &made[number].key);
        };
        let secret = |tables: &str| salt_secret(&config(&folder, tables)).unwrap();
        put(0);
        let by_key = secret(tls);
        assert_eq!(secret(tls), by_key);
        assert_ne!(secret(""), secret(""), "passwords alone are nothing to make them of");
        let typed = format!("[authentication]\nsalt_secret = \"{}\"\n", "x".repeat(32));
        let by_secret = secret(&typed);
        assert_eq!(secret(&format!("{typed}{tls}")), by_secret, "what was typed comes first");
        assert_ne!(by_secret, by_key);
        assert_ne!(secret(&typed.replace("xx", "yx")), by_secret);
        put(1);
        assert_ne!(secret(tls), by_key);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
