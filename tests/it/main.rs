//! Stories in one process, one file each: no server, no root.

mod actions;
mod behind;
mod cancel;
mod descriptors;
mod examples;
mod exec;
mod gpu_health;
mod gpu_stumbles;
mod gpus;
mod pin;
mod reliability;
mod restore;
mod submit_to_done;
mod tls;
mod triggers;
mod two_agents;
