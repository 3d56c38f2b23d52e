//! Compiles the protos with protox, so that no `protoc` is needed, and keeps the descriptor set for reflection.
use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: &[&str] = &[
    "longshore/v1/job.proto",
    "longshore/v1/jobs.proto",
    "longshore/v1/actions.proto",
    "longshore/v1/agents.proto",
    "longshore/v1/access.proto",
    "longshore/v1/projects.proto",
    "longshore/v1/cluster.proto",
    "longshore/v1/link.proto",
    "longshore/v1/enrolment.proto",
    "longshore/v1/triggers.proto",
    "longshore/v1/batches.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=longshore");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("longshore.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
