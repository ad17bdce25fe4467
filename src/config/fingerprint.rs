//! What tells configurations apart, for whoever compares replicas.

use aws_lc_rs::digest;

use super::Config;

/// Tells configurations apart: 16 hexadecimal digits that are the same wherever the same is configured with the same
/// certificates. Secrets are not in it, so that nobody can try passwords on it.
pub fn fingerprint(config: &Config) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{config:?}").as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
