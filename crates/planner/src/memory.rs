//! What the reconciler remembers of one machine, beside what its provider last told of it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::spending::Paid;
use crate::time::{Seconds, Timestamp};

/// The memory of one machine. A machine that was only just found has the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Memory {
    /// Since when we know of it: when it was asked for, or first listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_since: Option<Timestamp>,
    /// When it was asked for; `None` for a machine that was found by its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Timestamp>,
    /// Since when it is ready for builds: deployed and reachable. `None`: not yet, or not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Timestamp>,
    /// The time that it costs. `None` while it costs nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<Paid>,
    /// Its latest operations failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// What is being done with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_way: Option<UnderWay>,
    /// Whether the queue runner can know it from us.
    #[serde(skip_serializing_if = "Listed::is_never")]
    pub listed: Listed,
    /// Set while it is to be released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// Its provider does not list it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// When it was destroyed. Its provider may go on listing it for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroyed_at: Option<Timestamp>,
    /// Since when [`crate::Plan::unhealthy`] has named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_since: Option<Timestamp>,
    /// Since when it has not answered to ssh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<Timestamp>,
    /// Every place under which the queue runner may know it besides: each that was ever published for it
    /// (classic), each host name that it ever had (REST).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub published: BTreeSet<Endpoint>,
    /// Whether the queue runner has listed it under one of its names since it was last started. Once it is not
    /// listed any more it builds under no other name either (REST: once its builder was stopped, too).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub known_to_queue: bool,
}

impl Memory {
    /// Moves all times by `seconds`, since the clock was set. Every field is taken apart, so that none is forgotten.
    pub fn shift(&mut self, seconds: i64) {
        let Self {
            known_since,
            requested_at,
            ready_since,
            paid,
            failing,
            under_way,
            listed: _,
            leaving: _,
            missing,
            destroyed_at,
            unhealthy_since,
            unreachable_since,
            published: _,
            known_to_queue: _,
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
            unhealthy_since.as_mut(),
            unreachable_since.as_mut(),
        ];
        for time in times.into_iter().flatten() {
            *time = time.shifted(seconds);
        }
        if let Some(failing) = failing {
            failing.retry_at = failing.retry_at.shifted(seconds);
        }
    }
}

/// A moment in the order of what was asked and published. It grows by one with every question to the queue
/// runner, every publication that ends and every drain that ends, so that "asked for after" has one meaning
/// that no clock can bend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// Whether the queue runner can know a machine from the machines file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Listed {
    /// It was never published.
    #[default]
    Never,
    /// The machines file names it, or a publication that does is under way.
    Now,
    /// A publication without it has ended at this moment.
    NoMore(Sequence),
}

impl Listed {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
    fn is_never(&self) -> bool {
        *self == Self::Never
    }
}

/// How far a machine is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Leaving {
    /// The moment when it was decided.
    pub decided: Sequence,
    /// The moment when its latest drain ended, with success or without (REST: its builder is stopped).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<Sequence>,
}

/// Operations of one machine that failed one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failing {
    /// When the first of them failed.
    pub since: Timestamp,
    /// How many; at least 1.
    pub failures: u32,
    /// Nothing is tried before.
    pub retry_at: Timestamp,
    /// The operation that failed last.
    pub operation: Operation,
    /// In its provider's words.
    pub error: String,
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
    /// How long a listing may lag or err before the machine counts as gone.
    pub patience: Seconds,
}

/// One thing that is done with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// Create it; a machine of that name that is there already is the answer.
    Create,
    /// Start it again.
    Start,
    /// Bring a machine that is up to date and see that it answers (REST: start its builder).
    Deploy,
    /// Touch `/run/keep-alive` on it, so that it does not power itself off.
    KeepAlive,
    /// See to it that it gets no new builds, beyond leaving the machines file (REST: stop its builder).
    Drain,
    /// Stop it; its disk is kept.
    Stop,
    /// Destroy it; one that is gone is a success.
    Destroy,
}

impl Operation {
    /// Whether the machine can build nothing more once it has ended, until it is deployed again.
    pub fn takes_builds_away(self) -> bool {
        self == Self::Drain || self.ends_the_machine()
    }

    /// Whether the machine is gone or off once it has ended.
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

/// A type whose creations failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackOff {
    /// Whether the provider had no capacity, or failed.
    pub kind: BackOffKind,
    /// Failures in a row; at least 1.
    pub failures: u32,
    /// No machine of the type is created before.
    pub until: Timestamp,
    /// The last error, in the provider's words.
    pub error: String,
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
