//! Which servers to trust and how to speak to them: [`TlsConfig`].

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use super::error::{TlsError, clip};

/// The protocol a WebSocket handshake speaks (RFC 7301, RFC 6455 section 4.1), offered unless a custom configuration
/// offers its own.
const ALPN: &[u8] = b"http/1.1";

/// How `wss://` connections are encrypted, and whose certificates they trust.
///
/// Making one never fails for reasons of the machine and reads nothing: trust roots are loaded when the first
/// connection is made. That is then done once; clones share the result, and with it the session cache, so that
/// reconnecting resumes the TLS session (RFC 8446 section 2.2) instead of repeating the full handshake. So make one
/// per process and clone it. A long-running process that must notice changed trust roots makes a new one.
///
/// The cryptography is `ring`, or `aws-lc-rs` with the feature `tls-aws-lc-rs`; it is always named explicitly, so a
/// process-wide default of rustls neither matters nor is needed. TLS 1.2 and 1.3 are offered, and `http/1.1` (ALPN).
///
/// Where this reaches out of the state machine: rustls takes random bytes and the time of day (for the validity of
/// certificates) from the operating system, so encrypted bytes differ from run to run. With `platform`, loading the
/// roots reads files on Linux and the BSDs; on macOS, Windows, iOS and Android the operating system verifies
/// certificates, which may take it a network request. Everything else works on bytes that are given.
#[derive(Clone)]
pub struct TlsConfig {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    /// Only success is kept: a machine whose trust roots were missing may have them at the next attempt.
    built: OnceLock<Arc<ClientConfig>>,
}

#[derive(Clone)]
struct Settings {
    trust: Trust,
    /// Certificate authorities trusted besides what `trust` says.
    extra_roots: Vec<CertificateDer<'static>>,
    client_certificate: Option<Arc<SingleCertAndKey>>,
}

#[derive(Clone)]
enum Trust {
    #[cfg(feature = "tls-platform-verifier")]
    Platform,
    #[cfg(feature = "tls-webpki-roots")]
    WebpkiRoots,
    /// Only the roots the user added.
    Added,
    Custom(Arc<ClientConfig>),
}

/// Why certificates or keys given to a [`TlsConfig`] were not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// The text is not well-formed PEM (RFC 7468). Holds what is wrong with it.
    InvalidPem(&'static str),
    /// There is no certificate in what was given.
    NoCertificate,
    /// A certificate cannot be used. Holds its position, counted from 0, and what is wrong.
    InvalidCertificate(usize, String),
    /// There is no private key in what was given.
    NoPrivateKey,
    /// The private key is protected by a passphrase.
    EncryptedPrivateKey,
    /// The private key is of a kind that is not supported, or damaged.
    UnsupportedPrivateKey,
    /// The private key does not belong to the first certificate of the chain.
    KeyMismatch,
    /// Certificate authorities cannot be added to [`TlsConfig::custom`]: it decides about trust itself.
    CustomTrust,
}

impl TlsConfig {
    /// Trusts what the operating system trusts. The default.
    ///
    /// If it trusts nothing (a minimal container without `ca-certificates`), connecting fails with
    /// [`TlsError::NoPlatformVerifier`].
    #[cfg(feature = "tls-platform-verifier")]
    #[must_use]
    pub fn platform() -> Self {
        Self::of(Trust::Platform)
    }

    /// Trusts the certificate authorities that Mozilla trusts, as compiled in at build time.
    #[cfg(feature = "tls-webpki-roots")]
    #[must_use]
    pub fn webpki_roots() -> Self {
        Self::of(Trust::WebpkiRoots)
    }

    /// Trusts these certificate authorities (DER) and nobody else: for servers with a private CA.
    ///
    /// # Errors
    /// [`TlsConfigError::NoCertificate`] if there is none, [`TlsConfigError::InvalidCertificate`] if one cannot be
    /// read.
    pub fn with_roots<D: Into<Vec<u8>>>(roots: impl IntoIterator<Item = D>) -> Result<Self, TlsConfigError> {
        Self::of(Trust::Added).add_roots(roots)
    }

    /// Trusts the certificate authorities in this PEM text and nobody else: for servers with a private CA.
    ///
    /// # Errors
    /// As [`with_roots`](Self::with_roots), and [`TlsConfigError::InvalidPem`].
    pub fn with_ca_pem(pem: &[u8]) -> Result<Self, TlsConfigError> {
        Self::of(Trust::Added).add_ca_pem(pem)
    }

    /// Uses a configuration of rustls as it is: own verifiers, client certificates from hardware, key logging.
    ///
    /// The application protocols (ALPN) it offers are offered, except `h2` (WebSockets run over HTTP/1.1 here, and a
    /// server that is offered both takes `h2`), and `http/1.1` if that leaves none.
    #[must_use]
    pub fn custom(config: Arc<ClientConfig>) -> Self {
        Self::of(Trust::Custom(config))
    }

    /// Trusts these certificate authorities (DER) too.
    ///
    /// On Android the operating system's verifier cannot be extended: connecting fails with [`TlsError::Config`].
    ///
    /// # Errors
    /// As [`with_roots`](Self::with_roots), and [`TlsConfigError::CustomTrust`].
    pub fn add_roots<D: Into<Vec<u8>>>(
        self,
        roots: impl IntoIterator<Item = D>,
    ) -> Result<Self, TlsConfigError> {
        self.add(roots.into_iter().map(|der| CertificateDer::from(der.into())).collect())
    }

    /// Trusts the certificate authorities in this PEM text too.
    ///
    /// # Errors
    /// As [`add_roots`](Self::add_roots), and [`TlsConfigError::InvalidPem`].
    pub fn add_ca_pem(self, pem: &[u8]) -> Result<Self, TlsConfigError> {
        self.add(certificates(pem)?)
    }

    /// Identifies us with this certificate chain (our own certificate first) and its private key, both PEM, to
    /// servers that ask for it. The key may be PKCS#8, PKCS#1 (RSA) or SEC1 (EC), without a passphrase.
    ///
    /// Replaces the client certificate of a [`custom`](Self::custom) configuration.
    ///
    /// # Errors
    /// [`TlsConfigError`] says which of the two cannot be used and why; it never contains the key.
    pub fn client_certificate_pem(self, chain: &[u8], key: &[u8]) -> Result<Self, TlsConfigError> {
        let chain = certificates(chain)?;
        if chain.is_empty() {
            return Err(TlsConfigError::NoCertificate);
        }
        let key = private_key(key)?;
        // A custom configuration may have its own provider, which then must be able to use the key.
        let provider = match &self.inner.settings.trust {
            Trust::Custom(config) => Arc::clone(config.crypto_provider()),
            _ => provider(),
        };
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsConfigError::KeyMismatch,
            rustls::Error::InvalidCertificate(why) => {
                TlsConfigError::InvalidCertificate(0, clip(&why.to_string()))
            }
            // The texts of the providers about keys are not repeated: nothing promises that they hide the key.
            _ => TlsConfigError::UnsupportedPrivateKey,
        })?;
        let mut settings = self.inner.settings.clone();
        settings.client_certificate = Some(Arc::new(SingleCertAndKey::from(certified)));
        Ok(settings.into())
    }

    /// The configuration of rustls that this stands for, made at the first call and then shared with all clones.
    ///
    /// # Errors
    /// [`TlsError::NoPlatformVerifier`], [`TlsError::NoTrustRoots`] or [`TlsError::Config`]. A failure is not
    /// remembered: the next call tries again.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(built) = self.inner.built.get() {
            return Ok(Arc::clone(built));
        }
        let built = self.inner.settings.build()?;
        // Two threads may both get here; the first result wins, so that there is one session cache.
        Ok(Arc::clone(self.inner.built.get_or_init(|| built)))
    }

    fn of(trust: Trust) -> Self {
        Settings { trust, extra_roots: Vec::new(), client_certificate: None }.into()
    }

    fn add(self, roots: Vec<CertificateDer<'static>>) -> Result<Self, TlsConfigError> {
        let mut settings = self.inner.settings.clone();
        if matches!(settings.trust, Trust::Custom(_)) {
            return Err(TlsConfigError::CustomTrust);
        }
        if roots.is_empty() {
            return Err(TlsConfigError::NoCertificate);
        }
        // Read here only to complain early.
        let mut store = RootCertStore::empty();
        for (index, root) in roots.iter().enumerate() {
            store.add(root.clone()).map_err(|error| invalid_root(index, &error))?;
        }
        settings.extra_roots.extend(roots);
        Ok(settings.into())
    }
}

impl Default for TlsConfig {
    /// The operating system's trust (feature `tls-platform-verifier`, on by default), else Mozilla's (feature
    /// `tls-webpki-roots`), else none: then connecting fails with [`TlsError::NoTrustRoots`].
    fn default() -> Self {
        #[cfg(feature = "tls-platform-verifier")]
        let trust = Trust::Platform;
        #[cfg(all(feature = "tls-webpki-roots", not(feature = "tls-platform-verifier")))]
        let trust = Trust::WebpkiRoots;
        #[cfg(not(any(feature = "tls-platform-verifier", feature = "tls-webpki-roots")))]
        let trust = Trust::Added;
        Self::of(trust)
    }
}

impl fmt::Debug for TlsConfig {
    /// Says what is trusted and whether there is a client certificate; never shows keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { trust, extra_roots, client_certificate } = &self.inner.settings;
        f.debug_struct("TlsConfig")
            .field("trust", trust)
            .field("added_roots", &extra_roots.len())
            .field("client_certificate", &client_certificate.is_some())
            .field("built", &self.inner.built.get().is_some())
            .finish()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "tls-platform-verifier")]
            Self::Platform => "Platform",
            #[cfg(feature = "tls-webpki-roots")]
            Self::WebpkiRoots => "WebpkiRoots",
            Self::Added => "Added",
            Self::Custom(_) => "Custom",
        })
    }
}

impl From<Settings> for TlsConfig {
    /// A changed configuration must not share what was built, nor sessions, with the one it came from.
    fn from(settings: Settings) -> Self {
        Self { inner: Arc::new(Inner { settings, built: OnceLock::new() }) }
    }
}

impl Settings {
    fn build(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut config = match &self.trust {
            Trust::Custom(config) => {
                let mut config = ClientConfig::clone(config);
                config.alpn_protocols.retain(|protocol| protocol != b"h2");
                config
            }
            #[cfg(feature = "tls-platform-verifier")]
            Trust::Platform => self.build_platform()?,
            #[cfg(feature = "tls-webpki-roots")]
            Trust::WebpkiRoots => {
                self.build_roots(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())?
            }
            Trust::Added => self.build_roots(RootCertStore::empty())?,
        };
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![ALPN.to_vec()];
        }
        if let Some(certificate) = &self.client_certificate {
            config.client_auth_cert_resolver = Arc::clone(certificate) as Arc<dyn ResolvesClientCert>;
        }
        Ok(Arc::new(config))
    }

    fn build_roots(&self, mut store: RootCertStore) -> Result<ClientConfig, TlsError> {
        for root in &self.extra_roots {
            store.add(root.clone()).map_err(TlsError::from_rustls)?;
        }
        if store.is_empty() {
            return Err(TlsError::NoTrustRoots);
        }
        Ok(ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::from_rustls)?
            .with_root_certificates(store)
            .with_no_client_auth())
    }

    #[cfg(feature = "tls-platform-verifier")]
    fn build_platform(&self) -> Result<ClientConfig, TlsError> {
        let provider = provider();
        let failed = |error: rustls::Error| TlsError::NoPlatformVerifier(clip(&error.to_string()));

        #[cfg(not(target_os = "android"))]
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(
            self.extra_roots.iter().cloned(),
            Arc::clone(&provider),
        )
        .map_err(failed)?;

        #[cfg(target_os = "android")]
        let verifier = if self.extra_roots.is_empty() {
            rustls_platform_verifier::Verifier::new(Arc::clone(&provider)).map_err(failed)?
        } else {
            let why =
                "Android's verifier takes no further certificate authorities; use TlsConfig::with_roots";
            return Err(TlsError::Config(why.to_owned()));
        };

        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::from_rustls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidPem(why) => write!(f, "this is not valid PEM: {why}"),
            Self::NoCertificate => f.write_str(
                "no certificate found: PEM text must have a BEGIN CERTIFICATE line (DER certificates go to \
                 TlsConfig::with_roots or add_roots)",
            ),
            Self::InvalidCertificate(index, why) => {
                write!(f, "certificate {index} (counted from 0) cannot be used: {why}")
            }
            Self::NoPrivateKey => f.write_str(
                "no private key found: the text must have a BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or BEGIN EC \
                 PRIVATE KEY line",
            ),
            Self::EncryptedPrivateKey => f.write_str(
                "the private key is protected by a passphrase: decrypt it first (openssl pkey -in FILE -out FILE)",
            ),
            Self::UnsupportedPrivateKey => f.write_str(
                "the private key is damaged or of an unsupported kind: RSA from 2048 bits, ECDSA P-256 or P-384, and \
                 Ed25519 are supported",
            ),
            Self::KeyMismatch => f.write_str(
                "the private key does not belong to the first certificate: put our own certificate first and its \
                 issuers after it",
            ),
            Self::CustomTrust => f.write_str(
                "certificate authorities cannot be added to TlsConfig::custom: add them to its rustls configuration",
            ),
        }
    }
}

impl Error for TlsConfigError {}

/// The cryptography in use, by name and not by the process-wide default: both may be compiled in, and then rustls
/// refuses to choose.
pub(super) fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "tls-aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "tls-aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| invalid_pem(&error))
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        PemError::NoItemsFound if is_encrypted(pem) => TlsConfigError::EncryptedPrivateKey,
        PemError::NoItemsFound => TlsConfigError::NoPrivateKey,
        // OpenSSL's old form keeps the ordinary label and says it in a header, which is not base64.
        _ if is_encrypted(pem) => TlsConfigError::EncryptedPrivateKey,
        other => invalid_pem(&other),
    })
}

fn is_encrypted(pem: &[u8]) -> bool {
    let has = |needle: &[u8]| pem.windows(needle.len()).any(|window| window == needle);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// Says which rule was broken, without a byte of the text: it may be a key.
fn invalid_pem(error: &PemError) -> TlsConfigError {
    TlsConfigError::InvalidPem(match error {
        PemError::MissingSectionEnd { .. } => "an END line is missing; the text may be cut off",
        PemError::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        PemError::Base64Decode(_) => "what stands between BEGIN and END is not base64",
        _ => "it cannot be read",
    })
}

fn invalid_root(index: usize, error: &rustls::Error) -> TlsConfigError {
    TlsConfigError::InvalidCertificate(index, clip(&error.to_string()))
}

#[cfg(test)]
mod tests;
