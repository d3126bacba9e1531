//! The manifests of this node's dataset versions.

use super::DataPlane;
use crate::audit::entry::{Facts, Kind};
use crate::core::digest::Digest;
use crate::dataset::manifest::Manifest;
use crate::discovery::visible_offer;
use crate::identity::document;
use crate::node::{Counterparty, Error, detail};
use crate::storage::VersionRow;

impl DataPlane {
    /// A manifest, for members that have an agreement on it or may request its offer.
    pub async fn manifest_for(&self, to: &Counterparty, digest: &Digest) -> Result<String, Error> {
        let row = self.node.store().version_by_manifest(digest).await?;
        if let Some(row) = row {
            let agreed = self.node.store().has_agreement_on(&to.participant, digest).await?;
            let seen =
                || visible_offer(row.clone(), to, self.node.now()).is_some_and(|offered| offered.refused.is_none());
            if agreed || seen() {
                return self.signed_manifest(&row).await;
            }
        }
        let facts = Facts { detail: detail("manifest", digest.to_string()), ..Facts::default() };
        let error = Error::not_found(format!("there is no manifest {digest} for {}", to.participant));
        Err(self.node.refuse(to, Kind::AccessRefused, facts, error).await)
    }

    /// A version's manifest, signed with a key in the register. Once the original key has left the register, the
    /// current key signs the same payload, so that the digest and every agreement on it stay valid.
    pub(super) async fn signed_manifest(&self, row: &VersionRow) -> Result<String, Error> {
        let unknown =
            || Error::Internal(format!("the manifest {} is not signed with a key of this node", row.manifest_digest));
        let signer = document::claimed_signer(&row.manifest).ok_or_else(unknown)?;
        if self.node.own_key(&signer).is_some() {
            return Ok(row.manifest.clone());
        }
        let then = self.membership.document_key_at(&signer, row.published).await;
        let signed = document::verify::<Manifest>(&row.manifest, |kid| then.filter(|_| *kid == signer));
        let signed = signed.map_err(|error| Error::Internal(error.to_string()))?;
        if signed.digest() != row.manifest_digest {
            return Err(unknown());
        }
        Ok(document::countersign(&signed, &self.node.document_key()))
    }
}
