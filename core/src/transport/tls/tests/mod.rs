//! Against rustls' own server, in memory. Every test runs under TLS 1.3 and TLS 1.2 unless it says why not.

use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite,
    SupportedProtocolVersion,
};

use super::config::provider;
use super::*;

mod failures;
mod properties;
mod traffic;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

type Issuer = CertifiedIssuer<'static, KeyPair>;

static CA: LazyLock<Issuer> = LazyLock::new(|| authority("the CA"));

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    pem: String,
}

impl Identity {
    fn issue(issuer: &Issuer, params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        Self { chain: vec![certificate.der().clone()], pem: certificate.pem(), key }
    }

    fn for_names(names: &[&str]) -> Self {
        Self::issue(&CA, &names_params(names))
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

fn names_params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

fn server_config(identity: &Identity, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key_der())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn demanding_server(version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(ca_store()), provider()).build().unwrap();
    let identity = Identity::for_names(&["localhost"]);
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key_der())
        .unwrap();
    Arc::new(config)
}

fn ca_store() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add(CA.der().clone()).unwrap();
    store
}

fn trusting_ca() -> TlsConfig {
    TlsConfig::with_ca_pem(CA.pem().as_bytes()).unwrap()
}

/// A client and a server, and what is between them.
struct Link {
    client: TlsStream,
    server: ServerConnection,
    /// Sent by the server, not yet received by the client.
    in_flight: Vec<u8>,
    client_got: Vec<u8>,
    client_error: Option<TlsError>,
    server_got: Vec<u8>,
    server_error: Option<RustlsError>,
}

impl Link {
    fn new(config: &TlsConfig, name: &str, server: &Arc<ServerConfig>) -> Self {
        Self {
            client: TlsStream::new(config, name).unwrap(),
            server: ServerConnection::new(Arc::clone(server)).unwrap(),
            in_flight: Vec::new(),
            client_got: Vec::new(),
            client_error: None,
            server_got: Vec::new(),
            server_error: None,
        }
    }

    /// To a server with a good certificate for `localhost`.
    fn good(version: &'static SupportedProtocolVersion) -> Self {
        Self::new(&trusting_ca(), "localhost", &server_config(&Identity::for_names(&["localhost"]), version))
    }

    fn connected(version: &'static SupportedProtocolVersion) -> Self {
        let mut link = Self::good(version);
        link.run();
        assert!(!link.client.is_handshaking() && !link.server.is_handshaking());
        link
    }

    /// Moves at most `most` bytes of ciphertext from client to server; says how many.
    fn upload(&mut self, most: usize) -> usize {
        let len = self.client.transmit().len().min(most);
        let mut bytes = &self.client.transmit()[..len];
        while !bytes.is_empty() && self.server_error.is_none() {
            self.server.read_tls(&mut bytes).unwrap();
            self.server_error = self.server.process_new_packets().err();
            let _ = self.server.reader().read_to_end(&mut self.server_got);
        }
        self.client.handle_transmitted(len);
        len
    }

    /// Moves at most `most` bytes of ciphertext from server to client's buffer; says how many.
    fn download(&mut self, most: usize) -> usize {
        while self.server.wants_write() {
            self.server.write_tls(&mut self.in_flight).unwrap();
        }
        let room = self.client.recv_buffer();
        let len = room.len().min(most).min(self.in_flight.len());
        room[..len].copy_from_slice(&self.in_flight[..len]);
        self.in_flight.drain(..len);
        self.client.handle_received(len);
        len
    }

    /// Takes at most `most` bytes of plaintext; says how many.
    fn take(&mut self, most: usize) -> usize {
        let mut buffer = vec![0; most];
        match self.client.read_plaintext(&mut buffer) {
            Ok(len) => {
                self.client_got.extend_from_slice(&buffer[..len]);
                len
            }
            Err(error) => {
                self.client_error = Some(error);
                0
            }
        }
    }

    fn run(&mut self) {
        self.run_in_steps(&mut std::iter::repeat(usize::MAX), 10_000);
    }

    /// Moves everything in steps of the sizes given, until nothing moves.
    fn run_in_steps(&mut self, steps: &mut dyn Iterator<Item = usize>, take: usize) {
        loop {
            let mut step = || steps.next().unwrap_or(usize::MAX);
            let (up, down) = (step(), step());
            if self.upload(up) + self.download(down) + self.take(take) == 0 {
                break;
            }
        }
    }

    fn failure(mut self) -> (TlsError, Self) {
        self.run();
        (self.client_error.clone().expect("the client fails"), self)
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 251) as u8).collect()
}
