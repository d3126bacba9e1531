//! Schemas by digest, each compiled when it is first used.

use super::{Schema, SchemaError, Validator};
use crate::core::digest::Digest;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A schema and its validator.
pub struct CompiledSchema {
    /// Schema.
    pub schema: Schema,
    compiled: OnceLock<Validator>,
}

impl CompiledSchema {
    /// A schema whose validator is not compiled yet.
    pub fn new(schema: Schema) -> Self {
        Self { schema, compiled: OnceLock::new() }
    }

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
        let entry = |schema: Schema| (schema.digest(), Arc::new(CompiledSchema::new(schema)));
        Self(schemas.into_iter().map(entry).collect())
    }

    /// The schema with this digest.
    pub fn get(&self, digest: &Digest) -> Option<&Arc<CompiledSchema>> {
        self.0.get(digest)
    }

    /// All schemas.
    pub fn all(&self) -> impl Iterator<Item = &Schema> {
        self.0.values().map(|compiled| &compiled.schema)
    }
}
