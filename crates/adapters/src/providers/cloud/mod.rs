//! What the clouds have in common: offers, repeated calls, who a new machine is, and what is remembered of machines.

pub(super) mod http;
mod identity;
mod known;
mod offers;
mod patience;

pub(super) use self::identity::{HostKey, NewMachine};
pub(super) use self::known::{Known, Presence};
pub(super) use self::offers::{Refusal, SetAside};
pub(super) use self::patience::Patience;

pub use self::identity::Login;
