//! Decides which build machines to create, start, keep, drain and release.
//!
//! [`plan`] is a total, pure function from what the operator wants ([`Policy`]) and what was observed
//! ([`Snapshot`]) to the actions ([`Plan`]). It uses no I/O, clock, randomness, environment or logging. So
//! the same input gives the same plan on every machine, and the simulator can run it.
//!
//! Unexpected input never fails: it becomes a line in [`Plan::warnings`], and in doubt a machine is kept.

// The same result on every machine.
#![warn(clippy::float_arithmetic)]

mod admission;
mod common_cause;
mod copying;
mod cost_limits;
mod demand;
mod endpoint;
mod escape;
mod experience;
mod fallback;
mod health;
mod host_pattern;
mod idle_timeout;
mod left_out;
mod machines_file;
mod matching;
mod memory;
mod money;
mod names;
mod observed;
mod orders;
mod ownership;
mod phases;
mod plan;
mod planner;
mod policy;
mod price;
mod progress;
mod release;
mod render;
mod retention;
mod rotation;
mod selection;
mod sizing;
mod snapshot;
mod spending;
mod store_uri;
mod surplus;
mod target_wait;
mod time;
mod warnings;
mod wording;

pub use demand::{pool_for, prefers_local_build};
pub use endpoint::{Destination, Endpoint, EndpointError, Host, SSH_PORT};
pub use escape::{escape, escape_within_lines};
pub use experience::{Average, Experience, is_billed_by_hour};
pub use health::Unhealthy;
pub use host_pattern::HostPattern;
pub use machines_file::{MachinesFile, MachinesFileEntry, machines_file, systems_built_by};
pub use matching::jobs_of;
pub use memory::{
    AwaitsSsh, BackOff, BackOffKind, EndsWhen, Failing, InMachinesFile, Leaving, Memory, Missing,
    Operation, Progress, Sequence, StepsBuilt, UnderWay,
};
pub use money::Money;
pub use names::{Feature, MachineName, MachineType, System, Tag};
pub use orders::{Order, OrderKind};
pub use ownership::is_ours;
pub use plan::{
    Attempt, KeepReason, Plan, Provision, Release, ReleaseHow, ReleaseReason, Verdict, Warning,
};
pub use planner::plan;
pub use policy::{
    CostLimits, Filling, IdleAction, IdleTimeout, Policy, PoolPolicy, RotationPolicy, SpeedFactor,
};
pub use release::{AwaitReason, ReleaseStep};
pub use sizing::{
    AllowedBy, Deferral, Deferred, LimitName, LimitReached, NoRoom, Outdated, Sizing, SlotsBound,
    SlotsWanted,
};
pub use snapshot::{
    AcceptsJobs, Demand, DemandKey, Machine, MachineKeys, MachineState, Queue, QueueMachine,
    QueueStatus, Resource, Snapshot,
};
pub use spending::{Charged, Paid, Spent};
pub use store_uri::StoreUri;
pub use time::{Seconds, Timestamp, earliest};
pub use wording::counted;
