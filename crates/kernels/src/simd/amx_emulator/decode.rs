//! Tile instructions from their bytes: Intel's manual, volume 2, "Instruction format" and the VEX prefix.

/// A tile instruction; addresses and strides are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    Configure { from: usize },
    Release,
    Zero { tile: usize },
    Load { tile: usize, from: usize, stride: usize },
    Store { tile: usize, to: usize, stride: usize },
    DotBf16 { c: usize, a: usize, b: usize },
}

/// The general registers in the order in which instructions number them: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi,
/// then r8 to r15.
pub(super) struct Registers(pub(super) [usize; 16]);

impl Registers {
    /// From a signal's context.
    pub(super) fn new(gregs: &[libc::greg_t]) -> Self {
        const ORDER: [libc::c_int; 16] = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ];
        Self(ORDER.map(|register| gregs[register as usize] as usize))
    }
}

/// Bytes read one by one: the instruction may be the last of a mapped page.
struct Code {
    start: *const u8,
    length: usize,
}

impl Code {
    /// # Safety
    /// The next byte can be read.
    unsafe fn byte(&mut self) -> u8 {
        self.length += 1;
        // SAFETY: the caller's word.
        unsafe { *self.start.add(self.length - 1) }
    }

    /// A little-endian displacement of so many bytes, extended by its sign.
    ///
    /// # Safety
    /// The bytes can be read.
    unsafe fn displacement(&mut self, bytes: usize) -> usize {
        let mut value = 0_i64;
        for i in 0..bytes {
            // SAFETY: the caller's word.
            value |= i64::from(unsafe { self.byte() }) << (8 * i);
        }
        let unused = 64 - 8 * bytes as u32;
        if bytes == 0 { 0 } else { (value << unused >> unused) as usize }
    }
}

/// The tile instruction at `start` and its length in bytes; nothing if it is another one.
///
/// # Safety
/// A whole instruction can be read at `start`.
pub(super) unsafe fn decode(
    start: *const u8,
    registers: &Registers,
) -> Option<(Instruction, usize)> {
    let mut code = Code { start, length: 0 };
    // SAFETY: an instruction is read no further than its own bytes say it goes.
    unsafe {
        // 1. prefix: only the form of three bytes reaches the opcode map 0F 38, where all of them are
        if code.byte() != 0xc4 {
            return None;
        }
        let extensions = !code.byte(); // R, X and B are stored inverted
        let fields = code.byte(); // W, inverted vvvv, L, pp
        let opcode = code.byte();
        let map = !extensions & 0x1f;
        if map != 2 || fields & 0x84 != 0 || !matches!(opcode, 0x49 | 0x4b | 0x5c) {
            return None;
        }
        let second = usize::from(!fields >> 3 & 0xf);
        let prefix = fields & 3; // none, 66, F3, F2

        // 2. registers, or a place in memory
        let modrm = code.byte();
        let (mode, tile, rm) = (modrm >> 6, usize::from(modrm >> 3 & 7), modrm & 7);
        if mode == 3 {
            let instruction = match (opcode, prefix, modrm) {
                (0x49, 0, 0xc0) => Instruction::Release,
                (0x49, 3, _) if rm == 0 => Instruction::Zero { tile },
                (0x5c, 2, _) if second < 8 => {
                    Instruction::DotBf16 { c: tile, a: usize::from(rm), b: second }
                }
                _ => return None,
            };
            return Some((instruction, code.length));
        }
        let register = |low: u8, extension: u8| {
            registers.0[usize::from(low) + if extensions & extension == 0 { 0 } else { 8 }]
        };
        const X: u8 = 0x40;
        const B: u8 = 0x20;
        let mut stride = 0;
        let address = if rm == 4 {
            let sib = code.byte();
            let (scale, index, base) = (sib >> 6, sib >> 3 & 7, sib & 7);
            if index != 4 || extensions & X != 0 {
                stride = register(index, X) << scale;
            }
            match (mode, base) {
                (0, 5) => code.displacement(4),
                _ => register(base, B).wrapping_add(code.displacement(displacement_bytes(mode))),
            }
        } else if (mode, rm) == (0, 5) {
            let displacement = code.displacement(4);
            (start as usize + code.length).wrapping_add(displacement)
        } else {
            register(rm, B).wrapping_add(code.displacement(displacement_bytes(mode)))
        };

        // 3. what is done there
        let instruction = match (opcode, prefix) {
            (0x49, 0) if tile == 0 => Instruction::Configure { from: address.wrapping_add(stride) },
            // The second hints that the data will not be used again.
            (0x4b, 3 | 1) if rm == 4 => Instruction::Load { tile, from: address, stride },
            (0x4b, 2) if rm == 4 => Instruction::Store { tile, to: address, stride },
            _ => return None,
        };
        Some((instruction, code.length))
    }
}

const fn displacement_bytes(mode: u8) -> usize {
    match mode {
        1 => 1,
        2 => 4,
        _ => 0,
    }
}
