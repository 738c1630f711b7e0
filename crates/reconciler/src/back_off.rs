//! Back-off after failures: exponential, with jitter from a seed, and a limit.

use planner::{BackOffKind, MachineName, MachineType, Seconds};

/// The first and the longest wait.
struct Scale {
    first: Seconds,
    longest: Seconds,
}

const CREATION: Scale = Scale { first: Seconds(10), longest: Seconds(15 * 60) };
/// Capacity returns in minutes, not in seconds.
const CAPACITY: Scale = Scale { first: Seconds(60), longest: Seconds(30 * 60) };
const MACHINE: Scale = Scale { first: Seconds(5), longest: Seconds(5 * 60) };

/// The wait after the `failures`th failed creation in a row.
pub(crate) fn after_creation(
    seed: u64,
    machine_type: &MachineType,
    kind: BackOffKind,
    failures: u32,
) -> Seconds {
    let scale = match kind {
        BackOffKind::Capacity => &CAPACITY,
        BackOffKind::Failure => &CREATION,
    };
    wait(scale, seed, machine_type.as_str(), failures)
}

/// The wait after the `failures`th failure in a row of operations on one machine.
pub(crate) fn after_operation(seed: u64, name: &MachineName, failures: u32) -> Seconds {
    wait(&MACHINE, seed, name.as_str(), failures)
}

/// The wait until the next attempt to connect to a machine that has been awaited for this `long`: at most a tenth later than
/// it could be, and not too often (a deployment with NixOps takes long).
pub(crate) fn while_it_boots(long: Seconds) -> Seconds {
    Seconds((long.0 / 10).clamp(10, 60))
}

/// Doubles with every failure and varies by 10 % to either side, so that retries do not coincide.
fn wait(scale: &Scale, seed: u64, subject: &str, failures: u32) -> Seconds {
    let doublings = failures.saturating_sub(1).min(20);
    let whole = (scale.first.0 << doublings).min(scale.longest.0);
    let range = whole / 5;
    let jitter = if range == 0 { 0 } else { hash(seed, subject, failures) % (range + 1) };
    Seconds(whole - range / 2 + jitter)
}

/// FNV-1a (Fowler, Noll, Vo), then the finalizer of splitmix64 (Steele, Lea, Flood 2014): the same on every
/// machine.
fn hash(seed: u64, subject: &str, failures: u32) -> u64 {
    let bytes = subject.bytes().chain(failures.to_le_bytes());
    let mut z = bytes.fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_vary_by_a_tenth_and_have_a_limit() {
        let machine_type = MachineType::new("x86_64-linux");
        for (failures, about) in [(1, 10), (2, 20), (3, 40), (7, 640), (8, 900), (40, 900)] {
            let wait = after_creation(7, &machine_type, BackOffKind::Failure, failures).0;
            assert!(
                (about - about / 10..=about + about / 10 + 1).contains(&wait),
                "{failures}: {wait}"
            );
        }
        let capacity = after_creation(7, &machine_type, BackOffKind::Capacity, 1).0;
        assert!((54..=67).contains(&capacity), "{capacity}");
    }

    #[test]
    fn jitter_depends_on_the_seed_and_the_subject() {
        let waits: std::collections::BTreeSet<_> = (0..50)
            .map(|n| after_operation(n, &MachineName::new(format!("farm-{n}")), 7))
            .collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
