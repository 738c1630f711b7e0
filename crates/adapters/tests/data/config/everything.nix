# Every option once, none at its default. `everything.json` says the same.
{
  tag = "farm.1";
  stateDir = "/srv/provisioner";
  machinesFile = "/srv/machines";
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
  maxCreatesPerCycle = 7;
  parallelism = 3;
  createTimeout = 11;
  deployTimeout = 12;
  releaseTimeout = 13;
  statusTimeout = 14;
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
      supportedFeatures = [ "big-parallel" ];
      sshKey = "/srv/key";
      stopOnIdle = true;
      gracePeriod = 600;
      giveUpAfter = 1800;
    };
    aarch64-linux.provider.nixops = {
      program = [ "nixops2" ];
      network = "/srv/network";
      nixPath = [ "nixpkgs=/srv/nixpkgs" ];
      stateFile = "/srv/state.nixops";
    };
    armv7l-linux.provider.nixops.expr = "/srv/arm.nix";
  };
}
