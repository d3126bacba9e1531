//! What the handlers of the management API share.

use crate::core::id::TokenId;
use crate::node::Places;
use crate::services::Services;
use aide::openapi::OpenApi;
use std::sync::Arc;
use tokio::sync::watch;

/// State of the handlers.
#[derive(Clone)]
pub struct App {
    /// The use cases.
    pub services: Services,
    /// Turns true when the node stops: long polls end.
    pub stop: watch::Receiver<bool>,
    /// The OpenAPI document.
    pub document: Arc<OpenApi>,
    /// Places for requests that wait for a change.
    pub waits: Arc<Places<TokenId>>,
}
