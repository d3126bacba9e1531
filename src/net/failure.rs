//! Failures of connections in words: the client library's chain of causes names its own layers.

use std::error::Error;
use std::io;

/// Why a request got no response.
pub fn in_words(error: &reqwest::Error) -> String {
    let first: &(dyn Error + 'static) = error;
    let chain = || std::iter::successors(Some(first), |error| (*error).source());
    if let Some(tls) = chain().find_map(tls_error) {
        return tls_in_words(&tls);
    }
    let text = chain().last().map(ToString::to_string).unwrap_or_default();
    if chain().any(|cause| cause.to_string().contains("lookup address")) {
        return "its host name is unknown".to_owned();
    }
    if let Some(io) = chain().find_map(|cause| cause.downcast_ref::<io::Error>()) {
        match io.kind() {
            io::ErrorKind::ConnectionRefused => return "nothing listens at its address".to_owned(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                return "it closed the connection".to_owned();
            }
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                return "there is no route to its address".to_owned();
            }
            io::ErrorKind::TimedOut => return "it did not respond in time".to_owned(),
            _ => {}
        }
    }
    if chain().any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)) {
        return "it closed the connection".to_owned();
    }
    if error.is_timeout() { "it did not respond in time".to_owned() } else { text }
}

/// The TLS error in a cause: it may be wrapped in I/O errors.
fn tls_error(cause: &(dyn Error + 'static)) -> Option<rustls::Error> {
    match cause.downcast_ref::<io::Error>() {
        Some(io) => tls_error(io.get_ref()?),
        None => cause.downcast_ref::<rustls::Error>().cloned(),
    }
}

fn tls_in_words(error: &rustls::Error) -> String {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "its certificate is from an unknown issuer".to_owned()
        }
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "its certificate is for another host".to_owned(),
        rustls::Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(Certificate::Other(other))
            if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            "its certificate is that of an authority, not of a server; make one with the basic constraint CA:FALSE"
                .to_owned()
        }
        rustls::Error::InvalidMessage(_) => "it does not speak TLS at this address".to_owned(),
        rustls::Error::General(reason) => reason.clone(),
        other => format!("TLS: {other}"),
    }
}
