//! The schemas that this node has, compiled once.

use super::{Schema, SchemaError, Validator};
use crate::core::digest::Digest;
use crate::identity::register::VerifiedRegister;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A schema and its validator.
pub struct CompiledSchema {
    /// Schema.
    pub schema: Schema,
    /// Compiled validator.
    pub validator: Validator,
}

/// Compiled schemas by digest.
pub struct SchemaRegistry(BTreeMap<Digest, Arc<CompiledSchema>>);

impl SchemaRegistry {
    /// Compiles `schemas`.
    pub fn new(schemas: Vec<Schema>) -> Result<Self, SchemaError> {
        let mut compiled = BTreeMap::new();
        for schema in schemas {
            let entry = CompiledSchema { validator: schema.validator()?, schema };
            compiled.insert(entry.schema.digest(), Arc::new(entry));
        }
        Ok(Self(compiled))
    }

    /// The schemas that a register lists, by `$id`, the newest version of each first.
    pub fn listed(&self, register: &VerifiedRegister) -> Vec<Arc<CompiledSchema>> {
        let listed = |compiled: &&Arc<CompiledSchema>| {
            register.body().schemas.iter().any(|entry| entry.digest == compiled.schema.digest())
        };
        let mut found: Vec<_> = self.0.values().filter(listed).cloned().collect();
        found.sort_by_cached_key(|compiled| (compiled.schema.id().to_owned(), Reverse(compiled.schema.order())));
        found
    }

    /// The schema with this digest, if the register lists it.
    pub fn listed_with(&self, digest: &Digest, register: &VerifiedRegister) -> Option<Arc<CompiledSchema>> {
        let listed = register.body().schemas.iter().any(|entry| entry.digest == *digest);
        self.0.get(digest).filter(|_| listed).cloned()
    }
}
