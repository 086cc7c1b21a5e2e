//! Bugs on purpose, one at a time: what proves that the simulator would find them. Without the feature `mutants`, which nothing but its test enables,
//! there are none.

use super::Session;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "mutants"), allow(unreachable_pub, reason = "public with the feature only"))]
pub enum Mutant {
    /// One topic in three is not restored.
    SkipRestore,
    /// Delays start over with each connection, stable or not.
    ResetBackoffOnConnect,
    /// An answer that comes too late confirms whatever topic it names.
    AcceptStaleAck,
    /// One request in four is forgotten when its connection is lost.
    ForgetRequest,
    /// Pongs are not counted by the limiter.
    IgnorePongs,
    /// The gap of a restored topic is not told.
    HideGap,
    /// Requests to be held are sent before subscriptions are restored.
    SendBeforeRestore,
    /// A host that wants to be left alone is connected to all the same.
    IgnoreCooldown,
    /// The endpoint that failed is the next one too.
    KeepTurn,
    /// A certificate that is not to be trusted is tried again.
    RetryCertificate,
    /// The second connection of a session never lets go of its thread: for the watchdog, which no model can stand in for, and so it is none of
    /// [`ALL`](Self::ALL).
    #[cfg(feature = "mutants")]
    Hang,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All that a model is to find.
    pub const ALL: [Self; 10] = [
        Self::SkipRestore,
        Self::ResetBackoffOnConnect,
        Self::AcceptStaleAck,
        Self::ForgetRequest,
        Self::IgnorePongs,
        Self::HideGap,
        Self::SendBeforeRestore,
        Self::IgnoreCooldown,
        Self::KeepTurn,
        Self::RetryCertificate,
    ];
}

#[cfg(feature = "mutants")]
impl crate::Config {
    /// Plants a bug.
    #[doc(hidden)]
    pub fn mutant(self, mutant: Option<Mutant>) -> Self {
        Self { mutant, ..self }
    }
}

impl Session {
    /// See [`Mutant::Hang`].
    #[cfg(feature = "mutants")]
    pub(super) fn hang(&self) {
        while self.is(Mutant::Hang) && self.stats.connections > 1 {
            std::hint::spin_loop();
        }
    }

    #[cfg(feature = "mutants")]
    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.config.mutant == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "the same form with and without")]
    pub(super) const fn is(&self, _mutant: Mutant) -> bool {
        false
    }
}
