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
      "Seconds, a text such as `\"10m\"`, or `\"auto\"`: how long an idle machine is kept for work that may yet come. `\"auto\"`: as long as a new machine takes to be ready.";
  targetWait = duration "how long a runnable step may wait on average; decides how many machines there are. `null`: 300, or nothing where `runnablesPerMachine` is set.";

  scheduleEntry.options = {
    days = mkOption {
      type = types.nullOr (types.strMatching "[a-zA-Z, -]+");
      default = null;
      example = "mon-fri";
      description = "Days on which these settings count. `null`: every day.";
    };
    hours = mkOption {
      type = types.nullOr (types.strMatching "[0-9]+:[0-9]+ *- *[0-9]+:[0-9]+");
      default = null;
      example = "07:00-19:00";
      description = "Hours in which these settings count; a range that ends before it begins goes on into the next day. `null`: all day.";
    };
    timeZone = mkOption {
      type = types.nullOr types.nonEmptyStr;
      default = null;
      example = "Europe/Berlin";
      description = "The time zone of `days` and `hours`. `null`: UTC.";
    };
    minMachines = optional types.ints.unsigned "Takes the place of the type's own.";
    maxMachines = optional types.ints.unsigned "Takes the place of the type's own.";
    inherit idleTimeout targetWait;
  };

  command = types.nonEmptyListOf types.str;
  # What may stand in a machines file, which has no quoting.
  field = types.strMatching "[^[:space:]#]+";
  listItem = types.strMatching "[^[:space:]#,]+";

  nixPath = mkOption {
    type = types.nullOr (types.listOf types.str);
    default = null;
    example = [ "nixpkgs=/etc/hydra/nixpkgs" ];
    description = "Search path for NixOps 1.";
  };
  # The whole folder of a path literal has to be in the store, not the one file.
  pathHint = "A path literal copies only that one file to the store: for a file that imports others write `\"\${./folder}/deployment.nix\"`.";

  commandProvider.options = {
    program = mkOption {
      type = command;
      example = [ "/etc/hydra/my-cloud" ];
      description = "The program and its first arguments; see docs/provider-protocol.md.";
    };
    options = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      description = "Handed to the program as they are when a machine is created. World-readable in the store: no secrets.";
    };
  };

  nixopsProvider.options = {
    program = mkOption {
      type = command;
      default = [ "nixops" ];
      description = "The program and its first arguments. Add its package to `extraPackages`.";
    };
    expr = optional types.path "NixOps 1: the deployment's file; it takes the arguments `type` and `tag` and declares one `machine`. ${pathHint}";
    network = optional types.path "NixOps 2: the folder of `nixops.nix`.";
    inherit nixPath;
    stateFile = optional absolutePath "Where NixOps keeps its state. `null`: where NixOps itself does, below the service's `HOME`.";
  };

  qemuProvider.options = clouds.login // {
    image = mkOption {
      type = types.path;
      example = "/var/lib/images/build-machine";
      description = "A disk (qcow2 or raw, never written), or a folder as `scripts/build-image` makes it.";
    };
    kernel = optional types.path "Kernel to boot directly. `null`: the one in `image`'s folder, or the disk's boot loader.";
    initrd = optional types.path "Initial ramdisk of `kernel`. `null`: the one in `image`'s folder.";
    kernelParams = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Kernel parameters after the provisioner's own.";
    };
    memory = mkOption {
      type = mebibytes;
      default = 2048;
      description = "MiB of each machine, or a text such as `\"4G\"`.";
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
      description = "`kvm`, `tcg` (emulation), or `auto`: KVM where a kernel really boots on it.";
    };
    machineType = optional types.nonEmptyStr "QEMU's `-machine`. `null`: `q35`, on aarch64 `virt`.";
    program = optional types.nonEmptyStr "The QEMU to run. `null`: `qemu-system-ARCH` of nixpkgs' `qemu`.";
    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Further arguments for QEMU, after all others.";
    };
    stateDir = optional absolutePath "The machines' folders. Types with the same one share a host's memory and cores. `null`: `qemu` in `settings.stateDir`.";
    hostMemory = optional mebibytes "MiB, or a text such as `\"64G\"`, that all running machines may have together. `null`: three quarters of the host's.";
    hostCores = optional types.ints.unsigned "Processors that all running machines may have together. `null`: the host's.";
    sshPort = mkOption {
      type = types.port;
      default = 22;
      description = "The port on each machine's loopback address that leads to its sshd. Other ports need Nix 2.31 or newer.";
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
            command = optional (types.submodule commandProvider) "Machines from a program of your own.";
            ec2 = optional (types.submodule clouds.ec2) "Instances of Amazon EC2 (docs/ec2.md).";
            hcloud = optional (types.submodule clouds.hcloud) "Servers of Hetzner Cloud (docs/hetzner.md).";
            nixops = optional (types.submodule nixopsProvider) "Machines from NixOps.";
            qemu = optional (types.submodule qemuProvider) "Virtual machines on this host (docs/qemu.md).";
          };
        }
      );
      default = null;
      description = "How the machines of this type are made: exactly one of the options below.";
    };

    nixopsExpr = optional types.path "Short, and the original's name, for `provider.nixops.expr`. ${pathHint}";
    inherit nixPath;

    minMachines = mkOption {
      type = types.ints.unsigned;
      default = 0;
      description = "How many machines there are at the least, whatever the queue says.";
    };
    maxMachines = mkOption {
      type = types.ints.unsigned;
      default = 1;
      description = "How many machines there are at the most.";
    };
    ignoredRunnables = mkOption {
      type = types.ints.unsigned;
      default = 0;
      description = "How many runnable steps are left to machines that the provisioner did not make.";
    };
    runnablesPerMachine = optional types.ints.positive "The original's rule, in place of `targetWait`: how many of the other runnable steps justify one machine.";
    maxCreatesPerCycle = optional types.ints.positive "How many machines of this type are created within 5 minutes at the most. `null`: the value for all types.";
    maxCreating = optional types.ints.positive "How many machines of this type are being created at the same time at the most. `null`: the value for all types.";
    fallback = mkOption {
      type = types.nullOr (types.listOf types.nonEmptyStr);
      default = null;
      example = [ "x86_64-linux:on-demand" ];
      description = "Types that get this type's work while it has no capacity, in order. `null`: all that can build it, the cheapest first.";
    };
    dollarsPerHour = dollarsOption "What one machine costs for each hour that it runs.";
    inherit idleTimeout targetWait;
    keepLast = duration "how long the last machine of this type is kept idle, where that is longer than `idleTimeout`.";
    healthTimeout = duration "how long a machine that does not work still counts as capacity. `null`: 600.";
    schedule = optional (types.listOf (types.submodule scheduleEntry)) "Other settings at certain hours; of several entries that count at the same time the first does.";

    maxJobs = mkOption {
      type = types.ints.positive;
      default = 1;
      description = "How many builds a machine does at the same time.";
    };
    speedFactor = mkOption {
      type = types.either types.ints.positive types.float;
      default = 1;
      example = 1.5;
      description = "How fast a machine is, compared to others; three decimals at the most.";
    };
    sshKey = mkOption {
      type = types.nullOr field;
      default = null;
      example = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
      description = "The private key that the queue runner logs in with. The provisioner itself uses `services.hydra-provisioner.sshKeyFile`.";
    };
    storeUri = mkOption {
      type = types.nullOr field;
      default = null;
      example = "ssh-ng://{user}@{host}:{port}?max-connections=4";
      description = "How a machine is written in the first column of the machines file; `{user}`, `{host}` and `{port}` are filled in. `null`: `USER@HOST`, or `ssh://USER@HOST:PORT` for other ports than 22.";
    };
    supportedFeatures = mkOption {
      type = types.listOf listItem;
      default = [ ];
      example = [ "big-parallel" ];
      description = "Features that the machines have beyond those in the type's name, which are mandatory.";
    };

    stopOnIdle = mkOption {
      type = types.bool;
      default = false;
      description = "Whether an idle machine is stopped and kept in reserve, rather than destroyed.";
    };
    gracePeriod = duration "the old name of `idleTimeout`.";
    giveUpAfter = duration "how long the deployments of an idle machine may fail before it is destroyed and replaced. `null`: 3600.";
  }
  // costLimits "The machines of this type together";
}
