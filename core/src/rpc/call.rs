//! One call, from its parameters to its result.

use super::batch::Place;
use super::error::{CallError, Unreadable};
use crate::handle::{Client, RequestError, ResponseFuture};
use crate::protocol::{OwnedRpcError, Request};
use crate::session::{RequestId, RequestOptions, SendError, SendId, SendOptions, Unanswered};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// How a result is read from its text.
pub type Read<T> = fn(&str) -> Result<T, serde_json::Error>;

/// Reads a result that is wanted.
///
/// # Errors
/// It is not JSON of this type.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

/// Takes any result for none.
///
/// # Errors
/// Never.
pub fn ignore(_: &str) -> Result<(), serde_json::Error> {
    Ok(())
}

/// Makes calls that are awaited: what a client that [`rpc!`](crate::rpc!) made is over, at first.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) client: Client,
    pub(super) options: RequestOptions,
}

/// Makes calls that the thread waits for.
#[derive(Debug, Clone)]
pub struct BlockingCaller(pub(super) Caller);

// For the macro.
#[doc(hidden)]
impl Caller {
    pub fn new(client: Client) -> Self {
        Self { client, options: RequestOptions::default() }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn with(&self, options: RequestOptions) -> Self {
        Self { client: self.client.clone(), options }
    }

    pub fn blocking(&self) -> BlockingCaller {
        BlockingCaller(self.clone())
    }

    pub fn call<P, T, E>(&self, method: &'static str, params: &P, read: Read<T>) -> Call<T, E>
    where
        P: Serialize + ?Sized,
        E: From<OwnedRpcError>,
    {
        let state = match written(params) {
            Ok(params) => {
                let request = Request { method, params: params.as_deref() };
                State::Made(self.client.request_with(request, self.options.clone()))
            }
            Err(reason) => State::Ended(Fault::Params(reason)),
        };
        Call::new(method, state, read)
    }

    pub fn notify<P, E>(&self, method: &'static str, params: &P) -> Result<SendId, CallError<E>>
    where
        P: Serialize + ?Sized,
    {
        let params = written(params).map_err(|reason| CallError::Params { method, reason })?;
        let notification = Request { method, params: params.as_deref() };
        let options = SendOptions::default().priority(self.options.priority);
        let options = SendOptions { timeout: self.options.timeout, ..options };
        self.client.notify(notification, options).map_err(|error| CallError::NotTaken { method, error })
    }
}

#[doc(hidden)]
impl BlockingCaller {
    pub fn caller(&self) -> &Caller {
        &self.0
    }

    pub fn call<P, T, E>(&self, method: &'static str, params: &P, read: Read<T>) -> Result<T, CallError<E>>
    where
        P: Serialize + ?Sized,
        E: From<OwnedRpcError>,
    {
        self.0.call(method, params, read).wait()
    }

    pub fn notify<P, E>(&self, method: &'static str, params: &P) -> Result<SendId, CallError<E>>
    where
        P: Serialize + ?Sized,
    {
        self.0.notify(method, params)
    }
}

/// Parameters as JSON text; none if they are `null`.
pub(super) fn written<P: Serialize + ?Sized>(params: &P) -> Result<Option<String>, String> {
    let text = serde_json::to_string(params).map_err(|error| error.to_string())?;
    let is = match text.as_bytes().first() {
        Some(b'{' | b'[') => return Ok(Some(text)),
        Some(b'n') => return Ok(None),
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a bool",
        _ => "a number",
    };
    Err(format!("they must be an object or an array, and are {is}: make them a struct, a tuple or a list"))
}

/// A call that was made: a future of its result, or of why there is none. It is on its way before it is polled, and it always ends; dropping it
/// cancels the call. A thread may [`wait`](Self::wait) for it instead.
#[must_use = "a call that is dropped is cancelled"]
pub struct Call<T, E = OwnedRpcError> {
    method: &'static str,
    state: State,
    read: Read<T>,
    refused: fn(OwnedRpcError) -> E,
}

#[derive(Debug)]
pub(super) enum State {
    Made(ResponseFuture),
    /// In a batch that may not be sent yet.
    Batched(Arc<Place>),
    Ended(Fault),
}

/// Why a call was not made.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    Params(String),
    NotTaken(SendError),
    NotSent(Unanswered),
}

impl<T, E> Call<T, E> {
    pub(super) fn new(method: &'static str, state: State, read: Read<T>) -> Self
    where
        E: From<OwnedRpcError>,
    {
        Self { method, state, read, refused: E::from }
    }

    /// The method that is called.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The id that it was sent with, for logs. `None`: it was refused, or its batch is not sent yet.
    pub fn id(&mut self) -> Option<RequestId> {
        self.look();
        match &self.state {
            State::Made(answer) => answer.id(),
            State::Batched(_) | State::Ended(_) => None,
        }
    }

    /// Waits for the result, on a thread that may block: until the call's time is over at the latest. Not on the thread that an asynchronous
    /// driver runs on: no answer would come. See [`ResponseFuture::wait`].
    ///
    /// Within the function that makes a batch nothing is sent yet: there it gives [`CallError::NotSent`], and takes the call out of the batch.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn wait(mut self) -> Result<T, CallError<E>> {
        self.look();
        match std::mem::replace(&mut self.state, State::Ended(Fault::NotSent(Unanswered::Cancelled))) {
            State::Made(answer) => self.settled(answer.wait()),
            State::Ended(fault) => Err(self.failed(fault)),
            State::Batched(_) => Err(self.failed(Fault::NotSent(Unanswered::Cancelled))),
        }
    }

    /// Whether its batch was sent.
    fn look(&mut self) {
        if let State::Batched(place) = &self.state
            && let Some(state) = place.take()
        {
            self.state = state;
        }
    }

    fn failed(&self, fault: Fault) -> CallError<E> {
        let method = self.method;
        match fault {
            Fault::Params(reason) => CallError::Params { method, reason },
            Fault::NotTaken(error) => CallError::NotTaken { method, error },
            Fault::NotSent(why) => CallError::NotSent { method, why },
        }
    }

    fn settled(&self, answer: Result<String, RequestError>) -> Result<T, CallError<E>> {
        let method = self.method;
        match answer {
            Ok(text) => (self.read)(&text)
                .map_err(|error| CallError::Result { method, error: Unreadable::new(text, &error) }),
            Err(RequestError::Rpc(error)) => Err(CallError::Refused { method, error: (self.refused)(error) }),
            Err(RequestError::NotTaken(error)) => Err(CallError::NotTaken { method, error }),
            Err(RequestError::NotSent(why)) => Err(CallError::NotSent { method, why }),
            Err(RequestError::SentUnknown(why)) => Err(CallError::SentUnknown { method, why }),
        }
    }
}

impl<T, E> Future for Call<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Batched(place) = &self.state {
            match place.poll(cx) {
                Poll::Ready(state) => self.state = state,
                Poll::Pending => return Poll::Pending,
            }
        }
        match &mut self.state {
            State::Made(answer) => {
                let answer = std::task::ready!(Pin::new(answer).poll(cx));
                Poll::Ready(self.settled(answer))
            }
            State::Ended(fault) => {
                let fault = fault.clone();
                Poll::Ready(Err(self.failed(fault)))
            }
            State::Batched(_) => Poll::Pending,
        }
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).finish_non_exhaustive()
    }
}
