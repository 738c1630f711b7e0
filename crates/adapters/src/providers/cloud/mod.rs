//! Shared by the clouds: offers, retries, the identity of a new machine, and known machines.

use planner::{Machine, MachineName, MachineType, Tag};

pub(super) mod http;
mod identity;
mod images;
pub(super) mod keys;
mod known;
mod lookup;
mod offers;
mod retries;

pub(super) use self::identity::{HostKey, NewMachine};
pub(super) use self::images::Images;
pub(super) use self::keys::Keys;
pub(super) use self::known::{Known, Presence};
pub(super) use self::lookup::Lookup;
pub(super) use self::offers::{Refusal, SetAside};
pub(super) use self::retries::{RetryBudget, TRIAL_LIMIT};

pub(crate) use self::identity::UserDataRules;

pub use self::identity::Login;

/// A machine with our tag that lost its name or type, because its tags were changed by hand. It would never be released: it is listed with
/// no tag of ours, so that it is reported and left alone.
pub(super) fn nameless(shown_as: &str) -> Machine {
    let name = MachineName::new(shown_as);
    Machine { tag: Some(Tag::new("")), ..Machine::requested(name, MachineType::new("")) }
}
