//! How much memory a stage takes.

use std::collections::BTreeMap;
use std::fs;

use crate::args::Stage;

/// The most memory that this process has held, over all and stage by stage, as Linux counts it; nothing elsewhere.
///
/// Linux remembers one peak for a process (`VmHWM`), which a process may take back to what it holds now: so a stage's peak has
/// the network in it that runs, and not what reading the weights took beside them, nor an earlier stage's.
#[derive(Default)]
pub(super) struct PeakMemory {
    process: Option<u64>,
    stages: BTreeMap<String, u64>,
    counts_anew: bool,
}

impl PeakMemory {
    /// A stage begins.
    pub(super) fn begin(&mut self) {
        self.note();
        // "5" is the one of its commands that resets the peak (proc(5)).
        self.counts_anew = fs::write("/proc/self/clear_refs", "5").is_ok();
    }

    /// The stage has ended.
    pub(super) fn end(&mut self, stage: Stage) {
        let peak = self.note();
        if let Some(peak) = peak.filter(|_| self.counts_anew) {
            self.stages.insert(stage.name(), peak);
        }
    }

    /// The bytes of the whole process, and of each stage by the name that `--only` takes.
    pub(super) fn finish(mut self) -> (Option<u64>, BTreeMap<String, u64>) {
        self.note();
        (self.process, self.stages)
    }

    fn note(&mut self) -> Option<u64> {
        let peak = peak_rss_bytes();
        self.process = self.process.max(peak);
        peak
    }
}

/// The most memory since the peak was last reset.
fn peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_stage_does_not_count_what_an_earlier_one_held() {
        const LARGE: usize = 256 << 20;
        let mut memory = PeakMemory::default();
        memory.begin();
        // Filled with ones, as pages of zeros are not there until someone writes to them.
        drop(std::hint::black_box(vec![1_u8; LARGE]));
        memory.end(Stage::Unet);
        memory.begin();
        memory.end(Stage::Text);
        let counts_anew = memory.counts_anew;
        let (process, stages) = memory.finish();
        let process = process.expect("Linux counts");
        assert!(process >= LARGE as u64, "{process}");
        if counts_anew {
            assert!(stages["unet"] >= LARGE as u64, "{stages:?}");
            assert!(stages["text"] < stages["unet"], "{stages:?}");
        }
    }
}
