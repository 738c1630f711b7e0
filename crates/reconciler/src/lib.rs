//! The control loop as a state machine without I/O: events in, effects out.
//!
//! [`Reconciler::handle`] takes an [`Event`]. [`Reconciler::act`] observes, plans and acts. [`Reconciler::poll_effect`]
//! returns the effects, which the driver (adapters) and the simulator carry out in order. Time is a parameter. Nothing
//! here blocks, sleeps, spawns, reads or writes.

// The same result on every machine.
#![warn(clippy::float_arithmetic)]

mod act;
mod back_off;
mod boundary;
pub mod conformance;
mod history;
mod ids;
mod inventory;
pub mod limits;
mod operation_error;
mod orders;
mod provider;
mod reconciler;
mod record;
mod spending;
mod view;
mod waits;

pub use boundary::{Configuration, Done, Effect, Event, Listing, Published, Task, Timing};
pub use history::{Happening, HistoryEntry, Severity};
pub use ids::{BatchId, ListingId, OperationId, ProviderId, PublicationId, QuestionId};
pub use operation_error::{OperationError, OperationErrorKind};
pub use reconciler::{Planner, Reconciler};
pub use record::{Change, Record, State};
