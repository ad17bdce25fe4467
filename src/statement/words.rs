//! The names that a text uses: relations, functions, types, and what may be a function in disguise (`row.f`). Whoever
//! knows that some of them do more than they say can tell whether a text has to do with them.

use crate::fnv::fnv1a_32;

/// Names that are held without an allocation. Most texts have no more.
const HELD: usize = 8;

/// Names by their hashes. Other names may have the same: who asks gets a yes too many, never a no.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Words {
    held: [u32; HELD],
    count: u8,
    /// All of them, if there are more than that.
    more: Box<[u32]>,
    uncertain: bool,
}

impl Words {
    /// Of a text that may use any.
    pub fn any() -> Self {
        Self { uncertain: true, ..Self::default() }
    }

    /// Whether the text may use a name of which `others`, in ascending order, has the hash.
    pub fn meet(&self, others: &[u32]) -> bool {
        !others.is_empty()
            && (self.uncertain || self.hashes().iter().any(|hash| others.binary_search(hash).is_ok()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes().is_empty() && !self.uncertain
    }

    fn hashes(&self) -> &[u32] {
        if self.more.is_empty() { &self.held[..usize::from(self.count)] } else { &self.more }
    }

    /// The hash of a name as the catalogue has it.
    pub fn hash(name: &str) -> u32 {
        fnv1a_32(name.as_bytes())
    }
}

/// Names that are gathered without an allocation.
const FEW: usize = 24;

/// Names of a text that are told apart. A text with more may use any.
const MOST: usize = 1_000;

/// Names on their way to be [`Words`].
pub(super) struct Gathered {
    few: [u32; FEW],
    count: usize,
    more: Vec<u32>,
    uncertain: bool,
}

impl Gathered {
    pub(super) fn new() -> Self {
        Self { few: [0; FEW], count: 0, more: Vec::new(), uncertain: false }
    }

    pub(super) fn add(&mut self, name: &str) {
        let hash = Words::hash(name);
        if let Some(place) = self.few.get_mut(self.count) {
            *place = hash;
            self.count += 1;
        } else if self.more.len() < MOST {
            self.more.push(hash);
        } else {
            self.uncertain = true;
        }
    }

    /// A name that is not known as the server will have it.
    pub(super) fn add_uncertain(&mut self) {
        self.uncertain = true;
    }

    pub(super) fn words(mut self) -> Words {
        if self.uncertain {
            return Words::any();
        }
        let few = &mut self.few[..self.count];
        if !self.more.is_empty() {
            self.more.extend_from_slice(few);
            self.more.sort_unstable();
            self.more.dedup();
            return Words { more: self.more.into(), ..Words::default() };
        }
        few.sort_unstable();
        let mut words = Words::default();
        let mut last = None;
        for hash in few.iter().filter(|hash| last.replace(**hash) != Some(**hash)) {
            let Some(place) = words.held.get_mut(usize::from(words.count)) else {
                return Words { more: (&*few).into(), ..Words::default() };
            };
            *place = *hash;
            words.count += 1;
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(names: &[&str]) -> Vec<u32> {
        let mut hashes: Vec<_> = names.iter().map(|name| Words::hash(name)).collect();
        hashes.sort_unstable();
        hashes
    }

    #[test]
    fn a_text_meets_the_names_that_it_uses() {
        let mut gathered = Gathered::new();
        ["orders", "set_tenant", "orders"].iter().for_each(|name| gathered.add(name));
        let words = gathered.words();
        assert!(words.meet(&hashes(&["x", "set_tenant"])));
        assert!(!words.meet(&hashes(&["x", "Orders", "order"])));
        assert!(!words.meet(&[]));
        assert!(!words.is_empty() && Words::default().is_empty());
    }

    #[test]
    fn many_names_are_all_there_and_too_many_may_be_any() {
        let mut gathered = Gathered::new();
        (0..500).for_each(|n| gathered.add(&format!("t{n}")));
        let words = gathered.words();
        assert!((0..500).all(|n| words.meet(&hashes(&[&format!("t{n}")]))));
        assert!(!words.meet(&hashes(&["t500"])));
        let mut gathered = Gathered::new();
        (0..5_000).for_each(|n| gathered.add(&format!("t{n}")));
        assert!(gathered.words().meet(&hashes(&["anything"])));
        assert!(Words::any().meet(&hashes(&["anything"])) && !Words::any().meet(&[]));
    }
}
