//! Building messages.

use super::super::{Request, Unsupported};
use super::envelope::trim;
use super::error::OwnedRpcError;
use serde::de::IgnoredAny;
use std::fmt::Write as _;

/// Writes a request. On an error `out` is as it was.
pub(super) fn request(id: u64, request: &Request<'_>, out: &mut String) -> Result<(), Unsupported> {
    let params = request.params.map(|params| structured(request.method, params)).transpose()?;
    call(id, request.method, params, out);
    Ok(())
}

/// Writes a notification: a request without an id. On an error `out` is as it was.
pub(super) fn notification(notification: &Request<'_>, out: &mut String) -> Result<(), Unsupported> {
    let params = notification.params.map(|params| structured(notification.method, params)).transpose()?;
    out.push_str(r#"{"jsonrpc":"2.0","method":"#);
    string(notification.method, out);
    end(params, out);
    Ok(())
}

/// Writes a request whose parameters are known to be an object or an array.
pub(super) fn call(id: u64, method: &str, params: Option<&str>, out: &mut String) {
    open(id, method, out);
    end(params, out);
}

fn end(params: Option<&str>, out: &mut String) {
    if let Some(params) = params {
        out.push_str(r#","params":"#);
        out.push_str(params);
    }
    out.push('}');
}

/// Writes a request with a list of channels.
pub(super) fn channels<'t>(id: u64, method: &str, names: impl Iterator<Item = &'t str>, out: &mut String) {
    open(id, method, out);
    out.push_str(r#","params":{"channels":["#);
    for (i, name) in names.enumerate() {
        if i > 0 {
            out.push(',');
        }
        string(name, out);
    }
    out.push_str("]}}");
}

/// Writes an answer. On an error `out` is as it was.
pub(super) fn response(
    id: &str,
    result: Result<&str, &OwnedRpcError>,
    out: &mut String,
) -> Result<(), Unsupported> {
    let refuse = |what: &str| Err(Unsupported { reason: format!("answer to the server's request: {what}") });
    if !is_json(id) || trim(id).starts_with(['{', '[']) {
        return refuse("its id must be one JSON string, number, true, false or null, exactly as it came");
    }
    match result {
        Ok(result) if !is_json(result) => return refuse("the result must be JSON, such as null"),
        Err(OwnedRpcError { data: Some(data), .. }) if !is_json(data) => {
            return refuse("the error's data must be JSON");
        }
        _ => {}
    }
    out.push_str(r#"{"jsonrpc":"2.0","id":"#);
    out.push_str(id);
    match result {
        Ok(result) => {
            out.push_str(r#","result":"#);
            out.push_str(result);
        }
        Err(OwnedRpcError { code, message, data }) => {
            // Cannot fail: a `String` takes every write.
            let _ = write!(out, r#","error":{{"code":{code},"message":"#);
            string(message, out);
            if let Some(data) = data {
                out.push_str(r#","data":"#);
                out.push_str(data);
            }
            out.push('}');
        }
    }
    out.push('}');
    Ok(())
}

/// Parameters that are one JSON object or array (specification section 4.2): anything else would break the message.
pub(super) fn structured<'p>(method: &str, params: &'p str) -> Result<&'p str, Unsupported> {
    if is_json(params) && trim(params).starts_with(['{', '[']) {
        return Ok(params);
    }
    Err(Unsupported { reason: format!("request {method:?}: params must be a JSON object or array") })
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn open(id: u64, method: &str, out: &mut String) {
    // Cannot fail: a `String` takes every write.
    let _ = write!(out, r#"{{"jsonrpc":"2.0","id":{id},"method":"#);
    string(method, out);
}

/// Writes a JSON string.
fn string(text: &str, out: &mut String) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // `Value` shows itself as JSON.
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_what_serde_makes_of_them() {
        for text in
            ["", "plain", "a\"b", "a\\b", "a\nb", "\u{0}", "\u{1f}", "\u{7f}", "\u{e9}\u{1f600}\u{2028}", "/"]
        {
            let mut out = String::new();
            string(text, &mut out);
            assert_eq!(out, serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn params_that_would_break_the_message_are_refused() {
        for bad in
            ["", " ", "1", "\"x\"", "null", "true", "{", "{},\"id\":5", "{}{}", "[1", "nonsense", "\u{a0}{}"]
        {
            let mut out = "before".to_owned();
            let refused = request(1, &Request::new("m").params(bad), &mut out).unwrap_err();
            assert!(refused.reason.contains("\"m\"") && refused.reason.contains("object or array"), "{bad}");
            assert_eq!(out, "before");
        }
        for good in ["{}", "[]", " [1]\n", "\t{\"a\":[1e999]}"] {
            let mut out = String::new();
            request(1, &Request::new("m").params(good), &mut out).unwrap();
            assert_eq!(out, format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{good}}}"#));
        }
    }

    #[test]
    fn notifications_are_requests_without_an_id() {
        for (params, want) in [
            (None, r#"{"jsonrpc":"2.0","method":"say \"it\""}"#),
            (Some("[1]"), r#"{"jsonrpc":"2.0","method":"say \"it\"","params":[1]}"#),
        ] {
            let mut out = String::new();
            notification(&Request { method: "say \"it\"", params }, &mut out).unwrap();
            assert_eq!(out, want);
        }
        let mut out = "before".to_owned();
        let refused = notification(&Request::new("m").params("1"), &mut out).unwrap_err();
        assert!(refused.reason.contains("\"m\"") && refused.reason.contains("object or array"));
        assert_eq!(out, "before");
    }

    #[test]
    fn answers_echo_the_id_as_it_came() {
        for id in ["7", "-7", "1.50", "1e3", "18446744073709551616", "\"a\\u0062\"", "\"\"", "null", "true"] {
            let mut out = String::new();
            response(id, Ok("[1, 2]"), &mut out).unwrap();
            assert_eq!(out, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":[1, 2]}}"#));
        }
    }

    #[test]
    fn answers_may_be_errors() {
        let mut error = OwnedRpcError { code: -32601, message: "no \"x\"".into(), data: None };
        let mut out = String::new();
        response("1", Err(&error), &mut out).unwrap();
        assert_eq!(out, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no \"x\""}}"#);
        out.clear();
        error.data = Some(r#"{"a":1}"#.into());
        response("1", Err(&error), &mut out).unwrap();
        assert!(out.ends_with(r#""message":"no \"x\"","data":{"a":1}}}"#), "{out}");
    }

    #[test]
    fn answers_that_would_break_the_message_are_refused() {
        let broken = OwnedRpcError { code: 1, message: "m".into(), data: Some("{".into()) };
        for (id, result) in [
            ("", Ok("1")),
            ("{}", Ok("1")),
            (" [1]", Ok("1")),
            ("1,\"x\":2", Ok("1")),
            ("1 2", Ok("1")),
            ("abc", Ok("1")),
            ("1", Ok("")),
            ("1", Ok("{")),
            ("1", Ok("1,\"x\":2")),
            ("1", Err(&broken)),
        ] {
            let mut out = "before".to_owned();
            assert!(response(id, result, &mut out).is_err(), "{id} {result:?}");
            assert_eq!(out, "before");
        }
    }
}
