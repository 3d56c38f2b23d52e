//! The wire contract of Longshore: code generated from `longshore/v1/*.proto`, and nothing else.

/// Messages, clients and servers of `longshore.v1`.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all, clippy::pedantic, clippy::large_futures)]
pub mod v1 {
    tonic::include_proto!("longshore.v1");
}

/// The encoded `FileDescriptorSet` of the package, served by gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/longshore.bin"));
