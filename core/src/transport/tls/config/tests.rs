//! Roots, client certificates and what is built of them.

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A self-signed certificate and its key, both PEM.
fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn trusting() -> TlsConfig {
    TlsConfig::with_ca_pem(pair().0.as_bytes()).unwrap()
}

fn rustls_config(alpn: &[&[u8]]) -> TlsConfig {
    let mut config = ClientConfig::clone(&trusting().client_config().unwrap());
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConfig::custom(Arc::new(config))
}

#[test]
fn is_built_once_for_all_clones_and_anew_after_a_change() {
    let config = trusting();
    let clone = config.clone();
    assert!(format!("{config:?}").contains("built: false"));
    let built = config.client_config().unwrap();
    assert!(Arc::ptr_eq(&built, &clone.client_config().unwrap()));
    assert!(format!("{clone:?}").contains("built: true"));
    let changed = config.add_ca_pem(pair().0.as_bytes()).unwrap();
    assert!(!Arc::ptr_eq(&built, &changed.client_config().unwrap()));
}

#[test]
fn offers_http_1_1_unless_a_custom_configuration_offers_its_own() {
    let offered = |config: TlsConfig| config.client_config().unwrap().alpn_protocols.clone();
    assert_eq!(offered(trusting()), [b"http/1.1"]);
    assert_eq!(offered(rustls_config(&[])), [b"http/1.1"]);
    assert_eq!(offered(rustls_config(&[b"h2"])), [b"http/1.1"]);
    assert_eq!(offered(rustls_config(&[b"h2", b"http/1.1"])), [b"http/1.1"]);
    assert_eq!(offered(rustls_config(&[b"own"])), [b"own"]);
}

#[test]
fn roots_that_cannot_be_used_are_refused_with_the_reason() {
    let refuse = |pem: &[u8]| TlsConfig::with_ca_pem(pem).unwrap_err();
    assert_eq!(refuse(b""), TlsConfigError::NoCertificate);
    assert_eq!(refuse(&[0x30, 0x82, 0, 0]), TlsConfigError::NoCertificate);
    assert_eq!(refuse(pair().1.as_bytes()), TlsConfigError::NoCertificate);
    let pem = pair().0;
    let cut = refuse(&pem.as_bytes()[..pem.len() / 2]);
    assert!(cut.to_string().contains("END line is missing"), "{cut}");
    let odd = refuse(pem.replacen("MII", "M!I", 1).replacen("MI", "M!", 1).as_bytes());
    assert!(odd.to_string().contains("not base64"), "{odd}");
    // A good one before a bad one: the position counts.
    let bad = format!("{pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let TlsConfigError::InvalidCertificate(1, _) = refuse(bad.as_bytes()) else { panic!() };

    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert!(TlsConfig::with_roots([der.to_vec()]).is_ok());
    assert_eq!(TlsConfig::with_roots(Vec::<Vec<u8>>::new()).unwrap_err(), TlsConfigError::NoCertificate);
    assert!(matches!(TlsConfig::with_roots([b"junk"]), Err(TlsConfigError::InvalidCertificate(0, _))));
    assert_eq!(rustls_config(&[]).add_roots([der.to_vec()]).unwrap_err(), TlsConfigError::CustomTrust);
}

#[test]
fn client_certificates_that_cannot_be_used_are_refused_with_the_reason() {
    let (chain, key) = pair();
    let refuse = |chain: &str, key: &str| {
        trusting().client_certificate_pem(chain.as_bytes(), key.as_bytes()).unwrap_err()
    };
    assert_eq!(refuse("", &key), TlsConfigError::NoCertificate);
    assert_eq!(refuse(&chain, ""), TlsConfigError::NoPrivateKey);
    assert_eq!(refuse(&chain, &chain), TlsConfigError::NoPrivateKey);
    assert_eq!(refuse(&chain, &pair().1), TlsConfigError::KeyMismatch);
    assert_eq!(
        refuse(&chain, &key.replace("PRIVATE", "ENCRYPTED PRIVATE")),
        TlsConfigError::EncryptedPrivateKey
    );
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    assert_eq!(refuse(&chain, old), TlsConfigError::EncryptedPrivateKey);
    let junk = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    assert_eq!(refuse(&chain, junk), TlsConfigError::UnsupportedPrivateKey);
    for bad in [junk, &junk.replace("c2Vj", "c2V!"), &junk[..40]] {
        let error = refuse(&chain, bad);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("c2V") && !text.contains("secret"), "{text}");
    }
}

#[test]
fn debug_shows_no_key() {
    let (chain, key) = pair();
    let config = trusting().client_certificate_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let text = format!("{config:?}");
    assert_eq!(text, "TlsConfig { trust: Added, added_roots: 1, client_certificate: true, built: false }");
}

#[test]
fn a_custom_configuration_takes_a_client_certificate() {
    let (chain, key) = pair();
    let custom = rustls_config(&[]);
    assert!(!custom.client_config().unwrap().client_auth_cert_resolver.has_certs());
    let config = custom.clone().client_certificate_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    assert!(config.client_config().unwrap().client_auth_cert_resolver.has_certs());
    assert!(!custom.client_config().unwrap().client_auth_cert_resolver.has_certs());
}

#[test]
#[cfg(not(any(feature = "tls-platform-verifier", feature = "tls-webpki-roots")))]
fn without_any_trust_the_default_fails_when_used() {
    assert_eq!(TlsConfig::default().client_config().unwrap_err(), TlsError::NoTrustRoots);
    assert!(TlsError::NoTrustRoots.is_fatal_config());
}

#[test]
#[cfg(feature = "tls-webpki-roots")]
fn mozillas_roots_are_compiled_in() {
    assert!(TlsConfig::webpki_roots().client_config().is_ok());
}

#[test]
#[cfg(feature = "tls-platform-verifier")]
fn the_default_is_the_platform_and_is_not_loaded_before_it_is_used() {
    let text = format!("{:?}", TlsConfig::default());
    assert!(text.contains("trust: Platform") && text.contains("built: false"), "{text}");
}
