//! What a tree of entities has spent, against what it may spend.
//!
//! A child draws on its own bounds and on those of everybody above it, so nothing has to be set aside for it and what it
//! leaves is there for the next. Turns are not in here: `max_turns` bounds each entity's own loop (WARD-1).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cantrip_gates::ResolvedWards;

use super::loom::Spent;

/// What is spent by a whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Tokens of questions and answers.
    Tokens,
    /// Gate calls.
    GateCalls,
    /// Children.
    Children,
    /// Instructions of code media.
    Fuel,
}

impl Quantity {
    /// The ward that bounds it.
    pub const fn ward(self) -> &'static str {
        match self {
            Self::Tokens => "max_tokens",
            Self::GateCalls => "max_gate_calls",
            Self::Children => "max_children",
            Self::Fuel => "max_fuel",
        }
    }
}

/// A bound that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// What of.
    pub quantity: Quantity,
    /// The bound.
    pub limit: u64,
    /// Whether the bound is of an entity further up.
    pub of_ancestor: bool,
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whose = if self.of_ancestor { " of an entity further up" } else { "" };
        write!(out, "the ward {} = {}{whose} is used up", self.quantity.ward(), self.limit)
    }
}

#[derive(Debug)]
struct Account {
    limit: Option<u64>,
    spent: AtomicU64,
    /// How much of it is what a record says of whoever is not gone on with yet.
    prepaid: AtomicU64,
}

impl Account {
    const fn new(limit: Option<u64>) -> Self {
        Self { limit, spent: AtomicU64::new(0), prepaid: AtomicU64::new(0) }
    }

    fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    /// Adds what was spent, whatever somebody else claims that it is: what is used up stays used up. Says what was spent before.
    fn add(&self, amount: u64) -> u64 {
        let more = |spent: u64| Some(spent.saturating_add(amount));
        match self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(before) | Err(before) => before,
        }
    }

    /// Takes back what was added.
    fn take_back(&self, amount: u64) {
        let less = |spent: u64| Some(spent.saturating_sub(amount));
        // It always is updated: the function never refuses.
        let _before = self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// The accounts of one entity, and through it of everybody above.
#[derive(Debug)]
pub struct Ledger {
    tokens: Account,
    gate_calls: Account,
    children: Account,
    fuel: Account,
    parent: Option<Arc<Ledger>>,
}

impl Ledger {
    /// Opens accounts with an entity's wards, below those of its parent.
    pub fn new(wards: &ResolvedWards, parent: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            tokens: Account::new(wards.declared.max_tokens),
            gate_calls: Account::new(Some(wards.max_gate_calls)),
            children: Account::new(Some(wards.max_children)),
            fuel: Account::new(wards.declared.max_fuel),
            parent,
        })
    }

    const fn account(&self, quantity: Quantity) -> &Account {
        match quantity {
            Quantity::Tokens => &self.tokens,
            Quantity::GateCalls => &self.gate_calls,
            Quantity::Children => &self.children,
            Quantity::Fuel => &self.fuel,
        }
    }

    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |ledger| ledger.parent.as_deref())
    }

    /// Spends before the fact: what would pass a bound is refused, and then nothing is spent.
    ///
    /// # Errors
    /// The bound that is used up.
    pub fn take(&self, quantity: Quantity, amount: u64) -> Result<(), Exhausted> {
        for (index, ledger) in self.chain().enumerate() {
            let account = ledger.account(quantity);
            let before = account.add(amount);
            let Some(limit) = account.limit else { continue };
            if before.saturating_add(amount) > limit {
                for taken in self.chain().take(index + 1) {
                    taken.account(quantity).take_back(amount);
                }
                return Err(Exhausted { quantity, limit, of_ancestor: index > 0 });
            }
        }
        Ok(())
    }

    /// Spends after the fact, for what is known only then.
    pub fn charge(&self, quantity: Quantity, amount: u64) {
        for ledger in self.chain() {
            ledger.account(quantity).add(amount);
        }
    }

    /// Spends what a record says of a turn that was cut off, before anything of it goes on: whoever goes on first has no more than is left.
    /// Whoever it was spent by [says so](Self::charge_recorded) when it is gone on with.
    pub fn prepay(&self, spent: &Spent) {
        for (quantity, amount) in spent.quantities() {
            let account = self.account(quantity);
            account.add(amount);
            account.prepaid.store(amount, Ordering::Relaxed);
        }
    }

    /// Spends what a record says was spent, unless it was prepaid.
    pub fn charge_recorded(&self, quantity: Quantity, amount: u64) {
        for ledger in self.chain() {
            let account = ledger.account(quantity);
            let take = |prepaid: u64| Some(prepaid.saturating_sub(amount));
            let prepaid = match account.prepaid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
                Ok(before) | Err(before) => before.min(amount),
            };
            account.add(amount.saturating_sub(prepaid));
        }
    }

    /// The same for everything that an entity and everybody below it have spent.
    pub fn charge_all_recorded(&self, spent: &Spent) {
        for (quantity, amount) in spent.quantities() {
            self.charge_recorded(quantity, amount);
        }
    }

    /// Sets aside for somebody elsewhere as much as is left, up to an amount; nothing if there is no bound at all. A tenth stays
    /// here, and at least one: of what is lost on another machine nothing comes back, and this entity has to be able to end.
    pub fn reserve(&self, quantity: Quantity, at_most: Option<u64>, shares: u64) -> Option<u64> {
        let left = self.left(quantity).map(|left| left.saturating_sub((left / 10).max(1)) / shares.max(1));
        let amount = left.into_iter().chain(at_most).min()?;
        // Somebody else may have been quicker: then nothing is left to set aside.
        Some(if self.take(quantity, amount).is_ok() { amount } else { 0 })
    }

    /// Gives back what was set aside and not spent.
    pub fn refund(&self, quantity: Quantity, amount: u64) {
        for ledger in self.chain() {
            ledger.account(quantity).take_back(amount);
        }
    }

    /// The first bound, from here up, of which nothing is left.
    pub fn exhausted(&self, quantity: Quantity) -> Option<Exhausted> {
        self.chain().enumerate().find_map(|(index, ledger)| {
            let account = ledger.account(quantity);
            let limit = account.limit.filter(|&limit| account.spent() >= limit)?;
            Some(Exhausted { quantity, limit, of_ancestor: index > 0 })
        })
    }

    /// What is left under all bounds; nothing if there is no bound.
    pub fn left(&self, quantity: Quantity) -> Option<u64> {
        self.chain()
            .filter_map(|ledger| {
                let account = ledger.account(quantity);
                account.limit.map(|limit| limit.saturating_sub(account.spent()))
            })
            .min()
    }

    /// What this entity and everybody below it have spent.
    pub fn spent(&self, quantity: Quantity) -> u64 {
        self.account(quantity).spent()
    }
}

impl Spent {
    /// What of it counts against budgets.
    fn quantities(&self) -> [(Quantity, u64); 4] {
        let tokens = self.usage.total().saturating_add(self.children_usage.total());
        [
            (Quantity::Tokens, tokens),
            (Quantity::GateCalls, self.gate_calls),
            (Quantity::Children, self.children),
            (Quantity::Fuel, self.fuel),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cantrip_gates::Wards;

    fn ledger(max_gate_calls: u64, parent: Option<Arc<Ledger>>) -> Arc<Ledger> {
        Ledger::new(&Wards { max_gate_calls: Some(max_gate_calls), ..Wards::default() }.resolved(), parent)
    }

    #[test]
    fn a_child_draws_on_everybody_above_it_and_leaves_the_rest() {
        let parent = ledger(5, None);
        let child = ledger(3, Some(Arc::clone(&parent)));
        for _ in 0..3 {
            assert_eq!(child.take(Quantity::GateCalls, 1), Ok(()));
        }
        let refused = Exhausted { quantity: Quantity::GateCalls, limit: 3, of_ancestor: false };
        assert_eq!(child.take(Quantity::GateCalls, 1), Err(refused));
        assert_eq!(parent.left(Quantity::GateCalls), Some(2));
        let second = ledger(3, Some(Arc::clone(&parent)));
        assert_eq!(second.take(Quantity::GateCalls, 2), Ok(()));
        let refused = Exhausted { quantity: Quantity::GateCalls, limit: 5, of_ancestor: true };
        assert_eq!(second.take(Quantity::GateCalls, 1), Err(refused));
        assert_eq!((second.spent(Quantity::GateCalls), parent.spent(Quantity::GateCalls)), (2, 5));
    }

    #[test]
    fn what_is_charged_afterwards_shows_as_exhausted() {
        let wards = Wards { max_tokens: Some(10), ..Wards::default() }.resolved();
        let ledger = Ledger::new(&wards, None);
        ledger.charge(Quantity::Tokens, 9);
        assert_eq!(ledger.exhausted(Quantity::Tokens), None);
        ledger.charge(Quantity::Tokens, 9);
        assert!(ledger.exhausted(Quantity::Tokens).is_some());
        assert_eq!(ledger.left(Quantity::Tokens), Some(0));
    }
}
