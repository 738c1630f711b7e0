//! Parses `nixops export --all`: deployments, their arguments and resources (`Deployment.export` and
//! `ResourceState.export` in NixOps' `deployment.py` and `resources/__init__.py`).

use planner::{Machine, MachineName, MachineState, MachineType, Tag, Timestamp};
use serde_json::{Map, Value};

use crate::providers::ssh_access::SshAccess;

/// The name of the machine in every deployment.
const RESOURCE: &str = "machine";
/// EC2 charged per started hour when NixOps was written (`next_charge_time` in its `backends/ec2.py`).
const HOUR_SECONDS: u64 = 3600;

/// A NixOps deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deployment {
    pub(super) uuid: String,
    pub(super) name: Option<String>,
    /// The string argument `tag`, once set.
    pub(super) tag: Option<String>,
    /// The string argument `type`, once set.
    pub(super) machine_type: Option<String>,
    attributes: Map<String, Value>,
    /// Whether it has neither arguments nor resources: the state after `create`.
    pub(super) is_blank: bool,
}

/// All deployments in an export.
///
/// # Errors
/// When the answer is invalid, so that no deployment is missed.
pub(super) fn parse(stdout: &[u8]) -> Result<Vec<Deployment>, String> {
    let deployments: Map<String, Value> =
        serde_json::from_slice(stdout).map_err(|error| format!("not a JSON object: {error}"))?;
    deployments
        .into_iter()
        .map(|(uuid, deployment)| {
            let deployment = deployment
                .as_object()
                .ok_or_else(|| format!("the deployment {uuid} is not an object"))?;
            let args = arguments(&uuid, deployment)?;
            let string_argument =
                |name: &str| args.get(name).and_then(Value::as_str).and_then(nix_string);
            Ok(Deployment {
                tag: string_argument("tag"),
                machine_type: string_argument("type"),
                name: deployment.get("name").and_then(Value::as_str).map(str::to_owned),
                attributes: machine_attributes(deployment),
                is_blank: args.is_empty() && has_no_resources(deployment),
                uuid,
            })
        })
        .collect()
}

/// `args` is a JSON string with Nix expressions as values. It is absent until one is set.
fn arguments(uuid: &str, deployment: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    match deployment.get("args") {
        Some(Value::String(json)) => serde_json::from_str(json)
            .map_err(|error| format!("the args of deployment {uuid} are not JSON: {error}")),
        Some(Value::Object(args)) => Ok(args.clone()),
        _ => Ok(Map::new()),
    }
}

fn has_no_resources(deployment: &Map<String, Value>) -> bool {
    match deployment.get("resources") {
        None | Some(Value::Null) => true,
        Some(Value::Object(resources)) => resources.is_empty(),
        Some(_) => false,
    }
}

fn machine_attributes(deployment: &Map<String, Value>) -> Map<String, Value> {
    deployment
        .get("resources")
        .and_then(|resources| resources.get(RESOURCE))
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// The value of a Nix string literal (as written by `py2nix` in NixOps' `nix_expr.py` and by `--argstr`);
/// `None` for any other expression.
pub(super) fn nix_string(expression: &str) -> Option<String> {
    let inner = expression.trim().strip_prefix('"')?.strip_suffix('"')?;
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            // An unescaped quote or an interpolation: not one plain string.
            '"' => return None,
            '$' if chars.as_str().starts_with('{') => return None,
            other => value.push(other),
        }
    }
    Some(value)
}

impl Deployment {
    /// The machine of this deployment, with the deployment's name, if both name and type are known.
    pub(super) fn machine(&self, now: Timestamp) -> Option<Machine> {
        let name = MachineName::new(self.name.clone()?);
        let requested = Machine::requested(name, MachineType::new(self.machine_type.clone()?));
        let mut machine = Machine {
            state: self.state(),
            tag: self.tag.as_deref().map(Tag::new),
            started_at: self.number("startTime").map(Timestamp),
            next_charge_at: self.next_charge_at(now),
            ..requested
        };
        let access = SshAccess {
            address: self.address(),
            ssh_user: self.attribute("targetUser"),
            ssh_port: self.number("targetPort"),
            host_key: self.host_key(),
        };
        access.apply(&mut machine);
        Some(machine)
    }

    /// `ResourceState` in NixOps' `resources/__init__.py` and `backends/__init__.py`.
    fn state(&self) -> MachineState {
        match self.number::<u8>("state") {
            Some(2) => MachineState::Starting,
            Some(3) => MachineState::Up,
            Some(4) => MachineState::Stopping,
            Some(5) => MachineState::Stopped,
            // Unknown, unreachable, rescue, or a deployment without its machine (never deployed, or destroyed
            // by hand): a deployment may repair it.
            None | Some(_) => MachineState::Unreachable,
        }
    }

    /// `get_ssh_name` of the backends: EC2's private address if so configured, otherwise the first available
    /// one.
    fn address(&self) -> Option<String> {
        let uses_private =
            self.attribute("ec2.usePrivateIpAddress").is_some_and(|flag| flag == "1");
        let mut names = ["targetHost", "publicIpv4", "hetzner.mainIpv4", "privateIpv4"];
        if uses_private {
            names.reverse();
        }
        names.iter().find_map(|name| self.attribute(name))
    }

    /// `ec2.publicHostKey`, `gce.publicHostKey` and similar; the `none` backend has none.
    fn host_key(&self) -> Option<String> {
        self.attributes
            .iter()
            .find(|(name, _)| name.ends_with("publicHostKey"))
            .and_then(|(_, value)| text(value))
    }

    fn next_charge_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.attribute("type")? != "ec2" {
            return None;
        }
        let started = Timestamp(self.number("startTime")?);
        let hours = now.since(started).0.div_ceil(HOUR_SECONDS);
        Some(started.after(planner::Seconds(hours.saturating_mul(HOUR_SECONDS))))
    }

    fn attribute(&self, name: &str) -> Option<String> {
        text(self.attributes.get(name)?)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.attribute(name)?.parse().ok()
    }
}

/// Attributes are strings in the state file. Newer plugins may export numbers.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nix_strings_are_unescaped_not_stripped() {
        for (expression, value) in [
            (r#""x86_64-linux""#, Some("x86_64-linux")),
            (r#""a \"quoted\" \\ \${x}""#, Some(r#"a "quoted" \ ${x}"#)),
            (r#""line\nline""#, Some("line\nline")),
            (r#""${x}""#, None),
            ("true", None),
            ("", None),
            (r#"""#, None),
            (r#""a" + "b""#, None),
        ] {
            assert_eq!(nix_string(expression).as_deref(), value, "{expression}");
        }
    }
}
