//! `systemTypes.<T>.provider.<NAME>`: one function a provider.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::reader::Attrs;
use crate::providers::{ProviderSettings, command, nixops};

/// Reads the provider of a type; `None` where a problem was noted.
pub(super) fn read(attrs: &Attrs<'_>) -> Option<ProviderSettings> {
    let expr = attrs.absolute_path("nixopsExpr");
    let nix_path = attrs.texts("nixPath");
    let has_expr = attrs.get("nixopsExpr").is_some();
    let Some(provider) = attrs.attrs("provider") else {
        return match expr {
            Some(expr) => Some(ProviderSettings::Nixops(nixops::Settings::classic(
                expr,
                nix_path.unwrap_or_default(),
            ))),
            None if has_expr || attrs.get("provider").is_some() => None,
            None => {
                attrs.own_problem(
                    "has no provider; set provider.command, provider.nixops or nixopsExpr",
                );
                None
            }
        };
    };
    let found: Vec<_> = [command_provider(&provider), nixops_provider(&provider, expr, nix_path)]
        .into_iter()
        .flatten()
        .collect();
    let given = ["command", "nixops"].iter().filter(|name| provider.get(name).is_some()).count();
    if given != 1 {
        attrs.problem("provider", "must have exactly one of command and nixops");
    }
    if has_expr && provider.get("nixops").is_none() {
        attrs.problem("nixopsExpr", "is for the provider nixops, but another one is set");
    }
    provider.finish();
    found.into_iter().next()
}

fn command_provider(provider: &Attrs<'_>) -> Option<ProviderSettings> {
    let attrs = provider.attrs("command")?;
    let program = attrs.command("program");
    if attrs.get("program").is_none() {
        attrs.problem("program", "must be set: a list, the program and its first arguments");
    }
    let options = match attrs.get("options") {
        None => Value::Object(Map::new()),
        Some(options @ Value::Object(_)) => options.clone(),
        Some(other) => attrs.mismatch("options", "an attribute set", other)?,
    };
    attrs.finish();
    Some(ProviderSettings::Command(command::Settings { program: program?, options }))
}

fn nixops_provider(
    provider: &Attrs<'_>,
    outer_expr: Option<PathBuf>,
    outer_nix_path: Option<Vec<String>>,
) -> Option<ProviderSettings> {
    let attrs = provider.attrs("nixops")?;
    let settings = nixops::Settings {
        program: attrs.command("program").unwrap_or_else(|| vec!["nixops".to_owned()]),
        expr: attrs.absolute_path("expr").or(outer_expr),
        nix_path: attrs.texts("nixPath").or(outer_nix_path).unwrap_or_default(),
        network: attrs.absolute_path("network"),
        state_file: attrs.absolute_path("stateFile"),
    };
    match (&settings.expr, &settings.network) {
        (None, None) => attrs.own_problem(
            "must have expr (NixOps 1: the deployment's file) or network (NixOps 2: the folder of nixops.nix)",
        ),
        (Some(_), Some(_)) => {
            attrs.own_problem("has both expr (NixOps 1) and network (NixOps 2); remove one");
        }
        _ => {}
    }
    attrs.finish();
    Some(ProviderSettings::Nixops(settings))
}
