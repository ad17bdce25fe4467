//! What a reload replaces: encryption, rules, users, and what is made of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::imitation::{Appearance, Imitation};
use crate::config::{Authentication, Config, Tls, User};
use crate::hba::Rule;
use crate::scram::Verifier;
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
    /// What a configuration comes to. `secret` makes the salts, and is the same for as long as the process lives. Where
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
