//! Where the networks compute, and in what numbers.

use std::fmt;

use candle_core::{DType, Device};

use crate::error::{DiffusionError, Result};

/// A choice of device, made before it is known what the machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// A GPU if this build supports one and the machine has it, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU; needs the `cuda` feature.
    Cuda,
    /// The Apple GPU; needs the `metal` feature.
    Metal,
}

impl DeviceKind {
    /// Opens the device.
    ///
    /// # Errors
    /// [`DiffusionError::Argument`] if this build or this machine does not have it.
    pub fn open(self) -> Result<Device> {
        let needs = |feature: &str, error: Option<candle_core::Error>| {
            let expected =
                format!("a build with the {feature} feature on a machine with such a GPU");
            let found = error.map_or_else(|| "a build without it".to_owned(), |e| e.to_string());
            DiffusionError::argument("device", expected, found)
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if cfg!(feature = "cuda") => {
                Device::new_cuda(0).map_err(|error| needs("cuda", Some(error)))
            }
            Self::Metal if cfg!(feature = "metal") => {
                Device::new_metal(0).map_err(|error| needs("metal", Some(error)))
            }
            Self::Cuda => Err(needs("cuda", None)),
            Self::Metal => Err(needs("metal", None)),
            Self::Auto => {
                let gpu = [Self::Cuda, Self::Metal].into_iter().find_map(|kind| kind.open().ok());
                Ok(gpu.unwrap_or(Device::Cpu))
            }
        }
    }
}

/// The instructions that the networks use on the CPU: `amx`, `avx512bf16`, `avx512`, `avx2` or `portable`.
///
/// The best that the processor has, or the one that the environment variable `PHOTOMEND_ISA` names.
#[must_use]
pub fn instruction_set() -> &'static str {
    kernels::Tier::current().name()
}

/// A choice of the numbers that weights are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightDtype {
    /// f32 on the CPU, f16 on a GPU.
    #[default]
    Auto,
    /// 32 bits: the most memory, and nothing to convert on the CPU.
    F32,
    /// bfloat16: half the memory; converted to f32 as the CPU computes.
    Bf16,
    /// Half precision: half the memory; converted to f32 as the CPU computes.
    F16,
}

impl WeightDtype {
    /// The dtype to store weights in on `device`.
    #[must_use]
    pub fn on(self, device: &Device) -> DType {
        match self {
            Self::Auto if device.is_cpu() => DType::F32,
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::Auto | Self::F16 => DType::F16,
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_device_and_a_missing_one_is_named() {
        DeviceKind::Auto.open().expect("the CPU at least");
        assert!(DeviceKind::Cpu.open().expect("always there").is_cpu());
        if !cfg!(feature = "cuda") {
            let error = DeviceKind::Cuda.open().expect_err("not built in").to_string();
            assert!(error.starts_with("device: expected a build with the cuda feature"), "{error}");
        }
    }

    #[test]
    fn weights_are_f32_on_the_cpu_unless_asked() {
        assert_eq!(WeightDtype::Auto.on(&Device::Cpu), DType::F32);
        assert_eq!(WeightDtype::Bf16.on(&Device::Cpu), DType::BF16);
    }
}
