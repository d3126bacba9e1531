//! The only maker of HTTP clients. Three classes, each with its own rules: to a member (pinned to that member's key,
//! endpoint from the register, address checked when connecting), to a place that the operator configured, to one's own
//! node. None follows redirects; none uses a proxy from the environment.

use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::time::Clock;
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
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Why there is no client or listener configuration.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The client.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// An address that may not be dialled.
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

/// Whether addresses of private networks may be dialled; parks in one network or on one machine need it.
#[derive(Debug, Clone, Copy)]
pub struct AddressRule {
    /// Allow loopback and private addresses.
    pub allow_private: bool,
}

impl AddressRule {
    fn check(self, address: IpAddr) -> Result<(), String> {
        let address = address.to_canonical();
        let private = match address {
            IpAddr::V4(v4) => {
                let [a, b, ..] = v4.octets();
                v4.is_private() || v4.is_loopback() || v4.is_link_local() || (a == 100 && (64..128).contains(&b))
            }
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        };
        let never = address.is_unspecified() || address.is_multicast();
        if never || (private && !self.allow_private) {
            return Err(format!(
                "{address} may not be dialled; set `allow_private_addresses` if the parks share a network"
            ));
        }
        Ok(())
    }
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

/// Believes exactly the keys that the register pins for one member.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Digest>,
    /// Who must have issued the certificate. Another connector brings its own: there the pin alone decides.
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
            return refuse("the server's key is not the one that the register pins for this member".into());
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
        Err(rustls::Error::General("TLS 1.3 only".into()))
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

/// Takes any client certificate whose key is proven in the handshake. Who that is, and what they may, is decided at
/// every request from the register: a refusal can then say why, and be logged.
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
        Err(rustls::Error::General("TLS 1.3 only".into()))
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

/// What the peer listener presents at the moment; connections that are open keep what they began with.
#[derive(Debug)]
pub struct CertificateResolver(RwLock<Arc<CertifiedKey>>);

impl CertificateResolver {
    /// Presents `identity`.
    pub fn new(identity: &TlsIdentity) -> Result<Self, NetError> {
        Ok(Self(RwLock::new(certified(identity)?)))
    }

    /// From now on presents `identity`.
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

/// TLS for the peer listener: 1.3 only, http/1.1 only, asks for a client certificate.
pub fn server_config(resolver: Arc<CertificateResolver>) -> Result<ServerConfig, NetError> {
    let provider = provider();
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ProvenKey(provider)))
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[allow(clippy::disallowed_methods, reason = "this room is the only maker of HTTP clients")]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(limits::CONNECT_TIME_MAX)
        .http1_only()
        .user_agent(concat!("crosspark/", env!("CARGO_PKG_VERSION")))
}

/// One client a member, rebuilt when the register gives the member other keys, or this node acts with others.
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
    /// For a node with this TLS identity, under these certification authorities (DER).
    pub fn new(identity: TlsIdentity, ca: Vec<Vec<u8>>, rule: AddressRule, clock: Arc<dyn Clock>) -> Self {
        Self { own: RwLock::new(Own { identity, ca }), rule, clock, clients: Mutex::new(HashMap::new()) }
    }

    /// From now on connects as `identity` and believes `ca`; requests under way end as they began.
    pub fn change(&self, identity: TlsIdentity, ca: Vec<Vec<u8>>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = Own { identity, ca };
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The client that reaches this member and nobody else, for an address that the register has for it.
    pub fn client(&self, member: &Member, address: &str) -> Result<reqwest::Client, NetError> {
        // A literal address does not pass the resolver.
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

    /// TLS towards a member.
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

/// A client for the one place that the operator configured (the alliance's URL). What it fetches is signed, so plain
/// http serves as well; https is believed under the given certificates (PEM) alone.
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

/// A client for the management listener of one's own node, which is on loopback.
pub fn own_node_client() -> Result<reqwest::Client, NetError> {
    let tls = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(builder().tls_backend_preconfigured(tls).build()?)
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
            ("0.0.0.0", false, false),
            ("224.0.0.1", false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(AddressRule { allow_private: false }.check(address).is_ok(), public, "{address}");
            assert_eq!(AddressRule { allow_private: true }.check(address).is_ok(), private, "{address}");
        }
    }
}
