//! The real world: configuration, queue runners, providers, the machines file, the state directory.

pub mod command;
pub mod config;
pub mod providers;
