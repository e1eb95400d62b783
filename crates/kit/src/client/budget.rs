//! A retry budget: tries that are repeated stay a small part of all tries, so that retries never make an overload worse.

/// What one first try adds, in hundredths of a retry: of ten first tries, one may be repeated.
const EARNED: u32 = 10;
/// What a retry costs.
const COST: u32 = 100;
/// Retries that can be saved up, for a client that asks seldom.
const SAVED_MAX: u32 = 10 * COST;

/// Full at first; each first try adds a little, each retry takes a whole one.
#[derive(Debug)]
pub struct RetryBudget {
    saved: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { saved: SAVED_MAX }
    }
}

impl RetryBudget {
    /// A first try was made.
    pub fn earn(&mut self) {
        self.saved = (self.saved + EARNED).min(SAVED_MAX);
    }

    /// Whether a retry may be made now; if so, it is paid for.
    pub const fn spend(&mut self) -> bool {
        let affordable = self.saved >= COST;
        if affordable {
            self.saved -= COST;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_retries_are_saved_up_and_then_every_tenth_try_may_be_repeated() {
        let mut budget = RetryBudget::default();
        let repeated = (0..1000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        // Ten at the beginning, and one for every ten tries after the first, which found the budget full.
        assert_eq!(repeated.count(), 109);
    }

    #[test]
    fn what_is_not_spent_is_not_saved_without_end() {
        let mut budget = RetryBudget::default();
        (0..100_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10);
    }
}
