//! What a peer can do wrong once the connection is open.

use super::close::CloseCode;
use super::deflate::InflateError;
use std::fmt;

/// The peer broke the protocol or went past a limit. The connection is failed as RFC 6455 section 7.1.7 says: a close
/// frame with [`close_code`](Self::close_code) is sent, then the connection is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set and no extension gave it a meaning (RFC 6455 section 5.2). Holds the three bits.
    ReservedBits(u8),
    /// An opcode that RFC 6455 section 5.2 reserves.
    ReservedOpcode(u8),
    /// The server masked a frame (RFC 6455 section 5.1 forbids it).
    MaskedFrame,
    /// A close, ping or pong frame is fragmented (RFC 6455 section 5.5).
    FragmentedControl,
    /// A close, ping or pong frame has more than 125 bytes (RFC 6455 section 5.5).
    OversizedControl,
    /// A length is not written in its shortest form, or has its top bit set (RFC 6455 section 5.2).
    BadLength,
    /// A continuation frame without a message to continue (RFC 6455 section 5.4).
    UnexpectedContinuation,
    /// A new message begins before the last one ended (RFC 6455 section 5.4).
    UnfinishedMessage,
    /// A text message, or the reason of a close frame, is not UTF-8 (RFC 6455 section 8.1).
    InvalidUtf8,
    /// A close frame with a body of one byte (RFC 6455 section 5.5.1).
    BadCloseFrame,
    /// A close code that must not be sent (RFC 6455 section 7.4).
    BadCloseCode(u16),
    /// A compressed message that is not DEFLATE data (RFC 7692 section 7.2.2).
    Deflate,
    /// A frame longer than `Limits::max_frame`. Holds its length in bytes.
    FrameTooLarge {
        /// Length that the frame's header gives, in bytes.
        len: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// A message, inflated, longer than `Limits::max_message`.
    MessageTooLarge {
        /// The limit, in bytes.
        max: u64,
    },
    /// A message in more frames than `Limits::max_fragments`.
    TooManyFragments {
        /// The limit, in frames.
        max: u32,
    },
}

impl ProtocolError {
    /// The code that tells the peer: 1007, 1009 or 1002 (RFC 6455 section 7.4.1).
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::Deflate => CloseCode::Invalid,
            Self::FrameTooLarge { .. } | Self::MessageTooLarge { .. } | Self::TooManyFragments { .. } => {
                CloseCode::Size
            }
            _ => CloseCode::Protocol,
        }
    }

    pub(crate) fn inflate(error: &InflateError, max: u64) -> Self {
        match error {
            InflateError::TooLarge { .. } => Self::MessageTooLarge { max },
            _ => Self::Deflate,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits(bits) => {
                write!(f, "reserved bits {bits:#05b} set without an extension that defines them")
            }
            Self::ReservedOpcode(op) => write!(f, "reserved opcode {op:#x}"),
            Self::MaskedFrame => f.write_str("the server masked a frame"),
            Self::FragmentedControl => f.write_str("a control frame is fragmented"),
            Self::OversizedControl => f.write_str("a control frame has more than 125 bytes"),
            Self::BadLength => f.write_str("a frame's length is not in its shortest form"),
            Self::UnexpectedContinuation => f.write_str("a continuation frame without a message to continue"),
            Self::UnfinishedMessage => f.write_str("a new message began before the last one ended"),
            Self::InvalidUtf8 => f.write_str("text is not UTF-8"),
            Self::BadCloseFrame => f.write_str("a close frame with a body of one byte"),
            Self::BadCloseCode(code) => write!(f, "close code {code} must not be sent"),
            Self::Deflate => f.write_str("a compressed message is not DEFLATE data"),
            Self::FrameTooLarge { len, max } => {
                write!(
                    f,
                    "a frame of {len} bytes is over the limit of {max}; raise Limits::max_frame if that is expected"
                )
            }
            Self::MessageTooLarge { max } => {
                write!(
                    f,
                    "a message is over the limit of {max} bytes; raise Limits::max_message or stream it in chunks"
                )
            }
            Self::TooManyFragments { max } => {
                write!(f, "a message in over {max} frames; raise Limits::max_fragments if that is expected")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}
