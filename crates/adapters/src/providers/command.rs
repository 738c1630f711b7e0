//! The `command` provider: the operator's own program, with a JSON protocol (protocol 1,
//! `docs/provider-protocol.md`).

use std::collections::BTreeMap;
use std::time::Duration;

use planner::{Machine, MachineName, MachineType, Tag};
use reconciler::OperationErrorKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Provider, ProviderContext, ProviderError, wait_until_up, wire};
use crate::clock::now;
use crate::command::{CommandError, Invocation, Output};

/// The exit code for "no capacity now".
const CAPACITY_EXIT_CODE: i32 = 3;

/// `provider.command` in `conf.nix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Program and first arguments; not empty.
    pub program: Vec<String>,
    /// Passed to `create` unchanged.
    #[serde(default)]
    pub options: Value,
}

/// Runs the operator's program.
pub struct CommandProvider {
    tag: Tag,
    program: Vec<String>,
    options: BTreeMap<MachineType, Value>,
}

impl CommandProvider {
    /// For `program`, with the options of each type.
    pub fn new(
        context: &ProviderContext,
        program: Vec<String>,
        options: BTreeMap<MachineType, Value>,
    ) -> Self {
        Self { tag: context.tag.clone(), program, options }
    }

    /// Runs the program and parses its answer.
    fn call<T>(
        &self,
        verb: &str,
        request: &Value,
        limit: Duration,
        read: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, ProviderError> {
        let invocation = Invocation::new(&self.program, limit).arg(verb).stdin(request.to_string());
        let output = invocation.run().map_err(ProviderError::from)?;
        let command = invocation.command_line();
        match output.code {
            0 => read(&output.stdout).map_err(|problem| {
                ProviderError::failed(format!(
                    "the output of {command} is not a protocol 1 answer to {verb}: {problem}"
                ))
            }),
            CAPACITY_EXIT_CODE => Err(ProviderError {
                kind: OperationErrorKind::Capacity,
                message: format!("{command}: no capacity now: {}", said(&output)),
            }),
            code => Err(ProviderError::failed(format!(
                "{command} ended with exit code {code}: {}",
                said(&output)
            ))),
        }
    }

    fn change(&self, verb: &str, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        let request = json!({ "protocol": 1, "tag": self.tag, "name": machine.name });
        self.call(verb, &request, limit, wire::done)
    }
}

/// The end of what it wrote to standard error.
fn said(output: &Output) -> String {
    let tail = output.stderr_tail();
    if tail.is_empty() { "it printed no message".to_owned() } else { tail }
}

impl From<CommandError> for ProviderError {
    fn from(error: CommandError) -> Self {
        let kind = match error {
            CommandError::NotStarted { .. }
            | CommandError::TooMuch { .. }
            | CommandError::Canceled { .. } => OperationErrorKind::Failed,
            CommandError::TimedOut { .. } => OperationErrorKind::TimedOut,
        };
        Self { kind, message: error.to_string() }
    }
}

impl Provider for CommandProvider {
    fn list(&self, limit: Duration) -> Result<Vec<Machine>, ProviderError> {
        let request = json!({ "protocol": 1, "tag": self.tag });
        self.call("list", &request, limit, |stdout| wire::machines(stdout, now()))
    }

    fn create(
        &self,
        name: &MachineName,
        machine_type: &MachineType,
        _token: &str,
        limit: Duration,
    ) -> Result<Machine, ProviderError> {
        let options = match self.options.get(machine_type) {
            Some(Value::Null) | None => json!({}),
            Some(options) => options.clone(),
        };
        let request = json!({
            "protocol": 1, "tag": self.tag, "name": name, "type": machine_type, "options": options,
        });
        let machine =
            self.call("create", &request, limit, |stdout| wire::created(stdout, now()))?;
        if machine.name != *name || machine.machine_type != *machine_type {
            return Err(ProviderError::failed(format!(
                "{} was asked to create {name} of type {machine_type} and answered with {} of type {}",
                self.program.join(" "),
                machine.name,
                machine.machine_type
            )));
        }
        Ok(machine)
    }

    fn start(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        self.change("start", machine, limit)
    }

    fn deploy(&self, machine: &Machine, limit: Duration) -> Result<Machine, ProviderError> {
        wait_until_up(machine, limit, |left| {
            self.list(left)?
                .into_iter()
                .find(|listed| listed.name == machine.name)
                .ok_or_else(|| ProviderError::failed("it disappeared while it was starting"))
        })
    }

    fn stop(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        self.change("stop", machine, limit)
    }

    fn destroy(&self, machine: &Machine, limit: Duration) -> Result<(), ProviderError> {
        self.change("destroy", machine, limit)
    }
}
