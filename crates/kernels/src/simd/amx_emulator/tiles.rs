//! Eight tiles in memory and what instructions do to them.

/// Rows of a tile, and the bytes of a row.
const ROWS: usize = 16;
const ROW_BYTES: usize = 64;

/// The tiles of a thread, and their sizes.
#[repr(C, align(64))]
pub(super) struct Tiles {
    data: [[[u8; ROW_BYTES]; ROWS]; 8],
    rows: [usize; 8],
    row_bytes: [usize; 8],
    configured: bool,
}

impl Tiles {
    pub(super) const fn new() -> Self {
        Self {
            data: [[[0; ROW_BYTES]; ROWS]; 8],
            rows: [0; 8],
            row_bytes: [0; 8],
            configured: false,
        }
    }

    pub(super) const fn are_configured(&self) -> bool {
        self.configured
    }

    /// `ldtilecfg`: sizes of all tiles, which become zero.
    ///
    /// # Safety
    /// 64 bytes can be read.
    pub(super) unsafe fn configure(&mut self, from: *const u8) {
        // SAFETY: the caller's word.
        let config = unsafe { from.cast::<[u8; 64]>().read_unaligned() };
        *self = Self::new();
        self.configured = config[0] == 1;
        for tile in 0..8 {
            let bytes = u16::from_le_bytes([config[16 + 2 * tile], config[17 + 2 * tile]]);
            self.row_bytes[tile] = usize::from(bytes).min(ROW_BYTES);
            self.rows[tile] = usize::from(config[48 + tile]).min(ROWS);
        }
    }

    /// `tilerelease`.
    pub(super) fn release(&mut self) {
        *self = Self::new();
    }

    /// `tilezero`.
    pub(super) fn zero(&mut self, tile: usize) {
        self.data[tile] = [[0; ROW_BYTES]; ROWS];
    }

    /// `tileloadd`: rows and bytes beyond the tile's size become zero.
    ///
    /// # Safety
    /// The tile's rows can be read.
    pub(super) unsafe fn load(&mut self, tile: usize, from: usize, stride: usize) {
        self.zero(tile);
        for row in 0..self.rows[tile] {
            let from = from.wrapping_add(row.wrapping_mul(stride)) as *const u8;
            let to = self.data[tile][row].as_mut_ptr();
            // SAFETY: the caller's word; a tile's row has at least as many bytes.
            unsafe { std::ptr::copy_nonoverlapping(from, to, self.row_bytes[tile]) };
        }
    }

    /// `tilestored`.
    ///
    /// # Safety
    /// The tile's rows can be written.
    pub(super) unsafe fn store(&self, tile: usize, to: usize, stride: usize) {
        for row in 0..self.rows[tile] {
            let to = to.wrapping_add(row.wrapping_mul(stride)) as *mut u8;
            let from = self.data[tile][row].as_ptr();
            // SAFETY: the caller's word; a tile's row has at least as many bytes.
            unsafe { std::ptr::copy_nonoverlapping(from, to, self.row_bytes[tile]) };
        }
    }

    /// `tdpbf16ps`: as in Intel's manual, even and odd depths have sums of their own, each step rounded once, and
    /// denormals are zero. Bytes beyond a tile's size are zero, so that whole tiles can be multiplied.
    ///
    /// # Safety
    /// The processor has AVX-512.
    #[target_feature(enable = "avx512f,fma")]
    pub(super) unsafe fn dot_bf16(&mut self, c: usize, a: usize, b: usize) {
        let (left, right) = (self.data[a].map(pairs), self.data[b].map(pairs));
        // Row `k` of B is a pair of depths for each column: evens and odds apart.
        let mut columns = [[[0.0; 16]; 2]; 16];
        for (columns, row) in columns.iter_mut().zip(&right) {
            for (n, &pair) in row.iter().enumerate() {
                [columns[0][n], columns[1][n]] = pair;
            }
        }
        for m in 0..self.rows[c] {
            let mut sums = [[0.0_f32; 16]; 2];
            for (pair, columns) in left[m].iter().zip(&columns) {
                for half in 0..2 {
                    for n in 0..16 {
                        sums[half][n] = pair[half].mul_add(columns[half][n], sums[half][n]);
                    }
                }
            }
            let columns = self.row_bytes[c] / 4;
            for (n, value) in self.data[c][m].chunks_exact_mut(4).take(columns).enumerate() {
                let before = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
                let after = flushed(flushed(before) + flushed(sums[0][n] + sums[1][n]));
                value.copy_from_slice(&after.to_le_bytes());
            }
        }
    }
}

/// A row as pairs of bf16, converted.
#[inline]
fn pairs(row: [u8; ROW_BYTES]) -> [[f32; 2]; 16] {
    std::array::from_fn(|i| {
        std::array::from_fn(|half| {
            let at = 4 * i + 2 * half;
            flushed(f32::from_bits(u32::from(u16::from_le_bytes([row[at], row[at + 1]])) << 16))
        })
    })
}

/// Zero instead of a denormal.
#[inline]
fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x }
}
