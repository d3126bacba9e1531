//! The alliance's register: who is a member, with which keys, reached where. FORMATS.md, "Register".

use super::document::{self, Document, DocumentError};
use super::endpoint::Endpoint;
use super::key::{Bytes, KeyUse, PublicKey};
use super::root::{RootChain, VerifiedRoot};
use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A key's name with the SHA-256 of its public half.
pub type KeyName = (KeyId, Digest);

/// A member's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// `did#key-N`
    pub id: KeyId,
    /// What it may sign.
    #[serde(rename = "use")]
    pub usage: KeyUse,
    /// Ed25519: 32 bytes. TLS: SubjectPublicKeyInfo, DER.
    pub public: Bytes,
    /// Valid from.
    pub from: Timestamp,
    /// Valid until.
    pub until: Timestamp,
    /// An older document key's signature that this key is of the same member; absent at a member's first keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

impl KeyEntry {
    /// SHA-256 of the SubjectPublicKeyInfo: what a TLS connection is pinned to.
    pub fn pin(&self) -> Digest {
        Digest::of(&self.public.0)
    }

    /// Whether it gives no more than `other` gave: the same key, not longer valid.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        let same = self.id == other.id && self.usage == other.usage && self.public == other.public;
        same && self.from >= other.from && self.until <= other.until
    }

    /// What it is called where somebody decides about it: its name and public key.
    pub fn name(&self) -> KeyName {
        (self.id.clone(), self.pin())
    }

    fn is_valid(&self, at: Timestamp) -> bool {
        self.from <= at.plus_ms(limits::SKEW_MS_MAX) && at < self.until
    }
}

/// Whether a member may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Yes.
    Active,
    /// Only to finish what is due: receipts, destruction statements, terminations, checkpoints.
    Suspended,
}

/// How another connector proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// By a client certificate whose key the register pins.
    Certificate,
    /// By a bearer token that one of its document keys signed.
    Token,
}

/// What makes a member another implementation of the Dataspace Protocol: ours alone (claims, signed agreements, sealed
/// bytes, receipts) is not asked of it, and its `endpoint` is the base of its protocol paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connector {
    /// How it proves who it is.
    pub proof: Proof,
    /// What the addresses of its data begin with.
    pub data: Vec<Endpoint>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Who.
    pub id: ParticipantId,
    /// Its names by language tag.
    pub names: BTreeMap<String, Text>,
    /// Such as `CN-BJ` (ISO 3166-2).
    pub jurisdiction: Text,
    /// Where its peer listener is.
    pub endpoint: Endpoint,
    /// What its callback addresses begin with.
    pub callbacks: Vec<Endpoint>,
    /// May it act?
    pub status: Status,
    /// Groups that policies may name.
    pub groups: BTreeSet<Text>,
    /// Further facts.
    pub attributes: BTreeMap<String, Text>,
    /// Its keys, at least one a use; of another connector those that it needs.
    pub keys: Vec<KeyEntry>,
    /// Present if it is another connector than a crosspark node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<Connector>,
}

impl Member {
    /// The key `id` if it has this use and is valid at `at`.
    pub fn key(&self, id: &KeyId, usage: KeyUse, at: Timestamp) -> Option<PublicKey> {
        let entry = self.keys.iter().find(|key| key.id == *id && key.usage == usage && key.is_valid(at))?;
        PublicKey::from_slice(&entry.public.0)
    }

    /// Whether `pin` is that of one of its TLS keys valid at `at`.
    pub fn has_pin(&self, pin: &Digest, at: Timestamp) -> bool {
        self.keys.iter().any(|key| key.usage == KeyUse::Tls && key.is_valid(at) && key.pin() == *pin)
    }

    /// The uses that it needs a key for. What another connector answers over is pinned in any case.
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

/// An auditor: reads every node's log openings within its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auditor {
    /// Who.
    pub id: ParticipantId,
    /// Whose logs; empty means all members'.
    pub scope: BTreeSet<ParticipantId>,
    /// Its TLS key.
    pub key: KeyEntry,
}

/// The witnesses that count, and how many must cosign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// k
    pub quorum: u64,
    /// Their keys.
    pub keys: Vec<KeyEntry>,
}

/// A schema that members share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaEntry {
    /// Its `$id`.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// Digest of its canonical form.
    pub digest: Digest,
}

/// The register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// Whose.
    pub alliance: ParticipantId,
    /// 1 at first; each successor adds 1.
    pub sequence: u64,
    /// The predecessor's digest; absent at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The root document's digest that it stands on.
    pub root: Digest,
    /// When it was signed.
    pub issued: Timestamp,
    /// Until when it counts.
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
    /// The other crosspark nodes that are active: those that have registers and logs to compare.
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

/// Why a register is not taken.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum RegisterError {
    /// The document itself.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Not of this alliance or root document.
    #[error("the register is of another alliance or stands on another root document")]
    Foreign,
    /// Older than what is installed.
    #[error("the register has sequence {found}, older than {installed}, which is installed: registers never go back")]
    Older {
        /// Offered.
        found: u64,
        /// Installed.
        installed: u64,
    },
    /// Same sequence, other content: somebody shows different registers to different members.
    #[error("ALARM: two different registers with sequence {0} are signed; ask the alliance operator at once")]
    Fork(u64),
    /// Its predecessor is not ours.
    #[error(
        "register {found} does not follow {installed}: bring the ones between first (the operator keeps them in `registers`)"
    )]
    Gap {
        /// Offered.
        found: u64,
        /// Installed.
        installed: u64,
    },
    /// Issued later than now.
    #[error("the register was issued at {0}, which is later than this node's clock: set the clock")]
    Future(Timestamp),
    /// Its members contradict each other.
    #[error("the register is inconsistent: {0}")]
    Inconsistent(String),
}

/// A register that was verified.
#[derive(Debug, Clone)]
pub struct VerifiedRegister {
    jws: String,
    digest: Digest,
    /// As it was signed.
    stated: Register,
    /// Without the keys in quarantine.
    believed: Register,
}

/// What `VerifiedRegister::successor` found.
#[derive(Debug)]
pub enum Succession {
    /// The very register that is installed.
    Same,
    /// The next one.
    Next(Box<VerifiedRegister>),
}

impl VerifiedRegister {
    /// Verifies signature and consistency under a root document; where it stands in the chain is not judged.
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

    /// Verifies under the root document of `chain` that it names.
    pub fn verify_in(jws: &str, chain: &RootChain) -> Result<Self, RegisterError> {
        // The newest is the likely one, and its verdict the useful one.
        let newest = Self::verify(jws, chain.newest());
        newest.or_else(|error| chain.older().find_map(|root| Self::verify(jws, root).ok()).ok_or(error))
    }

    /// Verifies `jws` as the successor of this register, under the same root document or a later one. Which of its keys
    /// are to be believed is the affair of [`Self::unproven`].
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

    /// The keys of `next` that a member of this register did not have and did not sign for: they go into quarantine.
    /// What it had may go on, or end earlier; a longer validity counts as new.
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

    /// The same register, without the keys in `quarantine`.
    pub fn without(mut self, quarantine: &BTreeSet<KeyName>) -> Self {
        self.believed = self.stated.clone();
        for member in &mut self.believed.members {
            member.keys.retain(|key| !quarantine.contains(&key.name()));
        }
        self
    }

    /// What it says, without the keys in quarantine.
    pub fn body(&self) -> &Register {
        &self.believed
    }

    /// What it says, as it was signed.
    pub fn stated(&self) -> &Register {
        &self.stated
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its compact serialisation.
    pub fn jws(&self) -> &str {
        &self.jws
    }

    /// The member `id`.
    pub fn member(&self, id: &ParticipantId) -> Option<&Member> {
        self.body().members.iter().find(|member| member.id == *id)
    }

    /// The member whose TLS key has this pin.
    pub fn member_by_pin(&self, pin: &Digest, at: Timestamp) -> Option<&Member> {
        self.body().members.iter().find(|member| member.has_pin(pin, at))
    }

    /// The document key `kid` of a member, valid at `at`.
    pub fn document_key(&self, kid: &KeyId, at: Timestamp) -> Option<PublicKey> {
        self.member(&kid.participant())?.key(kid, KeyUse::Document, at)
    }

    /// Whether it still counts.
    pub fn is_current(&self, at: Timestamp) -> bool {
        at < self.body().expires
    }
}

fn check(register: &Register) -> Result<(), RegisterError> {
    let inconsistent = |reason: String| Err(RegisterError::Inconsistent(reason));
    if register.sequence == 0 || (register.sequence == 1) != register.previous.is_none() {
        return inconsistent("exactly sequence 1 has no predecessor".into());
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
            return inconsistent(format!("{} stands twice", member.id));
        }
        if member.id == register.alliance {
            return inconsistent("the alliance cannot be its own member".into());
        }
        for key in &member.keys {
            if key.id.participant() != member.id || !names.insert(key.id.as_str()) {
                return inconsistent(format!("key {} stands twice or under another member", key.id));
            }
            // A key of two members, or with two uses, would let one speak for the other.
            if !publics.insert(key.public.0.as_slice()) {
                return inconsistent(format!("the public key of {} stands twice", key.id));
            }
            if key.usage != KeyUse::Tls && PublicKey::from_slice(&key.public.0).is_none() {
                return inconsistent(format!("key {} is no Ed25519 key", key.id));
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

/// Auditors and witnesses have keys of their own, each for its one use, and a quorum that can be met.
fn check_others<'a>(register: &'a Register, mut publics: BTreeSet<&'a [u8]>) -> Result<(), RegisterError> {
    let auditors = register.auditors.iter().map(|auditor| (&auditor.key, KeyUse::Tls));
    let witnesses = register.witnesses.keys.iter().map(|key| (key, KeyUse::Witness));
    for (key, usage) in auditors.chain(witnesses) {
        let shape = usage == KeyUse::Tls || PublicKey::from_slice(&key.public.0).is_some();
        if key.usage != usage || !shape || !publics.insert(key.public.0.as_slice()) {
            return Err(RegisterError::Inconsistent(format!("key {} has another use, or stands twice", key.id)));
        }
    }
    if register.auditors.iter().any(|auditor| auditor.key.id.participant() != auditor.id) {
        return Err(RegisterError::Inconsistent("an auditor has somebody else's key".into()));
    }
    if register.witnesses.quorum > register.witnesses.keys.len() as u64 {
        return Err(RegisterError::Inconsistent("the quorum is larger than the number of witnesses".into()));
    }
    Ok(())
}
