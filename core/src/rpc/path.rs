//! Where in a JSON text something is.

/// Longer ones are cut at their beginning.
const LONGEST: usize = 120;

/// What a position lies in.
enum Inside<'t> {
    /// An object, after this key. `None`: a key comes next.
    Object(Option<&'t str>),
    /// An array, in this element.
    Array(usize),
}

/// The value that was being read, or was just read, at a line and column of serde_json's: `.trades[3].price`. Empty: the text itself.
pub(super) fn at(text: &str, (line, column): (usize, usize)) -> String {
    let begin: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let end = begin.saturating_add(column).min(text.len());
    let bytes = &text.as_bytes()[..end];
    let mut stack: Vec<Inside<'_>> = Vec::new();
    // How much of the stack is around the value.
    let mut depth = 0;
    let mut next = 0;
    while let Some(byte) = bytes.get(next) {
        next += 1;
        match byte {
            b'{' | b'[' => {
                depth = stack.len();
                stack.push(if *byte == b'{' { Inside::Object(None) } else { Inside::Array(0) });
            }
            b'}' | b']' => {
                stack.pop();
                depth = stack.len();
            }
            b',' => match stack.last_mut() {
                Some(Inside::Object(key)) => *key = None,
                Some(Inside::Array(index)) => *index += 1,
                None => {}
            },
            b'"' => {
                let from = next;
                while let Some(byte) = bytes.get(next).filter(|byte| **byte != b'"') {
                    next += if *byte == b'\\' { 2 } else { 1 };
                }
                next = next.min(end);
                if let Some(Inside::Object(key @ None)) = stack.last_mut() {
                    *key = text.get(from..next);
                }
                depth = stack.len();
                next += 1;
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => depth = stack.len(),
        }
    }
    let mut path = String::new();
    for inside in stack.iter().take(depth) {
        match inside {
            Inside::Object(Some(key)) => path.extend([".", key]),
            Inside::Object(None) => {}
            Inside::Array(index) => path.extend(["[", &index.to_string(), "]"]),
        }
    }
    if path.len() > LONGEST {
        let from = path.len() - LONGEST;
        let from = (from..path.len()).find(|at| path.is_char_boundary(*at)).unwrap_or(path.len());
        path.replace_range(..from, "..");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found() {
        let text = r#"{"a":{"b":[1,{"c":"x"},[]],"d":true},"e\"f":null}"#;
        let after = |what: &str| at(text, (1, text.find(what).unwrap() + what.len()));
        for (what, path) in [
            ("{", ""),
            ("\"a", ".a"),
            ("{\"b\"", ".a.b"),
            ("[1", ".a.b[0]"),
            // An index counts from its comma on.
            ("[1,", ".a.b[1]"),
            ("[1,{", ".a.b[1]"),
            ("\"x\"", ".a.b[1].c"),
            ("\"x\"}", ".a.b[1]"),
            ("[]", ".a.b[2]"),
            ("[]]", ".a.b"),
            ("true", ".a.d"),
            ("true}", ".a"),
            ("null", r#".e\"f"#),
            ("null}", ""),
        ] {
            assert_eq!(after(what), path, "{what}");
        }
    }

    #[test]
    fn any_text_and_any_place_has_one() {
        let texts = [
            "",
            "{",
            "[[[[",
            "}}}",
            "\"",
            "\"\\",
            "{\"a\\",
            ",,,",
            "{,}",
            "[\u{e9}",
            "{\"\u{1f600}\":[\u{1f600}",
            "\n\n[1,\n2",
        ];
        for text in texts {
            for line in 0..5 {
                for column in 0..text.len() + 3 {
                    let path = at(text, (line, column));
                    assert!(path.len() <= LONGEST + 2, "{text} {path}");
                }
            }
        }
        assert_eq!(at("\n\n[1,\n2", (4, 1)), "[1]");
        assert_eq!(at("[1", (usize::MAX, usize::MAX)), "[0]");
    }

    #[test]
    fn a_long_one_shows_its_end() {
        let text = format!("{{\"{}\":{{\"b\":1", "\u{e9}".repeat(200));
        let path = at(&text, (1, text.len()));
        assert!(path.starts_with("..\u{e9}") && path.ends_with("\u{e9}.b"), "{path}");
        assert!(path.len() <= LONGEST + 2);
    }
}
