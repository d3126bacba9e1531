//! Identity: signed documents, the alliance's root document and register, join requests, certificates.

pub mod bearer;
pub mod document;
pub mod endpoint;
pub mod join;
pub mod key;
pub mod register;
pub mod root;
pub mod rotation;
pub mod schemas;
pub mod x509;
