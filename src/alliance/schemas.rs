//! The schemas that the alliance shares: added, deprecated, and never removed, because datasets name them for ever.

use super::error::file_error;
use super::{Alliance, AllianceError};
use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::time::Timestamp;
use crate::durable::{make_folder, write_whole};
use crate::identity::document;
use crate::identity::schemas::{SchemaEntry, SchemaStatement, namespace};
use crate::schema::{self, Schema};
use std::path::PathBuf;

impl Alliance {
    /// Adds a schema to the register; false if it is listed already. `owner` maintains it, if the alliance does not. If
    /// it may refuse records that its predecessor accepts, its major version must be larger, and `breaking` given.
    pub fn add_schema(
        &mut self,
        text: &[u8],
        owner: Option<ParticipantId>,
        breaking: bool,
        now: Timestamp,
    ) -> Result<bool, AllianceError> {
        let schema = Schema::parse(text).map_err(|error| AllianceError::Refused(error.to_string()))?;
        if let Some(member) = namespace(schema.id()) {
            let reason = format!(
                "{} is in the namespace of {member}: add its proposal (`crosspark schema propose`)",
                schema.id()
            );
            return Err(AllianceError::Refused(reason));
        }
        if let Some(owner) = &owner {
            self.listed(owner)?;
        }
        self.add(&schema, text, owner, breaking, now)
    }

    fn add(
        &mut self,
        schema: &Schema,
        text: &[u8],
        owner: Option<ParticipantId>,
        breaking: bool,
        now: Timestamp,
    ) -> Result<bool, AllianceError> {
        let refused = AllianceError::Refused;
        if self.register.body().schemas.iter().any(|entry| entry.digest == schema.digest()) {
            self.write_schema(&schema.digest(), text)?;
            return Ok(false);
        }
        if let Some(old) = self.newest_schema(schema.id())? {
            schema::may_follow(schema, &old, breaking).map_err(refused)?;
        }
        // First the text: what a register lists can be had.
        self.write_schema(&schema.digest(), text)?;
        let entry = SchemaEntry {
            id: schema.id().to_owned(),
            version: schema.version().to_owned(),
            digest: schema.digest(),
            owner,
            deprecated: None,
        };
        self.next(now, |register| register.schemas.push(entry))?;
        Ok(true)
    }

    /// Adds a schema that a member proposes, whose statement is signed by one of its keys.
    pub fn add_proposed(
        &mut self,
        text: &[u8],
        statement: &str,
        breaking: bool,
        now: Timestamp,
    ) -> Result<bool, AllianceError> {
        let stated = document::verify::<SchemaStatement>(statement, |kid| self.register.document_key(kid, now))?;
        let schema = Schema::parse(text).map_err(|error| AllianceError::Refused(error.to_string()))?;
        if stated.body().digest != schema.digest() {
            return Err(AllianceError::Refused("the statement of the proposal is about another schema".into()));
        }
        let publisher = stated.into_body().publisher;
        if namespace(schema.id()).as_ref() != Some(&publisher) {
            return Err(AllianceError::Refused(format!("{} is not in the namespace of {publisher}", schema.id())));
        }
        self.add(&schema, text, Some(publisher), breaking, now)
    }

    /// Deprecates one version of a schema, or all: from `end` on no more data is published under it.
    pub fn deprecate_schema(
        &mut self,
        id: &str,
        version: Option<&str>,
        end: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<usize, AllianceError> {
        let is_meant = |entry: &SchemaEntry| entry.id == id && version.is_none_or(|version| entry.version == version);
        let meant = self.register.body().schemas.iter().filter(|entry| is_meant(entry)).count();
        if meant == 0 {
            let version = version.map(|version| format!(" {version}")).unwrap_or_default();
            return Err(AllianceError::Refused(format!("the register lists no schema {id}{version}")));
        }
        self.next(now, |register| {
            let entries = register.schemas.iter_mut().filter(|entry| is_meant(entry));
            entries.for_each(|entry| entry.deprecated = end);
        })?;
        Ok(meant)
    }

    /// The newest listed version of a schema.
    fn newest_schema(&self, id: &str) -> Result<Option<Schema>, AllianceError> {
        let same = self.register.body().schemas.iter().filter(|entry| entry.id == id);
        let newest = same.max_by_key(|entry| schema::version_order(&entry.version));
        newest.map(|entry| self.listed_schema(&entry.digest)).transpose()
    }

    fn listed_schema(&self, digest: &Digest) -> Result<Schema, AllianceError> {
        let path = self.schema_path(digest);
        let text = match schema::built_in_text(digest) {
            Some(text) => text.as_bytes().to_vec(),
            None => std::fs::read(&path).map_err(|error| file_error(&path, error))?,
        };
        let schema = Schema::checked_before(&text).ok().filter(|schema| schema.digest() == *digest);
        schema.ok_or_else(|| file_error(&path, "is not the schema that the register lists"))
    }

    /// The title of a listed schema, if its text is in the folder.
    pub fn schema_title(&self, digest: &Digest) -> Option<String> {
        self.listed_schema(digest).ok().map(|schema| schema.title())
    }

    fn schema_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("schemas/{}.json", digest.to_string().replace("sha256:", "")))
    }

    fn write_schema(&self, digest: &Digest, text: &[u8]) -> Result<(), AllianceError> {
        let (path, folder) = (self.schema_path(digest), self.folder.join("schemas"));
        make_folder(&folder).map_err(|error| file_error(&folder, error))?;
        write_whole(&path, text).map_err(|error| file_error(&path, error))
    }

    /// Writes the texts of the built-in schemas, for nodes of other versions.
    pub(super) fn write_built_in(&self) -> Result<(), AllianceError> {
        let listed = self.register.body().schemas.iter();
        for (digest, text) in listed.filter_map(|entry| Some((entry.digest, schema::built_in_text(&entry.digest)?))) {
            self.write_schema(&digest, text.as_bytes())?;
        }
        Ok(())
    }
}
