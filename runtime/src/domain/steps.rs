//! Counts work in tests, so that a property such as "twice the input takes at most twice the steps" holds on a busy machine too.

pub(crate) use counted::*;

#[cfg(not(test))]
mod counted {
    /// Does nothing: steps are counted in tests alone.
    pub(crate) const fn count(_steps: u64) {}
}

#[cfg(test)]
mod counted {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    /// Counts steps of the running test.
    pub(crate) fn count(steps: u64) {
        STEPS.with(|sum| sum.set(sum.get().saturating_add(steps)));
    }

    /// How many steps some work takes.
    pub(crate) fn of(work: impl FnOnce()) -> u64 {
        STEPS.with(|sum| sum.set(0));
        work();
        STEPS.with(Cell::get)
    }
}
