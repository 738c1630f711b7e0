# A demo farm: the queue is a recorded status, the machines are files in a directory.
# All output is in target/quickstart.
let
  here = toString ./.;
  scratch = toString ../../target/quickstart;
in
{
  # Instead of [ "hydra-queue-runner" "--status" ].
  statusCommand = [
    "cat"
    "${here}/status.json"
  ];
  machinesFile = "${scratch}/machines";
  stateDir = "${scratch}/state";

  # These "machines" are files: they have no /run/keep-alive and no sshd.
  touchKeepAlive = false;
  checkSsh = false;

  systemTypes.x86_64-linux = {
    provider.command.program = [
      "${toString ../command-provider}/directory-provider"
      "${scratch}/provider"
    ];
    maxMachines = 4;
    runnablesPerMachine = 10;
    # At most 3 new machines within 5 minutes: limits how fast a misconfiguration can spend money. Unset by default.
    maxCreatesPerCycle = 3;
    maxJobs = 2;
  };

  systemTypes."x86_64-linux:kvm" = {
    provider.command.program = [
      "${toString ../command-provider}/directory-provider"
      "${scratch}/provider"
    ];
    ignoredRunnables = 5;
  };
}
