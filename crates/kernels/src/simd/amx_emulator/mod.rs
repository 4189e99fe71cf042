//! AMX on processors that lack it, so that kernels written for tiles are tested on any machine with AVX-512.
//!
//! A tile instruction that the processor does not know raises an illegal-instruction signal. The handler installed
//! here decodes it, does its work on tiles kept in memory, one set a thread, and goes on behind it. Any other illegal
//! instruction ends the process as before. This is for correctness, never for speed: an instruction takes a
//! microsecond or two, some hundred times what the processor would need.
//!
//! Tests have it always; other builds with the feature `emulate-amx` and the environment variable
//! `PHOTOMEND_EMULATE_AMX=1`. The instructions of AVX512_BF16 are not emulated, but many processors execute them even
//! where a hypervisor hides them: they are tried once, and without them the emulator stays off.

mod decode;
mod tiles;

use std::arch::asm;
use std::cell::{Cell, UnsafeCell};
use std::sync::OnceLock;

use self::decode::{Instruction, decode};
use self::tiles::Tiles;
use crate::isa::Tier;

thread_local! {
    // Constants without destructors: the handler reaches them without allocating.
    static TILES: UnsafeCell<Tiles> = const { UnsafeCell::new(Tiles::new()) };
    /// What the thread knows about the probe of `executes_bf16`.
    static PROBE: Cell<Probe> = const { Cell::new(Probe::Off) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Probe {
    Off,
    Running,
    Failed,
}

/// `vcvtneps2bf16 ymm0, zmm0`.
const PROBE_CODE: [u8; 6] = [0x62, 0xf2, 0x7e, 0x48, 0x72, 0xc0];

/// True if tile instructions are emulated in this process; the first call decides that.
pub(crate) fn is_active() -> bool {
    static ACTIVE: OnceLock<bool> = OnceLock::new();
    *ACTIVE.get_or_init(|| {
        let wanted = cfg!(test) || std::env::var("PHOTOMEND_EMULATE_AMX").is_ok_and(|on| on == "1");
        wanted && Tier::Avx512.is_available() && install()
    })
}

/// Installs the handler. False, with the former handler in place, if the processor does not execute AVX512_BF16.
///
/// The processor has AVX-512.
pub(crate) fn install() -> bool {
    // SAFETY: both are structures of integers and pointers, for which zero is a value.
    let (mut action, mut former): (libc::sigaction, libc::sigaction) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    action.sa_sigaction = handle as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for, and only does what a signal handler may.
    if unsafe { libc::sigaction(libc::SIGILL, &raw const action, &raw mut former) } != 0 {
        return false;
    }
    let works = executes_bf16();
    if !works {
        // SAFETY: the action that was there before.
        unsafe { libc::sigaction(libc::SIGILL, &raw const former, std::ptr::null_mut()) };
    }
    works
}

/// Tries one instruction of AVX512_BF16 under the handler, which notes a failure and skips it.
fn executes_bf16() -> bool {
    PROBE.set(Probe::Running);
    // SAFETY: the instruction changes one register, or is skipped by the handler.
    unsafe {
        asm!("vcvtneps2bf16 ymm0, zmm0", out("xmm0") _, options(nostack, preserves_flags));
    }
    PROBE.replace(Probe::Off) == Probe::Running
}

/// Emulates the instruction that the signal stopped at, or gives the signal back its default action, so that it
/// strikes again.
extern "C" fn handle(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over the state of this thread, stopped before an instruction, whose bytes can be read.
    unsafe {
        let gregs = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = gregs[libc::REG_RIP as usize] as usize;
        let registers = decode::Registers::new(gregs);
        if let Some((instruction, length)) = decode(at as *const u8, &registers)
            && TILES.with(|tiles| execute(&mut *tiles.get(), instruction))
        {
            gregs[libc::REG_RIP as usize] += length as i64;
        } else if PROBE.get() == Probe::Running
            && (at as *const [u8; PROBE_CODE.len()]).read() == PROBE_CODE
        {
            PROBE.set(Probe::Failed);
            gregs[libc::REG_RIP as usize] += PROBE_CODE.len() as i64;
        } else {
            libc::signal(libc::SIGILL, libc::SIG_DFL);
        }
    }
}

/// False if the instruction needs configured tiles and there are none, which is illegal on a processor too.
///
/// # Safety
/// The memory that the instruction names can be read or written.
unsafe fn execute(tiles: &mut Tiles, instruction: Instruction) -> bool {
    // SAFETY: the caller's word; the emulator is only installed where there is AVX-512.
    unsafe {
        match instruction {
            Instruction::Configure { from } => tiles.configure(from as *const u8),
            Instruction::Release => tiles.release(),
            _ if !tiles.are_configured() => return false,
            Instruction::Zero { tile } => tiles.zero(tile),
            Instruction::Load { tile, from, stride } => tiles.load(tile, from, stride),
            Instruction::Store { tile, to, stride } => tiles.store(tile, to, stride),
            Instruction::DotBf16 { c, a, b } => tiles.dot_bf16(c, a, b),
        }
    }
    true
}

#[cfg(test)]
mod tests;
