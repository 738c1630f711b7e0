# Every option once, none at its default. `everything.json` says the same.
{
  tag = "farm.1";
  stateDir = "/srv/provisioner";
  machinesFile = "/srv/machines";
  machinesFileMode = "takeover";
  staticMachines = [
    "root@mac-1.example.org:2222 aarch64-darwin - 4"
    "# more"
  ];
  queue = {
    url = "https://hydra.example.org/";
    nixCommand = [
      "nix"
      "--store"
      "/srv"
    ];
  };
  drainCommand = [
    "halt-builder"
    "now"
  ];
  resumeCommand = [ "wake-builder" ];
  sshOptions = [
    "-F"
    "/srv/ssh config"
  ];
  touchKeepAlive = false;
  checkSsh = false;
  maxCreatesPerCycle = 7;
  otherMachines = [ "mac-*" ];
  maxCreating = 8;
  maxMachines = 40;
  maxHourlyCost = 12.5;
  maxDailyCost = "99.90";
  maxMonthlyCost = 1000;
  parallelism = 3;
  createTimeout = 11;
  deployTimeout = 12;
  releaseTimeout = 13;
  statusTimeout = 14;
  pollInterval = 15;
  listInterval = "2m";
  keepAliveInterval = "1m30s";
  maxStatusAge = "1h";
  systemTypes = {
    "x86_64-linux,i686-linux:kvm,benchmark" = {
      provider.command = {
        program = [
          "/bin/make machine"
          "--fast"
        ];
        options.size = {
          cores = 8;
        };
      };
      minMachines = 1;
      maxMachines = 9;
      ignoredRunnables = 5;
      runnablesPerMachine = 3;
      maxCreatesPerCycle = 2;
      maxJobs = 4;
      speedFactor = 1.25;
      pack = true;
      supportedFeatures = [ "big-parallel" ];
      sshKey = "/srv/key";
      storeUri = "ssh-ng://{user}@{host}:{port}?compress=true";
      stopOnIdle = true;
      gracePeriod = 600;
      giveUpAfter = "30m";
      healthTimeout = 120;
      progressTimeout = 7200;
      keepLast = "1d";
      useWhilePaid = "20m";
      keepWhilePaid = 300;
      maxAge = "7d";
      maxBuilds = 500;
      maxUnavailable = 2;
      replaceOnChange = false;
      targetWait = 240;
      maxCreating = 3;
      dollarsPerHour = 0.0116;
      maxHourlyCost = 1;
      maxDailyCost = 2;
      maxMonthlyCost = 3;
      fallback = [ "aarch64-linux" ];
      schedule = [
        {
          days = "mon-fri";
          hours = "22:00-06:00";
          timeZone = "Europe/Berlin";
          minMachines = 2;
          maxMachines = 12;
          targetWait = "1m";
          idleTimeout = "auto";
        }
      ];
    };
    aarch64-linux = {
      dollarsPerHour = 0;
      idleTimeout = "auto";
      provider.nixops = {
        program = [ "nixops2" ];
        network = "/srv/network";
        nixPath = [ "nixpkgs=/srv/nixpkgs" ];
        stateFile = "/srv/state.nixops";
      };
    };
    armv7l-linux = {
      dollarsPerHour = "2";
      provider.nixops.expr = "/srv/arm.nix";
    };
  };
}
