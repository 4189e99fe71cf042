//! Nested dissection of pixels by their positions: an elimination order that keeps a Cholesky factor sparse.
//!
//! A. George, "Nested Dissection of a Regular Finite Element Mesh", SIAM Journal on Numerical Analysis 10(2), 1973.
//! The pixels are cut by two neighbouring rows or columns (the stencil reaches two steps), both sides are ordered in
//! the same way, and the cut comes last. On pixel grids this needs no graph and fills no more than minimum degree.

use std::ops::Range;

/// Groups this small are ordered along their longer side, which makes them a narrow band.
const LEAF: usize = 96;

/// The elimination order of pixels at `positions`: `order[i]` is the index of the pixel eliminated as number `i`.
pub(crate) fn order(positions: &[[u32; 2]]) -> Vec<u32> {
    let mut items: Vec<Item> =
        (0..).zip(positions).map(|(pixel, &at)| Item { at, pixel }).collect();
    // An explicit stack: the depth of the cuts is bounded, but by what the mask looks like.
    let mut groups: Vec<Range<usize>> = Vec::from_iter(Some(0..items.len()));
    let mut counts = Vec::new();
    while let Some(range) = groups.pop() {
        let group = &mut items[range.clone()];
        let axis = longer_axis(group);
        match (group.len() > LEAF).then(|| best_cut(group, axis, &mut counts)).flatten() {
            Some(cut) => {
                group.sort_unstable_by_key(|item| {
                    let side = item.at[axis];
                    let rank = if side < cut {
                        0
                    } else if side > cut + 1 {
                        1
                    } else {
                        2
                    };
                    (rank, if rank == 2 { item.at[1 - axis] } else { 0 }, side, item.pixel)
                });
                let low = group.partition_point(|item| item.at[axis] < cut);
                let sides = low + group[low..].partition_point(|item| item.at[axis] > cut + 1);
                groups.push(range.start..range.start + low);
                groups.push(range.start + low..range.start + sides);
            }
            None => group.sort_unstable_by_key(|item| (item.at[axis], item.at[1 - axis])),
        }
    }
    items.into_iter().map(|item| item.pixel).collect()
}

#[derive(Clone, Copy)]
struct Item {
    at: [u32; 2],
    pixel: u32,
}

fn extent(group: &[Item], axis: usize) -> (u32, u32) {
    group
        .iter()
        .fold((u32::MAX, 0), |(low, high), item| (low.min(item.at[axis]), high.max(item.at[axis])))
}

fn longer_axis(group: &[Item]) -> usize {
    let [x, y] = [0, 1].map(|axis| {
        let (low, high) = extent(group, axis);
        high.saturating_sub(low)
    });
    usize::from(y > x)
}

/// The first of the two neighbouring coordinates that hold the fewest pixels, with at least a third of the pixels on
/// either side; `None` if there are none.
fn best_cut(group: &[Item], axis: usize, counts: &mut Vec<u32>) -> Option<u32> {
    let (low, high) = extent(group, axis);
    counts.clear();
    counts.resize((high - low) as usize + 1, 0);
    for item in group {
        counts[(item.at[axis] - low) as usize] += 1;
    }
    let enough = group.len() as u32 / 3;
    let mut before = 0;
    let mut best: Option<(u32, u32)> = None;
    for (coordinate, pair) in (low..).zip(counts.windows(2)) {
        let cut = pair[0] + pair[1];
        let after = group.len() as u32 - before - cut;
        if before >= enough && after >= enough && best.is_none_or(|(fewest, _)| cut < fewest) {
            best = Some((cut, coordinate));
        }
        before += pair[0];
    }
    best.map(|(_, coordinate)| coordinate)
}
