//! Several calls in one message.

use super::call::{Call, Caller, Fault, Read, State, written};
use crate::protocol::{OwnedRpcError, Request, Unsupported};
use crate::session::{SendError, Unanswered};
use serde::Serialize;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Gathers calls that are to be sent in one message: what the function given to `batch` is over.
#[derive(Debug)]
pub struct Batch {
    caller: Caller,
    parts: Vec<Part>,
    /// The method of a call that could not be written.
    broken: Option<&'static str>,
}

#[derive(Debug)]
struct Part {
    method: &'static str,
    params: Option<String>,
    place: Arc<Place>,
}

// For the macro.
#[doc(hidden)]
impl Batch {
    pub fn new(caller: &Caller) -> Self {
        Self { caller: caller.clone(), parts: Vec::new(), broken: None }
    }

    pub fn call<P, T, E>(&mut self, method: &'static str, params: &P, read: Read<T>) -> Call<T, E>
    where
        P: Serialize + ?Sized,
        E: From<OwnedRpcError>,
    {
        let state = match written(params) {
            Ok(params) => {
                let place = Arc::new(Place::default());
                self.parts.push(Part { method, params, place: place.clone() });
                State::Batched(place)
            }
            Err(reason) => {
                self.broken = Some(method);
                State::Ended(Fault::Params(reason))
            }
        };
        Call::new(method, state, read)
    }

    /// Sends the calls that somebody still waits for. Half of what was wanted is worse than nothing: if one cannot be written, none is sent.
    pub fn send(mut self) {
        let mut parts = std::mem::take(&mut self.parts);
        parts.retain(|part| Arc::strong_count(&part.place) > 1);
        if parts.is_empty() {
            return;
        }
        if let Some(method) = self.broken {
            let reason = format!("{method:?}, another call of the same batch, could not be written");
            let fault = Fault::NotTaken(SendError::Unsupported(Unsupported { reason }));
            return parts.iter().for_each(|part| part.place.put(State::Ended(fault.clone())));
        }
        let requests: Vec<Request<'_>> = parts
            .iter()
            .map(|part| Request { method: part.method, params: part.params.as_deref() })
            .collect();
        let Caller { client, options } = &self.caller;
        let answers = client.request_batch(&requests, options.clone());
        for (part, answer) in parts.iter().zip(answers) {
            part.place.put(State::Made(answer));
        }
    }
}

/// The function that gathered them did not return.
impl Drop for Batch {
    fn drop(&mut self) {
        for part in self.parts.drain(..) {
            part.place.put(State::Ended(Fault::NotSent(Unanswered::Cancelled)));
        }
    }
}

/// Where a call of a batch finds what became of it when that was sent.
#[derive(Default)]
pub(super) struct Place(Mutex<(Option<State>, Option<Waker>)>);

impl Place {
    fn put(&self, state: State) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        place.0 = Some(state);
        let waker = place.1.take();
        // It is the runtime's code.
        drop(place);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What became of it, once.
    pub(super) fn take(&self) -> Option<State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.take()
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<State> {
        // Cloned and dropped without the lock, for the same reason.
        let waker = cx.waker().clone();
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ready, before) = match place.0.take() {
            Some(state) => (Poll::Ready(state), Some(waker)),
            None => (Poll::Pending, place.1.replace(waker)),
        };
        drop(place);
        drop(before);
        ready
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}
