//! Whether one line is another.

use crate::line::{Body, Line};
use crate::redact::MARK;
use serde_json::Value;

/// Whether what was done is not what was recorded; with the field, if only one is another.
#[expect(clippy::option_option, reason = "whether, and where")]
pub(crate) fn differs(recorded: &Line, replayed: &Line) -> Option<Option<String>> {
    let value = |line: &Line| serde_json::to_value(&line.what).unwrap_or_default();
    let (mut then, mut now) = (value(recorded), value(replayed));
    if let Body::Transmitted { .. } = recorded.what {
        // Where something was hidden, or TLS lay between, other lengths are written.
        for line in [&mut then, &mut now] {
            if let Value::Object(fields) = line {
                fields.retain(|name, _| matches!(&**name, "kind" | "conn"));
            }
        }
    }
    if (recorded.ns, recorded.epoch) != (replayed.ns, replayed.epoch) {
        let field = format!(
            "ns {} and epoch {}, instead of ns {} and epoch {}",
            replayed.ns, replayed.epoch, recorded.ns, recorded.epoch
        );
        let same = then.get("kind") == now.get("kind");
        return Some(same.then_some(field));
    }
    let mut path = String::new();
    if fits(&then, &now, &mut path) {
        return None;
    }
    let same = then.get("kind") == now.get("kind");
    Some((same && !path.is_empty()).then_some(path))
}

/// Whether `now` is what `then` says, up to what is hidden. `path` is where it is not.
fn fits(then: &Value, now: &Value, path: &mut String) -> bool {
    match (then, now) {
        (Value::String(then), Value::String(now)) => matches(then, now),
        (Value::Array(then), Value::Array(now)) => {
            then.len() == now.len()
                && then.iter().zip(now).enumerate().all(|(index, (then, now))| {
                    let before = path.len();
                    path.push_str(&format!("[{index}]"));
                    let fit = fits(then, now, path);
                    if fit {
                        path.truncate(before);
                    }
                    fit
                })
        }
        (Value::Object(then), Value::Object(now)) => {
            let names = then.keys().chain(now.keys().filter(|name| !then.contains_key(*name)));
            for name in names {
                let before = path.len();
                path.push('.');
                path.push_str(name);
                let absent = Value::Null;
                let fit = fits(then.get(name).unwrap_or(&absent), now.get(name).unwrap_or(&absent), path);
                if !fit {
                    return false;
                }
                path.truncate(before);
            }
            true
        }
        (then, now) => then == now,
    }
}

/// Whether a text is what was recorded, with anything in the place of each [`MARK`].
fn matches(then: &str, now: &str) -> bool {
    let mut parts = then.split(MARK);
    let Some(first) = parts.next() else { return then == now };
    let Some(mut rest) = now.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            match rest.find(before) {
                Some(at) => rest = &rest[at + before.len()..],
                None => return false,
            }
        }
    }
    match last {
        None => rest.is_empty(),
        Some(last) => rest.ends_with(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_may_be_anything() {
        for (then, now, fits) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a***c", "abbbc", true),
            ("a***c", "ac", true),
            ("a***c", "abbbd", false),
            ("***", "", true),
            ("x***y***z", "x1y2z", true),
            ("x***y***z", "x12z", false),
            ("***z", "1z2z", true),
        ] {
            assert_eq!(matches(then, now), fits, "{then:?} {now:?}");
        }
    }
}
