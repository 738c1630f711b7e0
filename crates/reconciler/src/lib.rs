//! The control loop: observe, plan, execute, report.
//!
//! [`cycle`] is one pass. The world is behind the traits of [`world`], so that the real one (adapters) and
//! the virtual one (simulator) are reconciled by the same code.

pub mod conformance;
mod cycle;
mod execute;
pub mod limits;
mod observe;
mod report;
pub mod world;

pub use cycle::{cycle, cycle_with};
pub use observe::observe;
pub use report::{Failure, Postponed, Publication, Report};
