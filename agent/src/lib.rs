//! The agent: owns its containers, never a job's state. It pulls work that fits what is free on its machine,
//! runs it under limits and deadlines, ships logs, uploads `/out`, and reports how it ended.
//! Must never know SQL, the store's layout or another agent.

pub mod artifacts;
pub mod host;
pub mod inputs;
pub mod link;
pub mod logs;
pub mod runtime;
