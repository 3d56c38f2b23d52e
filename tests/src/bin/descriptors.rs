//! Writes the wire contract of this build to `proto/longshore.v1.binpb`, which `it/descriptors.rs` holds later
//! builds to. Run by `make descriptors`.

use prost::Message as _;
use std::{fs, path::Path};

fn main() -> anyhow::Result<()> {
    let mut set = prost_types::FileDescriptorSet::decode(longshore_proto::DESCRIPTOR_SET)?;
    // Comments are no part of the contract, and would change the file at every rewording.
    set.file.iter_mut().for_each(|file| file.source_code_info = None);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/longshore.v1.binpb");
    fs::write(path, set.encode_to_vec())?;
    Ok(())
}
