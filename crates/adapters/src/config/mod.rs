//! `conf.nix`: evaluated by Nix, checked, every problem reported at once.

mod settings;

pub use settings::{Config, Limits, MachinesFileSettings, QueueSettings, SshSettings};
