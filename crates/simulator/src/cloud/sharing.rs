//! Steps that share a machine's cores.
//!
//! Processor sharing (Kleinrock 1967): each step needs some cores; if all steps of a machine together need more than it
//! has, each gets the same fraction. Part of a step's duration is not building (its inputs and outputs are copied, or
//! it waits for a slot to copy): that part takes no cores, and neither other steps nor a fast machine change it. It is
//! spread evenly over the step, so that nothing happens between its start and its end.

use crate::engine::Millis;
use crate::queue_runner::Start;
use crate::workload::StepIndex;

/// Full speed, in millionths.
const FULL: u128 = 1_000_000;

/// The resources of a machine that its steps share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of cores, at least 1.
    pub cores: u32,
    /// Percentage of a step's duration that takes no core, at most 100.
    pub copy_percent: u32,
}

/// A step that starts on a machine.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Its id.
    pub start: Start,
    /// Its duration alone on a machine of speed 1 with enough cores.
    pub length: Millis,
    /// Number of cores that it needs; `None`: all.
    pub cores: Option<u32>,
    /// The machine's speed for it, in thousandths, at least 1.
    pub speed_thousandths: u64,
}

/// The steps on one machine.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    running: Vec<Running>,
    /// Their progress is counted until then.
    counted_until: Millis,
}

#[derive(Clone, Debug)]
struct Running {
    job: Job,
    /// Remaining length, in millionths of a millisecond.
    left: u128,
    /// Progress per millisecond, in millionths, at least 1.
    rate: u128,
    due: Millis,
}

impl Sharing {
    /// Starts a step. Steps that now end at another time are added to `due`.
    pub fn begin(&mut self, share: Share, job: Job, now: Millis, due: &mut Vec<(Start, Millis)>) {
        self.count_until(now);
        let left = u128::from(job.length.0.max(1)) * FULL;
        self.running.push(Running { job, left, rate: FULL, due: Millis::NEVER });
        self.set_rates(share, now, due);
    }

    /// Ends a step, done or not. Returns whether it was there.
    pub fn end(
        &mut self,
        share: Share,
        step: StepIndex,
        now: Millis,
        due: &mut Vec<(Start, Millis)>,
    ) -> bool {
        let Some(at) = self.running.iter().position(|one| one.job.start.step == step) else {
            return false;
        };
        self.count_until(now);
        self.running.remove(at);
        self.set_rates(share, now, due);
        true
    }

    /// Ends all steps.
    pub fn clear(&mut self) {
        self.running.clear();
    }

    /// Whether the step is done now, by its latest end time.
    pub fn is_due(&self, start: Start, now: Millis) -> bool {
        self.running.iter().any(|one| one.job.start == start && one.due == now)
    }

    fn count_until(&mut self, now: Millis) {
        let length = u128::from(now.since(self.counted_until).0);
        self.counted_until = now;
        for one in &mut self.running {
            one.left = one.left.saturating_sub(length * one.rate);
        }
    }

    fn set_rates(&mut self, share: Share, now: Millis, due: &mut Vec<(Start, Millis)>) {
        let cores = u128::from(share.cores.max(1));
        let copies = u128::from(share.copy_percent.min(100));
        let wanted: u128 = self.running.iter().map(|one| one.job.wanted(cores).min(cores)).sum();
        // In hundredths of a core: a step takes none while it copies.
        let (offered, wanted) = (cores * 100, wanted * (100 - copies));
        for one in &mut self.running {
            one.rate = one.job.rate(cores, copies, offered.min(wanted).max(1), wanted.max(1));
            let left = one.left.div_ceil(one.rate);
            let at = now + Millis(u64::try_from(left).unwrap_or(u64::MAX));
            if at != one.due {
                one.due = at;
                due.push((one.job.start, at));
            }
        }
    }
}

impl Job {
    fn wanted(&self, cores: u128) -> u128 {
        self.cores.map_or(cores, |cores| u128::from(cores.max(1)))
    }

    /// `1 / (c + (1 - c) / b)`, where `c` is the fraction that copies and `b` the speed of the rest: the machine's
    /// speed, limited by the cores that it has of those needed, and by `given / wanted` of all steps.
    fn rate(&self, cores: u128, copies: u128, given: u128, wanted: u128) -> u128 {
        let own = self.wanted(cores);
        let above = u128::from(self.speed_thousandths.max(1)) * own.min(cores) * given;
        let below = 1000 * own * wanted;
        (FULL * 100 * above / (copies * above + (100 - copies) * below)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue_runner::Host;

    fn job(step: u32, seconds: u64, cores: Option<u32>, speed_thousandths: u64) -> Job {
        let start = Start { step: StepIndex(step), run: 1, host: Host(0) };
        Job { start, length: Millis::from_seconds(seconds), cores, speed_thousandths }
    }

    /// When each job ends, in seconds, if all begin at once.
    fn ends(share: Share, jobs: &[Job]) -> Vec<u64> {
        let mut sharing = Sharing::default();
        let mut due = Vec::new();
        for job in jobs {
            sharing.begin(share, *job, Millis::ZERO, &mut due);
        }
        let mut ends = vec![0; jobs.len()];
        while !sharing.running.is_empty() {
            let (start, now) = due.iter().copied().min_by_key(|(_, at)| *at).unwrap();
            due.retain(|one| *one != (start, now));
            if sharing.is_due(start, now) {
                ends[start.step.position()] = (now.0 + 500) / 1000;
                assert!(sharing.end(share, start.step, now, &mut due));
            }
        }
        ends
    }

    /// Calculated by hand.
    #[test]
    fn cores_are_shared() {
        let share = |cores, copy_percent| Share { cores, copy_percent };
        for (share, jobs, expected) in [
            // Enough cores for all: nothing waits.
            (share(4, 0), vec![job(0, 100, Some(1), 1000); 1], vec![100]),
            (
                share(2, 0),
                vec![job(0, 100, Some(1), 1000), job(1, 50, Some(1), 1000)],
                vec![100, 50],
            ),
            // Two on one core: both at half speed until the shorter is done.
            (
                share(1, 0),
                vec![job(0, 100, Some(1), 1000), job(1, 50, Some(1), 1000)],
                vec![150, 100],
            ),
            // A step that needs all cores beside one that needs one of four: five needed, four available.
            (share(4, 0), vec![job(0, 80, None, 1000), job(1, 80, Some(1), 1000)], vec![100, 100]),
            // It was recorded on 8 cores; this machine has 2.
            (share(2, 0), vec![job(0, 100, Some(8), 1000)], vec![400]),
            // A machine twice as fast: copying does not become faster.
            (share(4, 0), vec![job(0, 100, Some(1), 2000)], vec![50]),
            (share(4, 40), vec![job(0, 100, Some(1), 2000)], vec![70]),
            // Copying takes no core: two on one core need 1.4, and 70 % take 1.4 times as long.
            (
                share(1, 30),
                vec![job(0, 100, Some(1), 1000), job(1, 100, Some(1), 1000)],
                vec![128, 128],
            ),
            (
                share(1, 100),
                vec![job(0, 100, Some(1), 1000), job(1, 100, Some(1), 1000)],
                vec![100, 100],
            ),
        ] {
            assert_eq!(ends(share, &jobs), expected, "{share:?} {jobs:?}");
        }
    }

    #[test]
    fn times_without_contention_are_exact() {
        let share = Share { cores: 4, copy_percent: 30 };
        let mut sharing = Sharing::default();
        let mut due = Vec::new();
        let odd = Job { length: Millis(12_345_677), ..job(0, 0, Some(1), 1000) };
        sharing.begin(share, odd, Millis(1), &mut due);
        sharing.begin(share, job(1, 7, Some(1), 1000), Millis(2), &mut due);
        assert!(sharing.end(share, StepIndex(1), Millis(3), &mut due));
        assert_eq!(
            due,
            [(odd.start, Millis(12_345_678)), (job(1, 7, None, 1).start, Millis(7_002))]
        );
        assert!(!sharing.end(share, StepIndex(1), Millis(3), &mut due));
    }
}
