//! The table. A rule fires by an outcome or by a text: a line, or what the outcome says. Texts are in lower case; all
//! pieces of one must be in the line. Those that are real are from Docker 20.10 and containerd's image store, glibc,
//! Python, PyTorch, TensorFlow, apt and the Kleinkram client.

use super::Facts;
use longshore_common::{
    agent::MEMORY_FULL,
    job::{KLEINKRAM, Outcome, Security},
};

pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) outcomes: &'static [&'static str],
    pub(super) texts: &'static [&'static [&'static str]],
    /// What must hold beside.
    pub(super) when: Option<fn(&Facts<'_>) -> bool>,
    pub(super) text: &'static str,
}

impl Rule {
    pub(super) fn matches(&self, line: &str) -> bool {
        self.texts.iter().any(|pieces| pieces.iter().all(|piece| line.contains(piece)))
    }
}

fn wants_gpu(facts: &Facts<'_>) -> bool {
    facts.spec.resources.gpu.is_some()
}

fn has_no_gpu(facts: &Facts<'_>) -> bool {
    facts.spec.resources.gpu.is_none()
}

fn never_ran(facts: &Facts<'_>) -> bool {
    !matches!(facts.outcome, Outcome::ExitCode(_))
}

fn is_not_of_a_gpu(facts: &Facts<'_>) -> bool {
    !facts.lines.iter().any(|line| line.to_lowercase().contains("cuda out of memory"))
}

fn is_kleinkram(facts: &Facts<'_>) -> bool {
    facts.spec.contract == KLEINKRAM
}

fn is_restricted(facts: &Facts<'_>) -> bool {
    facts.spec.security == Security::Restricted
}

/// A bar was under way: bytes came in when the memory ran out.
fn fetched_into_memory(facts: &Facts<'_>) -> bool {
    let bar = |line: &String| line.contains("%|") || (line.contains("it/s") || line.contains("B/s"));
    is_kleinkram(facts) && facts.lines.iter().rev().take(10).any(bar)
}

fn wrote_into_memory(facts: &Facts<'_>) -> bool {
    facts.spec.files_in_memory() && *facts.outcome == Outcome::FilesOverMemory
}

/// By something, while its processes held nearly all that they may: its agent saw that.
fn was_killed_when_full(facts: &Facts<'_>) -> bool {
    facts.outcome.cli_exit_code() == 137 && facts.notes.iter().any(|note| note.starts_with(MEMORY_FULL))
}

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "image_not_found",
        outcomes: &["image_not_found"],
        texts: &[&["failed to resolve reference", "not found"], &["manifest", "unknown", "docker"], &["repository does not exist or may require"]],
        when: Some(never_ran),
        text: "the image could not be found: check its name and tag, and that it was pushed",
    },
    Rule {
        name: "client_outdated",
        outcomes: &[],
        texts: &[
            &["426", "upgrade required"], &["cli", "outdated"], &["please update", "cli"], &["please upgrade", "cli"],
            &["update your cli"], &["kleinkram", "outdated"], &["client version", "not supported"],
            &["client version", "too old"], &["pip install --upgrade kleinkram"], &["invalidclientversion"],
        ],
        when: None,
        text: "the client library in the image is too old for the server: build the image again with a newer one (pip install --upgrade kleinkram) and use a tag of your own for it",
    },
    Rule {
        name: "download_to_tmp_disk",
        outcomes: &["oom_killed", "files_over_memory"],
        texts: &[],
        when: Some(fetched_into_memory),
        text: "it was fetching files when its memory ran out: fetch them to /tmp_disk, which is on disk and does not count as memory",
    },
    Rule {
        name: "files_in_memory",
        outcomes: &["files_over_memory"],
        texts: &[],
        when: Some(wrote_into_memory),
        text: "under contract kleinkram what a container writes outside of /tmp_disk and /out counts as memory: write there, ask for more memory, or turn the rule off with kleinkram.files_in_memory: false",
    },
    Rule {
        name: "gpu_memory",
        outcomes: &["vram_limit"],
        texts: &[&["cuda out of memory"], &["cuda_error_out_of_memory"], &["resource_exhausted", "gpu"], &["torch.outofmemoryerror"]],
        when: None,
        text: "the GPU's memory ran out: use smaller batches, or ask for a GPU with more (--gpus 1,memory=SIZE)",
    },
    Rule {
        name: "memory",
        outcomes: &["oom_killed"],
        texts: &[
            &["memoryerror"], &["cannot allocate memory"], &["std::bad_alloc"], &["out of memory: kill"], &["oom-kill"],
            &["javascript heap out of memory"], &["java.lang.outofmemoryerror"], &["unable to allocate", "array"],
        ],
        when: Some(is_not_of_a_gpu),
        text: "memory ran out: ask for more (--memory SIZE; `longshore show` says what it used), or keep less of it at a time",
    },
    Rule {
        name: "memory",
        outcomes: &["exit_code"],
        texts: &[],
        when: Some(was_killed_when_full),
        text: "it was killed while it held nearly all of its memory: ask for more (--memory SIZE)",
    },
    Rule {
        name: "disk",
        outcomes: &["disk_limit"],
        texts: &[&["no space left on device"], &["disk quota exceeded"], &["errno 28"], &["enospc"]],
        when: None,
        text: "disk ran out: ask for more (--scratch SIZE), or remove what is not needed before the end; /dev/shm has a size of its own (--shm-size)",
    },
    Rule {
        name: "shared_memory",
        outcomes: &[],
        texts: &[&["bus error", "shm"], &["unable to open shared memory"], &["insufficient shared memory"], &["dataloader worker", "bus error"]],
        when: None,
        text: "/dev/shm is too small: ask for more (--shm-size SIZE), which counts as memory",
    },
    Rule {
        name: "gpu_not_requested",
        outcomes: &[],
        texts: NO_GPU,
        when: Some(has_no_gpu),
        text: "the program looks for a GPU and the job asked for none: add --gpus 1 (resources.gpu)",
    },
    Rule {
        name: "gpu_missing",
        outcomes: &[],
        texts: NO_GPU,
        when: Some(wants_gpu),
        text: "the job has a GPU and the program did not find it: build the image for CUDA, and for a driver that is not newer than the node's (`longshore agents show NODE`)",
    },
    Rule {
        name: "out_not_writable",
        outcomes: &[],
        texts: &[
            &["permission denied", "/out"], &["operation not permitted", "/out"], &["read-only file system", "/out"],
            &["permissionerror", "/out"], &["eacces", "/out"],
        ],
        when: None,
        text: "it may not write there: /out itself is open to every user, a folder below it belongs to whoever made it; make it in the program, as the user that the image runs as, and leave its owner alone",
    },
    Rule {
        name: "privilege_missing",
        outcomes: &[],
        texts: &[
            &["chown", "operation not permitted"], &["setgroups", "operation not permitted"],
            &["setegid", "operation not permitted"], &["seteuid", "operation not permitted"], &["su: must be suid"],
            &["su-exec", "operation not permitted"], &["gosu", "operation not permitted"],
            &["failed switching to", "operation not permitted"], &["sudo", "no new privileges"],
        ],
        when: Some(is_restricted),
        text: "the container has no capability, also as root: it cannot change owners or users; name the user in the image (USER 1000) and install packages when it is built",
    },
    Rule {
        name: "line_endings",
        outcomes: &[],
        texts: &[&["/usr/bin/env: ", "\\r"], &["bad interpreter", "^m"], &["$'\\r': command not found"], &["\\r: not found"]],
        when: None,
        text: "a script has the line endings of Windows: save it with those of Unix (dos2unix) and build the image again",
    },
    Rule {
        name: "wrong_processor",
        outcomes: &["wrong_platform"],
        texts: &[&["exec format error"]],
        when: None,
        text: "the program is made for another processor: build the image for the node's (docker build --platform linux/amd64)",
    },
    Rule {
        name: "name_not_resolved",
        outcomes: &[],
        texts: &[
            &["temporary failure in name resolution"], &["could not resolve host"], &["name or service not known"],
            &["getaddrinfo", "eai_again"], &["bad address '"],
        ],
        when: None,
        text: "a name could not be looked up: check --network (none has no names; internet reaches public addresses only) and the endpoints that the job was given",
    },
    Rule {
        name: "key_refused",
        outcomes: &[],
        texts: &[&["401", "unauthorized"], &["403", "forbidden"], &["invalid api key"], &["notauthenticated"], &["not authenticated"]],
        when: Some(is_kleinkram),
        text: "the server refused the run key: it is good for its own mission and the right in `access` alone; ask for create, write or delete where the program needs it",
    },
    Rule {
        name: "too_many_processes",
        outcomes: &[],
        texts: &[&["resource temporarily unavailable", "fork"], &["can't start new thread"], &["pthread_create failed"], &["can't fork"]],
        when: None,
        text: "it has as many processes and threads as it may: start fewer, or ask for more (--pids-limit N)",
    },
];

const NO_GPU: &[&[&str]] = &[
    &["no cuda-capable device"],
    &["found no nvidia driver"],
    &["cuda driver version is insufficient"],
    &["libcuda.so", "cannot open shared object"],
    &["nvidia-smi", "not found"],
    &["torch not compiled with cuda enabled"],
    &["cuda_error_no_device"],
    &["failed call to cuinit"],
    &["no gpu", "found"],
    &["could not select device driver", "gpu"],
    &["libnvidia-ml.so", "cannot open shared object"],
    &["attempting to deserialize object on a cuda device"],
];
