//! How many machines keep the average wait at a target (`targetWait`).
//!
//! With `q` steps waiting, `r` running and an average step duration `D`, `s` slots complete `s / D` steps a
//! second. So the last step waits `q * D / s`. While the queue keeps its length, this is also the average wait
//! (Little's law; Little, "A proof for the queuing formula L = λW", Operations Research 9, 1961). For a wait of `T`:
//!
//! ```text
//! slots  = min(r + q, q * D / T)
//! wanted = ceil(slots / maxJobs)
//! ```
//!
//! `T` is `targetWait`, or two and a half times the time until a new machine is ready if that is longer. A shorter target
//! would start more machines, each with too little work for what its start costs: building for two and a half starts, at
//! most two sevenths of its paid time are its start.
//!
//! `D` is measured from earlier steps of the type. If it is wrong, or if a few long steps hold all slots, the
//! wait still exceeds the target. Therefore, while the waiting steps have waited for `W > T` on average, they also get
//! slots instead of those that running steps hold:
//!
//! ```text
//! slots = s + (r - s) * D / (D + T) + min(q, q * D / W)
//! ```
//!
//! `s` of the running steps are on machines that have finished none for longer than `T`: those hold their slots, however long `D`
//! is. `D / (D + T)` of the others still hold their slots after `T`: the probability that one of two exponential times,
//! with averages `D` and `T`, is the longer one. So short steps add almost nothing: their slots are free in time anyway. Who has
//! waited for `W` may wait as long again: more machines would end a long queue sooner, but then be idle.

use crate::policy::PoolPolicy;
use crate::sizing::{SlotsBound, SlotsWanted};
use crate::time::Seconds;

/// The load of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Waiting steps, without those left to other machines.
    pub(crate) waiting: u64,
    pub(crate) running: u64,
    /// How many of them are on machines that have finished no step for longer than the target.
    pub(crate) stuck: u64,
    pub(crate) step_time: Seconds,
    /// The average wait of the waiting steps, if known.
    pub(crate) mean_wait: Option<Seconds>,
}

/// The target of a type; its new machines are ready after `start_time`.
pub(crate) fn worth_a_start(target: Seconds, start_time: Seconds) -> Seconds {
    target.max(Seconds(start_time.0.saturating_mul(5) / 2))
}

/// The slots that `load` needs for a wait of `target`, and the machines of `pool` with that many slots.
pub(crate) fn wanted(pool: &PoolPolicy, target: Seconds, load: Load) -> (u64, SlotsWanted) {
    let Load { waiting, running, stuck, step_time, mean_wait } = load;
    let stuck = stuck.min(running);
    let all = waiting.saturating_add(running);
    let target_seconds = u128::from(target.0.max(1));
    let step_seconds = u128::from(step_time.0);
    let work = u128::from(waiting) * step_seconds;
    let max_jobs = u128::from(pool.max_jobs.max(1));
    let for_target = work.div_ceil(target_seconds * max_jobs);
    let for_all = u128::from(all).div_ceil(max_jobs);
    let late_by = mean_wait.filter(|mean_wait| waiting > 0 && *mean_wait > target);
    let (machines, tenths, bound) = match late_by {
        Some(mean_wait) => {
            let work_of_others = u128::from(running - stuck) * step_seconds;
            let held = u128::from(stuck) * 10
                + work_of_others.saturating_mul(10).div_ceil(step_seconds + target_seconds);
            let of_waiting = work.saturating_mul(10).div_ceil(u128::from(mean_wait.0));
            let tenths = held + of_waiting.min(u128::from(waiting) * 10);
            (tenths.div_ceil(10 * max_jobs), tenths, SlotsBound::Late { mean_wait, stuck })
        }
        None if work > u128::from(all) * target_seconds => {
            (for_all, u128::from(all) * 10, SlotsBound::Steps)
        }
        None => (for_target, (work * 10).div_ceil(target_seconds), SlotsBound::Target),
    };
    let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    let slots = SlotsWanted { waiting, running, step_time, target, tenths: whole(tenths), bound };
    (whole(machines), slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::System;

    fn wanted_for(max_jobs: u32, load: Load) -> (u64, u64) {
        let mut pool = PoolPolicy::new(vec![System::new("x86_64-linux")]);
        pool.max_jobs = max_jobs;
        let (machines, slots) = wanted(&pool, Seconds(400), load);
        (machines, slots.tenths)
    }

    #[test]
    fn a_started_machine_has_work_for_two_and_a_half_starts() {
        assert_eq!(worth_a_start(Seconds(300), Seconds(120)), Seconds(300));
        assert_eq!(worth_a_start(Seconds(300), Seconds(121)), Seconds(302));
        assert_eq!(worth_a_start(Seconds(300), Seconds(1700)), Seconds(4250));
        assert_eq!(worth_a_start(Seconds(300), Seconds(u64::MAX)), Seconds(u64::MAX / 2));
    }

    #[test]
    fn slots_and_machines() {
        let load = |waiting, running, step_time, mean_wait: Option<u64>| Load {
            waiting,
            running,
            stuck: 0,
            step_time: Seconds(step_time),
            mean_wait: mean_wait.map(Seconds),
        };
        let stuck = |stuck, load| Load { stuck, ..load };
        for (max_jobs, load, expected) in [
            (4, load(0, 0, 150, None), (0, 0)),
            (4, load(0, 9, 150, Some(999)), (0, 0)),
            (4, load(12, 0, 150, None), (2, 45)),
            // The displayed slots are rounded up, so that they explain the number of machines.
            (1, load(1, 0, 401, None), (1, 10)),
            (1, load(10, 0, 41, None), (2, 11)),
            // No more slots than steps.
            (1, load(3, 2, 8000, None), (5, 50)),
            (1, load(12, 2, 150, Some(400)), (5, 45)),
            // Late: 2 x 150 / 550 + 12 x 150 / 401.
            (1, load(12, 2, 150, Some(401)), (6, 51)),
            // Long builds hold all slots, whatever the average is: there are always more slots than those.
            (4, stuck(4, load(1, 4, 120, Some(10_000))), (2, 41)),
            (4, stuck(4, load(1, 5, 120, Some(10_000))), (2, 44)),
            (4, stuck(9, load(1, 4, 120, Some(10_000))), (2, 41)),
            (4, load(1, 4, 120, Some(10_000)), (1, 11)),
            (4, load(12, 2, 150, Some(401)), (2, 51)),
            // The longer they have waited, the less is another wait like that.
            (1, load(12, 2, 150, Some(1800)), (2, 16)),
            // Of long steps, most still run after the target; the waiting ones get a slot each at most.
            (1, load(12, 2, 800, Some(401)), (14, 134)),
            (1, load(12, 10, 40_000, Some(401)), (22, 220)),
            (0, load(12, 0, 150, None), (5, 45)),
            (1, load(u64::MAX, u64::MAX, u64::MAX, None), (u64::MAX, u64::MAX)),
        ] {
            assert_eq!(wanted_for(max_jobs, load), expected, "{max_jobs}, {load:?}");
        }
    }
}
