//! Peer certificates (RFC 5280). The pin in the register decides whose certificate it is; chain, usage and validity
//! are checked as well.

use crate::core::digest::Digest;
use crate::core::time::Timestamp;
/// A DER-encoded certificate.
pub use rustls::pki_types::CertificateDer as Der;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

/// Why a certificate is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not an X.509 structure.
    #[error("it is not an X.509 certificate or certificate signing request")]
    Malformed,
    /// The validity period has not begun.
    #[error("it is not valid yet")]
    NotYetValid,
    /// The validity period has ended.
    #[error("it has expired")]
    Expired,
    /// Not issued by the alliance's CA, or not for this use.
    #[error("it was not issued by this alliance for this use")]
    Untrusted,
    /// The signature of a certificate signing request does not verify.
    #[error("its signature does not verify")]
    BadSignature,
}

/// Role of the peer in the connection, which its certificate must permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The peer opened the connection.
    Client,
    /// This node opened the connection.
    Server,
}

/// A certificate whose key was proven in the TLS handshake; nothing else about it has been verified.
#[derive(Debug, Clone)]
pub struct Presented {
    der: CertificateDer<'static>,
    pin: Digest,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Presented {
    /// Parses a certificate.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let validity = certificate.validity();
        Ok(Self {
            pin: Digest::of(certificate.public_key().raw),
            not_before: Timestamp::from_ms(validity.not_before.timestamp().saturating_mul(1_000)),
            not_after: Timestamp::from_ms(validity.not_after.timestamp().saturating_mul(1_000)),
            der: der.clone().into_owned(),
        })
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn public_key(&self) -> Result<Vec<u8>, CertificateError> {
        let (_, certificate) = X509Certificate::from_der(&self.der).map_err(|_| CertificateError::Malformed)?;
        Ok(certificate.public_key().raw.to_vec())
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn pin(&self) -> Digest {
        self.pin
    }

    /// End of the validity period.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Checks the validity period only, regardless of the issuer.
    pub fn check_time(&self, at: Timestamp) -> Result<(), CertificateError> {
        if at < self.not_before {
            return Err(CertificateError::NotYetValid);
        }
        if at > self.not_after {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }

    /// Checks validity period, issuer (one of `ca`, DER) and usage for `side`.
    pub fn check<'a>(
        &self,
        ca: impl IntoIterator<Item = &'a [u8]>,
        side: Side,
        at: Timestamp,
    ) -> Result<(), CertificateError> {
        self.check_time(at)?;
        let end_entity = EndEntityCert::try_from(&self.der).map_err(|_| CertificateError::Malformed)?;
        let roots: Vec<CertificateDer<'_>> = ca.into_iter().map(CertificateDer::from).collect();
        let anchors: Vec<_> = roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.seconds()).unwrap_or(0)));
        let usage = match side {
            Side::Client => KeyUsage::client_auth(),
            Side::Server => KeyUsage::server_auth(),
        };
        let algorithms = [webpki::ring::ECDSA_P256_SHA256];
        end_entity
            .verify_for_usage(&algorithms, &anchors, &[], time, usage, None, None)
            .map(drop)
            .map_err(|_| CertificateError::Untrusted)
    }
}

/// The SubjectPublicKeyInfo (DER) of a certificate signing request, whose signature proves possession of the key.
pub fn csr_public_key(der: &[u8]) -> Result<Vec<u8>, CertificateError> {
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CertificateError::Malformed)?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed);
    }
    request.verify_signature().map_err(|_| CertificateError::BadSignature)?;
    Ok(request.certification_request_info.subject_pki.raw.to_vec())
}
