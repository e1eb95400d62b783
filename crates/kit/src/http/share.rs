//! How much of something one caller may hold at a time.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts what each caller holds.
#[derive(Clone)]
pub(super) struct Shares<K> {
    max: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

/// What one caller holds, until it is dropped.
pub(super) struct Share<K: Hash + Eq> {
    key: K,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, held: Arc::default() }
    }

    /// One more for this caller, unless that is more than a share.
    pub(super) fn take(&self, key: &K) -> Option<Share<K>> {
        let mut held = lock(&self.held);
        if held.get(key).copied().unwrap_or(0) >= self.max {
            return None;
        }
        *held.entry(key.clone()).or_default() += 1;
        Some(Share { key: key.clone(), held: Arc::clone(&self.held) })
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        let left = held.get_mut(self.key.borrow()).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            held.remove(&self.key);
        }
    }
}

/// Nothing that holds it can panic halfway.
fn lock<K>(held: &Mutex<HashMap<K, usize>>) -> MutexGuard<'_, HashMap<K, usize>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_more_than_a_share_and_what_is_given_back_is_free_again() {
        let shares = Shares::new(2);
        let (first, second) = (shares.take(&"ann").unwrap(), shares.take(&"ann").unwrap());
        assert!(shares.take(&"ann").is_none());
        let other = shares.take(&"bob").unwrap();
        drop(first);
        assert!(shares.take(&"ann").is_some());
        drop((second, other));
        assert!(lock(&shares.held).is_empty(), "who holds nothing is forgotten");
    }
}
