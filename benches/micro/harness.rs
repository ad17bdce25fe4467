//! Who runs the benches: criterion, against the clock; or nobody but a loop, so many times and no more, for whoever counts
//! instructions (`benches/micro/instructions`).

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion};

/// What is to become of the benches.
pub(crate) enum Benches {
    /// All that the command line selects are measured.
    Timed(Box<Criterion>),
    /// `--count TIMES NAME`: the one of that name runs so many times.
    Counted(u64, String),
    /// `--names`: each says its name.
    Named,
}

/// What runs one of them.
pub(crate) enum Bencher<'b, 'c> {
    Timed(&'b mut criterion::Bencher<'c>),
    Counted(u64),
}

impl Benches {
    pub(crate) fn from_arguments() -> Self {
        let arguments: Vec<_> = std::env::args().collect();
        let place = |flag: &str| arguments.iter().position(|argument| argument == flag);
        if place("--names").is_some() {
            return Self::Named;
        }
        if let Some(place) = place("--count") {
            return Self::Counted(arguments[place + 1].parse().unwrap(), arguments[place + 2].clone());
        }
        let criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        Self::Timed(Box::new(criterion.configure_from_args()))
    }

    pub(crate) fn bench(&mut self, name: &str, mut bench: impl FnMut(&mut Bencher<'_, '_>)) {
        match self {
            Self::Timed(criterion) => {
                criterion.bench_function(name, |bencher| bench(&mut Bencher::Timed(bencher)));
            }
            Self::Counted(times, wanted) if wanted == name => bench(&mut Bencher::Counted(*times)),
            Self::Counted(..) => {}
            Self::Named => println!("{name}"),
        }
    }

    pub(crate) fn end(self) {
        if let Self::Timed(criterion) = self {
            criterion.final_summary();
        }
    }
}

impl Bencher<'_, '_> {
    pub(crate) fn iter<O>(&mut self, mut routine: impl FnMut() -> O) {
        match self {
            Self::Timed(bencher) => bencher.iter(routine),
            Self::Counted(times) => (0..*times).for_each(|_| drop(black_box(routine()))),
        }
    }

    /// Each time with something new, whose making is not measured, but counted.
    pub(crate) fn iter_with<I, O>(
        &mut self,
        mut make: impl FnMut() -> I,
        mut routine: impl FnMut(&mut I) -> O,
    ) {
        match self {
            Self::Timed(bencher) => bencher.iter_batched_ref(make, routine, BatchSize::SmallInput),
            Self::Counted(times) => (0..*times).for_each(|_| drop(black_box(routine(&mut make())))),
        }
    }

    /// The routine measures so many turns itself.
    pub(crate) fn iter_custom(&mut self, mut routine: impl FnMut(u64) -> Duration) {
        match self {
            Self::Timed(bencher) => bencher.iter_custom(routine),
            Self::Counted(times) => drop(routine(*times)),
        }
    }
}
