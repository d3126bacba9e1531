//! Whether a publication repeats the newest version of its dataset.

use super::Publishing;
use crate::blob::name_of;
use crate::core::digest::Digest;
use crate::core::digest::KeyedHasher;
use crate::core::json;
use crate::dataset::assemble::PLAINTEXT_LABEL;
use crate::dataset::changes::Changes;
use crate::dataset::compare::compare;
use crate::dataset::container::DataKey;
use crate::dataset::manifest::Manifest;
use crate::dataset::open::{OpenError, Package};
use crate::dataset::unique::Temporary;
use crate::identity::document;
use crate::keys::Cell;
use crate::node::Error;
use crate::storage::VersionRow;

impl Publishing {
    /// Whether `next`, whose sealed bytes are stored, says and contains the same as `newest`. The texts are compared by
    /// their digests under the key of `newest`, and only if their sizes are equal. If they cannot be compared, the content
    /// counts as new: another version does no harm.
    pub(super) async fn is_unchanged(
        &self,
        newest: &VersionRow,
        next: &VersionRow,
        content: (DataKey, Manifest),
    ) -> bool {
        self.compare(newest, next, content).await.unwrap_or_else(|error| {
            tracing::warn!(%error, dataset = %newest.dataset, "the newest version could not be compared");
            false
        })
    }

    /// The manifest of a version; the key that signed it may be gone.
    fn manifest_of(&self, version: &VersionRow) -> Option<Manifest> {
        let verified = document::verify::<Manifest>(&version.manifest, |kid| self.node.own_key(kid));
        verified.ok().map(|verified| verified.into_body())
    }

    fn key_of(&self, version: &VersionRow) -> Result<DataKey, Error> {
        let row = format!("{}/{}", version.dataset, version.version);
        let cell = Cell { table: "version", row: &row, column: "key" };
        let key = self.kek.unwrap(cell, &version.wrapped_key).map_err(|error| Error::Internal(error.to_string()))?;
        let key = DataKey::from_slice(&key);
        key.ok_or_else(|| Error::Internal("a stored data key does not have 32 bytes".into()))
    }

    /// What the records sealed under `manifest` have otherwise than those of `newest`, by the schema's key.
    pub(super) async fn changes(
        &self,
        newest: &VersionRow,
        (key, manifest, blob): (DataKey, Manifest, Digest),
        names: Vec<String>,
    ) -> Option<Changes> {
        if names.is_empty() {
            return None;
        }
        let (before, other) = (self.manifest_of(newest)?, self.key_of(newest).ok()?);
        let (published, since, old) = (self.published.clone(), newest.version, newest.blob);
        // It is work like the sealing of another publication.
        let working = self.working.clone().acquire_owned().await.ok()?;
        let counted = tokio::task::spawn_blocking(move || {
            let _working = working;
            let open = |blob: &Digest, key: &DataKey, manifest: &Manifest| {
                Package::open(published.read(&name_of(blob)).map_err(OpenError::Sink)?, key, manifest)
            };
            let (mut before, mut after) = (open(&old, &other, &before)?, open(&blob, &key, &manifest)?);
            let scratch = || Ok(Box::new(published.scratch()?) as Box<dyn Temporary>);
            compare((since, &mut before), &mut after, &names, &scratch)
        });
        let counted =
            counted.await.map_err(|error| error.to_string()).and_then(|counted| counted.map_err(|e| e.to_string()));
        counted.map_err(|error| tracing::warn!(error, "the records were not compared with the version before")).ok()
    }

    async fn compare(
        &self,
        newest: &VersionRow,
        next: &VersionRow,
        (key, manifest): (DataKey, Manifest),
    ) -> Result<bool, Error> {
        let Some(before) = self.manifest_of(newest) else { return Ok(false) };
        let same = newest.withdrawn.is_none()
            && (&newest.title, &newest.description, &newest.about) == (&next.title, &next.description, &next.about)
            && newest.policy_digest == next.policy_digest
            && before.schema == manifest.schema
            && json::to_canonical(&before.quality) == json::to_canonical(&manifest.quality)
            // The records state the digests of their files.
            && before.files == manifest.files
            && (before.records, before.text.size) == (manifest.records, manifest.text.size);
        if !same {
            return Ok(false);
        }
        let other = self.key_of(newest)?;
        let (published, blob) = (self.published.clone(), next.blob);
        let digest = tokio::task::spawn_blocking(move || {
            let file = published.read(&name_of(&blob)).map_err(|error| Error::Unavailable(error.to_string()))?;
            let broken = |error: OpenError| Error::Internal(error.to_string());
            let mut hash = KeyedHasher::new(other.expose(), PLAINTEXT_LABEL);
            let mut package = Package::open(file, &key, &manifest).map_err(broken)?;
            let update = |text: &[u8]| {
                hash.update(text);
                Ok(())
            };
            package.read(update).map_err(broken)?;
            Ok::<_, Error>(hash.finish())
        });
        Ok(digest.await.map_err(|error| Error::Internal(error.to_string()))?? == before.text.digest)
    }
}
