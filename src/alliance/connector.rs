//! Members that are other connectors: their register entries come from their operators, and people compare the keys.

use super::{Alliance, AllianceError};
use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, Text};
use crate::core::time::Timestamp;
use crate::identity::endpoint::Endpoint;
use crate::identity::key::{Bytes, KeyUse};
use crate::identity::register::{Connector, KeyEntry, Member, Proof, Status};
use crate::identity::x509::Presented;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use std::collections::BTreeMap;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Details of a connector, from its operator.
pub struct NewConnector {
    /// Participant id.
    pub id: ParticipantId,
    /// Names by language tag.
    pub names: BTreeMap<String, Text>,
    /// Jurisdiction, such as `CN-BJ` (ISO 3166-2).
    pub jurisdiction: Text,
    /// Base URL of its protocol paths.
    pub endpoint: Endpoint,
    /// Further prefixes of its callback addresses.
    pub callbacks: Vec<Endpoint>,
    /// Prefixes of its data addresses.
    pub data: Vec<Endpoint>,
    /// Its groups, which policies may name.
    pub groups: Vec<Text>,
    /// Its TLS certificates (PEM): those of its servers and, if it has one, of its client.
    pub certificates: Vec<u8>,
    /// The public key of its bearer tokens (PEM), if it cannot use client certificates.
    pub token_key: Option<Vec<u8>>,
}

impl Alliance {
    /// Adds another connector to the register, or changes its entry; false if nothing is new. Each of its keys must be
    /// among `fingerprints`, which people have compared.
    pub fn admit_connector(
        &mut self,
        new: NewConnector,
        fingerprints: &[Digest],
        now: Timestamp,
    ) -> Result<bool, AllianceError> {
        let known = self.register.stated().members.iter().find(|member| member.id == new.id).cloned();
        if known.as_ref().is_some_and(|member| member.connector.is_none()) {
            return Err(AllianceError::Refused(format!("{} is a member with a crosspark node", new.id)));
        }
        let reason = known.as_ref().and_then(|member| member.reason.clone());
        let member = Member {
            keys: keys(&new, known.as_ref(), fingerprints, now)?,
            names: new.names,
            jurisdiction: new.jurisdiction,
            callbacks: [vec![new.endpoint.clone()], new.callbacks].concat(),
            endpoint: new.endpoint,
            status: known.as_ref().map_or(Status::Active, |member| member.status),
            reason,
            groups: new.groups.into_iter().collect(),
            attributes: BTreeMap::new(),
            connector: Some(Connector {
                proof: if new.token_key.is_some() { Proof::Token } else { Proof::Certificate },
                data: new.data,
            }),
            id: new.id,
        };
        if known.as_ref() == Some(&member) {
            return Ok(false);
        }
        self.check_endpoint(&member.id, &member.endpoint)?;
        self.next(now, |register| {
            register.members.retain(|other| other.id != member.id);
            register.members.push(member);
        })?;
        Ok(true)
    }
}

/// Register entries of the connector's keys. Known keys keep their ids; every fingerprint must have been compared.
fn keys(
    new: &NewConnector,
    known: Option<&Member>,
    fingerprints: &[Digest],
    now: Timestamp,
) -> Result<Vec<KeyEntry>, AllianceError> {
    let refused = |reason: String| AllianceError::Refused(reason);
    let mut found: Vec<(KeyUse, Vec<u8>, Digest, Timestamp)> = Vec::new();
    for der in CertificateDer::pem_slice_iter(&new.certificates) {
        let der = der.map_err(|error| refused(format!("the certificate file: {error}")))?;
        let certificate = Presented::parse(&der).map_err(|error| refused(format!("the certificate: {error}")))?;
        let key = certificate.public_key().map_err(|error| refused(format!("the certificate: {error}")))?;
        // The server and the client may share one certificate.
        if found.iter().all(|(_, other, ..)| *other != key) {
            found.push((KeyUse::Tls, key, certificate.pin(), certificate.not_after()));
        }
    }
    if found.is_empty() {
        return Err(refused("the certificate file contains no PEM certificate".into()));
    }
    if let Some(pem) = &new.token_key {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem);
        let der = der.map_err(|error| refused(format!("the token key: {error}")))?;
        let key = ed25519(&der).ok_or_else(|| refused("the token key must be an Ed25519 public key (PEM)".into()))?;
        found.push((KeyUse::Document, key, Digest::of(&der), now.plus_ms(365 * 86_400_000)));
    }
    let mut keys = Vec::new();
    let taken = known.into_iter().flat_map(|member| member.keys.iter());
    let mut next = taken.clone().map(|key| key.id.number()).max().unwrap_or(0);
    for (usage, public, fingerprint, until) in found {
        if !fingerprints.contains(&fingerprint) {
            let spoken = fingerprint.fingerprint();
            return Err(refused(format!(
                "a key has the fingerprint {spoken}, which is not among those given: compare it with the connector's \
                 operator by telephone or in person, and give it with --fingerprint"
            )));
        }
        let public = Bytes(public);
        let before = taken.clone().find(|key| key.public == public && key.usage == usage);
        // Each park must confirm a key whose validity was extended, so it is extended only when it is about to end.
        let good_long = |key: &&KeyEntry| key.until > now.plus_ms(30 * 86_400_000);
        let (id, from, until) = match before {
            Some(key) => (key.id.clone(), key.from, Some(key).filter(good_long).map_or(until, |key| key.until)),
            None => {
                next += 1;
                (new.id.key(next), now, until)
            }
        };
        keys.push(KeyEntry { id, usage, public, from, until, proof: None });
    }
    Ok(keys)
}

/// The 32 bytes of an Ed25519 public key (RFC 8410).
fn ed25519(der: &[u8]) -> Option<Vec<u8>> {
    let (rest, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
    let key = &info.subject_public_key.data;
    (rest.is_empty() && info.algorithm.algorithm.to_id_string() == "1.3.101.112" && key.len() == 32)
        .then(|| key.to_vec())
}
