//! A connection that is on its way, so that the queue's count of those comes out right whatever becomes of it.

use std::sync::Arc;

use super::Pool;

/// A connection that is being opened, as the queue was told, until it is there or is given up, for whatever reason.
#[derive(Debug)]
pub(super) struct Opening {
    pool: Arc<Pool>,
    over: bool,
}

impl Opening {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, over: false }
    }

    pub(super) async fn run(mut self, worker: usize) {
        let opened = self.pool.try_open(worker).await;
        self.over = true;
        match opened {
            Ok(slot) => {
                *self.pool.failure() = None;
                self.pool.queue().opened();
                self.pool.hand_on(slot, worker);
            }
            Err(error) => {
                self.pool.queue().opening_ended();
                self.pool.opening_failed(error);
            }
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.over {
            self.pool.queue().opening_ended();
        }
    }
}
