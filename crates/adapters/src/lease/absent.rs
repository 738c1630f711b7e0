//! In a program that was built without leases: there is no session.

use super::Lease;
use crate::config::LeaseSettings;

pub(super) enum Session {}

impl Session {
    pub(super) fn open(_: &LeaseSettings, _: i64) -> Result<Self, String> {
        Err("this program was built without leases (cargo feature `lease`)".to_owned())
    }

    pub(super) fn wait(&mut self, _: &Lease) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn keep(&mut self, _: &Lease) -> String {
        match *self {}
    }
}
