//! The names of the samplers.

use std::fmt;
use std::str::FromStr;

use crate::error::{DiffusionError, Result};

/// A sampler, by the name that users choose it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchedulerKind {
    /// `ddim`
    Ddim,
    /// `ddpm`
    Ddpm,
    /// `pndm`
    Pndm,
    /// `euler`
    Euler,
    /// `euler-a`
    EulerAncestral,
    /// `dpmpp-2m`: DPM-Solver++ with the noise levels that the configuration asks for.
    DpmSolver,
    /// `dpmpp-2m-karras`: the same with Karras's noise levels.
    DpmSolverKarras,
    /// `unipc`
    UniPc,
    /// `lcm`
    Lcm,
}

impl SchedulerKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Ddim,
        Self::Ddpm,
        Self::Pndm,
        Self::Euler,
        Self::EulerAncestral,
        Self::DpmSolver,
        Self::DpmSolverKarras,
        Self::UniPc,
        Self::Lcm,
    ];

    /// The name on a command line, such as `dpmpp-2m-karras`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ddim => "ddim",
            Self::Ddpm => "ddpm",
            Self::Pndm => "pndm",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler-a",
            Self::DpmSolver => "dpmpp-2m",
            Self::DpmSolverKarras => "dpmpp-2m-karras",
            Self::UniPc => "unipc",
            Self::Lcm => "lcm",
        }
    }

    /// diffusers' class, as in `_class_name`.
    #[must_use]
    pub const fn class_name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIMScheduler",
            Self::Ddpm => "DDPMScheduler",
            Self::Pndm => "PNDMScheduler",
            Self::Euler => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::DpmSolver | Self::DpmSolverKarras => "DPMSolverMultistepScheduler",
            Self::UniPc => "UniPCMultistepScheduler",
            Self::Lcm => "LCMScheduler",
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = DiffusionError;

    /// Reads a name, or the name of diffusers' class.
    fn from_str(name: &str) -> Result<Self> {
        // The first of a class stands for it: DPM-Solver++ without Karras's levels.
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name || kind.class_name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                DiffusionError::argument("scheduler", format!("one of {names}"), name)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_classes_are_read_back() {
        for kind in SchedulerKind::ALL {
            assert_eq!(kind.to_string().parse::<SchedulerKind>().expect("its own name"), kind);
            let of_class: SchedulerKind = kind.class_name().parse().expect("its class");
            assert_eq!(of_class.class_name(), kind.class_name());
        }
        let error = "heun".parse::<SchedulerKind>().expect_err("not there");
        assert!(error.to_string().contains("dpmpp-2m-karras"), "{error}");
    }
}
