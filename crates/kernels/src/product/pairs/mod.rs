//! The bf16 engine: products of pairs of bf16, summed in f32, on AMX tiles or with AVX-512's dot products.
//!
//! A strip of 32 rows by a panel of 32 columns is summed over the whole depth in registers; only where a panel is
//! larger than a part of the second-level cache is the depth cut into groups, between which sums wait in memory. Under
//! a kernel with taps, the depth goes through all taps of 64 channels before the next ones. AMX
//! reads its tiles where the activations lie: 16 rows at equal distances ([`Map::in_tiles`](super::Map::in_tiles)).

mod finishing;
mod strip;
mod tiles;
mod whole;

use std::ops::Range;

use half::bf16;

use self::finishing::{Finishing, Strip};
use self::strip::{Run, on_registers};
use self::tiles::{Pipeline, Sums};
use self::whole::WholeRows;
use super::packed::{PAIR_CHUNK, PAIR_COLUMNS, PAIR_DEPTH, Side, Values};
use super::packing::{pair_panel, pair_step};
use super::{Block, Call, Tasks, rows_in_task, transposed};
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
/// Numbers in a cache line.
const LINE: usize = 32;

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
    assert!(depth > 0 && !taps.is_empty(), "something to multiply");
    let reach = rows.offset(count - 1) + taps.iter().max().unwrap_or(&0) + depth;
    assert!(reach <= a.len(), "the rows lie in the activations");
    if let Some((low, up)) = extra {
        let up_depth = up.depth().next_multiple_of(PAIR_DEPTH);
        assert!(up_depth <= GROUP_STEPS * PAIR_DEPTH, "a shallow product");
        assert_eq!(up.columns(), side.columns(), "the same columns");
        assert!(low.len() >= count * up_depth, "a row of the other product for each row");
    }
    let groups = groups(taps.len(), depth);
    let panels = side.columns().div_ceil(PAIR_COLUMNS);
    // Each task transposes its panels for itself.
    let row_block = rows_in_task(2 * rows.stride(), STRIP)
        * if matches!(side, Side::Transposed(_)) { 2 } else { 1 };
    let tasks = Tasks::new(count, row_block, panels, 8);
    tasks.for_each(Scratch::default, |scratch, rows, panels| {
        dispatch(tier, Task { tier, call, groups: &groups, rows, panels, scratch });
    });
}

/// The depth of `taps` by `channels` in the order of a panel ([`pair_step`]), cut into groups of steps that all rows of a
/// task meet before the next ones.
fn groups(taps: usize, channels: usize) -> Vec<Vec<Block>> {
    // Without taps there is no picture to keep in the cache.
    let most = if taps == 1 { GROUP_STEPS } else { PAIR_CHUNK } * PAIR_DEPTH;
    let mut groups: Vec<Vec<Block>> = vec![Vec::new()];
    let mut steps = 0;
    for start in (0..channels).step_by(most) {
        for tap in 0..taps {
            let block = Block { tap, taps: 1, start, len: most.min(channels - start) };
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
    }
    groups
}

#[derive(Default)]
struct Scratch {
    tiles: Vec<usize>,
    targets: Vec<usize>,
    spans: Vec<Span>,
    weights: Buffer,
    extra_weights: Buffer,
    sums: Buffer,
}

/// Neighbouring steps of the depth: where they start within a row, and how many there are.
#[derive(Clone, Copy)]
struct Span {
    within: usize,
    steps: usize,
}

/// Another product's steps that ride along.
#[derive(Clone, Copy)]
struct Extra<'a> {
    low: &'a [bf16],
    steps: usize,
    weights: *const bf16,
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
        let Scratch { tiles, targets, spans, weights, extra_weights, sums } = scratch;
        let count = rows.len() / TILE;
        tiles.clear();
        targets.clear();
        tiles.extend((0..count).map(|tile| call.rows.offset(rows.start + tile * TILE)));
        call.rows.push_targets(rows.clone(), targets);
        let strips = count.div_ceil(2);
        // Two strips' in turn: one is finished while the next one is multiplied.
        let room = if groups.len() > 1 { strips } else { 2 };
        let sums = sums.reserve(room * STRIP * PAIR_COLUMNS);
        // SAFETY: `multiply` checked that the tier is there.
        let mut pipeline =
            (tier == Tier::Amx).then(|| Pipeline::new(unsafe { Tiles::configure() }));
        let mut finishing =
            Finishing { simd, call, strip: None, ahead: std::ptr::null(), lines: 0 };
        let mut turn = 0;
        let together = panels_together(groups, strips);
        for first in panels.clone().step_by(together) {
            let panels = first..(first + together).min(panels.end);
            for (number, group) in groups.iter().enumerate() {
                let last = number + 1 == groups.len();
                spans.clear();
                spans.extend(group.iter().map(|block| Span {
                    within: call.taps[block.tap] + block.start,
                    steps: block.len.div_ceil(PAIR_DEPTH),
                }));
                let steps: usize = spans.iter().map(|span| span.steps).sum();
                // SAFETY: the group is the side's; `multiply` checked the tier.
                let b = unsafe { panels_of(&call.side, group, steps, panels.clone(), weights) };
                let extra = call.extra.filter(|_| last).map(|(low, up)| {
                    let steps = up.depth().div_ceil(PAIR_DEPTH);
                    let block = [Block { tap: 0, taps: 1, start: 0, len: steps * PAIR_DEPTH }];
                    // SAFETY: as above.
                    let weights =
                        unsafe { panels_of(&up, &block, steps, panels.clone(), extra_weights) };
                    Extra { low, steps, weights }
                });
                // What comes next is fetched meanwhile, evenly over the steps.
                let ahead = match call.side {
                    Side::Forward(_) => b.wrapping_add(panels.len() * steps * STEP),
                    Side::Transposed(_) => std::ptr::null(),
                };
                finishing.lines = if ahead.is_null() { 0 } else { (STEP / LINE).div_ceil(strips) };
                for (at, (strip, panel)) in (0..strips)
                    .flat_map(|strip| panels.clone().map(move |panel| (strip, panel)))
                    .enumerate()
                {
                    let both = 2 * strip + 1 < count;
                    let bases = [2 * strip, 2 * strip + usize::from(both)];
                    let rows_at = bases.map(|tile| rows.start + tile * TILE);
                    let bases = bases.map(|tile| call.a.as_ptr().wrapping_add(tiles[tile]));
                    let b = b.wrapping_add((panel - first) * steps * STEP);
                    let extra = extra.map(|extra| Extra {
                        weights: extra.weights.wrapping_add((panel - first) * extra.steps * STEP),
                        ..extra
                    });
                    let runs = runs(call, spans, bases, b, extra, rows_at);
                    let all_steps = steps + extra.map_or(0, |extra| extra.steps);
                    finishing.ahead = ahead.wrapping_add(at * steps * STEP / strips);
                    let at = if groups.len() > 1 { strip } else { turn % 2 };
                    turn += 1;
                    // SAFETY: inside the sums.
                    let at = unsafe { sums.add(at * STRIP * PAIR_COLUMNS) };
                    let targets = &targets[strip * STRIP..][..if both { STRIP } else { TILE }];
                    let columns = panel * PAIR_COLUMNS..(panel + 1) * PAIR_COLUMNS;
                    let next = last.then(|| Strip {
                        targets,
                        whole: WholeRows::new(&call.epilogue, targets, columns.clone()),
                        columns,
                        sums: at,
                        done: 0,
                    });
                    // SAFETY: the tier is there, and the runs lie in the activations and weights; sums that are finished
                    // are a strip of this task's, and stored.
                    unsafe {
                        match &mut pipeline {
                            Some(pipeline) => {
                                let to = Sums { at, both };
                                pipeline.multiply(runs, all_steps, to, number > 0, &mut finishing);
                                finishing.rest();
                                finishing.strip = next;
                            }
                            None => {
                                on_registers(&runs, 1 + usize::from(both), at, number > 0);
                                finishing.strip = next;
                                finishing.rest();
                            }
                        }
                    }
                }
            }
        }
        if let Some(pipeline) = &mut pipeline {
            // SAFETY: the last strip's sums, of this task.
            unsafe {
                pipeline.flush();
                finishing.rest();
            }
        }
    }
}

/// What a strip is multiplied with: tiles of rows start at `bases` in the activations, and are rows `rows` of the call.
#[inline(always)]
fn runs<'a>(
    call: &'a Call<'_, bf16>,
    spans: &'a [Span],
    bases: [*const bf16; 2],
    weights: *const bf16,
    extra: Option<Extra<'a>>,
    rows: [usize; 2],
) -> impl Iterator<Item = Run> + Clone + 'a {
    let stride = 2 * call.rows.stride();
    let mut next = weights;
    let main = spans.iter().map(move |span| {
        let weights = next;
        next = next.wrapping_add(span.steps * STEP);
        let tiles = bases.map(|base| base.wrapping_add(span.within));
        Run { tiles, stride, steps: span.steps, weights }
    });
    main.chain(extra.map(move |Extra { low, steps, weights }| {
        let depth = steps * PAIR_DEPTH;
        let tiles = rows.map(|row| low[row * depth..].as_ptr());
        Run { tiles, stride: 2 * depth, steps, weights }
    }))
}

/// Panels that each strip meets before the next one: several, if a strip's rows stay in the first-level cache meanwhile,
/// and the panels in the second-level one.
fn panels_together(groups: &[Vec<Block>], strips: usize) -> usize {
    /// Of the first-level cache, for 32 rows.
    const STRIP_STEPS: usize = 12;
    let [group] = groups else { return 1 };
    let steps: usize = group.iter().map(|block| block.len.div_ceil(PAIR_DEPTH)).sum();
    if steps <= STRIP_STEPS && strips > 1 { GROUP_STEPS / steps.max(1) } else { 1 }
}

/// The steps of neighbouring panels for a group, where they lie or in scratch. If they are several, the group is all
/// steps.
///
/// # Safety
/// The blocks were cut for this side, and AVX-512 is there.
unsafe fn panels_of(
    side: &Side<'_>,
    group: &[Block],
    steps: usize,
    panels: Range<usize>,
    scratch: &mut Buffer,
) -> *const bf16 {
    match side {
        Side::Forward(packed) => {
            let Values::Pairs(values) = &packed.values else { unreachable!("packed in pairs") };
            let order = &packed.order;
            let per_tap = order.channels.div_ceil(PAIR_DEPTH);
            let Block { tap, start, .. } = group[0];
            let first = pair_step(order.taps(), per_tap, tap, start / PAIR_DEPTH);
            let start = panels.start * pair_panel(order) + first * STEP;
            values.as_slice()[start..start + panels.len() * steps * STEP].as_ptr()
        }
        Side::Transposed(packed) => {
            let to = scratch.reserve_of::<bf16>(panels.len() * steps * STEP);
            for (at, panel) in panels.enumerate() {
                // SAFETY: there is room for all steps.
                unsafe { transposed::pairs(packed, group, panel, to.add(at * steps * STEP)) };
            }
            to
        }
    }
}
