//! The user's code that a driver asks: where to connect, and over what. It may use a handle of the session, so that it runs without the
//! lock.

use super::{BoxFuture, Runtime};
use crate::error::ProviderError;
use crate::session::{AttemptId, ConnId, Endpoint};
use crate::ws::Target;
use std::io;
use std::task::{Context, Poll};

type Provider = Box<dyn FnMut() -> BoxFuture<Result<Endpoint, ProviderError>> + Send>;
type Connector<S> = Box<dyn FnMut(Target) -> BoxFuture<io::Result<S>> + Send>;

pub(super) struct Hooks<R: Runtime> {
    pub(super) provider: Option<Provider>,
    pub(super) connector: Option<Connector<R::Stream>>,
    /// The attempt that the provider is still to be asked for.
    asked: Option<AttemptId>,
    endpoint: Option<(AttemptId, BoxFuture<Result<Endpoint, ProviderError>>)>,
    /// Streams that the connector is still to be asked for.
    wanted: Vec<(ConnId, Target)>,
    opening: Vec<(ConnId, BoxFuture<io::Result<R::Stream>>)>,
    /// What nobody waits for any more, to be dropped without the lock.
    abandoned: Vec<BoxFuture<io::Result<R::Stream>>>,
}

/// What the user's code said.
pub(super) enum Answer<R: Runtime> {
    Endpoint(AttemptId, Result<Box<Endpoint>, ProviderError>),
    Stream(ConnId, io::Result<R::Stream>),
}

impl<R: Runtime> Default for Hooks<R> {
    fn default() -> Self {
        Self {
            provider: None,
            connector: None,
            asked: None,
            endpoint: None,
            wanted: Vec::new(),
            opening: Vec::new(),
            abandoned: Vec::new(),
        }
    }
}

impl<R: Runtime> Hooks<R> {
    /// Has the provider asked.
    pub(super) fn provide(&mut self, id: AttemptId) {
        self.asked = Some(id);
    }

    /// Has the connector asked.
    pub(super) fn open(&mut self, id: ConnId, target: Target) {
        self.wanted.push((id, target));
    }

    /// Nobody waits for this stream any more.
    pub(super) fn abandon(&mut self, id: ConnId) {
        self.wanted.retain(|(wanted, _)| *wanted != id);
        if let Some(index) = self.opening.iter().position(|(opening, _)| *opening == id) {
            self.abandoned.push(self.opening.swap_remove(index).1);
        }
    }

    /// Drops what nobody waits for any more. It is the user's code: not under the lock.
    pub(super) fn tidy(&mut self) {
        self.abandoned.clear();
    }

    /// Asks what is to be asked; the answers that there are.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Vec<Answer<R>> {
        let mut answers = Vec::new();
        if let Some(id) = self.asked.take() {
            self.endpoint = None;
            match &mut self.provider {
                Some(provider) => self.endpoint = Some((id, provider())),
                None => {
                    let message = "the driver has no endpoint provider: set one with Driver::provider";
                    answers.push(Answer::Endpoint(id, Err(ProviderError::new(message))));
                }
            }
        }
        for (id, target) in self.wanted.drain(..) {
            match &mut self.connector {
                Some(connector) => self.opening.push((id, connector(target))),
                None => {
                    let message = "the driver has no connector: set one with Driver::connector";
                    answers.push(Answer::Stream(id, Err(io::Error::other(message))));
                }
            }
        }
        if let Some((id, endpoint)) = &mut self.endpoint
            && let Poll::Ready(result) = endpoint.as_mut().poll(cx)
        {
            answers.push(Answer::Endpoint(*id, result.map(Box::new)));
            self.endpoint = None;
        }
        self.opening.retain_mut(|(id, stream)| match stream.as_mut().poll(cx) {
            Poll::Ready(result) => {
                answers.push(Answer::Stream(*id, result));
                false
            }
            Poll::Pending => true,
        });
        answers
    }
}
