//! Plain HTTP beside gRPC on the one port: signed bytes, health, metrics. Must never answer with more than its
//! caller may see: everything here is readable without a token or carries its own signature.

pub mod bytes;
