use half::bf16;

use super::decode::{Instruction, Registers, decode};
use crate::isa::Tier;
use crate::simd::amx::{self, DEPTH, SIDE, Tiles, tile_dot_bf16, tile_load, tile_store, tile_zero};
use crate::testing::{Numbers, assert_close, tiers};

/// The instruction in these bytes, where register `i` holds `1000 · i`; all bytes must be part of it.
fn decoded(code: &[u8]) -> Option<Instruction> {
    let registers = Registers(std::array::from_fn(|i| 1000 * i));
    // SAFETY: each case is a whole instruction.
    let (instruction, length) = unsafe { decode(code.as_ptr(), &registers) }?;
    assert_eq!(length, code.len());
    Some(instruction)
}

#[test]
fn instructions_are_those_of_the_assembler() {
    let cases: [(&[u8], Option<Instruction>); 12] = [
        // ldtilecfg [rdi]
        (&[0xc4, 0xe2, 0x78, 0x49, 0x07], Some(Instruction::Configure { from: 7000 })),
        // ldtilecfg [r13 + r9*4 + 0x40]
        (
            &[0xc4, 0x82, 0x78, 0x49, 0x44, 0x8d, 0x40],
            Some(Instruction::Configure { from: 13_000 + 36_000 + 64 }),
        ),
        // tilerelease
        (&[0xc4, 0xe2, 0x78, 0x49, 0xc0], Some(Instruction::Release)),
        // tilezero tmm7
        (&[0xc4, 0xe2, 0x7b, 0x49, 0xf8], Some(Instruction::Zero { tile: 7 })),
        // tileloadd tmm3, [rdi + rsi*1]
        (
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x1c, 0x37],
            Some(Instruction::Load { tile: 3, from: 7000, stride: 6000 }),
        ),
        // tileloadd tmm3, [r13 + r8*1 + 0]
        (
            &[0xc4, 0x82, 0x7b, 0x4b, 0x5c, 0x05, 0x00],
            Some(Instruction::Load { tile: 3, from: 13_000, stride: 8000 }),
        ),
        // tileloadd tmm3, [r12 + r14*1 + 0x1234]
        (
            &[0xc4, 0x82, 0x7b, 0x4b, 0x9c, 0x34, 0x34, 0x12, 0x00, 0x00],
            Some(Instruction::Load { tile: 3, from: 12_000 + 0x1234, stride: 14_000 }),
        ),
        // tileloaddt1 tmm3, [rbp + r14*1 - 2]
        (
            &[0xc4, 0xa2, 0x79, 0x4b, 0x5c, 0x35, 0xfe],
            Some(Instruction::Load { tile: 3, from: 4998, stride: 14_000 }),
        ),
        // tilestored [rdi + rsi*1], tmm3
        (
            &[0xc4, 0xe2, 0x7a, 0x4b, 0x1c, 0x37],
            Some(Instruction::Store { tile: 3, to: 7000, stride: 6000 }),
        ),
        // tdpbf16ps tmm5, tmm6, tmm7
        (&[0xc4, 0xe2, 0x42, 0x5c, 0xee], Some(Instruction::DotBf16 { c: 5, a: 6, b: 7 })),
        // andn eax, eax, eax and ud2: not ours
        (&[0xc4, 0xe2, 0x78, 0xf2, 0xc0], None),
        (&[0x0f, 0x0b], None),
    ];
    for (code, expected) in cases {
        assert_eq!(decoded(code), expected, "{code:02x?}");
    }
}

/// `C = A · B` of `SIDE × DEPTH` and `DEPTH × SIDE`, where rows of the operands are `stride` numbers apart.
fn check_product(numbers: &mut Numbers, stride: usize) {
    let mut take =
        |count| -> Vec<bf16> { numbers.take(count).into_iter().map(bf16::from_f32).collect() };
    let (a, b) = (take(SIDE * stride), take(SIDE * stride));
    let mut c = vec![f32::NAN; SIDE * SIDE];
    let bytes = 2 * stride;
    // SAFETY: the tier is available, and all rows are inside their vectors.
    unsafe {
        let _tiles = Tiles::configure();
        tile_zero!(0);
        tile_load!(3, a.as_ptr(), bytes);
        tile_load!(7, b.as_ptr(), bytes);
        tile_dot_bf16!(0, 3, 7);
        tile_dot_bf16!(0, 3, 7);
        tile_store!(0, c.as_mut_ptr(), 4 * SIDE);
    }
    let mut expected = vec![0.0; SIDE * SIDE];
    for (at, expected) in expected.iter_mut().enumerate() {
        let (m, n) = (at / SIDE, at % SIDE);
        for k in 0..DEPTH {
            let (a, b) = (a[m * stride + k], b[k / 2 * stride + 2 * n + k % 2]);
            *expected += 2.0 * f64::from(a) * f64::from(b);
        }
    }
    assert_close(&c, &expected, 1e-6);
}

#[test]
fn products_of_tiles_are_those_of_a_plain_loop() {
    if !amx::is_available() {
        return;
    }
    let mut numbers = Numbers::new(60);
    for stride in [32, 40, 64, 257] {
        check_product(&mut numbers, stride);
    }
}

#[test]
fn each_thread_has_tiles_of_its_own() {
    if !amx::is_available() {
        return;
    }
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let mut numbers = Numbers::new(seed);
                for _ in 0..50 {
                    check_product(&mut numbers, 32);
                }
            });
        }
    });
}

#[test]
fn denormals_are_zero() {
    if !amx::is_available() {
        return;
    }
    let tiny = vec![bf16::from_f32(1e-39); SIDE * DEPTH];
    let huge = vec![bf16::from_f32(1e38); SIDE * DEPTH];
    let mut c = vec![f32::NAN; SIDE * SIDE];
    // SAFETY: the tier is available, and all rows are inside their vectors.
    unsafe {
        let _tiles = Tiles::configure();
        tile_zero!(0);
        tile_load!(1, tiny.as_ptr(), 64_usize);
        tile_load!(2, huge.as_ptr(), 64_usize);
        tile_dot_bf16!(0, 1, 2);
        tile_store!(0, c.as_mut_ptr(), 64_usize);
    }
    assert!(c.iter().all(|&c| c == 0.0));
}

#[test]
fn the_emulated_tier_is_tested_but_not_chosen() {
    if amx::is_emulated() {
        assert!(tiers().any(|tier| tier == Tier::Amx));
        if std::env::var_os("PHOTOMEND_ISA").is_none() {
            assert_ne!(Tier::current(), Tier::Amx);
        }
    }
}
