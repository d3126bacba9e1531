//! Successors of the root document: proposed by the operator, signed by the holders of root keys, installed with the
//! next register. A successor needs the threshold of the old document and its own, so that neither set of signers can
//! replace the other alone.

use super::{Alliance, AllianceError, ca, file_error, named};
use crate::core::id::KeyId;
use crate::core::json;
use crate::core::random::{self, Random};
use crate::core::time::Timestamp;
use crate::durable::{make_folder, write_whole};
use crate::identity::document::MultiSigned;
use crate::identity::key::{Bytes, SigningKey};
use crate::identity::root::{self, NamedKey, Root, RootChain};
use crate::keys::{Kek, KeyFile};
use std::path::Path;
use zeroize::Zeroizing;

/// Proposed changes of the root document.
#[derive(Debug, Default)]
pub struct Proposal {
    /// Root signers to add.
    pub add_signers: Vec<NamedKey>,
    /// Root signers to drop.
    pub drop_signers: Vec<KeyId>,
    /// Number of signatures required from the new document's signers.
    pub threshold: Option<u64>,
    /// Create a new register key.
    pub new_register_key: bool,
    /// Create a new certification authority in addition to the present ones.
    pub new_ca: bool,
    /// Drop all but the newest of the present certification authorities.
    pub drop_old_ca: bool,
}

/// Creates a root signer's key in `folder`, which may be on any machine. Returns the public key for the operator.
pub fn make_signer(folder: &Path, id: &KeyId, kek: &Kek, random: &dyn Random) -> Result<NamedKey, AllianceError> {
    make_folder(folder).map_err(|error| file_error(folder, error))?;
    let seed = Zeroizing::new(random::bytes::<32>(random));
    KeyFile::add(folder, id, "root", &seed[..], kek, random)?;
    Ok(named(&SigningKey::from_seed(id.clone(), &seed)))
}

/// The root keys in `folder`.
pub fn signers(folder: &Path, kek: &Kek) -> Result<Vec<SigningKey>, AllianceError> {
    let keys = KeyFile::all(folder, "root", kek)?;
    keys.into_iter().map(|(id, seed)| super::ed25519(folder, id, &seed)).collect()
}

/// Adds the signatures of `keys` to a proposal. Keys that have already signed are skipped.
pub fn sign(text: &[u8], keys: &[SigningKey]) -> Result<Vec<u8>, AllianceError> {
    root::check(text)?;
    let document = MultiSigned::parse::<Root>(text)?;
    let (body, _) = document.claimed::<Root>()?;
    let signed = document.with_signatures(&body, &keys.iter().collect::<Vec<_>>());
    Ok(json::to_canonical(&signed))
}

impl Alliance {
    /// The unsigned successor of the newest root document, with the changes of `proposal`.
    pub fn propose(&self, proposal: &Proposal, now: Timestamp, random: &dyn Random) -> Result<Vec<u8>, AllianceError> {
        let keys = self.folder.join("keys");
        let old = self.roots.newest();
        let mut body = old.body().clone();
        (body.version, body.previous, body.issued) = (body.version + 1, Some(old.digest()), now);
        if let Some(unknown) = proposal.drop_signers.iter().find(|id| !body.signers.iter().any(|key| key.id == **id)) {
            return Err(AllianceError::Refused(format!("{unknown} is not a root signer")));
        }
        body.signers.retain(|key| !proposal.drop_signers.contains(&key.id));
        body.signers.extend(proposal.add_signers.iter().cloned());
        body.threshold = proposal.threshold.unwrap_or(body.threshold);
        let mut number =
            KeyFile::highest(&keys)?.max(body.signers.iter().map(|key| key.id.number()).max().unwrap_or(0));
        let mut next_id = || {
            number += 1;
            body.alliance.key(number)
        };
        if proposal.new_register_key {
            let (id, seed) = (next_id(), Zeroizing::new(random::bytes::<32>(random)));
            KeyFile::add(&keys, &id, "register", &seed[..], &self.kek, random)?;
            body.register_key = named(&SigningKey::from_seed(id, &seed));
        }
        if proposal.drop_old_ca {
            if body.ca.len() == 1 {
                return Err(AllianceError::Refused("there is only one certification authority".into()));
            }
            body.ca = body.ca.split_off(body.ca.len().saturating_sub(1));
        }
        if proposal.new_ca {
            let id = next_id();
            body.ca.push(Bytes(ca::make(&body.alliance, &id, &keys, &self.kek, now, random)?));
        }
        let (version, previous, issued) = (old.body().version, old.body().previous, old.body().issued);
        if (Root { version, previous, issued, ..body.clone() }) == *old.body() {
            return Err(AllianceError::Refused("the proposal changes nothing".into()));
        }
        let unsigned = json::to_canonical(&MultiSigned::sign(&body, &[]));
        root::check(&unsigned)?;
        Ok(unsigned)
    }

    /// Installs a proposal with enough signatures and signs the next register under it.
    pub fn install_root(&mut self, text: &[u8], now: Timestamp) -> Result<(), AllianceError> {
        let roots = self.roots.extended(text)?;
        let newest = roots.newest();
        let (version, json) = (newest.body().version, newest.to_json());
        self.register_key(newest)?;
        let path = self.folder.join(format!("roots/{version}.json"));
        let folder = self.folder.join("roots");
        make_folder(&folder).map_err(|error| file_error(&folder, error))?;
        write_whole(&path, &json).map_err(|error| file_error(&path, error))?;
        self.roots = roots;
        self.next(now, |_| {})
    }

    /// The chain of root documents in the folder, starting with `first` (`root.json`).
    pub(super) fn load_roots(folder: &Path, first: RootChain) -> Result<RootChain, AllianceError> {
        let mut roots = first;
        loop {
            let version = roots.newest().body().version + 1;
            let path = folder.join(format!("roots/{version}.json"));
            if !path.exists() {
                return Ok(roots);
            }
            let text = std::fs::read(&path).map_err(|error| file_error(&path, error))?;
            roots = roots.extended(&text)?;
        }
    }
}
