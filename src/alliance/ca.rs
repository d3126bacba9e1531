//! The alliance's certification authority (RFC 5280), with the profiles in `certs/profiles.toml`.

use super::error::{AllianceError, file_error};
use crate::core::id::{KeyId, ParticipantId};
use crate::core::limits;
use crate::core::random::{self, Random};
use crate::core::time::Timestamp;
use crate::identity::endpoint::Endpoint;
use crate::keys::{Kek, KeyFile};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use std::path::Path;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

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
    toml::from_str(include_str!("../../certs/profiles.toml")).expect("the built-in profiles are tested")
}

/// Parameters of a participant's certificate, which may also name the host of its endpoint; valid from shortly before
/// `now` because clocks differ.
fn certificate_params(
    participant: &ParticipantId,
    endpoint: Option<&Endpoint>,
    days: i64,
    now: Timestamp,
    random: &dyn Random,
) -> Result<CertificateParams, rcgen::Error> {
    let host = participant.host();
    let name = host.split("%3A").next().unwrap_or(host).to_owned();
    let mut names = vec![name.clone()];
    names.extend(endpoint.map(Endpoint::host).filter(|host| *host != name));
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now.plus_ms(-limits::SKEW_MS_MAX).to_offset_date_time();
    params.not_after = now.plus_ms(days * 86_400_000).to_offset_date_time();
    let mut serial = random::bytes::<16>(random);
    serial[0] &= 0x7F;
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    Ok(params)
}

/// Creates a certification authority and stores its key under `id`. Returns its certificate (DER).
pub fn make(
    alliance: &ParticipantId,
    id: &KeyId,
    keys: &Path,
    kek: &Kek,
    now: Timestamp,
    random: &dyn Random,
) -> Result<Vec<u8>, AllianceError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    KeyFile::add(keys, id, "ca", &Zeroizing::new(key.serialize_der()), kek, random)?;
    let mut params = certificate_params(alliance, None, profiles().ca.days, now, random)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(&key)?.der().to_vec())
}

fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().raw.to_vec())
}

/// Issues a node's certificate (PEM) for the key of a certificate signing request, by the `newest` certification
/// authority, whose key is in `folder`.
pub fn issue(
    (folder, kek): (&Path, &Kek),
    newest: Option<&[u8]>,
    (participant, endpoint): (&ParticipantId, Option<&Endpoint>),
    csr: &[u8],
    now: Timestamp,
    random: &dyn Random,
) -> Result<String, AllianceError> {
    // Only the newest certification authority issues certificates.
    let mut found = None;
    for (_, pkcs8) in KeyFile::all(folder, "ca", kek)? {
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256)?;
        let public = key.subject_public_key_info();
        if newest.is_some_and(|ca| public_key(ca).as_ref() == Some(&public)) {
            found = Some(key);
        }
    }
    let (Some(key), Some(ca)) = (found, newest) else {
        return Err(file_error(folder, "the key of the newest certification authority is missing"));
    };
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(ca), key)?;
    let mut csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))?;
    // Only the key is taken from the request; the profile determines the rest of the certificate.
    csr.params = certificate_params(participant, endpoint, profiles().node.days, now, random)?;
    csr.params.use_authority_key_identifier_extension = true;
    csr.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    csr.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(csr.signed_by(&issuer)?.pem())
}
