//! Counters that are kept elsewhere and only read at a scrape.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Error, Opts};

use super::families::{counter, family};

type Read = Box<dyn Fn() -> u64 + Send + Sync>;

/// One of them.
pub(super) struct Watched {
    family: (&'static str, &'static str),
    description: Desc,
    read: Read,
}

impl Watched {
    pub(super) fn new(family: (&'static str, &'static str), read: Read) -> Result<Self, Error> {
        use prometheus::core::Describer as _;
        Ok(Self { family, description: Opts::new(family.0, family.1).describe()?, read })
    }
}

impl Collector for Watched {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        vec![family(self.family, MetricType::COUNTER, vec![counter(Vec::new(), (self.read)())])]
    }
}
