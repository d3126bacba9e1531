//! The alliance operator's folder: root documents, register key, certification authority, registers. The operator has
//! no access to data.

mod ca;
mod connector;
mod members;
mod error;
mod roots;
mod schemas;

pub use connector::NewConnector;
pub use error::AllianceError;
pub use members::MemberChange;
pub use roots::{Proposal, make_signer, sign as sign_root, signers};

use error::file_error;

use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId, Text};
use crate::core::json;
use crate::core::limits;
use crate::core::random::{self, Random};
use crate::core::time::Timestamp;
use crate::durable::{create_private, make_folder, write_whole};
use crate::identity::document::{self, MultiSigned};
use crate::identity::endpoint::Endpoint;
use crate::identity::join;
use crate::identity::key::{Bytes, KeyUse, SigningKey};
use crate::identity::register::{Member, Register, Status, Succession, VerifiedRegister, Witnesses};
use crate::identity::root::{NamedKey, Root, RootChain, RootError, VerifiedRoot};
use crate::identity::rotation::{self, RotationError};
use crate::identity::schemas::SchemaEntry;
use crate::keys::{Kek, KeyFile};
use crate::schema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The file that an admitted park receives. It contains no secrets; the park trusts it because people compare the
/// root's fingerprint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// `welcome/1`
    pub format: String,
    /// The root document.
    pub root: MultiSigned,
    /// The newest register (JWS).
    pub register: String,
    /// The node's certificate (PEM).
    pub certificate: String,
}

/// An open operator's folder.
pub struct Alliance {
    folder: PathBuf,
    kek: Kek,
    roots: RootChain,
    register: VerifiedRegister,
    /// Two concurrent commands would sign two registers with the same sequence.
    _lock: std::fs::File,
}

/// Locks the folder for this process.
fn lock(folder: &Path) -> Result<std::fs::File, AllianceError> {
    let path = folder.join("lock");
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| file_error(&path, error))?;
    file.try_lock().map_err(|_| file_error(folder, "another command is using this folder"))?;
    Ok(file)
}

impl Alliance {
    /// Creates a new alliance in `folder`, which must not contain one. The digest of its root is the fingerprint.
    pub fn init(
        folder: &Path,
        kek: Kek,
        alliance: &ParticipantId,
        names: BTreeMap<String, Text>,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<Self, AllianceError> {
        let held = lock(folder)?;
        let keys = folder.join("keys");
        if folder.join("root.json").exists() {
            return Err(file_error(folder, "this folder already contains an alliance, which is never overwritten"));
        }
        clear_interrupted(folder).map_err(|error| file_error(folder, error))?;
        for path in [&keys, &folder.join("registers")] {
            make_folder(path).map_err(|error| file_error(path, error))?;
        }
        let make = |usage: &str, n: u32| -> Result<SigningKey, AllianceError> {
            let seed = Zeroizing::new(random::bytes::<32>(random));
            let id = alliance.key(n);
            KeyFile::add(&keys, &id, usage, &seed[..], &kek, random)?;
            Ok(SigningKey::from_seed(id, &seed))
        };
        let (root_key, register_key) = (make("root", 1)?, make("register", 2)?);
        let ca = ca::make(alliance, &alliance.key(3), &keys, &kek, now, random)?;
        let body = Root {
            alliance: alliance.clone(),
            names,
            version: 1,
            previous: None,
            signers: vec![named(&root_key)],
            threshold: 1,
            register_key: named(&register_key),
            ca: vec![Bytes(ca.clone())],
            issued: now,
        };
        let root = json::to_canonical(&MultiSigned::sign(&body, &[&root_key]));
        let root = VerifiedRoot::verify(&root, &document::digest(&body))?;
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            create_private(&path, bytes).map_err(|error| file_error(&path, error))
        };
        put("ca.pem", pem(&ca).as_bytes())?;
        let schemas = schema::built_in();
        let entry = |schema: &schema::Schema| SchemaEntry {
            id: schema.id().to_owned(),
            version: schema.version().to_owned(),
            digest: schema.digest(),
            owner: None,
            deprecated: None,
        };
        let register = Register {
            alliance: alliance.clone(),
            sequence: 1,
            previous: None,
            root: root.digest(),
            issued: now,
            expires: now.plus_ms(limits::REGISTER_LIFE_MS),
            members: Vec::new(),
            auditors: Vec::new(),
            witnesses: Witnesses { quorum: 0, keys: Vec::new() },
            schemas: schemas.iter().map(entry).collect(),
        };
        let signed = document::sign(register, &register_key);
        let register = VerifiedRegister::verify(signed.jws(), &root)?;
        let roots = RootChain::new(root);
        let made = Self { folder: folder.to_owned(), kek, roots, register, _lock: held };
        made.write_built_in()?;
        made.write_register()?;
        // Last: a folder with a root document is complete.
        put("root.json", &made.roots.newest().to_json())?;
        Ok(made)
    }

    /// Opens an operator's folder.
    pub fn open(folder: &Path, kek: Kek) -> Result<Self, AllianceError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|error| file_error(&path, error))
        };
        let held = lock(folder)?;
        let text = read("root.json")?;
        let (_, digest) = MultiSigned::parse::<Root>(&text)
            .and_then(|document| document.claimed::<Root>())
            .map_err(RootError::from)?;
        // The operator trusts its own folder, so the root is not compared with a fingerprint from elsewhere.
        let roots = Self::load_roots(folder, RootChain::new(VerifiedRoot::verify(&text, &digest)?))?;
        let jws = String::from_utf8(read("register.jws")?).map_err(|e| file_error(folder, e))?;
        let register = VerifiedRegister::verify_in(jws.trim(), &roots)?;
        let mut opened = Self { folder: folder.to_owned(), kek, roots, register, _lock: held };
        opened.finish_interrupted()?;
        Ok(opened)
    }

    /// An interrupted command may have stored the next register without making it the newest. That register counts
    /// because somebody may have seen it, and two registers with the same sequence must never be signed.
    fn finish_interrupted(&mut self) -> Result<(), AllianceError> {
        let sequence = self.register.body().sequence + 1;
        let path = self.folder.join(format!("registers/{sequence}.jws"));
        if !path.exists() {
            return Ok(());
        }
        let jws = std::fs::read_to_string(&path).map_err(|error| file_error(&path, error))?;
        if let Succession::Next(next) = self.register.successor(jws.trim(), &self.roots)? {
            self.register = *next;
            self.write_register()?;
        }
        Ok(())
    }

    /// The newest root document.
    pub fn root(&self) -> &VerifiedRoot {
        self.roots.newest()
    }

    /// The previous root documents, newest first.
    pub fn older_roots(&self) -> impl Iterator<Item = &VerifiedRoot> {
        self.roots.older()
    }

    /// The newest register.
    pub fn register(&self) -> &VerifiedRegister {
        &self.register
    }

    /// Admits a park whose join request's fingerprint people have compared: issues its certificate, adds it to the
    /// register and returns its welcome.
    pub fn admit(
        &mut self,
        request: &[u8],
        fingerprint: &Digest,
        groups: &[Text],
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<Welcome, AllianceError> {
        let request = join::verify(request, fingerprint)?;
        // A member's certificate names the endpoint that the register has, not the one in a repeated request.
        let listed = self.register.member(&request.participant).map(|member| member.endpoint.clone());
        let endpoint = listed.unwrap_or_else(|| request.endpoint.clone());
        let certificate = self.issue((&request.participant, &endpoint), &request.csr.0, now, random)?;
        if let Some(member) = self.register.member(&request.participant) {
            // A repeated request is answered again, because the welcome may have been lost.
            if member.keys != request.keys {
                return Err(AllianceError::Refused(format!(
                    "{} is already a member, with other keys; to get new keys, it must run `crosspark node rotate`",
                    request.participant
                )));
            }
            return self.welcome(certificate);
        }
        self.check_endpoint(&request.participant, &request.endpoint)?;
        let member = Member {
            id: request.participant,
            names: request.names,
            jurisdiction: request.jurisdiction,
            endpoint: request.endpoint,
            callbacks: request.callbacks,
            status: Status::Active,
            reason: None,
            groups: groups.iter().cloned().collect(),
            attributes: BTreeMap::new(),
            keys: request.keys,
            connector: None,
        };
        self.next(now, |register| register.members.push(member))?;
        self.welcome(certificate)
    }

    fn welcome(&self, certificate: String) -> Result<Welcome, AllianceError> {
        let root = MultiSigned::parse::<Root>(&self.root().to_json())?;
        let register = self.register.jws().to_owned();
        Ok(Welcome { format: "welcome/1".into(), root, register, certificate })
    }

    /// Gives a member the new keys and certificate that its rotation requests. Its old keys of the same uses end after
    /// `overlap_ms`. `fingerprint` is required if no old key signed the rotation.
    pub fn rotate(
        &mut self,
        rotation: &[u8],
        fingerprint: Option<&Digest>,
        overlap_ms: i64,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<Welcome, AllianceError> {
        let claimed = rotation::claimed_participant(rotation)?;
        let member = self.register.member(&claimed).ok_or(RotationError::NotMember(claimed))?.clone();
        // A repeated request is answered again, because the welcome may have been lost: it is verified against the
        // member as it was before the new keys were added.
        let before = Member { keys: rotation::keys_before(rotation, &member)?, ..member.clone() };
        let (rotation, proven) = rotation::verify(rotation, &before, fingerprint, now)?;
        let certificate = match &rotation.csr {
            Some(csr) => self.issue((&member.id, &member.endpoint), &csr.0, now, random)?,
            None => String::new(),
        };
        if before.keys.len() == member.keys.len() && !rotation.keys.is_empty() {
            self.next(now, |register| {
                for member in register.members.iter_mut().filter(|known| known.id == member.id) {
                    for old in &mut member.keys {
                        // If no old document key signed, it is lost or compromised and must no longer be valid.
                        let lost = !proven && old.usage == KeyUse::Document;
                        let overlap_ms = if lost { 0 } else { overlap_ms };
                        if lost || rotation.keys.iter().any(|new| new.usage == old.usage) {
                            old.until = old.until.min(now.plus_ms(overlap_ms)).max(old.from);
                        }
                    }
                    member.keys.extend(rotation.keys.iter().cloned());
                }
            })?;
        }
        self.welcome(certificate)
    }

    /// Signs a new register that is valid for another [`limits::REGISTER_LIFE_MS`].
    pub fn renew(&mut self, now: Timestamp) -> Result<(), AllianceError> {
        self.next(now, |_| {})
    }

    fn issue(
        &self,
        whom: (&ParticipantId, &Endpoint),
        csr: &[u8],
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<String, AllianceError> {
        let (participant, endpoint) = whom;
        // No certificate names the host of another member. Members behind one gateway share its name, so that theirs
        // name only the participants; an address says nothing about whose it is.
        let host = endpoint.host();
        let others = || self.register.body().members.iter().filter(|member| member.id != *participant);
        let owner = others().find(|other| other.id.host().split("%3A").next() == Some(host.as_str()));
        if let Some(owner) = owner {
            let reason = format!("the endpoint {endpoint} has the host of {}: each member needs its own", owner.id);
            return Err(AllianceError::Refused(reason));
        }
        let of_other =
            |other: &Member| other.endpoint.host() == host || other.callbacks.iter().any(|c| c.host() == host);
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let named = Some(endpoint).filter(|_| is_address || !others().any(of_other));
        let keys = self.folder.join("keys");
        ca::issue((&keys, &self.kek), self.roots.ca().last(), (participant, named), csr, now, random)
    }

    fn register_key(&self, root: &VerifiedRoot) -> Result<SigningKey, AllianceError> {
        let folder = self.folder.join("keys");
        let wanted = &root.body().register_key.id;
        let found = KeyFile::all(&folder, "register", &self.kek)?.into_iter().find(|(id, _)| id == wanted);
        let (id, seed) = found.ok_or_else(|| file_error(&folder, format!("the register key {wanted} is missing")))?;
        ed25519(&folder, id, &seed)
    }

    fn next(&mut self, now: Timestamp, change: impl FnOnce(&mut Register)) -> Result<(), AllianceError> {
        let key = self.register_key(self.roots.newest())?;
        let mut body = self.register.stated().clone();
        body.sequence += 1;
        body.previous = Some(self.register.digest());
        body.root = self.roots.newest().digest();
        body.issued = now;
        body.expires = now.plus_ms(limits::REGISTER_LIFE_MS);
        change(&mut body);
        let signed = document::sign(body, &key);
        match self.register.successor(signed.jws(), &self.roots)? {
            Succession::Next(next) => self.register = *next,
            Succession::Same => {}
        }
        self.write_register()
    }

    /// Writes the numbered file first, so that after a crash `register.jws` is never newer than the numbered files.
    /// Fails if another member has this endpoint: messages for one would reach the other.
    pub(super) fn check_endpoint(&self, of: &ParticipantId, endpoint: &Endpoint) -> Result<(), AllianceError> {
        let mut others = self.register.body().members.iter().filter(|member| member.id != *of);
        match others.find(|other| other.endpoint == *endpoint) {
            Some(other) => Err(AllianceError::Refused(format!("{} has the endpoint {endpoint} already", other.id))),
            None => Ok(()),
        }
    }

    fn write_register(&self) -> Result<(), AllianceError> {
        let sequence = self.register.body().sequence;
        for path in [self.folder.join(format!("registers/{sequence}.jws")), self.folder.join("register.jws")] {
            write_whole(&path, self.register.jws().as_bytes()).map_err(|error| file_error(&path, error))?;
        }
        Ok(())
    }
}

/// Removes the remains of an interrupted [`Alliance::init`], which have not been published. The folder of keys stays:
/// it shows that the key-encryption key belongs to this folder.
fn clear_interrupted(folder: &Path) -> std::io::Result<()> {
    for name in ["keys", "registers", "schemas"] {
        for file in folder.join(name).read_dir().into_iter().flatten() {
            std::fs::remove_file(file?.path())?;
        }
    }
    for name in ["ca.pem", "register.jws"] {
        match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn ed25519(folder: &Path, id: KeyId, seed: &Zeroizing<Vec<u8>>) -> Result<SigningKey, AllianceError> {
    let seed = <[u8; 32]>::try_from(seed.as_slice()).map(Zeroizing::new);
    let seed = seed.map_err(|_| file_error(folder, format!("the key {id} is not 32 bytes long")))?;
    Ok(SigningKey::from_seed(id, &seed))
}

/// Encodes a certificate in PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn named(key: &SigningKey) -> NamedKey {
    NamedKey { id: key.id().clone(), public: key.public() }
}
