//! `init`: writes a commented conf.nix after three questions, which options can answer.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use crate::console::{fail, print};
use crate::exit::Exit;

/// The questions. A question answered by an option is not asked; without a terminal the defaults apply.
#[derive(Debug, ClapArgs)]
pub(crate) struct Init {
    /// File to write; an existing file is never replaced. `-` for standard output
    #[arg(default_value = "conf.nix")]
    file: PathBuf,
    /// Queue runner: `classic`, or the URL of a REST one, such as `http://[::1]:8080`
    #[arg(long, value_name = "QUEUE", value_parser = queue)]
    queue: Option<String>,
    /// Provider of the machines
    #[arg(long, value_enum)]
    provider: Option<Provider>,
    /// Machine type: a system, optionally with features, such as `x86_64-linux:kvm`
    #[arg(long = "type", value_name = "TYPE", value_parser = machine_type)]
    machine_type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Provider {
    /// Your own program
    Command,
    /// Amazon EC2
    Ec2,
    /// Hetzner Cloud
    Hcloud,
    /// `NixOps`
    Nixops,
    /// Virtual machines on this host
    Qemu,
}

fn queue(text: &str) -> Result<String, String> {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    if is_url && text.contains('@') {
        return Err("a login is a secret: write it into the file yourself".to_owned());
    }
    plain(text)?;
    if text == "classic" || is_url {
        Ok(text.to_owned())
    } else {
        Err("must be classic, or an address such as http://[::1]:8080".to_owned())
    }
}

fn machine_type(text: &str) -> Result<String, String> {
    plain(text)?;
    let (systems, _) = text.split_once(':').unwrap_or((text, ""));
    let is_system = |system: &str| system.contains('-') && !system.ends_with('-');
    if systems.split(',').all(is_system) {
        Ok(text.to_owned())
    } else {
        Err("must begin with a system such as x86_64-linux".to_owned())
    }
}

/// It is inserted between Nix quotes.
fn plain(text: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '$');
    if text.chars().all(is_plain) {
        Ok(())
    } else {
        Err("has a character that cannot be in it".to_owned())
    }
}

pub(crate) fn init(args: &Init) -> Result<Exit, Exit> {
    let queue = answer(
        args.queue.clone(),
        "Queue runner: classic, or the URL of a REST one",
        "classic",
        queue,
    )?;
    let provider = answer(
        args.provider,
        "Machines come from: command (your own program), ec2, hcloud, nixops or qemu",
        "command",
        |text| Provider::from_str(text, true),
    )?;
    let machine_type = answer(
        args.machine_type.clone(),
        "Machine type: a system, perhaps with features (x86_64-linux:kvm)",
        "x86_64-linux",
        machine_type,
    )?;
    let text = text(&queue, provider, &machine_type);
    if args.file.as_os_str() == "-" {
        print(text)?;
        return Ok(Exit::Done);
    }
    let file = args.file.display();
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&args.file)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            fail(Exit::BadConfig, &format!("{file} exists already and was not changed"))
        }
        _ => fail(Exit::Unexpected, &format!("cannot write {file}: {error}")),
    })?;
    print(format!(
        "wrote {file}. Next: adapt it, then\n  hydra-provisioner check {file}\n  hydra-provisioner plan {file}\n"
    ))?;
    Ok(Exit::Done)
}

/// The option's value, or the answer to the question; on a terminal it is asked until valid.
fn answer<T>(
    given: Option<T>,
    question: &str,
    default: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Exit> {
    if let Some(given) = given {
        return Ok(given);
    }
    let unusable = |error: String| fail(Exit::Unexpected, &error);
    if !io::stdin().is_terminal() {
        return parse(default).map_err(unusable);
    }
    loop {
        let asked = write!(io::stderr(), "{question} [{default}]: ");
        asked.map_err(|error| unusable(error.to_string()))?;
        let mut line = String::new();
        let length = io::stdin().lock().read_line(&mut line);
        if length.map_err(|error| unusable(error.to_string()))? == 0 {
            return Err(fail(Exit::BadConfig, &"no answer; nothing was written"));
        }
        let text = line.trim();
        match parse(if text.is_empty() { default } else { text }) {
            Ok(answer) => return Ok(answer),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

fn text(queue: &str, provider: Provider, machine_type: &str) -> String {
    let queue = if queue == "classic" {
        "  # The C++ queue runner on this host. Over ssh: [ \"ssh\" \"-x\" \"root@hydra\" \"hydra-queue-runner\" \"--status\" ].\n  \
         statusCommand = [\n    \"hydra-queue-runner\"\n    \"--status\"\n  ];\n  \
         # Add this file to `buildMachinesFiles` of Hydra.\n  machinesFile = \"/var/lib/hydra/provisioner/machines\";\n"
            .to_owned()
    } else {
        format!(
            "  # The current (Rust) queue runner.\n  queue.url = \"{queue}\";\n  \
             # Hydra's builder on the machines, as nixpkgs calls it. Hydra's own flake: hydra-queue-builder-dev.service.\n  \
             # The NixOS module sets both where Hydra runs on the same machine.\n  \
             drainCommand = [ \"systemctl\" \"stop\" \"hydra-builder.service\" ];\n  \
             resumeCommand = [ \"systemctl\" \"start\" \"hydra-builder.service\" ];\n"
        )
    };
    format!(
        "# Configuration of hydra-provisioner, written by `hydra-provisioner init`. All options: docs/configuration.md.\n\
         {{\n{queue}\n  # Prefix of machine names; two provisioners with one account need two.\n  \
         tag = \"hydra-provisioned\";\n\n  systemTypes.\"{machine_type}\" = {{\n{}    \
         # Upper limit, and builds at the same time on each machine.\n    maxMachines = 2;\n    maxJobs = 4;\n    \
         # How long steps should wait on average, in seconds: the number of machines is chosen for that.\n    targetWait = 400;\n    \
         # How long an idle machine stays; \"auto\": as long as a new one takes to be ready.\n    idleTimeout = \"auto\";\n{}  }};\n}}\n",
        provider.settings(),
        provider.key_and_price(),
    )
}

impl Provider {
    /// The lines that configure the provider.
    fn settings(self) -> &'static str {
        match self {
            Self::Command => {
                "    # Your program; it is called with list, create, start, stop or destroy (docs/provider-protocol.md).\n    \
                 provider.command.program = [ \"/etc/hydra-provisioner/my-cloud\" ];\n"
            }
            Self::Ec2 => {
                "    # docs/ec2.md says how to make the image and what the account needs.\n    provider.ec2 = {\n      \
                 region = \"eu-central-1\";\n      imageFilter = {\n        owner = \"self\";\n        \
                 name = \"hydra-builder-*\";\n        architecture = \"x86_64\";\n      };\n      \
                 instanceTypes = [ \"c7i.4xlarge\" ];\n      subnets = [ \"subnet-0aaaaaaaaaaaaaaaa\" ];\n      \
                 securityGroups = [ \"sg-0cccccccccccccccc\" ];\n      rootVolume.size = 200; # GiB\n    };\n"
            }
            Self::Hcloud => {
                "    # docs/hetzner.md says how to make the image.\n    provider.hcloud = {\n      \
                 # A file with the API token of a project that has nothing else in it.\n      \
                 tokenFile = \"/etc/secrets/hcloud-token\";\n      serverTypes = [ \"ccx33\" ];\n      \
                 locations = [ \"fsn1\" ];\n      imageSelector = \"role=hydra-builder\";\n    };\n"
            }
            Self::Nixops => {
                "    # The deployment's expression (NixOps 1; docs/nixops.md).\n    \
                 provider.nixops.expr = \"/etc/hydra-provisioner/build-machine.nix\";\n"
            }
            Self::Qemu => {
                "    # The image is made by scripts/build-image, or is the flake's build-machine-image (docs/qemu.md).\n    \
                 provider.qemu = {\n      image = \"/var/lib/hydra-provisioner/image\";\n      memory = 4096; # MiB\n    };\n"
            }
        }
    }

    /// The ssh key, and the price per hour.
    fn key_and_price(self) -> String {
        let key = match self {
            Self::Qemu | Self::Ec2 | Self::Hcloud => "Its public half, with .pub, may log in.",
            Self::Command | Self::Nixops => {
                "On the queue runner's host. The machines must permit a login with it."
            }
        };
        let key = format!(
            "    # {key}\n    sshKey = \"/var/lib/hydra/queue-runner/.ssh/id_buildfarm\";\n"
        );
        let price = match self {
            Self::Qemu => return key,
            Self::Ec2 | Self::Hcloud => "highest price",
            Self::Command | Self::Nixops => "price",
        };
        format!(
            "{key}    # The {price} of a machine per hour: for `check`, `cost` and limits such as maxDailyCost.\n    \
             dollarsPerHour = 0.5;\n"
        )
    }
}
