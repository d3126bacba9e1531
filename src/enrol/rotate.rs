//! New keys and certificates of a node that has joined: the request to the operator, and installing the answer.

use super::{EnrolError, file_error};
use crate::alliance::Welcome;
use crate::assembly::{AssemblyError, certificate_path, files, lock_keys, own_entry, signing_key_of};
use crate::config::Config;
use crate::core::digest::Digest;
use crate::core::id::KeyId;
use crate::core::json;
use crate::core::random::{self, Random};
use crate::core::time::Timestamp;
use crate::durable::write_whole;
use crate::identity::document::{self, MultiSigned};
use crate::identity::key::{Bytes, KeyUse, SigningKey};
use crate::identity::register::KeyEntry;
use crate::identity::rotation::{KeyProof, Rotation};
use crate::identity::x509::Presented;
use crate::keys::{Kek, KeyFile};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::path::Path;
use zeroize::Zeroizing;

/// The keys and certificates to renew.
#[derive(Debug, Default)]
pub struct Wanted {
    /// New keys of these uses.
    pub keys: Vec<KeyUse>,
    /// A new certificate for the present TLS key.
    pub certificate: bool,
    /// The document key is lost or compromised: the new keys are not signed with it, and people compare fingerprints.
    pub document_key_lost: bool,
}

/// Fingerprints of a rotation, which people compare by telephone.
#[derive(Debug)]
pub struct Asked {
    /// Fingerprint of the rotation, for the operator.
    pub rotation: Digest,
    /// Fingerprint of each new key, for parks that keep it in quarantine.
    pub keys: Vec<(KeyId, Digest)>,
}

/// Creates the keys and writes the rotation for the operator to `out`. The node may be running; it uses the new keys
/// once a register lists them.
pub fn rotate(
    config: &Config,
    wanted: &Wanted,
    out: &Path,
    now: Timestamp,
    random: &dyn Random,
) -> Result<Asked, EnrolError> {
    let (folder, keys) = (&config.data, config.data.join(files::KEYS));
    let _keys = lock_keys(folder)?;
    let kek = Kek::load(&config.kek_file).map_err(AssemblyError::from)?;
    let member = own_entry(folder, &config.participant).ok_or(AssemblyError::NotJoined)?;
    let old = signing_key_of(folder, KeyUse::Document, &kek, Some(&member), now)?;
    let highest = member.keys.iter().map(|key| key.id.number()).max().unwrap_or(0);
    let mut number = highest.max(KeyFile::highest(&keys).map_err(AssemblyError::from)?);
    let failed = |error: rcgen::Error| file_error(&keys, error);
    let (mut entries, mut signing, mut csr) = (Vec::new(), Vec::new(), None);
    for usage in &wanted.keys {
        number += 1;
        let id = config.participant.key(number);
        let (secret, public) = match usage {
            KeyUse::Tls => {
                let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
                csr = Some(request(&pair).map_err(failed)?);
                (Zeroizing::new(pair.serialize_der()), pair.subject_public_key_info())
            }
            _ => {
                let seed = Zeroizing::new(random::bytes::<32>(random));
                let key = SigningKey::from_seed(id.clone(), &seed);
                let public = key.public().as_bytes().to_vec();
                signing.push(key);
                (Zeroizing::new(seed.to_vec()), public)
            }
        };
        KeyFile::add(&keys, &id, usage.name(), &secret, &kek, random).map_err(AssemblyError::from)?;
        let until = now.plus_ms(super::KEY_DAYS * 86_400_000);
        let entry = KeyEntry { id, usage: *usage, public: Bytes(public), from: now, until, proof: None };
        entries.push(if wanted.document_key_lost { entry } else { KeyProof::prove(&entry, &old) });
    }
    if wanted.certificate && csr.is_none() {
        csr = Some(request(&present_tls_key(&keys, &kek, &member)?).map_err(failed)?);
    }
    if !wanted.document_key_lost {
        signing.push(old);
    }
    let body = Rotation { participant: config.participant.clone(), keys: entries, csr, issued: now };
    let signed = MultiSigned::sign(&body, &signing.iter().collect::<Vec<_>>());
    write_whole(out, &json::to_canonical(&signed)).map_err(|error| file_error(out, error))?;
    Ok(Asked {
        rotation: document::digest(&body),
        keys: body.keys.iter().map(|key| (key.id.clone(), key.pin())).collect(),
    })
}

fn request(key: &KeyPair) -> Result<Bytes, rcgen::Error> {
    Ok(Bytes(CertificateParams::new(vec![])?.serialize_request(key)?.der().to_vec()))
}

fn tls_keys(keys: &Path, kek: &Kek) -> Result<Vec<(KeyId, KeyPair)>, EnrolError> {
    let all = KeyFile::all(keys, KeyUse::Tls.name(), kek).map_err(AssemblyError::from)?;
    all.into_iter()
        .map(|(id, pkcs8)| {
            let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
            let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256);
            Ok((id, pair.map_err(|error| file_error(keys, error))?))
        })
        .collect()
}

fn present_tls_key(keys: &Path, kek: &Kek, member: &crate::identity::register::Member) -> Result<KeyPair, EnrolError> {
    let listed = |pair: &KeyPair| {
        let public = pair.subject_public_key_info();
        member.keys.iter().any(|key| key.usage == KeyUse::Tls && key.public.0 == public)
    };
    let found = tls_keys(keys, kek)?.into_iter().rev().find(|(_, pair)| listed(pair));
    found.map(|(_, pair)| pair).ok_or_else(|| file_error(keys, "the register lists none of these TLS keys"))
}

/// Installs the certificate in the operator's answer, which must be for one of this node's TLS keys. Returns its
/// expiry, or none if the answer contains no certificate (new keys come with the register).
pub fn renew(config: &Config, welcome: &[u8], now: Timestamp) -> Result<Option<Timestamp>, EnrolError> {
    let refuse = |reason: &str| EnrolError::Welcome(reason.to_owned());
    let welcome: Welcome = json::read(welcome).map_err(|error| refuse(&error.to_string()))?;
    if welcome.certificate.is_empty() {
        return Ok(None);
    }
    let kek = Kek::load(&config.kek_file).map_err(AssemblyError::from)?;
    let der = CertificateDer::from_pem_slice(welcome.certificate.as_bytes());
    let der = der.map_err(|_| refuse("its certificate is not valid PEM"))?;
    let presented = Presented::parse(&der).map_err(|error| refuse(&format!("its certificate: {error}")))?;
    if presented.not_after() <= now {
        return Err(refuse("its certificate has expired"));
    }
    let own = |pair: &KeyPair| Digest::of(&pair.subject_public_key_info()) == presented.pin();
    let keys = config.data.join(files::KEYS);
    let found = tls_keys(&keys, &kek)?.into_iter().find(|(_, pair)| own(pair));
    let (id, _) = found.ok_or_else(|| {
        refuse("its certificate is not for a TLS key of this node: it may be the answer to another park")
    })?;
    let path = certificate_path(&config.data, &id);
    write_whole(&path, welcome.certificate.as_bytes()).map_err(|error| file_error(&path, error))?;
    Ok(Some(presented.not_after()))
}
