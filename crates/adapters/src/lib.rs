//! The real environment: configuration, queue runners, providers, the machines file, the state directory.

pub mod atomic_file;
mod clock;
pub mod command;
pub mod config;
mod digest;
pub mod driver;
mod host_name;
mod json;
#[cfg_attr(not(feature = "lease"), allow(dead_code, reason = "without leases no session uses it"))]
pub mod lease;
pub mod lock;
pub mod machines_file;
mod nix;
pub mod panics;
pub mod providers;
pub mod queue;
pub mod reaper;
pub mod ssh;
pub mod state;
pub mod webhook;

#[cfg(test)]
#[path = "../../planner/tests/mutations/mod.rs"]
mod mutations;
