//! Events as JSON.

use everwire_core::{Event, GapCause, Message, Outcome, Unsent};
use serde_json::{Value, json};
use std::time::Instant;

/// Length and hash of a payload: whether another one is the same.
pub(crate) fn mark(bytes: &[u8]) -> (usize, u64) {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (bytes.len(), hash)
}

/// An event: `is` says which. `last` is the last frame that arrived, which is not repeated.
pub(crate) fn value(event: &Event<'_>, last: Option<(usize, u64)>, since: &dyn Fn(Instant) -> u64) -> Value {
    match event {
        Event::Online { resumed, headers, .. } => {
            let shown: Vec<(&str, &str)> = headers.iter().collect();
            json!({ "is": "online", "resumed": resumed, "headers": shown })
        }
        Event::Message { message, subscription, .. } => {
            let mut value = json!({ "is": "message", "subscription": subscription.map(|id| id.as_u64()) });
            put(&mut value, *message, last);
            value
        }
        Event::Chunk { part, last: end, .. } => {
            let mut value = json!({ "is": "chunk", "last": end });
            put(&mut value, *part, last);
            value
        }
        Event::Response { id, outcome } => {
            let id = id.as_u64();
            match outcome {
                Outcome::Answered(Ok(result)) => json!({ "is": "response", "id": id, "result": result }),
                Outcome::Answered(Err(error)) => {
                    json!({ "is": "response", "id": id, "error": error.to_string() })
                }
                Outcome::NotSent(why) => {
                    json!({ "is": "response", "id": id, "not_sent": format!("{why:?}") })
                }
                Outcome::SentUnknown(why) => {
                    json!({ "is": "response", "id": id, "sent_unknown": format!("{why:?}") })
                }
            }
        }
        Event::Subscribed { id, topic, .. } => {
            json!({ "is": "subscribed", "id": id.as_u64(), "topic": topic })
        }
        Event::Rejected { id, topic, reason, retry_at, .. } => json!({
            "is": "rejected", "id": id.as_u64(), "topic": topic, "reason": reason,
            "retry_at": retry_at.map(since),
        }),
        Event::Gap(gap) => {
            let topics: Vec<(u64, &str)> =
                gap.topics.iter().map(|(id, topic)| (id.as_u64(), topic.as_str())).collect();
            let cause = match &gap.cause {
                GapCause::Sequence { expected, got } => json!({ "expected": expected, "got": got }),
                GapCause::Corrupt { reason } => json!({ "corrupt": reason }),
                other => json!(format!("{other:?}")),
            };
            json!({
                "is": "gap", "topics": topics, "before": gap.before.as_u64(), "after": gap.after.as_u64(),
                "since": since(gap.since), "until": since(gap.until), "cause": cause,
            })
        }
        Event::Authenticated { .. } => json!({ "is": "authenticated" }),
        Event::Refreshed { by, expires_at, .. } => {
            json!({ "is": "refreshed", "by": by, "expires_at": expires_at.map(since) })
        }
        Event::RefreshFailed { failures, error, retry_at, expires_at, .. } => json!({
            "is": "refresh_failed", "failures": failures, "error": error.to_string(),
            "retry_at": retry_at.map(since), "expires_at": expires_at.map(since),
        }),
        Event::Request { id, method, params, .. } => {
            json!({ "is": "request", "id": id, "method": method, "params": params })
        }
        Event::Notice { text, recovery, .. } => json!({ "is": "notice", "text": text, "recovery": recovery }),
        Event::Stale { subscription, silence, step, .. } => json!({
            "is": "stale", "subscription": subscription.map(|(id, topic)| (id.as_u64(), topic)),
            "silence": crate::line::nanos(*silence), "step": step,
        }),
        Event::Pressure { level, waiting, delay } => json!({
            "is": "pressure", "level": format!("{level:?}"), "waiting": waiting,
            "delay": crate::line::nanos(*delay),
        }),
        Event::Expired { id } => json!({ "is": "expired", "id": id.as_u64() }),
        Event::Pong { rtt, .. } => json!({ "is": "pong", "rtt": crate::line::nanos(*rtt) }),
        Event::Writable => json!({ "is": "writable" }),
        Event::Lost { error, retry_at, unsent, .. } => json!({
            "is": "lost", "error": error.to_string(), "retry_at": retry_at.map(since),
            "unsent": unsent_value(unsent),
        }),
        Event::AttemptFailed { failures, error, retry_at } => json!({
            "is": "attempt_failed", "failures": failures, "error": error.to_string(),
            "retry_at": retry_at.map(since),
        }),
        Event::Closed { error, unsent } => json!({
            "is": "closed", "error": error.map(ToString::to_string), "unsent": unsent_value(unsent),
        }),
        // One that came after this was written: what it shows of itself.
        other => json!({ "is": "other", "text": format!("{other:?}") }),
    }
}

fn put(value: &mut Value, message: Message<'_>, last: Option<(usize, u64)>) {
    let Value::Object(fields) = value else { return };
    if Some(mark(message.as_bytes())) == last {
        fields.insert("same".to_owned(), Value::Bool(true));
        return;
    }
    let payload = match message {
        Message::Text(text) => crate::text::Payload::text(text),
        Message::Binary(bytes) => crate::text::Payload::binary(bytes),
    };
    fields.insert("data".to_owned(), Value::String(payload.as_str().to_owned()));
    if payload.is_binary() {
        fields.insert("binary".to_owned(), Value::Bool(true));
    }
}

fn unsent_value(unsent: &Unsent) -> Value {
    json!({
        "not_sent": [unsent.not_sent.start.as_u64(), unsent.not_sent.end.as_u64()],
        "waiting": unsent.waiting.iter().map(|id| id.as_u64()).collect::<Vec<_>>(),
        "cut": unsent.cut.map(|id| id.as_u64()),
    })
}
