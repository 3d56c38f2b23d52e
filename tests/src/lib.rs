//! The harness of Longshore's tests. Owns what tests share; must never be linked into the product.

#[cfg(feature = "live")]
pub mod env;
pub mod local;
pub mod summary;
pub mod token;
pub mod trace;
