//! The guide to building a protocol quotes an example that runs: whatever it shows is in there.

/// Lines without their indentation, which is less in the guide.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

#[test]
fn the_guide_quotes_the_example() {
    let example = lines(include_str!("../examples/tides.rs"));
    let guide = include_str!("../../docs/guides/building-a-protocol.md");
    let mut quotes = 0;
    for block in guide.split("```rust,ignore\n").skip(1) {
        let code = block.split("\n```").next().unwrap_or_default();
        let quote = lines(code);
        assert!(quote.len() > 2, "{code}");
        let quoted = example.windows(quote.len()).any(|window| window == quote);
        assert!(quoted, "this is not in examples/tides.rs as it stands in the guide:\n{code}");
        quotes += 1;
    }
    assert_eq!(quotes, 14);
}
