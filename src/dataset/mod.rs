//! Datasets in transit: manifest, frames, sealed container and key release. Streams and threads, no files or network.

pub mod assemble;
pub mod changes;
pub mod compare;
pub mod container;
pub mod contents;
pub mod frame;
mod framing;
pub mod manifest;
pub mod open;
pub mod ordered;
pub mod quality;
mod registers;
pub mod release;
pub mod report;
pub mod select;
pub mod sorted;
pub mod unique;

#[cfg(test)]
mod tests;
