//! In which order, and with which others, pictures are seen in an epoch.

use std::collections::BTreeMap;

use crate::random::SplitMix64;

/// Batches of the indices `0 .. buckets.len()`, each once, in a new order each epoch. The pictures of a batch share a
/// bucket; a bucket's last batch may be smaller than the others. A `batch_size` of 0 counts as 1.
pub(super) fn epoch_batches(
    buckets: &[(usize, usize)],
    epoch: u64,
    batch_size: usize,
    seed: u64,
) -> Vec<Vec<usize>> {
    let mut random = SplitMix64::named(seed, &format!("batches of epoch {epoch}"));
    // Sorted by size, so that the order of drawing is fixed.
    let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (index, &bucket) in buckets.iter().enumerate() {
        groups.entry(bucket).or_default().push(index);
    }
    let mut batches = Vec::new();
    for group in groups.values_mut() {
        random.shuffle(group);
        batches.extend(group.chunks(batch_size.max(1)).map(<[usize]>::to_vec));
    }
    random.shuffle(&mut batches);
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_picture_is_seen_once_among_its_like(
            buckets in proptest::collection::vec(0_usize..3, 0..40),
            batch_size in 0_usize..6,
            epoch in 0_u64..100,
            seed in 0_u64..1000,
        ) {
            let buckets: Vec<_> = buckets.iter().map(|side| (*side, 8)).collect();
            let batches = epoch_batches(&buckets, epoch, batch_size, seed);
            prop_assert_eq!(&batches, &epoch_batches(&buckets, epoch, batch_size, seed));
            for batch in &batches {
                prop_assert!((1..=batch_size.max(1)).contains(&batch.len()));
                prop_assert!(batch.iter().all(|&index| buckets[index] == buckets[batch[0]]));
            }
            let mut all = batches.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..buckets.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn epochs_and_seeds_have_their_own_order() {
        let buckets = [(8, 8); 50];
        let first = epoch_batches(&buckets, 0, 4, 0);
        assert_eq!(first.len(), 13);
        assert_ne!(first, epoch_batches(&buckets, 1, 4, 0));
        assert_ne!(first, epoch_batches(&buckets, 0, 4, 1));
    }
}
