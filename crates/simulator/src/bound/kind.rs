//! The performance of a machine type, as the bounds see it.

use planner::PoolPolicy;

use super::{dollars, seconds};
use crate::cloud::{MachineModel, Tariff};
use crate::engine::Distribution;
use crate::queue_runner::Settings;

/// The performance of a machine of one type.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Minimum dollars per second.
    pub(super) price: f64,
    /// Real dollars per second.
    pub(super) tariff: Tariff,
    /// Minimum paid seconds before its first step.
    pub(super) start: f64,
    /// The same, as expected of a new machine.
    pub(super) usual_start: f64,
    /// Concurrent steps of one core that do not slow each other down.
    pub(super) places: usize,
    /// Seconds of recorded step time per second, all slots together, at most.
    pub(super) throughput: f64,
    /// Seconds that it takes at least for a second of recorded step time.
    pub(super) stretch: f64,
    /// The same, at most: with the widest steps in all its slots.
    pub(super) slowest: f64,
    cores: f64,
    pace: Pace,
    frees_early: bool,
}

/// How fast a machine builds a step.
#[derive(Clone, Copy, Debug)]
struct Pace {
    speed: f64,
    /// Share of a step that copies, from 0 to 1.
    copies: f64,
}

impl Pace {
    /// Share of a step that builds; positive, because others are divided by it.
    fn builds(self) -> f64 {
        (1.0 - self.copies).max(f64::MIN_POSITIVE)
    }

    /// Seconds for a second of recorded step time if what builds gets this share of the cores that it needs.
    fn stretch(self, share: f64) -> f64 {
        self.copies + (1.0 - self.copies) / (self.speed * share)
    }
}

impl Kind {
    /// `steps`: how many cores its steps need; `None`: all that there are.
    pub(super) fn new(
        pool: &PoolPolicy,
        model: &MachineModel,
        queue_runner: &Settings,
        steps: impl Iterator<Item = Option<u32>>,
    ) -> Self {
        let (slots, cores) = (f64::from(pool.max_jobs.max(1)), f64::from(model.cores.max(1)));
        let frees_early = queue_runner.frees_slot_early();
        let pace = Pace {
            speed: f64::from(pool.speed_factor.thousandths.max(1)) / 1000.0,
            copies: f64::from(model.copy_percent.min(100)) / 100.0,
        };
        let builds = pace.builds();
        // Steps of one core each; others only need more.
        let crowded = (cores / (slots * builds)).min(1.0);
        let early = if frees_early { 1.0 - pace.copies / 2.0 } else { 1.0 };
        let wide = steps.map(|step| step.map_or(cores, f64::from)).fold(1.0, f64::max);
        let share = (cores / (slots * wide.min(cores) * builds)).min(1.0);
        let slowest = pace.stretch(share * (cores / wide).min(1.0));
        Self {
            price: dollars(model.tariff.price.least()) / 3600.0,
            tariff: model.tariff.clone(),
            start: start(model),
            usual_start: model.boot.mean_seconds() + model.first_deploy.mean_seconds(),
            places: whole(slots.min(cores / builds)).max(1),
            throughput: slots / pace.stretch(crowded) / early,
            stretch: pace.stretch(1.0),
            // Outputs that are copied without a slot are not copied faster on a faster machine.
            slowest: if frees_early { slowest.max(1.0) } else { slowest },
            cores,
            pace,
            frees_early,
        }
    }

    /// Of [`Self::places`], those that a step of so many cores takes. `None`: all. A place is for `crowding` cores.
    pub(super) fn places_of(&self, cores: Option<u32>, crowding: f64) -> usize {
        let cores = cores.map_or(self.cores, |cores| f64::from(cores.max(1)).min(self.cores));
        whole((cores / self.cores_of_place(crowding)).ceil()).min(self.places)
    }

    /// The places of a machine with more cores than slots are for more than one core: while steps copy, they need none.
    fn cores_of_place(&self, crowding: f64) -> f64 {
        crowding.max(self.cores / (count(self.places) * self.pace.builds()))
    }

    /// Seconds for a second of recorded step time of a step of so many cores, at most, while all places are taken.
    pub(super) fn stretch_of(&self, cores: Option<u32>, crowding: f64) -> f64 {
        let needed = cores.map_or(self.cores, |cores| f64::from(cores.max(1)));
        let wanted = self.cores_of_place(crowding) * count(self.places) * (1.0 - self.pace.copies);
        let share = (self.cores / wanted.max(f64::MIN_POSITIVE)).min(1.0);
        let stretch = self.pace.stretch(share * (self.cores / needed).min(1.0));
        if self.frees_early {
            // Half of the copying is not faster on a faster machine.
            let after = self.pace.copies / 2.0;
            return stretch.max(stretch * (1.0 - after) + after);
        }
        stretch
    }

    /// The share of the price of the machine that a second of recorded step time costs, if all its places are taken.
    pub(super) fn price_of(&self, cores: Option<u32>, crowding: f64) -> f64 {
        let places = count(self.places_of(cores, crowding)) / count(self.places);
        self.price * self.stretch_of(cores, crowding) * places
    }
}

/// The minimum paid time of a machine before it builds.
fn start(model: &MachineModel) -> f64 {
    let boot = [Some(&model.boot), model.restart.as_ref()];
    let deploy = [Some(&model.first_deploy), Some(&model.redeploy), model.restart_deploy.as_ref()];
    let least = |times: &[Option<&Distribution>]| {
        let times = times.iter().flatten().map(|time| seconds(time.least()));
        times.fold(f64::INFINITY, f64::min)
    };
    // A machine that is never stopped is deployed as new; one that was stopped is at least deployed again.
    least(&boot) + least(&deploy)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn whole(number: f64) -> usize {
    number.floor() as usize
}

#[allow(clippy::cast_precision_loss, reason = "there are never 2^53 places")]
fn count(places: usize) -> f64 {
    places as f64
}
