//! What an image is promised and how its result is read, one small module per contract. Never talks to the engine.

pub mod plain;
