//! The best of many, without keeping all of them.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Keeps the values of the greatest ranks.
#[derive(Debug)]
pub(super) struct Best<R, T> {
    most: usize,
    /// The least of those that are kept stands on top.
    kept: BinaryHeap<Reverse<Ranked<R, T>>>,
    offered: usize,
}

#[derive(Debug)]
struct Ranked<R, T> {
    rank: R,
    value: T,
}

impl<R: Ord, T> Best<R, T> {
    /// Keeps at most so many.
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::new(), offered: 0 }
    }

    /// Offers one more.
    pub(super) fn offer(&mut self, rank: R, value: T) {
        self.offered += 1;
        if self.kept.len() == self.most && self.least().is_some_and(|least| rank <= *least) {
            return;
        }
        self.kept.push(Reverse(Ranked { rank, value }));
        if self.kept.len() > self.most {
            self.kept.pop();
        }
    }

    /// How many were offered.
    pub(super) fn offered(&self) -> usize {
        self.offered
    }

    /// The least rank with which something is kept; `None` while there is room for more.
    pub(super) fn bar(&self) -> Option<&R> {
        if self.kept.len() < self.most { None } else { self.least() }
    }

    fn least(&self) -> Option<&R> {
        self.kept.peek().map(|Reverse(least)| &least.rank)
    }

    /// What is kept, the best first.
    pub(super) fn into_best_first(self) -> impl Iterator<Item = (R, T)> {
        self.kept.into_sorted_vec().into_iter().map(|Reverse(Ranked { rank, value })| (rank, value))
    }
}

impl<R: Ord, T> Ord for Ranked<R, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl<R: Ord, T> PartialOrd for Ranked<R, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Ord, T> PartialEq for Ranked<R, T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl<R: Ord, T> Eq for Ranked<R, T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_greatest_are_kept_in_order(mut ranks in prop::collection::vec(any::<u8>(), 0..40), most in 1_usize..10) {
            let mut best = Best::new(most);
            for rank in &ranks {
                best.offer(*rank, ());
            }
            prop_assert_eq!(best.offered(), ranks.len());
            ranks.sort_unstable_by(|one, other| other.cmp(one));
            prop_assert_eq!(best.bar(), ranks.get(most - 1));
            ranks.truncate(most);
            let kept: Vec<u8> = best.into_best_first().map(|(rank, ())| rank).collect();
            prop_assert_eq!(kept, ranks);
        }
    }
}
