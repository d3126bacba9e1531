//! The only module that creates HTTP clients. Their classes: clients for members (pinned to the member's keys, endpoint
//! from the register, address checked when connecting), for the URL that the operator configured, for the own node, for
//! users of a node behind a TLS proxy, and for configured connections (`outside`). None follows redirects or uses a proxy from the environment.

mod failure;
mod outside;

pub use failure::in_words;
pub use outside::{PostgresTls, TlsStream, check_public, public_client, server_client, trusted_certificates};

use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::time::{Clock, Timestamp};
use crate::identity::register::Member;
use crate::identity::x509::{Presented, Side};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Error in creating a client or a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// TLS configuration.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// HTTP client.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// The address or a certificate file is invalid, or connections to the address are not allowed.
    #[error("{0}")]
    Address(String),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// This node's certificate chain and key for TLS.
pub struct TlsIdentity {
    /// Chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for TlsIdentity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// Whether connections to private networks are allowed; parks in one network or on one machine need this.
#[derive(Debug, Clone, Copy)]
pub struct AddressRule {
    /// Allow loopback and private addresses.
    pub allow_private: bool,
}

impl AddressRule {
    fn check(self, address: IpAddr) -> Result<(), String> {
        let hint = "; set `allow_private_addresses` if the parks share a network";
        self.permits(address).then_some(()).ok_or_else(|| format!("connections to {address} are not allowed{hint}"))
    }

    fn permits(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let private = match address {
            IpAddr::V4(v4) => is_private(v4),
            IpAddr::V6(v6) => {
                // Addresses in which one of IPv4 is: NAT64 (RFC 6052) and 6to4 (RFC 3056).
                let embedded = match v6.segments() {
                    [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
                    [0x2002, high, low, ..] => Some((high, low)),
                    _ => None,
                };
                let embedded = embedded.map(|(high, low)| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
                let own = v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local();
                own || embedded.is_some_and(is_private)
            }
        };
        let never = address.is_unspecified() || address.is_multicast();
        !never && (!private || self.allow_private)
    }
}

/// Addresses that are not of the public network (RFC 6890).
fn is_private(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || a == 0
        || a >= 240
}

struct CheckedResolver(AddressRule);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &found {
                rule.check(address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Accepts exactly the keys that the register pins for one member.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Digest>,
    /// Certification authorities accepted as issuers (DER). None for other connectors: there only the pin counts.
    ca: Option<Vec<Vec<u8>>>,
    clock: ClockHandle,
    provider: Arc<CryptoProvider>,
}

#[derive(Clone)]
struct ClockHandle(Arc<dyn Clock>);

impl std::fmt::Debug for ClockHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refuse = |reason: String| Err(rustls::Error::General(reason));
        let presented = match Presented::parse(end_entity) {
            Ok(presented) => presented,
            Err(error) => return refuse(format!("the server's certificate: {error}")),
        };
        if !self.pins.contains(&presented.pin()) {
            return refuse("the server's key is not among those that the register pins for this member".into());
        }
        let now = self.clock.0.now();
        let checked = match &self.ca {
            Some(ca) => presented.check(ca.iter().map(Vec::as_slice), Side::Server, now),
            None => presented.check_time(now),
        };
        match checked {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => refuse(format!("the server's certificate: {error}")),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is supported".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Accepts any client certificate whose key is proven in the handshake. Each request is authenticated and authorised
/// against the register, so that a refusal can state its reason and be logged.
#[derive(Debug)]
struct ProvenKey(Arc<CryptoProvider>);

impl ClientCertVerifier for ProvenKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is supported".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// The certificate that the peer listener presents. Open connections keep the one that they started with.
#[derive(Debug)]
pub struct CertificateResolver(RwLock<Arc<CertifiedKey>>);

impl CertificateResolver {
    /// A resolver that presents `identity`.
    pub fn new(identity: &TlsIdentity) -> Result<Self, NetError> {
        Ok(Self(RwLock::new(certified(identity)?)))
    }

    /// Presents `identity` on new connections.
    pub fn change(&self, identity: &TlsIdentity) -> Result<(), NetError> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified(identity)?;
        Ok(())
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn certified(identity: &TlsIdentity) -> Result<Arc<CertifiedKey>, NetError> {
    let key = CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), &provider())?;
    Ok(Arc::new(key))
}

/// TLS for the peer listener: TLS 1.3 and HTTP/1.1 only; the client certificate is optional.
pub fn server_config(resolver: Arc<CertificateResolver>) -> Result<ServerConfig, NetError> {
    let provider = provider();
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ProvenKey(provider)))
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[allow(clippy::disallowed_methods, reason = "only this module creates HTTP clients")]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(limits::CONNECT_TIME_MAX)
        .http1_only()
        .user_agent(concat!("crosspark/", env!("CARGO_PKG_VERSION")))
}

/// One client per member, rebuilt when the member's keys in the register or this node's own keys change.
pub struct MemberClients {
    own: RwLock<Own>,
    rule: AddressRule,
    clock: Arc<dyn Clock>,
    clients: Mutex<HashMap<ParticipantId, (Vec<Digest>, reqwest::Client)>>,
}

struct Own {
    identity: TlsIdentity,
    ca: Vec<Vec<u8>>,
}

impl MemberClients {
    /// Clients of a node with this TLS identity, under these certification authorities (DER).
    pub fn new(identity: TlsIdentity, ca: Vec<Vec<u8>>, rule: AddressRule, clock: Arc<dyn Clock>) -> Self {
        Self { own: RwLock::new(Own { identity, ca }), rule, clock, clients: Mutex::new(HashMap::new()) }
    }

    /// Uses `identity` and trusts `ca` for new connections; requests in flight are not affected.
    pub fn change(&self, identity: TlsIdentity, ca: Vec<Vec<u8>>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = Own { identity, ca };
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The client that connects only to this member, for an address that the register lists for it.
    pub fn client(&self, member: &Member, address: &str) -> Result<reqwest::Client, NetError> {
        // The resolver does not see literal addresses.
        let url = url::Url::parse(address).map_err(|error| NetError::Address(error.to_string()))?;
        let literal = match url.host() {
            Some(url::Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(url::Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        literal.map_or(Ok(()), |address| self.rule.check(address)).map_err(NetError::Address)?;
        let pins = member.pins(self.clock.now());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.get(&member.id).filter(|(known, _)| *known == pins) {
            return Ok(client.clone());
        }
        let client = builder()
            .tls_backend_preconfigured(self.tls(member)?)
            .dns_resolver(CheckedResolver(self.rule))
            .https_only(true)
            .build()?;
        clients.insert(member.id.clone(), (pins, client.clone()));
        Ok(client)
    }

    /// TLS configuration for connections to a member.
    pub fn tls(&self, member: &Member) -> Result<ClientConfig, NetError> {
        let provider = provider();
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let verifier = Pinned {
            pins: member.pins(self.clock.now()),
            ca: member.connector.is_none().then(|| own.ca.clone()),
            clock: ClockHandle(self.clock.clone()),
            provider: provider.clone(),
        };
        Ok(ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(own.identity.chain.clone(), own.identity.key.clone_key())?)
    }
}

/// A client for the alliance's URL, which the operator configured. The documents fetched from it are signed, so plain
/// http is acceptable; https trusts only the given certificates (PEM).
pub fn operator_client(roots_pem: Option<&[u8]>) -> Result<reqwest::Client, NetError> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in roots_pem.into_iter().flat_map(CertificateDer::pem_slice_iter) {
        let certificate = certificate.map_err(|error| NetError::Address(format!("certificate file: {error}")))?;
        roots.add(certificate)?;
    }
    let tls = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(builder().tls_backend_preconfigured(tls).timeout(limits::PEER_ANSWER_TIME_MAX).build()?)
}

/// TLS that trusts the certificates in `ca` (PEM), or else those that this machine trusts.
fn public_tls(ca: Option<&[u8]>) -> Result<ClientConfig, NetError> {
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in certificates(pem)? {
                roots.add(certificate)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(NetError::Address("there is no trusted certificate".into()));
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The certificates of a PEM file.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, NetError> {
    use rustls::pki_types::pem::PemObject;
    let all: Result<_, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.map_err(|error| NetError::Address(format!("not PEM: {error}")))
}

/// A client of users for a TLS proxy in front of their node: trusts the certificates in `ca` (PEM), or else those that
/// this machine trusts.
pub fn user_client(ca: Option<&[u8]>) -> Result<reqwest::Client, NetError> {
    Ok(builder().tls_backend_preconfigured(public_tls(ca)?).build()?)
}

/// A client for the management listener of the own node, which is on loopback.
pub fn own_node_client() -> Result<reqwest::Client, NetError> {
    let tls = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(builder().tls_backend_preconfigured(tls).build()?)
}

/// The server's time in a response (RFC 9110 section 6.6.1), to the second.
pub fn date_of(response: &reqwest::Response) -> Option<Timestamp> {
    let text = response.headers().get(reqwest::header::DATE)?.to_str().ok()?.replace("GMT", "+0000");
    let at = time::OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc2822).ok()?;
    Some(Timestamp::from_ms(at.unix_timestamp().saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (address, public, private) in [
            ("8.8.8.8", true, true),
            ("127.0.0.1", false, true),
            ("10.1.2.3", false, true),
            ("169.254.169.254", false, true),
            ("100.64.0.1", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("fe80::1", false, true),
            ("fd00::1", false, true),
            ("64:ff9b::10.0.0.1", false, true),
            ("2002:7f00:1::1", false, true),
            ("64:ff9b::8.8.8.8", true, true),
            ("198.18.0.1", false, true),
            ("255.255.255.255", false, true),
            ("0.0.0.0", false, false),
            ("224.0.0.1", false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(AddressRule { allow_private: false }.check(address).is_ok(), public, "{address}");
            assert_eq!(AddressRule { allow_private: true }.check(address).is_ok(), private, "{address}");
        }
    }
}
