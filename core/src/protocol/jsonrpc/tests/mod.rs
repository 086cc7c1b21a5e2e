mod calls;
mod classify;
mod reference;

use super::*;
const NOTHING: Inbound<'static> = Inbound::Message { topic: None, sequence: None, sent: None };

fn ok(id: u64, result: &str) -> Inbound<'_> {
    Inbound::Response { id, result: Ok(result) }
}

fn err(id: u64, error: &str) -> Inbound<'_> {
    Inbound::Response { id, result: Err(error) }
}

fn asks<'m>(id: &'m str, method: &'m str, params: Option<&'m str>) -> Inbound<'m> {
    Inbound::Request { id, method, params }
}

fn check(rpc: &JsonRpc, table: &[(&str, Inbound<'_>)]) {
    for (text, want) in table {
        assert_eq!(rpc.classify(text), *want, "{text}");
    }
}
