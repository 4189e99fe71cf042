//! Loops compiled for the widest vectors of the running machine.

/// Runs `f` compiled for each instruction set, picking the best one at run time.
///
/// The loops in `f` must be inlined into it, or they stay compiled for the oldest machine: mark them
/// `#[inline(always)]`, and the closure too. Taking `FnMut` matters for the same reason: called as
/// `FnOnce`, a closure that needs no ownership goes through a shim that the compiler may not inline.
#[inline(always)]
pub(crate) fn vectorized<R>(f: impl FnMut() -> R) -> R {
    pulp::Arch::new().dispatch(Task(f))
}

struct Task<F>(F);

impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Task<F> {
    type Output = R;

    #[inline(always)]
    fn call(mut self) -> R {
        (self.0)()
    }
}
