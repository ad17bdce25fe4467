//! The process's own limits.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// File descriptors beyond those of clients and server connections: listeners, logs, reactors, cancel requests.
const OWN: u64 = 128;

/// Raises the soft limit of file descriptors to the hard one, and says so if the clients that the configuration allows
/// would still not fit.
pub(super) fn raise_file_limit(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
    let pools = crate::config::budget::worst(config).iter().map(|worst| worst.total()).sum::<u64>();
    let needed = (config.proxy.max_clients + config.authentication.max_logins) as u64 + pools + OWN;
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "more clients and server connections are configured than the limit of open files (ulimit -n) allows"
        );
    }
}
