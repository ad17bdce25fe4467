//! What few clients need, or all of them seldom: an idle client occupies a pointer for it.

use std::ops::{Deref, DerefMut};

/// Something that can be read before there is any.
pub(super) trait Blank: Default + 'static {
    /// As it is while nothing was written to it; the same as the default.
    const BLANK: &'static Self;
}

/// Memory for it is taken with the first use as `mut`, and kept: a client that needs it once will again.
#[derive(Debug)]
pub(super) struct Seldom<T>(Option<Box<T>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Seldom<T> {
    /// Whether nothing was ever written to it.
    pub(super) fn is_absent(&self) -> bool {
        self.0.is_none()
    }
}

impl<T: Default> Seldom<T> {
    /// To write to it.
    pub(super) fn get(&mut self) -> &mut T {
        self.0.get_or_insert_with(Box::default)
    }

    /// To read it, if anything was written to it.
    pub(super) fn read(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// Makes it blank where it is.
    pub(super) fn reset(&mut self) {
        if let Some(value) = &mut self.0 {
            **value = T::default();
        }
    }
}

impl<T: Blank> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

impl<T: Blank> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Blank for Vec<u8> {
        const BLANK: &'static Self = &Self::new();
    }

    #[test]
    fn it_can_be_read_without_memory_and_is_made_by_writing() {
        let mut seldom = Seldom::<Vec<u8>>::default();
        assert!(seldom.is_empty() && seldom.is_absent());
        seldom.push(1);
        assert!(seldom[..] == [1] && !seldom.is_absent());
        seldom.reset();
        assert!(seldom.is_empty() && !seldom.is_absent());
    }
}
