//! What identifies providers, questions and operations.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// The next number.
            pub(crate) fn advance(&mut self) -> Self {
                self.0 += 1;
                *self
            }
        }
    };
}

id! {
    /// A question to the queue runner.
    QuestionId
}
id! {
    /// A request to a provider to list its machines.
    ListingId
}
id! {
    /// An operation on a machine.
    OperationId
}
id! {
    /// A publication of the machines file.
    PublicationId
}
id! {
    /// A batch of state changes that are recorded together.
    BatchId
}

/// A provider, identified by the settings that decide which machines it lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProviderId(pub String);

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
