//! What the reconciler remembers of one machine, apart from its provider's last report.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::left_out::is_default;
use crate::spending::{Charged, Paid};
use crate::time::{Seconds, Timestamp};

/// The memory of one machine. A machine that was just found has the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one machine")]
pub struct Memory {
    /// Since when we know it: when it was requested, or first listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_since: Option<Timestamp>,
    /// When it was requested; `None`: found by its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Timestamp>,
    /// Since when it is ready: deployed, and since then not off, rebooted or drained. A machine that stops answering stays
    /// ready (`unreachable_since`). `None`: not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Timestamp>,
    /// The billed time. `None` while it costs nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<Paid>,
    /// The last charge that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charged: Option<Charged>,
    /// Its latest operations failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// The operation under way on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_way: Option<UnderWay>,
    /// Whether the machines file names it.
    #[serde(alias = "listed", skip_serializing_if = "is_default")]
    pub in_machines_file: InMachinesFile,
    /// Since when the machines file has named it without a break, if it does and this is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_since: Option<Timestamp>,
    /// Whether the queue runner last listed it as disabled although the machines file named it: it may not read that file
    /// any more, or know the machine by another name (`updateCommand`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled_though_published: bool,
    /// When its provider announced an interruption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted_at: Option<Timestamp>,
    /// Steps that it has built, as far as the queue runner counted them.
    #[serde(skip_serializing_if = "is_default")]
    pub steps_built: u64,
    /// The digest of the settings that it was made from ([`crate::RotationPolicy::settings`] when it was requested).
    #[serde(alias = "settings", skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
    /// Set while it is being released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// Whether the latest plan gave it no new builds, although it stays. Without a queue status it gets none either.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_builds: bool,
    /// Its provider does not list it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// When it was destroyed. Its provider may still list it for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroyed_at: Option<Timestamp>,
    /// Since when [`crate::Plan::unhealthy`] has named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_since: Option<Timestamp>,
    /// Since when it has built without finishing a step; `None`: it builds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Since when it has not answered over ssh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<Timestamp>,
    /// It booted, was not ready since, and does not answer over ssh yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits_ssh: Option<AwaitsSsh>,
    /// Further endpoints that may identify it in the queue runner: each that was ever published for it
    /// (classic), each host name that it ever had (REST).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub published: BTreeSet<Endpoint>,
    /// Whether a queue status has shown this machine under one of its names since it was last created or started. Then an
    /// unknown busy builder is some other machine. (REST: only once its builder was stopped; until then it may register
    /// again under another name.)
    #[serde(alias = "knownToQueue", skip_serializing_if = "std::ops::Not::not")]
    pub was_in_queue_status: bool,
    /// REST: the machine could not be asked for its host name when it was deployed, so the name is only its provider's
    /// word.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub name_is_unconfirmed: bool,
    /// Whether it was read from the state database and not deployed since. What the last run did to it may not be recorded:
    /// for example, that its builder was stopped.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
}

impl Memory {
    /// Shifts all times by `seconds`, because the clock was set. All fields are destructured, so that none is
    /// forgotten.
    pub fn shift(&mut self, seconds: i64) {
        let Self {
            known_since,
            requested_at,
            ready_since,
            paid,
            charged,
            failing,
            under_way,
            in_machines_file: _,
            published_since,
            disabled_though_published: _,
            interrupted_at,
            steps_built: _,
            made_from: _,
            leaving: _,
            without_builds: _,
            missing,
            destroyed_at,
            unhealthy_since,
            progress,
            unreachable_since,
            awaits_ssh,
            published: _,
            was_in_queue_status: _,
            name_is_unconfirmed: _,
            restored: _,
        } = self;
        let times = [
            known_since.as_mut(),
            requested_at.as_mut(),
            ready_since.as_mut(),
            paid.as_mut().map(|paid| &mut paid.since),
            failing.as_mut().map(|failing| &mut failing.since),
            under_way.as_mut().map(|under_way| &mut under_way.since),
            missing.as_mut().map(|missing| &mut missing.since),
            destroyed_at.as_mut(),
            published_since.as_mut(),
            interrupted_at.as_mut(),
            unhealthy_since.as_mut(),
            progress.as_mut().map(|progress| &mut progress.since),
            unreachable_since.as_mut(),
            awaits_ssh.as_mut().map(|awaits_ssh| &mut awaits_ssh.since),
        ];
        for time in times.into_iter().flatten() {
            *time = time.shifted(seconds);
        }
        if let Some(charged) = charged {
            charged.after = charged.after.shifted(seconds);
            charged.by = charged.by.shifted(seconds);
        }
        if let Some(awaits_ssh) = awaits_ssh {
            awaits_ssh.retry_at = awaits_ssh.retry_at.shifted(seconds);
        }
        if let Some(failing) = failing {
            failing.retry_at = failing.retry_at.shifted(seconds);
        }
    }
}

/// A moment in the order of questions, publications and operations. It grows by one with every question,
/// every publication that ends and every operation that ends. So "requested after" does not depend on any
/// clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// Whether the queue runner can know a machine from the machines file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InMachinesFile {
    /// It was never published.
    #[default]
    Never,
    /// The machines file names it, or such a publication is under way.
    Now,
    /// A publication without it ended at this moment.
    NoMore(Sequence),
}

/// The count of a building machine's steps, to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Progress {
    /// Steps that it had finished, as the queue runner counts them.
    pub steps_done: u64,
    /// Since when it has built without finishing another one.
    pub since: Timestamp,
}

/// The progress of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Leaving {
    /// The moment of the decision.
    pub decided: Sequence,
    /// REST: the moment when its builder was last asked to stop, with or without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<Sequence>,
}

/// Consecutive failed operations of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failing {
    /// When the first of them failed.
    pub since: Timestamp,
    /// How many; at least 1.
    pub failures: u32,
    /// No attempt before this time.
    pub retry_at: Timestamp,
    /// The operation that failed last.
    pub operation: Operation,
    /// The provider's message.
    pub error: String,
}

impl Failing {
    /// When it is tried again. A creation also waits for the end of its type's `back_off`.
    pub fn next_try(&self, back_off: Option<&BackOff>) -> Timestamp {
        let back_off = back_off.filter(|_| self.operation == Operation::Create);
        back_off.map_or(self.retry_at, |back_off| self.retry_at.max(back_off.until))
    }
}

/// The wait for the sshd of a machine. It is no failure until `deployTimeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwaitsSsh {
    /// When its first deployment began.
    pub since: Timestamp,
    /// No attempt before this time.
    pub retry_at: Timestamp,
}

/// An operation that has begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnderWay {
    /// Which.
    pub operation: Operation,
    /// When it began.
    pub since: Timestamp,
}

/// A machine that its provider does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Missing {
    /// Since the first listing without it.
    pub since: Timestamp,
    /// How long a listing may lag or be wrong before the machine counts as gone.
    pub patience: Seconds,
}

impl Missing {
    /// How long it has been missing at `now`, if that is longer than a listing may lag.
    pub fn vanished_for(self, now: Timestamp) -> Option<Seconds> {
        let missing_for = now.since(self.since);
        (missing_for >= self.patience).then_some(missing_for)
    }
}

/// An operation on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// Create it. An existing machine of that name is returned.
    Create,
    /// Start it again.
    Start,
    /// Deploy to a running machine and check that it answers (REST: start its builder).
    Deploy,
    /// Touch `/run/keep-alive` on it, so that it does not power itself off.
    KeepAlive,
    /// REST only: stop its builder, so that it gets no new builds. (Classic: it leaves the machines file instead, which is
    /// no operation.)
    Drain,
    /// Stop it; its disk is kept.
    Stop,
    /// Destroy it. If it is already gone, that is a success.
    Destroy,
}

impl Operation {
    /// Whether the machine cannot build after the operation until it is deployed again.
    pub fn stops_builds(self) -> bool {
        self == Self::Drain || self.ends_the_machine()
    }

    /// Whether the machine is gone or off after the operation.
    pub fn ends_the_machine(self) -> bool {
        matches!(self, Self::Stop | Self::Destroy)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Deploy => "deploy",
            Self::KeepAlive => "keep-alive",
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Destroy => "destroy",
        })
    }
}

/// The back-off of a type after failed creations. It remains, also after `until`, until what failed succeeds: so long, one
/// machine at a time tests whether creation works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackOff {
    /// Whether the provider had no capacity, or failed.
    pub kind: BackOffKind,
    /// Failures in a row; at least 1.
    pub failures: u32,
    /// No machine of the type is created before this time.
    pub until: Timestamp,
    /// The last error message of the provider.
    pub error: String,
    /// What ends it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ends_when: EndsWhen,
}

/// What ends the back-off of a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndsWhen {
    /// A creation succeeds: the last failure was a creation.
    #[default]
    Created,
    /// A machine is ready: the last failure was one that failed before it was ready.
    Ready,
}

/// Why a type is backed off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BackOffKind {
    /// The provider has no capacity now.
    Capacity,
    /// Anything else.
    Failure,
}

/// Steps that a machine has built, as counted by the queue runner since it has known the machine's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepsBuilt {
    /// How many.
    pub steps: u64,
    /// How long they took together.
    pub time: Seconds,
}
