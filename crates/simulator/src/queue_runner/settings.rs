//! The kind of queue runner, and its settings.

use serde::{Deserialize, Deserializer, Serialize};

use crate::engine::Millis;

/// Which of the two queue runners it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// C++: reads machines files, queried with `--status`.
    Classic,
    /// Rust: builders register themselves, status over REST.
    Rest,
}

/// The order of steps of the same global priority and share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepOrder {
    /// Classic since April 2025: local priority, features required, dependents, build. REST (`WithRdeps`, its
    /// default): dependents, local priority, build.
    Current,
    /// Classic before April 2025, REST `Legacy`: local priority, build.
    Legacy,
}

/// How long a step of the classic queue runner holds its slot on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reservation {
    /// Until its outputs are copied: before April 2025.
    UntilCopied,
    /// Until the copying begins ("release machine reservation while copying outputs", written in April 2024, merged in
    /// April 2025): the machine then shows fewer jobs than it works on.
    UntilBuilt,
}

/// The queue runner's own settings. In a file, missing ones are as in [`Self::CLASSIC`] or [`Self::REST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "SettingsInFile")]
pub struct Settings {
    /// Classic or REST.
    pub protocol: Protocol,
    /// How long a step may wait without a machine that supports it before it is aborted: REST `maxUnsupportedTimeInS`
    /// (its default is 120 s), classic `max_unsupported_time`. `None`: forever.
    pub max_unsupported: Option<Millis>,
    /// REST `dispatchTriggerTimerInS` (its default is 120 s).
    pub dispatch_timer: Millis,
    /// The order of steps.
    pub step_order: StepOrder,
    /// Classic: how long a step holds its slot.
    pub reservation: Reservation,
    /// Classic: time until it notices that a machine failed silently. It notices a closed connection immediately, but a
    /// connection to a host that no longer exists only when TCP or the step's time limit ends: minutes.
    pub loss_noticed_after: Millis,
    /// How long before time zero it was started: what it does at intervals ([`Self::interval`]) counts from then.
    pub started_before: Millis,
}

impl Settings {
    /// A classic queue runner that never aborts unsupported steps: its default of 0 s would abort every step of a farm
    /// that scales from zero.
    pub const CLASSIC: Self = Self {
        protocol: Protocol::Classic,
        max_unsupported: None,
        dispatch_timer: Millis::from_seconds(120),
        step_order: StepOrder::Current,
        reservation: Reservation::UntilCopied,
        loss_noticed_after: Millis::ZERO,
        started_before: Millis::ZERO,
    };

    /// How often it looks for new machines: classic, whether the machines file has changed (`monitorMachinesFile` in
    /// `hydra-queue-runner.cc`); REST, its dispatch timer.
    pub fn interval(&self) -> Millis {
        match self.protocol {
            Protocol::Classic => Millis::from_seconds(30),
            Protocol::Rest => self.dispatch_timer,
        }
    }

    /// When it next looks for new machines, after `now`.
    pub fn next_look(&self, now: Millis) -> Millis {
        let interval = self.interval().0.max(1);
        let running_for = now.0.saturating_add(self.started_before.0);
        Millis((running_for / interval + 1).saturating_mul(interval) - self.started_before.0)
    }

    /// Whether a step releases its slot before its outputs are copied.
    pub fn frees_slot_early(&self) -> bool {
        self.protocol == Protocol::Classic && self.reservation == Reservation::UntilBuilt
    }

    /// A REST queue runner with its own defaults.
    pub const REST: Self = Self {
        protocol: Protocol::Rest,
        max_unsupported: Some(Millis::from_seconds(120)),
        dispatch_timer: Millis::from_seconds(120),
        step_order: StepOrder::Current,
        reservation: Reservation::UntilCopied,
        loss_noticed_after: Millis::ZERO,
        started_before: Millis::ZERO,
    };
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsInFile {
    protocol: Protocol,
    /// The outer `Option`: whether it is set; the inner: `null` means forever.
    #[serde(default, deserialize_with = "nullable")]
    #[allow(clippy::option_option, reason = "JSON tells null from nothing")]
    max_unsupported: Option<Option<Millis>>,
    #[serde(default)]
    dispatch_timer: Option<Millis>,
    #[serde(default)]
    step_order: Option<StepOrder>,
    #[serde(default)]
    reservation: Option<Reservation>,
    #[serde(default)]
    loss_noticed_after: Option<Millis>,
    #[serde(default)]
    started_before: Millis,
}

#[allow(clippy::option_option, reason = "JSON tells null from nothing")]
fn nullable<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<Millis>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl From<SettingsInFile> for Settings {
    fn from(file: SettingsInFile) -> Self {
        let default = match file.protocol {
            Protocol::Classic => Self::CLASSIC,
            Protocol::Rest => Self::REST,
        };
        Self {
            protocol: file.protocol,
            max_unsupported: file.max_unsupported.unwrap_or(default.max_unsupported),
            dispatch_timer: file.dispatch_timer.unwrap_or(default.dispatch_timer),
            step_order: file.step_order.unwrap_or(default.step_order),
            reservation: file.reservation.unwrap_or(default.reservation),
            loss_noticed_after: file.loss_noticed_after.unwrap_or(default.loss_noticed_after),
            started_before: file.started_before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_from_its_start() {
        let next = |started_before: u64, now: u64| {
            let started_before = Millis::from_seconds(started_before);
            let settings = Settings { started_before, ..Settings::CLASSIC };
            settings.next_look(Millis::from_seconds(now)).0 / 1000
        };
        assert_eq!([next(0, 0), next(0, 29), next(0, 30)], [30, 30, 60]);
        assert_eq!([next(12, 0), next(12, 18), next(72, 0)], [18, 48, 18]);
        let rest = Settings { started_before: Millis::from_seconds(100), ..Settings::REST };
        assert_eq!(rest.next_look(Millis::ZERO), Millis::from_seconds(20));
    }
}
