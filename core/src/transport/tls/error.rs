//! What can go wrong with TLS, sorted by what the user must do about it.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, Error as RustlsError, PeerIncompatible};

/// How many of a certificate's names are kept for the error text; a hostile certificate may have thousands.
const MAX_NAMES: usize = 16;

/// Longest text taken over from rustls, the operating system or the peer, in characters.
const MAX_TEXT: usize = 256;

/// Why a TLS connection could not be made, or broke.
///
/// The text of each says what happened and how to mend it. None of them contains key material or application data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// The server's certificate was not accepted.
    Certificate(CertificateProblem),
    /// The server name is neither a DNS name nor an IP address.
    InvalidServerName(String),
    /// The certificate store of the operating system could not be used. Holds what the platform said.
    NoPlatformVerifier(String),
    /// Nothing says which certificates to trust: the crate was built without `tls-platform-verifier` and without
    /// `tls-webpki-roots`, and the configuration names no certificate authority.
    NoTrustRoots,
    /// rustls refused the configuration, or what was negotiated under it cannot carry a WebSocket. Holds the reason.
    Config(String),
    /// The server gave up and said why with an alert (RFC 8446 section 6).
    Alert(TlsAlert),
    /// The server answered, but not in TLS.
    NotTls {
        /// The answer began like an HTTP response, so the port most likely serves plain `ws://`.
        http: bool,
    },
    /// Server and client have no TLS version, cipher suite or key exchange in common. Holds what was missing.
    Incompatible(String),
    /// The server broke the TLS protocol, or bytes were damaged on the way. Holds what rustls said.
    Protocol(String),
    /// The keys of a TLS 1.2 connection have encrypted as many records as is safe (2^24 for AES-GCM); TLS 1.2 cannot
    /// renew them. A new connection has new keys.
    KeysExhausted,
    /// This machine could not supply what TLS needs: random bytes, or the time of day.
    Local(String),
    /// The connection ended before the TLS handshake was complete.
    HandshakeEof,
    /// The connection ended without `close_notify` (RFC 8446 section 6.1): what was received may be incomplete.
    Truncated,
}

/// What is wrong with a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// The certificate, or one of its issuers, has expired.
    Expired {
        /// End of validity, in seconds since 1970-01-01 UTC, if the verifier said.
        not_after: Option<u64>,
        /// The time it was compared with, in seconds since 1970-01-01 UTC, if the verifier said.
        now: Option<u64>,
    },
    /// The certificate, or one of its issuers, is not valid yet; often this machine's clock is wrong.
    NotYetValid {
        /// Start of validity, in seconds since 1970-01-01 UTC, if the verifier said.
        not_before: Option<u64>,
        /// The time it was compared with, in seconds since 1970-01-01 UTC, if the verifier said.
        now: Option<u64>,
    },
    /// The certificate belongs to other names.
    WrongName {
        /// The name we connected to, if the verifier said.
        expected: Option<String>,
        /// The names the certificate has (its `subjectAltName`), at most the first 16.
        presented: Vec<String>,
        /// How many more names the certificate has than `presented` lists.
        omitted: usize,
    },
    /// Nobody we trust has signed it.
    UnknownIssuer,
    /// A CA certificate is used as the server's own, as `openssl req -x509` makes them.
    CaUsedAsServer,
    /// Its issuer has revoked it.
    Revoked,
    /// Whether it was revoked could not be found out. This may pass: the revocation service may be unreachable.
    RevocationUnknown,
    /// Anything else. Holds what the verifier said.
    Invalid(String),
}

/// An alert sent by the server (RFC 8446 section 6), by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlsAlert(u8);

impl TlsError {
    /// Whether this is about certificates, names or configuration, so that trying again cannot help until somebody
    /// changes something, here or on the server.
    ///
    /// The others are transient: the network, a restarting server, keys that are used up.
    #[must_use]
    pub fn is_fatal_config(&self) -> bool {
        match self {
            Self::Certificate(problem) => *problem != CertificateProblem::RevocationUnknown,
            Self::Alert(alert) => alert.is_about_config(),
            Self::InvalidServerName(_)
            | Self::NoPlatformVerifier(_)
            | Self::NoTrustRoots
            | Self::Config(_)
            | Self::NotTls { .. }
            | Self::Incompatible(_) => true,
            Self::Protocol(_)
            | Self::KeysExhausted
            | Self::Local(_)
            | Self::HandshakeEof
            | Self::Truncated => false,
        }
    }

    /// Sorts an error of rustls into ours.
    pub(super) fn from_rustls(error: RustlsError) -> Self {
        match error {
            RustlsError::InvalidCertificate(problem) => {
                Self::Certificate(CertificateProblem::from_rustls(problem))
            }
            RustlsError::NoCertificatesPresented => {
                Self::Certificate(CertificateProblem::Invalid("the server sent none".to_owned()))
            }
            RustlsError::AlertReceived(alert) => Self::Alert(TlsAlert(alert.into())),
            RustlsError::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(_)) => {
                Self::Incompatible("the server rejected Encrypted Client Hello".to_owned())
            }
            RustlsError::PeerIncompatible(why) => Self::Incompatible(clip(&format!("{why:?}"))),
            RustlsError::FailedToGetCurrentTime => Self::Local("the time of day is not available".to_owned()),
            RustlsError::FailedToGetRandomBytes => Self::Local("random bytes are not available".to_owned()),
            RustlsError::NoApplicationProtocol
            | RustlsError::BadMaxFragmentSize
            | RustlsError::InconsistentKeys(_)
            | RustlsError::InvalidCertRevocationList(_)
            | RustlsError::InvalidEncryptedClientHello(_)
            | RustlsError::UnsupportedNameType
            | RustlsError::General(_)
            | RustlsError::Other(_) => Self::Config(clip(&error.to_string())),
            // The rest is about bytes that should not have come. New variants of rustls too: trying again is the
            // safer answer to what we do not know.
            other => Self::Protocol(clip(&other.to_string())),
        }
    }
}

impl CertificateProblem {
    fn from_rustls(problem: CertificateError) -> Self {
        let seconds = |time: UnixTime| Some(time.as_secs());
        match problem {
            CertificateError::Expired => Self::Expired { not_after: None, now: None },
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { not_after: seconds(not_after), now: seconds(time) }
            }
            CertificateError::NotValidYet => Self::NotYetValid { not_before: None, now: None },
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { not_before: seconds(not_before), now: seconds(time) }
            }
            CertificateError::NotValidForName => {
                Self::WrongName { expected: None, presented: Vec::new(), omitted: 0 }
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                Self::wrong_name(&expected, &presented)
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::RevocationUnknown,
            other => {
                let text = format!("{other:?}");
                // rustls passes this one on as an opaque error, and it is what beginners' certificates fail with.
                if text.contains("CaUsedAsEndEntity") {
                    Self::CaUsedAsServer
                } else {
                    Self::Invalid(clip(&text))
                }
            }
        }
    }

    fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> Self {
        Self::WrongName {
            expected: Some(expected.to_str().into_owned()),
            presented: presented.iter().take(MAX_NAMES).map(|name| bare_name(name)).collect(),
            omitted: presented.len().saturating_sub(MAX_NAMES),
        }
    }
}

impl TlsAlert {
    /// The number of the alert, as in RFC 8446 section 6 and the IANA registry "TLS Alerts".
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }

    /// The name of the alert in RFC 8446 section 6 (or the RFC that registered it), if it is known.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            100 => "no_renegotiation",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => return None,
        })
    }

    /// Whether the server means our certificate, the name we asked for or what we offered, and will say so again.
    fn is_about_config(self) -> bool {
        matches!(self.0, 42..=46 | 48 | 49 | 70 | 71 | 112 | 116 | 120)
    }

    fn hint(self) -> &'static str {
        match self.0 {
            42..=46 | 48 => {
                "the server does not accept our client certificate; ask its operator which CA must sign it"
            }
            49 | 116 => {
                "the server wants a client certificate; give one with TlsConfig::client_certificate_pem"
            }
            40 | 70 | 71 => {
                "server and client have no TLS version or cipher suite in common, or the server serves no such name"
            }
            112 => "the server serves no such name; check the host in the URL",
            120 => "the server does not offer http/1.1 on this port; check the URL",
            _ => "if it happens again, ask the server's operator",
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(problem) => problem.fmt(f),
            Self::InvalidServerName(name) => write!(
                f,
                "{name:?} is neither a DNS name nor an IP address, so no certificate can be valid for it; write an \
                 international name in its xn-- form and an IPv6 address without brackets or zone"
            ),
            Self::NoPlatformVerifier(why) => write!(
                f,
                "the certificates that the operating system trusts could not be loaded: {why}; install them (package \
                 ca-certificates on most Linux systems) or choose TlsConfig::webpki_roots or TlsConfig::with_ca_pem"
            ),
            Self::NoTrustRoots => f.write_str(
                "no certificate authority to trust: build everwire-core with the feature tls-platform-verifier or \
                 tls-webpki-roots, or name the authorities with TlsConfig::with_ca_pem",
            ),
            Self::Config(why) => write!(f, "the TLS configuration cannot be used: {why}"),
            Self::Alert(alert) => write!(f, "the server ended the TLS connection: {alert}; {}", alert.hint()),
            Self::NotTls { http: true } => {
                f.write_str("the server answered in plain HTTP, without TLS: use ws:// instead of wss://, or another port")
            }
            Self::NotTls { http: false } => {
                f.write_str("the server answered without TLS: check that the port is right, or use ws:// if it is meant")
            }
            Self::Incompatible(why) => write!(
                f,
                "server and client have no way of TLS in common: {why}; the server must offer TLS 1.2 or 1.3 with a \
                 current cipher suite"
            ),
            Self::Protocol(why) => {
                write!(f, "the TLS connection broke: {why}; if it happens again, something on the way alters the bytes")
            }
            Self::KeysExhausted => f.write_str(
                "the keys of this TLS 1.2 connection have encrypted as much as is safe: reconnect (TLS 1.3 servers do \
                 not have this limit)",
            ),
            Self::Local(why) => write!(f, "this machine cannot do TLS now: {why}"),
            Self::HandshakeEof => f.write_str(
                "the connection ended during the TLS handshake: the server may be restarting, may not speak TLS on \
                 this port, or something on the way blocks it",
            ),
            Self::Truncated => {
                f.write_str("the connection ended without TLS close_notify: the last message may be incomplete; reconnect")
            }
        }
    }
}

impl Error for TlsError {}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { not_after, now } => {
                f.write_str("certificate has expired")?;
                write_dates(f, *not_after, *now)?;
                f.write_str("; the server's operator must renew it; if the dates look wrong, check this machine's clock")
            }
            Self::NotYetValid { not_before, now } => {
                f.write_str("certificate is not valid yet")?;
                write_dates(f, *not_before, *now)?;
                f.write_str("; check this machine's clock")
            }
            Self::WrongName { expected, presented, omitted } => {
                f.write_str("certificate is not valid for the name ")?;
                match expected {
                    Some(name) => write!(f, "{name:?}")?,
                    None => f.write_str("we connected to")?,
                }
                if presented.is_empty() {
                    f.write_str(" (it has no subjectAltName that counts)")?;
                } else {
                    write!(f, " but for {}", presented.join(", "))?;
                    if *omitted > 0 {
                        write!(f, " and {omitted} more")?;
                    }
                }
                f.write_str("; connect by a name it has, or have it reissued")
            }
            Self::UnknownIssuer => f.write_str(
                "certificate is not trusted: unknown issuer; if this is a private CA, give it with \
                 TlsConfig::with_ca_pem; if not, the server may fail to send its intermediate certificates",
            ),
            Self::CaUsedAsServer => f.write_str(
                "certificate is a CA certificate but used as the server's own (openssl req -x509 makes such); sign a \
                 server certificate with it and give the CA with TlsConfig::with_ca_pem",
            ),
            Self::Revoked => f.write_str("certificate was revoked by its issuer; the server's operator must replace it"),
            Self::RevocationUnknown => {
                f.write_str("certificate could not be checked for revocation: the issuer's list is stale or unreachable")
            }
            Self::Invalid(why) => {
                write!(f, "certificate is not acceptable: {why}; the server's operator must replace it")
            }
        }
    }
}

impl Error for CertificateProblem {}

impl fmt::Display for TlsAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "alert {name} ({})", self.0),
            None => write!(f, "alert {}", self.0),
        }
    }
}

impl fmt::Debug for TlsAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsAlert({} {})", self.0, self.name().unwrap_or("unknown"))
    }
}

/// `text`, at most [`MAX_TEXT`] characters of it, with control characters escaped: part of it may be the peer's.
pub(super) fn clip(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_TEXT {
            out.push_str("...");
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// rustls hands names over as `DnsName("a.example")` and `IpAddress(0::1)`; people want the inside, in the usual form.
fn bare_name(name: &str) -> String {
    let inside = |open: &str, close: &str| name.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let bare = inside("DnsName(\"", "\")").or_else(|| inside("IpAddress(", ")")).unwrap_or(name);
    bare.parse::<IpAddr>().map_or_else(|_| clip(bare), |address| address.to_string())
}

fn write_dates(f: &mut fmt::Formatter<'_>, limit: Option<u64>, now: Option<u64>) -> fmt::Result {
    match (limit, now) {
        (Some(limit), Some(now)) => write!(f, " ({}; here it is {})", date(limit), date(now)),
        (Some(limit), None) => write!(f, " ({})", date(limit)),
        _ => Ok(()),
    }
}

/// The UTC date of a Unix time as `YYYY-MM-DD`.
fn date(seconds: u64) -> String {
    // Years are counted from March, so that the leap day is the last of its year, and in cycles of 400 years, which
    // always have 146,097 days. 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = seconds / 86_400 + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, carry) =
        if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    format!("{:04}-{month:02}-{day_of_month:02}", cycle * 400 + year + carry)
}

#[cfg(test)]
mod tests;
