//! Where and in what numbers the networks compute: options of every verb that runs one.

use clap::{Args, ValueEnum};
use diffusion::{DType, Device, DeviceKind, WeightDtype};

/// The device and the dtype.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineArgs {
    /// Where to compute
    #[arg(long, value_enum, value_name = "DEVICE", default_value_t, help_heading = "Engine")]
    pub(crate) device: DeviceArg,

    /// What weights are stored in. The CPU computes in bf16 if they are bf16 and it multiplies that (AMX, AVX-512 BF16), and in
    /// f32 otherwise, so that bf16 and f16 save memory, not time
    #[arg(long, value_enum, value_name = "DTYPE", default_value_t, help_heading = "Engine")]
    pub(crate) dtype: DtypeArg,
}

impl EngineArgs {
    /// Opens the device, and says what to store weights in on it.
    pub(crate) fn open(&self) -> anyhow::Result<(Device, DType)> {
        let device = DeviceKind::from(self.device).open()?;
        let dtype = WeightDtype::from(self.dtype).on(&device);
        Ok((device, dtype))
    }
}

/// The device to compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceArg {
    /// A GPU if this build supports one and the machine has it, else the CPU
    #[default]
    Auto,
    /// The CPU
    Cpu,
    /// The first NVIDIA GPU, in builds with the cuda feature
    Cuda,
    /// The Apple GPU, in builds with the metal feature
    Metal,
}

impl From<DeviceArg> for DeviceKind {
    fn from(device: DeviceArg) -> Self {
        match device {
            DeviceArg::Auto => Self::Auto,
            DeviceArg::Cpu => Self::Cpu,
            DeviceArg::Cuda => Self::Cuda,
            DeviceArg::Metal => Self::Metal,
        }
    }
}

/// What weights are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeArg {
    /// f32 on the CPU, f16 on a GPU
    #[default]
    Auto,
    /// 32 bits
    F32,
    /// bfloat16
    Bf16,
    /// Half precision
    F16,
}

impl From<DtypeArg> for WeightDtype {
    fn from(dtype: DtypeArg) -> Self {
        match dtype {
            DtypeArg::Auto => Self::Auto,
            DtypeArg::F32 => Self::F32,
            DtypeArg::Bf16 => Self::Bf16,
            DtypeArg::F16 => Self::F16,
        }
    }
}
