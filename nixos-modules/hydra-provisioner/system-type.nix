# The options of conf.nix below systemTypes.<TYPE>.
{ lib }:

let
  inherit (lib) mkOption types;
  quantities = import ./quantities.nix { inherit lib; };
  clouds = import ./clouds.nix { inherit lib; };
  inherit (quantities)
    absolutePath
    costLimits
    dollarsOption
    inSeconds
    mebibytes
    optional
    ;

  duration = description: optional quantities.duration (inSeconds description);
  idleTimeout =
    optional (types.either (types.enum [ "auto" ]) quantities.duration)
      "Seconds, a string such as `\"10m\"`, or `\"auto\"`: how long an idle machine is kept. `\"auto\"`: as long as a new machine takes to become ready.";
  targetWait = duration "average wait of a runnable step that the number of machines aims at. `null`: 300, or unset if `runnablesPerMachine` is set.";

  scheduleEntry.options = {
    days = mkOption {
      type = types.nullOr (types.strMatching "[a-zA-Z, -]+");
      default = null;
      example = "mon-fri";
      description = "Days on which these settings apply. `null`: every day.";
    };
    hours = mkOption {
      type = types.nullOr (types.strMatching "[0-9]+:[0-9]+ *- *[0-9]+:[0-9]+");
      default = null;
      example = "07:00-19:00";
      description = "Hours in which these settings apply; a range with its end before its start continues into the next day. `null`: all day.";
    };
    timeZone = mkOption {
      type = types.nullOr types.nonEmptyStr;
      default = null;
      example = "Europe/Berlin";
      description = "Time zone of `days` and `hours`. `null`: UTC.";
    };
    minMachines = optional types.ints.unsigned "Overrides the type's.";
    maxMachines = optional types.ints.unsigned "Overrides the type's.";
    inherit idleTimeout targetWait;
  };

  command = types.nonEmptyListOf types.str;
  # Allowed in a machines file, which has no quoting.
  field = types.strMatching "[^[:space:]#]+";
  listItem = types.strMatching "[^[:space:]#,]+";

  nixPath = mkOption {
    type = types.nullOr (types.listOf types.str);
    default = null;
    example = [ "nixpkgs=/etc/hydra/nixpkgs" ];
    description = "Search path for NixOps 1.";
  };
  # With a path literal, the complete folder must be in the store, not only the file.
  pathHint = "A path literal copies only that file to the store: for a file that imports others, write `\"\${./folder}/deployment.nix\"`.";

  commandProvider.options = {
    program = mkOption {
      type = command;
      example = [ "/etc/hydra/my-cloud" ];
      description = "The program and its first arguments; see docs/provider-protocol.md.";
    };
    options = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      description = "Passed to the program unchanged when a machine is created. World-readable in the store: no secrets.";
    };
  };

  nixopsProvider.options = {
    program = mkOption {
      type = command;
      default = [ "nixops" ];
      description = "The program and its first arguments. Add its package to `extraPackages`.";
    };
    expr = optional types.path "NixOps 1: the deployment file; it gets the arguments `type` and `tag` and declares one `machine`. ${pathHint}";
    network = optional types.path "NixOps 2: the folder of `nixops.nix`.";
    inherit nixPath;
    stateFile = optional absolutePath "NixOps' state file. `null`: NixOps' default, below the service's `HOME`.";
  };

  qemuProvider.options = clouds.login // {
    image = mkOption {
      type = types.path;
      example = "/var/lib/images/build-machine";
      description = "Disk image (qcow2 or raw, never written), or a folder as `scripts/build-image` creates it.";
    };
    kernel = optional types.path "Kernel to boot directly. `null`: the one in `image`'s folder, or the disk's boot loader.";
    initrd = optional types.path "Initial ramdisk of `kernel`. `null`: the one in `image`'s folder.";
    kernelParams = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Additional kernel parameters.";
    };
    memory = mkOption {
      type = mebibytes;
      default = 2048;
      description = "Memory of each machine: MiB, or a string such as `\"4G\"`.";
    };
    cores = mkOption {
      type = types.ints.positive;
      default = 1;
      description = "Processors of each machine.";
    };
    accelerator = mkOption {
      type = types.enum [
        "auto"
        "kvm"
        "tcg"
      ];
      default = "auto";
      description = "`kvm`, `tcg` (emulation), or `auto`: KVM if a kernel boots on it, otherwise TCG.";
    };
    machineType = optional types.nonEmptyStr "QEMU's `-machine`. `null`: `q35`, on aarch64 `virt`.";
    program = optional types.nonEmptyStr "The QEMU to run. `null`: `qemu-system-ARCH` of nixpkgs' `qemu`.";
    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Additional arguments for QEMU, after all others.";
    };
    stateDir = optional absolutePath "Path of the machines' folders. Types with the same path share the host's memory and cores. `null`: `qemu` in `settings.stateDir`.";
    hostMemory = optional mebibytes "Memory of all running machines together: MiB, or a string such as `\"64G\"`. `null`: three quarters of the host's.";
    hostCores = optional types.ints.unsigned "Processors of all running machines together. `null`: the host's.";
    sshPort = mkOption {
      type = types.port;
      default = 22;
      description = "Port on each machine's loopback address that forwards to its sshd. Ports other than 22 need Nix 2.31 or newer.";
    };
    warmStart = mkOption {
      type = types.bool;
      default = false;
      description = "Whether new machines start from a snapshot of one that has booted.";
    };
  };
in
{
  options = {
    provider = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            command = optional (types.submodule commandProvider) "Machines from your own program (docs/provider-protocol.md).";
            ec2 = optional (types.submodule clouds.ec2) "Amazon EC2 instances (docs/ec2.md).";
            hcloud = optional (types.submodule clouds.hcloud) "Hetzner Cloud servers (docs/hetzner.md).";
            nixops = optional (types.submodule nixopsProvider) "Machines from NixOps.";
            qemu = optional (types.submodule qemuProvider) "Virtual machines on this host (docs/qemu.md).";
          };
        }
      );
      default = null;
      description = "How machines of this type are created: exactly one of the options below.";
    };

    nixopsExpr = optional types.path "The original's name for `provider.nixops.expr`. ${pathHint}";
    inherit nixPath;

    minMachines = mkOption {
      type = types.ints.unsigned;
      default = 0;
      description = "Minimum number of machines, independent of the queue.";
    };
    maxMachines = mkOption {
      type = types.ints.unsigned;
      default = 1;
      description = "Maximum number of machines.";
    };
    ignoredRunnables = mkOption {
      type = types.ints.unsigned;
      default = 0;
      description = "Runnable steps left to machines that the provisioner did not create.";
    };
    runnablesPerMachine = optional types.ints.positive "The original's rule, instead of `targetWait`: runnable steps that justify one machine, after `ignoredRunnables`.";
    maxCreatesPerCycle = optional types.ints.positive "Maximum number of machines of this type created within 5 minutes. `null`: the global value.";
    maxCreating = optional types.ints.positive "Maximum number of machines of this type being created at the same time. `null`: the global value.";
    fallback = mkOption {
      type = types.nullOr (types.listOf types.nonEmptyStr);
      default = null;
      example = [ "x86_64-linux:on-demand" ];
      description = "Types that get this type's demand while its provider has no capacity, in order. `null`: all that can build it, cheapest first.";
    };
    dollarsPerHour = dollarsOption "Price of one running machine per hour.";
    inherit idleTimeout targetWait;
    keepLast = duration "how long the last machine of this type is kept idle, if longer than `idleTimeout`.";
    healthTimeout = duration "how long an unhealthy machine still counts as capacity. `null`: 600.";
    maxAge = duration "the age at which a machine is replaced. `null`: never.";
    maxBuilds = optional types.ints.positive "Number of steps after which a machine is replaced. `null`: never.";
    replaceOnChange = mkOption {
      type = types.bool;
      default = false;
      description = "Replace idle machines that were created with other `provider` settings.";
    };
    maxUnavailable = optional types.ints.positive "Maximum number of machines of this type being replaced at the same time. `null`: 1.";
    progressTimeout = duration "a machine that builds for this long without finishing a step is unhealthy. `null`: 43200 (12 h).";
    schedule = optional (types.listOf (types.submodule scheduleEntry)) "Different settings at certain hours; if several entries apply, the first is used.";

    maxJobs = mkOption {
      type = types.ints.positive;
      default = 1;
      description = "Number of builds that a machine runs concurrently.";
    };
    speedFactor = mkOption {
      type = types.either types.ints.positive types.float;
      default = 1;
      example = 1.5;
      description = "Relative speed of a machine; at most three decimals.";
    };
    sshKey = mkOption {
      type = types.nullOr field;
      default = null;
      example = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
      description = "Path of the private key with which the queue runner logs in. The provisioner itself uses `services.hydra-provisioner.sshKeyFile`.";
    };
    storeUri = mkOption {
      type = types.nullOr field;
      default = null;
      example = "ssh-ng://{user}@{host}:{port}?max-connections=4";
      description = "Format of the machines file's first column; `{user}`, `{host}` and `{port}` are replaced. `null`: `USER@HOST`, or `ssh://USER@HOST:PORT` for ports other than 22.";
    };
    supportedFeatures = mkOption {
      type = types.listOf listItem;
      default = [ ];
      example = [ "big-parallel" ];
      description = "Features that a step may require in addition to the mandatory ones in the type's name.";
    };

    stopOnIdle = mkOption {
      type = types.bool;
      default = false;
      description = "Whether an idle machine is stopped and kept in reserve instead of destroyed.";
    };
    gracePeriod = duration "the original's name of `idleTimeout`.";
    giveUpAfter = duration "how long the deployments of an idle machine may fail, or it may be unhealthy, before it is destroyed and replaced. `null`: 3600.";
  }
  // costLimits "all machines of this type";
}
