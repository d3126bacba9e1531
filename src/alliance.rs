//! The alliance operator's folder: root document, register key, certification authority, registers. It sees no data.

use crate::core::digest::Digest;
use crate::core::id::{KeyId, ParticipantId, Text};
use crate::core::json;
use crate::core::limits;
use crate::core::random::{self, Random};
use crate::core::time::Timestamp;
use crate::identity::document::{self, MultiSigned};
use crate::identity::join::{self, JoinError, JoinRequest};
use crate::identity::key::{Bytes, SigningKey};
use crate::identity::register::{Member, Register, RegisterError, SchemaEntry, Status, VerifiedRegister, Witnesses};
use crate::identity::root::{NamedKey, Root, RootError, VerifiedRoot};
use crate::keys::{Kek, KekError, KeyFile, KeyFileError, create_private};
use crate::schema;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Certificate profiles.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profiles {
    ca: Profile,
    node: Profile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    days: i64,
}

fn profiles() -> Profiles {
    toml::from_str(include_str!("../certs/profiles.toml")).expect("the built-in profiles are tested")
}

/// Why an operator's command fails.
#[derive(Debug, thiserror::Error)]
pub enum AllianceError {
    /// A file.
    #[error("{path}: {reason}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// Key files.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Root document.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Register.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// Join request.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Certificates.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The command does not fit the register.
    #[error("{0}")]
    Refused(String),
}

fn file_error(path: &Path, error: impl std::fmt::Display) -> AllianceError {
    AllianceError::File { path: path.to_owned(), reason: error.to_string() }
}

/// Writes a file whole: beside its place, fsynced, renamed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// What a park gets when it was admitted. Nothing in it is secret; the root's fingerprint, compared by people, makes it
/// believed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// `welcome/1`
    pub format: String,
    /// The root document.
    pub root: MultiSigned,
    /// The newest register.
    pub register: String,
    /// The node's certificate, PEM.
    pub certificate: String,
}

/// The operator's folder, opened.
pub struct Alliance {
    folder: PathBuf,
    kek: Kek,
    root: VerifiedRoot,
    register: VerifiedRegister,
    /// Two commands at once would sign two registers of one sequence.
    _lock: std::fs::File,
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<std::fs::File, AllianceError> {
    let path = folder.join("lock");
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| file_error(&path, error))?;
    file.try_lock().map_err(|_| file_error(folder, "another command is at work in this folder"))?;
    Ok(file)
}

impl Alliance {
    /// Makes a new alliance in `folder`, which must not hold one. Returns it; its root's digest is the fingerprint.
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
            return Err(file_error(folder, "there is an alliance in this folder already; it is never overwritten"));
        }
        for path in [&keys, &folder.join("registers")] {
            std::fs::create_dir_all(path).map_err(|error| file_error(path, error))?;
        }
        let make = |usage: &str, n: u32| -> Result<SigningKey, AllianceError> {
            let seed = Zeroizing::new(random::bytes::<32>(random));
            let id = alliance.key(n);
            KeyFile::create(&keys.join(format!("{usage}.key")), &id, usage, &seed[..], &kek, random)?;
            Ok(SigningKey::from_seed(id, &seed))
        };
        let (root_key, register_key) = (make("root", 1)?, make("register", 2)?);
        let (ca_der, ca_pem) = make_ca(alliance, &keys, &kek, now, random)?;
        let body = Root {
            alliance: alliance.clone(),
            names,
            version: 1,
            previous: None,
            signers: vec![named(&root_key)],
            threshold: 1,
            register_key: named(&register_key),
            ca: vec![Bytes(ca_der)],
            issued: now,
        };
        let root = json::to_canonical(&MultiSigned::sign(&body, &[&root_key]));
        let root = VerifiedRoot::verify(&root, &document::digest(&body))?;
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            create_private(&path, bytes).map_err(|error| file_error(&path, error))
        };
        put("ca.pem", ca_pem.as_bytes())?;
        let schemas = schema::built_in();
        let entry = |schema: &schema::Schema| SchemaEntry {
            id: schema.id().to_owned(),
            version: schema.version().to_owned(),
            digest: schema.digest(),
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
        let made = Self { folder: folder.to_owned(), kek, root, register, _lock: held };
        made.write_register()?;
        // Last: a folder with a root document is complete.
        put("root.json", &made.root.to_json())?;
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
        // The operator's own folder: what it is compared with is itself.
        let root = VerifiedRoot::verify(&text, &digest)?;
        let jws = String::from_utf8(read("register.jws")?).map_err(|e| file_error(folder, e))?;
        let register = VerifiedRegister::verify(jws.trim(), &root)?;
        Ok(Self { folder: folder.to_owned(), kek, root, register, _lock: held })
    }

    /// The root document.
    pub fn root(&self) -> &VerifiedRoot {
        &self.root
    }

    /// The newest register.
    pub fn register(&self) -> &VerifiedRegister {
        &self.register
    }

    /// Admits a park whose fingerprint people compared: certificate, register, welcome.
    pub fn admit(
        &mut self,
        request: &[u8],
        fingerprint: &Digest,
        groups: &[Text],
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<Welcome, AllianceError> {
        let request = join::verify(request, fingerprint)?;
        if self.register.member(&request.participant).is_some() {
            return Err(AllianceError::Refused(format!("{} is a member already", request.participant)));
        }
        let certificate = self.issue(&request, now, random)?;
        let member = Member {
            id: request.participant,
            names: request.names,
            jurisdiction: request.jurisdiction,
            endpoint: request.endpoint,
            callbacks: request.callbacks,
            status: Status::Active,
            groups: groups.iter().cloned().collect(),
            attributes: BTreeMap::new(),
            keys: request.keys,
        };
        self.next(now, |register| register.members.push(member))?;
        let root = MultiSigned::parse::<Root>(&self.root.to_json()).map_err(RootError::from)?;
        let register = self.register.jws().to_owned();
        Ok(Welcome { format: "welcome/1".into(), root, register, certificate })
    }

    /// Suspends or reinstates a member.
    pub fn set_status(&mut self, id: &ParticipantId, status: Status, now: Timestamp) -> Result<(), AllianceError> {
        match self.register.member(id) {
            None => return Err(AllianceError::Refused(format!("{id} is no member"))),
            Some(member) if member.status == status => {
                return Err(AllianceError::Refused(format!("{id} is {status:?} already").to_lowercase()));
            }
            Some(_) => {}
        }
        self.next(now, |register| {
            register.members.iter_mut().filter(|member| member.id == *id).for_each(|member| member.status = status);
        })
    }

    /// Signs the register anew for another [`limits::REGISTER_LIFE_MS`].
    pub fn renew(&mut self, now: Timestamp) -> Result<(), AllianceError> {
        self.next(now, |_| {})
    }

    fn next(&mut self, now: Timestamp, change: impl FnOnce(&mut Register)) -> Result<(), AllianceError> {
        let (id, seed) = KeyFile::load(&self.folder.join("keys/register.key"), "register", &self.kek)?;
        let seed = <[u8; 32]>::try_from(seed.as_slice()).map(Zeroizing::new);
        let seed = seed.map_err(|_| file_error(&self.folder, "the register key has not 32 bytes"))?;
        let key = SigningKey::from_seed(id, &seed);
        let mut body = self.register.body().clone();
        body.sequence += 1;
        body.previous = Some(self.register.digest());
        body.issued = now;
        body.expires = now.plus_ms(limits::REGISTER_LIFE_MS);
        change(&mut body);
        let signed = document::sign(body, &key);
        match self.register.successor(signed.jws(), &self.root)? {
            crate::identity::register::Succession::Next(next) => self.register = *next,
            crate::identity::register::Succession::Same => {}
        }
        self.write_register()
    }

    /// The register's own file first: a crash between the two leaves the newest one pointing at what exists.
    fn write_register(&self) -> Result<(), AllianceError> {
        let sequence = self.register.body().sequence;
        for path in [self.folder.join(format!("registers/{sequence}.jws")), self.folder.join("register.jws")] {
            write_whole(&path, self.register.jws().as_bytes()).map_err(|error| file_error(&path, error))?;
        }
        Ok(())
    }

    fn issue(&self, request: &JoinRequest, now: Timestamp, random: &dyn Random) -> Result<String, AllianceError> {
        let path = self.folder.join("keys/ca.key");
        let (_, pkcs8) = KeyFile::load(&path, "ca", &self.kek)?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8.as_slice()),
            &PKCS_ECDSA_P256_SHA256,
        )?;
        let ca = self.root.body().ca.last().ok_or_else(|| file_error(&path, "the root document names no CA"))?;
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(ca.0.as_slice()), key)?;
        let csr = CertificateSigningRequestDer::from(request.csr.0.as_slice());
        let mut csr = CertificateSigningRequestParams::from_der(&csr)?;
        // Only the key is taken from the request; what the certificate says is the profile's affair.
        csr.params = certificate_params(request.participant.host(), profiles().node.days, now, random)?;
        csr.params.use_authority_key_identifier_extension = true;
        csr.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        csr.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(csr.signed_by(&issuer)?.pem())
    }
}

fn named(key: &SigningKey) -> NamedKey {
    NamedKey { id: key.id().clone(), public: key.public() }
}

/// A certificate for a host, valid from a little before now (clocks differ).
fn certificate_params(
    host: &str,
    days: i64,
    now: Timestamp,
    random: &dyn Random,
) -> Result<CertificateParams, rcgen::Error> {
    let name = host.split("%3A").next().unwrap_or(host).to_owned();
    let mut params = CertificateParams::new(vec![name.clone()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now.plus_ms(-limits::SKEW_MS_MAX).to_offset_date_time();
    params.not_after = now.plus_ms(days * 86_400_000).to_offset_date_time();
    let mut serial = random::bytes::<16>(random);
    serial[0] &= 0x7F;
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    Ok(params)
}

fn make_ca(
    alliance: &ParticipantId,
    keys: &Path,
    kek: &Kek,
    now: Timestamp,
    random: &dyn Random,
) -> Result<(Vec<u8>, String), AllianceError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let id: KeyId = alliance.key(3);
    KeyFile::create(&keys.join("ca.key"), &id, "ca", &Zeroizing::new(key.serialize_der()), kek, random)?;
    let mut params = certificate_params(alliance.host(), profiles().ca.days, now, random)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().to_vec(), certificate.pem()))
}
