//! Publishing: validate, seal, sign, one commit. Nothing is published unless every record is valid.

use super::refusal::Error;
use super::register::object;
use super::{CompiledSchema, IdempotencyKey, Node, User};
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::blob::name_of;
use crate::catalog::About;
use crate::core::digest::Digest;
use crate::core::id::{DatasetId, HoldingId, OfferId, Text};
use crate::core::json::{self as canonical, Tape};
use crate::core::limits;
use crate::core::random;
use crate::dataset::assemble::{self, AssembleError, Assembled};
use crate::dataset::container::DataKey;
use crate::dataset::manifest::{
    ALGORITHM, Container, Manifest, Provenance, SEGMENT_BYTES, SchemaRef, TextRef, associated_data,
};
use crate::identity::document;
use crate::ingest::{Chunks, Format};
use crate::keys::Cell;
use crate::policy::{EVERYBODY, Policy};
use crate::storage::{Change, HoldingState, StoreError, VersionRow, Write};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What to publish, beside the records themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// Title in the catalog.
    pub title: Text,
    /// More about it.
    #[serde(default)]
    pub description: String,
    /// The schema's `$id`, or its digest.
    pub schema: String,
    /// Who may have it and why: ODRL.
    pub policy: Value,
    /// The records' format.
    pub format: Format,
    /// The dataset of which this is a new version; a new dataset without.
    #[serde(default)]
    pub dataset: Option<DatasetId>,
    /// What else is said of it.
    #[serde(default)]
    pub about: About,
}

/// What was published.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Published {
    /// Dataset.
    pub dataset: DatasetId,
    /// Version.
    pub version: u64,
    /// Records.
    pub records: u64,
    /// Bytes of canonical text.
    pub text_bytes: u64,
    /// Sealed bytes.
    pub sealed_bytes: u64,
    /// Digest of the manifest.
    pub manifest: crate::core::digest::Digest,
    /// Digest of the container.
    pub container: crate::core::digest::Digest,
}

/// Threads that validate.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Node {
    /// Publishes the records that `source` yields.
    pub async fn publish(
        self: &Arc<Self>,
        user: &User,
        publication: Publication,
        once: Option<&IdempotencyKey>,
        source: impl Read + Send + 'static,
    ) -> Result<Published, Error> {
        let source = match self.published_before(user, once, source).await? {
            Ok(published) => return Ok(published),
            Err(source) => source,
        };
        // Nothing is sealed that could not be filed.
        self.ensure_writable()?;
        match self.try_publish(user, publication, once, source).await {
            Err(error) => {
                let mut facts = Facts { enterprise: user.enterprise.clone(), ..Facts::default() };
                if let Error::InvalidRecords(rejection) = &error {
                    let first = rejection.first.first().map(|invalid| &invalid.violation);
                    // Pointers and rules, never values: the log must not hold the data.
                    facts.detail = object(json!({
                        "records": rejection.records, "invalid": rejection.invalid,
                        "pointer": first.map(|v| &v.pointer), "keyword": first.map(|v| &v.rule),
                    }));
                }
                Err(self.refuse_user(Kind::PublicationRefused, facts, error).await)
            }
            published => published,
        }
    }

    async fn try_publish(
        self: &Arc<Self>,
        user: &User,
        publication: Publication,
        once: Option<&IdempotencyKey>,
        source: impl Read + Send + 'static,
    ) -> Result<Published, Error> {
        if publication.description.chars().count() > limits::DESCRIPTION_CHARS_MAX {
            let max = limits::DESCRIPTION_CHARS_MAX;
            return Err(Error::invalid("description", format!("the description is longer than {max} characters")));
        }
        let policy = Policy::from_value(&publication.policy).map_err(|e| Error::invalid("policy", e.to_string()))?;
        let compiled = self.schema_named(&publication.schema)?;
        check_samples(&publication.about.samples, &compiled)?;
        let (dataset, version) = self.next_version(publication.dataset.as_ref(), compiled.schema.id()).await?;
        let key = DataKey::from_bytes(random::bytes(self.random()));
        let sealing = Sealing {
            node: self.clone(),
            compiled: compiled.clone(),
            format: publication.format,
            aad: associated_data(self.me(), &dataset, version, &compiled.schema.digest()),
            key: key.clone(),
        };
        // Others wait; so does what they upload.
        let _place = self.publications.acquire().await.map_err(|error| Error::Internal(error.to_string()))?;
        let mut tee = self.tee(source, once.is_some());
        let sealed = tokio::task::spawn_blocking(move || sealing.run(&mut tee).map(|assembled| (assembled, tee)));
        let sealed =
            sealed.await.map_err(|error| Error::Internal(format!("the publication did not finish: {error}")))?;
        let (assembled, tee) = sealed?;
        let once = once.map(|once| once.with_records(tee));
        let once = once.as_ref();

        let manifest = self.manifest(&compiled, &dataset, version, publication.format, &assembled, &policy);
        let signed = document::sign(manifest, &self.document_key());
        let cell = format!("{dataset}/{version}");
        let cell = Cell { table: "version", row: &cell, column: "key" };
        let row = VersionRow {
            dataset: dataset.clone(),
            version,
            title: publication.title,
            description: publication.description,
            offer: OfferId::generate(self.random()),
            policy: policy.to_value(),
            policy_digest: policy.digest(),
            manifest: signed.jws().to_owned(),
            manifest_digest: signed.digest(),
            schema: signed.body().schema.clone(),
            records: assembled.records,
            bytes: assembled.size,
            blob: assembled.digest,
            wrapped_key: self.parts.kek.wrap(cell, key.expose(), self.random()),
            published: signed.body().published,
            audience: audience(&policy, &publication.about),
            about: publication.about,
            withdrawn: None,
        };
        let published = Published {
            dataset,
            version,
            records: assembled.records,
            text_bytes: assembled.text_size,
            sealed_bytes: assembled.size,
            manifest: signed.digest(),
            container: assembled.digest,
        };
        let remembered = self.remember(user, once, &published);
        if let Err(error) = self.commit_version(user, row, remembered).await {
            // These are sure to have changed nothing. After any other failure a crash may yet show the version
            // as committed; if it does not, the sweep at the next start removes the blob.
            if matches!(error, StoreError::Conflict(_) | StoreError::Busy | StoreError::ReadOnly(_)) {
                let removed = self.parts.blobs.remove(&name_of(&assembled.digest));
                removed.unwrap_or_else(
                    |error| tracing::warn!(%error, "a blob that nothing refers to could not be removed"),
                );
            }
            if matches!(error, StoreError::Conflict("the dataset")) {
                let dataset = published.dataset;
                let reason = format!("another version of {dataset} was published meanwhile; publish again");
                return Err(Error::invalid("conflict", reason));
            }
            return self.answered_meanwhile(user, once, error).await;
        }
        // It is published, whatever else is to be done.
        if let Err(error) = self.reconsider(&published.dataset).await {
            tracing::warn!(%error, "negotiations about an earlier version go on at the next start");
        }
        Ok(published)
    }

    /// Removes sealed bytes that nothing refers to: a crash came between them and their commit. Before anything is
    /// published or fetched.
    pub async fn sweep(&self) -> Result<(), Error> {
        let disk = |error: std::io::Error| Error::Unavailable(format!("sealed bytes cannot be listed: {error}"));
        for name in self.parts.blobs.names().map_err(disk)? {
            let digest = Digest::parse(&format!("sha256:{name}"));
            if let Ok(digest) = digest
                && !self.parts.store.has_version_of(&digest).await?
            {
                tracing::info!(name, "sealed bytes of an interrupted publication removed");
                self.parts.blobs.remove(&name).map_err(disk)?;
            }
        }
        for name in self.parts.received.names().map_err(disk)? {
            let Ok(id) = HoldingId::parse(&name) else { continue };
            let holding = self.parts.store.holding(&id).await?;
            if holding.is_none_or(|holding| holding.state == HoldingState::Failed) {
                self.parts.received.remove(&name).map_err(disk)?;
            }
        }
        Ok(())
    }

    async fn commit_version(&self, user: &User, row: VersionRow, once: Option<Write>) -> Result<(), StoreError> {
        let facts = Facts {
            dataset: Some(row.dataset.clone()),
            enterprise: user.enterprise.clone(),
            detail: object(json!({
                "version": row.version, "manifest": row.manifest_digest, "schema": row.schema.digest,
                "records": row.records, "bytes": row.bytes, "policy": row.policy_digest, "offer": row.offer,
                "token": user.token,
            })),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.random());
        let entry = self.draft(Kind::DatasetPublished, facts).with_field(person);
        let mut change = Change::new(entry).write(Write::InsertVersion(Box::new(row)));
        change.writes.extend(once);
        self.parts.store.commit(change).await.map(drop)
    }

    fn schema_named(&self, name: &str) -> Result<Arc<CompiledSchema>, Error> {
        let known = self.known_schemas();
        let named = |c: &&Arc<CompiledSchema>| c.schema.id() == name || c.schema.digest().to_string() == name;
        known.iter().find(named).cloned().ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|compiled| compiled.schema.id()).collect();
            Error::invalid("schema", format!("no shared schema `{name}`; there are: {}", names.join(", ")))
        })
    }

    async fn next_version(&self, dataset: Option<&DatasetId>, schema: &str) -> Result<(DatasetId, u64), Error> {
        let Some(dataset) = dataset else { return Ok((DatasetId::generate(self.random()), 1)) };
        let newest = self.parts.store.dataset(dataset).await?;
        let newest = newest.ok_or_else(|| Error::invalid("dataset", format!("there is no dataset {dataset} here")))?;
        if newest.schema.id != schema {
            let reason =
                format!("{dataset} holds records of {}; publish {schema} as a dataset of its own", newest.schema.id);
            return Err(Error::invalid("schema", reason));
        }
        Ok((dataset.clone(), newest.version + 1))
    }

    fn manifest(
        &self,
        compiled: &CompiledSchema,
        dataset: &DatasetId,
        version: u64,
        format: Format,
        assembled: &Assembled,
        policy: &Policy,
    ) -> Manifest {
        let schema = &compiled.schema;
        Manifest {
            publisher: self.me().clone(),
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
                source: assembled.source_digest,
                format: format.name().to_owned(),
                tool: concat!("crosspark/", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            policy: policy.digest(),
            published: self.now(),
        }
    }
}

/// Who may see it at all.
fn audience(policy: &Policy, about: &About) -> BTreeSet<String> {
    if about.listed { BTreeSet::from([EVERYBODY.to_owned()]) } else { policy.audience() }
}

/// What is shown of the records must be records.
fn check_samples(samples: &[Value], compiled: &CompiledSchema) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::invalid("samples", reason));
    if samples.len() > limits::SAMPLES_MAX {
        return refuse(format!("more than {} samples", limits::SAMPLES_MAX));
    }
    let (mut bytes, mut tape) = (0, Tape::default());
    for (n, sample) in samples.iter().enumerate() {
        let line = canonical::to_canonical(sample);
        bytes += line.len();
        if let Some(first) = assemble::check(&mut tape, &line, &compiled.validator).into_iter().next() {
            return refuse(format!("sample {}: {}: {} ({})", n + 1, first.pointer, first.reason, first.rule));
        }
    }
    if bytes > limits::SAMPLES_BYTES_MAX {
        return refuse(format!("the samples have more than {} bytes", limits::SAMPLES_BYTES_MAX));
    }
    Ok(())
}

/// The part that runs on threads of its own.
struct Sealing {
    node: Arc<Node>,
    compiled: Arc<CompiledSchema>,
    format: Format,
    aad: Vec<u8>,
    key: DataKey,
}

impl Sealing {
    fn run(self, source: impl Read + Send) -> Result<Assembled, Error> {
        let source_error = |error: std::io::Error| Error::invalid("source", error.to_string());
        let (mut chunks, decoder) =
            Chunks::open(BufReader::with_capacity(1 << 20, source), self.format, &self.compiled.schema)
                .map_err(source_error)?;
        let blobs = &self.node.parts.blobs;
        let disk =
            |error: std::io::Error| Error::Unavailable(format!("the sealed bytes could not be written: {error}"));
        let name = hex::encode(random::bytes::<16>(self.node.random()));
        let writing = blobs.create(&name).map_err(disk)?;
        let (writing, assembled) = assemble::assemble(
            threads(),
            || chunks.next_chunk(),
            decoder.as_ref(),
            &self.compiled.validator,
            &self.key,
            &self.aad,
            writing,
            &AtomicU64::new(0),
        )
        .map_err(|error| match error {
            AssembleError::Invalid(rejection) => Error::InvalidRecords(rejection),
            AssembleError::Sink(error) => disk(error),
            AssembleError::Source(error) => source_error(error),
            AssembleError::Empty | AssembleError::TooLarge(_) => Error::invalid("source", error.to_string()),
        })?;
        blobs.keep(writing, &name_of(&assembled.digest)).map_err(disk)?;
        Ok(assembled)
    }
}
