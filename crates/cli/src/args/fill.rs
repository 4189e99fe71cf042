//! How damage is filled where no model repaints it, and what a model starts from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use diffusion::pipelines::pixelwise::Refiner;
use imaging::Repainter;
use imaging::fill::{FillMethod, FillOptions};

use crate::exit;

/// Telea's radius if none is given, in pixels.
pub(crate) const TELEA_RADIUS: u8 = 3;

/// The fill.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Repainting")]
pub(crate) struct FillArgs {
    /// How the damage is filled; with a model, what it starts from
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    pub(crate) method: MethodArg,

    /// Telea's neighbourhood radius in pixels, 1 to 100
    #[arg(
        long, value_name = "PX", default_value_t = TELEA_RADIUS,
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    pub(crate) radius: u8,

    /// Refine with this network, which `photomend train-refiner` wrote, and not with the carried one
    #[arg(long, value_name = "FILE")]
    pub(crate) refiner: Option<PathBuf>,
}

impl FillArgs {
    /// The fill that was asked for.
    ///
    /// # Errors
    /// Those of reading a network, and a usage error for options that do not go together.
    pub(crate) fn repainter(&self) -> anyhow::Result<Arc<dyn Repainter>> {
        if self.refiner.is_some() && self.method != MethodArg::Refined {
            return Err(exit::usage("--refiner is for --method refined"));
        }
        self.method.repainter(self.radius, self.refiner.as_deref())
    }
}

/// The inpainting algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodArg {
    /// The biharmonic equation, improved by a small network: the most faithful
    #[default]
    Refined,
    /// The biharmonic equation: smooth, the most faithful classical one on thin damage
    Biharmonic,
    /// Fast marching (Telea 2004): quick, follows edges, may smear wide losses
    Telea,
}

impl MethodArg {
    /// What fills so: with Telea's radius, or with the network in a file, else the carried one.
    ///
    /// # Errors
    /// Those of reading a network.
    pub(crate) fn repainter(
        self,
        radius: u8,
        refiner: Option<&Path>,
    ) -> anyhow::Result<Arc<dyn Repainter>> {
        let classical = |method| FillOptions { method, radius: f32::from(radius) };
        Ok(match self {
            Self::Refined => Arc::new(refiner.map_or_else(Refiner::carried, Refiner::open)?),
            Self::Biharmonic => Arc::new(classical(FillMethod::Biharmonic)),
            Self::Telea => Arc::new(classical(FillMethod::Telea)),
        })
    }
}
