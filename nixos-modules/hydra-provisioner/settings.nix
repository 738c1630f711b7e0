# The options of conf.nix, as the program (crates/adapters/src/config) reads them.
{ lib }:

let
  inherit (lib) mkOption types;
  quantities = import ./quantities.nix { inherit lib; };
  inherit (quantities)
    absolutePath
    costLimits
    inSeconds
    optional
    ;

  command = types.nonEmptyListOf types.str;

  occasions = [
    "failed"
    "unhealthy"
    "orphan"
    "budget"
  ];

  duration =
    default: description:
    mkOption {
      type = quantities.duration;
      inherit default;
      description = inSeconds description;
    };
in
{
  options = {
    tag = mkOption {
      type = types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*";
      default = "hydra-provisioned";
      description = "Identifies this provisioner's machines and is the prefix of their names. Two provisioners with one cloud account need two tags.";
    };

    formerTags = mkOption {
      type = types.listOf (types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*");
      default = [ ];
      description = "Tags that this provisioner had before: its machines with them are used and released as before; new ones get `tag`.";
    };

    systemTypes = mkOption {
      type = types.attrsOf (types.submodule (import ./system-type.nix { inherit lib; }));
      default = { };
      example = lib.literalExpression ''
        {
          x86_64-linux = {
            provider.command.program = [ "/etc/hydra/my-cloud" ];
            maxMachines = 12;
            runnablesPerMachine = 50;
          };
        }
      '';
      description = "Machine types. A name is `SYSTEM[,SYSTEM...][:FEATURE,...]`; machines of a type with features build only steps that require them.";
    };

    statusCommand = mkOption {
      type = types.nullOr command;
      default = null;
      example = [
        "ssh"
        "hydra.example.org"
        "hydra-queue-runner"
        "--status"
      ];
      description = "Program and arguments that print a classic queue runner's status. `null` and no `queue`: `hydra-queue-runner --status`.";
    };

    queue = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            url = mkOption {
              type = types.strMatching "https?://.*";
              example = "http://[::1]:8080";
              description = "REST address of the current (Rust) queue runner.";
            };
            nixCommand = mkOption {
              type = command;
              default = [ "nix" ];
              description = "The `nix` that reads the required features of derivations.";
            };
          };
        }
      );
      default = null;
      description = "Connection to the current (Rust) queue runner; `null` for a classic one.";
    };

    otherMachines = mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ ];
      example = [ "mac-*.example.org" ];
      description = "Hosts of build machines that are not the provisioner's, as the queue runner shows them; `*` matches any text.";
    };

    machinesFile = optional absolutePath "Path of the machines file for a classic queue runner. The module sets it to `machines` in `stateDir` unless `queue` or `updateCommand` is set.";

    machinesFileMode = mkOption {
      type = types.nullOr (
        types.enum [
          "own"
          "takeover"
        ]
      );
      default = null;
      description = "Which files `machinesFile` may replace: `own` (the default): files that the provisioner wrote, and empty files; `takeover`: any file.";
    };

    staticMachines = mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ ];
      example = [ "builder@mac-1.example.org aarch64-darwin /etc/hydra/id_mac 4" ];
      description = "Lines put first in the machines file: machines that the provisioner did not create. Their hosts count as `otherMachines`.";
    };

    updateCommand = optional command "Program and arguments that get the machines file on standard input, instead of `machinesFile`.";

    stateDir = mkOption {
      type = absolutePath;
      default = "/var/lib/hydra-provisioner";
      description = "State database (`state.sqlite`), lock and host keys; below `/var/lib`. May be deleted without losing a machine.";
    };

    touchKeepAlive = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the provisioner touches `/run/keep-alive` on each machine (see the module auto-shutdown).";
    };

    drainCommand = optional command "With `queue`: run on a machine over ssh before it is released. The module sets it to `systemctl stop` of `builderUnit`.";

    resumeCommand = optional command "With `queue`: run on a machine over ssh when it is deployed. The module sets it to `systemctl start` of `builderUnit`.";

    sshOptions = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "-o"
        "ProxyJump=gateway.example.org"
      ];
      description = "Additional arguments for every `ssh`.";
    };

    lease = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            postgresql = mkOption {
              type = types.nonEmptyStr;
              example = "host=db.example.org user=hydra dbname=hydra";
              description = "Hydra's database (PostgreSQL 14 or newer), as a URL or as words; without a password and without TLS. For `host=/run/postgresql` the service's user needs a role of its name, or a line of pg_ident.conf.";
            };
            passwordFile = optional absolutePath "File with the password, for example `/run/credentials/hydra-provisioner.service/NAME`.";
          };
        }
      );
      default = null;
      description = "Where several hosts with this `tag` agree on the one that is active; the others stand by.";
    };

    notify = mkOption {
      type = types.listOf (
        types.submodule {
          options = {
            on = mkOption {
              type = types.listOf (types.enum occasions);
              default = occasions;
              description = "Events to report.";
            };
            command = mkOption {
              type = types.nullOr command;
              default = null;
              example = [ "/run/current-system/sw/bin/notify-chat" ];
              description = "Program and arguments, not run through a shell. It gets JSON on standard input.";
            };
            webhook = optional (types.strMatching "https?://.*") "URL that the JSON is posted to. World-readable: where the URL is a secret, use `webhookFile`.";
            webhookFile = optional absolutePath "File with that URL, for example `/run/credentials/hydra-provisioner.service/NAME`.";
          };
        }
      );
      default = [ ];
      description = "Programs and webhooks to tell when something fails, at most once a minute. Each has one of `command`, `webhook` and `webhookFile`.";
    };

    maxCreating = mkOption {
      type = types.ints.positive;
      default = 5;
      description = "Maximum number of machines of one type being created at the same time; a type can override it.";
    };

    maxCreatesPerCycle = optional types.ints.positive "The original's limit: maximum number of machines of one type created within 5 minutes; a type can override it.";

    maxMachines = optional types.ints.unsigned "Maximum number of machines of all types together.";

    parallelism = mkOption {
      type = types.ints.between 1 1024;
      default = 32;
      description = "Maximum number of concurrent operations.";
    };

    createTimeout = duration 900 "time limit for one create or start.";
    deployTimeout = duration 1800 "time limit from a machine's creation until it is up, and for its deployment.";
    releaseTimeout = duration 600 "time limit for one drain, stop or destroy.";
    statusTimeout = duration 60 "time limit for one queue status, one listing of machines or one `updateCommand`.";

    pollInterval = duration 10 "time between queue status requests.";
    listInterval = duration 60 "time between listings of a provider's machines.";
    keepAliveInterval = duration 300 "time between touches of a machine's `/run/keep-alive`. Keep it well below the timeout of the module auto-shutdown.";
    maxStatusAge = duration 120 "maximum age of a queue status; an older one counts as unavailable.";
  }
  // costLimits "all machines together";
}
