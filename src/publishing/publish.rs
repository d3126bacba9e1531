//! Publication: validate, seal, sign, commit. Nothing is published unless every record is valid.

use super::Publishing;
use super::records::{Records, Working};
use super::sealing::Sealing;
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::blob::name_of;
use crate::catalog::About;
use crate::core::digest::{Digest, KeyedDigest};
use crate::core::id::{DatasetId, OfferId, ParticipantId, SourceName, Text};
use crate::core::json as canonical;
use crate::core::limits;
use crate::core::random;
use crate::dataset::assemble::{self, Assembled, Decoded};
use crate::dataset::changes::Changes;
use crate::dataset::container::DataKey;
use crate::dataset::contents::Contents;
use crate::dataset::manifest::{
    ALGORITHM, Container, Manifest, Provenance, SEGMENT_BYTES, SchemaRef, TextRef, associated_data, is_too_dense,
};
use crate::dataset::quality::Quality;
use crate::idempotency::IdempotencyKey;
use crate::identity::document;
use crate::ingest::Format;
use crate::keys::Cell;
use crate::mapping::{Mapping, MappingError};
use crate::node::{Error, User, details};
use crate::policy::{EVERYBODY, Policy};
use crate::schema::CompiledSchema;
use crate::source::Publication;
use crate::storage::{Change, Conflict, Guard, StoreError, VersionRow, Write};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Where the records of a publication come from.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// A user sends them, perhaps with an idempotency key.
    Upload(Option<&'a IdempotencyKey>),
    /// A source of this node.
    Source {
        /// Its name.
        name: &'a SourceName,
        /// The dataset that its first version creates.
        creates: Option<&'a DatasetId>,
    },
}

impl<'a> Origin<'a> {
    fn once(self) -> Option<&'a IdempotencyKey> {
        if let Self::Upload(once) = self { once } else { None }
    }

    fn source(self) -> Option<&'a SourceName> {
        if let Self::Source { name, .. } = self { Some(name) } else { None }
    }

    /// Details of a log entry, with the source.
    fn noted(self, detail: Value) -> Map<String, Value> {
        let mut detail = details(detail);
        detail.extend(self.source().map(|name| ("source".to_owned(), json!(name))));
        detail
    }
}

/// A published dataset version.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Published {
    /// Dataset.
    pub dataset: DatasetId,
    /// Version.
    pub version: u64,
    /// Number of records.
    pub records: u64,
    /// Size of the canonical text in bytes.
    pub text_bytes: u64,
    /// Size of the files that the records describe, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// Size of the container in bytes.
    pub sealed_bytes: u64,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the container.
    pub container: Digest,
    /// Whether the dataset had this content and description already: then there is no new version.
    #[serde(default)]
    pub unchanged: bool,
    /// What is otherwise than in the version before, if the schema has a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
    /// What may be a mistake: terms of the policy that nobody meets at present, a deprecated schema.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// What a publication names.
struct Checked {
    policy: Policy,
    compiled: Arc<CompiledSchema>,
    /// That the schema will not be used for much longer.
    deprecation: Option<String>,
}

impl Publishing {
    /// Publishes the records in `source`.
    pub async fn publish(
        &self,
        user: &User,
        publication: Publication,
        origin: Origin<'_>,
        source: impl Records,
    ) -> Result<Published, Error> {
        let once = origin.once();
        let _alone = self.idempotency.alone(user, once).await?;
        let source = match self.published_before(user, once, source).await? {
            Ok(published) => return Ok(published),
            Err(source) => source,
        };
        // Checked first, so that nothing is sealed that cannot be committed.
        self.node.ensure_writable()?;
        match self.try_publish(user, publication, origin, source).await {
            Err(error) => {
                let detail = origin.noted(json!({}));
                let mut facts = Facts { enterprise: user.enterprise.clone(), detail, ..Facts::default() };
                if let Error::InvalidRecords(rejection) = &error {
                    let first = rejection.first.first();
                    // Only the line and the rule: the log must not contain data, and names in a pointer may be data.
                    facts.detail = origin.noted(json!({
                        "records": rejection.records, "invalid": rejection.invalid,
                        "line": first.map(|invalid| invalid.line), "keyword": first.map(|invalid| &invalid.violation.rule),
                    }));
                }
                Err(self.node.refuse_user(Kind::PublicationRefused, facts, error).await)
            }
            published => published,
        }
    }

    /// The result of an earlier identical request, whose records and files must be identical too; otherwise gives `source` back.
    async fn published_before<R: Records>(
        &self,
        user: &User,
        key: Option<&IdempotencyKey>,
        source: R,
    ) -> Result<Result<Published, R>, Error> {
        let Some(key) = key else { return Ok(Err(source)) };
        if !self.idempotency.is_known(user, key).await? {
            return Ok(Err(source));
        }
        let mut hashing = self.idempotency.hashing(source, true);
        let read = tokio::task::spawn_blocking(move || {
            while hashing.next_file()? {}
            Ok::<_, io::Error>(hashing)
        });
        let read = read.await.map_err(|error| Error::Internal(error.to_string()))?;
        let hashing = read.map_err(|error| Error::invalid("source", error.to_string()))?;
        let published = self.idempotency.answered(user, Some(&key.with_records(hashing))).await?;
        // Only if it expired since the check above.
        published
            .map(Ok)
            .ok_or_else(|| Error::Unavailable("the earlier publication has just expired; try again".into()))
    }

    /// Fails unless records can be published so, as far as that is known without them. Files follow only on records that
    /// are sent.
    pub async fn check(&self, publication: &Publication, are_sent: bool) -> Result<(), Error> {
        let Checked { compiled, .. } = self.checked(publication).await?;
        if compiled.schema.has_content() && !are_sent {
            let reason =
                format!("the records of {} describe files, which only a program can send", compiled.schema.id());
            return Err(Error::invalid("schema", reason));
        }
        let once = Origin::Upload(None);
        self.next_version(publication.dataset.as_ref(), once, compiled.schema.id()).await.map(drop)
    }

    async fn checked(&self, publication: &Publication) -> Result<Checked, Error> {
        if publication.description.chars().count() > limits::DESCRIPTION_CHARS_MAX {
            let max = limits::DESCRIPTION_CHARS_MAX;
            return Err(Error::invalid("description", format!("the description is longer than {max} characters")));
        }
        if publication.skipped > limits::SKIPPED_MAX as u64 {
            return Err(Error::invalid("skipped", format!("at most {} records may be left out", limits::SKIPPED_MAX)));
        }
        // Its reader needs memory as the file says, not as it is large.
        if publication.format == Format::Xls {
            let reason = "a node reads no xls: save the workbook as xlsx, or publish it by the command line";
            return Err(Error::invalid("format", reason));
        }
        let wrong = |error: MappingError| Error::invalid("mapping", error.to_string());
        publication.mapping.as_ref().map_or(Ok(()), Mapping::check).map_err(wrong)?;
        let policy = Policy::read(publication.policy.clone()).map_err(|e| Error::invalid("policy", e.to_string()))?;
        let (compiled, deprecation) = self.schemas.for_publication(&publication.schema).await?;
        check_samples(&publication.about.samples, &compiled)?;
        Ok(Checked { policy, compiled, deprecation })
    }

    async fn try_publish(
        &self,
        user: &User,
        publication: Publication,
        origin: Origin<'_>,
        source: impl Records,
    ) -> Result<Published, Error> {
        let once = origin.once();
        let Checked { policy, compiled, deprecation } = self.checked(&publication).await?;
        let (format, mapping) = (publication.format, publication.mapping.as_ref().map(Mapping::digest));
        let (dataset, version, newest) =
            self.next_version(publication.dataset.as_ref(), origin, compiled.schema.id()).await?;
        let key = DataKey::from_bytes(random::bytes(self.node.random()));
        let sealing = Sealing {
            node: self.node.clone(),
            blobs: self.published.clone(),
            compiled: compiled.clone(),
            format: publication.format,
            reading: publication.reading,
            mapping: publication.mapping,
            quality: publication.quality,
            aad: associated_data(self.node.me(), &dataset, version, &compiled.schema.digest()),
            key: key.clone(),
        };
        let source = Working::new(source, self.working.clone(), Handle::current());
        let mut hashing = self.idempotency.hashing(source, once.is_some());
        let sealed =
            tokio::task::spawn_blocking(move || sealing.run(&mut hashing).map(|assembled| (assembled, hashing)));
        let sealed =
            sealed.await.map_err(|error| Error::Internal(format!("the publication did not finish: {error}")))?;
        let ((assembled, digest), hashing) = sealed?;
        let content = assembled.text_size + assembled.files.map_or(0, |files| files.size);
        if is_too_dense(content, assembled.size) {
            self.remove_unused(&assembled.digest);
            let (content, sealed) = (content >> 20, assembled.size >> 10);
            let reason = format!(
                "{content} MiB become {sealed} KiB sealed, which no node accepts: divide the dataset; compress a file that has almost nothing in it"
            );
            return Err(Error::invalid("source", reason));
        }
        let once = once.map(|once| once.with_records(hashing));
        let once = once.as_ref();

        let keys = compiled.schema.key().to_vec();
        let mut manifest = self.manifest(&compiled, &dataset, version, (format, digest), &assembled, &policy);
        manifest.provenance.mapping = mapping;
        manifest.quality = Quality { skipped: publication.skipped, fields: assembled.quality.clone() };
        let signed = document::sign(manifest.clone(), &self.node.document_key());
        let cell = format!("{dataset}/{version}");
        let cell = Cell { table: "version", row: &cell, column: "key" };
        let mut row = VersionRow {
            dataset: dataset.clone(),
            version,
            title: publication.title,
            description: publication.description,
            offer: OfferId::generate(self.node.random()),
            policy: policy.to_value(),
            policy_digest: policy.digest(),
            manifest: signed.jws().to_owned(),
            manifest_digest: signed.digest(),
            schema: signed.body().schema.clone(),
            records: assembled.records,
            bytes: assembled.size,
            blob: assembled.digest,
            wrapped_key: self.kek.wrap(cell, key.expose(), self.node.random()),
            published: signed.body().published,
            audience: audience(&policy, &publication.about),
            about: publication.about,
            quality: signed.body().quality.clone(),
            withdrawn: None,
        };
        let mut published = Published {
            dataset,
            version,
            records: assembled.records,
            text_bytes: assembled.text_size,
            file_bytes: assembled.files.map(|files| files.size),
            sealed_bytes: assembled.size,
            manifest: signed.digest(),
            container: assembled.digest,
            unchanged: false,
            changes: None,
            remarks: deprecation.into_iter().chain(self.remarks(&policy)).collect(),
        };
        let mut changes = None;
        if let Some(newest) = newest {
            changes = self.changes(&newest, (key.clone(), manifest.clone(), assembled.digest), keys).await;
            if changes.is_none_or(|changes| changes.is_nothing())
                && self.is_unchanged(&newest, &row, (key, manifest.clone())).await
            {
                self.remove_unused(&assembled.digest);
                let published = Published {
                    version: newest.version,
                    sealed_bytes: newest.bytes,
                    manifest: newest.manifest_digest,
                    container: newest.blob,
                    unchanged: true,
                    ..published
                };
                return self.commit_unchanged(user, &newest, published, (origin, once)).await;
            }
        }
        if let Some(changes) = changes {
            manifest.changes = Some(changes);
            let signed = document::sign(manifest, &self.node.document_key());
            (row.manifest, row.manifest_digest) = (signed.jws().to_owned(), signed.digest());
            (published.manifest, published.changes) = (signed.digest(), Some(changes));
        }
        // It may have been deprecated during the upload.
        self.schemas.for_publication(&compiled.schema.digest().to_string()).await?;
        let remembered = self.idempotency.remember(user, once, &published);
        if let Err(error) = self.commit_version((user, origin), row, remembered).await {
            // These errors guarantee that nothing was committed. After any other the version may turn out to be
            // committed; if it is not, the sweep at the next start removes the blob.
            if error.changed_nothing() {
                self.remove_unused(&assembled.digest);
            }
            if matches!(error, StoreError::Conflict(Conflict::Dataset)) {
                let dataset = published.dataset;
                let reason = format!("another version of {dataset} was published in the meantime; publish again");
                return Err(Error::invalid("conflict", reason));
            }
            return self.idempotency.answered_meanwhile(user, once, error).await;
        }
        // The version is published; later failures must not be reported as failed publication.
        if let Err(error) = self.negotiations.reconsider(&published.dataset).await {
            tracing::warn!(%error, "open negotiations could not be evaluated again; they continue later");
        }
        Ok(published)
    }

    fn remove_unused(&self, blob: &Digest) {
        let removed = self.published.remove(&name_of(blob));
        removed.unwrap_or_else(|error| tracing::warn!(%error, "an unreferenced blob could not be removed"));
    }

    /// Terms of a policy that nobody meets at present: they may be mistakes.
    fn remarks(&self, policy: &Policy) -> Vec<String> {
        let trust = self.node.trust();
        let members = &trust.register.body().members;
        let knows = |id: &ParticipantId| members.iter().any(|member| member.id == *id);
        let has_group = |group: &Text| members.iter().any(|member| member.groups.contains(group));
        policy.unmet(knows, has_group, self.node.now())
    }

    /// Logs that a publication was nothing new, and remembers its answer.
    async fn commit_unchanged(
        &self,
        user: &User,
        newest: &VersionRow,
        published: Published,
        (origin, once): (Origin<'_>, Option<&IdempotencyKey>),
    ) -> Result<Published, Error> {
        let facts = Facts {
            dataset: Some(newest.dataset.clone()),
            enterprise: user.enterprise.clone(),
            rule: Some("unchanged".into()),
            detail: origin.noted(json!({"version": newest.version, "token": user.token})),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        let entry = self.node.draft(Kind::PublicationRefused, facts).with_field(person);
        let mut change = Change::new(entry)
            .guard(Guard::Offer(newest.offer.clone(), newest.policy_digest))
            .guard(Guard::NotWithdrawn(newest.manifest_digest));
        change.writes.extend(self.idempotency.remember(user, once, &published));
        match self.node.store().commit(change).await {
            Ok(_) => Ok(published),
            Err(StoreError::Conflict(Conflict::Offer | Conflict::Dataset)) => {
                let reason = format!("{} was changed or withdrawn in the meantime; publish again", newest.dataset);
                Err(Error::invalid("conflict", reason))
            }
            Err(error) => self.idempotency.answered_meanwhile(user, once, error).await,
        }
    }

    async fn commit_version(
        &self,
        (user, origin): (&User, Origin<'_>),
        row: VersionRow,
        once: Option<Write>,
    ) -> Result<(), StoreError> {
        let facts = Facts {
            dataset: Some(row.dataset.clone()),
            enterprise: user.enterprise.clone(),
            detail: origin.noted(json!({
                "version": row.version, "manifest": row.manifest_digest, "schema": row.schema.digest,
                "records": row.records, "bytes": row.bytes, "policy": row.policy_digest, "offer": row.offer,
                "token": user.token,
            })),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        let entry = self.node.draft(Kind::DatasetPublished, facts).with_field(person);
        let mut change = Change::new(entry).write(Write::InsertVersion(Box::new(row)));
        change.writes.extend(once);
        self.node.store().commit(change).await.map(drop)
    }

    /// The dataset, the number of its next version, and its newest version.
    async fn next_version(
        &self,
        dataset: Option<&DatasetId>,
        origin: Origin<'_>,
        schema: &str,
    ) -> Result<(DatasetId, u64, Option<VersionRow>), Error> {
        let Some(dataset) = dataset else {
            let chosen = if let Origin::Source { creates, .. } = origin { creates.cloned() } else { None };
            return Ok((chosen.unwrap_or_else(|| DatasetId::generate(self.node.random())), 1, None));
        };
        let newest = self.node.store().dataset(dataset).await?;
        let newest = newest.ok_or_else(|| Error::invalid("dataset", format!("there is no dataset {dataset} here")))?;
        if newest.schema.id != schema {
            let reason =
                format!("{dataset} has the schema {}; publish records of {schema} as a new dataset", newest.schema.id);
            return Err(Error::invalid("schema", reason));
        }
        Ok((dataset.clone(), newest.version + 1, Some(newest)))
    }

    fn manifest(
        &self,
        compiled: &CompiledSchema,
        dataset: &DatasetId,
        version: u64,
        (format, source): (Format, KeyedDigest),
        assembled: &Assembled,
        policy: &Policy,
    ) -> Manifest {
        let schema = &compiled.schema;
        Manifest {
            publisher: self.node.me().clone(),
            dataset: dataset.clone(),
            version,
            schema: SchemaRef {
                id: schema.id().to_owned(),
                version: schema.version().to_owned(),
                digest: schema.digest(),
            },
            records: assembled.records,
            container: Container {
                algorithm: ALGORITHM.to_owned(),
                segment: SEGMENT_BYTES,
                size: assembled.size,
                digest: assembled.digest,
            },
            text: TextRef { size: assembled.text_size, digest: assembled.text_digest, frames: assembled.frames },
            provenance: Provenance {
                source,
                format: format.name().to_owned(),
                mapping: None,
                tool: concat!("crosspark/", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            policy: policy.digest(),
            published: self.node.now(),
            quality: Quality::default(),
            changes: None,
            files: assembled.files,
        }
    }
}

/// The audience keys of a version.
fn audience(policy: &Policy, about: &About) -> BTreeSet<String> {
    if about.listed { BTreeSet::from([EVERYBODY.to_owned()]) } else { policy.audience() }
}

/// Fails unless the samples are valid records within the limits.
fn check_samples(samples: &[Value], compiled: &CompiledSchema) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::invalid("samples", reason));
    if samples.len() > limits::SAMPLES_MAX {
        return refuse(format!("more than {} samples", limits::SAMPLES_MAX));
    }
    let validator = compiled.validator().map_err(|error| Error::Internal(error.to_string()))?;
    let (mut bytes, mut tape) = (0, validator.tape());
    for (n, sample) in samples.iter().enumerate() {
        let line = canonical::to_canonical(sample);
        bytes += line.len();
        if let Some(first) = assemble::check(&mut tape, Decoded::whole(0, &line), validator).into_iter().next() {
            return refuse(format!("sample {}: {}: {} ({})", n + 1, first.pointer, first.reason, first.rule));
        }
    }
    if bytes > limits::SAMPLES_BYTES_MAX {
        return refuse(format!("the samples have more than {} bytes", limits::SAMPLES_BYTES_MAX));
    }
    Ok(())
}
