//! Recording what is computed, and going backward through it.
//!
//! candle keeps a graph of its own: it starts each gradient from a tensor of zeros and adds every contribution to it,
//! one thread at a time and in bf16 slowly, which costs as much as the operators themselves. While a [`Recording`] is
//! made, this crate's operators write themselves down here and give results that candle takes for variables, where its
//! graph ends. Going backward, operators hand their gradients on to each other; only where something else than an
//! operator of this crate stands between two of them is candle asked for its part.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Result, Shape, Tensor, TensorId, Var, bail,
};

use crate::add;
use crate::tensors::cpu;

thread_local! {
    /// The recording that this thread is making.
    static NODES: RefCell<Option<Vec<Node>>> = const { RefCell::new(None) };
}

/// An operator with what went in and came out.
struct Node {
    op: Op,
    output: Tensor,
}

enum Op {
    One(Box<dyn CustomOp1 + Send + Sync>, Tensor),
    Two(Box<dyn CustomOp2 + Send + Sync>, [Tensor; 2]),
    Three(Box<dyn CustomOp3 + Send + Sync>, [Tensor; 3]),
}

/// The operators of a computation, in order.
#[must_use]
pub struct Recording(Vec<Node>);

/// Stops recording when it is dropped, also by a panic.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        NODES.with(|nodes| nodes.borrow_mut().take());
    }
}

impl Recording {
    /// Computes something and records the operators of this crate that it uses on this thread.
    ///
    /// # Errors
    /// Those of the computation; or if a recording is being made already.
    pub fn of<T, E: From<candle_core::Error>>(
        run: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, Self), E> {
        let is_recording = NODES.with(|nodes| nodes.borrow().is_some());
        if is_recording {
            return Err(candle_core::Error::msg("a recording in a recording").bt().into());
        }
        NODES.with(|nodes| *nodes.borrow_mut() = Some(Vec::new()));
        let guard = Guard;
        let result = run()?;
        let nodes = NODES.with(|nodes| nodes.borrow_mut().take()).unwrap_or_default();
        drop(guard);
        Ok((result, Self(nodes)))
    }

    /// The gradients by all variables that the computation started from, given that by its output.
    ///
    /// # Errors
    /// Those of the operators' backward passes.
    pub fn backward(self, output: &Tensor, gradient: &Tensor) -> Result<Gradients> {
        let mut gradients = Gradients::default();
        gradients.route(output, gradient.clone())?;
        // Taken from the end, so that each operator's memory is given back when it has had its turn.
        let mut nodes = self.0;
        while let Some(Node { op, output }) = nodes.pop() {
            let Some(gradient) = gradients.take(&output) else { continue };
            match op {
                Op::One(op, xs) => {
                    let dxs = op.bwd(&xs, &output, &gradient)?;
                    gradients.route_if(&xs, dxs)?;
                }
                Op::Two(op, [a, b]) => {
                    let (da, db) = op.bwd(&a, &b, &output, &gradient)?;
                    gradients.route_if(&a, da)?;
                    gradients.route_if(&b, db)?;
                }
                Op::Three(op, [a, b, c]) => {
                    let (da, db, dc) = op.bwd(&a, &b, &c, &output, &gradient)?;
                    gradients.route_if(&a, da)?;
                    gradients.route_if(&b, db)?;
                    gradients.route_if(&c, dc)?;
                }
            }
        }
        Ok(gradients)
    }
}

/// Gradients by variables.
#[derive(Debug, Default)]
pub struct Gradients(HashMap<TensorId, Tensor>);

impl Gradients {
    /// The gradient by a variable, if there is one.
    #[must_use]
    pub fn get(&self, id: TensorId) -> Option<&Tensor> {
        self.0.get(&id)
    }

    /// Takes the gradient by a variable out.
    pub fn take(&mut self, variable: &Tensor) -> Option<Tensor> {
        self.0.remove(&variable.id())
    }

    fn route_if(&mut self, tensor: &Tensor, gradient: Option<Tensor>) -> Result<()> {
        match gradient {
            Some(gradient) => self.route(tensor, gradient),
            None => Ok(()),
        }
    }

    /// Adds to the gradient of a variable, or of those that candle made a tensor from.
    fn route(&mut self, tensor: &Tensor, gradient: Tensor) -> Result<()> {
        if tensor.is_variable() {
            return self.add(tensor.id(), gradient);
        }
        if !tensor.track_op() {
            return Ok(());
        }
        let gradient = gradient.to_dtype(tensor.dtype())?;
        let store = (tensor * gradient)?.sum_all()?.backward()?;
        for &id in store.get_ids() {
            if let Some(gradient) = store.get_id(id) {
                self.add(id, gradient.clone())?;
            }
        }
        Ok(())
    }

    fn add(&mut self, id: TensorId, gradient: Tensor) -> Result<()> {
        let sum = match self.0.remove(&id) {
            Some(sum) if sum.rank() > 0 => add(&sum, &gradient)?,
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        self.0.insert(id, sum);
        Ok(())
    }
}

fn is_recording() -> bool {
    NODES.with(|nodes| nodes.borrow().is_some())
}

fn record(op: Op, output: &Tensor) {
    NODES.with(|nodes| {
        if let Some(nodes) = nodes.borrow_mut().as_mut() {
            nodes.push(Node { op, output: output.clone() });
        }
    });
}

/// A storage as a variable: the end of candle's graph.
fn variable(storage: CpuStorage, shape: Shape) -> Result<Tensor> {
    let variable = match storage {
        CpuStorage::F32(values) => Var::from_vec(values, shape, &Device::Cpu)?,
        CpuStorage::BF16(values) => Var::from_vec(values, shape, &Device::Cpu)?,
        _ => bail!("kernels: expected f32 or bf16"),
    };
    Ok(variable.into_inner())
}

/// `xs.apply_op1(op)`, recorded if that is going on.
pub(crate) fn apply1(xs: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    if !is_recording() || !xs.track_op() {
        return xs.apply_op1(op);
    }
    let (values, shape) = {
        let (storage, layout) = xs.storage_and_layout();
        op.cpu_fwd(cpu(&storage)?, layout)?
    };
    let output = variable(values, shape)?;
    record(Op::One(Box::new(op), xs.clone()), &output);
    Ok(output)
}

/// `a.apply_op2(b, op)`, recorded if that is going on.
pub(crate) fn apply2(
    a: &Tensor,
    b: &Tensor,
    op: impl CustomOp2 + Send + Sync + 'static,
) -> Result<Tensor> {
    if !is_recording() || !(a.track_op() || b.track_op()) {
        return a.apply_op2(b, op);
    }
    let (values, shape) = {
        let ((a, a_layout), (b, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
        op.cpu_fwd(cpu(&a)?, a_layout, cpu(&b)?, b_layout)?
    };
    let output = variable(values, shape)?;
    record(Op::Two(Box::new(op), [a.clone(), b.clone()]), &output);
    Ok(output)
}

/// `a.apply_op3(b, c, op)`, recorded if that is going on.
pub(crate) fn apply3(
    a: &Tensor,
    b: &Tensor,
    c: &Tensor,
    op: impl CustomOp3 + Send + Sync + 'static,
) -> Result<Tensor> {
    if !is_recording() || ![a, b, c].iter().any(|tensor| tensor.track_op()) {
        return a.apply_op3(b, c, op);
    }
    let (values, shape) = {
        let [(x, x_layout), (y, y_layout), (z, z_layout)] =
            [a, b, c].map(Tensor::storage_and_layout);
        op.cpu_fwd(cpu(&x)?, x_layout, cpu(&y)?, y_layout, cpu(&z)?, z_layout)?
    };
    let output = variable(values, shape)?;
    record(Op::Three(Box::new(op), [a.clone(), b.clone(), c.clone()]), &output);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Numbers, assert_same};
    use crate::{Activation, LowRank, PackedWeight, activate, linear_frozen, linear_lora};

    #[test]
    fn gradients_are_those_of_candles_graph() -> Result<()> {
        let mut random = Numbers::new(50);
        let xs = Var::from_tensor(&random.tensor(&[2, 6, 8])?)?;
        let scale = Var::from_tensor(&random.tensor(&[8])?)?;
        let down = Var::from_tensor(&random.tensor(&[3, 8])?)?;
        let up = Var::from_tensor(&random.tensor(&[8, 3])?)?;
        let weight = PackedWeight::new(&random.tensor(&[8, 8])?, None)?;
        let pull = random.tensor(&[2, 48])?;
        // Operators, candle's operations between them and on matrices, and an input that is used twice.
        let run = || {
            let hidden = linear_frozen(&xs, &weight, None)?.broadcast_mul(&scale)?;
            let hidden = activate(&hidden, Activation::Silu)?;
            let up = up.affine(2.0, 0.0)?;
            let low = LowRank { down: &down, up: &up, scale: 0.5 };
            let hidden = linear_lora(&hidden, &weight, low)?;
            add(&linear_frozen(&hidden, &weight, Some(&xs))?, &hidden)?.reshape((2, 48))
        };
        let expected = (run()? * &pull)?.sum_all()?.backward()?;
        let (output, recording) = Recording::of(run)?;
        assert_eq!(output.to_vec2::<f32>()?, run()?.to_vec2::<f32>()?);
        let found = recording.backward(&output, &pull)?;
        for variable in [&xs, &scale, &down, &up] {
            let found = found.get(variable.id()).expect("a gradient");
            assert_same(found, expected.get(variable).expect("a gradient"), 1e-6);
        }
        Ok(())
    }

    #[test]
    fn recordings_are_not_nested_and_end_with_their_computation() {
        let nested = || Recording::of(|| Ok::<_, candle_core::Error>(())).map(|_| ());
        assert!(Recording::of(nested).is_err());
        assert!(!is_recording());
        let failed = Recording::of(|| Err::<(), _>(candle_core::Error::msg("no")));
        assert!(failed.is_err() && !is_recording());
    }
}
