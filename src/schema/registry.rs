//! The schemas that this node has, each compiled when it is first used.

use super::{Schema, SchemaError, Validator};
use crate::core::digest::Digest;
use crate::identity::register::VerifiedRegister;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A schema and its validator.
pub struct CompiledSchema {
    /// Schema.
    pub schema: Schema,
    compiled: OnceLock<Validator>,
}

impl CompiledSchema {
    /// The compiled validator.
    pub fn validator(&self) -> Result<&Validator, SchemaError> {
        if let Some(compiled) = self.compiled.get() {
            return Ok(compiled);
        }
        let compiled = self.schema.validator()?;
        Ok(self.compiled.get_or_init(|| compiled))
    }
}

/// Schemas by digest.
pub struct SchemaRegistry(BTreeMap<Digest, Arc<CompiledSchema>>);

impl SchemaRegistry {
    /// A registry of `schemas`.
    pub fn new(schemas: Vec<Schema>) -> Self {
        let entry = |schema: Schema| (schema.digest(), Arc::new(CompiledSchema { schema, compiled: OnceLock::new() }));
        Self(schemas.into_iter().map(entry).collect())
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
