//! Whether a 101 response is an answer to our request (RFC 6455 section 4.1, second half).

use super::Upgraded;
use super::error::{HandshakeError, excerpt};
use super::request::{HandshakeOptions, may_be_token};
use super::response::Head;
use crate::ws::deflate::DeflateParams;
use crate::ws::headers::Headers;

/// Checks a response of status 101. `accept` is what `Sec-WebSocket-Accept` must be.
pub(super) fn check(
    head: &Head,
    accept: &str,
    options: &HandshakeOptions,
) -> Result<Upgraded, HandshakeError> {
    let headers = &head.headers;
    if !head.http_1_1 {
        return Err(HandshakeError::HttpVersion);
    }
    if !lists(headers, "upgrade", "websocket") {
        return Err(HandshakeError::UpgradeHeader);
    }
    if !lists(headers, "connection", "upgrade") {
        return Err(HandshakeError::ConnectionHeader);
    }
    let mut accepts = headers.all("sec-websocket-accept");
    match (accepts.next(), accepts.next()) {
        (None, _) => return Err(HandshakeError::AcceptMissing),
        (Some(_), Some(_)) => return Err(HandshakeError::AcceptRepeated),
        (Some(found), None) if found != accept => return Err(HandshakeError::AcceptMismatch),
        (Some(_), None) => {}
    }
    let subprotocol = subprotocol(headers, &options.subprotocols)?;
    let deflate = extensions(headers, options)?;
    Ok(Upgraded { headers: headers.clone(), subprotocol, deflate })
}

/// Whether the header, a list of tokens possibly spread over several lines, has `token` in it. Case does not matter.
fn lists(headers: &Headers, name: &str, token: &str) -> bool {
    headers.all(name).flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The subprotocol that the server chose. Their names are case-sensitive.
fn subprotocol(headers: &Headers, offered: &[String]) -> Result<Option<String>, HandshakeError> {
    let mut chosen = headers.all("sec-websocket-protocol");
    let Some(selected) = chosen.next() else { return Ok(None) };
    if chosen.next().is_some() {
        return Err(HandshakeError::SubprotocolRepeated);
    }
    if !offered.iter().any(|name| name == selected) {
        // Some servers repeat all that was offered, and that may have a token in it.
        let token = offered.iter().any(|name| may_be_token(name) && selected.contains(&**name));
        let selected = if token { "<redacted>".to_owned() } else { excerpt(selected) };
        return Err(HandshakeError::SubprotocolNotOffered { selected });
    }
    Ok(Some(selected.to_owned()))
}

fn extensions(
    headers: &Headers,
    options: &HandshakeOptions,
) -> Result<Option<DeflateParams>, HandshakeError> {
    let values: Vec<&str> = headers.all("sec-websocket-extensions").collect();
    if let Some(deflate) = &options.deflate {
        return deflate.accept(&values).map_err(HandshakeError::Extension);
    }
    // Lists may have empty elements, which are nothing (RFC 9110 section 5.6.1).
    match values.iter().find(|value| value.contains(|c| !matches!(c, ',' | ' ' | '\t'))) {
        Some(value) => Err(HandshakeError::ExtensionNotOffered { value: excerpt(value) }),
        None => Ok(None),
    }
}
