//! Shared by the clouds: offers, retries, the identity of a new machine, and known machines.

pub(super) mod http;
mod identity;
mod known;
mod lookup;
mod offers;
mod retries;

pub(super) use self::identity::{HostKey, NewMachine};
pub(super) use self::known::{Known, Presence};
pub(super) use self::lookup::Lookup;
pub(super) use self::offers::{Refusal, SetAside};
pub(super) use self::retries::{RetryBudget, TRIAL_LIMIT};

pub use self::identity::Login;
