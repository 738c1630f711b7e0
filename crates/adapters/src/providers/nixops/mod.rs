//! The `nixops` provider: NixOps 1.7 and 2.0 through their command lines, one deployment per machine.

mod export;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use planner::{Machine, MachineName, MachineState, MachineType, Tag};
use serde::{Deserialize, Serialize};

use self::export::Deployment;
use super::{Provider, ProviderContext, ProviderError};
use crate::clock::now;
use crate::command::{Invocation, Output};

/// How NixOps reports that a deployment is gone (`deployment.py`, `open_deployment`).
const GONE: &str = "could not find specified deployment";

/// `provider.nixops` in `conf.nix`. `nixopsExpr` and `nixPath` alone mean NixOps 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Program and first arguments; not empty.
    pub program: Vec<String>,
    /// NixOps 1: the file that declares the machine named `machine`.
    pub expr: Option<PathBuf>,
    /// Entries for `-I`.
    pub nix_path: Vec<String>,
    /// NixOps 2: the folder of `nixops.nix` or `flake.nix`.
    pub network: Option<PathBuf>,
    /// The state file (with NixOps 2 that of its `legacy` storage), if not NixOps' default.
    pub state_file: Option<PathBuf>,
}

impl Settings {
    /// The settings that `nixopsExpr` and `nixPath` stand for.
    pub fn classic(expr: PathBuf, nix_path: Vec<String>) -> Self {
        Self {
            program: vec!["nixops".to_owned()],
            expr: Some(expr),
            nix_path,
            network: None,
            state_file: None,
        }
    }

    /// Types with deployments in the same state file share a provider.
    pub(super) fn identity(&self) -> String {
        format!("nixops {:?} {:?} {:?}", self.program, self.network, self.state_file)
    }
}

/// Runs `nixops`.
pub struct NixopsProvider {
    tag: Tag,
    /// Program, network and state file, the same for all types.
    shared: Settings,
    types: BTreeMap<MachineType, Settings>,
    /// Held while deployments are created or deleted: two processes must not add rows to one state file at
    /// the same time.
    state_file: Mutex<()>,
}

impl NixopsProvider {
    /// For `types`, all with one identity; `None` if there are none.
    pub fn new(context: &ProviderContext, types: BTreeMap<MachineType, Settings>) -> Option<Self> {
        let shared = types.values().next()?.clone();
        Some(Self { tag: context.tag.clone(), shared, types, state_file: Mutex::new(()) })
    }

    /// `nixops VERB` with the options that locate the deployments.
    fn invocation(&self, verb: &str, limit: Duration) -> Invocation {
        let mut invocation = Invocation::new(&self.shared.program, limit).arg(verb);
        if let Some(network) = &self.shared.network {
            invocation = invocation.arg("--network").arg(network.to_string_lossy());
        }
        // Both versions read this variable; only NixOps 1 has `--state`.
        if let Some(state_file) = &self.shared.state_file {
            invocation = invocation.env("NIXOPS_STATE", state_file.to_string_lossy());
        }
        invocation
    }

    fn deployments(&self, limit: Duration) -> Result<Vec<Deployment>, ProviderError> {
        let invocation = self.invocation("export", limit).arg("--all");
        let output = succeed(&invocation)?;
        export::parse(&output.stdout).map_err(|error| {
            ProviderError::failed(format!("{}: {error}", invocation.command_line()))
        })
    }

    /// The deployment of `name`: ours, or else one that was created but neither tagged nor deployed yet.
    /// Names are not unique in NixOps: any other deployment belongs to someone else.
    fn find(
        &self,
        name: &MachineName,
        limit: Duration,
    ) -> Result<Option<Deployment>, ProviderError> {
        let deployments = self.deployments(limit)?;
        let (tagged, untagged): (Vec<_>, Vec<_>) = deployments
            .into_iter()
            .filter(|deployment| deployment.name.as_deref() == Some(name.as_str()))
            .partition(|deployment| deployment.tag.is_some());
        let ours = tagged.into_iter().find(|d| d.tag.as_deref() == Some(self.tag.as_str()));
        Ok(ours.or_else(|| untagged.into_iter().find(|deployment| deployment.is_blank)))
    }

    fn add_nix_path(&self, machine_type: &MachineType, mut invocation: Invocation) -> Invocation {
        let nix_path = self.types.get(machine_type).map_or(&[][..], |settings| &settings.nix_path);
        for entry in nix_path {
            invocation = invocation.arg("-I").arg(entry);
        }
        // So that a deployment can import <hydra-provisioner/auto-shutdown.nix>, as with the original.
        let ours = std::env::current_exe()
            .ok()
            .and_then(|program| {
                Some(program.parent()?.parent()?.join("share/nix/hydra-provisioner"))
            })
            .filter(|path| path.exists());
        if let Some(ours) = ours {
            invocation = invocation.arg("-I").arg(format!("hydra-provisioner={}", ours.display()));
        }
        invocation
    }

    /// `create -d NAME` or, if it exists, `modify -d UUID`: this gives NixOps 1 the current expression.
    fn create_or_modify(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        existing: Option<&Deployment>,
        limit: Duration,
    ) -> Result<String, ProviderError> {
        let expr = self.types.get(machine_type).and_then(|settings| settings.expr.as_ref());
        let with_expr = |mut invocation: Invocation| {
            if let Some(expr) = expr {
                invocation = invocation.arg(expr.to_string_lossy());
            }
            self.add_nix_path(machine_type, invocation)
        };
        if let Some(existing) = existing {
            if expr.is_some() {
                let modify = self.invocation("modify", limit).args(["-d", &existing.uuid]);
                succeed(&with_expr(modify))?;
            }
            return Ok(existing.uuid.clone());
        }
        let create = self.invocation("create", limit).args(["-d", name.as_str()]);
        let output = succeed(&with_expr(create))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs `nixops VERB -d UUID ARGS...`. A deployment that is gone is a success.
    fn unless_gone(
        &self,
        verb: &str,
        uuid: &str,
        args: &[&str],
        limit: Duration,
    ) -> Result<(), ProviderError> {
        let invocation = self.invocation(verb, limit).args(["-d", uuid]).args(args.iter().copied());
        let output = invocation.run().map_err(ProviderError::from)?;
        if output.succeeded() || String::from_utf8_lossy(&output.stderr).contains(GONE) {
            Ok(())
        } else {
            Err(failure(&invocation, &output))
        }
    }
}

impl Provider for NixopsProvider {
    fn list(&self, limit: Duration) -> Result<Vec<Machine>, ProviderError> {
        let now = now();
        Ok(self
            .deployments(limit)?
            .iter()
            .filter(|deployment| deployment.tag.as_deref() == Some(self.tag.as_str()))
            .filter_map(|deployment| deployment.machine(now))
            .collect())
    }

    fn create(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        _token: &str,
        limit: Duration,
    ) -> Result<Machine, ProviderError> {
        let _one_writer = self.state_file.lock().unwrap_or_else(PoisonError::into_inner);
        let existing = self.find(name, limit)?;
        let uuid = self.create_or_modify(name, machine_type, existing.as_ref(), limit)?;
        let set_args = self
            .invocation("set-args", limit)
            .args(["-d", &uuid])
            .args(["--argstr", "type", machine_type.as_str()])
            .args(["--argstr", "tag", self.tag.as_str()]);
        succeed(&set_args)?;
        let machine = existing.and_then(|deployment| deployment.machine(now()));
        // It exists; a deployment brings it up.
        Ok(machine.unwrap_or_else(|| Machine {
            state: MachineState::Unreachable,
            ..Machine::requested(name.clone(), machine_type.clone())
        }))
    }

    /// `deploy` starts a machine that is off.
    fn start(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        self.deploy(machine, limit).map(|_| ())
    }

    fn deploy(&self, machine: &Machine, limit: Duration) -> Result<Machine, ProviderError> {
        let began = Instant::now();
        let left = || limit.saturating_sub(began.elapsed());
        let name = &machine.name;
        let gone = || ProviderError::failed(format!("NixOps has no deployment {name}"));
        let deployment = self.find(name, left())?.ok_or_else(gone)?;
        {
            let _one_writer = self.state_file.lock().unwrap_or_else(PoisonError::into_inner);
            self.create_or_modify(name, &machine.machine_type, Some(&deployment), left())?;
        }
        let deploy = self.invocation("deploy", left()).args(["-d", &deployment.uuid, "--check"]);
        succeed(&self.add_nix_path(&machine.machine_type, deploy))?;
        let deployed = self.find(name, left())?.and_then(|d| d.machine(now())).ok_or_else(gone)?;
        if deployed.state == MachineState::Up {
            return Ok(deployed);
        }
        Err(ProviderError::failed(format!(
            "nixops deploy succeeded but the machine is {}; does the deployment declare `machine`?",
            deployed.state
        )))
    }

    fn stop(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let Some(deployment) = self.find(&machine.name, limit)? else {
            return Err(ProviderError::failed("NixOps has no such deployment"));
        };
        succeed(&self.invocation("stop", limit).args(["-d", &deployment.uuid, "--confirm"]))
            .map(|_| ())
    }

    fn destroy(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let Some(deployment) = self.find(&machine.name, limit)? else { return Ok(()) };
        self.unless_gone("destroy", &deployment.uuid, &["--confirm"], limit)?;
        let _one_writer = self.state_file.lock().unwrap_or_else(PoisonError::into_inner);
        self.unless_gone("delete", &deployment.uuid, &["--confirm"], limit)
    }
}

fn succeed(invocation: &Invocation) -> Result<Output, ProviderError> {
    let output = invocation.run().map_err(ProviderError::from)?;
    if output.succeeded() { Ok(output) } else { Err(failure(invocation, &output)) }
}

fn failure(invocation: &Invocation, output: &Output) -> ProviderError {
    ProviderError::failed(format!(
        "{} ended with exit code {}: {}",
        invocation.command_line(),
        output.code,
        output.stderr_tail()
    ))
}
