//! Bytes to values and back, with hard limits. Each file names its page in `docs/spec`.

pub mod announce;
pub mod api;
pub mod batch;
pub mod chunker;
pub mod code;
pub mod codec;
pub mod content;
pub mod envelope;
pub mod frame;
pub mod heartbeat;
pub mod hello;
pub mod message;
pub mod pairing;
pub mod recovery;
pub mod relay;
pub mod report;
pub mod signed;
pub mod statement;
pub mod versions;
