//! crosspark: validated, signed, sealed datasets, exchanged between parks under policy, with evidence that needs
//! nobody's word. ARCHITECTURE.md is the map; the order of the modules below is the order of who may import whom.

pub mod audit;
pub mod core;
pub mod identity;
pub mod policy;
pub mod schema;
