# The options of conf.nix, as the program's own reader (crates/adapters/src/config) takes them.
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
      description = "Marks this provisioner's machines and starts their names. Two provisioners with one cloud account need two tags.";
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
      description = "What kinds of machines there may be. A name is `SYSTEM[,SYSTEM...][:FEATURE,...]`; machines of a type with features take only steps that require them.";
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
              description = "The `nix` that reads derivations, to learn which features their steps require.";
            };
          };
        }
      );
      default = null;
      description = "Where the current (Rust) queue runner is asked; `null` for a classic one.";
    };

    otherMachines = mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ ];
      example = [ "mac-*.example.org" ];
      description = "Hosts of build machines that are not the provisioner's, as the queue runner shows them; `*` stands for any text.";
    };

    machinesFile = optional absolutePath "The machines file that is written for a classic queue runner. The module sets it to `machines` in `stateDir` unless `queue` or `updateCommand` is set.";

    machinesFileMode = mkOption {
      type = types.nullOr (
        types.enum [
          "own"
          "takeover"
        ]
      );
      default = null;
      description = "Which files `machinesFile` may replace: `own`, those that the provisioner wrote and empty ones (`null` means this too), or `takeover`, any.";
    };

    staticMachines = mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ ];
      example = [ "builder@mac-1.example.org aarch64-darwin /etc/hydra/id_mac 4" ];
      description = "Lines that are put first in the machines file: machines that the provisioner did not make. Their hosts count as `otherMachines`.";
    };

    updateCommand = optional command "Program and arguments that get the machines file on standard input, in place of `machinesFile`.";

    stateDir = mkOption {
      type = absolutePath;
      default = "/var/lib/hydra-provisioner";
      description = "State database (`state.sqlite`), lock and host keys; below `/var/lib`. May be deleted without losing a machine.";
    };

    touchKeepAlive = mkOption {
      type = types.bool;
      default = true;
      description = "Whether `/run/keep-alive` is touched on each machine after its deployment (see the module auto-shutdown).";
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
      description = "Further arguments for every `ssh`.";
    };

    notify = mkOption {
      type = types.listOf (
        types.submodule {
          options = {
            on = mkOption {
              type = types.listOf (
                types.enum [
                  "failed"
                  "unhealthy"
                  "orphan"
                ]
              );
              default = [
                "failed"
                "unhealthy"
                "orphan"
              ];
              description = "Of what the program is told.";
            };
            command = mkOption {
              type = command;
              example = [ "/run/current-system/sw/bin/notify-chat" ];
              description = "Program and arguments, never run through a shell. JSON comes on standard input.";
            };
          };
        }
      );
      default = [ ];
      description = "Programs that are told when something goes wrong, at most once a minute.";
    };

    maxCreating = mkOption {
      type = types.ints.positive;
      default = 5;
      description = "How many machines of one type are being created at the same time at the most; a type can have its own.";
    };

    maxCreatesPerCycle = optional types.ints.positive "The old limit: how many machines of one type are created within 5 minutes at the most; a type can have its own.";

    maxMachines = optional types.ints.unsigned "How many machines of all types together there are at the most.";

    parallelism = mkOption {
      type = types.ints.between 1 1024;
      default = 32;
      description = "How many machines are worked on at the same time.";
    };

    createTimeout = duration 900 "what the creation or start of one machine may take.";
    deployTimeout = duration 1800 "what the deployment of one machine may take, its waiting to be up included.";
    releaseTimeout = duration 600 "what the drain, stop or destruction of one machine may take.";
    statusTimeout = duration 60 "what one look at the queue, one list of machines or one `updateCommand` may take.";

    pollInterval = duration 10 "from one look at the queue to the next.";
    listInterval = duration 60 "from one list of a provider's machines to the next.";
    keepAliveInterval = duration 300 "from one touch of a machine's `/run/keep-alive` to the next. Well below the time-out of the module auto-shutdown.";
    maxStatusAge = duration 120 "how old a status of the queue may be; an older one counts as none.";
  }
  // costLimits "All machines together";
}
