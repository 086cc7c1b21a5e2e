//! No protocol: messages pass as they are.

use super::{Ack, Inbound, Protocol, Request, Topic, Unsupported};

/// Messages mean nothing to the session. Subscriptions are messages that are sent again on each new connection
/// ([`Topic::subscribe_with`]); there are no requests. The default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plain;

impl Protocol for Plain {
    fn inspects(&self) -> bool {
        false
    }

    fn classify<'m>(&self, _: &'m str) -> Inbound<'m> {
        Inbound::data(None)
    }

    fn request(&self, _: u64, request: &Request<'_>, _: &mut String) -> Result<(), Unsupported> {
        let reason = format!(
            "request {:?}: the plain protocol pairs no answers with requests; configure one that does, such as JsonRpc",
            request.method
        );
        Err(Unsupported { reason })
    }

    fn topics_per_message(&self) -> usize {
        1
    }

    fn subscribe(&self, _: u64, topics: &[&Topic], out: &mut String) -> Ack {
        for topic in topics {
            out.push_str(topic.subscribe.as_deref().unwrap_or(&topic.name));
        }
        Ack::None
    }

    fn unsubscribe(&self, _: u64, topics: &[&Topic], out: &mut String) -> Ack {
        for topic in topics {
            out.push_str(topic.unsubscribe.as_deref().unwrap_or_default());
        }
        Ack::None
    }

    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }
}
