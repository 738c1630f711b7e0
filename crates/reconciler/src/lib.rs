//! The control loop as a state machine without I/O: events in, effects out.
//!
//! [`Reconciler::handle`] takes an [`Event`]. [`Reconciler::act`] observes, plans and acts. [`Reconciler::poll_effect`]
//! returns the effects, which the driver (adapters) and the simulator carry out in order. Time is a parameter. Nothing
//! here blocks, sleeps, spawns, reads or writes.

mod act;
mod back_off;
mod boundary;
pub mod conformance;
mod history;
mod inventory;
pub mod limits;
mod operations;
mod orders;
mod provider;
mod publication;
mod questions;
mod reconciler;
mod record;
mod spending;
mod storage;
mod view;
mod waits;

pub use boundary::{
    BatchId, Configuration, Done, Effect, Event, Listing, ListingId, OperationError,
    OperationErrorKind, OperationId, ProviderId, PublicationId, Published, QuestionId, Task,
    Timing,
};
pub use history::{Happening, HistoryEntry, Severity};
pub use reconciler::{Planner, Reconciler};
pub use record::{Change, Record, State};
