//! Comparing what arrived with what was expected, and saying the difference in words.

use serde_json::Value;
use tungstenite::Message;

/// Characters of one message that go into a failure text.
const SHOWN_CHARS: usize = 300;
/// Messages listed in a failure text.
const SHOWN_MESSAGES: usize = 20;

/// Checks that `actual` contains everything that `expected` says.
///
/// An object may have more members than expected, at every depth; arrays must have the same length and are compared
/// element by element with the same rule; everything else must be equal.
///
/// # Errors
/// The first difference in words, with its path, such as `$.params.channels[1]: expected "a", got "b"`.
///
/// ```
/// use everwire_testing::matchers::json_subset;
/// use serde_json::json;
///
/// let request = json!({"id": 7, "method": "public/subscribe", "params": {"channels": ["a", "b"]}});
/// json_subset(&json!({"params": {"channels": ["a", "b"]}}), &request)?;
///
/// let difference = json_subset(&json!({"params": {"channels": ["a", "c"]}}), &request).unwrap_err();
/// assert_eq!(difference, r#"$.params.channels[1]: expected "c", got "b""#);
/// # Ok::<(), String>(())
/// ```
pub fn json_subset(expected: &Value, actual: &Value) -> Result<(), String> {
    compare("$", expected, actual)
}

fn compare(path: &str, expected: &Value, actual: &Value) -> Result<(), String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => expected.iter().try_for_each(|(key, value)| {
            let path = format!("{path}.{key}");
            match actual.get(key) {
                Some(found) => compare(&path, value, found),
                None => Err(format!("{path}: expected {value}, but there is no such member")),
            }
        }),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => expected
            .iter()
            .zip(actual)
            .enumerate()
            .try_for_each(|(i, (expected, actual))| compare(&format!("{path}[{i}]"), expected, actual)),
        _ if expected == actual => Ok(()),
        _ => Err(format!("{path}: expected {expected}, got {actual}")),
    }
}

/// One message in a line.
pub(crate) fn describe(message: &Message) -> String {
    match message {
        Message::Text(text) => format!("text {}", shorten(&format!("{:?}", text.as_str()))),
        Message::Binary(data) => format!("binary, {}", describe_bytes(data)),
        Message::Ping(data) => format!("ping, {}", describe_bytes(data)),
        Message::Pong(data) => format!("pong, {}", describe_bytes(data)),
        Message::Close(None) => "close without a code".to_owned(),
        Message::Close(Some(frame)) => {
            format!("close {} {:?}", u16::from(frame.code), frame.reason.as_str())
        }
        Message::Frame(frame) => format!("frame, {}", describe_bytes(frame.payload())),
    }
}

/// What arrived during a wait, one line for each message; `note` says more about a message where there is more to say.
pub(crate) fn describe_arrivals(
    first: u64,
    messages: &[Message],
    note: impl Fn(&Message) -> Option<String>,
) -> String {
    if messages.is_empty() {
        return "nothing arrived meanwhile".to_owned();
    }
    let mut text = format!("{} arrived instead:", messages.len());
    // The newest say most about why the expected one did not come.
    let skipped = messages.len().saturating_sub(SHOWN_MESSAGES);
    if skipped > 0 {
        text.push_str(&format!("\n  ({skipped} older ones left out)"));
    }
    for (number, message) in (first..).zip(messages).skip(skipped) {
        text.push_str(&format!("\n  #{number}: {}", describe(message)));
        if let Some(note) = note(message) {
            text.push_str(&format!("\n      {}", shorten(&note)));
        }
    }
    text
}

fn describe_bytes(data: &[u8]) -> String {
    let shown = SHOWN_CHARS / 10;
    let hex: Vec<String> = data.iter().take(shown).map(|byte| format!("{byte:02x}")).collect();
    let more = if data.len() > shown { " ..." } else { "" };
    format!("{} bytes: {}{more}", data.len(), hex.join(" "))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{} ... ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subset_allows_more_members_at_every_depth() {
        let actual = json!({"a": {"b": [1, {"c": null, "d": 2}], "e": "f"}, "g": true});
        assert_eq!(json_subset(&json!({}), &actual), Ok(()));
        assert_eq!(json_subset(&json!({"a": {"b": [1, {"c": null}]}}), &actual), Ok(()));
        assert_eq!(json_subset(&actual, &actual), Ok(()));
    }

    #[test]
    fn the_difference_is_told_with_its_path() {
        let actual = json!({"a": [1, {"c": 2}], "n": 1});
        for (expected, text) in [
            (json!({"a": [1, {"c": 3}]}), "$.a[1].c: expected 3, got 2"),
            (json!({"a": [1]}), r#"$.a: expected [1], got [1,{"c":2}]"#),
            (json!({"x": 1}), "$.x: expected 1, but there is no such member"),
            (json!({"n": "1"}), r#"$.n: expected "1", got 1"#),
            (json!([]), r#"$: expected [], got {"a":[1,{"c":2}],"n":1}"#),
            (json!({"n": {}}), "$.n: expected {}, got 1"),
        ] {
            assert_eq!(json_subset(&expected, &actual), Err(text.to_owned()));
        }
    }

    #[test]
    fn long_messages_are_shortened_at_a_character_boundary() {
        let long = "\u{fc}".repeat(1000);
        let text = describe(&Message::text(long));
        assert!(text.starts_with("text \"\u{fc}\u{fc}"), "{text}");
        assert!(text.ends_with("... (2002 bytes)"), "{text}");

        let text = describe(&Message::binary(vec![0xab; 1000]));
        assert!(text.starts_with("binary, 1000 bytes: ab ab"), "{text}");
        assert!(text.ends_with("..."), "{text}");
    }

    #[test]
    fn many_arrivals_are_cut_to_the_newest() {
        let messages: Vec<Message> = (0..50).map(|i| Message::text(format!("m{i}"))).collect();
        let text = describe_arrivals(100, &messages, |_| None);
        assert!(
            text.starts_with("50 arrived instead:\n  (30 older ones left out)\n  #130: text \"m30\""),
            "{text}"
        );
        assert!(text.ends_with("#149: text \"m49\""), "{text}");
        assert_eq!(describe_arrivals(0, &[], |_| None), "nothing arrived meanwhile");
    }
}
