//! The real world: configuration, queue runners, providers, the machines file, the state directory.

pub mod atomic_file;
pub mod command;
pub mod config;
pub mod fleet;
mod host_name;
pub mod lock;
pub mod machines_file;
mod nix;
pub mod providers;
pub mod queue;
pub mod reaper;
mod records;
pub mod ssh;
pub mod world;
