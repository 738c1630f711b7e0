# The options of conf.nix below systemTypes.<TYPE>.
{ lib }:

let
  inherit (lib) mkOption types;
  quantities = import ./quantities.nix { inherit lib; };
  clouds = import ./clouds.nix { inherit lib; };
  inherit (quantities)
    absolutePath
    costLimits
    dollars
    idleTimeout
    inMebibytes
    mebibytes
    noted
    optional
    ;
  inherit (import ./texts.nix { inherit lib; }) described;

  duration = quantities.optionalDuration;
  targetWait = duration;

  scheduleEntry.options = described "systemTypes.<T>.schedule.*." {
    days = mkOption {
      type = types.nullOr (types.strMatching "[a-zA-Z, -]+");
      default = null;
      example = "mon-fri";
    };
    hours = mkOption {
      type = types.nullOr (types.strMatching "[0-9]+:[0-9]+ *- *[0-9]+:[0-9]+");
      default = null;
      example = "07:00-19:00";
    };
    timeZone = mkOption {
      type = types.nullOr types.nonEmptyStr;
      default = null;
      example = "Europe/Berlin";
    };
    minMachines = optional types.ints.unsigned;
    maxMachines = optional types.ints.unsigned;
    inherit idleTimeout targetWait;
  };

  provider = "systemTypes.<T>.provider.";
  command = types.nonEmptyListOf types.str;
  # Allowed in a machines file, which has no quoting.
  field = types.strMatching "[^[:space:]#]+";
  listItem = types.strMatching "[^[:space:]#,]+";

  nixPath = mkOption {
    type = types.nullOr (types.listOf types.str);
    default = null;
    example = [ "nixpkgs=/etc/hydra/nixpkgs" ];
  };
  # With a path literal, the complete folder must be in the store, not only the file.
  pathHint = "A path literal copies only that file to the store: for a file that imports others, write `\"\${./folder}/deployment.nix\"`.";

  commandProvider.options = described "${provider}command." {
    program = mkOption {
      type = command;
      example = [ "/etc/hydra/my-cloud" ];
    };
    options = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      description = "World-readable in the store: no secrets.";
    };
  };

  nixopsProvider.options = described "${provider}nixops." {
    program = mkOption {
      type = command;
      default = [ "nixops" ];
      description = "Add its package to `extraPackages`.";
    };
    expr = noted pathHint (optional types.path);
    network = optional types.path;
    inherit nixPath;
    stateFile = noted "Its default is below the service's `HOME`. A folder elsewhere is given to the service's user: one that contains nothing else." (
      optional absolutePath
    );
  };

  qemuProvider.options = described "${provider}qemu." (
    clouds.login
    // {
      image = mkOption {
        type = types.path;
        example = "/var/lib/images/build-machine";
      };
      kernel = optional types.path;
      initrd = optional types.path;
      kernelParams = mkOption {
        type = types.listOf types.str;
        default = [ ];
      };
      memory = inMebibytes (mkOption {
        type = mebibytes;
        default = 2048;
      });
      cores = mkOption {
        type = types.ints.positive;
        default = 1;
      };
      accelerator = mkOption {
        type = types.enum [
          "auto"
          "kvm"
          "tcg"
        ];
        default = "auto";
      };
      machineType = optional types.nonEmptyStr;
      program = optional types.nonEmptyStr;
      extraArgs = mkOption {
        type = types.listOf types.str;
        default = [ ];
      };
      stateDir = optional absolutePath;
      hostMemory = inMebibytes (optional mebibytes);
      hostCores = optional types.ints.unsigned;
      sshPort = mkOption {
        type = types.port;
        default = 22;
      };
      warmStart = mkOption {
        type = types.bool;
        default = false;
      };
    }
  );
in
{
  options = described "systemTypes.<T>." (
    {
      provider = mkOption {
        type = types.nullOr (
          types.submodule {
            options = described provider {
              command = optional (types.submodule commandProvider);
              ec2 = optional (types.submodule clouds.ec2);
              hcloud = optional (types.submodule clouds.hcloud);
              nixops = optional (types.submodule nixopsProvider);
              qemu = optional (types.submodule qemuProvider);
            };
          }
        );
        default = null;
      };

      nixopsExpr = noted pathHint (optional types.path);
      inherit nixPath;

      minMachines = mkOption {
        type = types.ints.unsigned;
        default = 0;
      };
      maxMachines = mkOption {
        type = types.ints.unsigned;
        default = 1;
      };
      ignoredRunnables = mkOption {
        type = types.ints.unsigned;
        default = 0;
      };
      runnablesPerMachine = optional types.ints.positive;
      maxCreatesPerCycle = optional types.ints.positive;
      maxCreating = optional types.ints.positive;
      fallback = mkOption {
        type = types.nullOr (types.listOf types.nonEmptyStr);
        default = null;
        example = [ "x86_64-linux" ];
      };
      dollarsPerHour = dollars;
      inherit idleTimeout targetWait;
      keepLast = duration;
      useWhilePaid = duration;
      keepWhilePaid = duration;
      healthTimeout = duration;
      maxAge = duration;
      maxBuilds = optional types.ints.positive;
      replaceOnChange = mkOption {
        type = types.bool;
        default = false;
      };
      maxUnavailable = optional types.ints.positive;
      progressTimeout = duration;
      schedule = optional (types.listOf (types.submodule scheduleEntry));

      maxJobs = mkOption {
        type = types.ints.positive;
        default = 1;
      };
      speedFactor = mkOption {
        type = types.either types.ints.positive types.float;
        default = 1;
        example = 1.5;
      };
      pack = mkOption {
        type = types.bool;
        default = false;
      };
      sshKey = mkOption {
        type = types.nullOr field;
        default = null;
        example = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
        description = "With `services.hydra-provisioner.sshKeyFile` the service logs in with that key, and need not be able to read this file.";
      };
      storeUri = mkOption {
        type = types.nullOr field;
        default = null;
        example = "ssh://{user}@{host}?compress=true";
      };
      supportedFeatures = mkOption {
        type = types.listOf listItem;
        default = [ ];
        example = [ "big-parallel" ];
      };

      stopOnIdle = mkOption {
        type = types.bool;
        default = false;
      };
      gracePeriod = duration;
      giveUpAfter = duration;
    }
    // costLimits
  );
}
