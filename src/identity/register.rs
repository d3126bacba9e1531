//! The alliance's register of members, their keys and addresses. FORMATS.md, "Register".

use super::document::{self, Document, DocumentError};
use super::endpoint::Endpoint;
use super::key::{Bytes, KeyUse, PublicKey};
use super::root::{RootChain, VerifiedRoot};
use super::schemas::{self, SchemaEntry};
use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A key identifier with the SHA-256 of the public key.
pub type KeyName = (KeyId, Digest);

/// A member's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// `did#key-N`
    pub id: KeyId,
    /// Use of the key.
    #[serde(rename = "use")]
    pub usage: KeyUse,
    /// Ed25519: 32 bytes. TLS: SubjectPublicKeyInfo, DER.
    pub public: Bytes,
    /// Start of validity.
    pub from: Timestamp,
    /// End of validity.
    pub until: Timestamp,
    /// Signature of an older document key that this key belongs to the same member; absent in a member's first keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

impl KeyEntry {
    /// SHA-256 of the SubjectPublicKeyInfo, to which TLS connections are pinned.
    pub fn pin(&self) -> Digest {
        Digest::of(&self.public.0)
    }

    /// Whether this entry is the same key as `other` with the same or a shorter validity.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        let same = self.id == other.id && self.usage == other.usage && self.public == other.public;
        same && self.from >= other.from && self.until <= other.until
    }

    /// The key's identifier and public key digest, by which people decide about it.
    pub fn name(&self) -> KeyName {
        (self.id.clone(), self.pin())
    }

    fn is_valid(&self, at: Timestamp) -> bool {
        self.from <= at.plus_ms(limits::SKEW_MS_MAX) && at < self.until
    }
}

/// Whether a member may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// May act.
    Active,
    /// May only send receipts and terminations, and read checkpoints.
    Suspended,
}

/// How another connector authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// By a client certificate whose key is pinned in the register.
    Certificate,
    /// By a bearer token signed with one of its document keys.
    Token,
}

/// Marks a member as another implementation of the Dataspace Protocol: features of crosspark only (claims, signed
/// agreements, sealed bytes, receipts) are not required of it, and its `endpoint` is the base of its protocol paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connector {
    /// How it authenticates.
    pub proof: Proof,
    /// Prefixes of its data addresses.
    pub data: Vec<Endpoint>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Participant.
    pub id: ParticipantId,
    /// Names by language tag.
    pub names: BTreeMap<String, Text>,
    /// Jurisdiction, such as `CN-BJ` (ISO 3166-2).
    pub jurisdiction: Text,
    /// Address of its peer listener.
    pub endpoint: Endpoint,
    /// Prefixes of its callback addresses.
    pub callbacks: Vec<Endpoint>,
    /// Whether it may act.
    pub status: Status,
    /// Reason for its suspension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// Groups that policies may refer to.
    pub groups: BTreeSet<Text>,
    /// Further attributes.
    pub attributes: BTreeMap<String, Text>,
    /// Keys, at least one per required use.
    pub keys: Vec<KeyEntry>,
    /// Present if the member is another connector, not a crosspark node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<Connector>,
}

impl Member {
    /// The key `id`, if it has this use and is valid at `at`.
    pub fn key(&self, id: &KeyId, usage: KeyUse, at: Timestamp) -> Option<PublicKey> {
        let entry = self.keys.iter().find(|key| key.id == *id && key.usage == usage && key.is_valid(at))?;
        PublicKey::from_slice(&entry.public.0)
    }

    /// Whether one of its TLS keys valid at `at` has this pin.
    pub fn has_pin(&self, pin: &Digest, at: Timestamp) -> bool {
        self.keys.iter().any(|key| key.usage == KeyUse::Tls && key.is_valid(at) && key.pin() == *pin)
    }

    /// The uses for which it needs a key. TLS is always included, because its server key is pinned.
    pub fn uses(&self) -> &'static [KeyUse] {
        match self.connector.as_ref().map(|connector| connector.proof) {
            None => &[KeyUse::Tls, KeyUse::Document, KeyUse::Log, KeyUse::Witness],
            Some(Proof::Certificate) => &[KeyUse::Tls],
            Some(Proof::Token) => &[KeyUse::Tls, KeyUse::Document],
        }
    }

    /// Whether data may be fetched from `address`.
    pub fn has_data_at(&self, address: &Endpoint) -> bool {
        match &self.connector {
            None => self.endpoint.covers(address),
            Some(connector) => connector.data.iter().any(|prefix| prefix.covers(address)),
        }
    }

    /// The pins of its valid TLS keys.
    pub fn pins(&self, at: Timestamp) -> Vec<Digest> {
        let valid = |key: &&KeyEntry| key.usage == KeyUse::Tls && key.is_valid(at);
        self.keys.iter().filter(valid).map(KeyEntry::pin).collect()
    }

    /// Its valid keys of one use.
    pub fn keys_for(&self, usage: KeyUse, at: Timestamp) -> impl Iterator<Item = (KeyId, PublicKey)> {
        self.keys
            .iter()
            .filter(move |key| key.usage == usage && key.is_valid(at))
            .filter_map(|key| Some((key.id.clone(), PublicKey::from_slice(&key.public.0)?)))
    }
}

/// An auditor, who may read the log openings of the nodes in its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auditor {
    /// Participant.
    pub id: ParticipantId,
    /// Members whose logs it may read; empty means all.
    pub scope: BTreeSet<ParticipantId>,
    /// TLS key.
    pub key: KeyEntry,
}

/// The accepted witnesses, and the number of cosignatures required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// Required number of cosignatures.
    pub quorum: u64,
    /// Keys of the witnesses.
    pub keys: Vec<KeyEntry>,
}

/// A register of an alliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The alliance.
    pub alliance: ParticipantId,
    /// Sequence number: 1 for the first register; each successor adds 1.
    pub sequence: u64,
    /// Digest of the predecessor; absent in the first register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Digest of the root document that authorises it.
    pub root: Digest,
    /// Time of signing.
    pub issued: Timestamp,
    /// End of validity.
    pub expires: Timestamp,
    /// Members.
    pub members: Vec<Member>,
    /// Auditors.
    pub auditors: Vec<Auditor>,
    /// Witnesses.
    pub witnesses: Witnesses,
    /// Schemas.
    pub schemas: Vec<SchemaEntry>,
}

impl Register {
    /// The other active crosspark nodes, with which registers and logs are compared.
    pub fn peers<'a>(&'a self, me: &'a ParticipantId) -> impl Iterator<Item = &'a Member> {
        let peer = move |member: &&Member| member.id != *me && member.connector.is_none();
        self.members.iter().filter(peer).filter(|member| member.status == Status::Active)
    }
}

impl Document for Register {
    const TYP: &'static str = "crosspark-register+jws";
    const FORMAT: &'static str = "register/1";
    const BYTES_MAX: usize = limits::REGISTER_BYTES_MAX;
    fn author(&self) -> Option<&ParticipantId> {
        Some(&self.alliance)
    }
}

/// Why a register is rejected.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum RegisterError {
    /// The document does not verify.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It belongs to another alliance or root document.
    #[error("the register belongs to another alliance or to another root document")]
    Foreign,
    /// It is older than the installed register.
    #[error("the register has sequence {found}, but {installed} is installed: older registers are never installed")]
    Older {
        /// Sequence offered.
        found: u64,
        /// Sequence installed.
        installed: u64,
    },
    /// Same sequence with other content: different members may have been given different registers.
    #[error("ALARM: two different registers with sequence {0} are signed; ask the alliance operator immediately")]
    Fork(u64),
    /// Its predecessor is not the installed register.
    #[error(
        "register {found} is not the successor of {installed}: install the registers between them first: `crosspark members install FOLDER` takes them all from the operator's folder"
    )]
    Gap {
        /// Sequence offered.
        found: u64,
        /// Sequence installed.
        installed: u64,
    },
    /// Its time of signing is in the future.
    #[error("the register was issued at {0}, which is in the future by this node's clock: check the clock")]
    Future(Timestamp),
    /// The content contradicts itself.
    #[error("the register is inconsistent: {0}")]
    Inconsistent(String),
}

/// A verified register.
#[derive(Debug, Clone)]
pub struct VerifiedRegister {
    jws: String,
    digest: Digest,
    /// As signed.
    stated: Register,
    /// Without the keys in quarantine.
    believed: Register,
}

/// Result of [`VerifiedRegister::successor`].
#[derive(Debug)]
pub enum Succession {
    /// The installed register itself.
    Same,
    /// The next register.
    Next(Box<VerifiedRegister>),
}

impl VerifiedRegister {
    /// Verifies signature and consistency under a root document; the position in the chain is not checked.
    pub fn verify(jws: &str, root: &VerifiedRoot) -> Result<Self, RegisterError> {
        let key = &root.body().register_key;
        let signed = document::verify::<Register>(jws, |kid| (*kid == key.id).then_some(key.public))?;
        let body = signed.body();
        if body.alliance != root.body().alliance || body.root != root.digest() {
            return Err(RegisterError::Foreign);
        }
        check(body)?;
        let (digest, stated) = (signed.digest(), signed.into_body());
        Ok(Self { jws: jws.to_owned(), digest, believed: stated.clone(), stated })
    }

    /// Verifies under the root document of `chain` that the register names.
    pub fn verify_in(jws: &str, chain: &RootChain) -> Result<Self, RegisterError> {
        // The newest is the most likely one, and its error the most useful.
        let newest = Self::verify(jws, chain.newest());
        newest.or_else(|error| chain.older().find_map(|root| Self::verify(jws, root).ok()).ok_or(error))
    }

    /// Verifies `jws` as the successor of this register, under the same root document or a later one. The new keys are
    /// checked separately by [`Self::unproven`].
    pub fn successor(&self, jws: &str, chain: &RootChain) -> Result<Succession, RegisterError> {
        let next = Self::verify_in(jws, chain)?;
        let (installed, found) = (self.body().sequence, next.body().sequence);
        if found < installed {
            return Err(RegisterError::Older { found, installed });
        }
        if found == installed {
            return if next.digest() == self.digest() { Ok(Succession::Same) } else { Err(RegisterError::Fork(found)) };
        }
        if Some(found) != installed.checked_add(1) {
            return Err(RegisterError::Gap { found, installed });
        }
        if next.body().previous != Some(self.digest()) {
            return Err(RegisterError::Fork(installed));
        }
        if next.body().issued < self.body().issued {
            return Err(RegisterError::Inconsistent("it was issued before its predecessor".into()));
        }
        if chain.version_of(&next.body().root) < chain.version_of(&self.body().root) {
            return Err(RegisterError::Foreign);
        }
        Ok(Succession::Next(Box::new(next)))
    }

    /// The keys of `next` that an existing member did not have before and did not sign: they go into quarantine. A
    /// known key may keep its validity or end earlier; a longer validity counts as a new key.
    pub fn unproven(&self, next: &Self) -> Vec<KeyName> {
        let mut found = Vec::new();
        for later in &next.stated.members {
            let Some(stated) = self.stated.members.iter().find(|member| member.id == later.id) else { continue };
            let believed = self.member(&later.id);
            let known = |key: &KeyEntry| stated.keys.iter().any(|old| key.is_subset_of(old));
            let proven = |key: &KeyEntry| believed.is_some_and(|member| key.is_proven_by(member, next.stated.issued));
            found.extend(later.keys.iter().filter(|key| !known(key) && !proven(key)).map(KeyEntry::name));
        }
        found
    }

    /// The same register without the keys in `quarantine`.
    pub fn without(mut self, quarantine: &BTreeSet<KeyName>) -> Self {
        self.believed = self.stated.clone();
        for member in &mut self.believed.members {
            member.keys.retain(|key| !quarantine.contains(&key.name()));
        }
        self
    }

    /// The register without the keys in quarantine.
    pub fn body(&self) -> &Register {
        &self.believed
    }

    /// The register as it was signed.
    pub fn stated(&self) -> &Register {
        &self.stated
    }

    /// SHA-256 of the payload.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The compact serialisation.
    pub fn jws(&self) -> &str {
        &self.jws
    }

    /// The member `id`.
    pub fn member(&self, id: &ParticipantId) -> Option<&Member> {
        self.body().members.iter().find(|member| member.id == *id)
    }

    /// The member with this TLS key pin, valid at `at`.
    pub fn member_by_pin(&self, pin: &Digest, at: Timestamp) -> Option<&Member> {
        self.body().members.iter().find(|member| member.has_pin(pin, at))
    }

    /// The document key `kid` of a member, valid at `at`.
    pub fn document_key(&self, kid: &KeyId, at: Timestamp) -> Option<PublicKey> {
        self.member(&kid.participant())?.key(kid, KeyUse::Document, at)
    }

    /// Whether the register is still valid at `at`.
    pub fn is_current(&self, at: Timestamp) -> bool {
        at < self.body().expires
    }
}

fn check(register: &Register) -> Result<(), RegisterError> {
    let inconsistent = |reason: String| Err(RegisterError::Inconsistent(reason));
    if register.sequence == 0 || (register.sequence == 1) != register.previous.is_none() {
        return inconsistent("sequence 1, and only sequence 1, has no predecessor".into());
    }
    if register.members.len() > limits::REGISTER_MEMBERS_MAX {
        return inconsistent(format!("more than {} members", limits::REGISTER_MEMBERS_MAX));
    }
    if register.expires <= register.issued {
        return inconsistent("it expires before it was issued".into());
    }
    let (mut names, mut publics) = (BTreeSet::new(), BTreeSet::new());
    for member in &register.members {
        if !names.insert(member.id.as_str()) {
            return inconsistent(format!("{} appears twice", member.id));
        }
        if member.id == register.alliance {
            return inconsistent("the alliance cannot be its own member".into());
        }
        for key in &member.keys {
            if key.id.participant() != member.id || !names.insert(key.id.as_str()) {
                return inconsistent(format!("key {} appears twice or under another member", key.id));
            }
            // A key of two members, or with two uses, would let one act as the other.
            if !publics.insert(key.public.0.as_slice()) {
                return inconsistent(format!("the public key of {} appears twice", key.id));
            }
            if key.usage != KeyUse::Tls && PublicKey::from_slice(&key.public.0).is_none() {
                return inconsistent(format!("key {} is not an Ed25519 key", key.id));
            }
        }
        for usage in member.uses() {
            if !member.keys.iter().any(|key| key.usage == *usage) {
                return inconsistent(format!("{} has no key for {usage:?}", member.id));
            }
        }
    }
    check_others(register, publics)
}

/// Checks that auditors and witnesses have their own keys, each for one use, and that the quorum can be reached.
fn check_others<'a>(register: &'a Register, mut publics: BTreeSet<&'a [u8]>) -> Result<(), RegisterError> {
    let auditors = register.auditors.iter().map(|auditor| (&auditor.key, KeyUse::Tls));
    let witnesses = register.witnesses.keys.iter().map(|key| (key, KeyUse::Witness));
    for (key, usage) in auditors.chain(witnesses) {
        let shape = usage == KeyUse::Tls || PublicKey::from_slice(&key.public.0).is_some();
        if key.usage != usage || !shape || !publics.insert(key.public.0.as_slice()) {
            return Err(RegisterError::Inconsistent(format!("key {} has the wrong use, or appears twice", key.id)));
        }
    }
    if register.auditors.iter().any(|auditor| auditor.key.id.participant() != auditor.id) {
        return Err(RegisterError::Inconsistent("an auditor has a key of another participant".into()));
    }
    if register.witnesses.quorum > register.witnesses.keys.len() as u64 {
        return Err(RegisterError::Inconsistent("the quorum is larger than the number of witnesses".into()));
    }
    schemas::check(&register.schemas).map_err(RegisterError::Inconsistent)
}
