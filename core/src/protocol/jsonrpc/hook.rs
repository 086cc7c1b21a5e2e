//! Functions of the user.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A function of the user. Not shown: what it holds may be a secret.
pub(super) struct Hook<F: ?Sized>(Arc<F>);

impl<F: ?Sized> Hook<F> {
    pub(super) fn new(function: Arc<F>) -> Self {
        Self(function)
    }
}

impl<F: ?Sized> Deref for Hook<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

// By hand, as a derived one asks for a function that can be cloned.
impl<F: ?Sized> Clone for Hook<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: ?Sized> fmt::Debug for Hook<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("function")
    }
}
