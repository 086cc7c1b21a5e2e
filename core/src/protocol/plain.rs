//! No protocol: messages pass as they are.

use super::{Ack, Context, Inbound, Protocol, Request, Topic, Unsupported};

/// Messages mean nothing to the session. Subscriptions are messages that are sent again on each new connection
/// ([`Topic::subscribe_with`]); there are no requests. The default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plain;

impl Protocol for Plain {
    fn inspects(&self) -> bool {
        false
    }

    fn classify<'m>(&self, _: &'m str) -> Inbound<'m> {
        Inbound::other()
    }

    fn request(
        &self,
        _: u64,
        request: &Request<'_>,
        _: &Context<'_>,
        _: &mut String,
    ) -> Result<(), Unsupported> {
        Err(no_requests(&format!("request {:?}", request.method)))
    }

    fn batch(
        &self,
        requests: &[(u64, Request<'_>)],
        _: &Context<'_>,
        _: &mut String,
    ) -> Result<(), Unsupported> {
        Err(no_requests(&format!("batch of {} requests", requests.len())))
    }

    fn topics_per_message(&self) -> usize {
        1
    }

    fn subscribe(
        &self,
        _: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        for topic in topics {
            out.push_str(topic.subscribe.as_deref().unwrap_or(&topic.name));
        }
        Ok(Ack::None)
    }

    fn unsubscribe(
        &self,
        _: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        for topic in topics {
            out.push_str(topic.unsubscribe.as_deref().unwrap_or_default());
        }
        Ok(Ack::None)
    }

    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }
}

fn no_requests(what: &str) -> Unsupported {
    let advice = "configure one that does, such as JsonRpc";
    Unsupported { reason: format!("{what}: the plain protocol pairs no answers with requests; {advice}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_what_is_sent_for_it() {
        let params = crate::Params::default();
        let context = Context::new(std::time::SystemTime::UNIX_EPOCH, &params);
        let topics = [
            (Topic::new("name"), "name", ""),
            (Topic::new("name").subscribe_with("on").unsubscribe_with("off"), "on", "off"),
            // Nothing to send: it is in force as it is.
            (Topic::new("name").subscribe_with(""), "", ""),
        ];
        for (topic, subscribe, unsubscribe) in topics {
            let mut out = String::new();
            assert_eq!(Plain.subscribe(1, &[&topic], &context, &mut out), Ok(Ack::None));
            assert_eq!(out, subscribe);
            out.clear();
            assert_eq!(Plain.unsubscribe(1, &[&topic], &context, &mut out), Ok(Ack::None));
            assert_eq!(out, unsubscribe);
            assert!(Plain.confirms("", &topic));
        }
        assert_eq!(Plain.topics_per_message(), 1);
    }

    #[test]
    fn nothing_is_read_and_nothing_is_asked() {
        assert!(!Plain.inspects());
        assert_eq!(Plain.classify(r#"{"id":1,"result":1}"#), Inbound::other());
        let mut out = String::new();
        let request = Request::new("m");
        let params = crate::Params::default();
        let context = Context::new(std::time::SystemTime::UNIX_EPOCH, &params);
        for refused in
            [Plain.request(1, &request, &context, &mut out), Plain.batch(&[(1, request)], &context, &mut out)]
        {
            assert!(refused.unwrap_err().reason.contains("such as JsonRpc"));
        }
        assert!(Plain.respond("1", Ok("1"), &mut out).is_err());
        assert_eq!(Plain.heartbeat(1, &context, &mut out), Ack::None);
        assert_eq!(Plain.authenticate(1, &context, &mut out), Ok(Ack::None));
        assert!(!Plain.greets() && !Plain.reauthenticates());
        assert_eq!(Plain.authenticated(""), None);
        assert_eq!(out, "");
    }
}
