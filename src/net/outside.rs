//! Connections to servers and databases that are no members: those that the node's configuration names, and where they
//! redirect to.

use super::{AddressRule, NetError, builder, certificates, public_tls};
use crate::core::limits;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::pki_types::{CertificateDer, ServerName};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, TlsConnect};
use tokio_rustls::TlsConnector;

/// A client for a configured server: trusts the certificates in `ca` (PEM), or else those that this machine trusts.
pub fn server_client(ca: Option<&[u8]>) -> Result<reqwest::Client, NetError> {
    let client = builder().tls_backend_preconfigured(public_tls(ca)?);
    Ok(client.read_timeout(limits::SOURCE_IDLE_TIME_MAX).build()?)
}

/// A client for servers to which a configured one redirects: public addresses only, encrypted.
pub fn public_client() -> Result<reqwest::Client, NetError> {
    let client = builder().tls_backend_preconfigured(public_tls(None)?).https_only(true);
    let client = client.dns_resolver(PublicResolver);
    Ok(client.read_timeout(limits::SOURCE_IDLE_TIME_MAX).build()?)
}

const PUBLIC: AddressRule = AddressRule { allow_private: false };

fn check_address(address: IpAddr) -> Result<(), String> {
    let refused = || format!("{address} is a private address; a server may redirect only to public ones");
    PUBLIC.permits(address).then_some(()).ok_or_else(refused)
}

/// Fails if the host of a URL is a private address; the resolver of [`public_client`] checks names.
pub fn check_public(url: &url::Url) -> Result<(), String> {
    match url.host() {
        Some(url::Host::Ipv4(address)) => check_address(IpAddr::V4(address)),
        Some(url::Host::Ipv6(address)) => check_address(IpAddr::V6(address)),
        _ => Ok(()),
    }
}

struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            found.iter().try_for_each(|address| check_address(address.ip()))?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The certificates in `ca` (PEM), or else those that this machine trusts.
pub fn trusted_certificates(ca: Option<&[u8]>) -> Result<Vec<CertificateDer<'static>>, NetError> {
    match ca {
        Some(pem) => certificates(pem),
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

/// TLS for a PostgreSQL database.
pub struct PostgresTls {
    connector: TlsConnector,
    host: ServerName<'static>,
}

impl PostgresTls {
    /// Verifies the certificate of `host` against those in `ca` (PEM), or else those that this machine trusts.
    pub fn new(host: &str, ca: Option<&[u8]>) -> Result<Self, NetError> {
        let host = ServerName::try_from(host.to_owned())
            .map_err(|_| NetError::Address(format!("`{host}` is not the name of a host")))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(public_tls(ca)?)), host })
    }
}

impl TlsConnect<TcpStream> for PostgresTls {
    type Stream = TlsStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TlsStream>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.host, stream).await.map(TlsStream) })
    }
}

/// An encrypted connection to a PostgreSQL database.
pub struct TlsStream(tokio_rustls::client::TlsStream<TcpStream>);

impl tokio_postgres::tls::TlsStream for TlsStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
