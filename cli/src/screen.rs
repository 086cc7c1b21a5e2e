//! Lines with the time, aligned, and coloured if somebody looks at them.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// Colours by what a line says (SGR, ECMA-48 section 8.3.117).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Plain,
    Good,
    Bad,
    Dim,
}

/// Writes to the standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    start: Instant,
    colours: bool,
}

impl Screen {
    /// Time counts from here. Colours only for a terminal, and not where `NO_COLOR` is set (<https://no-color.org>).
    pub(crate) fn new() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { start: Instant::now(), colours: io::stdout().is_terminal() && !refused }
    }

    /// A line: when, what kind, and what.
    pub(crate) fn line(&self, colour: Colour, label: &str, text: &str) {
        let line = render(self.start.elapsed().as_secs_f64(), self.colours, colour, label, text);
        // Whoever closed the pipe wants no more of it; the exit code still counts.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// A line as it is, coloured.
    pub(crate) fn bare(&self, colour: Colour, text: &str) {
        let _ = writeln!(io::stdout().lock(), "{}", paint(self.colours, colour, text));
    }
}

/// Makes text of unknown origin harmless for a terminal: control characters are shown as escapes.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && char != '\t' { out.extend(char.escape_default()) } else { out.push(char) }
    }
    out
}

/// Tells the user on the standard error, beside what goes to the standard output.
pub(crate) fn note(text: &str) {
    // If even this cannot be written, there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "* {}", printable(text));
}

fn render(seconds: f64, colours: bool, colour: Colour, label: &str, text: &str) -> String {
    let label = paint(colours, colour, &format!("{label:<10}"));
    format!("{seconds:>7.3}s  {label}  {text}")
}

fn paint(colours: bool, colour: Colour, text: &str) -> String {
    let code = match colour {
        _ if !colours => return text.to_owned(),
        Colour::Plain => return text.to_owned(),
        Colour::Good => 32,
        Colour::Bad => 31,
        Colour::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_coloured_only_if_wanted() {
        assert_eq!(render(0.0125, false, Colour::Good, "online", "epoch 1"), "  0.013s  online      epoch 1");
        assert_eq!(
            render(12.5, true, Colour::Bad, "lost", "epoch 1"),
            " 12.500s  \x1b[31mlost      \x1b[0m  epoch 1"
        );
        assert_eq!(render(0.0, true, Colour::Plain, "a", "b"), "  0.000s  a           b");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\tb\x1b[2Jc\n\u{9b}1m"), "a\tb\\u{1b}[2Jc\\n\\u{9b}1m");
        assert_eq!(printable("gr\u{fc}n"), "gr\u{fc}n");
    }
}
