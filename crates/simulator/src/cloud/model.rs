//! How machines of one type behave.

use serde::{Deserialize, Serialize};

use super::{Share, Tariff};
use crate::engine::{Distribution, Millis};

/// How machines of one type behave when nothing goes wrong, and what they cost.
///
/// The defaults are of the size that on-demand machines of the large clouds show; who wants numbers for
/// his own farm measures these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MachineModel {
    /// From the request until it begins to boot.
    pub create: Distribution,
    /// From there until it is up.
    pub boot: Distribution,
    /// From the request to start a stopped machine until it is up; `None`: as `boot`.
    pub restart: Option<Distribution>,
    /// The first deployment of a new machine.
    pub first_deploy: Distribution,
    /// The first deployment after it was stopped and started again, when it has its system already; `None`: as
    /// `redeploy`.
    pub restart_deploy: Option<Distribution>,
    /// Every later one.
    pub redeploy: Distribution,
    /// From the request to stop until it is off.
    pub stop: Distribution,
    /// From the request to destroy until it is gone.
    pub destroy: Distribution,
    /// How long draining a REST builder takes.
    pub drain: Distribution,
    /// How many cores it has: steps that want more at once slow each other down.
    pub cores: u32,
    /// How much of a step's time is not building, in percent: inputs and outputs are copied, or it waits to be copied.
    /// On a real Hydra 30 % of the steps' time was. Neither other steps nor the machine's speed change that part.
    pub copy_percent: u32,
    /// What it costs.
    pub tariff: Tariff,
    /// Whether and when the provider takes it away.
    pub spot: Option<Spot>,
}

/// A machine that the provider may take away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spot {
    /// How long it is left, from when it is up.
    pub life: Distribution,
    /// How long before it is announced (EC2: two minutes). The provisioner hears it, unless the farm's `notices` are
    /// `unheard`; builds go on until the end.
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
        }
    }
}

impl MachineModel {
    /// How the machine of that number behaves, counted by type from 0.
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
        } = &mut self;
        let always = [create, boot, first_deploy, redeploy, stop, destroy, drain];
        let told = restart.iter_mut().chain(restart_deploy);
        let of_spot = spot.iter_mut().map(|spot| &mut spot.life);
        for times in always.into_iter().chain(told).chain(of_spot) {
            *times = times.of_machine(number);
        }
        self
    }

    /// What its steps share.
    pub fn share(&self) -> Share {
        Share { cores: self.cores, copy_percent: self.copy_percent }
    }

    /// Every distribution, by its name in a file.
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
