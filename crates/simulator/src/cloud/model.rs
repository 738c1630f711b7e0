//! How machines of one type behave.

use serde::{Deserialize, Serialize};

use super::{Share, Tariff};
use crate::engine::{Distribution, Millis};

/// How machines of one type behave when nothing fails, and their cost.
///
/// The defaults are typical for on-demand machines of the large clouds; measure your own farm for better numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MachineModel {
    /// From the request until the boot starts.
    pub create: Distribution,
    /// From there until it is up.
    pub boot: Distribution,
    /// From the request to start a stopped machine until it is up; `None`: same as `boot`.
    pub restart: Option<Distribution>,
    /// The first deployment of a new machine.
    pub first_deploy: Distribution,
    /// The first deployment after it was stopped and started again, when it already has its system; `None`: same as
    /// `redeploy`.
    pub restart_deploy: Option<Distribution>,
    /// Every later deployment.
    pub redeploy: Distribution,
    /// From the request to stop until it is off.
    pub stop: Distribution,
    /// From the request to destroy until it is gone.
    pub destroy: Distribution,
    /// Duration of draining a REST builder.
    pub drain: Distribution,
    /// Number of cores: concurrent steps that need more slow each other down.
    pub cores: u32,
    /// Percentage of a step's duration that is not building: copying inputs and outputs, or waiting for that. It was 30
    /// % on a real Hydra. Neither other steps nor the machine's speed change this part.
    pub copy_percent: u32,
    /// Its cost.
    pub tariff: Tariff,
    /// Whether and when the provider interrupts it.
    pub spot: Option<Spot>,
    /// How many machines of the type run at most, because their host has no room for more; `None`: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<u32>,
}

/// A machine that the provider may interrupt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spot {
    /// Time until the interruption, from when it is up.
    pub life: Distribution,
    /// How long before the interruption it is announced (EC2: two minutes). The provisioner receives the notice unless
    /// the farm's `notices` are `ignored`; builds continue until the end.
    pub notice: Millis,
}

impl Default for MachineModel {
    fn default() -> Self {
        Self {
            create: Distribution::fixed_seconds(10),
            boot: Distribution::fixed_seconds(50),
            restart: None,
            first_deploy: Distribution::fixed_seconds(60),
            restart_deploy: None,
            redeploy: Distribution::fixed_seconds(2),
            stop: Distribution::fixed_seconds(30),
            destroy: Distribution::fixed_seconds(5),
            drain: Distribution::fixed_seconds(2),
            cores: 4,
            copy_percent: 30,
            tariff: Tariff::default(),
            spot: None,
            room: None,
        }
    }
}

impl MachineModel {
    /// Behavior of the machine with that number, counted per type from 0.
    #[must_use]
    pub fn of_machine(mut self, number: u64) -> Self {
        let Self {
            create,
            boot,
            restart,
            first_deploy,
            restart_deploy,
            redeploy,
            stop,
            destroy,
            drain,
            cores: _,
            copy_percent: _,
            tariff: _,
            spot,
            room: _,
        } = &mut self;
        let always = [create, boot, first_deploy, redeploy, stop, destroy, drain];
        let reported = restart.iter_mut().chain(restart_deploy);
        let of_spot = spot.iter_mut().map(|spot| &mut spot.life);
        for times in always.into_iter().chain(reported).chain(of_spot) {
            *times = times.of_machine(number);
        }
        self
    }

    /// Whether all of its times are the same with every seed.
    pub fn is_fixed(&self) -> bool {
        let is_fixed = |(_, times): &(_, &Distribution)| {
            matches!(times, Distribution::Fixed(_) | Distribution::InOrder(_))
        };
        self.spot.is_none() && self.distributions().iter().all(is_fixed)
    }

    /// The resources that its steps share.
    pub fn share(&self) -> Share {
        Share { cores: self.cores, copy_percent: self.copy_percent }
    }

    /// Every distribution, with its name in files.
    pub fn distributions(&self) -> Vec<(&'static str, &Distribution)> {
        let Self {
            create,
            boot,
            restart,
            first_deploy,
            restart_deploy,
            redeploy,
            stop,
            destroy,
            drain,
            cores: _,
            copy_percent: _,
            tariff: _,
            spot,
            room: _,
        } = self;
        let mut all = vec![
            ("create", create),
            ("boot", boot),
            ("firstDeploy", first_deploy),
            ("redeploy", redeploy),
            ("stop", stop),
            ("destroy", destroy),
            ("drain", drain),
        ];
        all.extend(restart.iter().map(|restart| ("restart", restart)));
        all.extend(restart_deploy.iter().map(|deploy| ("restartDeploy", deploy)));
        all.extend(spot.iter().map(|spot| ("spot.life", &spot.life)));
        all
    }
}
