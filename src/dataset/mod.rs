//! Datasets as they travel: manifest, frames, sealed container, key release. Streams and threads, no files, no network.

pub mod assemble;
pub mod container;
pub mod frame;
pub mod manifest;
pub mod open;
pub mod ordered;
pub mod release;
