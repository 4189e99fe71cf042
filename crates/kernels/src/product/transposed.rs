//! Panels of the transposed weight, made when they are needed: the gradient by a layer's input multiplies with them.
//!
//! Kept, they would double the memory of the weights. Making one costs a pass over its numbers, each of which is then
//! multiplied with every row of a task.

use std::ops::Range;

use super::Block;
use super::packed::{Order, Packed, Values};
use super::packing::{pair_panel, pair_step};
use crate::panel::{Element, MAX_VECTORS, MAX_WIDTH};
use crate::simd::{MAX_LANES, Simd};

/// Rows of a block transposed at a time.
const SIDE: usize = 8;

/// Writes rows `block` (outputs of the weight) by columns `channels` (its channels) under each turned tap, `width` apart.
///
/// # Safety
/// The panel is one of lanes; the channels are inside the weight and no more than `width ≤ MAX_WIDTH`, a multiple of 8;
/// there is room for `block.len`, rounded up to a panel's registers, times `width` at `to` for each tap.
#[inline(always)]
pub(super) unsafe fn lanes<S: Simd>(
    simd: S,
    packed: &Packed,
    block: Block,
    channels: Range<usize>,
    width: usize,
    to: *mut f32,
) {
    let mut to = to;
    // What a tap's last registers write beyond its rows, the next one overwrites.
    for part in block.each_tap() {
        // SAFETY: the caller's word.
        unsafe { lanes_of_tap(simd, packed, part, channels.clone(), width, to) };
        to = to.wrapping_add(part.len * width);
    }
}

/// [`lanes`] under one tap.
///
/// # Safety
/// That of [`lanes`].
#[inline(always)]
unsafe fn lanes_of_tap<S: Simd>(
    simd: S,
    packed: &Packed,
    block: Block,
    channels: Range<usize>,
    width: usize,
    to: *mut f32,
) {
    let order = &packed.order;
    let tap = order.taps() - 1 - block.tap;
    let mut rows = [0.0_f32; MAX_WIDTH * MAX_WIDTH];
    debug_assert!(block.start.is_multiple_of(order.width()) && channels.len() <= width);
    for start in (block.start..block.start + block.len).step_by(order.width()) {
        let panel = start / order.width();
        let from_width = order.vectors_of(panel) * order.lanes;
        let first = panel * order.width() * order.taps() * order.channels
            + (tap * order.channels + channels.start) * from_width;
        let numbers = first..first + channels.len() * from_width;
        let rows = &mut rows[..channels.len().next_multiple_of(SIDE) * from_width];
        match &packed.values {
            Values::F32(values) => {
                f32::convert(&values.as_slice()[numbers], &mut rows[..channels.len() * from_width]);
            }
            Values::Bf16(values) => Element::convert(
                &values.as_slice()[numbers],
                &mut rows[..channels.len() * from_width],
            ),
            Values::F16(values) => Element::convert(
                &values.as_slice()[numbers],
                &mut rows[..channels.len() * from_width],
            ),
            Values::Pairs(_) => unreachable!("the engine of pairs has its own"),
        }
        rows[channels.len() * from_width..].fill(0.0);
        let to = to.wrapping_add((start - block.start) * width);
        for output in (0..from_width).step_by(SIDE) {
            for channel in (0..channels.len()).step_by(SIDE) {
                // SAFETY: inside the rows; the caller vouches for the room.
                unsafe {
                    let from = rows.as_ptr().add(channel * from_width + output);
                    simd.transpose8(from, from_width, to.add(output * width + channel), width);
                }
            }
            for row in output..output + SIDE {
                // SAFETY: the rest of the row, in the room that the caller vouches for.
                unsafe {
                    let at = channels.len().next_multiple_of(SIDE);
                    to.add(row * width + at).write_bytes(0, width - at);
                }
            }
        }
    }
    const { assert!(MAX_VECTORS * MAX_LANES == MAX_WIDTH) };
}

/// Numbers of a panel of lanes of the transposed weight for `depth` outputs, with room for the last panel's registers.
pub(super) const fn lanes_room(order: &Order, depth: usize) -> usize {
    depth.next_multiple_of(order.lanes) * MAX_WIDTH
}

/// Writes the steps of `blocks` (outputs of the weight, a multiple of 32 from a multiple of 32 on) for the 32 channels of
/// panel `panel` of the transposed weight, each `[tile][pair of outputs][channel][which of the pair]`.
///
/// # Safety
/// The weight is packed in pairs, and there are 1024 numbers of room at `to` for each step.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pairs(packed: &Packed, blocks: &[Block], panel: usize, to: *mut half::bf16) {
    use std::arch::x86_64::*;
    let order = &packed.order;
    let Values::Pairs(values) = &packed.values else { unreachable!("packed in pairs") };
    let values = values.as_slice();
    let steps = order.channels.div_ceil(32);
    let mut to = to;
    for block in blocks {
        let tap = order.taps() - 1 - block.tap;
        for start in (block.start..block.start + block.len).step_by(32) {
            let step = pair_step(order.taps(), steps, tap, panel);
            let at = start / 32 * pair_panel(order) + step * 1024;
            let from = &values[at..at + 1024];
            // Two tiles, each of 16 outputs: row `p` holds the pair of channels `2 p`, `2 p + 1` of each output.
            for tile in 0..2 {
                // SAFETY: 16 rows of 32 numbers, both sides.
                unsafe {
                    let from = from.as_ptr().add(tile * 512);
                    let mut rows = [_mm512_setzero_si512(); 16];
                    for p in 0..16 {
                        rows[p] = _mm512_loadu_si512(from.add(p * 32).cast());
                    }
                    // Row `n` now holds the 32 channels of output `n`.
                    transpose16(&mut rows);
                    for pair in 0..8 {
                        let (even, odd) = (rows[2 * pair], rows[2 * pair + 1]);
                        // Channels of the two outputs in turn: 0..16, then 16..32.
                        let low = _mm512_permutex2var_epi16(even, interleave(0), odd);
                        let high = _mm512_permutex2var_epi16(even, interleave(16), odd);
                        let row = (tile * 8 + pair) * 32;
                        _mm512_storeu_si512(to.add(row).cast(), low);
                        _mm512_storeu_si512(to.add(512 + row).cast(), high);
                    }
                }
            }
            // SAFETY: one step further, at most one past the room.
            to = unsafe { to.add(1024) };
        }
    }
}

/// `first`, `first` of the other, `first + 1`, `first + 1` of the other, and so on.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(first: i16) -> std::arch::x86_64::__m512i {
    let indices: [i16; 32] =
        std::array::from_fn(|i| first + (i / 2) as i16 + if i % 2 == 1 { 32 } else { 0 });
    // SAFETY: 64 bytes to read.
    unsafe { std::arch::x86_64::_mm512_loadu_si512(indices.as_ptr().cast()) }
}

/// Transposes 16 rows of 16 dwords.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn transpose16(rows: &mut [std::arch::x86_64::__m512i; 16]) {
    use std::arch::x86_64::*;
    // 1. pairs of rows, 2. quadruples: each lane of 128 bits is then a 4×4 block transposed
    let mut halves = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        halves[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        halves[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    let mut blocks = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        for j in 0..2 {
            let (a, b) = (halves[4 * i + j], halves[4 * i + 2 + j]);
            blocks[4 * i + 2 * j] = _mm512_unpacklo_epi64(a, b);
            blocks[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(a, b);
        }
    }
    // 3. lanes: block `4 i + c` holds, in lane `l`, column `4 l + c` of rows `4 i ..`
    for c in 0..4 {
        let [a, b, d, e] = [blocks[c], blocks[4 + c], blocks[8 + c], blocks[12 + c]];
        let ab_low = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
        let ab_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b);
        let de_low = _mm512_shuffle_i32x4::<0b01_00_01_00>(d, e);
        let de_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(d, e);
        rows[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_low, de_low);
        rows[4 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_low, de_low);
        rows[8 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_high, de_high);
        rows[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_high, de_high);
    }
}
