//! What a job may ask of a machine.

use super::{FieldErrors, glob};
use crate::job::{
    GpuRequest, Resources,
    resources::{GIB, MIB},
};

/// Docker refuses less.
const LEAST_MEMORY: u64 = 6 * MIB;
const MOST_MEMORY: u64 = 64 * 1024 * GIB;
const MOST_SCRATCH: u64 = 1024 * 1024 * GIB;
const LEAST_CPU_MILLIS: u32 = 10;
const MOST_CPU_MILLIS: u32 = 1_000_000;
const MOST_GPUS: u32 = 64;
/// Of globs and their bytes: each is tried on the GPUs of every machine, with every claim.
const MOST_MODELS: usize = 16;
const LONGEST_MODEL: usize = 64;
/// Linux has no more process ids.
const MOST_PIDS: u32 = 4_194_304;

pub(super) fn check(asked: &Resources, errors: &mut FieldErrors) {
    let cpu = asked.cpu_millis;
    if !(LEAST_CPU_MILLIS..=MOST_CPU_MILLIS).contains(&cpu) {
        errors.push("resources.cpu", format!("{cpu}m is not between 10m and 1000 cores"));
    }
    let memory = asked.memory_bytes;
    if memory < LEAST_MEMORY {
        errors.push("resources.memory", format!("{memory} bytes is less than 6 MiB, the least Docker takes"));
    } else if memory > MOST_MEMORY {
        errors.push("resources.memory", "is more than 64 TiB");
    } else if asked.shm_bytes > memory && asked.shm_bytes != Resources::default().shm_bytes {
        // The default nobody asked for: the memory limit decides, as with Docker.
        errors.push("resources.shm", "is larger than memory, in which it counts");
    }
    if asked.scratch_bytes == 0 {
        errors.push("resources.scratch", "is zero: /out and /tmp_disk need some");
    } else if asked.scratch_bytes > MOST_SCRATCH {
        errors.push("resources.scratch", "is more than 1 PiB");
    }
    if !(1..=MOST_PIDS).contains(&asked.pids) {
        errors.push("resources.pids", format!("{} is not between 1 and {MOST_PIDS}", asked.pids));
    }
    if let Some(gpu) = &asked.gpu {
        check_gpu(gpu, errors);
        if gpu.shared && asked.exclusive {
            errors.push("resources.exclusive", "is the opposite of a shared GPU: leave one of them out");
        }
    }
}

fn check_gpu(gpu: &GpuRequest, errors: &mut FieldErrors) {
    if !(1..=MOST_GPUS).contains(&gpu.count) {
        let hint = if gpu.count == 0 { ": leave `gpu` out for none" } else { "" };
        errors.push("resources.gpu.count", format!("{} is not between 1 and {MOST_GPUS}{hint}", gpu.count));
    } else if gpu.shared && gpu.count != 1 {
        errors.push("resources.gpu.count", "is not 1: a shared job has a part of one GPU");
    }
    if gpu.memory_bytes > MOST_MEMORY {
        errors.push("resources.gpu.memory", "is more than 64 TiB");
    } else if gpu.shared && gpu.memory_bytes == 0 {
        errors.push("resources.gpu.memory", "is not said: a shared GPU is shared by its memory");
    }
    check_models(&gpu.model, errors);
    if let Some(profile) = &gpu.mig {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".+".contains(&b);
        if !(1..=32).contains(&profile.len()) || !profile.bytes().all(plain) {
            let problem = format!("`{profile}` is not a MIG profile as in 1g.10gb");
            errors.push("resources.gpu.mig", problem);
        }
        if gpu.nvlink {
            errors.push("resources.gpu.nvlink", "joins whole GPUs, not MIG instances");
        }
        if gpu.shared {
            errors.push("resources.gpu.shared", "is for whole GPUs: a MIG instance has one job");
        }
    }
}

fn check_models(globs: &[String], errors: &mut FieldErrors) {
    if globs.len() > MOST_MODELS {
        let problem = format!("names {} patterns; at most {MOST_MODELS}", globs.len());
        return errors.push("resources.gpu.model", problem);
    }
    for (index, text) in globs.iter().enumerate() {
        let path = match globs.len() {
            1 => "resources.gpu.model".to_owned(),
            _ => format!("resources.gpu.model[{index}]"),
        };
        if text.len() > LONGEST_MODEL {
            errors.push(path, format!("has {} bytes; at most {LONGEST_MODEL}", text.len()));
        } else {
            errors.take(glob(&path, text.strip_prefix('!').unwrap_or(text)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobSpec, validate};

    fn paths(change: impl FnOnce(&mut Resources)) -> Vec<String> {
        let mut spec = JobSpec::for_image("alpine:3");
        change(&mut spec.resources);
        validate(&spec).err().into_iter().flatten().map(|error| error.path).collect()
    }

    fn gpu(change: impl FnOnce(&mut GpuRequest)) -> Vec<String> {
        let mut asked = GpuRequest::of(1);
        change(&mut asked);
        paths(|resources| resources.gpu = Some(asked))
    }

    #[test]
    fn resources_have_ends_on_both_sides() {
        assert_eq!(paths(|r| r.shm_bytes = r.memory_bytes + 1), ["resources.shm"]);
        assert!(paths(|r| r.memory_bytes = LEAST_MEMORY).is_empty());
        assert_eq!(paths(|r| r.memory_bytes = MOST_MEMORY + 1), ["resources.memory"]);
        assert_eq!(paths(|r| r.cpu_millis = MOST_CPU_MILLIS + 1), ["resources.cpu"]);
        assert_eq!(paths(|r| r.scratch_bytes = 0), ["resources.scratch"]);
        assert_eq!(paths(|r| r.pids = 0), ["resources.pids"]);
        assert_eq!(gpu(|gpu| gpu.count = 0), ["resources.gpu.count"]);
        assert_eq!(gpu(|gpu| gpu.count = 65), ["resources.gpu.count"]);
        assert_eq!(gpu(|gpu| gpu.memory_bytes = MOST_MEMORY + 1), ["resources.gpu.memory"]);
    }

    #[test]
    fn every_wrong_word_about_gpus_is_told_with_its_place() {
        let good = |gpu: &mut GpuRequest| {
            gpu.model = vec!["A100*".into(), "!*PCIe*".into()];
            gpu.mig = Some("1g.10gb".into());
        };
        assert_eq!(gpu(good), Vec::<String>::new());
        let bad = |gpu: &mut GpuRequest| {
            gpu.model = vec!["A100*".into(), "!A[".into(), "!".into()];
            gpu.mig = Some("big one".into());
            gpu.nvlink = true;
            gpu.shared = true;
        };
        assert_eq!(
            gpu(bad),
            [
                "resources.gpu.memory",
                "resources.gpu.model[1]",
                "resources.gpu.model[2]",
                "resources.gpu.mig",
                "resources.gpu.nvlink",
                "resources.gpu.shared"
            ]
        );
    }

    /// Some thousands of patterns kept the controller from answering anybody.
    #[test]
    fn patterns_that_would_stop_the_controller_are_not_taken() {
        let many = |gpu: &mut GpuRequest| gpu.model = vec!["H0*[0-9]".into(); MOST_MODELS + 1];
        assert_eq!(gpu(many), ["resources.gpu.model"]);
        let long = |gpu: &mut GpuRequest| gpu.model = vec!["A".into(), "*a".repeat(LONGEST_MODEL)];
        assert_eq!(gpu(long), ["resources.gpu.model[1]"]);
        assert!(gpu(|gpu| gpu.model = vec!["H0*[0-9]".into(); MOST_MODELS]).is_empty());
    }

    #[test]
    fn a_shared_gpu_is_one_with_a_size_and_no_machine_of_its_own() {
        let shared = GpuRequest { memory_bytes: 8 * GIB, shared: true, ..GpuRequest::of(1) };
        assert!(paths(|r| r.gpu = Some(shared.clone())).is_empty());
        let two = GpuRequest { count: 2, ..shared.clone() };
        assert_eq!(paths(|r| r.gpu = Some(two)), ["resources.gpu.count"]);
        let alone = |r: &mut Resources| (r.gpu, r.exclusive) = (Some(shared), true);
        assert_eq!(paths(alone), ["resources.exclusive"]);
    }
}
