//! The machines that the queue runner knows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use planner::{DemandKey, Feature, PoolPolicy, System, systems_built_by};

use crate::engine::{Millis, Random};
use crate::workload::StepIndex;

/// A host as the queue runner identifies it: by address (classic) or by its own host name (REST).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(pub u32);

impl Host {
    /// Its address: unique, private (RFC 1918).
    pub fn ip(self) -> IpAddr {
        let [_, a, b, c] = (self.0 + 1).to_be_bytes();
        IpAddr::from([10, a, b, c])
    }

    /// Its address as text.
    pub fn address(self) -> String {
        self.ip().to_string()
    }

    /// The host of that address, if it is one of the simulation's.
    pub fn at(address: &planner::Host) -> Option<Self> {
        let IpAddr::V4(address) = address.ip()? else { return None };
        let [10, a, b, c] = address.octets() else { return None };
        u32::from_be_bytes([0, a, b, c]).checked_sub(1).map(Self)
    }

    /// The machine's own host name.
    pub fn name(self) -> String {
        format!("builder-{}", self.0)
    }
}

/// A machine's capacity: a line of the machines file, or a builder's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its systems.
    pub systems: Vec<System>,
    /// All features that it offers, including the mandatory ones.
    pub supported_features: Vec<Feature>,
    /// Features that a step must require.
    pub mandatory_features: Vec<Feature>,
    /// Concurrent steps, at least 1.
    pub max_jobs: u32,
    /// Relative speed in thousandths, at least 1.
    pub speed_thousandths: u32,
}

/// The capacity of a machine of the type.
/// What a machine of the pool offers, in the machines file or as a builder.
impl From<&PoolPolicy> for Offer {
    fn from(pool: &PoolPolicy) -> Self {
        let features = pool.supported_features.union(&pool.mandatory_features);
        Self {
            systems: systems_built_by(pool),
            supported_features: features.cloned().collect(),
            mandatory_features: pool.mandatory_features.iter().cloned().collect(),
            max_jobs: pool.max_jobs.max(1),
            speed_thousandths: pool.speed_factor.thousandths.max(1),
        }
    }
}

impl Offer {
    /// `Machine::supportsStep` of the C++ queue runner, `get_machine_for_system` of the Rust one.
    pub fn supports(&self, kind: &DemandKey) -> bool {
        let supports = |feature| is_local(feature) || self.supported_features.contains(feature);
        self.systems.contains(&kind.system)
            && self.mandatory_features.iter().all(|feature| kind.features.contains(feature))
            && kind.features.iter().all(supports)
    }
}

/// `preferLocalBuild`: the classic queue runner shows it as a feature of the step. No machine needs to offer it, but it
/// counts for machines that have it as a mandatory feature (`Machine::supportsStep` in `state.hh`).
pub(super) fn is_local(feature: &Feature) -> bool {
    feature.as_str() == "local"
}

/// Whether steps may start on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// In the machines file (classic), connected (REST).
    Yes,
    /// It left the machines file; the classic queue runner remembers it (`parseMachines`).
    No,
}

#[derive(Clone, Debug)]
pub(super) struct Builder {
    pub(super) listed: Listed,
    pub(super) offer: Offer,
    /// Kinds of steps that it supports.
    pub(super) kinds: Vec<u16>,
    /// Steps that hold its slots.
    pub(super) jobs: BTreeSet<StepIndex>,
    /// Built steps that are copied from it, without a slot.
    pub(super) copying: BTreeSet<StepIndex>,
    /// Since when it has no job; `None` while busy, and for a classic machine that never had one.
    pub(super) idle_since: Option<Millis>,
    pub(super) steps_done: u64,
    /// Total duration of its steps.
    pub(super) total_step_time: Millis,
    pub(super) consecutive_failures: u32,
    pub(super) last_failure: Option<Millis>,
    pub(super) disabled_until: Millis,
}

impl Builder {
    pub(super) fn new(offer: Offer, kinds: &[DemandKey], idle_since: Option<Millis>) -> Self {
        let mut builder = Self {
            listed: Listed::Yes,
            kinds: Vec::new(),
            jobs: BTreeSet::new(),
            copying: BTreeSet::new(),
            idle_since,
            steps_done: 0,
            total_step_time: Millis::ZERO,
            consecutive_failures: 0,
            last_failure: None,
            disabled_until: Millis::ZERO,
            offer,
        };
        builder.find_kinds(kinds);
        builder
    }

    pub(super) fn update(&mut self, offer: &Offer, kinds: &[DemandKey]) {
        self.listed = Listed::Yes;
        if self.offer != *offer {
            self.offer = offer.clone();
            self.find_kinds(kinds);
        }
    }

    fn find_kinds(&mut self, kinds: &[DemandKey]) {
        self.kinds = (0_u16..)
            .zip(kinds)
            .filter(|(_, kind)| self.offer.supports(kind))
            .map(|(at, _)| at)
            .collect();
    }

    pub(super) fn current_jobs(&self) -> u64 {
        self.jobs.len() as u64
    }

    pub(super) fn can_start(&self, now: Millis) -> bool {
        self.listed == Listed::Yes
            && self.current_jobs() < u64::from(self.offer.max_jobs)
            && (self.consecutive_failures == 0 || self.disabled_until <= now)
    }

    /// It could not be reached: it is disabled with back-off (`State::buildRemote` in `build-remote.cc`), at most once
    /// in 30 s because several steps may have failed together. Returns until when.
    pub(super) fn failed(&mut self, now: Millis, random: &mut Random) -> Option<Millis> {
        let counts = self.consecutive_failures == 0
            || self.last_failure.is_none_or(|last| last + Millis::from_seconds(30) < now);
        counts.then(|| {
            self.consecutive_failures = (self.consecutive_failures + 1).min(4);
            self.last_failure = Some(now);
            let delay = super::back_off(self.consecutive_failures);
            let rng = Millis::from_seconds(random.below(30));
            self.disabled_until = now + delay + rng;
            self.disabled_until
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Purpose, Seed};

    fn names<T>(list: &str, new: impl Fn(&str) -> T) -> Vec<T> {
        list.split(',').filter(|name| !name.is_empty()).map(new).collect()
    }

    fn offer(systems: &str, supported: &str, mandatory: &str) -> Offer {
        Offer {
            systems: names(systems, |n| System::new(n)),
            supported_features: names(supported, |n| Feature::new(n)),
            mandatory_features: names(mandatory, |n| Feature::new(n)),
            max_jobs: 1,
            speed_thousandths: 1000,
        }
    }

    #[test]
    fn features_decide() {
        for (offered, system, features, supports) in [
            (offer("a,b", "", ""), "a", "", true),
            (offer("a,b", "", ""), "c", "", false),
            (offer("a", "", ""), "a", "kvm", false),
            (offer("a", "kvm,big", ""), "a", "kvm", true),
            (offer("a", "kvm,big", "kvm"), "a", "big", false),
            (offer("a", "kvm,big", "kvm"), "a", "", false),
            (offer("a", "kvm,big", "kvm"), "a", "big,kvm", true),
            (offer("a", "", ""), "a", "local", true),
            (offer("a", "", ""), "a", "kvm,local", false),
            (offer("a", "local", "local"), "a", "", false),
            (offer("a", "local", "local"), "a", "local", true),
        ] {
            let kind = DemandKey {
                system: System::new(system),
                features: names(features, |n| Feature::new(n)).into_iter().collect(),
            };
            assert_eq!(offered.supports(&kind), supports, "{offered:?} {kind}");
        }
    }

    #[test]
    fn failures_disable_longer_and_longer() {
        let mut builder = Builder::new(offer("a", "", ""), &[], None);
        let mut random = Seed(1).stream(Purpose::Test, 0);
        let mut now = Millis::ZERO;
        for (least, most) in [(60, 89), (180, 209), (540, 569), (1620, 1649), (1620, 1649)] {
            let until = builder.failed(now, &mut random).unwrap();
            let length = until.since(now).whole_seconds();
            assert!((least..=most).contains(&length), "{length}");
            assert_eq!(builder.failed(now + Millis(30_000), &mut random), None, "the same trouble");
            assert!(!builder.can_start(until.since(Millis(1))));
            assert!(builder.can_start(until));
            now = until;
        }
    }

    #[test]
    fn hosts_have_addresses() {
        assert_eq!(Host(0).address(), "10.0.0.1");
        assert_eq!(Host(255).address(), "10.0.1.0");
        assert_eq!(Host(7).name(), "builder-7");
        assert_eq!(Host::at(&planner::Host::new("10.0.1.0")), Some(Host(255)));
        assert_eq!(Host::at(&planner::Host::new("10.0.0.0")), None);
        assert_eq!(Host::at(&planner::Host::new("192.168.0.1")), None);
    }
}
