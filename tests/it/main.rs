//! Stories in one process, one file each: no server, no root.

mod descriptors;
mod examples;
