//! Whether a publication repeats the newest version of its dataset.

use super::Publishing;
use crate::blob::name_of;
use crate::core::digest::KeyedHasher;
use crate::core::json;
use crate::dataset::assemble::PLAINTEXT_LABEL;
use crate::dataset::container::DataKey;
use crate::dataset::manifest::Manifest;
use crate::dataset::open::{OpenError, Package};
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

    async fn compare(
        &self,
        newest: &VersionRow,
        next: &VersionRow,
        (key, manifest): (DataKey, Manifest),
    ) -> Result<bool, Error> {
        // The key that signed the manifest may be gone.
        let Ok(before) = document::verify::<Manifest>(&newest.manifest, |kid| self.node.own_key(kid)) else {
            return Ok(false);
        };
        let before = before.into_body();
        let same = newest.withdrawn.is_none()
            && (&newest.title, &newest.description, &newest.about) == (&next.title, &next.description, &next.about)
            && newest.policy_digest == next.policy_digest
            && before.schema == manifest.schema
            && json::to_canonical(&before.quality) == json::to_canonical(&manifest.quality)
            && (before.records, before.text.size) == (manifest.records, manifest.text.size);
        if !same {
            return Ok(false);
        }
        let row = format!("{}/{}", newest.dataset, newest.version);
        let cell = Cell { table: "version", row: &row, column: "key" };
        let other = self.kek.unwrap(cell, &newest.wrapped_key).map_err(|error| Error::Internal(error.to_string()))?;
        let other = DataKey::from_slice(&other);
        let other = other.ok_or_else(|| Error::Internal("a stored data key does not have 32 bytes".into()))?;
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
