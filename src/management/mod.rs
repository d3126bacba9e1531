//! The node's own REST API, for this park's users: bearer tokens, four roles, least privilege each.

mod error;
mod metrics;
mod routes;
mod user;

pub use routes::router;
