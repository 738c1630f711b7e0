//! Virtual time, events in a total order, and random numbers that are identical on every platform.

mod agenda;
mod distribution;
mod millis;
mod random;
mod u48;

pub use agenda::Engine;
pub use distribution::{Distribution, DistributionError};
pub use millis::Millis;
pub use random::{Purpose, Random, Seed};
pub(crate) use u48::U48;
