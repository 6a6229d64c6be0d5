//! Which blocks are deleted, swapped or on a path: random draws, each a function of the seed, its
//! kind, its size and its index alone, so that every split and every batch sees the same.

use ir_models::Block;
use ir_tensor_ops::random;
use rand::seq::{IndexedRandom, index};

const DELETE: u64 = u64::from_le_bytes(*b"delete \0");
const REORDER: u64 = u64::from_le_bytes(*b"reorder\0");
const PATH: u64 = u64::from_le_bytes(*b"path   \0");

/// How many draws of each size, and what they are a function of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draws {
    pub(crate) count: usize,
    pub(crate) seed: u64,
}

/// The sizes that are tried where at most `most` can be: 1, 2, 3, 5, 8, 12, 16, 20, then in tens.
pub(crate) fn sizes(most: usize) -> impl Iterator<Item = usize> {
    let first = [1, 2, 3, 5, 8, 12, 16];
    let sizes = first.into_iter().chain((20..).step_by(10));
    sizes.take_while(move |&size| size <= most)
}

/// The blocks that are not transitions.
pub(crate) fn ordinary(blocks: &[Block]) -> Vec<usize> {
    let all = 0..blocks.len();
    all.filter(|&block| !blocks[block].transition).collect()
}

impl Draws {
    /// Sets of `size` blocks to delete, none of them a transition.
    pub(crate) fn deletions(self, blocks: &[Block], size: usize) -> Vec<Vec<usize>> {
        let ordinary = ordinary(blocks);
        let name = |places: Vec<usize>| places.into_iter().map(|place| ordinary[place]).collect();
        let subsets = self.subsets(ordinary.len(), size, DELETE);
        subsets.into_iter().map(name).collect()
    }

    /// Sets of `length` blocks whose branches are on a path.
    pub(crate) fn paths(self, blocks: usize, length: usize) -> Vec<Vec<usize>> {
        self.subsets(blocks, length, PATH)
    }

    /// Orders after `swaps` swaps, each of two different ordinary blocks of one stage, all such
    /// pairs of places equally likely. Empty where there is no such pair.
    pub(crate) fn orders(self, blocks: &[Block], swaps: usize) -> Vec<Vec<usize>> {
        let ordinary = ordinary(blocks);
        let mut pairs = Vec::new();
        for (index, &a) in ordinary.iter().enumerate() {
            let later = ordinary[index + 1..].iter();
            let same_stage = later.filter(|&&b| blocks[a].stage == blocks[b].stage);
            pairs.extend(same_stage.map(|&b| (a, b)));
        }
        if pairs.is_empty() {
            return Vec::new();
        }
        let order = |draw: usize| {
            let mut random = random::stream(self.seed, swaps as u64, draw as u64, REORDER);
            let mut order: Vec<usize> = (0..blocks.len()).collect();
            for _ in 0..swaps {
                if let Some(&(a, b)) = pairs.choose(&mut random) {
                    order.swap(a, b);
                }
            }
            order
        };
        (0..self.count).map(order).collect()
    }

    /// `count` different subsets of `size` out of 0 … `of` − 1, or all there are if they are no
    /// more; each in ascending order.
    fn subsets(self, of: usize, size: usize, purpose: u64) -> Vec<Vec<usize>> {
        if binomial(of, size) <= self.count as f64 {
            return all_subsets(of, size);
        }
        let mut drawn: Vec<Vec<usize>> = Vec::new();
        for draw in 0.. {
            if drawn.len() == self.count {
                break;
            }
            let mut random = random::stream(self.seed, size as u64, draw, purpose);
            let mut subset = index::sample(&mut random, of, size).into_vec();
            subset.sort_unstable();
            if !drawn.contains(&subset) {
                drawn.push(subset);
            }
        }
        drawn
    }
}

/// Number of subsets of `size` out of `of`, rounded to f64; exact below 2⁵³.
pub(crate) fn binomial(of: usize, size: usize) -> f64 {
    if size > of {
        return 0.0;
    }
    // After each factor the product is itself a number of subsets, so the division is exact as long
    // as the product is.
    (0..size.min(of - size)).fold(1.0, |product, k| product * (of - k) as f64 / (k + 1) as f64)
}

/// All subsets of `size` out of 0 … `of` − 1, in lexicographic order.
fn all_subsets(of: usize, size: usize) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    if size > of {
        return all;
    }
    let mut subset: Vec<usize> = (0..size).collect();
    loop {
        all.push(subset.clone());
        // The last place that can still move up; all behind it follow it directly.
        let Some(place) = (0..size)
            .rev()
            .find(|&place| subset[place] < of - size + place)
        else {
            return all;
        };
        let next = subset[place] + 1;
        for (offset, entry) in subset[place..].iter_mut().enumerate() {
            *entry = next + offset;
        }
    }
}

/// Kendall's τ of an order of 0 … n − 1 against the ascending one: (pairs in order − pairs out of
/// order) / (n (n − 1) / 2). 1 for fewer than two.
pub(crate) fn kendall_tau(order: &[usize]) -> f64 {
    let count = order.len();
    if count < 2 {
        return 1.0;
    }
    let later = |place: usize| order[place + 1..].iter();
    let inversions: usize = (0..count)
        .map(|place| later(place).filter(|&&other| other < order[place]).count())
        .sum();
    1.0 - 4.0 * inversions as f64 / (count * (count - 1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: Draws = Draws { count: 5, seed: 3 };

    fn block(stage: usize, transition: bool) -> Block {
        Block { stage, transition }
    }

    /// Two stages of four, of which the second begins with a transition.
    fn two_stages() -> Vec<Block> {
        let block = |place: usize| block(place / 4, place == 4);
        (0..8).map(block).collect()
    }

    #[test]
    fn sizes_stop_at_what_there_is() {
        assert_eq!(sizes(0).count(), 0);
        assert_eq!(sizes(13).collect::<Vec<_>>(), [1, 2, 3, 5, 8, 12]);
        assert_eq!(sizes(52).last(), Some(50));
    }

    #[test]
    fn binomial_coefficients() {
        for (of, size, expected) in [(4, 2, 6.0), (54, 0, 1.0), (3, 4, 0.0), (0, 0, 1.0)] {
            assert_eq!(binomial(of, size), expected);
        }
        // 54! / (27!)², below 2⁵³.
        assert_eq!(binomial(54, 27), 1_946_939_425_648_112.0);
        // Pascal's rule, and the sum over a row.
        for of in 1..=40 {
            let row: f64 = (0..=of).map(|size| binomial(of, size)).sum();
            assert_eq!(row, 2f64.powi(of as i32));
            for size in 1..=of {
                let above = binomial(of - 1, size - 1) + binomial(of - 1, size);
                assert_eq!(binomial(of, size), above);
            }
        }
    }

    #[test]
    fn all_subsets_are_as_many_as_the_binomial_says_and_differ() {
        for of in 0..7 {
            for size in 0..=of {
                let all = all_subsets(of, size);
                assert_eq!(all.len() as f64, binomial(of, size));
                assert!(all.is_sorted_by(|a, b| a < b));
                let sound = |set: &Vec<usize>| {
                    set.is_sorted_by(|a, b| a < b) && set.iter().all(|&x| x < of)
                };
                assert!(all.iter().all(sound));
            }
        }
    }

    #[test]
    fn draws_differ_and_are_the_same_again() {
        let blocks = two_stages();
        let drawn = DRAWS.deletions(&blocks, 3);
        assert_eq!(drawn, DRAWS.deletions(&blocks, 3));
        assert_eq!(drawn.len(), 5);
        for (index, set) in drawn.iter().enumerate() {
            assert!(set.len() == 3 && !set.contains(&4), "{set:?}");
            assert!(!drawn[..index].contains(set));
        }
        // More draws begin with the same ones; another seed gives others.
        let more = Draws { count: 9, ..DRAWS }.deletions(&blocks, 3);
        assert_eq!(more[..5], drawn);
        assert_ne!(Draws { seed: 4, ..DRAWS }.deletions(&blocks, 3), drawn);
        // 7 blocks can be deleted, so there is one way to delete all and none to delete 8.
        assert_eq!(DRAWS.deletions(&blocks, 7), [[0, 1, 2, 3, 5, 6, 7]]);
        assert!(DRAWS.deletions(&blocks, 8).is_empty());
    }

    #[test]
    fn every_block_is_drawn_equally_often() {
        let draws = Draws {
            count: 3000,
            seed: 0,
        };
        let mut met = [0u32; 16];
        for path in draws.paths(16, 5) {
            path.iter().for_each(|&block| met[block] += 1);
        }
        // Each is in 5/16 of the draws, which differ: 937.5 ± 25.4. Six standard deviations.
        assert!(
            met.iter().all(|&count| (785..1090).contains(&count)),
            "{met:?}"
        );
    }

    #[test]
    fn swaps_stay_within_stages() {
        let blocks = two_stages();
        for swaps in [1, 2, 20] {
            for order in DRAWS.orders(&blocks, swaps) {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert!(sorted.iter().copied().eq(0..8));
                assert!(
                    order
                        .iter()
                        .enumerate()
                        .all(|(place, block)| place / 4 == block / 4)
                );
                assert_eq!(order[4], 4);
                let moved = order
                    .iter()
                    .enumerate()
                    .filter(|(place, block)| place != *block);
                assert!(swaps > 1 || moved.count() == 2);
            }
        }
        assert!(
            DRAWS
                .orders(&[block(0, false), block(1, false)], 1)
                .is_empty()
        );
    }

    #[test]
    fn kendall_tau_by_hand() {
        for (order, expected) in [
            (&[][..], 1.0),
            (&[0], 1.0),
            (&[0, 1, 2, 3], 1.0),
            (&[3, 2, 1, 0], -1.0),
            // One of six pairs out of order.
            (&[0, 2, 1, 3], 1.0 - 2.0 / 6.0),
            // The ends swapped: 5 of 6 pairs.
            (&[3, 1, 2, 0], 1.0 - 10.0 / 6.0),
        ] {
            assert!((kendall_tau(order) - expected).abs() < 1e-15, "{order:?}");
        }
    }

    /// The number of inversions is the number of swaps of neighbours that sorting takes.
    #[test]
    fn kendall_tau_counts_the_swaps_of_a_bubble_sort() {
        let blocks: Vec<Block> = (0..12).map(|_| block(0, false)).collect();
        let draws = Draws { count: 50, seed: 1 };
        for swaps in [1, 3, 30] {
            for order in draws.orders(&blocks, swaps) {
                let (mut sorting, mut sorted_by) = (order.clone(), 0);
                while let Some(place) = sorting.windows(2).position(|pair| pair[0] > pair[1]) {
                    sorting.swap(place, place + 1);
                    sorted_by += 1;
                }
                let expected = 1.0 - 2.0 * f64::from(sorted_by) / 66.0;
                assert!((kendall_tau(&order) - expected).abs() < 1e-15);
            }
        }
    }
}
