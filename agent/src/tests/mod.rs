//! A whole agent on a pretended runtime and a scripted controller.

mod early;
mod ends;
mod fleet;
mod intake;
mod leaving;
mod rig;
mod takeover;
