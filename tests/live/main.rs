//! Stories over real servers, one file each. A missing server fails its story, it never skips.

mod proxy;
mod queue;
mod servers;
mod store;
