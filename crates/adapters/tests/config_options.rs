//! `docs/configuration.md` is the one table of the options of `conf.nix`. The NixOS module takes its descriptions from
//! it; here names, types and defaults of the program, of the table and of the module are compared.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use adapters::config::{option_names, parse};
use serde_json::{Value, json};

const TYPE: &str = "x86_64-linux";
/// Their defaults are the planner's: the reader keeps that they are not set.
const APPLIED_LATER: [&str; 1] = ["systemTypes.T.maxUnavailable"];

/// `docs/configuration.md` has a table row for every option and for nothing else.
#[test]
fn every_option_is_documented() {
    let documented: BTreeSet<_> = table("configuration.md").into_keys().collect();
    assert_eq!(documented, option_names());
}

/// The NixOS module (options in `docs/module-options.md`) has every option with its own type. It does not
/// offer the old name of `statusCommand`.
#[test]
fn every_option_is_one_of_the_nixos_module() {
    let typed: BTreeSet<_> = of_the_module().into_keys().collect();
    let mut expected = option_names();
    expected.remove("sshCommand");
    assert_eq!(typed, expected);
}

/// A value of another type is refused; the message says which type the program reads.
#[test]
fn the_nixos_module_has_the_types_that_the_program_reads() {
    let differences: Vec<_> = of_the_module()
        .into_iter()
        .filter_map(|(option, cells)| {
            let (found, typed) = (type_read(&option), &cells[0]);
            let is_same = types(&found).iter().any(|word| typed.contains(word));
            (!is_same).then(|| {
                format!("{option}: the program reads {found}, the NixOS module has {typed}")
            })
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Types of the NixOS module for a type as the program's messages name it; one of them must occur.
fn types(read: &str) -> &'static [&'static str] {
    match read {
        "true or false" => &["boolean"],
        "a whole number" => &["integer"],
        "a number" => &["floating point"],
        "a number of dollars" => &["floating point number or string"],
        "a list of strings" => &["list of"],
        "a list of numbers" => &["list of (positive integer"],
        "a list of attribute sets" => &["list of (submodule)"],
        "an attribute set" => &["submodule", "attribute set"],
        "an attribute set of strings" => &["attribute set of string"],
        "a string" => &["string", "one of", "path"],
        text if text.starts_with("a whole number of seconds") => &["([0-9]+[smhd])+"],
        text if text.starts_with("a whole number of MiB") => &["[0-9]+[MGT]"],
        _ => &[],
    }
}

/// A default in the table that is a value is what the program uses, and what the NixOS module sets if it sets any.
#[test]
fn defaults_are_those_of_the_table() {
    let module = of_the_module();
    let (mut compared, mut differences) = (0, Vec::new());
    for (option, cells) in table("configuration.md") {
        let documented = &cells[0];
        if let Some(cells) = module.get(&option)
            && cells[1] != "`null`"
            && cells[1] != *documented
        {
            differences.push(format!("{option}: {} in the NixOS module", cells[1]));
        }
        let Some(value) = literal(documented) else { continue };
        if APPLIED_LATER.contains(&option.as_str()) {
            continue;
        }
        compared += 1;
        let mut without = base(&option);
        *place(&mut without, &option) = Value::Null;
        let mut with = without.clone();
        *place(&mut with, &option) = value;
        let read = |config: &Value| parse(config).map(|config| format!("{config:?}"));
        if read(&without) != read(&with) {
            differences.push(format!("{option}: its default is not {documented}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(compared > 60, "only {compared} defaults are values");
}

/// The type in the message about a value of another type.
fn type_read(option: &str) -> String {
    let mut config = base(option);
    *place(&mut config, option) = json!(true);
    let at = option.replace(".*", "[1]").replace("systemTypes.T", &format!("systemTypes.{TYPE}"));
    let problems = parse(&config).err().unwrap_or_default();
    let message = problems
        .iter()
        .find(|problem| problem.place == at && problem.message.ends_with(", is true"));
    message.map_or_else(
        || "true or false".to_owned(),
        |problem| {
            let text = problem.message.trim_start_matches("must be ");
            text.trim_end_matches(", is true").to_owned()
        },
    )
}

/// A valid configuration in which `option` can be set.
fn base(option: &str) -> Value {
    let provider = match option.split('.').nth(3).filter(|_| option.contains(".provider.")) {
        Some("ec2") => json!({ "ec2": {
            "region": "eu-central-1", "image": "ami-1", "instanceTypes": ["c7i.large"], "authorizedKeys": ["ssh-ed25519 AAAA a"],
        } }),
        Some("hcloud") => json!({ "hcloud": {
            "tokenFile": "/token", "image": "1", "serverTypes": ["cx22"], "locations": ["fsn1"], "authorizedKeys": ["ssh-ed25519 AAAA a"],
        } }),
        Some("nixops") => json!({ "nixops": { "expr": "/deployment.nix" } }),
        Some("qemu") => {
            json!({ "qemu": { "image": "/image", "authorizedKeys": ["ssh-ed25519 AAAA a"] } })
        }
        _ => json!({ "command": { "program": ["p"] } }),
    };
    let mut config = json!({ "systemTypes": { TYPE: { "provider": provider } } });
    let is_rest =
        option.starts_with("queue") || ["drainCommand", "resumeCommand"].contains(&option);
    for (set, value) in [
        ("queue", json!({ "url": "http://[::1]:8080" })),
        ("lease", json!({ "postgresql": "host=/run/postgresql" })),
        ("notify", json!([{ "command": ["p"] }])),
    ] {
        if option.starts_with(set) || (set == "queue" && is_rest) {
            config[set] = value;
        }
    }
    let of_type = &mut config["systemTypes"][TYPE];
    if option.contains(".schedule") {
        of_type["schedule"] = json!([{ "minMachines": 0 }]);
    }
    if option.contains(".rootVolume") {
        of_type["provider"]["ec2"]["rootVolume"] = json!({ "size": 20 });
    }
    if option.contains(".instanceRequirements") {
        of_type["provider"]["ec2"]["instanceTypes"] = Value::Null;
        of_type["provider"]["ec2"]["instanceRequirements"] = json!({ "architecture": "x86_64" });
    }
    if option.contains(".imageFilter") {
        of_type["provider"]["ec2"]["image"] = Value::Null;
        of_type["provider"]["ec2"]["imageFilter"] = json!({ "owner": "self", "name": "n" });
    }
    config
}

fn place<'a>(config: &'a mut Value, option: &str) -> &'a mut Value {
    option.split('.').fold(config, |value, word| match word {
        "*" => &mut value[0],
        "T" => &mut value[TYPE],
        word => &mut value[word],
    })
}

/// The value of a cell that has nothing but a number, a string, a list or an empty set of Nix, in code quotes.
fn literal(cell: &str) -> Option<Value> {
    let text = cell.strip_prefix('`')?.strip_suffix('`')?;
    serde_json::from_str(&text.replace("\" \"", "\", \"")).ok()
}

fn of_the_module() -> BTreeMap<String, Vec<String>> {
    table("module-options.md")
        .into_iter()
        .filter_map(|(name, cells)| Some((name.strip_prefix("settings.")?.to_owned(), cells)))
        .collect()
}

/// The rows of a page's tables that begin with an option: its name, with `T` for a type's, and the other cells.
fn table(page: &str) -> BTreeMap<String, Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let cells = rest.trim_end_matches(" |").split(" | ").map(str::to_owned).collect();
        Some((name.replace("systemTypes.<T>", "systemTypes.T"), cells))
    });
    rows.collect()
}

/// "Currently, only (legacy-)ssh stores are supported!": `build-remote.cc` of the classic queue runner.
#[test]
fn a_store_that_a_classic_queue_runner_refuses_has_a_warning() {
    for (store_uri, warnings) in [
        ("ssh-ng://{user}@{host}:{port}", 1),
        ("ssh://{user}@{host}:{port}?compress=true", 0),
        ("{user}@{host}", 0),
    ] {
        let provider = json!({ "command": { "program": ["my-cloud"] } });
        let mut conf = json!({
            "statusCommand": ["status"],
            "systemTypes": { "x86_64-linux": { "provider": provider, "storeUri": store_uri } },
        });
        let found = parse(&conf).unwrap().warnings;
        assert_eq!(found.len(), warnings, "{found:?}");
        assert!(found.iter().all(|it| it.contains(store_uri)), "{found:?}");
        conf["statusCommand"] = Value::Null;
        conf["queue"] = json!({ "url": "http://127.0.0.1:8080" });
        conf["machinesFile"] = json!("/etc/nix/machines");
        assert_eq!(parse(&conf).unwrap().warnings, [""; 0]);
    }
}

#[test]
fn pack_that_changes_nothing_has_a_warning() {
    let warnings_with = |max_jobs: u32, settings: Value, top: Value| {
        let mut conf =
            json!({ "statusCommand": ["status"], "systemTypes": { "x86_64-linux": settings } });
        let system_type = &mut conf["systemTypes"]["x86_64-linux"];
        system_type["provider"] = json!({ "command": { "program": ["my-cloud"] } });
        system_type["pack"] = json!(true);
        system_type["maxJobs"] = json!(max_jobs);
        for (option, value) in top.as_object().unwrap() {
            conf[option] = value.clone();
        }
        parse(&conf).unwrap().warnings
    };
    let warnings = |settings: Value, top: Value| warnings_with(4, settings, top);
    let none = json!({});
    let packed = json!({ "idleTimeout": "10m" });
    let at_night = json!({ "schedule": [{ "hours": "20:00-06:00", "idleTimeout": "10m" }] });
    for settings in [&packed, &at_night] {
        assert_eq!(warnings(settings.clone(), none.clone()), [""; 0], "{settings}");
    }
    let never = json!({ "schedule": [{ "hours": "20:00-06:00", "idleTimeout": "auto" }] });
    for settings in [none.clone(), json!({ "idleTimeout": "auto" }), never] {
        let found = warnings(settings.clone(), none.clone());
        assert_eq!(found.len(), 1, "{settings}: {found:?}");
        assert!(
            found[0].starts_with("systemTypes.x86_64-linux.pack: changes nothing"),
            "{found:?}"
        );
    }
    let rest = json!({ "statusCommand": null, "queue": { "url": "http://127.0.0.1:8080" } });
    assert_eq!(warnings_with(1, packed.clone(), none).len(), 1);
    let found = warnings(packed, rest);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("get builds as long as they run"), "{found:?}");
}
