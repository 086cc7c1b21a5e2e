//! What `rpc!` makes of tables: every shape, its documentation and visibility, and that it needs nothing in scope.

#![deny(missing_docs, missing_debug_implementations, dead_code, unused, elided_lifetimes_in_paths)]

use everwire_core::protocol::OwnedRpcError;
use everwire_core::rpc::{Batch, BlockingCaller, Call, CallError, Reply, ServerError};
use everwire_core::{Client, OwnedEvent, RequestOptions, SendId};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

everwire_core::rpc! {
    /// All shapes.
    #[must_use]
    pub client Shapes {
        /// With parameters and a result.
        call both(BTreeMap<String, u8>) -> Vec<u64> = "both";
        // Not documented by hand.
        call result() -> Option<Cow<'static, str>> = "result";
        call params([u8; 2]) = "params";
        call neither() = "neither";
        /// Borrows, and is of no known size.
        call unsized_params([&str]) -> () = "unsized";
        call borrowed(Borrowed<'_, u8>) -> [u8; 2] = "borrowed";
        #[deprecated = "there is a better one"]
        call old() = "old";
        #[cfg(any())]
        call never(NoSuchType) -> NoSuchTypeEither = "never";
        /// A keyword.
        call r#type() -> u8 = "type \"quoted\" \\ `ticks`";
        notify tell([u8; 1]) = "tell";
        notify shout() = "shout";
    }

    /// Its errors have a type.
    pub(crate) client Failing {
        type Error = Failure;
        call fail() = "fail";
        notify fail_alone() = "fail";
    }

    client Private {}

    /// What may come.
    #[derive(Debug)]
    pub server Said {
        /// With parameters.
        notification Params(Vec<u8>) = "params";
        notification Nothing() = "nothing";
        /// A request.
        request Both(Vec<u8>) -> Vec<u8> = "both";
        request Result() -> str = "result";
        request Unit() -> () = "unit";
    }

    #[derive(Debug)]
    pub(crate) server Silent {}
}

/// It has a lifetime and a type.
#[derive(Debug, Serialize)]
pub struct Borrowed<'a, T> {
    name: &'a str,
    more: &'a [T],
}

/// Made of what the server says.
#[derive(Debug, PartialEq)]
pub struct Failure(String);

impl From<OwnedRpcError> for Failure {
    fn from(error: OwnedRpcError) -> Self {
        Self(error.message)
    }
}

/// Nothing of the prelude, nothing imported, and what the macro could trip on under other meanings.
#[no_implicit_prelude]
#[allow(dead_code, unused_macros, unreachable_pub)]
mod hostile {
    pub struct Option;
    pub struct Result;
    pub struct Self_;
    pub struct Client;
    pub struct Call;
    pub enum Via {}
    pub trait Into {}
    mod core {}
    mod std {}
    mod everwire_core {}
    mod serde {}
    macro_rules! concat {
        () => {};
    }
    macro_rules! compile_error {
        () => {};
    }

    ::everwire_core::rpc! {
        /// Nothing else is needed.
        pub client Alone {
            type Error = ::everwire_core::protocol::OwnedRpcError;
            call call([u8; 1]) -> u8 = "call";
            call read() = "read";
            notify notify() = "notify";
        }
        #[derive(::std::fmt::Debug)]
        pub server Heard {
            notification Ok([u8; 1]) = "ok";
            notification None() = "none";
            request Some([u8; 1]) -> u8 = "some";
            request Err() -> () = "err";
        }
    }
}

/// Under another name.
mod renamed {
    extern crate everwire_core as wire;

    wire::rpc! {
        /// Found all the same.
        pub client Renamed {
            call call() = "call";
        }
    }
}

mod inner {
    everwire_core::rpc! {
        pub(super) client Near {
            call here() = "here";
        }
    }
}

fn is_handle<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
fn is_answer<T: Send + Sync + Unpin + std::fmt::Debug + Future + 'static>() {}

/// Types that must be as they are written here; nothing is called.
#[test]
fn functions_have_the_types_that_the_table_says() {
    type Answer<T, E = OwnedRpcError> = Result<T, CallError<E>>;
    type Map = BTreeMap<String, u8>;

    let _: fn(Client) -> Shapes = Shapes::new;
    let _: fn(&Shapes) -> &Client = <Shapes>::client;
    let _: fn(&Shapes, RequestOptions) -> Shapes = <Shapes>::with;
    let _: fn(&Shapes, &Map) -> Call<Vec<u64>> = <Shapes>::both;
    let _: fn(&Shapes<BlockingCaller>, &Map) -> Answer<Vec<u64>> = Shapes::<BlockingCaller>::both;
    let _: fn(&mut Shapes<Batch>, &Map) -> Call<Vec<u64>> = Shapes::<Batch>::both;
    let _: fn(&Shapes) -> Call<Option<Cow<'static, str>>> = <Shapes>::result;
    let _: fn(&Shapes, &[u8; 2]) -> Call<()> = <Shapes>::params;
    let _: fn(&Shapes) -> Call<()> = <Shapes>::neither;
    let _: fn(&Shapes, &[&str]) -> Call<()> = <Shapes>::unsized_params;
    let _: fn(&Shapes, &Borrowed<'_, u8>) -> Call<[u8; 2]> = <Shapes>::borrowed;
    let _: fn(&Shapes) -> Call<u8> = <Shapes>::r#type;
    let _: fn(&Shapes, &[u8; 1]) -> Answer<SendId> = <Shapes>::tell;
    let _: fn(&Shapes<BlockingCaller>) -> Answer<SendId> = Shapes::<BlockingCaller>::shout;
    #[expect(deprecated, reason = "attributes are those of the functions")]
    let _: fn(&Shapes) -> Call<()> = <Shapes>::old;
    let _: fn(&Failing) -> Call<(), Failure> = <Failing>::fail;
    let _: fn(&Failing<BlockingCaller>) -> Answer<(), Failure> = Failing::<BlockingCaller>::fail;
    let _: fn(&Failing) -> Answer<SendId, Failure> = <Failing>::fail_alone;
    let _: fn(Client) -> Private = Private::new;
    let _: fn(&inner::Near) -> Call<()> = <inner::Near>::here;
    let _: fn(&hostile::Alone, &[u8; 1]) -> Call<u8> = <hostile::Alone>::call;
    let _: fn(&renamed::Renamed) -> Call<()> = <renamed::Renamed>::call;
    let _: fn(&Client, &OwnedEvent) -> Option<Result<Said, ServerError>> =
        |client, event| Said::parse(client, event);
    let _: fn(&Client, &OwnedEvent) -> Option<Result<Silent, ServerError>> =
        |client, event| Silent::parse(client, event);
    let _: fn(&Client, &OwnedEvent) -> Option<Result<hostile::Heard, ServerError>> =
        |client, event| hostile::Heard::parse(client, event);
    is_handle::<Shapes>();
    is_handle::<Shapes<BlockingCaller>>();
    is_handle::<Failing>();
    // Neither result nor error needs to be anything for it: this one cannot go to another thread.
    is_answer::<Call<std::rc::Rc<u8>, std::rc::Rc<u8>>>();
}

/// Each variant holds what the table says, in this order.
#[test]
fn variants_hold_what_the_table_says() {
    fn name(said: Said) -> &'static str {
        match said {
            Said::Params(params) => {
                let _: Vec<u8> = params;
                "params"
            }
            Said::Nothing() => "nothing",
            Said::Both(params, reply) => {
                let (_, _): (Vec<u8>, Reply<Vec<u8>>) = (params, reply);
                "both"
            }
            Said::Result(reply) => {
                let _: Reply<str> = reply;
                "result"
            }
            Said::Unit(reply) => {
                let _: Reply<()> = reply;
                "unit"
            }
        }
    }
    assert_eq!([name(Said::Params(vec![1])), name(Said::Nothing())], ["params", "nothing"]);
    assert_eq!(format!("{:?}", Said::Params(vec![1])), "Params([1])");
}
