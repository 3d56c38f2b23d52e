//! What a job asks of a machine.

use super::gpu::GpuRequest;
use serde::{Deserialize, Serialize};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// Limits of one job; every field is enforced on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Memory without extra swap; tmpfs and `/dev/shm` count in it.
    pub memory_bytes: u64,
    /// Size of `/dev/shm`.
    pub shm_bytes: u64,
    /// Writable layer, `/tmp_disk` and `/out` together.
    pub scratch_bytes: u64,
    pub pids: u32,
    /// `None`: no GPU.
    pub gpu: Option<GpuRequest>,
    /// Alone on its machine.
    #[serde(default)]
    pub exclusive: bool,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            // One core and 2 GiB: what a script needs that nobody measured.
            cpu_millis: 1000,
            memory_bytes: 2 * GIB,
            // Docker's own default.
            shm_bytes: 64 * MIB,
            scratch_bytes: 20 * GIB,
            // Enough for data loaders, too few for a fork bomb.
            pids: 4096,
            gpu: None,
            exclusive: false,
        }
    }
}

impl Resources {
    /// GPUs that are nobody else's meanwhile.
    pub fn whole_gpus(&self) -> u32 {
        self.gpu.as_ref().filter(|gpu| !gpu.shared).map_or(0, |gpu| gpu.count)
    }

    pub fn gpu_count(&self) -> u32 {
        self.gpu.as_ref().map_or(0, |gpu| gpu.count)
    }
}
