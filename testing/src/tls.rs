//! TLS for the server: certificates made at start, and everything that can be wrong with them.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::fault_stream::FaultStream;
use crate::handshake::refusal;
use crate::shared::Schedule;
use crate::transport::{Transport, finish_socket};

/// What is wrong with the server's TLS.
///
/// "Wrong" from the view of a client that trusts [`ca_pem`](crate::MockServer::ca_pem) and connects to
/// [`url`](crate::MockServer::url).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The certificate is signed by an authority that nobody knows.
    UnknownIssuer,
    /// The certificate is signed with its own key.
    SelfSigned,
    /// The certificate has been invalid since the year 2020.
    Expired,
    /// The certificate will not be valid before the year 4000.
    NotYetValid,
    /// The certificate is for `wrong.invalid` instead of `localhost` and `127.0.0.1`.
    WrongName,
    /// The server accepts only clients with a certificate, such as
    /// [`client_identity`](crate::MockServer::client_identity).
    ClientCertificateRequired,
    /// The server does not speak TLS: it answers the client's hello with an HTTP error in plain text.
    PlainHttp,
    /// All is well until the server ends the connection: it does so without a close_notify alert, so that the client
    /// cannot tell the end from a truncation (RFC 8446 section 6.1).
    NoCloseNotify,
}

/// A certificate and its key that the server accepts from a client, in PEM.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientIdentity {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key (PKCS #8).
    pub key_pem: String,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

pub(crate) struct Tls {
    pub(crate) ca_pem: String,
    pub(crate) client: ClientIdentity,
    normal: Mode,
    faults: Mutex<Schedule<Mode>>,
}

/// How one connection is served.
#[derive(Clone)]
pub(crate) enum Mode {
    PlainHttp,
    Tls { acceptor: TlsAcceptor, close_notify: bool },
}

impl Tls {
    pub(crate) fn new(faults: Schedule<TlsFault>) -> io::Result<Self> {
        let ca = Authority::new("everwire-testing CA").map_err(io::Error::other)?;
        let client = ca.client_identity().map_err(io::Error::other)?;
        let normal = mode(&ca, None)?;
        let faults = faults.try_map(|fault| mode(&ca, Some(fault)))?;
        Ok(Self { ca_pem: ca.pem, client, normal, faults: Mutex::new(faults) })
    }

    /// The mode of the next connection.
    pub(crate) fn next(&self) -> Mode {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.next().unwrap_or_else(|| self.normal.clone())
    }
}

impl Mode {
    /// The TLS handshake; an error says why there is no TLS.
    pub(crate) async fn accept(self, mut socket: FaultStream) -> Result<Transport, String> {
        match self {
            Self::PlainHttp => {
                // The hello is read first: closing with it unread would send a RST before the answer is read.
                let _ = socket.read(&mut [0; 4096]).await;
                let answer = refusal(400, &[("Content-Type", "text/plain")], b"this port speaks plain HTTP");
                if socket.write_all(&answer).await.is_ok() {
                    finish_socket(&mut socket).await;
                }
                Err("fault: PlainHttp".to_owned())
            }
            Self::Tls { acceptor, close_notify } => {
                match acceptor.accept(socket).into_fallible().await {
                    Ok(stream) => Ok(Transport::Tls { stream: Box::new(stream), close_notify }),
                    Err((error, mut socket)) => {
                        // Without a RST, so that the client gets to read the alert.
                        finish_socket(&mut socket).await;
                        Err(format!("TLS handshake: {error}"))
                    }
                }
            }
        }
    }
}

fn mode(ca: &Authority, fault: Option<TlsFault>) -> io::Result<Mode> {
    if fault == Some(TlsFault::PlainHttp) {
        return Ok(Mode::PlainHttp);
    }
    let (chain, key) = server_identity(ca, fault).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if fault == Some(TlsFault::ClientCertificateRequired) {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der.clone()).map_err(io::Error::other)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.map_err(io::Error::other)?)
    } else {
        builder.with_no_client_auth()
    };
    let config = builder.with_single_cert(chain, key).map_err(io::Error::other)?;
    let close_notify = fault != Some(TlsFault::NoCloseNotify);
    Ok(Mode::Tls { acceptor: TlsAcceptor::from(Arc::new(config)), close_notify })
}

fn server_identity(
    ca: &Authority,
    fault: Option<TlsFault>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rcgen::Error> {
    let names: &[&str] = match fault {
        Some(TlsFault::WrongName) => &["wrong.invalid"],
        _ => &["localhost", "127.0.0.1", "::1"],
    };
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "everwire-testing server");
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
    match fault {
        Some(TlsFault::Expired) => params.not_after = date_time_ymd(2020, 1, 1),
        Some(TlsFault::NotYetValid) => params.not_before = date_time_ymd(4000, 1, 1),
        _ => {}
    }
    let key = KeyPair::generate()?;
    let cert = match fault {
        Some(TlsFault::SelfSigned) => params.self_signed(&key)?,
        Some(TlsFault::UnknownIssuer) => {
            params.signed_by(&key, &Authority::new("everwire-testing unknown CA")?.issuer)?
        }
        _ => params.signed_by(&key, &ca.issuer)?,
    };
    Ok((vec![cert.der().clone()], private_key(&key)))
}

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        Ok(Self { pem: cert.pem(), der: cert.der().clone(), issuer: Issuer::new(params, key) })
    }

    fn client_identity(&self) -> Result<ClientIdentity, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "everwire-testing client");
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(ClientIdentity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(key.serialize_der().into())
}
