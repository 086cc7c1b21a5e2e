//! What made an end of a connection, as data.

use crate::error::{Disconnect, Error};
use crate::transport::proxy::{ProxyError, ProxyFault};
#[cfg(feature = "tls")]
use crate::transport::tls::TlsError;
use crate::ws::ProtocolError;
use crate::ws::handshake::PeerProtocol;
use serde::{Deserialize, Serialize};

/// The error of an [`Observed::Fault`](super::Observed::Fault), as it is written to a record. Faults of frames come back as they were. Of those of
/// TLS and of proxies, which have bytes behind them that no record has, what comes back is one that is treated in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultRecord {
    /// The peer broke the WebSocket protocol.
    Protocol(ProtocolRecord),
    /// TLS said that nothing more comes.
    Ended,
    /// TLS failed; whether that is final.
    Tls {
        /// See [`Recovery::Stop`](crate::Recovery::Stop).
        fatal: bool,
    },
    /// A proxy failed; whether it wants other credentials.
    Proxy {
        /// Its URL, without credentials.
        proxy: String,
        /// It refused our credentials.
        credentials: bool,
    },
}

/// [`ProtocolError`] as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "as `ProtocolError` has them")]
pub enum ProtocolRecord {
    ReservedBits(u8),
    ReservedOpcode(u8),
    MaskedFrame,
    FragmentedControl,
    OversizedControl,
    BadLength,
    UnexpectedContinuation,
    UnfinishedMessage,
    InvalidUtf8,
    BadCloseFrame,
    BadCloseCode(u16),
    Deflate,
    FrameTooLarge { len: u64, max: u64 },
    MessageTooLarge { max: u64 },
    TooManyFragments { max: u32 },
}

impl FaultRecord {
    /// What is written of an error. `None` if it is none of what bytes can do.
    pub fn of(error: &Error) -> Option<Self> {
        Some(match error {
            Error::Protocol(error) => Self::Protocol(ProtocolRecord::of(error)),
            Error::Disconnected(_) | Error::Handshake(_) => Self::Ended,
            #[cfg(feature = "tls")]
            Error::Tls(error) => Self::Tls { fatal: error.is_fatal_config() },
            Error::Proxy(error) => {
                Self::Proxy { proxy: error.proxy.clone(), credentials: error.fault.is_authentication() }
            }
            _ => return None,
        })
    }

    /// The error, or one that is treated in the same way and says that it is `what` was recorded, if there is room for that.
    pub fn error(&self, what: &str) -> Error {
        match self {
            Self::Protocol(error) => Error::Protocol(error.error()),
            Self::Ended => Error::Disconnected(Disconnect::Eof),
            #[cfg(feature = "tls")]
            Self::Tls { fatal: true } => Error::Tls(TlsError::Config(what.to_owned())),
            #[cfg(feature = "tls")]
            Self::Tls { fatal: false } => Error::Tls(TlsError::Protocol(what.to_owned())),
            #[cfg(not(feature = "tls"))]
            Self::Tls { .. } => Error::TlsNotBuilt,
            Self::Proxy { proxy, credentials } => {
                let fault = if *credentials {
                    ProxyFault::NoMethod { credentials: true }
                } else {
                    ProxyFault::NotHttp { first_bytes: what.to_owned(), peer: PeerProtocol::Unknown }
                };
                Error::Proxy(ProxyError { proxy: proxy.clone(), fault })
            }
        }
    }
}

/// Both ways between the two enums, variant by variant: a new one is a compile error here.
macro_rules! both_ways {
    ($($unit:ident),*; $($tuple:ident),*; $($named:ident { $($field:ident),* }),*) => {
        impl ProtocolRecord {
            fn of(error: &ProtocolError) -> Self {
                match error {
                    $(ProtocolError::$unit => Self::$unit,)*
                    $(ProtocolError::$tuple(value) => Self::$tuple(*value),)*
                    $(ProtocolError::$named { $($field),* } => Self::$named { $($field: *$field),* },)*
                }
            }

            fn error(&self) -> ProtocolError {
                match self {
                    $(Self::$unit => ProtocolError::$unit,)*
                    $(Self::$tuple(value) => ProtocolError::$tuple(*value),)*
                    $(Self::$named { $($field),* } => ProtocolError::$named { $($field: *$field),* },)*
                }
            }
        }
    };
}

both_ways!(
    MaskedFrame, FragmentedControl, OversizedControl, BadLength, UnexpectedContinuation, UnfinishedMessage,
    InvalidUtf8, BadCloseFrame, Deflate;
    ReservedBits, ReservedOpcode, BadCloseCode;
    FrameTooLarge { len, max }, MessageTooLarge { max }, TooManyFragments { max }
);
