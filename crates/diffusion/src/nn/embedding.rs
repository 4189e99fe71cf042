//! `torch.nn.Embedding`.

use candle_core::{DType, Tensor};

use super::Params;
use crate::error::{DiffusionError, Result};

/// A table of vectors, looked up by index.
#[derive(Clone, Debug)]
pub struct Embedding {
    weight: Tensor,
}

impl Embedding {
    /// Loads `weight` `(num_embeddings, embedding_dim)`.
    ///
    /// # Errors
    /// Those of [`Params::get`].
    pub fn load(num_embeddings: usize, embedding_dim: usize, params: &Params) -> Result<Self> {
        Ok(Self { weight: params.get([num_embeddings, embedding_dim], "weight")? })
    }

    /// The vectors at `ids`.
    ///
    /// # Shapes
    /// - ids: any shape, u32
    /// - returns: that shape and `embedding_dim`, in the dtype of the weights
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if an index is outside the table.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (num_embeddings, embedding_dim) = self.weight.dims2()?;
        let flat = ids.flatten_all()?.to_dtype(DType::U32)?;
        // Checked here because GPUs do not: an index outside the table would read whatever lies there.
        if let Some(id) =
            flat.to_vec1::<u32>()?.into_iter().find(|id| *id as usize >= num_embeddings)
        {
            let expected = format!("indices below {num_embeddings}");
            return Err(DiffusionError::argument("input_ids", expected, id));
        }
        let mut shape = ids.dims().to_vec();
        shape.push(embedding_dim);
        Ok(self.weight.index_select(&flat, 0)?.reshape(shape)?)
    }

    /// The first `len` vectors, `(len, embedding_dim)`.
    ///
    /// # Errors
    /// That of the tensor operation if the table is shorter.
    pub fn first(&self, len: usize) -> Result<Tensor> {
        Ok(self.weight.narrow(0, 0, len)?)
    }
}
