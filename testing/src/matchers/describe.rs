//! Messages in words, for failure texts.

use tungstenite::Message;

/// Characters of one message that go into a failure text.
const SHOWN_CHARS: usize = 300;
/// Messages listed in a failure text.
const SHOWN_MESSAGES: usize = 20;

/// One message in a line.
pub(crate) fn describe(message: &Message) -> String {
    match message {
        Message::Text(text) => format!("text {}", quote(text)),
        Message::Binary(data) => format!("binary, {}", describe_bytes(data, data.len())),
        Message::Ping(data) => format!("ping, {}", describe_bytes(data, data.len())),
        Message::Pong(data) => format!("pong, {}", describe_bytes(data, data.len())),
        Message::Close(None) => "close without a code".to_owned(),
        Message::Close(Some(frame)) => {
            format!("close {} {:?}", u16::from(frame.code), frame.reason.as_str())
        }
        Message::Frame(frame) => {
            format!("frame, {}", describe_bytes(frame.payload(), frame.payload().len()))
        }
    }
}

/// What arrived during a wait, one line for each message; `note` says more about a message where there is more to say.
/// Of the message with the shortest note, which comes nearest to what was wanted, everything is told.
pub(crate) fn describe_arrivals(
    first: u64,
    messages: &[Message],
    mut note: impl FnMut(&Message) -> String,
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
    let shown = &messages[skipped..];
    let notes: Vec<String> = shown.iter().map(&mut note).collect();
    let nearest =
        (0..notes.len()).filter(|i| !notes[*i].is_empty()).min_by_key(|i| notes[*i].lines().count());
    for (i, (message, note)) in shown.iter().zip(&notes).enumerate() {
        text.push_str(&format!("\n  #{}: {}", first + (skipped + i) as u64, describe(message)));
        let lines = note.lines().count();
        let told = if Some(i) == nearest { lines } else { lines.min(1) };
        for line in note.lines().take(told) {
            text.push_str(&format!("\n      {}", shorten(line)));
        }
        if told < lines {
            text.push_str(&format!(" (and {} lines more)", lines - told));
        }
    }
    text
}

/// The text in quotes, the end of a long one left out.
pub(crate) fn quote(text: &str) -> String {
    shorten(&format!("{text:?}"))
}

/// The first bytes of `data`, which may be the beginning of something that is `len` bytes long.
pub(crate) fn describe_bytes(data: &[u8], len: usize) -> String {
    let shown = SHOWN_CHARS / 10;
    let hex: Vec<String> = data.iter().take(shown).map(|byte| format!("{byte:02x}")).collect();
    let more = if len > shown { " ..." } else { "" };
    format!("{len} bytes: {}{more}", hex.join(" "))
}

pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{} ... ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let text = describe_arrivals(100, &messages, |_| String::new());
        assert!(
            text.starts_with("50 arrived instead:\n  (30 older ones left out)\n  #130: text \"m30\""),
            "{text}"
        );
        assert!(text.ends_with("#149: text \"m49\""), "{text}");
        assert_eq!(describe_arrivals(0, &[], |_| String::new()), "nothing arrived meanwhile");
    }

    #[test]
    fn the_nearest_message_has_its_whole_note() {
        let messages = ["far", "near", "plain"].map(Message::text);
        let text = describe_arrivals(0, &messages, |message| match message.to_text() {
            Ok("far") => "one\ntwo\nthree".to_owned(),
            Ok("near") => "one\ntwo".to_owned(),
            _ => String::new(),
        });
        assert_eq!(
            text,
            "3 arrived instead:\n  #0: text \"far\"\n      one (and 2 lines more)\n  #1: text \"near\"\n      one\n      \
             two\n  #2: text \"plain\""
        );
    }
}
