//! The bf16 engine: products of pairs of bf16, summed in f32, on AMX tiles or with AVX-512's dot products.
//!
//! A strip of 32 rows by a panel of 32 columns is summed over the whole depth in registers; only where a panel is
//! larger than a part of the second-level cache is the depth cut into groups, between which sums wait in memory. AMX
//! reads its tiles where the activations lie: 16 rows at equal distances ([`Map::in_tiles`](super::Map::in_tiles)).

mod strip;

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use self::strip::{Product, Run};
use super::packed::{PAIR_COLUMNS, PAIR_DEPTH, Side, Values};
use super::packing::pair_panel;
use super::{Block, Call, Tasks, blocks, rows_in_task, transposed};
use crate::buffer::Buffer;
use crate::isa::Tier;
use crate::simd::amx::Tiles;
use crate::simd::{Kernel, Simd, dispatch};

/// Rows of a strip.
const STRIP: usize = 32;
/// Rows of a tile.
const TILE: usize = 16;
/// Numbers in a step of a panel.
const STEP: usize = PAIR_DEPTH * PAIR_COLUMNS;
/// The most steps of a panel in a group: 384 kB.
const GROUP_STEPS: usize = 192;
/// Lines of 64 bytes in a step.
const STEP_LINES: usize = STEP * 2 / 64;

/// Multiplies and finishes all rows.
///
/// # Panics
/// If the activations are shorter than the rows say or rows are no whole tiles, or on a tier without bf16; the caller
/// vouches for the output ([`Epilogue::finish`]).
pub(crate) fn multiply(call: &Call<'_, bf16>) {
    let Call { rows, a, side, taps, extra, .. } = call;
    let tier = side.tier();
    assert!(tier.multiplies_bf16() && tier.is_available(), "a tier that multiplies bf16");
    assert_eq!(taps.len(), side.packed().order.taps(), "an offset a tap");
    let count = rows.count();
    if count == 0 || side.columns() == 0 {
        return;
    }
    assert!(count.is_multiple_of(TILE), "whole tiles");
    let depth = side.depth().next_multiple_of(PAIR_DEPTH);
    let reach = rows.offset(count - 1) + taps.iter().max().unwrap_or(&0) + depth;
    assert!(reach <= a.len(), "the rows lie in the activations");
    if let Some((low, up)) = extra {
        let up_depth = up.depth().next_multiple_of(PAIR_DEPTH);
        assert!(up_depth <= GROUP_STEPS * PAIR_DEPTH, "a shallow product");
        assert_eq!(up.columns(), side.columns(), "the same columns");
        assert!(low.len() >= count * up_depth, "a row of the other product for each row");
    }
    // A block is one tap, or a group's part of one.
    let depths = blocks(taps.len(), depth, GROUP_STEPS * PAIR_DEPTH, PAIR_DEPTH);
    let groups = group(&depths);
    let panels = side.columns().div_ceil(PAIR_COLUMNS);
    let tasks = Tasks::new(count, rows_in_task(2 * rows.stride(), STRIP), panels, 8);
    (0..tasks.count()).into_par_iter().with_max_len(1).for_each_init(
        Scratch::default,
        |scratch, task| {
            let (rows, panels) = tasks.get(task);
            dispatch(tier, Task { tier, call, groups: &groups, rows, panels, scratch });
        },
    );
}

/// Blocks whose part of a panel is read by all rows of a task before the next one's.
fn group(depths: &[Block]) -> Vec<Vec<Block>> {
    let mut groups: Vec<Vec<Block>> = vec![Vec::new()];
    let mut steps = 0;
    for &block in depths {
        let more = block.len.div_ceil(PAIR_DEPTH);
        if steps + more > GROUP_STEPS && steps > 0 {
            groups.push(Vec::new());
            steps = 0;
        }
        steps += more;
        if let Some(group) = groups.last_mut() {
            group.push(block);
        }
    }
    groups
}

#[derive(Default)]
struct Scratch {
    offsets: Vec<usize>,
    targets: Vec<usize>,
    weights: Buffer,
    extra_weights: Buffer,
    sums: Buffer,
    runs: Vec<Run>,
}

struct Task<'a> {
    tier: Tier,
    call: &'a Call<'a, bf16>,
    groups: &'a [Vec<Block>],
    rows: Range<usize>,
    panels: Range<usize>,
    scratch: &'a mut Scratch,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { tier, call, groups, rows, panels, scratch } = self;
        let Scratch { offsets, targets, weights, extra_weights, sums, runs } = scratch;
        let tiles = rows.len() / TILE;
        offsets.clear();
        targets.clear();
        offsets.extend((0..tiles).map(|tile| call.rows.offset(rows.start + tile * TILE)));
        targets.extend(rows.clone().map(|row| call.rows.target(row)));
        let strips = tiles.div_ceil(2);
        let sums = sums.reserve(if groups.len() > 1 { strips } else { 1 } * STRIP * PAIR_COLUMNS);
        // SAFETY: `multiply` checked that the tier is there.
        let _configured = (tier == Tier::Amx).then(|| unsafe { Tiles::configure() });
        for panel in panels.clone() {
            for (number, group) in groups.iter().enumerate() {
                let last = number + 1 == groups.len();
                let steps = group.iter().map(|block| block.len.div_ceil(PAIR_DEPTH)).sum();
                // SAFETY: the group is the side's; `multiply` checked the tier.
                let b = unsafe { panel_of(&call.side, group, steps, panel, weights) };
                let extra = call.extra.filter(|_| last).map(|(low, up)| {
                    let steps = up.depth().div_ceil(PAIR_DEPTH);
                    let block = [Block { tap: 0, start: 0, len: steps * PAIR_DEPTH }];
                    // SAFETY: as above.
                    (low, steps, unsafe { panel_of(&up, &block, steps, panel, extra_weights) })
                });
                // What comes next is fetched meanwhile, evenly over the strips.
                let ahead = match call.side {
                    Side::Forward(_) => b.wrapping_add(steps * STEP),
                    Side::Transposed(_) => std::ptr::null(),
                };
                for strip in 0..strips {
                    let present = (tiles - 2 * strip).min(2);
                    strip_runs(call, offsets, rows.start, strip, present, group, b, extra, runs);
                    let at = if groups.len() > 1 { strip * STRIP * PAIR_COLUMNS } else { 0 };
                    let product = Product {
                        runs,
                        both: present == 2,
                        // SAFETY: inside the sums.
                        sums: unsafe { sums.add(at) },
                        accumulate: number > 0,
                        ahead: ahead.wrapping_add(strip * steps * STEP / strips),
                        lines: if ahead.is_null() { 0 } else { STEP_LINES.div_ceil(strips) },
                    };
                    // SAFETY: the tier is there, tiles are configured, and the runs lie in the activations and weights.
                    unsafe {
                        match tier {
                            Tier::Amx => product.on_tiles(),
                            _ => product.on_registers(),
                        }
                    }
                    if last {
                        let columns = panel * PAIR_COLUMNS..(panel + 1) * PAIR_COLUMNS;
                        let targets = &targets[strip * STRIP..][..present * TILE];
                        // SAFETY: the sums are a strip; the rest is the caller's word.
                        unsafe {
                            call.epilogue.finish(
                                simd,
                                targets,
                                columns,
                                product.sums,
                                PAIR_COLUMNS,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The steps of a panel for a group, where they lie or in scratch.
///
/// # Safety
/// The blocks were cut for this side, and AVX-512 is there.
unsafe fn panel_of(
    side: &Side<'_>,
    group: &[Block],
    steps: usize,
    panel: usize,
    scratch: &mut Buffer,
) -> *const bf16 {
    match side {
        Side::Forward(packed) => {
            let Values::Pairs(values) = &packed.values else { unreachable!("packed in pairs") };
            let order = &packed.order;
            let per_tap = order.channels.div_ceil(PAIR_DEPTH);
            let first = group[0].tap * per_tap + group[0].start / PAIR_DEPTH;
            let start = panel * pair_panel(order) + first * STEP;
            values.as_slice()[start..start + steps * STEP].as_ptr()
        }
        Side::Transposed(packed) => {
            let to = scratch.reserve_of::<bf16>(steps * STEP);
            // SAFETY: there is room for all steps.
            unsafe { transposed::pairs(packed, group, panel, to) };
            to
        }
    }
}

/// What a strip is multiplied with.
#[expect(clippy::too_many_arguments, reason = "the loop's state, in one place")]
fn strip_runs(
    call: &Call<'_, bf16>,
    offsets: &[usize],
    first_row: usize,
    strip: usize,
    present: usize,
    group: &[Block],
    b: *const bf16,
    extra: Option<(&[bf16], usize, *const bf16)>,
    runs: &mut Vec<Run>,
) {
    runs.clear();
    let (first, second) = (2 * strip, 2 * strip + present - 1);
    let mut weights = b;
    for block in group {
        let within = call.taps[block.tap] + block.start;
        let steps = block.len.div_ceil(PAIR_DEPTH);
        runs.push(Run {
            tiles: [first, second].map(|tile| call.a[offsets[tile] + within..].as_ptr()),
            stride: 2 * call.rows.stride(),
            steps,
            weights,
        });
        weights = weights.wrapping_add(steps * STEP);
    }
    if let Some((low, steps, weights)) = extra {
        let depth = steps * PAIR_DEPTH;
        let tiles = [first, second].map(|tile| low[(first_row + tile * TILE) * depth..].as_ptr());
        runs.push(Run { tiles, stride: 2 * depth, steps, weights });
    }
}
