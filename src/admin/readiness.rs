//! Whether the proxy is ready for clients.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether the proxy is ready for clients.
#[derive(Debug, Default)]
pub struct Readiness {
    missing: AtomicUsize,
    draining: AtomicBool,
}

impl Readiness {
    /// Not ready until so many targets have answered.
    pub fn waits_for(targets: usize) -> Self {
        Self { missing: AtomicUsize::new(targets), draining: AtomicBool::new(false) }
    }

    /// One of them has.
    pub fn answered(&self) {
        let less = |missing: usize| missing.checked_sub(1);
        let _ = self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Never ready again.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why not, or `Ok`.
    pub fn check(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("draining\n".into());
        }
        match self.missing.load(Ordering::Relaxed) {
            0 => Ok(()),
            missing => Err(format!("{missing} required targets have not answered yet\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_required_target_has_answered_and_nothing_drains() {
        let readiness = Readiness::waits_for(2);
        assert!(readiness.check().is_err());
        readiness.answered();
        assert!(readiness.check().unwrap_err().contains('1'));
        readiness.answered();
        assert_eq!(readiness.check(), Ok(()));
        readiness.answered();
        assert_eq!(readiness.check(), Ok(()));
        readiness.drain();
        assert!(readiness.check().is_err());
    }
}
