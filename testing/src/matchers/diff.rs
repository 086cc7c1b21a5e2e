//! The differences between what was expected and what came, in words.

use serde_json::Value;

/// Differences of one JSON value that are told.
const SHOWN_DIFFERENCES: usize = 20;
/// Characters that are shown on each side of the place where two texts part.
const AROUND: usize = 40;

/// Checks that `actual` contains everything that `expected` says.
///
/// An object may have more members than expected, at every depth; arrays must have the same length and are compared
/// element by element with the same rule; everything else must be equal.
///
/// # Errors
/// Every difference in words, each on a line of its own with its path, such as
/// `$.params.channels[1]: expected "a", got "b"`. After 20 of them only their number.
///
/// ```
/// use everwire_testing::matchers::json_subset;
/// use serde_json::json;
///
/// let request = json!({"id": 7, "method": "public/subscribe", "params": {"channels": ["a", "b"]}});
/// json_subset(&json!({"params": {"channels": ["a", "b"]}}), &request)?;
///
/// let difference = json_subset(&json!({"id": 8, "params": {"channels": ["a", "c"]}}), &request).unwrap_err();
/// assert_eq!(difference, "$.id: expected 8, got 7\n$.params.channels[1]: expected \"c\", got \"b\"");
/// # Ok::<(), String>(())
/// ```
pub fn json_subset(expected: &Value, actual: &Value) -> Result<(), String> {
    let mut differences = Vec::new();
    compare("$", expected, actual, &mut differences);
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(SHOWN_DIFFERENCES);
    differences.truncate(SHOWN_DIFFERENCES);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    Err(differences.join("\n"))
}

fn compare(path: &str, expected: &Value, actual: &Value, differences: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, value) in expected {
                let path = format!("{path}.{key}");
                match actual.get(key) {
                    Some(found) => compare(&path, value, found, differences),
                    None => missing(&path, value, differences),
                }
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (i, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(&format!("{path}[{i}]"), expected, actual, differences);
            }
        }
        _ if expected == actual => {}
        _ => differences.push(format!("{path}: expected {expected}, got {actual}")),
    }
}

/// Each member of a missing object by itself: so the number of differences tells how far two values are apart.
fn missing(path: &str, expected: &Value, differences: &mut Vec<String>) {
    match expected {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(key, value)| missing(&format!("{path}.{key}"), value, differences));
        }
        _ => differences.push(format!("{path}: expected {expected}, but there is no such member")),
    }
}

/// Where two texts part, with what stands around that place in each: two lines, one above the other, and a mark.
///
/// ```
/// let difference = everwire_testing::matchers::text_difference("subscribe a", "subscribe b").unwrap();
/// assert_eq!(
///     difference,
///     "differs from character 10 on:\n\
///      expected \"subscribe a\"\n\
///      got      \"subscribe b\"\n\
///      \u{20}                   ^"
/// );
/// assert_eq!(everwire_testing::matchers::text_difference("a", "a"), None);
/// ```
pub fn text_difference(expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    let same = expected.chars().zip(actual.chars()).take_while(|(a, b)| a == b).count();
    let (expected, _) = around(expected, same);
    let (actual, column) = around(actual, same);
    let mark = " ".repeat("expected ".len() + column);
    Some(format!("differs from character {same} on:\nexpected {expected}\ngot      {actual}\n{mark}^"))
}

/// What stands around character number `at`, quoted, and the column of that place.
fn around(text: &str, at: usize) -> (String, usize) {
    let first = at.saturating_sub(AROUND);
    let before: String = text.chars().skip(first).take(at - first).collect();
    let after: String = text.chars().skip(at).take(AROUND).collect();
    let cut_before = if first > 0 { "... " } else { "" };
    let cut_after = if text.chars().nth(at + AROUND).is_some() { " ..." } else { "" };
    // Both are the same up to there, so that their escapes are as long.
    let before = before.escape_debug().to_string();
    let column = cut_before.len() + 1 + before.chars().count();
    (format!("{cut_before}\"{before}{}\"{cut_after}", after.escape_debug()), column)
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
            (
                json!({"x": {"y": 1, "z": {}}}),
                "$.x.y: expected 1, but there is no such member\n$.x.z: expected {}, but there is no such member",
            ),
            (json!({"n": "1"}), r#"$.n: expected "1", got 1"#),
            (json!([]), r#"$: expected [], got {"a":[1,{"c":2}],"n":1}"#),
            (json!({"n": {}}), "$.n: expected {}, got 1"),
            (
                json!({"n": 2, "x": null, "a": [0, {"c": 2}]}),
                "$.a[0]: expected 0, got 1\n$.n: expected 2, got 1\n\
                 $.x: expected null, but there is no such member",
            ),
        ] {
            assert_eq!(json_subset(&expected, &actual), Err(text.to_owned()));
        }
    }

    #[test]
    fn so_many_differences_are_counted() {
        let error = json_subset(&json!(vec![0; 50]), &json!(vec![1; 50])).unwrap_err();
        assert_eq!(error.lines().count(), 21);
        assert!(error.ends_with("$[19]: expected 0, got 1\nand 30 more"), "{error}");
    }

    #[test]
    fn texts_are_shown_where_they_part() {
        let difference = text_difference("abc", "abcdef").unwrap();
        assert_eq!(
            difference,
            "differs from character 3 on:\nexpected \"abc\"\ngot      \"abcdef\"\n             ^"
        );
        // Escapes and wide characters before the place do not move the mark from it.
        let difference = text_difference("\n\u{fc}x", "\n\u{fc}y").unwrap();
        let lines: Vec<&str> = difference.lines().collect();
        assert_eq!(lines[2], "got      \"\\n\u{fc}y\"");
        assert_eq!(lines[3].find('^'), Some("got      \"\\n?".len()));

        let long = "x".repeat(1000);
        let difference = text_difference(&format!("{long}a{long}"), &format!("{long}b{long}")).unwrap();
        assert!(difference.lines().all(|line| line.len() < 120), "{difference}");
        assert!(difference.contains("character 1000 "), "{difference}");
        let lines: Vec<&str> = difference.lines().collect();
        let mark = lines[3].find('^').unwrap();
        assert_eq!((&lines[1][mark..=mark], &lines[2][mark..=mark]), ("a", "b"));
    }
}
