//! Close frames (RFC 6455 sections 5.5.1 and 7.4).

use super::error::ProtocolError;
use super::utf8;
pub use tungstenite::protocol::frame::coding::CloseCode;

/// Longest reason that fits in a close frame: 125 bytes less the code.
pub(crate) const MAX_REASON: usize = 123;

/// Reads a close frame's payload. An empty one is code 1005, "no status received", which never goes over the wire.
pub(crate) fn parse(payload: &[u8]) -> Result<(CloseCode, &str), ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok((CloseCode::Status, ""))
        } else {
            Err(ProtocolError::BadCloseFrame)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(ProtocolError::BadCloseCode(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
    Ok((CloseCode::from(code), reason))
}

/// Writes a close frame's payload, the reason cut to what fits at a character's end. A code that must not be sent
/// (1005, which means that there is none, above all) becomes an empty payload.
pub(crate) fn payload(code: CloseCode, reason: &str) -> ([u8; 125], usize) {
    let mut out = [0; 125];
    if !may_be_sent(code.into()) {
        return (out, 0);
    }
    out[..2].copy_from_slice(&u16::from(code).to_be_bytes());
    let reason = &reason.as_bytes()[..reason.len().min(MAX_REASON)];
    let reason = &reason[..utf8::boundary(reason)];
    out[2..2 + reason.len()].copy_from_slice(reason);
    (out, 2 + reason.len())
}

/// Codes that may stand in a frame: those that RFC 6455 section 7.4.1 and IANA's registry define for it, and the
/// ranges for libraries (3000) and applications (4000).
pub(crate) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_refuses() {
        assert_eq!(parse(&[]), Ok((CloseCode::Status, "")));
        assert_eq!(parse(&[3]), Err(ProtocolError::BadCloseFrame));
        assert_eq!(parse(&[0x03, 0xe8]), Ok((CloseCode::Normal, "")));
        assert_eq!(parse(b"\x03\xe9bye"), Ok((CloseCode::Away, "bye")));
        assert_eq!(parse(b"\x03\xe8\xff"), Err(ProtocolError::InvalidUtf8));
        for bad in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            let bytes = u16::to_be_bytes(bad);
            assert_eq!(parse(&bytes), Err(ProtocolError::BadCloseCode(bad)));
        }
        for good in [1000, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999] {
            assert_eq!(parse(&u16::to_be_bytes(good)), Ok((CloseCode::from(good), "")));
        }
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        let (bytes, len) = payload(CloseCode::Normal, &"é".repeat(100));
        assert_eq!(len, 2 + 122);
        assert_eq!(parse(&bytes[..len]).unwrap().1, "é".repeat(61));
        assert_eq!(payload(CloseCode::Status, "ignored").1, 0);
        assert_eq!(payload(CloseCode::Abnormal, "ignored").1, 0);
    }
}
