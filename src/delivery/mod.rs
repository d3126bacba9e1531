//! Delivery: transfer processes in both roles, the provider's data plane, and the consumer's downloads.

mod complete;
mod concurrency;
mod data_plane;
mod downloads;
mod evaluation;
mod facts;
mod fetch;
mod manifests;
mod obtain;
mod open;
mod plain;
mod pulls;
mod release;
mod serve;
mod steps;
mod tokens;
mod transfers;

pub use data_plane::DataPlane;
pub use downloads::{Downloads, ReceivedMax};
pub use facts::{new_transfer, transition_facts};
pub use open::Opened;
pub use serve::Data;
pub use tokens::TransferTokens;
pub use transfers::{DataAddress, TransferRequest, Transfers};
