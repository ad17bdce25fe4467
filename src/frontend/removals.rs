//! What SQL removes of a client's prepared statements, from the sending of a DEALLOCATE to its answer.

use std::collections::VecDeque;

use super::names::Names;
use super::seldom::{Blank, Seldom};
use crate::statement::Effects;
use crate::wire::tag::Deallocated;

/// A DEALLOCATE that is on its way.
#[derive(Debug)]
struct Removal {
    /// `None` is all of them.
    name: Option<Box<str>>,
    /// The batch in which it was sent.
    epoch: u64,
}

/// Every DEALLOCATE that is not answered yet, in the order of their sending.
#[derive(Debug, Default)]
pub(super) struct Removals(Seldom<VecDeque<Removal>>);

impl Blank for VecDeque<Removal> {
    const BLANK: &'static Self = &Self::new();
}

impl Removals {
    /// SQL that is being sent in batch `epoch` removes prepared statements.
    pub(super) fn sent(&mut self, effects: &Effects, epoch: u64) {
        let names = effects.deallocates.iter().cloned().map(Some);
        let all = effects.deallocates_all.then_some(None);
        if effects.deallocates_all || !effects.deallocates.is_empty() {
            self.0.extend(names.chain(all).map(|name| Removal { name, epoch }));
        }
    }

    /// The server has carried one out.
    pub(super) fn done(&mut self, what: Deallocated, names: &mut Names) {
        let all = what == Deallocated::All;
        while let Some(removal) = self.0.get().pop_front() {
            match &removal.name {
                Some(name) if !all => return names.forget(name.as_bytes()),
                None if all => return names.forget_all(),
                // It was refused.
                _ => {}
            }
        }
    }

    /// Every batch before `epoch` is answered: what was not carried out by now never will be.
    pub(super) fn forget_before(&mut self, epoch: u64) {
        while self.0.front().is_some_and(|removal| removal.epoch < epoch) {
            self.0.pop_front();
        }
    }

    /// Whether one of an earlier batch than `epoch` is not answered yet.
    pub(super) fn are_open(&self, epoch: u64) -> bool {
        self.0.iter().any(|removal| removal.epoch < epoch)
    }

    /// Whether one would take this name.
    pub(super) fn take(&self, name: &[u8]) -> bool {
        self.0.iter().any(|removal| removal.name.as_ref().is_none_or(|removed| removed.as_bytes() == name))
    }
}
