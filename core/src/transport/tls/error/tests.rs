//! What rustls says, in our words.

use rustls::{AlertDescription, InvalidMessage, OtherError};

use super::*;

#[test]
fn dates_are_right_at_leap_days_and_century_ends() {
    for (seconds, expected) in [
        (0, "1970-01-01"),
        (951_782_399, "2000-02-28"),
        (951_782_400, "2000-02-29"),
        (951_868_800, "2000-03-01"),
        (1_709_164_800, "2024-02-29"),
        (1_735_689_599, "2024-12-31"),
        (1_735_689_600, "2025-01-01"),
        (4_107_542_400, "2100-03-01"),
        (4_107_542_399, "2100-02-28"),
    ] {
        assert_eq!(date(seconds), expected, "{seconds}");
    }
    // No time overflows.
    assert!(!date(u64::MAX).is_empty());
}

#[test]
fn wrong_name_says_both_sides_and_stays_short() {
    let presented: Vec<String> = (0..1000).map(|n| format!("DnsName(\"h{n}.example\")")).collect();
    let error =
        TlsError::from_rustls(RustlsError::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("localhost").unwrap(),
            presented,
        }));
    let text = error.to_string();
    assert!(text.contains("\"localhost\" but for h0.example, h1.example"), "{text}");
    assert!(text.contains("h15.example and 984 more"), "{text}");
    assert!(!text.contains("h16.example"), "{text}");
    assert!(error.is_fatal_config());
}

#[test]
fn text_of_the_peer_is_clipped_and_escaped() {
    assert_eq!(clip("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
    let long = clip(&"\u{e9}".repeat(10_000));
    assert_eq!(long.chars().count(), MAX_TEXT + 3);
    assert_eq!(bare_name("IpAddress(0::1)"), "::1");
    assert_eq!(bare_name("Unsupported(0x81)"), "Unsupported(0x81)");
}

#[test]
fn alerts_are_sorted_by_what_can_be_done() {
    let alert =
        |description: AlertDescription| TlsError::from_rustls(RustlsError::AlertReceived(description));
    for fatal in [
        AlertDescription::CertificateRequired,
        AlertDescription::UnknownCA,
        AlertDescription::BadCertificate,
        AlertDescription::UnrecognisedName,
        AlertDescription::NoApplicationProtocol,
        AlertDescription::ProtocolVersion,
    ] {
        assert!(alert(fatal).is_fatal_config(), "{fatal:?}");
    }
    for transient in [
        AlertDescription::InternalError,
        AlertDescription::HandshakeFailure,
        AlertDescription::BadRecordMac,
        AlertDescription::CloseNotify,
        AlertDescription::Unknown(200),
    ] {
        assert!(!alert(transient).is_fatal_config(), "{transient:?}");
    }
    let required = alert(AlertDescription::CertificateRequired).to_string();
    assert!(required.contains("certificate_required (116)"), "{required}");
    assert!(required.contains("client_certificate_pem"), "{required}");
    assert!(alert(AlertDescription::Unknown(200)).to_string().contains("alert 200"));
}

#[test]
fn every_alert_that_tls_1_3_defines_has_its_name() {
    // RFC 8446 section 6, and no_application_protocol (120) from RFC 7301.
    let defined = [
        0, 10, 20, 22, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 70, 71, 80, 86, 90, 109, 110, 112, 113,
        115, 116, 120,
    ];
    for code in defined {
        assert!(TlsAlert(code).name().is_some(), "{code}");
    }
    assert_eq!(TlsAlert(99).name(), None);
    assert_eq!(TlsAlert(48).code(), 48);
}

#[test]
fn transient_and_fatal() {
    let certificate = |problem| TlsError::from_rustls(RustlsError::InvalidCertificate(problem));
    assert!(certificate(CertificateError::Revoked).is_fatal_config());
    assert!(certificate(CertificateError::BadSignature).is_fatal_config());
    assert!(!certificate(CertificateError::UnknownRevocationStatus).is_fatal_config());
    assert!(!TlsError::from_rustls(RustlsError::DecryptError).is_fatal_config());
    assert!(!TlsError::from_rustls(InvalidMessage::MessageTooLarge.into()).is_fatal_config());
    assert!(!TlsError::from_rustls(RustlsError::FailedToGetRandomBytes).is_fatal_config());
    assert!(TlsError::from_rustls(PeerIncompatible::NoKxGroupsInCommon.into()).is_fatal_config());
    assert!(TlsError::from_rustls(RustlsError::BadMaxFragmentSize).is_fatal_config());
    assert!(!TlsError::Truncated.is_fatal_config());
    let opaque = CertificateError::Other(OtherError(std::sync::Arc::new(TlsError::Truncated)));
    assert!(matches!(certificate(opaque), TlsError::Certificate(CertificateProblem::Invalid(_))));
}
