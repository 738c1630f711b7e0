//! How much of the host all machines may use together.

use std::collections::BTreeMap;
use std::fs;

use planner::{MachineName, MachineType, Resource};
use reconciler::OperationErrorKind;

use super::settings::Settings;
use crate::providers::ProviderError;

/// Memory in MiB and processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) memory: u64,
    pub(super) cores: u64,
}

impl Share {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { memory: settings.memory.into(), cores: settings.cores.into() }
    }

    fn least(self, other: Self) -> Self {
        Self { memory: self.memory.min(other.memory), cores: self.cores.min(other.cores) }
    }

    /// The maximum for all machines.
    fn limit(settings: &Settings) -> Self {
        Self {
            memory: settings.host_memory.unwrap_or_else(three_quarters_of_memory),
            cores: settings.host_cores.unwrap_or_else(|| {
                std::thread::available_parallelism()
                    .map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(u64::MAX))
            }),
        }
    }
}

/// The unused part of the host's share for machines of `types`, which are configured, besides those in `used`.
pub(super) fn resources(
    types: &BTreeMap<&MachineType, &Settings>,
    used: &BTreeMap<MachineName, Share>,
) -> Vec<Resource> {
    let Some(limit) = types.values().copied().map(Share::limit).reduce(Share::least) else {
        return Vec::new();
    };
    let resource = |what: &str, part: fn(&Share) -> u64| Resource {
        name: format!("{what} of the {} that machines may use of this host", part(&limit)),
        free: part(&limit).saturating_sub(used.values().map(part).fold(0, u64::saturating_add)),
        needs: types
            .iter()
            .map(|(t, settings)| ((*t).clone(), part(&Share::of(settings))))
            .collect(),
    };
    vec![
        resource("MiB (hostMemory)", |share| share.memory),
        resource("cores (hostCores)", |share| share.cores),
    ]
}

/// Admits a machine with the share `wanted` besides those in `used`, within the limits of `settings`, or reports what is
/// short.
///
/// # Errors
/// [`OperationErrorKind::Capacity`], with all numbers.
pub(super) fn admit(
    settings: &Settings,
    wanted: Share,
    used: &BTreeMap<MachineName, Share>,
) -> Result<(), ProviderError> {
    let limit = Share::limit(settings);
    let sum = |part: fn(&Share) -> u64| used.values().map(part).fold(0, u64::saturating_add);
    let (memory, cores) = (sum(|share| share.memory), sum(|share| share.cores));
    if memory.saturating_add(wanted.memory) <= limit.memory
        && cores.saturating_add(wanted.cores) <= limit.cores
    {
        return Ok(());
    }
    Err(ProviderError {
        kind: OperationErrorKind::Capacity,
        message: format!(
            "this host has no room: it needs {} MiB and {} cores, the {} running machines have {memory} of {} MiB and {cores} of {} cores (hostMemory, hostCores)",
            wanted.memory,
            wanted.cores,
            used.len(),
            limit.memory,
            limit.cores
        ),
    })
}

/// `MemTotal` of proc(5). Zero if it cannot be read, so that nothing starts.
fn three_quarters_of_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(0, |kib: u64| kib / 1024 / 4 * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_cores_are_each_a_limit() {
        let mut settings = Settings::new("/image".into());
        (settings.memory, settings.cores) = (1000, 2);
        (settings.host_memory, settings.host_cores) = (Some(3000), Some(5));
        let share = Share::of(&settings);
        let used = |count: usize| -> BTreeMap<_, _> {
            (0..count).map(|n| (MachineName::new(format!("m-{n}")), share)).collect()
        };
        for (count, admitted) in [(0, true), (1, true), (2, false), (3, false)] {
            assert_eq!(admit(&settings, share, &used(count)).is_ok(), admitted, "{count}");
        }
        let error = admit(&settings, share, &used(2)).unwrap_err();
        assert_eq!(error.kind, OperationErrorKind::Capacity);
        assert_eq!(
            error.message,
            "this host has no room: it needs 1000 MiB and 2 cores, the 2 running machines have 2000 of 3000 MiB and 4 of 5 cores (hostMemory, hostCores)"
        );
        settings.host_cores = Some(100);
        assert!(admit(&settings, share, &used(2)).is_ok());
        assert!(admit(&settings, share, &used(3)).is_err());
        assert!(three_quarters_of_memory() > 100, "this host has memory");
    }
}
