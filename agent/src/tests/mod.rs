//! A whole agent on a pretended runtime and a scripted controller.

mod early;
mod ends;
mod intake;
mod leaving;
mod rig;
mod takeover;
